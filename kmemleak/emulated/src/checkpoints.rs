//! The checkpoints of checks and questions: how many there were, and at which one the machine asks to stop.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What a machine knows of its checkpoints.
#[derive(Debug, Default)]
pub struct Checkpoints {
    count: AtomicUsize,
    /// The one at which it asks to stop, counted from one; zero for none.
    stop_at: AtomicUsize,
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

    pub(crate) fn pass(&self) -> ControlFlow<()> {
        let number = self.count.fetch_add(1, Relaxed) + 1;
        match number == self.stop_at.load(Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}
