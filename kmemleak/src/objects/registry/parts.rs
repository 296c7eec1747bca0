//! Objects that are freed in part: the rest stays recorded.
//!
//! # Runs that cover too much
//!
//! A run ([`crate::objects::page_map`]) stands for a table's range that an object covers wholly. The front that remains of an
//! object may end within a run, and a table in its place would need a page. So the run stays; a look-up checks that the object
//! does not end before the address. When a block is recorded there, a table replaces the run ([`Registry::make_way`]).

use core::sync::atomic::Ordering;

use super::{Marked, Registry};
use crate::metadata::MetaAlloc;
use crate::metadata::kept::Kept;
use crate::objects::access::{Access, Locked};
use crate::objects::chunk::{GRANULE, Records, granule_of, info};
use crate::objects::page_map::{CHUNK, Look, Reach, address_of, chunk_of};
use crate::objects::record::{MAX_INLINE, Record, flag};
use crate::objects::side_table::{Cut, Loose, SideTable};
use crate::platform::address::Extent;

/// A tail that is not recorded yet.
pub(crate) struct Tail {
    pub(crate) record: Record,
    pub(crate) side_table: Loose,
    /// Whether all notes of it were kept.
    pub(crate) kept: Kept,
}

/// Room for the record of an object that has been taken out.
pub(crate) enum Room {
    Nowhere,
    /// The records of its chunk, in which no other object starts.
    Records(Records),
    /// The note of an unaligned object.
    Note(Loose),
}

impl Room {
    pub(crate) fn give_back(self, side_table: &SideTable, meta: &MetaAlloc<'_>) {
        match self {
            Self::Nowhere => {}
            Self::Records(records) => records.give_back(meta),
            Self::Note(note) => side_table.give_back(note, meta),
        }
    }
}

impl Registry {
    /// Shortens the object that starts at `start` to the front of the cut. Returns whether all notes of the front were kept,
    /// and the tail, if there is one. `None` if there is no such object.
    pub(crate) fn shorten(
        &self,
        start: usize,
        cut: Cut,
        marked: Marked,
        meta: &MetaAlloc<'_>,
    ) -> Option<(Kept, Option<Tail>)> {
        let found = self.starting_at(Locked, start, |object| {
            if self.size(start, object.record) != cut.size {
                return None;
            }
            let whole = object.record.read();
            let divided = self.side_table.divide(start, cut, meta);
            let tail = (cut.tail < cut.size).then(|| {
                let mut record = whole.part(cut.size - cut.tail);
                if divided.uncounted {
                    record.set_min_count(MAX_INLINE);
                }
                Tail {
                    record,
                    side_table: divided.tail,
                    kept: divided.kept,
                }
            });
            let front = whole.part(cut.front);
            let noted = whole.flags() & (flag::NOTES | flag::EXCESS);
            object.record.write(&front);
            object.chunk.forget_size();
            object.record.set(noted);
            object.mark.clear();
            if marked == Marked::Yes {
                // A pass that is reading the object stops, since the object is smaller now.
                object.record.set(flag::BORN);
                object.chunk.set(info::BORN);
                object.mark.set();
            }
            Some((divided.front, tail))
        })??;
        let last = |size: usize| start + (size - 1);
        let kept = chunk_of(last(cut.front));
        let whole = kept + usize::from(last(cut.front) % CHUNK == CHUNK - 1);
        let before = chunk_of(last(cut.size));
        self.map
            .unreach_behind(chunk_of(start), kept, whole, before);
        Some(found)
    }

    /// Takes out the object that starts at `start`, of which only a tail remains. Returns the tail, and room for its record.
    pub(crate) fn behead(
        &self,
        start: usize,
        cut: Cut,
        meta: &MetaAlloc<'_>,
    ) -> Option<(Tail, Room)> {
        let number = chunk_of(start);
        let (record, mut room) = self.starting_at(Locked, start, |object| {
            if self.size(start, object.record) != cut.size {
                return None;
            }
            let record = object.record.read();
            let chunk = object.chunk;
            if !start.is_multiple_of(GRANULE) {
                let note = self.side_table.take_unaligned(start);
                if !self.side_table.has_unaligned(number) {
                    chunk.clear(info::UNALIGNED);
                    chunk.remove_user();
                }
                return Some((record, Room::Note(note)));
            }
            object.mark.clear();
            object.record.set_left_by(start);
            let others = chunk.starts().load(Ordering::Relaxed) & !(1 << granule_of(start));
            chunk.starts().store(others, Ordering::Release);
            let records = if others == 0 {
                chunk.take_records()
            } else {
                None
            };
            Some((record, records.map_or(Room::Nowhere, Room::Records)))
        })??;
        let divided = self.side_table.divide(start, cut, meta);
        let last = chunk_of(start + (cut.size - 1));
        if last != number {
            let first = number;
            self.map.unreach(Reach { first, last });
        }
        let mut record = record.part(cut.size - cut.tail);
        if divided.excess {
            record = record.with(flag::EXCESS);
        }
        let tail = Tail {
            record,
            side_table: divided.tail,
            kept: divided.kept,
        };
        if let Room::Records(records) = room {
            // The tail's chunk may have no records.
            room = match self.lend(start + cut.tail, records) {
                Ok(()) => Room::Nowhere,
                Err(records) => Room::Records(records),
            };
        }
        Some((tail, room))
    }

    /// Gives these records to the chunk at an address, if it has none.
    fn lend(&self, address: usize, records: Records) -> Result<(), Records> {
        let number = chunk_of(address);
        let Look::Entry(chunk) = self.map.look(number) else {
            return Err(records);
        };
        Locked.open(number, chunk).lend_records(records)
    }

    /// Records the unaligned tail of an unaligned block, in the note that the block had.
    pub(crate) fn insert_unaligned(
        &self,
        extent: Extent,
        record: &Record,
        marked: Marked,
        note: Loose,
        meta: &MetaAlloc<'_>,
    ) -> Kept {
        let Ok(chunk) = self.map.entry(extent.start().chunk(), meta) else {
            self.side_table.give_back(note, meta);
            return Kept::NoMemory;
        };
        let (record, mark) = match marked {
            Marked::Yes => (record.with(flag::BORN), 1),
            Marked::No => (*record, 0),
        };
        let chunk = Locked.open(extent.start().chunk(), chunk);
        self.side_table
            .put_unaligned(note, extent.start().get(), &record, mark);
        if !chunk.has(info::UNALIGNED) {
            chunk.add_user();
        }
        chunk.set(info::UNALIGNED | info::SPECIAL);
        if marked == Marked::Yes {
            chunk.set(info::BORN);
        }
        drop(chunk);
        if extent.last().chunk() != extent.start().chunk() && self.spread(extent, meta).is_err() {
            return Kept::NoMemory;
        }
        Kept::Yes
    }

    /// Replaces or clears the run at `address`, whose object ends before `address`, so that a block can be recorded there.
    /// False if there is no such run, or no memory.
    #[cold]
    pub(crate) fn make_way(&self, address: usize, meta: &MetaAlloc<'_>) -> bool {
        let number = chunk_of(address);
        let Look::Run(distance) = self.map.look(number) else {
            return false;
        };
        let Some(first) = number.checked_sub(distance) else {
            return false;
        };
        let Look::Entry(chunk) = self.map.look(first) else {
            return false;
        };
        let chunk = Locked.open(first, chunk);
        let end = self
            .last_start(&chunk, address_of(first) + (CHUNK - 1))
            .map(|object| object.start + (self.size(object.start, object.record) - 1));
        drop(chunk);
        // If no object starts there any more, none reaches into the run.
        let last = end.map_or(first, chunk_of);
        self.map.divide_run(number, first, last, meta)
    }
}
