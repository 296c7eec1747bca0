//! Why a command was not done.

use core::fmt;

use crate::checker::claim::{Nested, NotDone};
use crate::checker::numbers::NoTarget;
use crate::front::outcome::CommandError;
use crate::marker::GivenUp;

/// Whether a command was done.
pub(super) type Done = Result<(), Undone>;

/// Why a command was not done.
pub(super) enum Undone {
    /// For a reason that is still to be written.
    Untold(NotDone),
    /// Its handle leads to nothing; that is still to be written.
    NoTarget(NoTarget),
    /// The answer says why, or it could not be written.
    Answered(CommandError),
}

impl From<NotDone> for Undone {
    fn from(why: NotDone) -> Self {
        Self::Untold(why)
    }
}

impl From<NoTarget> for Undone {
    fn from(why: NoTarget) -> Self {
        Self::NoTarget(why)
    }
}

impl From<Nested> for Undone {
    fn from(why: Nested) -> Self {
        Self::Untold(why.into())
    }
}

impl From<GivenUp> for Undone {
    fn from(why: GivenUp) -> Self {
        Self::Untold(why.into())
    }
}

impl From<CommandError> for Undone {
    fn from(error: CommandError) -> Self {
        Self::Answered(error)
    }
}

impl From<fmt::Error> for Undone {
    fn from(error: fmt::Error) -> Self {
        Self::Answered(error.into())
    }
}
