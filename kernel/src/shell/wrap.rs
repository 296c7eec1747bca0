//! Breaks long lines of a command's output at blanks, for a terminal.
//!
//! A terminal breaks a line where it is full, in the middle of a word. This puts the break before the word, and indents the rest
//! below the line's first word. A word that no row has room for stays where it is. A line of JSON stays whole, so that it can be
//! copied; escape sequences take no place.
//!
//! A state machine without a console: characters go in, and come out as soon as their word is complete.

use core::fmt::{self, Write};

use arrayvec::ArrayString;

use super::escape::Escape;
use crate::console::Terminal;

/// Bytes of a word that are looked at together. A longer one is not moved.
const WORD_LEN: usize = 128;
/// How much deeper than its line the rest of it stands.
const DEEPER: usize = 2;

/// A text that is being broken into rows.
#[derive(Debug)]
pub struct Wrap {
    columns: usize,
    /// Characters of the row that have come out.
    column: usize,
    /// Blanks at the start of the line.
    indent: usize,
    /// Blanks that have not come out yet.
    blanks: usize,
    /// Characters since the last blank that have not come out yet.
    word: ArrayString<WORD_LEN>,
    /// How many of them are seen.
    word_width: usize,
    place: Place,
    escape: Escape,
}

/// Where in its line the text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before the first word.
    Start,
    /// Behind a word: here the line can be broken.
    Behind,
    /// In a line of JSON, or in or behind a word that is too long: the rest stays as it is.
    Whole,
}

impl Wrap {
    /// At the start of a row.
    pub fn new(terminal: Terminal) -> Self {
        // Stale words in it would keep blocks alive.
        let mut word = ArrayString::zero_filled();
        word.clear();
        Self {
            columns: terminal.columns.into(),
            column: 0,
            indent: 0,
            blanks: 0,
            word,
            word_width: 0,
            place: Place::Start,
            escape: Escape::Outside,
        }
    }

    /// Takes a character. What is complete by it comes out.
    pub fn put(&mut self, character: char, out: &mut dyn Write) -> fmt::Result {
        let (in_escape, next) = self.escape.after(character);
        self.escape = next;
        match character {
            '\n' => self.end_line(out),
            ' ' if !in_escape => {
                self.end_word(out)?;
                self.blanks += 1;
                Ok(())
            }
            _ => {
                let is_seen = !in_escape && !character.is_control();
                self.put_in_word(character, usize::from(is_seen), out)
            }
        }
    }

    /// What has not come out yet does.
    pub fn finish(&mut self, out: &mut dyn Write) -> fmt::Result {
        self.end_word(out)?;
        self.put_blanks(out)
    }

    fn put_in_word(&mut self, character: char, width: usize, out: &mut dyn Write) -> fmt::Result {
        let starts_line = self.place == Place::Start && self.word_width == 0;
        if starts_line && character == '{' {
            self.place = Place::Whole;
        }
        if self.word.remaining_capacity() < character.len_utf8() {
            self.place = Place::Whole;
            self.put_word(out)?;
        }
        self.word.push(character);
        self.word_width += width;
        Ok(())
    }

    fn end_line(&mut self, out: &mut dyn Write) -> fmt::Result {
        self.finish(out)?;
        (self.column, self.indent, self.place) = (0, 0, Place::Start);
        out.write_char('\n')
    }

    /// A word is complete, if there is one.
    fn end_word(&mut self, out: &mut dyn Write) -> fmt::Result {
        if self.word_width == 0 {
            // Colours change at once, wherever the next word will stand.
            return self.put_word(out);
        }
        let indent = (self.indent + DEEPER).min(self.columns / 2);
        let ends_at = self.column + self.blanks + self.word_width;
        let fits_below = indent + self.word_width <= self.columns;
        match self.place {
            Place::Start => self.indent = self.blanks,
            Place::Behind if ends_at > self.columns && fits_below => {
                out.write_char('\n')?;
                (self.column, self.blanks) = (0, indent);
            }
            Place::Behind | Place::Whole => {}
        }
        self.put_word(out)?;
        if self.place == Place::Start {
            self.place = Place::Behind;
        }
        Ok(())
    }

    fn put_word(&mut self, out: &mut dyn Write) -> fmt::Result {
        if self.word_width > 0 {
            self.put_blanks(out)?;
        }
        out.write_str(&self.word)?;
        self.column += self.word_width;
        self.word_width = 0;
        self.word.clear();
        Ok(())
    }

    fn put_blanks(&mut self, out: &mut dyn Write) -> fmt::Result {
        (0..self.blanks).try_for_each(|_| out.write_char(' '))?;
        self.column += self.blanks;
        self.blanks = 0;
        Ok(())
    }
}
