//! Tasks whose allocations are no leaks for a while.

use crate::platform::Platform;
use crate::tracker::warnings::Kind;
use crate::tracker::{NO_STACKS, Tracker};

impl<P: Platform> Tracker<P> {
    /// Makes gray what the running task allocates from now on.
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
            // There may have been no memory to note its beginning.
            if self.disabled.remove(task as usize, meta).is_none() && !self.is_incomplete() {
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
