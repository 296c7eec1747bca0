//! The objects that a verdict names: copies of their records, so that they can be told of when they are gone.
//!
//! The list lies in pages of metadata, which it keeps for the next verdict. What finds no room is counted, and is found
//! again by its flag in the registry (`flag::LISTED`).

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::hidden::Hidden;
use crate::memory::{PAGE_WORDS, Source, word_of};
use crate::record::{RECORD_WORDS, Record};

/// Words of an entry: the start, inverted, and the record.
const ENTRY: usize = 1 + RECORD_WORDS.div_ceil(2);
/// Entries of a page.
const PER_PAGE: usize = PAGE_WORDS / ENTRY;
/// Pages that name pages.
const DIRECTORIES: usize = 64;
/// Entries at most: 3.3 million.
const MAX: usize = DIRECTORIES * PAGE_WORDS * PER_PAGE;

/// An object that is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) start: usize,
    pub(crate) record: Record,
}

/// The list. Used by one at a time.
pub(crate) struct List {
    directories: [AtomicU64; DIRECTORIES],
    len: usize,
    /// Objects that found no room.
    pub(crate) left_out: usize,
}

impl List {
    pub(crate) const fn new() -> Self {
        Self {
            directories: [const { AtomicU64::new(0) }; DIRECTORIES],
            len: 0,
            left_out: 0,
        }
    }

    /// Objects that are named, in the list or by their flag.
    pub(crate) fn named(&self) -> usize {
        self.len + self.left_out
    }

    /// Empties the list.
    pub(crate) fn clear(&mut self) {
        (self.len, self.left_out) = (0, 0);
    }

    /// Appends an object; where there is no memory it is left out.
    pub(crate) fn push(&mut self, named: Named, source: &Source<'_>) {
        match self.room(self.len, source) {
            Some(_) => {
                self.len += 1;
                self.set(self.len - 1, named);
            }
            None => self.left_out += 1,
        }
    }

    /// The page of an entry, made if it is missing.
    fn room(&self, index: usize, source: &Source<'_>) -> Option<NonNull<u64>> {
        if index >= MAX {
            return None;
        }
        let page = index / PER_PAGE;
        let directory = made(&self.directories[page / PAGE_WORDS], source)?;
        made(word_of(directory, page % PAGE_WORDS), source)
    }

    fn page(&self, index: usize) -> Option<NonNull<u64>> {
        let page = index / PER_PAGE;
        let directory = named(&self.directories[page / PAGE_WORDS])?;
        named(word_of(directory, page % PAGE_WORDS))
    }

    /// The object with this number.
    pub(crate) fn get(&self, index: usize) -> Option<Named> {
        if index >= self.len {
            return None;
        }
        let page = self.page(index)?;
        let word =
            |offset| word_of(page, index % PER_PAGE * ENTRY + offset).load(Ordering::Relaxed);
        let half = |number: usize| (word(1 + number / 2) >> (32 * (number % 2))) as u32;
        Some(Named {
            start: Hidden::from_bits(word(0)).get(),
            record: Record(core::array::from_fn(half)),
        })
    }

    fn set(&self, index: usize, named: Named) {
        let Some(page) = self.page(index) else {
            return;
        };
        let set = |offset, word| {
            word_of(page, index % PER_PAGE * ENTRY + offset).store(word, Ordering::Relaxed);
        };
        set(0, Hidden::new(named.start).bits());
        for (offset, halves) in named.record.0.chunks(2).enumerate() {
            let high = halves.get(1).copied().unwrap_or(0);
            set(1 + offset, u64::from(halves[0]) | u64::from(high) << 32);
        }
    }

    /// Puts the objects in the order of their allocation, ties by address. (Heapsort, Williams 1964: no
    /// recursion, no memory.)
    pub(crate) fn sort(&mut self) {
        let len = self.len;
        for root in (0..len / 2).rev() {
            self.sift(root, len);
        }
        for end in (1..len).rev() {
            self.swap(0, end);
            self.sift(0, end);
        }
    }

    fn sift(&self, mut root: usize, end: usize) {
        loop {
            let left = 2 * root + 1;
            if left >= end {
                return;
            }
            let right = left + 1;
            let larger = if right < end && self.order(right) > self.order(left) {
                right
            } else {
                left
            };
            if self.order(root) >= self.order(larger) {
                return;
            }
            self.swap(root, larger);
            root = larger;
        }
    }

    fn order(&self, index: usize) -> (u64, usize) {
        self.get(index)
            .map_or((0, 0), |named| (named.record.birth_us(), named.start))
    }

    fn swap(&self, one: usize, other: usize) {
        if let (Some(a), Some(b)) = (self.get(one), self.get(other)) {
            self.set(one, b);
            self.set(other, a);
        }
    }

    /// Forgets everything; the memory is given back by its owner.
    pub(crate) fn empty(&mut self) {
        *self = Self::new();
    }
}

fn named(word: &AtomicU64) -> Option<NonNull<u64>> {
    Hidden::from_bits(word.load(Ordering::Relaxed)).metadata()
}

fn made(word: &AtomicU64, source: &Source<'_>) -> Option<NonNull<u64>> {
    if let Some(page) = named(word) {
        return Some(page);
    }
    let page = source.page()?;
    let hidden = Hidden::new(page.expose_provenance().get());
    word.store(hidden.bits(), Ordering::Relaxed);
    Some(page)
}
