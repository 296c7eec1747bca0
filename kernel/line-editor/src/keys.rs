//! Bytes become keys: UTF-8, control characters, and the escape sequences of cursor keys (ECMA-48, 5.4).
//!
//! A control character inside of an escape sequence, such as Enter after the Escape key, ends it and has its usual meaning.
//! Sequences of other keys are ignored.

/// A key, named by what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Char(char),
    /// Bytes that are not UTF-8, or a control character that has no key.
    Invalid,
    /// A key without a meaning.
    Unknown,
    Enter,
    Tab,
    Left,
    Right,
    WordLeft,
    WordRight,
    Home,
    End,
    Up,
    Down,
    /// The character before the cursor.
    Backspace,
    /// The character at the cursor.
    Delete,
    /// Control-D: as [`Key::Delete`], or on an empty line the end of the input.
    DeleteOrEnd,
    KillToEnd,
    KillToStart,
    /// What is before the cursor, back to a blank.
    KillBlankWord,
    KillWordBack,
    KillWord,
    Yank,
    Swap,
    ClearScreen,
    Search,
    /// Control-G: ends a search.
    Leave,
    /// Control-C.
    Cancel,
}

/// The keys that a byte completes: characters that it shows to be unfinished come before its own.
pub(crate) type Keys = [Option<Key>; 2];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    Outside,
    /// After ESC.
    Begun,
    /// After ESC O (SS3).
    Single,
    /// After ESC [ (CSI): parameters, until a final byte. The first two numbers so far.
    Parameters {
        numbers: [u8; 2],
        at: u8,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Previous {
    Return,
    Other,
}

/// What has come of a key so far.
#[derive(Clone, Debug)]
pub(crate) struct Decoder {
    escape: Escape,
    /// Whether the last byte was a carriage return: a line feed after it is the same key.
    previous: Previous,
    /// The beginning of a character.
    character: [u8; 4],
    len: usize,
}

impl Decoder {
    pub(crate) const fn new() -> Self {
        Self {
            escape: Escape::Outside,
            previous: Previous::Other,
            character: [0; 4],
            len: 0,
        }
    }

    pub(crate) fn byte(&mut self, byte: u8) -> Keys {
        let previous = core::mem::replace(&mut self.previous, Previous::Other);
        if byte >= 0x80 {
            self.escape = Escape::Outside;
            return self.of_character(byte);
        }
        let unfinished = (core::mem::take(&mut self.len) > 0).then_some(Key::Invalid);
        let key = match byte {
            b'\n' if previous == Previous::Return => None,
            _ if self.escape == Escape::Outside => self.plain(byte),
            // Alt and Backspace.
            0x08 | 0x7f if self.escape == Escape::Begun => {
                self.end_of_sequence(Some(Key::KillWordBack))
            }
            0..0x20 | 0x7f => {
                self.escape = Escape::Outside;
                self.plain(byte)
            }
            _ => self.in_sequence(byte),
        };
        match unfinished {
            None => [key, None],
            _ => [unfinished, key],
        }
    }

    /// A byte of a character that is not ASCII.
    fn of_character(&mut self, byte: u8) -> Keys {
        let before = self.len;
        self.character[before] = byte;
        match core::str::from_utf8(&self.character[..before + 1]) {
            Ok(text) => {
                self.len = 0;
                let character = text
                    .chars()
                    .next()
                    .filter(|character| !character.is_control());
                [Some(character.map_or(Key::Invalid, Key::Char)), None]
            }
            Err(error) if error.error_len().is_none() => {
                self.len += 1;
                [None, None]
            }
            // The byte does not continue what was there, but may begin a character itself.
            Err(_) if before > 0 => {
                self.len = 0;
                [Some(Key::Invalid), self.of_character(byte)[0]]
            }
            Err(_) => [Some(Key::Invalid), None],
        }
    }

    fn plain(&mut self, byte: u8) -> Option<Key> {
        Some(match byte {
            b' '..=b'~' => Key::Char(char::from(byte)),
            b'\r' => {
                self.previous = Previous::Return;
                Key::Enter
            }
            b'\n' => Key::Enter,
            b'\t' => Key::Tab,
            0x1b => {
                self.escape = Escape::Begun;
                return None;
            }
            0x08 | 0x7f => Key::Backspace,
            // Control and a letter.
            0x01..=0x1a => return Some(control(byte + 0x60)),
            _ => Key::Unknown,
        })
    }

    fn in_sequence(&mut self, byte: u8) -> Option<Key> {
        match self.escape {
            Escape::Begun => match byte {
                b'[' => {
                    self.escape = Escape::Parameters {
                        numbers: [0; 2],
                        at: 0,
                    };
                    None
                }
                b'O' => {
                    self.escape = Escape::Single;
                    None
                }
                b'b' => self.end_of_sequence(Some(Key::WordLeft)),
                b'f' => self.end_of_sequence(Some(Key::WordRight)),
                b'd' => self.end_of_sequence(Some(Key::KillWord)),
                _ => self.end_of_sequence(None),
            },
            Escape::Parameters { numbers, at } if !(0x40..=0x7e).contains(&byte) => {
                self.escape = parameter(numbers, at, byte);
                None
            }
            Escape::Parameters { numbers, .. } => self.end_of_sequence(cursor_key(byte, numbers)),
            Escape::Single | Escape::Outside => self.end_of_sequence(cursor_key(byte, [0; 2])),
        }
    }

    fn end_of_sequence(&mut self, key: Option<Key>) -> Option<Key> {
        self.escape = Escape::Outside;
        key
    }
}

/// The parameters with one more byte of them.
fn parameter(mut numbers: [u8; 2], mut at: u8, byte: u8) -> Escape {
    match (byte, numbers.get_mut(usize::from(at))) {
        (b'0'..=b'9', Some(number)) => {
            *number = number.saturating_mul(10).saturating_add(byte - b'0');
        }
        (b';', _) => at = at.saturating_add(1),
        _ => {}
    }
    Escape::Parameters { numbers, at }
}

/// The key of a sequence by its final byte. The second number says which other keys are held: 3 is Alt, 5 is Control.
fn cursor_key(last: u8, numbers: [u8; 2]) -> Option<Key> {
    let by_word = matches!(numbers[1], 3 | 5);
    Some(match (last, numbers[0]) {
        (b'A', _) => Key::Up,
        (b'B', _) => Key::Down,
        (b'C', _) if by_word => Key::WordRight,
        (b'D', _) if by_word => Key::WordLeft,
        (b'C', _) => Key::Right,
        (b'D', _) => Key::Left,
        (b'H', _) | (b'~', 1 | 7) => Key::Home,
        (b'F', _) | (b'~', 4 | 8) => Key::End,
        (b'~', 3) => Key::Delete,
        _ => return None,
    })
}

fn control(letter: u8) -> Key {
    match letter {
        b'a' => Key::Home,
        b'b' => Key::Left,
        b'c' => Key::Cancel,
        b'd' => Key::DeleteOrEnd,
        b'e' => Key::End,
        b'f' => Key::Right,
        b'g' => Key::Leave,
        b'k' => Key::KillToEnd,
        b'l' => Key::ClearScreen,
        b'n' => Key::Down,
        b'p' => Key::Up,
        b'r' => Key::Search,
        b't' => Key::Swap,
        b'u' => Key::KillToStart,
        b'w' => Key::KillBlankWord,
        b'y' => Key::Yank,
        _ => Key::Unknown,
    }
}
