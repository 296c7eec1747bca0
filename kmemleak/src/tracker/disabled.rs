//! Tasks whose allocations are no leaks for a while.

use crate::platform::Platform;
use crate::tracker::warnings::Kind;
use crate::tracker::{NO_STACKS, Tracker};

impl<P: Platform> Tracker<P> {
    /// Makes gray what the running task allocates from now on.
    pub(crate) fn disabled_begin(&self) {
        self.callback(|meta| {
            let task = self.platform.context().task;
            if self.counted(self.disabled.add(task as usize, 0, meta)) {
                self.word.begin_disabled();
            }
        });
    }

    /// Ends the last `disabled_begin`.
    pub(crate) fn disabled_end(&self) {
        self.callback(|meta| {
            let task = self.platform.context().task;
            match self.disabled.remove(task as usize, meta) {
                Some(_) => self.word.end_disabled(),
                // There may have been no memory to note its beginning.
                None if self.is_incomplete() => {}
                None => self.warn(Kind::NotDisabled, 0, NO_STACKS, meta),
            }
        });
    }

    /// Whether what the running task allocates is no leak.
    pub(crate) fn is_disabled(&self) -> bool {
        let task = self.platform.context().task as usize;
        self.without_interrupts(|_| self.disabled.has(task))
    }
}
