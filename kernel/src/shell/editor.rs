//! The line editor: bytes in, edits out.
//!
//! A state machine that knows no console: it takes what was typed a byte at a time and says what is to be
//! echoed and when a line is complete. Escape sequences of arrow keys and the like are swallowed.

use arrayvec::ArrayString;

/// Bytes of the longest line.
pub const LINE_LEN: usize = 128;

/// What a byte has brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Nothing to be seen.
    None,
    /// The character was added.
    Insert(char),
    /// The last character was taken away.
    Erase,
    /// So many characters were taken away: the whole line, or its last word.
    EraseMany(usize),
    /// The line was given up.
    Cancel,
    /// The line is complete; take it by [`Editor::take`].
    Complete,
    /// The line is as long as it may be: the character was refused.
    Full,
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
    escape: Escape,
    /// The last byte ended a line by a carriage return: a line feed after it belongs to it.
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
        // In cleared memory: it lies on a stack for good, and stale words there would seem to be pointers.
        let mut line = ArrayString::zero_filled();
        line.clear();
        Self {
            line,
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

    /// One byte was typed.
    pub fn byte(&mut self, byte: u8) -> Edit {
        match self.escape {
            Escape::Outside => {}
            Escape::Begun => {
                self.escape = if matches!(byte, b'[' | b'O') {
                    Escape::Parameters
                } else {
                    Escape::Outside
                };
                return Edit::None;
            }
            Escape::Parameters => {
                if (0x40..=0x7e).contains(&byte) {
                    self.escape = Escape::Outside;
                }
                return Edit::None;
            }
        }
        let after_return = core::mem::replace(&mut self.after_return, AfterReturn::No);
        match byte {
            b'\r' => {
                self.after_return = AfterReturn::Yes;
                Edit::Complete
            }
            b'\n' if after_return == AfterReturn::Yes => Edit::None,
            b'\n' => Edit::Complete,
            // Backspace, delete.
            0x08 | 0x7f => self.line.pop().map_or(Edit::None, |_| Edit::Erase),
            // Control-C.
            0x03 => {
                self.line.clear();
                Edit::Cancel
            }
            // Control-U.
            0x15 => self.erase_to(0),
            // Control-W.
            0x17 => {
                let word = self.line.trim_end();
                self.erase_to(word.rfind(' ').map_or(0, |blank| blank + 1))
            }
            0x1b => {
                self.escape = Escape::Begun;
                Edit::None
            }
            b' '..=b'~' => match self.line.try_push(char::from(byte)) {
                Ok(()) => Edit::Insert(char::from(byte)),
                Err(_) => Edit::Full,
            },
            _ => Edit::None,
        }
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
