//! Where notes are found: a hash table by granule, which grows by one bucket at a time (linear hashing: Litwin, Linear Hashing: A New
//! Tool for File and Table Addressing, 1980).
//!
//! A note that is added makes one bucket more, if there are more notes than buckets: the notes of one other bucket are shared out between
//! it and the new one. So no callback moves more than that, and buckets stay short. Without memory for a page of new buckets they become
//! longer.
//!
//! All notes of a granule are in one bucket, in the order in which they were added, the last one first.

use core::sync::atomic::Ordering::Relaxed;

use super::note::Note;
use crate::atomic::AtomicU64;
use crate::metadata::hidden::Hidden;
use crate::metadata::page::PageSource;
use crate::metadata::{MetaAlloc, PAGE_WORDS, word_of};
use crate::objects::chunk::GRANULE;

/// Pages of buckets besides the first ones, at most. With all of them, a bucket has thirty notes for each million of notes.
const MAX_PAGES: usize = 64;

/// The buckets.
pub(super) struct Buckets {
    /// Relaxed, as the words of pages: used under the lock of the table.
    first: [AtomicU64; PAGE_WORDS],
    pages: [Hidden; MAX_PAGES],
    /// How many are in use besides the first ones: a new table is zero bits.
    more: usize,
}

fn hash(start: usize) -> usize {
    // Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4), of which the upper bits are well mixed.
    (start / GRANULE).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (usize::BITS / 2)
}

impl Buckets {
    pub(super) const fn new() -> Self {
        Self {
            first: [const { AtomicU64::new(0) }; PAGE_WORDS],
            pages: [Hidden::NONE; MAX_PAGES],
            more: 0,
        }
    }

    /// How many are in use.
    pub(super) fn len(&self) -> usize {
        PAGE_WORDS + self.more
    }

    /// The number of the bucket for what starts here.
    fn number(&self, start: usize) -> usize {
        let all = self.len().next_power_of_two();
        let number = hash(start) & (all - 1);
        match number < self.len() {
            true => number,
            // It has not been divided yet.
            false => number & (all / 2 - 1),
        }
    }

    fn word(&self, number: usize) -> Option<&AtomicU64> {
        match number.checked_sub(PAGE_WORDS) {
            None => self.first.get(number),
            Some(further) => {
                let page = self.pages.get(further / PAGE_WORDS)?.metadata()?;
                // SAFETY: a page of metadata, which has so many words.
                Some(unsafe { word_of(page, further % PAGE_WORDS) })
            }
        }
    }

    fn set(&mut self, number: usize, first: Hidden) {
        if let Some(word) = self.word(number) {
            word.store(first.bits(), Relaxed);
        }
    }

    fn get(&self, number: usize) -> Option<Note> {
        Note::at(Hidden::from_bits(self.word(number)?.load(Relaxed)))
    }

    /// The notes in the bucket of a granule; among them may be those of others.
    pub(super) fn each(&self, start: usize) -> impl Iterator<Item = Note> {
        core::iter::successors(self.get(self.number(start)), |note| Note::at(note.link()))
    }

    /// Puts a note, of what starts here, before the others.
    pub(super) fn push(&mut self, note: Note) {
        let number = self.number(note.start());
        note.set_link(self.get(number).map_or(Hidden::NONE, Note::hidden));
        self.set(number, note.hidden());
    }

    /// Takes a note out, which follows another one in its bucket or is the first.
    pub(super) fn unlink(&mut self, note: Note, before: Option<Note>) {
        match before {
            Some(before) => before.set_link(note.link()),
            None => self.set(self.number(note.start()), note.link()),
        }
    }

    /// Makes one bucket more, if there is memory, and shares the notes of another one out between the two.
    pub(super) fn grow(&mut self, meta: &MetaAlloc<'_>) {
        let new = self.len();
        let page = (new - PAGE_WORDS) / PAGE_WORDS;
        let Some(place) = self.pages.get_mut(page) else {
            return;
        };
        if *place == Hidden::NONE {
            let Ok(memory) = meta.page() else {
                return;
            };
            *place = Hidden::of(memory.start());
        }
        let old = new - (1 << new.ilog2());
        let mut next = self.get(old);
        self.more += 1;
        let mut last = [None::<Note>; 2];
        self.set(old, Hidden::NONE);
        self.set(new, Hidden::NONE);
        while let Some(note) = next {
            next = Note::at(note.link());
            note.set_link(Hidden::NONE);
            let number = self.number(note.start());
            match last[usize::from(number == new)].replace(note) {
                Some(last) => last.set_link(note.hidden()),
                None => self.set(number, note.hidden()),
            }
        }
    }
}
