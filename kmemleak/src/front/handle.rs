//! The two halves of a detector, for what works on both.

use crate::checker::Checker;
use crate::checker::claim::{Claim, Nested, NotDone};
use crate::platform::Platform;
use crate::tracker::Tracker;
use crate::verdict::suppress::SuppressError;

/// A tracker and its checker.
pub(super) struct Handle<'d, P: Platform> {
    pub(super) tracker: &'d Tracker<P>,
    pub(super) checker: &'d Checker,
}

impl<P: Platform> Clone for Handle<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Platform> Copy for Handle<'_, P> {}

impl<'d, P: Platform> Handle<'d, P> {
    /// Takes the claim; waits while another task has it.
    pub(super) fn claim(self) -> Result<Claim<'d, P>, Nested> {
        self.checker.claim(self.tracker)
    }

    /// Takes the claim, if nobody has it.
    pub(super) fn try_claim(self) -> Option<Claim<'d, P>> {
        self.checker.try_claim(self.tracker)
    }

    /// Takes the claim of a detector that is on.
    pub(super) fn claim_on(self) -> Result<Claim<'d, P>, NotDone> {
        self.checker.claim_on(self.tracker)
    }

    /// Records nothing from now on.
    pub(super) fn turn_off(self) -> Result<(), Nested> {
        self.checker.turn_off(self.tracker)
    }

    /// Adds a suppression.
    pub(super) fn suppress(self, pattern: &str) -> Result<(), SuppressError> {
        let claim = self.claim().map_err(|Nested| SuppressError::Nested);
        claim?.suppress(pattern)
    }
}
