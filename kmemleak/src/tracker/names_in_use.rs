//! Which names of tasks the records of objects have: to find numbers that are free ([`crate::stacks::task_names`]).

use crate::objects::access::{Access, Locked};
use crate::objects::registry::{ChunkStep, Registry};
use crate::platform::Platform;
use crate::stacks::task_names::NamesInUse;
use crate::tracker::Tracker;

/// Objects and chunks that are looked at with interrupts off, before they may be on again. Some seventy
/// instructions each.
const TOGETHER: usize = 64;

impl NamesInUse for Registry {
    fn numbers(&self, from: usize, look: &mut dyn FnMut(u32)) -> Option<usize> {
        let mut chunks = self.chunks(from);
        let mut seen = 0;
        while seen < TOGETHER {
            seen += 1;
            match chunks.step() {
                ChunkStep::Used(number, chunk) => {
                    self.each_of(&Locked.open(number, chunk), u64::MAX, &mut |object| {
                        seen += 1;
                        look(object.record.read().task_name());
                    });
                }
                ChunkStep::Unused => {}
                ChunkStep::End => return None,
            }
        }
        Some(chunks.next_chunk())
    }
}

impl<P: Platform> Tracker<P> {
    /// Finds out which numbers of names are free, if they are scarce. Task context, with no lock held.
    pub(crate) fn recycle_names(&self) {
        if !self.task_names.is_short() {
            return;
        }
        while self.without_interrupts(|_| self.task_names.step(&self.registry)) {
            let _ = self.platform.relax();
        }
    }
}
