//! What the screen shows of the line, and how it is brought up to date.
//!
//! # On a terminal
//!
//! The text fills rows of the terminal's width. Where the last character fills a row, the cursor is sent on to the next one, since
//! terminals differ in where they leave it. A character of two columns that no longer fits into a row leaves a blank there. If the
//! text has more rows than the terminal, a *window* of it is shown, which begins as early as the cursor's row allows. All moves are relative to the
//! window's first row, so it does not matter where on the screen that is, and that the screen scrolls.
//!
//! # On a plain line
//!
//! There is one endless row, and no escape sequence is written: to move left takes backspaces, to move right the
//! characters themselves, and to erase takes blanks.

use core::fmt::{self, Write};

use unicode_width::UnicodeWidthChar;

use crate::line::Changed;

/// The size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Characters in a row. Fewer than two are taken for two.
    pub columns: u16,
    /// Rows of the screen. None are taken for one.
    pub rows: u16,
}

/// What is to be shown: these texts one behind the other, with the cursor at that byte of them.
#[derive(Clone, Copy)]
pub(crate) struct Content<'c> {
    pub(crate) parts: [&'c str; 4],
    pub(crate) cursor: usize,
}

/// A place on the screen: a row of the text, and a column. Only what was just written may end at the column behind the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    row: usize,
    column: usize,
}

const ORIGIN: Place = Place { row: 0, column: 0 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Below {
    Empty,
    Text,
}

/// How far the text is shown.
#[derive(Clone, Debug)]
pub(crate) struct Screen {
    terminal: Option<Terminal>,
    /// Where the cursor is.
    at: Place,
    /// The first row of the window.
    first: usize,
    /// Whether the rows from the cursor on are empty.
    below: Below,
    /// On a plain line: the byte at the cursor.
    byte: usize,
    /// On a plain line: how many columns are in use.
    used: usize,
}

impl Screen {
    pub(crate) const fn new() -> Self {
        Self {
            terminal: None,
            at: ORIGIN,
            first: 0,
            below: Below::Empty,
            byte: 0,
            used: 0,
        }
    }

    pub(crate) fn set_terminal(&mut self, terminal: Option<Terminal>) {
        self.terminal = terminal;
    }

    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// Notes that the cursor is at the start of an empty row.
    pub(crate) fn forget(&mut self) {
        (self.at, self.first, self.below) = (ORIGIN, 0, Below::Empty);
        (self.byte, self.used) = (0, 0);
    }

    /// Leaves no trace of the text on a terminal. On a plain line what comes next begins on a new line.
    pub(crate) fn erase(&mut self, out: &mut dyn Write) -> fmt::Result {
        match self.terminal {
            Some(_) => {
                self.go(
                    Place {
                        row: self.first,
                        column: 0,
                    },
                    out,
                )?;
                out.write_str("\x1b[J")?;
            }
            None => out.write_str("\n")?,
        }
        self.forget();
        Ok(())
    }

    /// Begins a new line below the text, whose end must be where the cursor is.
    pub(crate) fn finish(&mut self, out: &mut dyn Write) -> fmt::Result {
        // Where the text fills its last row, the cursor is on a new line already.
        if self.terminal.is_none() || self.at.row == 0 || self.at.column > 0 {
            out.write_str("\n")?;
        }
        self.forget();
        Ok(())
    }

    /// Clears the terminal. On a plain line what comes next begins on a new line.
    pub(crate) fn clear(&mut self, out: &mut dyn Write) -> fmt::Result {
        match self.terminal {
            Some(_) => out.write_str("\x1b[H\x1b[2J")?,
            None => out.write_str("\n")?,
        }
        self.forget();
        Ok(())
    }

    /// Shows the text, of which that has changed since the last time.
    pub(crate) fn draw(
        &mut self,
        text: &Content<'_>,
        changed: Changed,
        out: &mut dyn Write,
    ) -> fmt::Result {
        match self.terminal {
            Some(terminal) => self.draw_rows(text, changed, terminal, out),
            None => self.draw_plain(text, changed, out),
        }
    }

    fn draw_rows(
        &mut self,
        text: &Content<'_>,
        changed: Changed,
        terminal: Terminal,
        out: &mut dyn Write,
    ) -> fmt::Result {
        let (columns, rows) = (terminal.width(), terminal.height());
        let cursor = text.place(text.cursor, columns);
        let first = (cursor.row + 1).saturating_sub(rows);
        let top = |first| Place {
            row: first,
            column: 0,
        };
        let from = match changed {
            _ if first != self.first => Some(0),
            Changed::All => Some(0),
            Changed::From(from) => Some(from),
            Changed::Cursor => None,
        };
        if let Some(from) = from {
            if first == self.first {
                self.go(text.start(from, columns).max(top(first)), out)?;
            } else {
                self.go(top(self.first), out)?;
                // The old window begins where the new one does.
                (self.first, self.at) = (first, top(first));
            }
            if core::mem::replace(&mut self.below, Below::Text) == Below::Text {
                out.write_str("\x1b[J")?;
            }
            self.write_rows(text, from, terminal, out)?;
        }
        self.go(cursor, out)
    }

    /// Writes what the window shows of the text from this byte on; the cursor is where that begins.
    fn write_rows(
        &mut self,
        text: &Content<'_>,
        from: usize,
        terminal: Terminal,
        out: &mut dyn Write,
    ) -> fmt::Result {
        let (columns, window) = (terminal.width(), self.first..self.first + terminal.height());
        let (mut end, mut passed) = (ORIGIN, 0);
        for character in text.characters() {
            let is_new = passed >= from;
            passed += character.len_utf8();
            let before = end;
            end = before.behind(character, columns);
            // What does not fit into its row leaves a blank there.
            if is_new
                && end.row > before.row
                && before.column < columns
                && window.contains(&before.row)
            {
                out.write_char(' ')?;
                self.at = Place {
                    column: columns,
                    ..before
                };
            }
            if is_new && window.contains(&end.row) {
                out.write_char(character)?;
                self.at = end;
            }
        }
        if self.at.column == columns && window.contains(&(self.at.row + 1)) {
            out.write_str(" \r\x1b[K")?;
            self.at = Place {
                row: self.at.row + 1,
                column: 0,
            };
        }
        Ok(())
    }

    /// Moves the terminal's cursor to a place that is shown.
    fn go(&mut self, to: Place, out: &mut dyn Write) -> fmt::Result {
        let at = core::mem::replace(&mut self.at, to);
        if at == to {
            return Ok(());
        }
        match at.row.abs_diff(to.row) {
            0 => {}
            rows if to.row < at.row => write!(out, "\x1b[{rows}A")?,
            rows => write!(out, "\x1b[{rows}B")?,
        }
        // One that waits behind the last column is in no column.
        match to.column {
            column if column == at.column => Ok(()),
            0 => out.write_char('\r'),
            column => write!(out, "\r\x1b[{column}C"),
        }
    }

    fn draw_plain(
        &mut self,
        text: &Content<'_>,
        changed: Changed,
        out: &mut dyn Write,
    ) -> fmt::Result {
        let (from, to) = match changed {
            Changed::All => (0, text.len()),
            Changed::From(from) => (from.min(self.byte), text.len()),
            // The characters that the cursor moves over.
            Changed::Cursor => (text.cursor.min(self.byte), text.cursor),
        };
        self.step_back(text.column(from), out)?;
        let mut passed = 0;
        for character in text.characters() {
            if (from..to).contains(&passed) {
                out.write_char(character)?;
                self.at.column += width(character);
            }
            passed += character.len_utf8();
        }
        if changed != Changed::Cursor {
            let used = core::mem::replace(&mut self.used, self.at.column);
            while self.at.column < used {
                out.write_char(' ')?;
                self.at.column += 1;
            }
        }
        self.byte = text.cursor;
        self.step_back(text.column(text.cursor), out)
    }

    /// Moves left to that column, if the cursor is right of it.
    fn step_back(&mut self, column: usize, out: &mut dyn Write) -> fmt::Result {
        while self.at.column > column {
            out.write_char('\x08')?;
            self.at.column -= 1;
        }
        Ok(())
    }
}

impl Place {
    /// Where a character ends that is written here.
    fn behind(self, character: char, columns: usize) -> Self {
        let width = width(character);
        match self.column + width > columns {
            true => Self {
                row: self.row + 1,
                column: width,
            },
            false => Self {
                column: self.column + width,
                ..self
            },
        }
    }
}

impl Terminal {
    fn width(self) -> usize {
        usize::from(self.columns.max(2))
    }

    fn height(self) -> usize {
        usize::from(self.rows.max(1))
    }
}

impl<'c> Content<'c> {
    pub(crate) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }

    fn characters(&self) -> impl Iterator<Item = char> + use<'c> {
        self.parts.into_iter().flat_map(str::chars)
    }

    /// Where what stands before this byte ends, and the character behind it.
    fn end_before(&self, byte: usize, columns: usize) -> (Place, Option<char>) {
        let (mut end, mut passed) = (ORIGIN, 0);
        for character in self.characters() {
            if passed >= byte {
                return (end, Some(character));
            }
            passed += character.len_utf8();
            end = end.behind(character, columns);
        }
        (end, None)
    }

    /// Where the cursor stands at this byte.
    fn place(&self, byte: usize, columns: usize) -> Place {
        let (end, next) = self.end_before(byte, columns);
        let width = next.map_or(1, width).max(1);
        match end.column + width > columns {
            true => Place {
                row: end.row + 1,
                column: 0,
            },
            false => end,
        }
    }

    /// On a plain line: the column of this byte.
    fn column(&self, byte: usize) -> usize {
        self.end_before(byte, usize::MAX).0.column
    }

    /// From where on the screen changes if the text does from this byte on. What stood there before may have fitted into the row.
    fn start(&self, byte: usize, columns: usize) -> Place {
        let (end, _) = self.end_before(byte, columns);
        match end.column >= columns {
            true => Place {
                row: end.row + 1,
                column: 0,
            },
            false => end,
        }
    }
}

/// How many columns a character takes.
pub(crate) fn width(character: char) -> usize {
    character.width().unwrap_or(0)
}
