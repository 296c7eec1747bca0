//! What the entry of a chunk says of the objects that start there, in a word of 32 bits: how closely they may follow one another
//! (the spacing, in the lowest three bits), flags, and in the upper half how many bytes each of them has.
//!
//! That number is there where all objects have as many bytes, which holds wherever an allocator keeps blocks of a size together: then
//! neither the marker nor an allocation need read their records. A block of another size makes the number zero, which says nothing,
//! until the chunk is empty. (It is about objects with a record in the chunk. Where others are kept in notes, the chunk is
//! [`SPECIAL`].)

use crate::metadata::WORD;

/// The bits of the spacing.
pub(super) const SPACING_MASK: u32 = 7;
/// How far up the bytes of each object are.
pub(super) const SIZE_SHIFT: u32 = 16;
pub(super) const SIZE_MASK: u32 = u32::MAX << SIZE_SHIFT;

/// Some records have [`crate::objects::record::flag::PENDING`]: marked objects wait to be scanned, see [`crate::objects::spill`].
pub(crate) const SPILLED: u32 = 1 << 6;
/// Before an object is taken out, its record is to be looked at: it reaches into the next chunk, or has a checksum. It is cleared
/// where a chunk gets its first object.
pub(crate) const LOOK: u32 = 1 << 7;
/// Some records are not plain: see [`crate::objects::record::Record::is_plain`].
pub(crate) const SPECIAL: u32 = 1 << 8;
/// A sweep is to look at the records: some are suspects', or have [`crate::objects::record::flag::PENDING`].
pub(crate) const PENDING: u32 = 1 << 9;
/// Some records have [`crate::objects::record::flag::INTERIOR`], and are not marked.
pub(crate) const INTERIOR: u32 = 1 << 10;
/// Something was allocated here during the current scan.
pub(crate) const BORN: u32 = 1 << 11;
/// Some objects are kept in notes.
pub(crate) const UNALIGNED: u32 = 1 << 12;
/// Some records have [`crate::objects::record::flag::INTERIOR_ONLY`].
pub(crate) const INTERIOR_ONLY: u32 = 1 << 13;
/// The chunk is in service: there are records, and it counts as a user of its table.
pub(crate) const SERVES: u32 = 1 << 14;
/// The chunk is among the emptied ones of a CPU.
pub(crate) const WAITS: u32 = 1 << 15;

/// The largest number of words that an entry can say that its objects have.
pub(crate) const MAX_COMMON_WORDS: u32 = u16::MAX as u32 / WORD as u32;

/// The bytes of an object, if an entry can say so; else zero.
pub(super) fn common_size(size: usize) -> u32 {
    u16::try_from(size).unwrap_or(0).into()
}

/// Spacing, flags and common size of a chunk, at a moment.
#[derive(Clone, Copy)]
pub(crate) struct Info(pub(super) u32);

impl Info {
    #[inline(always)]
    pub(crate) fn has(self, flags: u32) -> bool {
        self.0 & flags != 0
    }

    /// Those of some flags that it has.
    #[inline(always)]
    pub(crate) fn flags_of(self, flags: u32) -> u32 {
        self.0 & flags
    }

    /// log2 of the granules for each record.
    #[inline(always)]
    pub(crate) fn spacing(self) -> u32 {
        // The two bits above the spacing are always zero. A shift by so many bits need not clear the others first.
        self.0 & (SPACING_MASK | 3 << 3)
    }

    /// Whether each object that starts in the chunk is known to have so many bytes.
    #[inline(always)]
    pub(crate) fn agrees(self, bytes: usize) -> bool {
        (self.0 >> SIZE_SHIFT) as usize == bytes
    }

    /// Whether each object that starts in the chunk is known to have so many bytes, no more than a chunk has, and which of the flags
    /// `wanted` and `others` there are is only `wanted`.
    #[inline(always)]
    pub(crate) fn is_only_of(self, bytes: u32, wanted: u32, others: u32) -> bool {
        (self.0 ^ bytes << SIZE_SHIFT) & (SIZE_MASK | wanted | others) == wanted
    }

    /// Whether anything is known of the size of all objects.
    #[inline(always)]
    pub(crate) fn has_common_size(self) -> bool {
        self.0 & SIZE_MASK != 0
    }

    /// Whole words of each object that starts in the chunk; zero if they are not known to be the same.
    #[inline(always)]
    pub(crate) fn common_words(self) -> u32 {
        self.0 >> (SIZE_SHIFT + WORD.ilog2())
    }
}
