//! The line being typed, and what the keys do to it.
//!
//! A change returns where the text differs from then on, which is as far as the screen must be drawn again.

use core::ops::Range;

use unicode_width::UnicodeWidthChar;

use crate::text::{Full, Text};

/// Text with a cursor, which lies between characters.
#[derive(Clone, Debug)]
pub(crate) struct Line<const N: usize> {
    text: Text<N>,
    cursor: usize,
}

/// What a change leaves to be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// The cursor alone.
    Cursor,
    /// The text from this byte on.
    From(usize),
    /// All, and what stands before the line.
    All,
}

/// The key does nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Useless;

pub(crate) type Change = Result<Changed, Useless>;

impl From<Full> for Useless {
    fn from(_: Full) -> Self {
        Self
    }
}

impl<const N: usize> Line<N> {
    pub(crate) const fn new() -> Self {
        Self {
            text: Text::new(),
            cursor: 0,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        self.text.as_str()
    }

    pub(crate) fn cursor(&self) -> usize {
        self.cursor
    }

    pub(crate) fn before_cursor(&self) -> &str {
        &self.as_str()[..self.cursor]
    }

    fn behind_cursor(&self) -> &str {
        &self.as_str()[self.cursor..]
    }

    pub(crate) fn is_before_blank(&self) -> bool {
        self.behind_cursor().starts_with(' ')
    }

    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.cursor = 0;
    }

    /// Replaces all text by this, with the cursor at its end; changes nothing if it does not fit.
    pub(crate) fn set(&mut self, text: &str) -> Result<(), Full> {
        self.text.set(text)?;
        self.cursor = text.len();
        Ok(())
    }

    /// Replaces a range and puts the cursor behind what is new.
    fn replace(&mut self, range: Range<usize>, with: &str) -> Change {
        let (start, was_joined) = (range.start, self.is_joined(range.start));
        self.text.replace(range, with)?;
        self.cursor = start + with.len();
        // A mark is drawn on the character before it, which then must be drawn again.
        Ok(match was_joined || self.is_joined(start) {
            true => self.base_before(start).map_or(Changed::All, Changed::From),
            false => Changed::From(start),
        })
    }

    /// Whether the character there is a mark on the one before it.
    fn is_joined(&self, at: usize) -> bool {
        let next = self.as_str()[at..].chars().next();
        next.is_some_and(is_mark)
    }

    fn base_before(&self, at: usize) -> Option<usize> {
        let before = self.as_str()[..at].char_indices();
        let base = before.rev().find(|(_, character)| !is_mark(*character));
        base.map(|(at, _)| at)
    }

    pub(crate) fn insert(&mut self, text: &str) -> Result<Changed, Full> {
        self.replace(self.cursor..self.cursor, text)
            .map_err(|Useless| Full)
    }

    /// Moves the cursor.
    pub(crate) fn go(&mut self, to: usize) -> Change {
        match core::mem::replace(&mut self.cursor, to) == to {
            true => Err(Useless),
            false => Ok(Changed::Cursor),
        }
    }

    /// Takes a range out.
    pub(crate) fn remove(&mut self, range: Range<usize>) -> Change {
        match range.is_empty() {
            true => Err(Useless),
            false => self.replace(range, ""),
        }
    }

    /// Takes a range out and keeps it in `killed`.
    pub(crate) fn kill(&mut self, range: Range<usize>, killed: &mut Text<N>) -> Change {
        if range.is_empty() {
            return Err(Useless);
        }
        killed.set(&self.as_str()[range.clone()])?;
        self.remove(range)
    }

    /// Exchanges the characters on both sides of the cursor, or at the end of the line those before it.
    pub(crate) fn swap(&mut self) -> Change {
        let second = match self.cursor == self.text.len() {
            true => self.left(),
            false => self.cursor,
        };
        let before = &self.as_str()[..second];
        let first = before.char_indices().next_back().ok_or(Useless)?.0;
        let end = self.as_str()[second..]
            .chars()
            .next()
            .ok_or(Useless)?
            .len_utf8()
            + second;
        let (mut swapped, text) = (Text::<8>::new(), self.as_str());
        swapped.push(&text[second..end])?;
        swapped.push(&text[first..second])?;
        self.replace(first..end, swapped.as_str())
    }

    /// Where the character before the cursor begins.
    pub(crate) fn left(&self) -> usize {
        let before = self.before_cursor().char_indices().next_back();
        before.map_or(0, |(at, _)| at)
    }

    /// Where the character at the cursor ends.
    pub(crate) fn right(&self) -> usize {
        self.cursor
            + self
                .behind_cursor()
                .chars()
                .next()
                .map_or(0, char::len_utf8)
    }

    pub(crate) fn end(&self) -> usize {
        self.text.len()
    }

    /// Where the word before the cursor begins, a word of letters and digits.
    pub(crate) fn word_left(&self) -> usize {
        let before = self.before_cursor();
        let word = before.trim_end_matches(|character: char| !character.is_alphanumeric());
        word.trim_end_matches(char::is_alphanumeric).len()
    }

    /// Where the word behind the cursor ends, a word of letters and digits.
    pub(crate) fn word_right(&self) -> usize {
        let behind = self.behind_cursor();
        let word = behind.trim_start_matches(|character: char| !character.is_alphanumeric());
        self.end() - word.trim_start_matches(char::is_alphanumeric).len()
    }

    /// Where the word before the cursor begins, a word of all but blanks.
    pub(crate) fn blank_word_left(&self) -> usize {
        let word = self.before_cursor().trim_end();
        word.trim_end_matches(|character: char| !character.is_whitespace())
            .len()
    }
}

fn is_mark(character: char) -> bool {
    character.width() == Some(0)
}
