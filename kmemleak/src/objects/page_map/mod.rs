//! The page map: leads from an address to what is known of the memory around it, in constant time.
//!
//! The address space is divided into *chunks* of 512 bytes, 64 granules of 8. A sparse radix table of four levels
//! leads from the number of a chunk to its *entry* ([`crate::objects::chunk`]): which objects start there, and how many
//! chunks further down the object starts that *reaches in* from before. A look-up first considers the objects that start
//! there; if none starts at or below the address, the one that reaches in.
//!
//! Large objects would need an entry for each chunk. So where one covers all that a table of the lowest level
//! (64 KiB) or of the one above (32 MiB) stands for, the word that would name the table holds a *run*: how far
//! down the object starts. Where the table is there already, since small objects lay there before, its first entry
//! says the same ([`Chunk::cover`]). So what a large object costs is a step for each table at most, not one for each chunk.
//!
//! The number of a chunk is an address without its lowest bits. The bits that repeat the highest one stay: so a word in which
//! they differ has the number of no chunk. Tables are indexed by the 48 bits that count; the others are checked before a
//! look-up (for scanned words by [`WalkCache::look`], for everything else by [`Address`]).
//!
//! # Invariants
//!
//! - The numbers of chunks that come here are those of addresses, except in [`WalkCache::look`].
//! - A table, once there, stays until all metadata is given back: code that has an entry may keep it.
//! - Where an object covers a table, no object starts in it, and nothing else reaches in.
//! - The word of a table is odd (the table's address, inverted, ends in ones), that of a run is even.
//! - An object reaches into the chunks after its first one, up to the one with its last byte, and into no
//!   other; but where it was freed in part, the last run may stand for more than what is left of it.
//! - Words change by compare and exchange; nothing here takes a lock.

mod budget;
mod leaf;
mod runs;
mod walk_cache;

use core::ops::Range;
use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering;

pub(crate) use self::budget::Budget;
pub(crate) use self::leaf::Leaf;
pub(crate) use self::walk_cache::WalkCache;
use crate::atomic::AtomicU64;
use crate::metadata::hidden::Hidden;
use crate::metadata::page::{NoMemory, PageSource};
use crate::metadata::{MetaAlloc, PAGE_WORDS, word_of};
use crate::objects::chunk::{Chunk, ENTRY_WORDS, MAX_REACH};
use crate::platform::address::{ADDRESS_BITS, Address, Extent};

/// log2 of the bytes of a chunk.
const CHUNK_SHIFT: u32 = 9;
/// Bytes of a chunk.
pub(crate) const CHUNK: usize = 1 << CHUNK_SHIFT;
/// log2 of the entries of a table of the lowest level, a page.
pub(crate) const LEAF_BITS: u32 = 7;
/// Entries of such a table.
const LEAF: usize = 1 << LEAF_BITS;
const _: () = assert!(LEAF * ENTRY_WORDS == PAGE_WORDS);
/// log2 of the words of a table of the other levels.
const TABLE_BITS: u32 = 9;
/// Words of such a table.
const TABLE: usize = 1 << TABLE_BITS;
/// Words of the root: what is left after the three tables.
const ROOT: usize = 1 << (ADDRESS_BITS - CHUNK_SHIFT - 2 * TABLE_BITS - LEAF_BITS);

/// The number of a chunk.
pub(crate) type ChunkNumber = usize;

/// The number of the chunk that an address lies in; for a number that is no address, a number that no chunk has.
#[inline(always)]
pub(crate) const fn chunk_of(address: usize) -> ChunkNumber {
    address >> CHUNK_SHIFT
}

impl Address {
    /// The number of the chunk that it lies in.
    #[inline(always)]
    pub(crate) const fn chunk(self) -> ChunkNumber {
        chunk_of(self.get())
    }
}

/// The address of the first byte of a chunk.
#[inline(always)]
pub(crate) const fn address_of(chunk: ChunkNumber) -> usize {
    chunk << CHUNK_SHIFT
}

/// The numbers that no chunk has, between those of the two halves of the address space.
const HOLE: Range<ChunkNumber> = {
    let half = 1 << (ADDRESS_BITS - 1 - CHUNK_SHIFT);
    half..(1 << (usize::BITS - CHUNK_SHIFT)) - half
};

/// This number; or the first one after the hole, if this one lies in the hole.
pub(crate) fn past_hole(chunk: ChunkNumber) -> ChunkNumber {
    if HOLE.contains(&chunk) {
        HOLE.end
    } else {
        chunk
    }
}

impl Extent {
    /// The chunks that an object reaches into that lies here.
    #[inline(always)]
    pub(crate) fn reach(self) -> Reach {
        Reach {
            first: self.start().chunk(),
            last: self.last().chunk(),
        }
    }
}

/// The number of the table of the lowest level that an address's entry is in: the tables are numbered by the
/// memory that they stand for.
#[inline(always)]
pub(crate) const fn leaf_of(address: usize) -> usize {
    chunk_of(address) >> LEAF_BITS
}

/// Where the way through the tables ends.
pub(crate) enum Look {
    Nothing,
    /// In a run of an object that starts this many chunks further down.
    Run(usize),
    /// At the chunk's entry.
    Entry(Chunk),
}

/// What a [walk](PageMap::next_but) has come to.
pub(crate) enum NextChunk {
    /// A chunk, and its entry; `None` where an object covers all that a table stands for.
    Chunk(ChunkNumber, Option<Chunk>),
    /// The budget is spent. The walk goes on here.
    Paused(ChunkNumber),
    End,
}

/// The chunks that an object reaches into: those after the first one, up to the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) first: ChunkNumber,
    pub(crate) last: ChunkNumber,
}

impl Reach {
    /// Whether more is to be noted for it, or taken back, than is done at once.
    pub(crate) const fn is_long(self) -> bool {
        self.last - self.first > Budget::STEP
    }
}

/// Where the way through the tables ends, with a table of the lowest level instead of the entry of one of its chunks.
enum End {
    Nothing,
    Run(usize),
    Table(NonNull<u64>),
}

/// What is known of a chunk, and often of those after it.
enum Step {
    Nothing,
    /// In a run, or in a table that an object covers.
    Covered,
    Entry(Chunk),
}

/// What the word that names a table holds.
enum Word {
    Nothing,
    Run(usize),
    Table(NonNull<u64>),
}

impl Word {
    #[inline(always)]
    fn new(bits: u64) -> Self {
        if bits & 1 != 0 {
            Self::Table(table_of(bits))
        } else if bits == 0 {
            Self::Nothing
        } else {
            Self::Run((bits >> 1) as usize)
        }
    }
}

#[inline(always)]
fn table_of(bits: u64) -> NonNull<u64> {
    let table = ptr::with_exposed_provenance_mut(Hidden::from_bits(bits).get());
    // SAFETY: the word holds the address of a page, inverted, and no page lies at zero.
    unsafe { NonNull::new_unchecked(table) }
}

fn run(distance: usize) -> u64 {
    (distance as u64) << 1
}

/// Why there is no way to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocked {
    NoMemory,
    /// A run is in the way.
    Run,
}

/// The map.
///
/// All words that name tables or hold runs, in the root and in tables, change by compare and exchange with AcqRel, and are
/// loaded with Acquire. A CPU that finds a table sees it as it was filled (mostly with zeros). A run leads to no memory; the
/// start of its object was in its chunk before.
pub(crate) struct PageMap {
    root: [AtomicU64; ROOT],
}

/// The levels above the lowest, by the chunks that one word of theirs stands for (as log2).
const LEVELS: [u32; 3] = [
    2 * TABLE_BITS + LEAF_BITS,
    TABLE_BITS + LEAF_BITS,
    LEAF_BITS,
];
/// The last of [`LEVELS`]: its words name the tables of the lowest level.
const LAST: u32 = LEAF_BITS;

impl PageMap {
    pub(crate) const fn new() -> Self {
        Self {
            root: [const { AtomicU64::new(0) }; ROOT],
        }
    }

    /// The way to a chunk's entry.
    #[inline(always)]
    pub(crate) fn look(&self, chunk: ChunkNumber) -> Look {
        let mut word = self.root_word(chunk);
        for shift in LEVELS {
            match Word::new(word.load(Ordering::Acquire)) {
                Word::Table(table) if shift == LAST => return Look::Entry(entry_in(table, chunk)),
                Word::Table(table) => word = word_in(table, chunk, shift - TABLE_BITS),
                Word::Nothing => return Look::Nothing,
                Word::Run(distance) => return Look::Run(distance + (chunk & ((1 << shift) - 1))),
            }
        }
        Look::Nothing
    }

    /// The way to a chunk's entry; tables that are missing are made.
    #[inline(always)]
    pub(crate) fn entry(&self, chunk: ChunkNumber, meta: &MetaAlloc<'_>) -> Result<Chunk, Blocked> {
        let mut word = self.root_word(chunk);
        for shift in LEVELS {
            let table = match Word::new(word.load(Ordering::Acquire)) {
                Word::Table(table) => table,
                Word::Nothing => make_table(word, meta)?,
                Word::Run(_) => return Err(Blocked::Run),
            };
            if shift == LAST {
                return Ok(entry_in(table, chunk));
            }
            word = word_in(table, chunk, shift - TABLE_BITS);
        }
        Err(Blocked::NoMemory)
    }

    #[inline(always)]
    fn root_word(&self, chunk: ChunkNumber) -> &AtomicU64 {
        #[cfg(test)]
        tests::count_walk();
        &self.root[chunk >> LEVELS[0] & (ROOT - 1)]
    }

    /// The first table of the lowest level with a number in this range.
    pub(crate) fn next_leaf(&self, mut leaf: usize, end: usize) -> Option<(usize, Leaf)> {
        loop {
            leaf = past_hole(leaf << LEAF_BITS) >> LEAF_BITS;
            if leaf >= end {
                return None;
            }
            match self.leaf(leaf) {
                Ok(table) => return Some((leaf, table)),
                Err(next) => leaf = next,
            }
        }
    }

    /// The table of the lowest level with this number; if there is none, the number of the next one that there may be.
    pub(crate) fn leaf(&self, leaf: usize) -> Result<Leaf, usize> {
        let (count, end) = self.walk(leaf << LEAF_BITS);
        match end {
            End::Table(table) => Ok(Leaf(table)),
            End::Nothing | End::Run(_) => {
                let next = past_hole((leaf << LEAF_BITS) + count);
                Err(next >> LEAF_BITS)
            }
        }
    }

    /// The first chunk at `chunk` or after, but before `end`, in which objects may start, and its entry.
    pub(crate) fn next(
        &self,
        chunk: ChunkNumber,
        end: ChunkNumber,
    ) -> Option<(ChunkNumber, Chunk)> {
        // Nothing starts where an object covers all.
        let pass = |entry: Option<Chunk>| entry.is_none_or(Chunk::is_blank);
        match self.next_but(chunk, end, pass, &mut Budget::unlimited()) {
            NextChunk::Chunk(chunk, entry) => Some((chunk, entry?)),
            NextChunk::Paused(_) | NextChunk::End => None,
        }
    }

    /// The first chunk at `chunk` or after, but before `end`, of which something may be known and `pass` is not true: it gets the
    /// chunk's entry, or `None` where an object covers all that a table stands for. Pauses when the budget is spent.
    pub(crate) fn next_but(
        &self,
        mut chunk: ChunkNumber,
        end: ChunkNumber,
        pass: impl Fn(Option<Chunk>) -> bool,
        budget: &mut Budget,
    ) -> NextChunk {
        loop {
            chunk = past_hole(chunk);
            if chunk >= end {
                return NextChunk::End;
            }
            if !budget.spend() {
                return NextChunk::Paused(chunk);
            }
            let (count, step) = self.step(chunk);
            match step {
                Step::Covered if !pass(None) => return NextChunk::Chunk(chunk, None),
                Step::Entry(entry) if !pass(Some(entry)) => {
                    return NextChunk::Chunk(chunk, Some(entry));
                }
                Step::Nothing | Step::Covered | Step::Entry(_) => {}
            }
            chunk += count;
        }
    }

    /// What is known of a chunk, and for how many chunks from there on that is true.
    fn step(&self, chunk: ChunkNumber) -> (usize, Step) {
        let (rest, end) = self.walk(chunk);
        match end {
            End::Nothing => (rest, Step::Nothing),
            End::Run(_) => (rest, Step::Covered),
            End::Table(table) => {
                let head = entry_in(table, 0);
                if head.is_covered() {
                    (rest, Step::Covered)
                } else if head.is_clean() {
                    (rest, Step::Nothing)
                } else {
                    (1, Step::Entry(entry_in(table, chunk)))
                }
            }
        }
    }

    /// Where the way to a chunk ends, and how many chunks further on the way may end elsewhere.
    fn walk(&self, chunk: ChunkNumber) -> (usize, End) {
        let mut word = self.root_word(chunk);
        for shift in LEVELS {
            let within = chunk & ((1 << shift) - 1);
            let rest = (1 << shift) - within;
            match Word::new(word.load(Ordering::Acquire)) {
                Word::Table(table) if shift == LAST => return (rest, End::Table(table)),
                Word::Table(table) => word = word_in(table, chunk, shift - TABLE_BITS),
                Word::Nothing => return (rest, End::Nothing),
                Word::Run(distance) => return (rest, End::Run(distance + within)),
            }
        }
        (1, End::Nothing)
    }

    /// The chunk in which the object starts that reaches into this one, if any does.
    #[inline]
    pub(crate) fn reaching(&self, mut chunk: ChunkNumber) -> Option<ChunkNumber> {
        loop {
            let back = match self.look(chunk) {
                Look::Nothing => return None,
                // A run holds the whole distance.
                Look::Run(distance) => return chunk.checked_sub(distance),
                Look::Entry(entry) if entry.reach() == 0 && entry.is_covered() => {
                    chunk &= !(LEAF - 1);
                    entry.head().reach()
                }
                Look::Entry(entry) => entry.reach(),
            };
            if back == 0 {
                return None;
            }
            if back < MAX_REACH {
                return chunk.checked_sub(back);
            }
            // The object starts at least so far down. One chunk less, since the object reaches into that chunk for certain;
            // it may start in the chunk before, where another object may reach in.
            chunk = chunk.checked_sub(back - 1)?;
        }
    }

    /// Forgets everything; the memory of the tables is given back by its owner.
    pub(crate) fn empty(&self) {
        self.root
            .iter()
            .for_each(|word| word.store(0, Ordering::Relaxed));
    }
}

#[inline(always)]
fn word_in<'a>(table: NonNull<u64>, chunk: ChunkNumber, shift: u32) -> &'a AtomicU64 {
    // SAFETY: a table is a page of metadata, and has so many words.
    unsafe { word_of(table, chunk >> shift & (TABLE - 1)) }
}

#[inline(always)]
fn entry_in(table: NonNull<u64>, chunk: ChunkNumber) -> Chunk {
    #[cfg(test)]
    crate::metadata::work_tests::count();
    // SAFETY: inside the table's page.
    let entry = unsafe { table.add((chunk & (LEAF - 1)) * ENTRY_WORDS) };
    // SAFETY: an entry of a table.
    unsafe { Chunk::at(entry) }
}

#[cold]
fn make_table<'a>(word: &AtomicU64, meta: &MetaAlloc<'a>) -> Result<NonNull<u64>, Blocked> {
    let page = meta.page().map_err(|NoMemory| Blocked::NoMemory)?;
    let table = page.start().cast();
    let bits = Hidden::new(table.expose_provenance().get()).bits();
    match word.compare_exchange(0, bits, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Ok(table),
        // Another CPU was faster: its table is used, and this page stays unused until all metadata is given back.
        Err(other) => match Word::new(other) {
            Word::Table(table) => Ok(table),
            Word::Run(_) => Err(Blocked::Run),
            Word::Nothing => Err(Blocked::NoMemory),
        },
    }
}

#[cfg(test)]
mod tests;
