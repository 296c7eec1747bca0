//! An object to be read or changed, whose record lies in its open chunk or in a note.

use core::sync::atomic::Ordering;

use crate::atomic::AtomicU64;
use crate::objects::chunk::{Chunk, GRANULE, info};
use crate::objects::page_map::{ChunkNumber, address_of};
use crate::objects::record::{MANY, Record, RecordRef, flag};
use crate::objects::side_table::{SideTable, Unaligned};
use crate::stacks::depot::StackId;

/// Where the mark of an object is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark<'a> {
    word: &'a AtomicU64,
    bit: u64,
}

impl Mark<'_> {
    #[inline(always)]
    pub(crate) fn is_set(self) -> bool {
        self.word.load(Ordering::Relaxed) & self.bit != 0
    }

    #[inline(always)]
    pub(crate) fn clear(self) {
        self.word.fetch_and(!self.bit, Ordering::Relaxed);
    }

    /// Sets it, and returns whether it was not set before. If several CPUs set it at once, one of them gets `true`.
    #[inline(always)]
    pub(crate) fn set(self) -> bool {
        self.word.fetch_or(self.bit, Ordering::Relaxed) & self.bit == 0
    }
}

/// An object to be read or changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object<'a> {
    pub(crate) start: usize,
    pub(crate) record: RecordRef,
    pub(crate) mark: Mark<'a>,
    pub(crate) chunk: Chunk,
}

impl Record {
    /// Whether `clear` has made the object gray, since it had been reported as a leak.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.has(flag::REPORTED) && self.min_count() == 0
    }
}

impl Object<'_> {
    /// Sets how many references it needs.
    pub(crate) fn set_min_count(&self, min_count: i32) {
        self.record.set_min_count(min_count);
        self.chunk.set(info::SPECIAL);
    }

    /// Notes a checksum of its contents.
    pub(crate) fn set_checksum(&self, checksum: u32) {
        self.record.set_checksum(checksum);
        self.chunk.set(info::LOOK);
    }

    /// One more reference was found. Whether there are as many as it needs.
    pub(crate) fn count_reference(&self, side_table: &SideTable) -> bool {
        let enough = self.record.count_reference();
        // If there was no memory for the note, or the note is not added yet, the object is no leak.
        enough.unwrap_or_else(|| side_table.count_reference(self.start).unwrap_or(true))
    }

    /// Sets the number of references found to zero, for a new pass.
    pub(crate) fn reset_count(&self, side_table: &SideTable) {
        self.record.reset_count();
        if self.record.min_count() == MANY {
            side_table.reset_count(self.start);
        }
    }

    /// Sets flags of its record.
    pub(crate) fn set(&self, flags: u16) {
        self.record.set(flags);
        if flags & flag::SPECIAL != 0 {
            self.chunk.set(info::SPECIAL);
        }
    }

    /// The handle of the per-CPU block that this object is a copy of; `None` if it is no alias.
    pub(crate) fn owner(&self) -> Option<usize> {
        self.record
            .has(flag::ALIAS)
            .then(|| alias_owner(&self.record.read()))
    }
}

/// The object that starts in this granule of a chunk.
///
/// # Safety
///
/// An object starts in this granule, and the chunk is open.
#[inline(always)]
pub(crate) unsafe fn object_in<'a>(number: ChunkNumber, chunk: Chunk, granule: u32) -> Object<'a> {
    Object {
        start: address_of(number) + granule as usize * GRANULE,
        // SAFETY: the caller's promise.
        record: unsafe { chunk.record(granule) },
        mark: Mark {
            word: chunk.marks(),
            bit: 1 << granule,
        },
        chunk,
    }
}

pub(super) fn unaligned_object<'a>(chunk: Chunk, unaligned: Unaligned<'a>) -> Object<'a> {
    Object {
        start: unaligned.start,
        record: unaligned.record,
        mark: Mark {
            word: unaligned.mark,
            bit: 1,
        },
        chunk,
    }
}

/// The record of a further copy of a per-CPU block: it holds the address of the first copy in place of the birth.
pub(crate) fn alias_record(owner: usize, size: usize) -> Record {
    let mut record = Record::new(size, StackId::NONE, 0, 1, flag::ALIAS);
    // Inverted, as all addresses in metadata.
    record.set_birth(!owner as u64);
    record
}

/// The first copy that an alias's record names.
pub(crate) fn alias_owner(record: &Record) -> usize {
    let inverted = !record.birth_us() & ((1 << 48) - 1);
    ((inverted << 16) as i64 >> 16) as usize
}
