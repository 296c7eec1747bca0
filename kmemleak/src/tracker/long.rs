//! Long blocks, which are recorded and forgotten in steps.
//!
//! The page map has something to note for each 64 KiB of a block, and where small blocks lay before, each chunk of the memory may
//! have to be looked at. For a block of some hundred MiB that would be half a million instructions with interrupts off. So it is
//! done in steps with a [`Budget`], between which interrupts are as the caller has them:
//!
//! 1. The memory is looked at: is it free?
//! 2. The start of the block is recorded, in one step with all that depends on the CPU: the record, and the number in it.
//! 3. The block is noted in the chunks that it reaches into.
//!
//! A block that is freed loses its start first, then these notes.
//!
//! # What others see meanwhile
//!
//! A block whose notes are incomplete is found by its start, and by addresses in the part that has notes, since they come in the
//! order of addresses. The allocator has not handed it out yet, so there are no pointers into it but the allocator's own, to
//! its start. Notes without a block lead to nothing: a look-up makes sure that the object it finds has the address. No block is
//! recorded there meanwhile, since the allocator does not hand the memory out before its callback has returned.
//!
//! The detector may be switched off between two steps. Then the rest is not done: nothing is looked for any more.

use crate::metadata::MetaAlloc;
use crate::metadata::kept::Kept;
use crate::objects::page_map::{Budget, CHUNK, Reach};
use crate::objects::record::Record;
use crate::platform::Platform;
use crate::platform::address::Extent;
use crate::stacks::depot::StackId;
use crate::tracker::Tracker;
use crate::tracker::mode_word::Unusual;

/// Blocks of so many bytes are long.
pub(super) const LONG_BYTES: usize = Budget::STEP * CHUNK;

/// Whether a block is recorded, but for the notes that it reaches on.
enum Begun {
    Yes,
    /// It is recorded wholly, or not at all.
    Done(Kept),
}

impl<P: Platform> Tracker<P> {
    /// Records a long block; `None` instead of its extent if no block can lie there. No interrupts need be off. Its call stack has
    /// been taken: it leads to the callback, and this is a call from there.
    #[cold]
    #[inline(never)]
    pub(super) fn record_long(
        &self,
        start: usize,
        size: usize,
        min_count: i32,
        flags: u16,
        extent: Option<Extent>,
        stack_id: StackId,
    ) {
        let is_free = extent.is_some_and(|extent| self.is_free_beyond(extent));
        let Some(entered) = self.enter() else { return };
        let context = self.platform.context();
        let meta = entered.meta_for(context.cpu);
        let Some(extent) = extent else {
            return self.warn_no_block(start, &meta);
        };
        let record = self.new_record(size, min_count, flags, stack_id, &context, &meta);
        let begun = match is_free {
            true => self.begin_long(extent, &record, &meta),
            // Blocks are in the way that were freed without a callback: they are taken out at once.
            false => Begun::Done(self.add(extent, &record, &meta)),
        };
        drop(entered);
        let kept = match begun {
            Begun::Yes => self.spread_in_steps(extent),
            Begun::Done(kept) => kept,
        };
        self.counted(kept);
    }

    /// Whether no other block lies in the chunks behind the first one.
    fn is_free_beyond(&self, extent: Extent) -> bool {
        let mut from = Some(extent.reach().first + 1);
        while let Some(chunk) = from {
            let last = extent.last().get();
            let look =
                |_: &MetaAlloc<'_>| self.registry.look_from(chunk, last, &mut Budget::step());
            match self.callback(look) {
                Some(Ok(next)) => from = next,
                Some(Err(_)) | None => return false,
            }
        }
        true
    }

    /// Records the start of a block behind which all is free.
    fn begin_long(&self, extent: Extent, record: &Record, meta: &MetaAlloc<'_>) -> Begun {
        if self.word.has(Unusual::EXHAUSTED) {
            return Begun::Done(Kept::NoMemory);
        }
        let stride = || self.platform.slab_stride(extent.start().get());
        let begun = self
            .registry
            .insert_start(extent, record, self.marked(), stride, meta);
        match begun {
            Ok(()) if record.short_size() != u32::MAX => Begun::Yes,
            Ok(()) => match self.note_size(extent, meta) {
                Kept::Yes => Begun::Yes,
                Kept::NoMemory => Begun::Done(Kept::NoMemory),
            },
            Err(_) => Begun::Done(self.add(extent, record, meta)),
        }
    }

    /// Notes in the chunks behind the first one that a block reaches into them. If that is refused, the block is forgotten.
    fn spread_in_steps(&self, extent: Extent) -> Kept {
        let mut from = Some(extent.reach().first + 1);
        while let Some(chunk) = from {
            let spread = |meta: &MetaAlloc<'_>| {
                self.registry
                    .spread_from(extent, chunk, &mut Budget::step(), meta)
            };
            match self.callback(spread) {
                Some(Ok(next)) => from = next,
                Some(Err(_)) => return Kept::NoMemory,
                None => return Kept::Yes,
            }
        }
        Kept::Yes
    }

    /// Takes back that a block which is gone reaches into chunks. No interrupts need be off.
    #[cold]
    #[inline(never)]
    pub(super) fn unreach_in_steps(&self, reach: Reach) {
        let mut from = Some(reach.first + 1);
        while let Some(chunk) = from {
            let map = &self.registry.map;
            let step = self.callback(|_| map.unreach_from(reach, chunk, &mut Budget::step()));
            from = step.flatten();
        }
    }
}
