//! A cache for the walk through the tables, for code that looks up many chunks.

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use super::{ChunkNumber, LEVELS, Look, PageMap, Word, address_of, chunk_of, entry_in, word_in};
use crate::objects::chunk::Chunk;
use crate::platform::address::Address;

/// The first table of the last walk. Most walks begin with the same one, as a table below the root stands for 16 GiB.
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

    /// The entry of the chunk that an address lies in, if the way there begins with the table of the last walk and ends at an entry.
    /// For others there is [`look`](Self::look).
    #[inline(always)]
    pub(crate) fn entry(&self, address: usize) -> Option<Chunk> {
        let chunk = chunk_of(address);
        if chunk >> LEVELS[0] != self.part {
            return None;
        }
        let mut table = self.table;
        for shift in [LEVELS[1], LEVELS[2]] {
            let word = word_in(table, chunk, shift);
            table = match Word::new(word.load(Ordering::Acquire)) {
                Word::Table(next) => next,
                Word::Nothing | Word::Run(_) => return None,
            };
        }
        Some(entry_in(table, chunk))
    }

    /// Does what [`PageMap::look`] does; the number may be that of no chunk, and then nothing is found.
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
