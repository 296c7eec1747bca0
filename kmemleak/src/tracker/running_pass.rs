//! Whether a pass goes on while other code runs: what is allocated meanwhile is marked from the start.
//!
//! A callback takes the time of birth first, then looks here, and then enters the object into its chunk. A pass takes the
//! time of its start, says here that it goes on, and then clears the marks of each chunk. So of what it finds unmarked
//! in the end, one part was in its chunk when that was cleared; the other came later, of callbacks that looked before
//! they could see that the pass goes on. The pass has to leave these out by their birth, as far as that is not before its start;
//! a callback that began before the pass, and took until now, hands out its block later still.
//!
//! No ordering would do more: between the time of the start and what is said here there is always a gap.

use core::sync::atomic::Ordering::Relaxed;

use crate::atomic::AtomicBool;

/// Relaxed: who sees it late is judged by the time of birth. The mark itself is set under the chunk's lock.
pub(crate) struct RunningPass(AtomicBool);

impl RunningPass {
    pub(crate) const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// A pass begins, whose start has been noted.
    pub(crate) fn begin(&self) {
        self.0.store(true, Relaxed);
    }

    /// It has ended.
    pub(crate) fn end(&self) {
        self.0.store(false, Relaxed);
    }

    /// Whether a new object is to be marked. Its birth has been noted.
    #[inline(always)]
    pub(crate) fn goes_on(&self) -> bool {
        self.0.load(Relaxed)
    }
}
