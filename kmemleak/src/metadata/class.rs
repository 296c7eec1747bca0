//! The sizes of pieces.

use crate::metadata::WORD;

pub(super) const CLASSES: usize = 8;

/// The words of a piece of each class.
const WORDS: [usize; CLASSES] = [4, 7, 8, 14, 28, 56, 112, 224];

/// A size of pieces, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class(usize);

impl Class {
    /// The class of the side table's notes: 64 bytes.
    pub(crate) const NOTE: Self = Self(2);

    /// The largest: 1792 bytes.
    pub(crate) const LARGEST: Self = Self(CLASSES - 1);

    /// The class for `1 << log2` records, of 28 bytes each.
    pub(crate) const fn records(log2: u32) -> Self {
        Self(if log2 < 2 {
            log2 as usize
        } else {
            log2 as usize + 1
        })
    }

    /// The smallest class of at least so many bytes.
    pub(super) const fn smallest_for(bytes: usize) -> Option<Self> {
        let mut class = 0;
        while class < CLASSES {
            if Self(class).bytes() >= bytes {
                return Some(Self(class));
            }
            class += 1;
        }
        None
    }

    /// The largest class of no more than so many words.
    pub(super) fn largest_within(words: usize) -> Option<Self> {
        let smaller = WORDS.iter().take_while(|&&class| class <= words);
        smaller.count().checked_sub(1).map(Self)
    }

    pub(super) const fn number(self) -> usize {
        self.0
    }

    pub(crate) const fn words(self) -> usize {
        WORDS[self.0]
    }

    pub(crate) const fn bytes(self) -> usize {
        self.words() * WORD
    }
}
