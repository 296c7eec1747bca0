//! Leaks that are remembered, so that those which come later can be told from them.
//!
//! A chain of pieces of metadata holds the start (inverted) and the birth of each, in the order of allocation, as the
//! verdict has them: so the two are compared in one walk.

use crate::hidden::Hidden;
use crate::list::Named;
use crate::memory::{Class, Piece, Source};

const CLASS: Class = Class::LARGEST;
/// Words before the first entry; the first one is the number of entries.
const HEAD: usize = 2;
/// Entries of a piece.
const ENTRIES: usize = (CLASS.words() - HEAD) / 2;

/// The leaks of one moment. It is to be emptied before it is dropped, or its memory stays in use until all is given back.
pub(crate) struct Remembered {
    first: Hidden,
    last: Hidden,
}

/// A place in it.
#[derive(Clone, Copy)]
pub(crate) struct Cursor {
    piece: Hidden,
    index: usize,
}

impl Remembered {
    pub(crate) const fn new() -> Self {
        Self {
            first: Hidden::NONE,
            last: Hidden::NONE,
        }
    }

    /// Appends an object. False where there is no memory.
    pub(crate) fn push(&mut self, named: &Named, source: &Source<'_>) -> bool {
        let full = |piece: Piece| piece.get(0) as usize == ENTRIES;
        let piece = match Piece::at(self.last).filter(|&piece| !full(piece)) {
            Some(piece) => piece,
            None => {
                let Some(piece) = source.take(CLASS).map(Piece) else {
                    return false;
                };
                piece.set(0, 0);
                piece.set_next(Hidden::NONE);
                match Piece::at(self.last) {
                    Some(last) => last.set_next(piece.hidden()),
                    None => self.first = piece.hidden(),
                }
                self.last = piece.hidden();
                piece
            }
        };
        let index = piece.get(0) as usize;
        piece.set(HEAD + 2 * index, Hidden::new(named.start).bits());
        piece.set(HEAD + 2 * index + 1, named.record.birth_us());
        piece.set(0, index as u64 + 1);
        true
    }

    pub(crate) fn cursor(&self) -> Cursor {
        Cursor {
            piece: self.first,
            index: 0,
        }
    }

    /// Gives its memory back.
    pub(crate) fn clear(&mut self, source: &Source<'_>) {
        let mut next = self.first;
        while let Some(piece) = Piece::at(next) {
            next = piece.link();
            source.give(CLASS, piece.0);
        }
        *self = Self::new();
    }
}

impl Cursor {
    /// Whether an object is remembered. To be asked in the order of allocation.
    pub(crate) fn has(&mut self, named: &Named) -> bool {
        let wanted = (named.record.birth_us(), named.start);
        while let Some(piece) = Piece::at(self.piece) {
            while self.index < piece.get(0) as usize {
                let start = Hidden::from_bits(piece.get(HEAD + 2 * self.index)).get();
                let here = (piece.get(HEAD + 2 * self.index + 1), start);
                if here >= wanted {
                    return here == wanted;
                }
                self.index += 1;
            }
            self.piece = piece.link();
            self.index = 0;
        }
        false
    }
}
