//! A column of a table with the types of blocks. It is left out where no line of the table has a type.

use core::fmt::{self, Display, Write};

use super::block_type::BlockType;
use super::clipped::Clipped;
use super::columns::Left;
use super::style::{Ink, Style};
use crate::platform::Platform;
use crate::tracker::Tracker;

/// Columns of a type at most; of a longer one the end is left out.
const COLUMNS: usize = 20;
type Cell = Clipped<COLUMNS>;
/// What stands over it.
const HEADING: &str = "type";

/// The column: as wide as the widest type that was looked at, or left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TypeColumn {
    /// Zero where no line has a type.
    columns: usize,
}

impl TypeColumn {
    /// Of a table of which no line has been looked at.
    pub(super) const NEW: Self = Self { columns: 0 };

    /// Looks at a line that will be shown, by its call stack. May sleep: task context.
    pub(super) fn look<P: Platform>(&mut self, tracker: &Tracker<P>, addresses: &[usize]) {
        if let Some(block_type) = BlockType::of(tracker, addresses) {
            let columns = Cell::of(&block_type.short()).columns();
            self.columns = self.columns.max(columns).max(HEADING.len());
        }
    }

    /// What stands over it, and behind that.
    pub(super) fn heading(self) -> impl Display {
        TypeHeading(self)
    }

    /// Writes the type of what a call stack allocated, and what stands behind the column. May sleep: task context.
    pub(super) fn write<P: Platform>(
        self,
        tracker: &Tracker<P>,
        addresses: &[usize],
        out: &mut dyn Write,
    ) -> fmt::Result {
        let columns @ 1.. = self.columns else {
            return Ok(());
        };
        let cell = match BlockType::of(tracker, addresses) {
            Some(block_type) => Cell::of(&block_type.short()),
            None => Cell::of(&"-"),
        };
        let style = Style::of(tracker);
        write!(out, "{} ", style.paint(Ink::Type, Left(columns, cell)))
    }
}

/// What stands over a column.
struct TypeHeading(TypeColumn);

impl Display for TypeHeading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.columns {
            0 => Ok(()),
            columns => write!(f, "{HEADING:columns$} "),
        }
    }
}
