//! The way through the tables, shortened for code that goes it over and over.

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use super::{ChunkNumber, LEVELS, Look, PageMap, Word, address_of, entry_in, word_in};
use crate::platform::address::Address;

/// The first part of the way that was gone last. Most ways begin alike: one table of the first level stands for 16
/// GiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WalkCache {
    /// Which part of the address space the table is for; none at first.
    part: usize,
    table: NonNull<u64>,
}

impl WalkCache {
    pub(crate) const fn new() -> Self {
        Self {
            part: usize::MAX,
            table: NonNull::dangling(),
        }
    }

    /// As [`PageMap::look`], for a number that may be that of no chunk.
    #[inline(always)]
    pub(crate) fn look(&mut self, map: &PageMap, chunk: ChunkNumber) -> Look {
        let part = chunk >> LEVELS[0];
        if part != self.part {
            if Address::new(address_of(chunk)).is_none() {
                return Look::Nothing;
            }
            match Word::new(map.root_word(chunk).load(Ordering::Acquire)) {
                Word::Table(table) => (self.part, self.table) = (part, table),
                Word::Nothing | Word::Run(_) => return map.look(chunk),
            }
        }
        let middle = word_in(self.table, chunk, LEVELS[1]);
        if let Word::Table(table) = Word::new(middle.load(Ordering::Acquire)) {
            let last = word_in(table, chunk, LEVELS[2]);
            if let Word::Table(leaf) = Word::new(last.load(Ordering::Acquire)) {
                return Look::Entry(entry_in(leaf, chunk));
            }
        }
        map.look(chunk)
    }
}
