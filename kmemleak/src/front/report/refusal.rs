//! Why there is no answer: a text for people, and a code for programs, which stays the same when the words get better.

use core::fmt::{self, Display, Formatter};

use crate::checker::claim::NotDone;
use crate::checker::numbers::NoTarget;
use crate::checker::references::NoAnswer;
use crate::checker::tasks::NoTasks;
use crate::verdict::suppress::SuppressError;

/// A reason, with its code: one of those that `FORMATS.md` lists.
pub(in crate::front) trait Refusal: Display {
    fn code(&self) -> &'static str;
}

impl Refusal for NotDone {
    fn code(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Stopped => "stopped",
            Self::Nested => "nested",
            Self::NoMemory => "no_memory",
            Self::NoMark => "no_mark",
        }
    }
}

impl Refusal for NoTarget {
    fn code(&self) -> &'static str {
        match self {
            Self::NoneGiven | Self::Beyond { .. } => "no_such_number",
            Self::Freed { .. } => "freed",
            Self::NoneLeft(_) => "none_left",
        }
    }
}

impl Refusal for NoAnswer {
    fn code(&self) -> &'static str {
        match self {
            Self::NoObject => "no_object",
            Self::Unreached => "unreached",
            Self::IsRoot => "is_root",
            Self::Acknowledged => "acknowledged",
            Self::InRoot => "in_root",
            Self::InFlight => "in_flight",
            Self::NoMemory => NotDone::NoMemory.code(),
            Self::Stopped => NotDone::Stopped.code(),
            Self::Off => NotDone::Off.code(),
            Self::Nested => NotDone::Nested.code(),
        }
    }
}

impl Refusal for NoTasks {
    fn code(&self) -> &'static str {
        match self {
            Self::NotDone(why) => why.code(),
            Self::Unstopped(_) => "unstopped",
        }
    }
}

impl Refusal for SuppressError {
    fn code(&self) -> &'static str {
        match self {
            Self::Empty | Self::Ceiling => "invalid_value",
            Self::NoMemory => NotDone::NoMemory.code(),
            Self::Nested => NotDone::Nested.code(),
        }
    }
}

/// A code, and a text that is made where the reason is known.
pub(in crate::front) struct Because<T>(pub(in crate::front) &'static str, pub(in crate::front) T);

impl<T: Display> Display for Because<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.1.fmt(f)
    }
}

impl<T: Display> Refusal for Because<T> {
    fn code(&self) -> &'static str {
        self.0
    }
}

/// There is no verdict to report.
pub(super) const NO_CHECK: Because<&str> =
    Because("no_check", "no check so far, or none since the last clear");
