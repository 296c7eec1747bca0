//! A processor that the crate does not know.

pub(crate) use super::portable::{BLOCK, RangeComparison as RangeFilter, find_word};

/// Whether the crate knows the processor.
pub(super) const KNOWN: bool = false;

#[inline(always)]
pub(super) fn frame_pointer() -> usize {
    0
}

#[inline(always)]
pub(super) fn stack_pointer() -> usize {
    0
}

#[inline(always)]
pub(super) fn preserved_registers() -> [usize; 0] {
    []
}

#[inline(always)]
pub(super) fn clear_scratch_registers() {}

/// Asks for the cache line that `address` lies in, where that is known how.
#[inline(always)]
pub(crate) fn prefetch(address: usize) {
    let _ = address;
}
