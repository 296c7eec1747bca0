//! Escape sequences (ECMA-48, 5.4) in a text, which set colours and take no place on the screen.

/// Where a text is in an escape sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    Outside,
    /// After ESC.
    Begun,
    /// After ESC and `[`, until a final byte.
    Parameters,
}

impl Escape {
    /// Whether a character belongs to the sequence, and where the text is then.
    pub fn after(self, character: char) -> (bool, Self) {
        match (self, character) {
            (_, '\x1b') => (true, Self::Begun),
            (Self::Outside, _) => (false, Self::Outside),
            (Self::Begun, '[') => (true, Self::Parameters),
            (Self::Parameters, '\x20'..='\x3f') => (true, Self::Parameters),
            (Self::Begun | Self::Parameters, _) => (true, Self::Outside),
        }
    }
}
