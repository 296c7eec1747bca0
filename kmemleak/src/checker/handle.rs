//! A detector's two halves together, for all code that works with both.

use crate::checker::Checker;
use crate::platform::Platform;
use crate::tracker::Tracker;

/// A tracker and its checker.
pub(crate) struct Handle<'d, P: Platform> {
    pub(crate) tracker: &'d Tracker<P>,
    pub(super) checker: &'d Checker,
}

impl<P: Platform> Clone for Handle<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Platform> Copy for Handle<'_, P> {}

impl<'d, P: Platform> Handle<'d, P> {
    pub(crate) fn new(tracker: &'d Tracker<P>, checker: &'d Checker) -> Self {
        Self { tracker, checker }
    }
}
