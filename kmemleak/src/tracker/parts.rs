//! Blocks that are freed in part: what remains goes on as it was.
//!
//! Pages are given back out of the middle of a block, or its end is trimmed, when memory is short: which is when there may be
//! none for metadata either. So what needs none is done without:
//!
//! - The *front*, what lies before the hole, stays where it is recorded, and becomes shorter.
//! - Of a block that loses its front, the *tail* takes the record, the room for it and the notes with it. It needs a page
//!   only where it begins in 64 KiB that the block covered wholly, so that there is no table for them.
//! - The tail of a block that loses its middle is recorded anew. If there is no memory for it, that is counted.
//!
//! Scan areas are cut to the parts. Marks of passes and verdicts are not kept: a part is not what was reported.
//!
//! # What covers too much
//!
//! A run ([`crate::objects::page_map`]) stands for a table's range that an object covers wholly. A front may end within one, and a
//! table instead would need a page. The run stays then; who looks an address up finds that the object ends before it.
//! Who records a block there has the run replaced by a table ([`Registry::make_way`]).
//!
//! # Locks
//!
//! One chunk's at a time, under it that of the notes.

use core::sync::atomic::Ordering;

use crate::metadata::MetaAlloc;
use crate::metadata::kept::Kept;
use crate::objects::chunk::{GRANULE, Records, granule_of, info};
use crate::objects::page_map::{CHUNK, Look, address_of, chunk_of};
use crate::objects::record::{MAX_INLINE, Record, flag};
use crate::objects::side_table::{Cut, Loose, SideTable};
use crate::objects::{Locked, Marked, Object, Registry};
use crate::platform::Platform;
use crate::platform::address::{Address, Extent};
use crate::tracker::Tracker;
use crate::tracker::warnings::Kind;

/// A tail that is not recorded yet.
struct Tail {
    record: Record,
    side_table: Loose,
    /// Whether all that was noted of it is.
    kept: Kept,
}

/// Room for the record of an object that has been taken out.
enum Room {
    Nowhere,
    /// Nothing else is recorded there.
    Records(Records),
    /// It was an odd object.
    Note(Loose),
}

impl Room {
    fn give_back(self, side_table: &SideTable, meta: &MetaAlloc<'_>) {
        match self {
            Self::Nowhere => {}
            Self::Records(records) => records.give_back(meta),
            Self::Note(note) => side_table.give_back(note, meta),
        }
    }
}

impl Registry {
    /// The object that starts at `start` ends where the cut's front does. Whether all that was noted of the front
    /// still is, and the tail, if there is one. `None` if there is no such object.
    fn shorten(
        &self,
        start: usize,
        cut: Cut,
        marked: Marked,
        meta: &MetaAlloc<'_>,
    ) -> Option<(Kept, Option<Tail>)> {
        let found = self.starting_at::<Locked, _>(start, |object| {
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
            object.record.set(noted);
            object.mark.clear();
            if marked == Marked::Yes {
                // A pass that reads it gives it up, since it is smaller now.
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

    /// Takes out the object that starts at `start`, of which only a tail remains, and keeps what may serve that.
    fn behead(&self, start: usize, cut: Cut, meta: &MetaAlloc<'_>) -> Option<(Tail, Room)> {
        let number = chunk_of(start);
        let (record, mut room) = self.starting_at::<Locked, _>(start, |object| {
            if self.size(start, object.record) != cut.size {
                return None;
            }
            let record = object.record.read();
            let chunk = object.chunk;
            if !start.is_multiple_of(GRANULE) {
                let note = self.side_table.take_odd(start);
                if !self.side_table.has_odd(number) {
                    chunk.clear(info::ODD);
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
            self.map.unreach(number, last);
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
            // The tail's chunk may have none.
            room = match self.lend(start + cut.tail, records) {
                Ok(()) => Room::Nowhere,
                Err(records) => Room::Records(records),
            };
        }
        Some((tail, room))
    }

    /// Gives the chunk at an address room for records, if it has none.
    fn lend(&self, address: usize, records: Records) -> Result<(), Records> {
        let Look::Entry(chunk) = self.map.look(chunk_of(address)) else {
            return Err(records);
        };
        chunk.lock();
        let lent = chunk.lend_records(records);
        chunk.unlock();
        lent
    }

    /// Records the odd tail of an odd block, in the note that the block had.
    fn insert_odd(
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
        chunk.lock();
        self.side_table
            .put_odd(note, extent.start().get(), &record, mark);
        if !chunk.has(info::ODD) {
            chunk.add_user();
        }
        chunk.set(info::ODD | info::SPECIAL);
        if marked == Marked::Yes {
            chunk.set(info::BORN);
        }
        chunk.unlock();
        if extent.last().chunk() != extent.start().chunk() && self.spread(extent, meta).is_err() {
            return Kept::NoMemory;
        }
        Kept::Yes
    }

    /// Whether an object that ends before `address` was in the way of what is to be recorded there, and is no more.
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
        chunk.lock();
        let end = self
            .last_start(first, chunk, address_of(first) + (CHUNK - 1))
            .map(|object| object.start + (self.size(object.start, object.record) - 1));
        chunk.unlock();
        // Where no object starts any more none reaches in.
        let last = end.map_or(first, chunk_of);
        self.map.divide_run(number, first, last, meta)
    }
}

impl<P: Platform> Tracker<P> {
    /// Takes `len` bytes at `start` out of a block.
    #[cold]
    pub(crate) fn take_part(&self, start: usize, len: usize, meta: &MetaAlloc<'_>) {
        // Of a per-CPU block there are no parts.
        let look = |object: Object<'_>| {
            let size = self.registry.size(object.start, object.record);
            let record = object.record.read();
            let seen = (object.start, size, record.task_name());
            (!record.has(flag::ALIAS | flag::PERCPU)).then_some(seen)
        };
        let found = self.registry.containing::<Locked, _>(start, look);
        let Some(Some((whole, size, name))) = found else {
            return self.warn_unknown(Kind::UnknownObject, start, meta);
        };
        if len == 0 {
            return;
        }
        let Some(extent) = Address::new(whole).and_then(|whole| Extent::of_object(whole, size))
        else {
            return;
        };
        let front = start - whole;
        let tail = front.saturating_add(len).min(size);
        let cut = Cut { size, front, tail };
        let behind = extent.without(extent.start(), tail)[1];
        // The tail's record is in no chunk for a moment.
        let held = self.task_names.hold(name, meta.cpu, meta);
        let name = held.number();
        let done = match behind {
            _ if front > 0 => self.shorten(whole, cut, behind, name, meta),
            Some(behind) => self.behead(whole, cut, behind, name, meta),
            None => self
                .registry
                .remove(extent.start(), meta)
                .map(|_| self.hazard.wait(whole)),
        };
        drop(held);
        if done.is_none() {
            self.warn_unknown(Kind::UnknownObject, start, meta);
        }
    }

    /// A block that keeps its front.
    fn shorten(
        &self,
        whole: usize,
        cut: Cut,
        behind: Option<Extent>,
        name: u32,
        meta: &MetaAlloc<'_>,
    ) -> Option<()> {
        let marked = self.marked();
        let (front, tail) = self.registry.shorten(whole, cut, marked, meta)?;
        self.hazard.wait(whole);
        self.counted(front);
        if let (Some(tail), Some(behind)) = (tail, behind) {
            let start = behind.start().get();
            let record = self.prepare(start, tail, name);
            let kept = match behind.can_be_object() {
                true => self.add(behind, &record, meta),
                false => Kept::NoMemory,
            };
            if !self.counted(kept) {
                self.registry.side_table.drop_all(start, meta);
            }
        }
        Some(())
    }

    /// A block that loses its front, but not its tail.
    fn behead(
        &self,
        whole: usize,
        cut: Cut,
        behind: Extent,
        name: u32,
        meta: &MetaAlloc<'_>,
    ) -> Option<()> {
        let (tail, room) = self.registry.behead(whole, cut, meta)?;
        self.hazard.wait(whole);
        let start = behind.start().get();
        let record = self.prepare(start, tail, name);
        let (registry, marked) = (&self.registry, self.marked());
        let kept = match room {
            Room::Note(note) if !start.is_multiple_of(GRANULE) && behind.can_be_object() => {
                registry.insert_odd(behind, &record, marked, note, meta)
            }
            room if !behind.can_be_object() => {
                room.give_back(&registry.side_table, meta);
                Kept::NoMemory
            }
            room => {
                room.give_back(&registry.side_table, meta);
                let stride = self.platform.slab_stride(start);
                match registry.insert(behind, &record, marked, stride, meta) {
                    Ok(()) => Kept::Yes,
                    Err(_) => Kept::NoMemory,
                }
            }
        };
        if !self.counted(kept) {
            registry.side_table.drop_all(start, meta);
        }
        Some(())
    }

    /// Attaches the notes of a tail, before anybody finds it. Its record, with the number of its task's name.
    fn prepare(&self, start: usize, tail: Tail, name: u32) -> Record {
        self.counted(tail.kept);
        let mut record = tail.record;
        record.set_task_name(name);
        if tail.side_table.is_empty() {
            return record;
        }
        self.registry.side_table.attach(tail.side_table, start);
        record.with(flag::NOTES)
    }
}
