//! Whether a pass runs beside other code: what is allocated meanwhile is marked from the start.
//!
//! A callback takes the time of birth first, then looks here, and then enters the object into its chunk. A pass takes the time of
//! its start, notes here that it runs, and then clears the marks of each chunk. So of the objects that it finds unmarked in the
//! end, some were in their chunks when those were cleared; the others came later, from callbacks that looked here before they
//! could see that the pass runs. The pass has to leave these out by their birth, if that is not before its start; a callback that
//! began before the pass, and took until now, hands out its block later still.
//!
//! A stronger ordering would not help: between taking the time of the start and the note here there is always a gap.

use core::sync::atomic::Ordering::Relaxed;

use crate::atomic::AtomicBool;

/// Relaxed: an object whose callback sees it late is judged by its birth. The mark is set under the chunk's lock.
pub(crate) struct RunningPass(AtomicBool);

impl RunningPass {
    pub(crate) const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Notes that a pass begins; the time of its start has been taken.
    pub(crate) fn begin(&self) {
        self.0.store(true, Relaxed);
    }

    /// Notes that the pass has ended.
    pub(crate) fn end(&self) {
        self.0.store(false, Relaxed);
    }

    /// Whether a new object is to be marked. The time of its birth has been taken.
    #[inline(always)]
    pub(crate) fn goes_on(&self) -> bool {
        self.0.load(Relaxed)
    }
}
