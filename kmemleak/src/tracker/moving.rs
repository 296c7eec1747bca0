//! Blocks that their allocator moves or resizes (`realloc`), and that stay the same objects.
//!
//! The record and the notes are taken out, carried by value while the allocator works, and put back under the new address and size.
//! Meanwhile the block counts as in flight ([`crate::objects::moves`]), and interrupts are as they were: an allocator may copy for
//! long. Age, task, call stack, colour and options stay, as do scan areas, which are cut where the block becomes smaller. Marks of
//! passes and verdicts don't: who resizes a block has a pointer to it.
//!
//! # Locks
//!
//! One chunk's at a time, under it that of the notes. None while the block is in flight.

use crate::metadata::MetaAlloc;
use crate::metadata::kept::Kept;
use crate::objects::access::Locked;
use crate::objects::object::Object;
use crate::objects::record::{Record, flag};
use crate::objects::side_table::{Cut, Loose};
use crate::platform::Platform;
use crate::platform::address::{Address, Extent};
use crate::stacks::task_names::Round;
use crate::tracker::Tracker;

/// A block in flight. If it is dropped, the block is forgotten.
#[must_use = "it is put down again"]
pub(crate) struct Moving<'t, P: Platform> {
    tracker: &'t Tracker<P>,
    start: Address,
    size: usize,
    record: Record,
    /// When the record was copied, by the rounds of task names.
    copied: Round,
    /// All but one with the size.
    notes: Option<Loose>,
}

impl<P: Platform> Drop for Moving<'_, P> {
    fn drop(&mut self) {
        self.tracker.moves.end();
    }
}

impl<P: Platform> Tracker<P> {
    /// Takes out the block at `start`, which its allocator is about to move or resize. When this returns, the detector does not read
    /// it. `None` if no block is known there, and if the detector is off.
    pub(crate) fn pick_up(&self, start: usize) -> Option<Moving<'_, P>> {
        if !self.is_on() {
            return None;
        }
        self.before_free(start);
        let entered = self.enter()?;
        let (start, meta) = (Address::new(start)?, entered.meta());
        self.moves.begin();
        let copied = self.task_names.now();
        let Some((record, size, notes)) = self.registry.take_with_notes(start, &meta) else {
            self.moves.end();
            return None;
        };
        self.hazard.wait(start.get());
        Some(Moving {
            tracker: self,
            start,
            size,
            record,
            copied,
            notes: Some(notes),
        })
    }
}

impl<P: Platform> Moving<'_, P> {
    /// The block stays as it was: its allocator could not resize it. A verdict may have been made meanwhile that does not name it.
    pub(crate) fn put_back(self) {
        let (start, size) = (self.start.get(), self.size);
        self.settle(start, size);
    }

    /// The block is `size` bytes at `start` now.
    ///
    /// # Safety
    ///
    /// The block is memory that can be read until it has been [freed](Tracker::free).
    pub(crate) unsafe fn put_down(self, start: usize, size: usize) {
        self.settle(start, size.max(1));
    }

    /// Records the block. Once the detector is off, its notes stay in use until all metadata is given back.
    fn settle(mut self, start: usize, size: usize) {
        let tracker = self.tracker;
        let (Some(entered), Some(notes)) = (tracker.enter(), self.notes.take()) else {
            return;
        };
        let meta = entered.meta();
        self.record = self.record.part(size);
        if start != self.start.get() && tracker.keeps_free_stacks() {
            tracker.note_free(self.start.get(), &meta);
        }
        let held =
            (tracker.task_names).hold_copied(self.record.task_name(), self.copied, meta.cpu, &meta);
        self.record.set_task_name(held.number());
        let kept = match Extent::block(&tracker.platform, start, size) {
            Some(extent) => tracker.add(extent, &self.record, &meta),
            None => {
                tracker.warn_no_block(start, &meta);
                return tracker.registry.side_table.give_back(notes, &meta);
            }
        };
        if !tracker.counted(kept) {
            return tracker.registry.side_table.give_back(notes, &meta);
        }
        if !notes.is_empty() {
            tracker.counted(self.attach(notes, start, size, &meta));
        }
    }

    /// Gives the recorded block its notes, cut to its size. Where there is no memory for an area, all of the block is scanned.
    #[cold]
    fn attach(&self, notes: Loose, start: usize, size: usize, meta: &MetaAlloc<'_>) -> Kept {
        let (side_table, mut loose) = (&self.tracker.registry.side_table, Some(notes));
        let kept = self
            .tracker
            .registry
            .starting_at(Locked, start, |object: Object<'_>| {
                let notes = loose.take()?;
                object.set(flag::NOTES | if notes.has_excess() { flag::EXCESS } else { 0 });
                side_table.attach(notes, start);
                let cut = Cut {
                    size: self.size,
                    front: size,
                    tail: self.size,
                };
                (size < self.size).then(|| side_table.divide(start, cut, meta).front)
            });
        if let Some(notes) = loose {
            side_table.give_back(notes, meta);
        }
        kept.flatten().unwrap_or(Kept::Yes)
    }
}
