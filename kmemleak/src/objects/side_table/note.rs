//! A note: a piece of eight words in the side table, which says one thing of one object.

use core::sync::atomic::AtomicU64;

use crate::metadata::hidden::Hidden;
use crate::metadata::{Piece, word_of};
use crate::objects::record::RecordRef;

pub(super) const KIND: usize = 0;
pub(super) const START: usize = 2;
pub(super) const FIRST: usize = 3;
pub(super) const SECOND: usize = 4;

pub(super) const ODD: u64 = 1;
pub(super) const AREA: u64 = 2;
pub(super) const SIZE: u64 = 3;
pub(super) const EXCESS: u64 = 4;
pub(super) const REFERENCES: u64 = 5;

/// An object that starts at no multiple of eight bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Odd<'a> {
    pub(crate) start: usize,
    pub(crate) record: RecordRef,
    /// Not zero if it is marked.
    pub(crate) mark: &'a AtomicU64,
}

/// Notes of one object that are in no bucket.
pub(crate) struct Loose(pub(super) Hidden);

impl Loose {
    pub(super) const NONE: Self = Self(Hidden::NONE);

    pub(crate) fn is_empty(&self) -> bool {
        self.0 == Hidden::NONE
    }

    pub(super) fn push(&mut self, note: Note) {
        note.0.set_next(self.0);
        self.0 = note.0.hidden();
    }

    pub(super) fn pop(&mut self) -> Option<Note> {
        let note = Note::at(self.0)?;
        self.0 = note.0.link();
        Some(note)
    }
}

#[derive(Clone, Copy)]
pub(super) struct Note(pub(super) Piece);

impl Note {
    pub(super) fn at(hidden: Hidden) -> Option<Self> {
        Piece::at(hidden).map(Self)
    }

    pub(super) fn get(self, word: usize) -> u64 {
        self.0.get(word)
    }

    pub(super) fn set(self, word: usize, value: u64) {
        self.0.set(word, value);
    }

    pub(super) fn start(self) -> usize {
        Hidden::from_bits(self.get(START)).get()
    }

    pub(super) fn odd<'a>(self) -> Odd<'a> {
        // SAFETY: the fifth to eighth words of a note hold a record of such an object.
        let record = unsafe { self.0.0.add(SECOND) };
        Odd {
            start: self.start(),
            // SAFETY: as above; it stays while its chunk is open.
            record: unsafe { RecordRef::new(record.cast()) },
            // SAFETY: the fourth word of a note.
            mark: unsafe { word_of(self.0.0, FIRST) },
        }
    }
}
