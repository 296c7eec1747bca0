//! The short path of a callback: what is done for a block in nearly all allocations and frees, in as few instructions as it takes.
//!
//! It looks whether all is usual: the [mode](crate::tracker::mode_word), the task (the last one on this CPU), the block (in the
//! [table](crate::tracker::last_table) of the last one, in one chunk, which [has nothing odd](crate::objects::registry)). Nothing is
//! changed before all of that is known. Whatever is unusual is left to the general path ([`crate::tracker::record`]), which
//! remembers for the next time what the short path looks for.
//!
//! Both paths must come to the same: the short one records a block only if the general one would write the same record, and forgets
//! one only if that needs no more than the chunk's entry.
//!
//! # Locks
//!
//! A chunk's, which is only tried. Any context but a non-maskable interrupt.

use crate::metadata::MetaAlloc;
use crate::objects::record::Record;
use crate::objects::registry::NotShort;
use crate::platform::address::Extent;
use crate::platform::{Context, Level, Platform};
use crate::stacks::depot::StackId;
use crate::tracker::Tracker;
use crate::tracker::long::LONG_BYTES;
use crate::tracker::mode::Entered;

#[inline(always)]
fn is_task(context: Context) -> bool {
    context.level == Level::Task
}

impl<P: Platform> Tracker<P> {
    /// Records a block that needs one reference, with its call stack.
    ///
    /// Whatever does not take the short path ends in a call of a cold function, which restores interrupts itself: so the short path
    /// keeps nothing across a call, and needs no registers that it would have to save.
    #[inline(never)]
    pub(super) fn record_one(&self, start: usize, size: usize) {
        let entered = self.interrupts_off();
        // The time comes first: see the mode word.
        let Some(birth_us) = self.short_now_us() else {
            return self.record_unusual(start, size, self.frame_pointer(), entered);
        };
        if !self.word.takes_all_stacks() {
            return self.record_unusual(start, size, self.frame_pointer(), entered);
        }
        let context = self.platform.context();
        if !is_task(context) {
            return self.record_unusual(start, size, self.frame_pointer(), entered);
        }
        let Some(stack_id) = self.seen_stack_id(context.cpu) else {
            return self.record_unseen(start, size, self.frame_pointer(), entered);
        };
        if (self.record_short(start, size, stack_id, birth_us, context)).is_err() {
            self.record_otherwise(start, size, stack_id, entered);
        }
    }

    /// Records a block that needs one reference, where call stacks are taken of few allocations.
    #[inline(never)]
    pub(super) fn record_one_of_few(&self, start: usize, size: usize) {
        let entered = self.interrupts_off();
        let Some(birth_us) = self.short_now_us() else {
            return self.record_unusual(start, size, self.frame_pointer(), entered);
        };
        if !self.word.is_usual() {
            return self.record_unusual(start, size, self.frame_pointer(), entered);
        }
        let context = self.platform.context();
        if !is_task(context) {
            return self.record_unusual(start, size, self.frame_pointer(), entered);
        }
        let mut stack_id = StackId::NONE;
        if self.takes_some_stacks() {
            if self.is_sampled(size, context.cpu) {
                return self.record_unseen(start, size, self.frame_pointer(), entered);
            }
            let Some(site_id) = self.near_site_id() else {
                return self.record_far_site(start, size, self.frame_pointer(), entered);
            };
            stack_id = site_id;
        }
        if (self.record_short(start, size, stack_id, birth_us, context)).is_err() {
            self.record_otherwise(start, size, stack_id, entered);
        }
    }

    /// Records a block for a task, where nothing unusual goes on.
    #[inline(always)]
    fn record_short(
        &self,
        start: usize,
        size: usize,
        stack_id: StackId,
        birth_us: u64,
        context: Context,
    ) -> Result<(), NotShort> {
        let Context { task, cpu, .. } = context;
        let chunk = self.last_tables.chunk(start, cpu).ok_or(NotShort)?;
        let who = self.task_names.remembered(task, cpu).ok_or(NotShort)?;
        let mut record = Record::new(0, stack_id, birth_us, 1, 0);
        record.set_who(task, who);
        self.registry.insert_short(chunk, start, size, record)
    }

    /// Records a block where something unusual goes on, or the detector was switched off a moment ago. `frame_pointer` is the
    /// callback's.
    #[cold]
    #[inline(never)]
    fn record_unusual(
        &self,
        start: usize,
        size: usize,
        frame_pointer: usize,
        entered: Entered<'_, P>,
    ) {
        if !self.is_on() {
            return;
        }
        let meta = entered.meta();
        let stack_id = self.stack_id(self.walk_from(frame_pointer), size, &meta);
        self.record_named(start, size, stack_id, entered);
    }

    /// Records a block whose call stack is not the one that the CPU has seen, or is to be taken for the sample. `frame_pointer` is
    /// the callback's.
    #[cold]
    #[inline(never)]
    fn record_unseen(
        &self,
        start: usize,
        size: usize,
        frame_pointer: usize,
        entered: Entered<'_, P>,
    ) {
        let meta = entered.meta();
        let stack_id = self.unseen_stack_id(self.walk_from(frame_pointer), &meta);
        self.record_named(start, size, stack_id, entered);
    }

    /// Records a block that is not in the sample, whose call site has to be stored. `frame_pointer` is the callback's.
    #[cold]
    #[inline(never)]
    fn record_far_site(
        &self,
        start: usize,
        size: usize,
        frame_pointer: usize,
        entered: Entered<'_, P>,
    ) {
        let stack_id = self.site_id(self.walk_from(frame_pointer), &entered.meta());
        self.record_named(start, size, stack_id, entered);
    }

    /// Records a block whose call stack has been named, by the short path if that takes it.
    #[cold]
    #[inline(never)]
    fn record_named(&self, start: usize, size: usize, stack_id: StackId, entered: Entered<'_, P>) {
        let context = self.platform.context();
        if (self.record_named_short(start, size, stack_id, context)).is_err() {
            self.record_otherwise(start, size, stack_id, entered);
        }
    }

    /// Records a block that the short path does not take, with its call stack.
    #[cold]
    #[inline(never)]
    fn record_otherwise(
        &self,
        start: usize,
        size: usize,
        stack_id: StackId,
        entered: Entered<'_, P>,
    ) {
        if size >= LONG_BYTES {
            drop(entered);
            let extent = Extent::block(&self.platform, start, size);
            return self.record_long(start, size, 1, 0, extent, stack_id);
        }
        self.record_generally(start, size, stack_id, &entered.meta());
    }

    fn record_named_short(
        &self,
        start: usize,
        size: usize,
        stack_id: StackId,
        context: Context,
    ) -> Result<(), NotShort> {
        let birth_us = self.short_now_us().ok_or(NotShort)?;
        if !self.word.is_usual() || !is_task(context) {
            return Err(NotShort);
        }
        self.record_short(start, size, stack_id, birth_us, context)
    }

    /// Records a block that is not long by the general path.
    #[cold]
    #[inline(never)]
    fn record_generally(&self, start: usize, size: usize, stack_id: StackId, meta: &MetaAlloc<'_>) {
        let context = self.platform.context();
        let size = size.max(1);
        let Some(extent) = Extent::block(&self.platform, start, size) else {
            return self.warn_no_block(start, meta);
        };
        let record = self.new_record(size, 1, 0, stack_id, &context, meta);
        if self.counted(self.add(extent, &record, meta)) {
            self.remember_table(extent, context.cpu);
        }
    }

    /// Remembers the table of a block that was recorded, for the short path.
    fn remember_table(&self, extent: Extent, cpu: u32) {
        let start = extent.start().get();
        if self.last_tables.chunk(start, cpu).is_some() {
            return;
        }
        let allowed = Extent::starts_of_blocks(&self.platform);
        if let Some(table) = (self.registry).short_table(extent, *allowed.start(), *allowed.end()) {
            self.last_tables.remember(start, table, cpu);
        }
    }

    /// Forgets the block at `start`.
    #[inline(never)]
    pub(super) fn forget(&self, start: usize) {
        let interrupts = self.interrupts_off();
        let cpu = self.platform.cpu();
        if self.forget_short(start, cpu).is_err() {
            self.forget_generally(start, interrupts);
        }
    }

    #[inline(always)]
    fn forget_short(&self, start: usize, cpu: u32) -> Result<(), NotShort> {
        if !self.word.is_usual() {
            return Err(NotShort);
        }
        let chunk = self.last_tables.chunk(start, cpu).ok_or(NotShort)?;
        self.registry.take_short(chunk, start)?;
        self.hazard.wait(start);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
