//! Rows of words in pages of metadata: an array that grows, for what verdicts and their likes keep.
//!
//! Nothing in it moves, so it never needs twice its size, and it keeps its pages for the next use. What finds no room is
//! refused; its owner counts that. Rows are numbered with 32 bits.
//!
//! Words are stored as they are: who stores addresses inverts them.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::metadata::hidden::Hidden;
use crate::metadata::{MetaAlloc, PAGE_WORDS, word_of};

/// Pages that name pages.
const DIRECTORIES: usize = 128;

/// An array of rows of `WORDS` words. Used by one at a time.
pub(crate) struct Paged<const WORDS: usize> {
    /// All words of the array, and these, are Relaxed: it belongs to one at a time, who has the claim or its owner's lock.
    directories: [AtomicU64; DIRECTORIES],
    len: usize,
}

impl<const WORDS: usize> Paged<WORDS> {
    const PER_PAGE: usize = PAGE_WORDS / WORDS;
    /// Rows at most: 4 million of eight words.
    const MAX: usize = DIRECTORIES * PAGE_WORDS * Self::PER_PAGE;

    pub(crate) const fn new() -> Self {
        Self {
            directories: [const { AtomicU64::new(0) }; DIRECTORIES],
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Drops all rows; the pages stay.
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends a row and gives its number. `None` where there is no memory.
    pub(crate) fn push(&mut self, row: [u64; WORDS], meta: &MetaAlloc<'_>) -> Option<usize> {
        let index = self.len;
        if index >= Self::MAX {
            return None;
        }
        self.room(index, meta)?;
        self.len += 1;
        for (word, value) in row.into_iter().enumerate() {
            self.set(index, word, value);
        }
        Some(index)
    }

    /// Sees to memory for `len` rows; those that are new are zero. False where there is none: then there are fewer.
    pub(crate) fn extend(&mut self, len: usize, meta: &MetaAlloc<'_>) -> bool {
        while self.len < len {
            let last = (self.len / Self::PER_PAGE + 1) * Self::PER_PAGE - 1;
            if self.room(last.min(Self::MAX - 1), meta).is_none() {
                return false;
            }
            self.len = (last + 1).min(len);
        }
        true
    }

    /// The page of a row, made if it is missing.
    fn room(&self, index: usize, meta: &MetaAlloc<'_>) -> Option<NonNull<u64>> {
        let page = index / Self::PER_PAGE;
        let directory = made(&self.directories[page / PAGE_WORDS], meta)?;
        made(word_of(directory, page % PAGE_WORDS), meta)
    }

    /// A word of a row; zero of one that is not there.
    pub(crate) fn get(&self, index: usize, word: usize) -> u64 {
        self.word(index, word)
            .map_or(0, |place| place.load(Ordering::Relaxed))
    }

    pub(crate) fn set(&self, index: usize, word: usize, value: u64) {
        if let Some(place) = self.word(index, word) {
            place.store(value, Ordering::Relaxed);
        }
    }

    /// A whole row.
    pub(crate) fn row(&self, index: usize) -> [u64; WORDS] {
        core::array::from_fn(|word| self.get(index, word))
    }

    pub(crate) fn set_row(&self, index: usize, row: [u64; WORDS]) {
        for (word, value) in row.into_iter().enumerate() {
            self.set(index, word, value);
        }
    }

    /// The lower half of a word.
    pub(crate) fn low(&self, index: usize, word: usize) -> u32 {
        self.get(index, word) as u32
    }

    pub(crate) fn set_low(&self, index: usize, word: usize, value: u32) {
        let other = self.get(index, word) & !u64::from(u32::MAX);
        self.set(index, word, other | u64::from(value));
    }

    /// The upper half of a word.
    pub(crate) fn high(&self, index: usize, word: usize) -> u32 {
        (self.get(index, word) >> 32) as u32
    }

    pub(crate) fn set_high(&self, index: usize, word: usize, value: u32) {
        let other = self.get(index, word) & u64::from(u32::MAX);
        self.set(index, word, other | u64::from(value) << 32);
    }

    fn word<'a>(&self, index: usize, word: usize) -> Option<&'a AtomicU64> {
        if index >= self.len || word >= WORDS {
            return None;
        }
        let page = index / Self::PER_PAGE;
        let directory = named(&self.directories[page / PAGE_WORDS])?;
        let page = named(word_of(directory, page % PAGE_WORDS))?;
        Some(word_of(page, index % Self::PER_PAGE * WORDS + word))
    }

    /// Forgets everything; the memory is given back by its owner.
    pub(crate) fn empty(&mut self) {
        *self = Self::new();
    }
}

fn named(word: &AtomicU64) -> Option<NonNull<u64>> {
    Hidden::from_bits(word.load(Ordering::Relaxed)).metadata()
}

fn made(word: &AtomicU64, meta: &MetaAlloc<'_>) -> Option<NonNull<u64>> {
    if let Some(page) = named(word) {
        return Some(page);
    }
    let page = meta.page()?;
    let hidden = Hidden::new(page.expose_provenance().get());
    word.store(hidden.bits(), Ordering::Relaxed);
    Some(page)
}
