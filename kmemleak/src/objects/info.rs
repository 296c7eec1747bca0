//! What the entry of a chunk says of the objects that start there, in a word of 32 bits: how closely they may follow one another
//! (the spacing, in the lowest three bits), flags, and in the upper half how many whole words each of them has.
//!
//! That number is there where all objects have as many words, which holds wherever an allocator keeps blocks of a size together: then
//! the marker need not read their records. A block of another size makes the number zero, which says nothing, until the chunk is
//! empty. (It is about objects with a record in the chunk. Where others are kept in notes, the chunk is [`SPECIAL`].)

use crate::metadata::WORD;

/// The bits of the spacing.
pub(super) const SPACING_MASK: u32 = 7;
/// How far up the words of each object are.
pub(super) const WORDS_SHIFT: u32 = 16;
pub(super) const WORDS_MASK: u32 = u32::MAX << WORDS_SHIFT;

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
pub(crate) const MAX_COMMON_WORDS: u32 = (1 << 13) - 1;

/// Whole words of an object of so many bytes, if an entry can say so; else zero.
pub(super) const fn common_words(size: usize) -> u32 {
    let words = size / WORD;
    if words > MAX_COMMON_WORDS as usize {
        return 0;
    }
    words as u32
}

/// Spacing, flags and words of a chunk, at a moment.
#[derive(Clone, Copy)]
pub(crate) struct Info(pub(super) u32);

impl Info {
    #[inline(always)]
    pub(crate) fn has(self, flags: u32) -> bool {
        self.0 & flags != 0
    }

    /// Whether it has `wanted`, and none of the other flags.
    #[inline(always)]
    pub(crate) fn is_only(self, wanted: u32, others: u32) -> bool {
        self.0 & (wanted | others) == wanted
    }

    /// log2 of the granules for each record.
    #[inline(always)]
    pub(crate) fn spacing(self) -> u32 {
        self.0 & SPACING_MASK
    }

    /// Whether each object that starts in the chunk is known to have as many words as one of so many bytes.
    #[inline(always)]
    pub(crate) fn agrees(self, bytes: usize) -> bool {
        self.common_words() as usize == bytes / WORD
    }

    /// Whole words of each object that starts in the chunk; zero if they are not known to be the same.
    #[inline(always)]
    pub(crate) fn common_words(self) -> u32 {
        self.0 >> WORDS_SHIFT
    }
}
