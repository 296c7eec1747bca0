//! The line editor: bytes in, edits out.
//!
//! A state machine without a console: it takes the input a byte at a time and returns what is to be
//! echoed and when a line is complete. Escape sequences, as of arrow keys, are ignored. A control character
//! inside of one, such as Enter after the Escape key, ends it and has its usual meaning.
//!
//! # Invariants
//!
//! A line is taken as it was typed, or not at all. Characters that do not fit are counted, and while there are any, the line
//! can be shortened or given up, but not completed. Bytes that are not ASCII are counted, too: a line with them can only be
//! given up, since the screen does not show where they were. Other control characters are ignored; a tab is a blank.

use arrayvec::ArrayString;

/// Bytes of the longest line.
pub const LINE_LEN: usize = 1024;

/// What a typed byte has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Nothing that is shown.
    None,
    /// The character was added.
    Insert(char),
    /// The last character was removed.
    Erase,
    /// This many characters were removed: the whole line, or its last word.
    EraseMany(usize),
    /// The line was given up.
    Cancel,
    /// The line is complete; take it by [`Editor::take`].
    Complete,
    /// The byte is not added: the line is full, or the byte is not ASCII. Or no word is removed, since the line is too long.
    Full,
    /// The completed line had this many bytes, more than [`LINE_LEN`]. It was discarded.
    TooLong(usize),
    /// The completed line had this many bytes that are not ASCII. It was discarded.
    Foreign(usize),
    /// The end of the input.
    End,
}

/// Where the editor is in an escape sequence (ECMA-48, 5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    Outside,
    /// After ESC.
    Begun,
    /// After ESC and `[` or `O`: parameters, until a final byte.
    Parameters,
}

/// A line being typed.
#[derive(Debug)]
pub struct Editor {
    line: ArrayString<LINE_LEN>,
    /// Number of characters after the line that did not fit.
    excess: usize,
    /// Number of typed bytes of the line that are not ASCII.
    foreign: usize,
    escape: Escape,
    /// Whether the last byte was a carriage return, which ended a line: a line feed after it is ignored.
    after_return: AfterReturn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterReturn {
    No,
    Yes,
}

impl Editor {
    /// An empty line.
    pub fn new() -> Self {
        // In cleared memory: it stays on a stack, and the leak detector would take stale words there for pointers.
        let mut line = ArrayString::zero_filled();
        line.clear();
        Self {
            line,
            excess: 0,
            foreign: 0,
            escape: Escape::Outside,
            after_return: AfterReturn::No,
        }
    }

    /// What has been typed of the line so far.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// Takes the complete line and begins the next one.
    pub fn take(&mut self) -> ArrayString<LINE_LEN> {
        let line = self.line;
        self.line.clear();
        line
    }

    /// Takes a typed byte.
    pub fn byte(&mut self, byte: u8) -> Edit {
        if self.is_in_escape(byte) {
            return Edit::None;
        }
        let after_return = core::mem::replace(&mut self.after_return, AfterReturn::No);
        match byte {
            b'\r' => {
                self.after_return = AfterReturn::Yes;
                self.complete()
            }
            b'\n' if after_return == AfterReturn::Yes => Edit::None,
            b'\n' => self.complete(),
            // Backspace, delete.
            0x08 | 0x7f => self.erase(),
            // Control-C.
            0x03 => {
                self.give_up();
                Edit::Cancel
            }
            // Control-D, on an empty line.
            0x04 if self.line.is_empty() && self.foreign == 0 => Edit::End,
            b'\t' => self.insert(' '),
            // Control-U.
            0x15 => {
                (self.excess, self.foreign) = (0, 0);
                self.erase_to(0)
            }
            // Control-W. The characters that did not fit are not kept, so it is not known where the last word begins.
            0x17 if self.excess > 0 => Edit::Full,
            0x17 => {
                let word = self.line.trim_end();
                self.erase_to(word.rfind(' ').map_or(0, |blank| blank + 1))
            }
            0x1b => {
                self.escape = Escape::Begun;
                Edit::None
            }
            b' '..=b'~' => self.insert(char::from(byte)),
            0x80.. => {
                self.foreign += 1;
                Edit::Full
            }
            _ => Edit::None,
        }
    }

    /// Whether the byte belongs to an escape sequence that has begun.
    fn is_in_escape(&mut self, byte: u8) -> bool {
        let ends = match self.escape {
            Escape::Outside => return false,
            _ if byte.is_ascii_control() && byte != 0x7f => {
                self.escape = Escape::Outside;
                return false;
            }
            Escape::Begun => !matches!(byte, b'[' | b'O'),
            Escape::Parameters => (0x40..=0x7e).contains(&byte),
        };
        self.escape = if ends {
            Escape::Outside
        } else {
            Escape::Parameters
        };
        true
    }

    fn insert(&mut self, character: char) -> Edit {
        if self.line.try_push(character).is_err() {
            self.excess += 1;
            return Edit::Full;
        }
        Edit::Insert(character)
    }

    fn erase(&mut self) -> Edit {
        if self.excess > 0 {
            self.excess -= 1;
            return Edit::None;
        }
        self.line.pop().map_or(Edit::None, |_| Edit::Erase)
    }

    fn complete(&mut self) -> Edit {
        let refused = match (self.foreign, self.excess) {
            (0, 0) => return Edit::Complete,
            (0, excess) => Edit::TooLong(self.line.len() + excess),
            (foreign, _) => Edit::Foreign(foreign),
        };
        self.give_up();
        refused
    }

    fn give_up(&mut self) {
        self.line.clear();
        (self.excess, self.foreign) = (0, 0);
    }

    fn erase_to(&mut self, len: usize) -> Edit {
        let erased = self.line.len() - len;
        self.line.truncate(len);
        if erased == 0 {
            Edit::None
        } else {
            Edit::EraseMany(erased)
        }
    }
}

impl Default for Editor {
    fn default() -> Self {
        Self::new()
    }
}
