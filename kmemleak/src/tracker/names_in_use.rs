//! Which names of tasks the records of objects have: to find numbers that are free ([`crate::stacks::task_names`]).

use crate::objects::access::{Access, Locked};
use crate::objects::registry::Registry;
use crate::platform::Platform;
use crate::stacks::task_names::NamesInUse;
use crate::tracker::Tracker;

/// Chunks with objects that are looked at together, with interrupts off.
const TOGETHER: usize = 8;

impl NamesInUse for Registry {
    fn numbers(&self, from: usize, look: &mut dyn FnMut(u32)) -> Option<usize> {
        let mut chunks = self.chunks(from);
        for _ in 0..TOGETHER {
            let (number, chunk) = chunks.next()?;
            self.each_of(&Locked.open(number, chunk), u64::MAX, &mut |object| {
                look(object.record.read().task_name());
            });
        }
        chunks.next().map(|(number, _)| number)
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
