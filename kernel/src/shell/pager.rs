//! The pager: where on the screen a text stands, and when the screen is full.
//!
//! A state machine without a console. Lines that are longer than the screen is wide take several rows; escape sequences (ECMA-48,
//! 5.4), which set colours, take no place. Other control characters are taken as such that do not move the cursor.

use super::escape::Escape;
use crate::console::Terminal;

/// What stands before a character can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// The screen is full: the user is asked.
    Stop,
    /// The screen is full, in the middle of a line, which goes on in the next row: the user is asked there.
    StopInLine,
}

/// A screen that a text is written to.
#[derive(Debug)]
pub struct Page {
    columns: usize,
    /// Rows that are written before it is full: the last one is for the question.
    rows: usize,
    column: usize,
    row: usize,
    escape: Escape,
}

impl Page {
    /// An empty screen.
    pub fn new(terminal: Terminal) -> Self {
        Self {
            columns: terminal.columns.into(),
            rows: usize::from(terminal.rows).saturating_sub(1).max(1),
            column: 0,
            row: 0,
            escape: Escape::Outside,
        }
    }

    /// Says what is to be done before a character is written. After the user was asked, the screen gets room by
    /// [`turn`](Self::turn).
    pub fn before(&mut self, character: char) -> Before {
        let (in_escape, _) = self.escape.after(character);
        if in_escape || (character.is_control() && character != '\n') {
            return Before::Nothing;
        }
        let wraps = character != '\n' && self.column == self.columns;
        if wraps {
            (self.column, self.row) = (0, self.row + 1);
        }
        match self.row >= self.rows && self.column == 0 {
            true if wraps => Before::StopInLine,
            true => Before::Stop,
            false => Before::Nothing,
        }
    }

    /// Takes a character as written.
    pub fn write(&mut self, character: char) {
        let (in_escape, next) = self.escape.after(character);
        self.escape = next;
        if character == '\n' {
            (self.column, self.row) = (0, self.row + 1);
        } else if !in_escape && !character.is_control() {
            self.column += 1;
        }
    }

    /// The screen has room for so many rows again, at most for all.
    pub fn turn(&mut self, rows: usize) {
        self.row = self.rows.saturating_sub(rows);
    }

    /// Rows of a screen.
    pub fn rows(&self) -> usize {
        self.rows
    }
}
