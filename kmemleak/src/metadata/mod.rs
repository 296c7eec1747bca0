//! Memory for metadata: pages from a bootstrap pool and the platform, cut into pieces.
//!
//! Whoever tracks allocations cannot allocate. So metadata comes from pages: first from a bootstrap pool, so that tracking works
//! before any allocator does, then from the platform. They are cut into [pieces](piece::Piece) of a few [sizes](Class); a piece
//! that is given back is kept for the next use of its class. Each CPU has a small stash of pieces, so that the shared lists are
//! rarely asked. Pages are given back all at once, when the detector is off.
//!
//! # Invariants
//!
//! - A page or a piece has one owner, who decides what its words are: see [`page`] and [`piece`].
//! - The words of a piece stay words of a piece of its class.
//! - All stored addresses are [`Hidden`](hidden), which alone makes a pointer of a stored number.
//!
//! Never: an object.

mod class;
pub(crate) mod hidden;
pub(crate) mod kept;
pub(crate) mod keyed_list;
pub(crate) mod list;
mod memory;
pub(crate) mod page;
mod page_log;
pub(crate) mod page_vec;
pub(crate) mod piece;
pub(crate) mod piece_vec;
pub(crate) mod pool;
pub(crate) mod ranges;

pub(crate) use self::class::Class;
pub(crate) use self::memory::{Memory, MetaAlloc};
pub(crate) use self::page::{PAGE_WORDS, WORD, word_of};

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use crate::metadata::hidden::Hidden;

const LINK: usize = 1;

/// A piece, as its owner sees it: words of which somebody may read while another writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece(pub(crate) NonNull<u64>);

impl Piece {
    pub(crate) fn take(class: Class, meta: &MetaAlloc<'_>) -> Option<Self> {
        meta.take(class).ok().map(|piece| Self(piece.into_raw()))
    }

    pub(crate) fn give(self, class: Class, meta: &MetaAlloc<'_>) {
        // SAFETY: taken of this class by `take`.
        meta.give(unsafe { piece::Piece::from_raw(self.0, class) });
    }

    /// The piece that lies there, if any.
    pub(crate) fn at(hidden: Hidden) -> Option<Self> {
        hidden.metadata().map(Self)
    }

    pub(crate) fn hidden(self) -> Hidden {
        Hidden::new(self.0.expose_provenance().get())
    }

    pub(crate) fn get(self, word: usize) -> u64 {
        // SAFETY: a word of the piece.
        unsafe { word_of(self.0, word) }.load(Ordering::Relaxed)
    }

    pub(crate) fn set(self, word: usize, value: u64) {
        // SAFETY: a word of the piece.
        unsafe { word_of(self.0, word) }.store(value, Ordering::Relaxed);
    }

    /// Where the next piece of a chain lies. In use, the word that links free pieces links those of its owner.
    pub(crate) fn link(self) -> Hidden {
        Hidden::from_bits(self.get(LINK))
    }

    /// The next piece.
    pub(crate) fn next(self) -> Option<Self> {
        Self::at(self.link())
    }

    pub(crate) fn set_next(self, next: Hidden) {
        self.set(LINK, next.bits());
    }
}

#[cfg(test)]
mod tests;
