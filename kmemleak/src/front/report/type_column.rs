//! A column of a table with the types of blocks. It is left out where no line of the table has a type.

use core::fmt::{self, Display, Write};

use super::block_type::BlockType;
use super::style::{Ink, Style};
use crate::platform::Platform;
use crate::tracker::Tracker;

/// Columns of a type at most; of a longer one the end is left out.
const COLUMNS: usize = 20;
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
            let columns = Cell::of(&block_type.short()).columns.min(COLUMNS);
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
        let (style, text) = (Style::of(tracker), cell.as_str());
        write!(
            out,
            "{} ",
            style.paint(Ink::Type, format_args!("{text:columns$}"))
        )
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

/// The sign for what has no room.
const CUT: char = '\u{2026}';

/// Text that is cut where the column ends.
struct Cell {
    text: [u8; COLUMNS * 4],
    len: usize,
    columns: usize,
}

impl Cell {
    const fn new() -> Self {
        Self {
            text: [0; COLUMNS * 4],
            len: 0,
            columns: 0,
        }
    }

    fn of(text: &dyn Display) -> Self {
        let mut cell = Self::new();
        // It takes all that is written.
        let _ = write!(cell, "{text}");
        cell
    }

    fn as_str(&self) -> &str {
        core::str::from_utf8(&self.text[..self.len]).unwrap_or_default()
    }

    fn push(&mut self, letter: char) {
        let end = self.len + letter.len_utf8();
        letter.encode_utf8(&mut self.text[self.len..end]);
        self.len = end;
    }
}

impl Write for Cell {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            self.columns += 1;
            match self.columns {
                // The one before it is the last that stands there.
                beyond if beyond == COLUMNS + 1 => {
                    let last = self.as_str().char_indices().next_back();
                    self.len = last.map_or(0, |(at, _)| at);
                    self.push(CUT);
                }
                beyond if beyond > COLUMNS => {}
                _ => self.push(letter),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use core::fmt::Write;

    use super::Cell;

    #[test]
    fn a_type_is_cut_to_its_column() {
        for (text, shown) in [
            ("Node", "Node"),
            ("ABCDEFGHIJKLMNOPQRST", "ABCDEFGHIJKLMNOPQRST"),
            ("ABCDEFGHIJKLMNOPQRSTU", "ABCDEFGHIJKLMNOPQRS\u{2026}"),
            ("ééééééééééééééééééééééééé", "ééééééééééééééééééé\u{2026}"),
            ("", ""),
        ] {
            let mut cell = Cell::new();
            text.chars().for_each(|letter| {
                let _ = cell.write_char(letter);
            });
            assert_eq!(cell.as_str(), shown);
        }
    }
}
