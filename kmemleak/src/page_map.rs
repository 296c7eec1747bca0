//! The page map: from an address to what is known of the memory round it, in constant time.
//!
//! The address space is divided into *chunks* of 512 bytes, 64 granules of 8. A sparse radix table of four levels
//! leads from the number of a chunk to its *entry*, one word with two parts: the index of the objects that
//! start in the chunk ([`crate::chunk`]), and how many chunks further down the object starts that *reaches in* from
//! before. A look-up takes the index first, and the object that reaches in where no start lies at or below the
//! address.
//!
//! Large objects would need an entry for each chunk. So where one covers all that a table of the lowest level
//! (256 KiB) or of the one above (128 MiB) stands for, the word that would name the table holds a *run*: how far
//! down the object starts.
//!
//! Addresses have 48 bits that count, as those of x86_64 with four levels of page tables and of AArch64 with 48 bits
//! of virtual address; the others repeat the highest.
//!
//! # Invariants
//!
//! - A table, once there, stays until all is given back: who has an entry may keep it.
//! - The word of a table is odd (the table's address, inverted, ends in ones), that of a run is even.
//! - An object reaches into the chunks after its first one, up to the one with its last byte, and into no
//!   other.
//! - Words change by compare and exchange; nothing here takes a lock.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::chunk::Chunk;
use crate::hidden::Hidden;
use crate::memory::{Source, word_of};

/// log2 of the bytes of a chunk.
const CHUNK_SHIFT: u32 = 9;
/// Bytes of a chunk.
pub(crate) const CHUNK: usize = 1 << CHUNK_SHIFT;
/// Bits of an address that count.
pub(crate) const ADDRESS_BITS: u32 = 48;
/// log2 of the words of a table.
const TABLE_BITS: u32 = 9;
/// Words of a table.
const TABLE: usize = 1 << TABLE_BITS;
/// Words of the root: what is left after three tables.
const ROOT: usize = 1 << (ADDRESS_BITS - CHUNK_SHIFT - 3 * TABLE_BITS);

/// Bits of an entry that say how far down the object starts that reaches in.
const REACH_BITS: u32 = 19;
/// The farthest that they can say. An object that reaches farther is followed in several steps.
const MAX_REACH: u64 = (1 << REACH_BITS) - 1;

/// The number of a chunk.
pub(crate) type ChunkNumber = usize;

/// The number of the chunk that an address lies in.
#[inline(always)]
pub(crate) const fn chunk_of(address: usize) -> ChunkNumber {
    (address & ((1 << ADDRESS_BITS) - 1)) >> CHUNK_SHIFT
}

/// The address of the first byte of a chunk.
#[inline(always)]
pub(crate) const fn address_of(chunk: ChunkNumber) -> usize {
    const UNUSED: u32 = usize::BITS - ADDRESS_BITS;
    (((chunk << CHUNK_SHIFT) << UNUSED) as isize >> UNUSED) as usize
}

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry(u64);

impl Entry {
    /// The index of the objects that start in the chunk.
    #[inline(always)]
    pub(crate) fn chunk(self) -> Option<Chunk> {
        // The address without its lowest three bits, which are zero.
        let address = ((self.0 as i64 >> (REACH_BITS - 3)) as usize) & !7;
        NonNull::new(ptr::with_exposed_provenance_mut(address)).map(Chunk::at)
    }

    /// How many chunks further down the object starts that reaches in, or a chunk that it reaches into as well;
    /// zero if none does.
    #[inline(always)]
    pub(crate) fn reach(self) -> usize {
        (self.0 & MAX_REACH) as usize
    }

    fn with_chunk(self, chunk: Chunk) -> Self {
        let address = chunk.address() as u64 >> 3;
        Self(address << REACH_BITS | self.0 & MAX_REACH)
    }

    fn with_reach(self, reach: usize) -> Self {
        Self(self.0 & !MAX_REACH | (reach as u64).min(MAX_REACH))
    }
}

/// Where the way through the tables ends.
pub(crate) enum Look<'a> {
    Nothing,
    /// In a run, of an object that starts so many chunks further down.
    Run(usize),
    /// At the chunk's entry.
    Entry(&'a AtomicU64),
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
        if bits & 1 != 0
            && let Some(table) = table_of(bits)
        {
            Self::Table(table)
        } else if bits == 0 {
            Self::Nothing
        } else {
            Self::Run((bits >> 1) as usize)
        }
    }
}

#[inline(always)]
fn table_of(bits: u64) -> Option<NonNull<u64>> {
    NonNull::new(ptr::with_exposed_provenance_mut(
        Hidden::from_bits(bits).get(),
    ))
}

fn run(distance: usize) -> u64 {
    (distance as u64) << 1
}

/// The entry, read.
#[inline(always)]
pub(crate) fn read(entry: &AtomicU64) -> Entry {
    Entry(entry.load(Ordering::Acquire))
}

/// No way leads there, for want of memory or since a run is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocked {
    NoMemory,
    /// By an object that starts so many chunks further down.
    Run(usize),
}

/// The map.
pub(crate) struct PageMap {
    root: [AtomicU64; ROOT],
    /// The words of the root that name tables lie from the first of these on,
    first_used: AtomicUsize,
    /// and before this one.
    end_used: AtomicUsize,
}

/// The levels above the lowest, by the chunks that one word of theirs stands for (as log2).
const LEVELS: [u32; 3] = [3 * TABLE_BITS, 2 * TABLE_BITS, TABLE_BITS];

impl PageMap {
    pub(crate) const fn new() -> Self {
        Self {
            root: [const { AtomicU64::new(0) }; ROOT],
            first_used: AtomicUsize::new(ROOT),
            end_used: AtomicUsize::new(0),
        }
    }

    /// The way to a chunk's entry.
    #[inline(always)]
    pub(crate) fn look(&self, chunk: ChunkNumber) -> Look<'_> {
        let mut word = self.root_word(chunk);
        for shift in LEVELS {
            match Word::new(word.load(Ordering::Acquire)) {
                Word::Nothing => return Look::Nothing,
                Word::Run(distance) => return Look::Run(distance + (chunk & ((1 << shift) - 1))),
                Word::Table(table) => word = word_in(table, chunk, shift - TABLE_BITS),
            }
        }
        Look::Entry(word)
    }

    /// The same, making the tables that are missing.
    #[inline(always)]
    pub(crate) fn entry(
        &self,
        chunk: ChunkNumber,
        source: &Source<'_>,
    ) -> Result<&AtomicU64, Blocked> {
        let mut word = self.root_word(chunk);
        for shift in LEVELS {
            let table = match Word::new(word.load(Ordering::Acquire)) {
                Word::Table(table) => table,
                Word::Nothing => {
                    if shift == LEVELS[0] {
                        self.note_used(chunk >> shift & (ROOT - 1));
                    }
                    make_table(word, source)?
                }
                Word::Run(distance) => {
                    return Err(Blocked::Run(distance + (chunk & ((1 << shift) - 1))));
                }
            };
            word = word_in(table, chunk, shift - TABLE_BITS);
        }
        Ok(word)
    }

    #[cold]
    fn note_used(&self, root_word: usize) {
        self.first_used.fetch_min(root_word, Ordering::Relaxed);
        self.end_used.fetch_max(root_word + 1, Ordering::Release);
    }

    #[inline(always)]
    fn root_word(&self, chunk: ChunkNumber) -> &AtomicU64 {
        &self.root[chunk >> LEVELS[0] & (ROOT - 1)]
    }

    /// The first table of the lowest level at `leaf` or after, with its number: the tables are numbered by
    /// the chunks that they stand for, 512 each.
    pub(crate) fn next_leaf(&self, mut leaf: usize) -> Option<(usize, Leaf)> {
        const ROOT_BITS: u32 = LEVELS[0] - TABLE_BITS;
        let end = self.end_used.load(Ordering::Acquire) << ROOT_BITS;
        leaf = leaf.max(self.first_used.load(Ordering::Relaxed) << ROOT_BITS);
        'next: while leaf < end {
            let chunk = leaf << TABLE_BITS;
            let mut word = self.root_word(chunk);
            for shift in LEVELS {
                match Word::new(word.load(Ordering::Acquire)) {
                    Word::Table(table) if shift == TABLE_BITS => return Some((leaf, Leaf(table))),
                    Word::Table(table) => word = word_in(table, chunk, shift - TABLE_BITS),
                    Word::Nothing | Word::Run(_) => {
                        let span = shift - TABLE_BITS;
                        leaf = ((leaf >> span) + 1) << span;
                        continue 'next;
                    }
                }
            }
        }
        None
    }

    /// The first chunk at `chunk` or after, but before `end`, of which something may be known.
    pub(crate) fn next(
        &self,
        mut chunk: ChunkNumber,
        end: ChunkNumber,
    ) -> Option<(ChunkNumber, Look<'_>)> {
        'next: while chunk < end {
            let mut word = self.root_word(chunk);
            for shift in LEVELS {
                match Word::new(word.load(Ordering::Acquire)) {
                    Word::Table(table) => word = word_in(table, chunk, shift - TABLE_BITS),
                    Word::Run(distance) => {
                        let back = distance + (chunk & ((1 << shift) - 1));
                        return Some((chunk, Look::Run(back)));
                    }
                    Word::Nothing => {
                        chunk = ((chunk >> shift) + 1) << shift;
                        continue 'next;
                    }
                }
            }
            if read(word).0 != 0 {
                return Some((chunk, Look::Entry(word)));
            }
            chunk += 1;
        }
        None
    }

    /// Notes that the object that starts in `first` reaches into the chunks after it up to `last`; those before
    /// `whole` it covers wholly.
    pub(crate) fn reach(
        &self,
        first: ChunkNumber,
        last: ChunkNumber,
        whole: ChunkNumber,
        source: &Source<'_>,
    ) -> Result<(), Blocked> {
        let mut chunk = first + 1;
        while chunk <= last {
            // Up to where the object covers chunks wholly: in place of tables, as far as these are missing.
            let step = self.set_run(chunk, first, whole);
            if step > 0 {
                chunk += step;
                continue;
            }
            let entry = self.entry(chunk, source)?;
            update(entry, |entry| entry.with_reach(chunk - first));
            chunk += 1;
        }
        Ok(())
    }

    /// Sets a run at `chunk`, where it begins a table's range that is covered up to before `end` and has no
    /// table. How many chunks that is.
    fn set_run(&self, chunk: ChunkNumber, first: ChunkNumber, end: ChunkNumber) -> usize {
        let mut word = self.root_word(chunk);
        for shift in LEVELS {
            let span = 1 << shift;
            let covered = chunk.is_multiple_of(span) && chunk + span <= end;
            match Word::new(word.load(Ordering::Acquire)) {
                Word::Table(table) => word = word_in(table, chunk, shift - TABLE_BITS),
                Word::Nothing if covered => {
                    let set = word.compare_exchange(
                        0,
                        run(chunk - first),
                        Ordering::AcqRel,
                        Ordering::Acquire,
                    );
                    return if set.is_ok() { span } else { 0 };
                }
                Word::Nothing if shift == TABLE_BITS => return 0,
                // A smaller table's range may be covered, but is named by a table that is missing.
                Word::Nothing | Word::Run(_) => return 0,
            }
        }
        0
    }

    /// Takes back what [`PageMap::reach`] has noted.
    pub(crate) fn unreach(&self, first: ChunkNumber, last: ChunkNumber) {
        let mut chunk = first + 1;
        'next: while chunk <= last {
            let mut word = self.root_word(chunk);
            for shift in LEVELS {
                match Word::new(word.load(Ordering::Acquire)) {
                    Word::Table(table) => word = word_in(table, chunk, shift - TABLE_BITS),
                    Word::Run(distance) => {
                        let begin = chunk >> shift << shift;
                        if begin - first.min(begin) == distance {
                            word.store(0, Ordering::Release);
                        }
                        chunk = begin + (1 << shift);
                        continue 'next;
                    }
                    Word::Nothing => {
                        chunk = ((chunk >> shift) + 1) << shift;
                        continue 'next;
                    }
                }
            }
            update(word, |entry| {
                let whole = (chunk - first) as u64;
                if entry.reach() as u64 == whole.min(MAX_REACH) {
                    entry.with_reach(0)
                } else {
                    entry
                }
            });
            chunk += 1;
        }
    }

    /// The chunk in which the object starts that reaches into this one, if any does.
    #[inline]
    pub(crate) fn reaching(&self, mut chunk: ChunkNumber) -> Option<ChunkNumber> {
        loop {
            let back = match self.look(chunk) {
                Look::Nothing => return None,
                // Runs say all.
                Look::Run(distance) => return chunk.checked_sub(distance),
                Look::Entry(entry) => read(entry).reach(),
            };
            if back == 0 {
                return None;
            }
            if back < MAX_REACH as usize {
                return chunk.checked_sub(back);
            }
            // So far at least: one less leads to a chunk that the object still reaches into, not to the one it starts
            // in, of which another object may say something.
            chunk = chunk.checked_sub(back - 1)?;
        }
    }

    /// Forgets everything; the memory of the tables is given back by its owner.
    pub(crate) fn empty(&self) {
        self.root
            .iter()
            .for_each(|word| word.store(0, Ordering::Relaxed));
        self.first_used.store(ROOT, Ordering::Relaxed);
        self.end_used.store(0, Ordering::Relaxed);
    }
}

#[inline(always)]
fn word_in<'a>(table: NonNull<u64>, chunk: ChunkNumber, shift: u32) -> &'a AtomicU64 {
    word_of(table, chunk >> shift & (TABLE - 1))
}

#[cold]
fn make_table<'a>(word: &AtomicU64, source: &Source<'a>) -> Result<NonNull<u64>, Blocked> {
    let table = source.page().ok_or(Blocked::NoMemory)?;
    let bits = Hidden::new(table.expose_provenance().get()).bits();
    match word.compare_exchange(0, bits, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Ok(table),
        // Another CPU was faster. Its table it is; this page waits for the day when all is given back.
        Err(other) => match Word::new(other) {
            Word::Table(table) => Ok(table),
            Word::Run(distance) => Err(Blocked::Run(distance)),
            Word::Nothing => Err(Blocked::NoMemory),
        },
    }
}

/// Names the index of a chunk, unless another CPU has meanwhile: the one that is named then.
#[cold]
pub(crate) fn install(entry: &AtomicU64, new: Chunk) -> Chunk {
    let mut now = read(entry);
    loop {
        if let Some(chunk) = now.chunk() {
            return chunk;
        }
        let next = now.with_chunk(new);
        match entry.compare_exchange(now.0, next.0, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return new,
            Err(other) => now = Entry(other),
        }
    }
}

/// Names another index of a chunk. By who has the lock of the one before.
pub(crate) fn replace(entry: &AtomicU64, new: Option<Chunk>) {
    update(entry, |entry| match new {
        Some(chunk) => entry.with_chunk(chunk),
        None => Entry(entry.0 & MAX_REACH),
    });
}

fn update(entry: &AtomicU64, change: impl Fn(Entry) -> Entry) {
    let _ = entry.fetch_update(Ordering::AcqRel, Ordering::Acquire, |bits| {
        let changed = change(Entry(bits));
        (changed.0 != bits).then_some(changed.0)
    });
}

/// A table of the lowest level: the entries of 512 chunks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaf(NonNull<u64>);

impl Leaf {
    /// The indexes of its chunks, with the chunks' numbers. `leaf` is the table's own number.
    pub(crate) fn chunks(self, leaf: usize) -> impl Iterator<Item = (ChunkNumber, Chunk)> {
        (0..TABLE).filter_map(move |index| {
            let chunk = read(word_of(self.0, index)).chunk()?;
            Some((leaf << TABLE_BITS | index, chunk))
        })
    }

    /// The entry of one of its chunks.
    pub(crate) fn entry<'a>(self, chunk: ChunkNumber) -> &'a AtomicU64 {
        word_in(self.0, chunk, 0)
    }
}
