//! Memory as it was at one moment, while other code goes on writing to it.

use core::fmt;

/// Words that are read at most at once of what memory held.
pub(crate) const PIECE_WORDS: usize = 64;

/// What memory held when it was frozen is not known any more: there was no room for copies of all that was written to since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLost;

impl fmt::Display for ImageLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no room for copies of all memory that was written to")
    }
}

impl core::error::Error for ImageLost {}
