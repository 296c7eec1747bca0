//! The tables of the lowest level, each of which has the entries of 128 chunks: 64 KiB of memory.

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use super::{CHUNK, ChunkNumber, LEAF, LEAF_BITS, entry_in};
use crate::atomic::AtomicU16;
use crate::metadata::hidden::Hidden;
use crate::objects::chunk::Chunk;

/// Bits of a link that one entry has room for.
const PART_BITS: u32 = u16::BITS;

/// A table of the lowest level.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaf(pub(super) NonNull<u64>);

impl Leaf {
    /// The table that lies there.
    ///
    /// # Safety
    ///
    /// [`place`](Self::place) has returned this place, and no metadata was given back since.
    #[inline(always)]
    pub(crate) unsafe fn from_place(place: Hidden) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { place.place() })
    }

    /// The table that a chunk's entry is in.
    pub(crate) fn of(chunk: Chunk) -> Self {
        Self(chunk.head().entry())
    }

    /// The first and the last byte of the memory that an address's table stands for.
    #[inline(always)]
    pub(crate) const fn range_of(address: usize) -> (usize, usize) {
        const BYTES: usize = CHUNK << LEAF_BITS;
        (address & !(BYTES - 1), address | (BYTES - 1))
    }

    /// Where the table lies, hidden.
    pub(crate) fn place(self) -> Hidden {
        Hidden::of(self.0)
    }

    /// The entry of a chunk, which is one of the table's.
    #[inline(always)]
    pub(crate) fn chunk(self, number: ChunkNumber) -> Chunk {
        entry_in(self.0, number)
    }

    /// Whether objects start in its chunks, or did so until a moment ago.
    pub(crate) fn has_users(self) -> bool {
        entry_in(self.0, 0).has_users()
    }

    /// The entries of its chunks, with the chunks' numbers. `leaf` is the table's own number.
    pub(crate) fn chunks(self, leaf: usize) -> impl Iterator<Item = (ChunkNumber, Chunk)> {
        (0..LEAF).map(move |index| (leaf << LEAF_BITS | index, entry_in(self.0, index)))
    }

    /// A number that is kept in the table for a list of tables ([`crate::objects::spill`]); zero at first.
    pub(crate) fn link(self) -> u64 {
        self.parts_of_link().fold(0, |link, part| {
            link << PART_BITS | u64::from(part.load(Ordering::Relaxed))
        })
    }

    /// Relaxed, as the list's lock orders it, or the barrier behind the beginning of a pass.
    pub(crate) fn set_link(self, link: u64) {
        for (part, number) in self.parts_of_link().zip(0..) {
            let shift = u64::BITS - PART_BITS * (number + 1);
            part.store((link >> shift) as u16, Ordering::Relaxed);
        }
    }

    /// Four entries that follow the first one have room for a part each, the highest part first.
    fn parts_of_link<'a>(self) -> impl Iterator<Item = &'a AtomicU16> {
        (1..=u64::BITS / PART_BITS).map(move |index| entry_in(self.0, index as usize).spare())
    }
}
