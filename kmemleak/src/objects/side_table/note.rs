//! A note: a piece of eight words in the side table, which holds one property of one object.

use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;

use crate::atomic::AtomicU64;
use crate::metadata::hidden::Hidden;
use crate::metadata::piece::Piece;
use crate::metadata::{Class, MetaAlloc, word_of};
use crate::objects::record::RecordRef;

pub(super) const KIND: usize = 0;
const LINK: usize = 1;
pub(super) const START: usize = 2;
pub(super) const FIRST: usize = 3;
pub(super) const SECOND: usize = 4;

pub(super) const UNALIGNED: u64 = 1;
pub(super) const AREA: u64 = 2;
pub(super) const SIZE: u64 = 3;
pub(super) const EXCESS: u64 = 4;
pub(super) const REFERENCES: u64 = 5;
pub(super) const READING: u64 = 6;

/// An object that starts at no multiple of eight bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unaligned<'a> {
    pub(crate) start: usize,
    pub(crate) record: RecordRef,
    /// Not zero if it is marked.
    pub(crate) mark: &'a AtomicU64,
}

/// Notes of one object that are in no bucket.
pub(crate) struct Loose(pub(super) Hidden);

impl Loose {
    pub(crate) const NONE: Self = Self(Hidden::NONE);

    pub(crate) fn is_empty(&self) -> bool {
        self.0 == Hidden::NONE
    }

    /// Whether one of them is an excess reference.
    pub(crate) fn has_excess(&self) -> bool {
        let all = core::iter::successors(Note::at(self.0), |note| Note::at(note.link()));
        all.into_iter().any(|note| note.get(KIND) == EXCESS)
    }

    pub(super) fn push(&mut self, note: Note) {
        note.set_link(self.0);
        self.0 = note.hidden();
    }

    pub(super) fn pop(&mut self) -> Option<Note> {
        let note = Note::at(self.0)?;
        self.0 = note.link();
        Some(note)
    }
}

/// A note: a piece of eight words, which one CPU may read while another writes them. They are Relaxed: the lock of the table,
/// or of the object's chunk, orders them.
#[derive(Clone, Copy)]
pub(super) struct Note(NonNull<u64>);

impl Note {
    pub(super) fn take(meta: &MetaAlloc<'_>) -> Option<Self> {
        meta.take(Class::NOTE)
            .ok()
            .map(|piece| Self(piece.into_raw()))
    }

    pub(super) fn give_back(self, meta: &MetaAlloc<'_>) {
        // SAFETY: made of such a piece by `take`, and in no list any more.
        meta.give(unsafe { Piece::from_raw(self.0, Class::NOTE) });
    }

    /// The note that lies there, if any.
    pub(super) fn at(hidden: Hidden) -> Option<Self> {
        let note = hidden.metadata().map(Self);
        #[cfg(test)]
        note.iter()
            .for_each(|_| crate::metadata::work_tests::count());
        note
    }

    pub(super) fn hidden(self) -> Hidden {
        Hidden::of(self.0)
    }

    pub(super) fn get(self, word: usize) -> u64 {
        // SAFETY: a word of the note.
        unsafe { word_of(self.0, word) }.load(Relaxed)
    }

    pub(super) fn set(self, word: usize, value: u64) {
        // SAFETY: a word of the note.
        unsafe { word_of(self.0, word) }.store(value, Relaxed);
    }

    /// Where the next note of the list lies.
    pub(super) fn link(self) -> Hidden {
        Hidden::from_bits(self.get(LINK))
    }

    pub(super) fn set_link(self, next: Hidden) {
        self.set(LINK, next.bits());
    }

    pub(super) fn start(self) -> usize {
        Hidden::from_bits(self.get(START)).get()
    }

    pub(super) fn unaligned<'a>(self) -> Unaligned<'a> {
        // SAFETY: the fifth to eighth words of a note hold a record of such an object.
        let record = unsafe { self.0.add(SECOND) };
        Unaligned {
            start: self.start(),
            // SAFETY: as above; it stays while its chunk is open.
            record: unsafe { RecordRef::new(record.cast()) },
            // SAFETY: the fourth word of a note.
            mark: unsafe { word_of(self.0, FIRST) },
        }
    }
}
