//! The callbacks for a block: that it was handed out or given back, or how it is to be treated.
//!
//! Each looks at the mode first ([`Tracker::callback`]), and never sleeps, prints, allocates or panics. What is wrong
//! with a call becomes a warning.
//!
//! # Locks
//!
//! One chunk's, under it that of the side table. Any context but a non-maskable interrupt.

use crate::metadata::MetaAlloc;
use crate::metadata::kept::Kept;
use crate::objects::access::Locked;
use crate::objects::object::Object;
use crate::objects::record::{MAX_INLINE, flag};
use crate::objects::side_table::Area;
use crate::platform::{Platform, Reading};
use crate::stacks::depot::StackId;
use crate::tracker::sampling::StacksTaken;
use crate::tracker::warnings::Kind;
use crate::tracker::{AllocOptions, NO_STACKS, Tracker};

impl<P: Platform> Tracker<P> {
    /// Records a block that was handed out; only the platform vouches for it.
    #[inline(always)]
    pub(crate) fn alloc(&self, start: usize, size: usize, options: AllocOptions) {
        if options.min_count == 1 && self.word.takes_all_stacks_of_strangers() {
            return self.record_one(start, size);
        }
        // Next, since a detector that is off must cost next to nothing.
        if !self.is_on() {
            return;
        }
        if options.min_count == 1 && self.word.takes_few_stacks_of_strangers() {
            return self.record_one_of_few(start, size);
        }
        self.strangers.note();
        self.word.remember_strangers();
        match options.min_count {
            -1..=MAX_INLINE => self.record(start, size, options.min_count),
            many => self.record_many(start, size, many),
        }
    }

    /// Records a block, as [`alloc`](Self::alloc) does, that can be read without the platform's vouching for it.
    ///
    /// # Safety
    ///
    /// The block is memory that can be read until it has been [freed](Self::free).
    #[inline(always)]
    pub(crate) unsafe fn alloc_vouched(&self, start: usize, size: usize) {
        if self.word.takes_all_stacks() {
            self.record_one(start, size);
        } else if self.word.is_usual() {
            self.record_one_of_few(start, size);
        } else if self.is_on() {
            self.record(start, size, 1);
        }
    }

    /// Forgets the block at `start`, which is given back.
    #[inline(always)]
    pub(crate) fn free(&self, start: usize) {
        if self.is_on() {
            self.forget(start);
        }
    }

    /// Warns that an allocator has refused to free `address`.
    #[cold]
    pub(crate) fn refused_free(&self, address: usize) {
        self.callback(|meta| {
            let stack_id = |object: Object<'_>, _| object.record.read().stack_id();
            let stack_ids = match self.registry.block_containing(Locked, address, stack_id) {
                Some(allocated) => (allocated, StackId::NONE),
                None => self.registry.last_stack_ids(address),
            };
            self.warn(Kind::RefusedFree, address, stack_ids, meta);
        });
    }

    /// Forgets a part of a block, which is given back.
    pub(crate) fn free_part(&self, start: usize, len: usize) {
        self.callback(|meta| self.take_part(start, len, meta));
    }

    /// Records a block that was handed out and that the object at `area` describes.
    pub(crate) fn vmalloc(&self, start: usize, size: usize, area: usize) {
        if !self.is_on() {
            return;
        }
        self.strangers.note();
        self.record(start, size, 2);
        let mut kept = Kept::Yes;
        self.change(area, |object, meta| {
            kept = self
                .registry
                .side_table
                .add_excess(object.start, start, meta);
            if kept == Kept::Yes {
                object.set(flag::NOTES | flag::EXCESS);
            }
        });
        if !self.counted(kept) {
            // One of its references can't be recognized any more.
            self.callback(|_| {
                let change = |block: Object<'_>| block.set_min_count(1);
                self.registry.starting_at(Locked, start, change)
            });
        }
    }

    /// Records a block of physical memory that was handed out.
    pub(crate) fn alloc_phys(&self, start: usize, size: usize) {
        if self.is_on() {
            self.strangers.note();
            self.record_phys(start, size);
        }
    }

    /// Makes the block gray.
    pub(crate) fn not_leak(&self, start: usize) {
        self.change(start, |object, _| object.set_min_count(0));
    }

    /// Makes the block black.
    pub(crate) fn ignore(&self, start: usize) {
        self.change_scanning(start, |object| object.set_min_count(-1));
    }

    /// Excludes the block's contents from scanning.
    pub(crate) fn no_scan(&self, start: usize) {
        self.change_scanning(start, |object| object.set(flag::NO_SCAN));
    }

    /// Limits the scanning of the block to the areas that were named.
    pub(crate) fn scan_area(&self, start: usize, len: usize) {
        enum Told {
            Done(Kept),
            TooLarge,
        }
        self.callback(|meta| {
            self.before_change(start);
            let add = |object: Object<'_>, offset: usize| {
                if len > self.registry.size(object.start, object.record) - offset {
                    return Told::TooLarge;
                }
                let side_table = &self.registry.side_table;
                let kept = side_table.add_area(object.start, Area { offset, len }, meta);
                match kept {
                    Kept::Yes => object.set(flag::NOTES),
                    Kept::NoMemory => side_table.drop_areas(object.start, meta),
                }
                Told::Done(kept)
            };
            match self.registry.block_containing(Locked, start, add) {
                Some(Told::Done(kept)) => _ = self.counted(kept),
                Some(Told::TooLarge) => self.warn(Kind::AreaTooLarge, start, NO_STACKS, meta),
                None => self.warn_unknown(Kind::UnknownObject, start, meta),
            }
        });
    }

    /// Notes how the block is read.
    pub(crate) fn read_as(&self, start: usize, reading: Reading) {
        enum Told {
            Done(Kept),
            TooLarge,
        }
        self.callback(|meta| {
            self.before_change(start);
            let note = |object: Object<'_>, _| {
                if !reading.fits(self.registry.size(object.start, object.record)) {
                    return Told::TooLarge;
                }
                let side_table = &self.registry.side_table;
                let kept = side_table.set_reading(object.start, reading, meta);
                if kept == Kept::Yes && reading != Reading::Words {
                    object.set(flag::NOTES);
                }
                Told::Done(kept)
            };
            match self.registry.block_containing(Locked, start, note) {
                Some(Told::Done(kept)) => _ = self.counted(kept),
                Some(Told::TooLarge) => self.warn(Kind::TooLargeForBytes, start, NO_STACKS, meta),
                None => self.warn_unknown(Kind::UnknownObject, start, meta),
            }
        });
    }

    /// Lets the next scan treat the block as referenced.
    pub(crate) fn transient_leak(&self, start: usize) {
        self.change(start, |object, _| {
            object.record.clear(flag::PRIMED | flag::REPORTED);
        });
    }

    /// Replaces the block's call stack by the present one.
    pub(crate) fn update_trace(&self, start: usize) {
        let Some(entered) = self.enter() else { return };
        let meta = entered.meta();
        let walk = self.platform.stack_walk();
        let (full, site) = match self.stacks() {
            StacksTaken::None => (StackId::NONE, StackId::NONE),
            _ => (
                self.full_stack_id(walk.clone(), &meta),
                self.site_id(walk, &meta),
            ),
        };
        let set = |object: Object<'_>, _| {
            // What is in the sample stays in it, and nothing else comes into it.
            let before = self.depot.get(object.record.read().stack_id());
            let takes_all = self.stacks() == StacksTaken::All || before.as_slice().len() > 1;
            object
                .record
                .set_stack_id(if takes_all { full } else { site });
        };
        let there = self.registry.block_containing(Locked, start, set);
        if there.is_none() {
            self.warn_unknown(Kind::UnknownObject, start, &meta);
        }
    }

    /// Changes the block that starts at `start`, or that has a copy which starts there.
    #[inline]
    fn change(&self, start: usize, change: impl FnOnce(Object<'_>, &MetaAlloc<'_>)) {
        self.callback(|meta| self.change_with(start, change, meta));
    }

    /// Changes such a block in a way in which less of it is scanned.
    fn change_scanning(&self, start: usize, change: impl FnOnce(Object<'_>)) {
        self.callback(|meta| {
            self.before_change(start);
            self.change_with(start, |object, _| change(object), meta);
        });
    }

    #[inline]
    fn change_with(
        &self,
        start: usize,
        change: impl FnOnce(Object<'_>, &MetaAlloc<'_>),
        meta: &MetaAlloc<'_>,
    ) {
        let changed = self
            .registry
            .block_starting_at(Locked, start, |object| change(object, meta));
        if changed.is_none() {
            self.warn_unknown(Kind::UnknownObject, start, meta);
        }
    }
}
