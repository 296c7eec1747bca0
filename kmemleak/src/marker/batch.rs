//! Candidates: words that lie between the first and the last tracked byte. Each is looked up, and what it points to is marked.
//!
//! That takes three cache misses: the entry of the chunk (and the tables that lead there), the record, the object's words. So
//! candidates wait until there are some: then each step is taken for all of them, and what the next step reads is prefetched
//! meanwhile.
//!
//! Most candidates are pointers to the start of an object that is marked already, or is plain. What is none of these is looked up
//! [the long way](Marker::look_up), behind the others.
//!
//! While other code runs, candidates are read with interrupts off, and looked at when these are on again: a pointer counts
//! if it was there when it was read, whatever becomes of the block that held it. What is marked needs no lock to be passed over: marks
//! are cleared at the beginning of a pass, and when an object is freed. Of the others, some are marked in a
//! [window](super::window), each under the lock of its chunk.
//!
//! # Invariants
//!
//! - While other code runs, [`flush`](Marker::flush) is called with interrupts on, and with no chunk open.
//! - A candidate waits at most until the object whose words are being read changes, if that has an excess reference
//!   ([`Marker::area`](super::Marker)), and at most until the queue is empty: [`Marker::flush`].
//! - There is always room for the candidates of one more [`STRETCH`].

use core::cell::Cell;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use super::candidates::{note_interior_only, postpone};
use super::window::{MARKS, Off};
use super::{Marker, PointerPass};
use crate::atomic::AtomicU64;
use crate::marker::queue::Entry;
use crate::marker::words::MappedWords;
use crate::metadata::WORD;
use crate::objects::access::Access;
use crate::objects::chunk::{Chunk, ENTRY_WORDS, granule_of, info};
use crate::objects::page_map::{Look, PageMap, WalkCache, chunk_of};
use crate::platform::Platform;
use crate::platform::arch::prefetch;

/// So many candidates are looked at together, or more.
const ENOUGH: usize = 32;

/// Words that are searched for candidates at once.
const STRETCH: usize = 64;

/// Candidates that may wait.
const ROOM: usize = ENOUGH + STRETCH;

/// Entries with no objects, for candidates whose chunk has none.
static NO_ENTRIES: [[AtomicU64; ENTRY_WORDS]; 2] =
    [const { [const { AtomicU64::new(0) }; ENTRY_WORDS] }; 2];

/// The entry of a chunk that has none, nor lies in a large object.
fn nowhere() -> Chunk {
    // SAFETY: an entry in which no object starts, and which is never changed.
    unsafe { Chunk::at(NonNull::from(&NO_ENTRIES[0]).cast()) }
}

/// The entry of a chunk that has none since it lies in a large object.
fn in_run() -> Chunk {
    // SAFETY: as above.
    unsafe { Chunk::at(NonNull::from(&NO_ENTRIES[1]).cast()) }
}

/// Candidates that wait, and what is known of them while they are looked at.
pub(super) struct Batch {
    words: [usize; ROOM],
    len: usize,
    chunks: [Chunk; ROOM],
    odd: Odd,
}

/// Candidates that are looked up the long way.
struct Odd {
    words: [usize; ROOM],
    len: usize,
    /// How many others led nowhere.
    misses: u64,
}

impl Odd {
    /// Takes a candidate in this chunk, unless it is certain to point to no object.
    #[cold]
    #[inline(never)]
    fn add(&mut self, word: usize, chunk: Chunk) {
        let blank = |chunk: Chunk| {
            chunk.starts().load(Ordering::Relaxed) == 0 && chunk != in_run() && chunk.is_blank()
        };
        if chunk == nowhere() || blank(chunk) {
            self.misses += 1;
        } else {
            self.words[self.len] = word;
            self.len += 1;
        }
    }
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            words: [0; ROOM],
            len: 0,
            chunks: [nowhere(); ROOM],
            odd: Odd {
                words: [0; ROOM],
                len: 0,
                misses: 0,
            },
        }
    }

    /// Leaves no addresses of blocks on the stack that this lies on.
    pub(super) fn wipe(&mut self) {
        self.words.fill(0);
        self.odd.words.fill(0);
        core::hint::black_box(self);
    }
}

impl<P: Platform, A: Access> Marker<'_, P, A> {
    /// Handles a word that may be an address in an object. While other code runs there must be room, which [`is_full`](Self::is_full)
    /// tells.
    #[inline(always)]
    pub(super) fn candidate(&mut self, word: usize) {
        self.batch.words[self.batch.len] = word;
        self.batch.len += 1;
        if A::STOPPED {
            self.flush_full();
        }
    }

    /// Whether enough candidates wait to be looked at.
    #[inline(always)]
    pub(super) fn is_full(&self) -> bool {
        self.batch.len >= ENOUGH
    }

    /// Looks at the candidates if enough of them wait. While other code runs: with interrupts on.
    #[inline(always)]
    pub(super) fn flush_full(&mut self) {
        if self.is_full() {
            self.flush();
        }
    }

    /// Finds the candidates among words, and returns those words that are left. None are left in a stopped world; while other code
    /// runs, some may be when enough candidates wait.
    #[inline(always)]
    pub(super) fn find_candidates(&mut self, mut words: MappedWords) -> MappedWords {
        loop {
            let Some(filter) = &self.filter else {
                return self.find_singly(words);
            };
            let stretch = words.take(STRETCH);
            let room = self.batch.words.as_mut_ptr().wrapping_add(self.batch.len);
            // SAFETY: the words may be read, and there is always room for a stretch.
            let found = unsafe { filter.collect(stretch.start(), stretch.len(), room) };
            self.batch.len += found;
            if A::STOPPED {
                self.flush_full();
            }
            if words.len() == 0 || !A::STOPPED && self.is_full() {
                return words;
            }
        }
    }

    /// Finds the candidates among words that are not plain, or where the range of all objects has no filter.
    #[inline(never)]
    fn find_singly(&mut self, mut words: MappedWords) -> MappedWords {
        let (platform, lowest, span) = (self.tools.platform, self.lowest, self.span);
        loop {
            let stretch = words.take(STRETCH);
            match stretch.search() {
                Some(mut search) => {
                    while let Some(word) = search.next_within(platform, lowest, span) {
                        self.candidate(word);
                    }
                }
                None => {
                    for (_, word) in stretch.each_within(platform, lowest, span) {
                        self.candidate(word);
                    }
                }
            }
            if words.len() == 0 || !A::STOPPED && self.is_full() {
                return words;
            }
        }
    }

    /// Looks at all candidates that wait.
    #[inline(never)]
    pub(super) fn flush(&mut self) {
        let len = core::mem::take(&mut self.batch.len);
        self.candidates += len as u64;
        self.find_entries(len);
        if A::STOPPED {
            self.mark_plain(len);
        } else {
            self.mark_locked(len);
        }
        self.misses += core::mem::take(&mut self.batch.odd.misses);
        for index in 0..core::mem::take(&mut self.batch.odd.len) {
            self.look_up(self.batch.odd.words[index]);
        }
    }

    /// Finds the entries of the chunks that the first candidates lie in, `len` of them.
    #[inline(always)]
    fn find_entries(&mut self, len: usize) {
        let mut walk = self.walk_cache;
        let Batch { words, chunks, .. } = &mut self.batch;
        for (&word, chunk) in words[..len].iter().zip(chunks) {
            let Some(entry) = walk.entry(word) else {
                (walk, *chunk) = walk_all(walk, &self.tools.registry.map, word);
                continue;
            };
            prefetch(entry.entry().addr().get());
            *chunk = entry;
        }
        self.walk_cache = walk;
    }

    /// Marks what the first candidates point to, `len` of them, where that is plain. The others are odd. The chunks' entries are
    /// known.
    #[inline(always)]
    fn mark_plain(&mut self, len: usize) {
        let Batch {
            words, chunks, odd, ..
        } = &mut self.batch;
        let words = Cell::from_mut(&mut words[..len]).as_slice_of_cells();
        let chunks = Cell::from_mut(&mut chunks[..len]).as_slice_of_cells();
        let interiors = self.pointers == PointerPass::Interiors;
        // A note is left in the record of what only interior pointers reach.
        let known = if interiors { 0 } else { u32::MAX };
        let mut marked = 0;
        for (word, chunk) in words.iter().zip(chunks) {
            let (word, chunk) = (word.get(), chunk.get());
            let granule = granule_of(word);
            if !word.is_multiple_of(WORD) {
                odd.add(word, chunk);
                continue;
            }
            // What is marked starts there.
            if chunk.marks().load(Ordering::Relaxed) >> granule & 1 != 0 {
                continue;
            }
            let starts = chunk.starts().load(Ordering::Relaxed);
            if starts.rotate_right(granule) & 1 == 0 {
                odd.add(word, chunk);
                continue;
            }
            let info = chunk.now();
            if info.has(info::SPECIAL) {
                odd.add(word, chunk);
                continue;
            }
            if !chunk.mark(granule) {
                continue;
            }
            let len = info.common_words() & known;
            if len == 0 {
                words[marked].set(word);
                chunks[marked].set(chunk);
                marked += 1;
            } else if !self.queue.push(Entry::of_words(word, len)) {
                // SAFETY: an object starts there: its bit was seen, and the world is stopped.
                let record = unsafe { chunk.record(granule) };
                postpone(word, record, chunk, &self.shared.spill);
            }
        }
        let marked = || {
            let marked = words.iter().zip(chunks).take(marked);
            marked.map(|(word, chunk)| {
                let (word, chunk) = (word.get(), chunk.get());
                // SAFETY: as above.
                (word, chunk, unsafe { chunk.record(granule_of(word)) })
            })
        };
        for (_, _, record) in marked() {
            prefetch(record.address());
        }
        for (word, chunk, record) in marked() {
            if interiors {
                note_interior_only(record, chunk);
            }
            if !self.queue.push(Entry::of_aligned(word, record)) {
                postpone(word, record, chunk, &self.shared.spill);
            }
        }
    }

    /// Marks what the first candidates point to, `len` of them, where that is plain, while other code runs. The others are odd. The
    /// chunks' entries are known.
    #[inline(always)]
    fn mark_locked(&mut self, len: usize) {
        let Batch {
            words, chunks, odd, ..
        } = &mut self.batch;
        let words = Cell::from_mut(&mut words[..len]).as_slice_of_cells();
        let chunks = Cell::from_mut(&mut chunks[..len]).as_slice_of_cells();
        let interiors = self.pointers == PointerPass::Interiors;
        // A note is left in the record of what only interior pointers reach.
        let known = if interiors { 0 } else { u32::MAX };
        let mut rest = words.iter().zip(chunks);
        let mut unmarked = 0;
        for (word, chunk) in words.iter().zip(chunks) {
            let (word, chunk) = (word.get(), chunk.get());
            let granule = granule_of(word);
            if !word.is_multiple_of(WORD) {
                odd.add(word, chunk);
            } else if chunk.marks().load(Ordering::Relaxed) >> granule & 1 != 0 {
                // What is marked starts there.
            } else if chunk.starts().load(Ordering::Relaxed).rotate_right(granule) & 1 == 0 {
                odd.add(word, chunk);
            } else if let Some((to_word, to_chunk)) = rest.next() {
                to_word.set(word);
                to_chunk.set(chunk);
                unmarked += 1;
            }
        }
        let (words, chunks) = (&words[..unmarked], &chunks[..unmarked]);
        for (words, chunks) in words.chunks(MARKS).zip(chunks.chunks(MARKS)) {
            let _off = Off::<P, A>::new(self.tools.platform);
            for (word, chunk) in words.iter().zip(chunks) {
                let (word, chunk) = (word.get(), chunk.get());
                let open = self.access.open(chunk_of(word), chunk);
                let (granule, info) = (granule_of(word), open.now());
                let starts = open.starts().load(Ordering::Relaxed);
                if starts.rotate_right(granule) & 1 == 0 || info.has(info::SPECIAL) {
                    odd.add(word, chunk);
                    continue;
                }
                if !open.mark(granule) {
                    continue;
                }
                let len = info.common_words() & known;
                if len != 0 && self.queue.push(Entry::of_words(word, len)) {
                    continue;
                }
                // SAFETY: an object starts there, and the chunk is open.
                let record = unsafe { open.record(granule) };
                if interiors {
                    note_interior_only(record, chunk);
                }
                if !self.queue.push(Entry::of_aligned(word, record)) {
                    postpone(word, record, chunk, &self.shared.spill);
                }
            }
        }
    }
}

/// Finds an entry where [`WalkCache::entry`] does not.
#[cold]
#[inline(never)]
fn walk_all(mut walk: WalkCache, map: &PageMap, word: usize) -> (WalkCache, Chunk) {
    let chunk = match walk.look(map, chunk_of(word)) {
        Look::Entry(entry) => entry,
        Look::Nothing => nowhere(),
        Look::Run(_) => in_run(),
    };
    (walk, chunk)
}
