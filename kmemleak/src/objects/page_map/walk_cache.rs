//! A cache for the walk through the tables, for code that looks up many chunks.

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use super::{
    CHUNK_SHIFT, ChunkNumber, LEVELS, Look, PageMap, TABLE, Word, address_of, chunk_of, entry_in,
    word_in,
};
use crate::metadata::word_of;
use crate::objects::chunk::Chunk;
use crate::platform::address::Address;

/// The first table of the last walk. Most walks begin with the same one, as a table below the root stands for 16 GiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WalkCache {
    /// The first address that the table is for.
    base: usize,
    /// How many words the table has: none at first.
    words: usize,
    table: NonNull<u64>,
}

impl WalkCache {
    pub(crate) const fn new() -> Self {
        Self {
            base: 0,
            words: 0,
            table: NonNull::dangling(),
        }
    }

    /// The entry of the chunk that an address lies in, if the way there begins with the table of the last walk and ends at an entry.
    /// For others there is [`look`](Self::look).
    #[inline(always)]
    pub(crate) fn entry(&self, address: usize) -> Option<Chunk> {
        let index = address.wrapping_sub(self.base) >> (CHUNK_SHIFT + LEVELS[1]);
        if index >= self.words {
            return None;
        }
        // SAFETY: the table has so many words, and stays until all metadata is given back.
        let middle = unsafe { word_of(self.table, index) };
        let Word::Table(table) = Word::new(middle.load(Ordering::Acquire)) else {
            return None;
        };
        let last = word_in(table, chunk_of(address), LEVELS[2]);
        match Word::new(last.load(Ordering::Acquire)) {
            Word::Table(leaf) => Some(entry_in(leaf, chunk_of(address))),
            Word::Nothing | Word::Run(_) => None,
        }
    }

    /// Does what [`PageMap::look`] does; the number may be that of no chunk, and then nothing is found.
    pub(crate) fn look(&mut self, map: &PageMap, chunk: ChunkNumber) -> Look {
        if Address::new(address_of(chunk)).is_none() {
            return Look::Nothing;
        }
        if let Word::Table(table) = Word::new(map.root_word(chunk).load(Ordering::Acquire)) {
            let base = address_of(chunk >> LEVELS[0] << LEVELS[0]);
            (self.base, self.words, self.table) = (base, TABLE, table);
        }
        map.look(chunk)
    }
}
