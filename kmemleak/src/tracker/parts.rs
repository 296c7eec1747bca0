//! Blocks that are freed in part: what remains stays tracked as before.
//!
//! Pages are given back out of the middle of a block, or its end is trimmed, when memory is short: then there may be no memory
//! for metadata either. So memory for metadata is avoided where possible:
//!
//! - The *front*, what lies before the hole, stays where it is recorded, and becomes shorter.
//! - Of a block that loses its front, the *tail* takes the record, the room for it and the notes with it. It needs a page
//!   only where it begins in 64 KiB that the block covered wholly, so that there is no table for them.
//! - The tail of a block that loses its middle is recorded anew. If there is no memory for it, that is counted.
//!
//! Scan areas are cut to the parts. Marks of passes and verdicts are not kept: a part is not what was reported.
//!
//! # Locks
//!
//! One chunk's at a time, under it that of the notes.

use crate::metadata::MetaAlloc;
use crate::metadata::kept::Kept;
use crate::objects::access::Locked;
use crate::objects::chunk::GRANULE;
use crate::objects::object::Object;
use crate::objects::record::{Record, flag};
use crate::objects::registry::parts::{Room, Tail};
use crate::objects::side_table::Cut;
use crate::platform::Platform;
use crate::platform::address::{Address, Extent};
use crate::tracker::Tracker;
use crate::tracker::warnings::Kind;

impl<P: Platform> Tracker<P> {
    /// Takes `len` bytes at `start` out of a block.
    #[cold]
    pub(crate) fn take_part(&self, start: usize, len: usize, meta: &MetaAlloc<'_>) {
        // A per-CPU block has no parts.
        let look = |object: Object<'_>| {
            let size = self.registry.size(object.start, object.record);
            let record = object.record.read();
            let seen = (object.start, size, record.task_name());
            (!record.has(flag::ALIAS | flag::PERCPU)).then_some(seen)
        };
        let found = self.registry.containing(Locked, start, look);
        let Some(Some((whole, size, name))) = found else {
            return self.warn_unknown(Kind::UnknownObject, start, meta);
        };
        if len == 0 {
            return;
        }
        self.before_free(whole);
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
                registry.insert_unaligned(behind, &record, marked, note, meta)
            }
            room if !behind.can_be_object() => {
                room.give_back(&registry.side_table, meta);
                Kept::NoMemory
            }
            room => {
                room.give_back(&registry.side_table, meta);
                let stride = || self.platform.slab_stride(start);
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

    /// Attaches the notes of a tail before the tail can be found. Returns its record, with the number of its task's name.
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
