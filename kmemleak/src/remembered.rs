//! Leaks that are remembered, so that those which come later can be told from them.
//!
//! A chain of pieces of metadata holds the start (inverted) and the birth of each, in the order of allocation, as the
//! verdict has them: so the two are compared in one walk.

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use crate::hidden::Hidden;
use crate::list::Named;
use crate::memory::{Class, Source, word_of};

const CLASS: Class = Class::LARGEST;
const NEXT: usize = 1;
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

fn get(piece: NonNull<u64>, word: usize) -> u64 {
    word_of(piece, word).load(Ordering::Relaxed)
}

fn set(piece: NonNull<u64>, word: usize, value: u64) {
    word_of(piece, word).store(value, Ordering::Relaxed);
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
        let full = |piece| get(piece, 0) as usize == ENTRIES;
        let piece = match self.last.metadata().filter(|&piece| !full(piece)) {
            Some(piece) => piece,
            None => {
                let Some(piece) = source.take(CLASS) else {
                    return false;
                };
                set(piece, 0, 0);
                set(piece, NEXT, Hidden::NONE.bits());
                let hidden = Hidden::new(piece.expose_provenance().get());
                match self.last.metadata() {
                    Some(last) => set(last, NEXT, hidden.bits()),
                    None => self.first = hidden,
                }
                self.last = hidden;
                piece
            }
        };
        let index = get(piece, 0) as usize;
        set(piece, HEAD + 2 * index, Hidden::new(named.start).bits());
        set(piece, HEAD + 2 * index + 1, named.record.birth_us());
        set(piece, 0, index as u64 + 1);
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
        while let Some(piece) = next.metadata() {
            next = Hidden::from_bits(get(piece, NEXT));
            source.give(CLASS, piece);
        }
        *self = Self::new();
    }
}

impl Cursor {
    /// Whether an object is remembered. To be asked in the order of allocation.
    pub(crate) fn has(&mut self, named: &Named) -> bool {
        let wanted = (named.record.birth_us(), named.start);
        while let Some(piece) = self.piece.metadata() {
            while self.index < get(piece, 0) as usize {
                let start = Hidden::from_bits(get(piece, HEAD + 2 * self.index)).get();
                let here = (get(piece, HEAD + 2 * self.index + 1), start);
                if here >= wanted {
                    return here == wanted;
                }
                self.index += 1;
            }
            self.piece = Hidden::from_bits(get(piece, NEXT));
            self.index = 0;
        }
        false
    }
}
