//! Text that is cut where there is no more room for it.

use core::fmt::{self, Display, Write};

/// The sign for what has no room.
const CUT: char = '\u{2026}';

/// So many letters of a text at most; the last is a sign for the others, where there are more.
pub(super) struct Clipped<const COLUMNS: usize> {
    letters: [char; COLUMNS],
    len: usize,
}

impl<const COLUMNS: usize> Clipped<COLUMNS> {
    pub(super) const fn new() -> Self {
        Self {
            letters: ['\0'; COLUMNS],
            len: 0,
        }
    }

    pub(super) fn of(text: &dyn Display) -> Self {
        let mut clipped = Self::new();
        // It takes all that is written.
        let _ = write!(clipped, "{text}");
        clipped
    }

    /// How many letters there are.
    pub(super) fn columns(&self) -> usize {
        self.len
    }
}

impl<const COLUMNS: usize> Write for Clipped<COLUMNS> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            if let Some(free) = self.letters.get_mut(self.len) {
                *free = letter;
                self.len += 1;
            } else if let Some(last) = self.letters.last_mut() {
                *last = CUT;
                break;
            }
        }
        Ok(())
    }
}

impl<const COLUMNS: usize> Display for Clipped<COLUMNS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut letters = self.letters[..self.len].iter();
        letters.try_for_each(|letter| f.write_char(*letter))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;

    use super::*;

    #[test]
    fn text_is_cut_to_its_columns() {
        for (text, shown) in [
            ("Node", "Node"),
            ("ABCDEFGHIJ", "ABCDEFGHIJ"),
            ("ABCDEFGHIJK", "ABCDEFGHI\u{2026}"),
            ("ééééééééééééé", "ééééééééé\u{2026}"),
            ("", ""),
        ] {
            let mut letter_by_letter = Clipped::<10>::new();
            let mut letters = text.chars();
            assert!(letters.all(|letter| letter_by_letter.write_char(letter).is_ok()));
            assert_eq!(format!("{letter_by_letter}"), shown);
            assert_eq!(format!("{}", Clipped::<10>::of(&text)), shown);
        }
    }
}
