//! Tasks whose allocations are no leaks, for a while.

use crate::platform::Platform;
use crate::tracker::warnings::Kind;
use crate::tracker::{NO_STACKS, Tracker};

impl<P: Platform> Tracker<P> {
    /// What the running task allocates is gray.
    pub(crate) fn disabled_begin(&self) {
        self.callback(|meta| {
            let task = self.platform.context().task;
            self.counted(self.disabled.add(task as usize, 0, meta));
        });
    }

    /// Ends the last `disabled_begin`.
    pub(crate) fn disabled_end(&self) {
        self.callback(|meta| {
            let task = self.platform.context().task;
            // Its beginning may be what there was no memory for.
            if !self.disabled.remove(task as usize, meta) && !self.is_incomplete() {
                self.warn(Kind::NotDisabled, 0, NO_STACKS, meta);
            }
        });
    }

    /// Whether what the running task allocates is no leak.
    pub(crate) fn is_disabled(&self) -> bool {
        let task = self.platform.context().task as usize;
        self.without_interrupts(|_| self.disabled.has(task))
    }
}
