//! Handles as text, and why one leads to nothing.

use core::fmt::{self, Display, Formatter};

use crate::checker::numbers::NoTarget;
use crate::verdict::handles::ShortHandle;

impl Display for ShortHandle {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// A value in a column.
pub(super) struct OrDash<T>(pub(super) Option<T>);

impl<T: Display> Display for OrDash<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("-"),
        }
    }
}

/// A handle behind what it stands for.
pub(super) struct Numbered(pub(super) Option<ShortHandle>);

impl Display for Numbered {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(handle) => write!(f, ", {handle}"),
            None => Ok(()),
        }
    }
}

/// A handle before what it stands for.
pub(super) struct Leading(pub(super) Option<ShortHandle>);

impl Display for Leading {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(handle) => write!(f, "{handle} "),
            None => Ok(()),
        }
    }
}

impl Display for NoTarget {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoneGiven => f.write_str(
                "nothing has a number yet: `scan`, `report`, `objects` and `sites` give numbers to what they list",
            ),
            Self::Beyond { asked, last: 1 } => write!(f, "no {asked}: only #1 has been listed"),
            Self::Beyond { asked, last } => {
                write!(f, "no {asked}: #1 to #{last} have been listed")
            }
            Self::Freed { asked, start } => {
                write!(f, "{asked} was object {:#018x}, which has been freed since", start.get())
            }
            Self::NoneLeft(asked) => write!(
                f,
                "{asked} is a call stack, and the last check lists nothing of it that is still there: `site {asked}` shows what is alive",
            ),
        }
    }
}
