//! From a callback to a record: what happens in each allocation, and in each free.
//!
//! The common path is inlined into one function for each callback. Everything that is rare (no memory, an object in the way, a
//! note beside the record) is cold and continues from there.

use crate::metadata::MetaAlloc;
use crate::metadata::kept::Kept;
use crate::objects::access::Locked;
use crate::objects::object::Object;
use crate::objects::record::{MANY, MAX_INLINE, MAX_MIN_COUNT, Record, flag};
use crate::objects::registry::{Marked, Refused};
use crate::platform::address::{Address, Extent};
use crate::platform::{Context, Level, Platform};
use crate::stacks::depot::StackId;
use crate::stacks::task_names::Who;
use crate::tracker::evict::Evicted;
use crate::tracker::long::LONG_BYTES;
use crate::tracker::mode::Entered;
use crate::tracker::mode_word::Unusual;
use crate::tracker::warnings::Kind;
use crate::tracker::{NO_STACKS, Tracker};

impl<P: Platform> Tracker<P> {
    #[inline(never)]
    pub(super) fn record(&self, start: usize, size: usize, min_count: i32) {
        let place = |size| Extent::block(&self.platform, start, size);
        self.record_at(start, size, min_count, 0, place);
    }

    #[inline(never)]
    pub(super) fn record_phys(&self, start: usize, size: usize) {
        let place = |size| Extent::physical(start, size);
        self.record_at(start, size, 0, flag::PHYS, place);
    }

    /// Records a block of at least one byte, if a block can lie there.
    #[inline(always)]
    fn record_at(
        &self,
        start: usize,
        size: usize,
        min_count: i32,
        flags: u16,
        place: impl FnOnce(usize) -> Option<Extent>,
    ) {
        let Some(entered) = self.enter() else { return };
        let context = self.platform.context();
        let meta = entered.meta_for(context.cpu);
        let stack_id = self.stack_id(self.platform.stack_walk(), size, &meta);
        if size >= LONG_BYTES {
            drop(entered);
            return self.record_long(start, size, min_count, flags, place(size), stack_id);
        }
        let size = size.max(1);
        let Some(extent) = place(size) else {
            return self.warn_no_block(start, &meta);
        };
        let record = self.new_record(size, min_count, flags, stack_id, &context, &meta);
        self.counted(self.add(extent, &record, &meta));
    }

    /// Records a block that needs more references than a record has room for, or more than can be counted.
    #[cold]
    #[inline(never)]
    pub(super) fn record_many(&self, start: usize, size: usize, min_count: i32) {
        let Some(entered) = self.enter() else { return };
        let context = self.platform.context();
        let meta = entered.meta_for(context.cpu);
        let stack_id = self.stack_id(self.platform.stack_walk(), size, &meta);
        let min_count = match min_count {
            -1..=MAX_MIN_COUNT => min_count,
            _ => {
                self.warn(Kind::BadMinCount, start, NO_STACKS, &meta);
                1
            }
        };
        if size >= LONG_BYTES {
            drop(entered);
            let extent = Extent::block(&self.platform, start, size);
            self.record_long(start, size, min_count, 0, extent, stack_id);
            let note = |meta: &MetaAlloc<'_>| self.note_references(start, min_count, meta);
            let kept = self.callback(note);
            self.counted(kept.unwrap_or(Kept::Yes));
            return;
        }
        let size = size.max(1);
        let Some(extent) = Extent::block(&self.platform, start, size) else {
            return self.warn_no_block(start, &meta);
        };
        let record = self.new_record(size, min_count, 0, stack_id, &context, &meta);
        let kept = self.add(extent, &record, &meta);
        self.counted(kept.and(|| self.note_references(start, min_count, &meta)));
    }

    /// Notes how many references a recorded block needs, if its record has no room for that. Where there is no memory for the note, it needs as many as a record has
    /// room for: with fewer it would be no leak either.
    #[cold]
    fn note_references(&self, start: usize, needed: i32, meta: &MetaAlloc<'_>) -> Kept {
        let noted = self.registry.starting_at(Locked, start, |object| {
            if object.record.min_count() != MANY {
                return Kept::Yes;
            }
            let side_table = &self.registry.side_table;
            let kept = side_table.add_references(object.start, needed, meta);
            match kept {
                Kept::Yes => object.set(flag::NOTES),
                Kept::NoMemory => object.set_min_count(MAX_INLINE),
            }
            kept
        });
        // There is no record if the block was refused.
        noted.unwrap_or(Kept::Yes)
    }

    #[inline(always)]
    pub(super) fn new_record(
        &self,
        size: usize,
        min_count: i32,
        mut flags: u16,
        stack_id: StackId,
        context: &Context,
        meta: &MetaAlloc<'_>,
    ) -> Record {
        let mut min_count = min_count;
        if context.level == Level::Interrupt {
            flags |= flag::INTERRUPT;
        } else if self.disabled.has(context.task as usize) {
            min_count = min_count.min(0);
        }
        let mut record = Record::new(size, stack_id, self.now_us(), min_count, flags);
        let who = match self.task_names.remembered(context.task, context.cpu) {
            Some(who) => who,
            None => Who::of(self.name_of_another(context, meta), context.cpu),
        };
        record.set_who(context.task, who);
        record
    }

    /// The number of a task's name that its CPU does not remember.
    #[cold]
    #[inline(never)]
    fn name_of_another(&self, context: &Context, meta: &MetaAlloc<'_>) -> u32 {
        let comm = || self.platform.comm();
        self.task_names
            .number(context.task, context.cpu, comm, meta, &self.registry)
    }

    /// Records a block, in the place of whatever is recorded there.
    #[inline(always)]
    pub(crate) fn add(&self, extent: Extent, record: &Record, meta: &MetaAlloc<'_>) -> Kept {
        if self.word.has(Unusual::EXHAUSTED) {
            // This also holds if an index has room for one record more.
            return Kept::NoMemory;
        }
        let marked = self.marked();
        let stride = || self.platform.slab_stride(extent.start().get());
        let inserted = self.registry.insert(extent, record, marked, stride, meta);
        if inserted.is_ok() && record.short_size() != u32::MAX {
            return Kept::Yes;
        }
        self.add_slow(extent, record, marked, meta, inserted)
    }

    /// Whether an object that is recorded now is marked.
    #[inline(always)]
    pub(crate) fn marked(&self) -> Marked {
        if self.word.has(Unusual::PASS) {
            Marked::Yes
        } else {
            Marked::No
        }
    }

    /// Continues where there is no memory, where an object is in the way, or where a note is to be kept.
    #[cold]
    #[inline(never)]
    fn add_slow(
        &self,
        extent: Extent,
        record: &Record,
        marked: Marked,
        meta: &MetaAlloc<'_>,
        mut inserted: Result<(), Refused>,
    ) -> Kept {
        /// How often the object in the way may be gone when it is looked at, since another CPU takes it out at that moment.
        const VAIN: usize = 16;
        let stride = || self.platform.slab_stride(extent.start().get());
        let mut vain = 0;
        // Each round takes an object out, or is one of the few that take out none: so the loop ends.
        while let Err(Refused::Overlaps(address)) = inserted {
            match self.evict_from(extent, record, address, meta) {
                Evicted::Some => {}
                Evicted::None if vain < VAIN => vain += 1,
                Evicted::None => break,
                Evicted::Itself => return Kept::Yes,
            }
            inserted = self.registry.insert(extent, record, marked, stride, meta);
        }
        match inserted {
            Err(_) => Kept::NoMemory,
            Ok(()) if record.short_size() == u32::MAX => self.note_size(extent, meta),
            Ok(()) => Kept::Yes,
        }
    }

    #[cold]
    pub(super) fn note_size(&self, extent: Extent, meta: &MetaAlloc<'_>) -> Kept {
        let start = extent.start();
        let noted = self
            .registry
            .side_table
            .add_size(start.get(), extent.size(), meta);
        if noted == Kept::Yes {
            let mark = |object: Object<'_>| object.set(flag::NOTES);
            self.registry.starting_at(Locked, start.get(), mark);
        } else {
            self.registry.remove(start, meta);
            // The record alone does not tell the size.
            self.registry.map.unreach(extent.reach());
        }
        noted
    }

    /// Forgets a block by the general path.
    #[inline(never)]
    pub(super) fn forget_generally<'d>(&'d self, start: usize, mut entered: Entered<'d, P>) {
        if self.frozen.is_on() {
            // What the block held is read in pieces, between which interrupts are as the caller has them.
            drop(entered);
            self.before_free(start);
            entered = self.interrupts_off();
        }
        if !self.is_on() {
            return;
        }
        let meta = entered.meta();
        let mut left = None;
        let taken = Address::new(start).and_then(|address| {
            let leave = |reach| left = Some(reach);
            let flags = self.registry.take_leaving(address, &meta, leave)?;
            Some((address, flags))
        });
        match taken {
            Some((address, flags)) => {
                self.hazard.wait(start);
                if flags & flag::PERCPU != 0 {
                    self.remove_copies(address, &meta);
                }
                if self.word.has(Unusual::FREE_STACKS) {
                    self.note_free(start, &meta);
                }
            }
            None => self.warn_unknown(Kind::UnknownFree, start, &meta),
        }
        drop(entered);
        if let Some(left) = left {
            self.unreach_in_steps(left);
        }
    }
}
