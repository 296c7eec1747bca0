//! The checkpoints of checks and questions: how many there were, and at which one the machine asks to stop.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// What a machine knows of its checkpoints.
#[derive(Debug, Default)]
pub struct Checkpoints {
    count: AtomicUsize,
    /// The one at which it asks to stop, counted from one; zero for none.
    stop_at: AtomicUsize,
    /// By how much the clock moves at each.
    us_each: AtomicU64,
}

impl Checkpoints {
    /// Counts from zero again, and asks to stop at checkpoint `number`, the first one being 1.
    pub fn stop_at(&self, number: usize) {
        self.count.store(0, Relaxed);
        self.stop_at.store(number, Relaxed);
    }

    /// Counts from zero again, and asks no more.
    pub fn go_on(&self) {
        self.stop_at(0);
    }

    /// The checkpoint at which it asks to stop; zero for none.
    pub fn asked(&self) -> usize {
        self.stop_at.load(Relaxed)
    }

    /// How many there have been.
    pub fn count(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// From now on the clock moves on by so much at each checkpoint.
    pub fn take_us(&self, us: u64) {
        self.us_each.store(us, Relaxed);
    }

    pub(crate) fn us_each(&self) -> u64 {
        self.us_each.load(Relaxed)
    }

    pub(crate) fn pass(&self) -> ControlFlow<()> {
        let number = self.count.fetch_add(1, Relaxed) + 1;
        match number == self.stop_at.load(Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}
