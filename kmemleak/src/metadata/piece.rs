//! Pieces of metadata that have one owner, and the lists of those that have none.

use core::ptr::NonNull;

use crate::metadata::class::{CLASSES, Class};
use crate::metadata::hidden::Hidden;

/// A piece, whose words hold what its last owner left in them. One that is dropped stays in use until all metadata is given back.
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
    /// These are the words of a piece of this class, aligned to a word. Nobody else has them.
    pub(crate) const unsafe fn from_raw(start: NonNull<u64>, class: Class) -> Self {
        Self { start, class }
    }

    /// Where its words begin. Who has them makes it a piece again by [`from_raw`](Self::from_raw), to give it back.
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
