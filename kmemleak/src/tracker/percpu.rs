//! Per-CPU blocks: an object with the handle, and an alias object for each further copy, which leads to it.

use crate::metadata::MetaAlloc;
use crate::metadata::kept::Kept;
use crate::objects::object::alias_record;
use crate::objects::record::{Record, flag};
use crate::platform::Platform;
use crate::platform::address::{Address, Extent};
use crate::tracker::Tracker;

impl<P: Platform> Tracker<P> {
    /// Records a per-CPU block that was handed out.
    #[inline(always)]
    pub(crate) fn alloc_percpu(&self, handle: usize, size: usize) {
        if self.is_on() {
            self.strangers.note();
            self.record_percpu(handle, size);
        }
    }

    #[inline(never)]
    fn record_percpu(&self, handle: usize, size: usize) {
        let Some(entered) = self.enter() else { return };
        let context = self.platform.context();
        let meta = entered.meta_for(context.cpu);
        let stack_id = self.stack_id(self.platform.stack_walk(), size, &meta);
        let size = size.max(1);
        match self.percpu_block(handle, size) {
            Ok(block) => {
                let record = self.new_record(size, 1, flag::PERCPU, stack_id, &context, &meta);
                self.counted(self.add_percpu(block, &record, &meta));
            }
            Err(number) => self.warn_no_block(number, &meta),
        }
    }

    /// The per-CPU block with this handle. An error if a copy lies where no block can be: the number that is refused.
    fn percpu_block(&self, handle: usize, size: usize) -> Result<Extent, usize> {
        for cpu in 0..self.platform.cpus() {
            let copy = Extent::copy(&self.platform, handle, cpu, size);
            copy.ok_or_else(|| self.platform.percpu_copy(handle, cpu))?;
        }
        Extent::handle(handle, size).ok_or(handle)
    }

    fn add_percpu(&self, block: Extent, record: &Record, meta: &MetaAlloc<'_>) -> Kept {
        let (handle, size) = (block.start(), block.size());
        let mut kept = self.add(block, record, meta);
        let alias = alias_record(handle.get(), size);
        for cpu in 0..self.platform.cpus() {
            let copy = Extent::copy(&self.platform, handle.get(), cpu, size);
            // All copies lie where a block can be: that was checked before.
            let Some(copy) = copy.filter(|copy| copy.start() != handle) else {
                continue;
            };
            kept = kept.and(|| self.add(copy, &alias, meta));
        }
        // Recording only some of its copies would not be enough.
        if kept == Kept::NoMemory && self.registry.remove(handle, meta).is_some() {
            self.remove_copies(handle, meta);
        }
        kept
    }

    /// Takes out the further copies of a per-CPU block that has been taken out.
    #[cold]
    pub(super) fn remove_copies(&self, handle: Address, meta: &MetaAlloc<'_>) {
        for cpu in 0..self.platform.cpus() {
            let copy = self.platform.percpu_copy(handle.get(), cpu);
            if let Some(copy) = Address::new(copy).filter(|&copy| copy != handle) {
                self.registry.remove_alias(copy, handle.get(), meta);
            }
        }
    }
}
