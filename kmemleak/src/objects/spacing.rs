//! Granules of a chunk, and how many of them share a record: the spacing, see [`chunk`](crate::objects::chunk).

/// log2 of the bytes of a granule.
pub(crate) const GRANULE_SHIFT: u32 = 3;
/// Bytes of a granule.
pub(crate) const GRANULE: usize = 1 << GRANULE_SHIFT;
/// log2 of the granules of a chunk.
const GRANULES_SHIFT: u32 = 6;
/// The coarsest spacing: one object in the chunk.
pub(crate) const MAX_SPACING: u32 = GRANULES_SHIFT;

/// The granule of its chunk that an address lies in.
#[inline(always)]
pub(crate) const fn granule_of(address: usize) -> u32 {
    (address >> GRANULE_SHIFT) as u32 & ((1 << GRANULES_SHIFT) - 1)
}

/// The granules that share a record with this one, at a spacing.
#[inline(always)]
pub(crate) const fn share_at(spacing: u32, granule: u32) -> u64 {
    // Shifted down from all ones: for the coarsest spacing, a shift up by 64 would overflow.
    (u64::MAX >> (64 - (1 << spacing))) << (granule >> spacing << spacing)
}

/// The spacing for objects that lie `stride` bytes apart; if that is not known, as far as an allocator places objects of `size`
/// bytes whose slots are powers of two. In a chunk in which they lie closer, records come to be finer.
#[cold]
#[inline(never)]
pub(crate) fn spacing_for(size: usize, stride: Option<usize>) -> u32 {
    let coarsest = GRANULE << MAX_SPACING;
    let bytes = stride.unwrap_or(size).clamp(GRANULE, coarsest);
    bytes.next_power_of_two().ilog2() - GRANULE_SHIFT
}
