//! Which names of tasks the records of objects have: for who looks for numbers that are free ([`crate::stacks::task_names`]).

use crate::objects::page_map::LEAF_BITS;
use crate::objects::{Access, Locked, Registry};
use crate::platform::Platform;
use crate::stacks::task_names::NamesInUse;
use crate::tracker::Tracker;

/// Chunks with objects that are looked at together, interrupts being off.
const TOGETHER: usize = 8;

impl NamesInUse for Registry {
    fn numbers(&self, from: usize, look: &mut dyn FnMut(u32)) -> Option<usize> {
        let leaves = self.leaves();
        let first = leaves.start.max(from >> LEAF_BITS);
        let (number, leaf) = self.map.next_leaf(first, leaves.end)?;
        let mut left = TOGETHER;
        for (chunk_number, chunk) in leaf.chunks(number) {
            if chunk_number < from || !chunk.is_used() {
                continue;
            }
            if left == 0 {
                return Some(chunk_number);
            }
            left -= 1;
            Locked::open(chunk);
            self.each_of(chunk_number, chunk, u64::MAX, &mut |object| {
                look(object.record.read().task_name());
            });
            Locked::close(chunk);
        }
        Some((number + 1) << LEAF_BITS)
    }
}

impl<P: Platform> Tracker<P> {
    /// Where numbers of names are scarce, finds out which are free. Task context, with no lock held.
    pub(crate) fn recycle_names(&self) {
        if !self.task_names.is_short() {
            return;
        }
        while self.without_interrupts(|_| self.task_names.step(&self.registry)) {
            let _ = self.platform.relax();
        }
    }
}
