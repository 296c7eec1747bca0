//! Pieces of metadata: those that have an owner, and the lists of those that are free.

use core::ptr::NonNull;

use crate::metadata::class::{CLASSES, Class};
use crate::metadata::hidden::Hidden;

/// A piece with one owner. Its words hold what the last owner left in them. A piece that is dropped stays in use until all
/// metadata is given back.
#[must_use = "a piece is given back"]
pub(crate) struct Piece {
    start: NonNull<u64>,
    class: Class,
}

impl Piece {
    /// The piece that begins there.
    ///
    /// # Safety
    ///
    /// The words of a piece of this class lie there, aligned to a word, and nobody else uses them.
    pub(crate) const unsafe fn from_raw(start: NonNull<u64>, class: Class) -> Self {
        Self { start, class }
    }

    /// Where its words begin. To give it back, [`from_raw`](Self::from_raw) makes a piece of them again.
    pub(crate) fn into_raw(self) -> NonNull<u64> {
        self.start
    }

    pub(super) fn class(&self) -> Class {
        self.class
    }
}

/// Free pieces, by class: each begins with the place of the next one.
pub(super) struct FreePieces {
    first: [Hidden; CLASSES],
    len: [usize; CLASSES],
}

impl FreePieces {
    pub(super) const fn new() -> Self {
        Self {
            first: [Hidden::NONE; CLASSES],
            len: [0; CLASSES],
        }
    }

    pub(super) fn len(&self, class: Class) -> usize {
        self.len[class.number()]
    }

    pub(super) fn push(&mut self, piece: Piece) {
        let class = piece.class.number();
        // SAFETY: the first word of a piece that nobody else has.
        unsafe { piece.start.cast().write(self.first[class]) };
        self.first[class] = Hidden::of(piece.start);
        self.len[class] += 1;
    }

    pub(super) fn pop(&mut self, class: Class) -> Option<Piece> {
        let start = self.first[class.number()].pointer()?;
        // SAFETY: the first word of a free piece, where `push` left the next one.
        self.first[class.number()] = unsafe { start.cast().read() };
        self.len[class.number()] -= 1;
        Some(Piece { start, class })
    }
}
