//! What the marker has found and not yet scanned: a queue for each CPU, and a steal buffer from which others take.
//!
//! A queue is a ring in pages of metadata that only its CPU uses; the more objects there are, the more pages it has. While other
//! workers wait for work, its CPU puts some of the oldest entries into its steal buffer; a worker that has nothing to do empties
//! the buffer of another one. A full queue refuses: the object then waits where it is, in a list that takes no memory
//! ([`crate::objects::spill`]), and any worker whose queue is empty goes on there. So marking needs no memory that it might not get.
//! Such an object costs a look at its record and at its neighbours more than one in a queue, whatever else is tracked.
//!
//! # Locks
//!
//! One for each steal buffer, held while its entries are copied.

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use crate::atomic::{AtomicU64, AtomicUsize, Lock};
use crate::metadata::hidden::Hidden;
use crate::metadata::page::PageSource;
use crate::metadata::{MetaAlloc, PAGE_WORDS, WORD, word_of};
use crate::objects::info::MAX_COMMON_WORDS;
use crate::objects::record::RecordRef;

/// Pages of a queue at most.
const MAX_PAGES: usize = PAGE_WORDS;
/// Where there are many objects, all queues together have a word for so many of them. In a graph of objects that point to two others
/// each, about a fifth of all wait at once at most, in whatever order they are scanned.
const OBJECTS_A_WORD: usize = 4;
/// Where there are few, they have a word for every second one, up to so many words.
const FEW_WORDS: usize = 8 * PAGE_WORDS;
/// Entries of a queue for which there is no memory.
const FEW: usize = 8;
/// Entries that go into a steal buffer at once.
const BATCH: usize = 64;
/// CPUs that can mark together; further CPUs have nothing to do.
pub(crate) const MAX_WORKERS: usize = 64;

/// An object that is marked and is to be scanned, in a word: its start without the lowest three bits (45 bits), inverted as all
/// addresses in metadata; and its length in words (19 bits). If the object's record has to be read, the largest lengths stand for
/// the lowest three bits of its start. So they do if it is [long](LONG), since it is scanned a stretch at a time then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry(u64);

const LEN_BITS: u32 = 19;
const MAX_LEN: u64 = (1 << LEN_BITS) - 1;
/// Words of an object that is long.
const LONG: u64 = MAX_COMMON_WORDS as u64 + 1;
/// The lowest bits of a start.
const LOW: usize = WORD - 1;

impl Entry {
    /// No entry: no object is at the end of the address space.
    pub(crate) const NONE: Self = Self(0);

    #[inline(always)]
    pub(crate) fn new(start: usize, record: RecordRef) -> Self {
        if start & LOW == 0 && record.read().is_plain() {
            Self::of_aligned(start, record)
        } else {
            Self::made(start, MAX_LEN - (start & LOW) as u64)
        }
    }

    /// The entry of a plain object that starts at a multiple of eight.
    #[inline(always)]
    pub(crate) fn of_aligned(start: usize, record: RecordRef) -> Self {
        let words = u64::from(record.short_size()) / WORD as u64;
        Self::made(start, if words < LONG { words } else { MAX_LEN })
    }

    /// The entry of a plain object of so many words, at most [`MAX_COMMON_WORDS`], that starts at a multiple of eight.
    #[inline(always)]
    pub(crate) fn of_words(start: usize, words: u32) -> Self {
        Self::made(start, u64::from(words))
    }

    #[inline(always)]
    fn made(start: usize, len: u64) -> Self {
        Self((!start as u64 >> 3) << LEN_BITS | len)
    }

    #[inline(always)]
    pub(crate) fn start(self) -> usize {
        let start = self.aligned_start();
        match self.plain_len() {
            Some(_) => start,
            None => start + (MAX_LEN - (self.0 & MAX_LEN)) as usize,
        }
    }

    /// Start and bytes of an object whose record need not be read: of whole words from the start on, all of which are scanned.
    #[inline(always)]
    pub(crate) fn plain(self) -> Option<(usize, usize)> {
        let len = self.plain_len()?;
        Some((self.aligned_start(), len))
    }

    /// Where the first bytes lie that are about to be scanned, as far as the entry tells, at most so many.
    #[inline(always)]
    pub(crate) fn extent_to_prefetch(self, most: usize) -> (usize, usize) {
        let start = self.aligned_start();
        // Nothing starts so near the end of the address space that this overflows; and if it did, nothing would be prefetched.
        let len = ((self.0 & MAX_LEN) as usize * WORD).min(most);
        (start, start.wrapping_add(len))
    }

    /// The start without the lowest three bits.
    #[inline(always)]
    fn aligned_start(self) -> usize {
        !((self.0 as i64 >> (LEN_BITS - 3)) as usize | LOW)
    }

    /// Bytes in whole words from the start on, all of which are scanned; `None` if the record has to be read.
    #[inline(always)]
    pub(crate) fn plain_len(self) -> Option<usize> {
        let words = self.0 & MAX_LEN;
        (words < MAX_LEN - LOW as u64).then_some(words as usize * WORD)
    }
}

/// What takes a page of memory at most.
pub(crate) type OnePage<'l> = &'l mut dyn FnMut(&MetaAlloc<'_>);

/// A CPU's memory for marking, kept from one pass to the next.
pub(crate) struct WorkerQueue {
    /// The first page of the ring, the page that names the others, and how many there are in all. Like `steal_buffer`, they publish
    /// pages and their contents: stored with Release by the task that prepares a pass, loaded with Acquire by the workers.
    first: AtomicU64,
    ring: AtomicU64,
    pages: AtomicUsize,
    steal_buffer: AtomicU64,
    /// A queue of few entries, used where there is no memory for the ring. Words of queues are Relaxed: each belongs to one
    /// worker or, in the steal buffer, is accessed under the lock.
    few: [AtomicU64; FEW],
    /// Entries in the steal buffer. Changed under the lock, which orders the entries as well. Read without the lock, it is a hint
    /// for a worker that looks for work: loaded with Acquire, stored with Release by the worker that offers, so that the last
    /// worker that looks finds no entry left over (`SharedPass::active`). The queue's own worker reads Relaxed what it stored
    /// itself, or what a thief left.
    offered: AtomicUsize,
    lock: Lock<()>,
}

/// The queues of all CPUs.
pub(crate) struct WorkQueues([WorkerQueue; MAX_WORKERS]);

impl WorkQueues {
    pub(crate) const fn new() -> Self {
        Self(
            [const {
                WorkerQueue {
                    first: AtomicU64::new(0),
                    ring: AtomicU64::new(0),
                    pages: AtomicUsize::new(0),
                    steal_buffer: AtomicU64::new(0),
                    few: [const { AtomicU64::new(0) }; FEW],
                    offered: AtomicUsize::new(0),
                    lock: Lock::new(()),
                }
            }; MAX_WORKERS],
        )
    }

    /// Allocates memory for `workers` CPUs and about `objects` objects, if there is any. Called before the world is stopped. `page` turns
    /// interrupts off and calls what it is given, for a page of memory at most: there may be many.
    pub(crate) fn prepare(
        &self,
        workers: usize,
        objects: usize,
        page: &mut dyn FnMut(OnePage<'_>),
    ) {
        let workers = workers.clamp(1, MAX_WORKERS);
        let words = (objects / OBJECTS_A_WORD).max((objects / 2).min(FEW_WORDS));
        let pages = words.div_ceil(PAGE_WORDS * workers).clamp(1, MAX_PAGES);
        for queue in &self.0[..workers] {
            if workers > 1 {
                page(&mut |meta| _ = made(&queue.steal_buffer, meta));
            }
            if pages > 1 {
                page(&mut |meta| _ = made(&queue.ring, meta));
            }
            while queue.pages.load(Ordering::Relaxed) < pages {
                let number = queue.pages.load(Ordering::Relaxed);
                let mut added = None;
                page(&mut |meta| added = add_segment(queue, number, meta));
                if added.is_none() {
                    return;
                }
                queue.pages.store(number + 1, Ordering::Release);
            }
        }
    }

    /// Takes up to a buffer full of entries that some CPU offers, and puts them into `queue`. False if no CPU offers any.
    pub(crate) fn steal(&self, workers: usize, queue: &mut Queue<'_>) -> bool {
        self.0[..workers].iter().any(|victim| {
            if victim.offered.load(Ordering::Acquire) == 0 {
                return false;
            }
            let _one_at_a_time = victim.lock.lock();
            let offered = victim.offered.load(Ordering::Acquire);
            let Some(steal_buffer) = page(&victim.steal_buffer) else {
                return false;
            };
            let mut taken = 0;
            while taken < offered
                && queue.push(
                    // SAFETY: one of the entries that were offered.
                    unsafe { get(steal_buffer, offered - 1 - taken) },
                )
            {
                taken += 1;
            }
            victim.offered.store(offered - taken, Ordering::Release);
            taken > 0
        })
    }

    /// Whether some CPU offers entries.
    pub(crate) fn any_offered(&self, workers: usize) -> bool {
        self.0[..workers]
            .iter()
            .any(|queue| queue.offered.load(Ordering::Acquire) != 0)
    }

    /// The queue of a worker, empty.
    pub(crate) fn queue(&self, worker: usize) -> Queue<'_> {
        let queue = &self.0[worker];
        queue.offered.store(0, Ordering::Release);
        let few = NonNull::from(&queue.few).cast();
        let pages = queue.pages.load(Ordering::Acquire);
        // A queue of few entries has one segment, which is its own successor.
        let (first, segments, segment_len) = match segment(queue, 0) {
            Some(first) if pages > 0 => (first, pages, PAGE_WORDS),
            _ => (few, 1, FEW),
        };
        Queue {
            queue,
            segments,
            segment_len,
            room: segments * segment_len,
            len: 0,
            head: Cursor::new(first),
            tail: Cursor::new(first),
            free_to: 0,
        }
    }

    /// Forgets the memory; its owner gives it back.
    pub(crate) fn empty(&self) {
        for queue in &self.0 {
            queue.pages.store(0, Ordering::Relaxed);
            queue.first.store(0, Ordering::Relaxed);
            queue.ring.store(0, Ordering::Relaxed);
            queue.steal_buffer.store(0, Ordering::Relaxed);
        }
    }
}

fn page(word: &AtomicU64) -> Option<NonNull<u64>> {
    Hidden::from_bits(word.load(Ordering::Acquire)).metadata()
}

/// The page that a word names; if it names none, a page is allocated.
fn made(word: &AtomicU64, meta: &MetaAlloc<'_>) -> Option<NonNull<u64>> {
    page(word).or_else(|| {
        let memory = meta.page().ok()?.start().cast();
        let hidden = Hidden::new(memory.expose_provenance().get());
        word.store(hidden.bits(), Ordering::Release);
        Some(memory)
    })
}

/// Allocates a page of a queue's ring, if there is none yet.
fn add_segment(queue: &WorkerQueue, number: usize, meta: &MetaAlloc<'_>) -> Option<NonNull<u64>> {
    if number == 0 {
        return made(&queue.first, meta);
    }
    let ring = made(&queue.ring, meta)?;
    // SAFETY: a page of words, and a ring has at most as many pages as that.
    made(unsafe { word_of(ring, number) }, meta)
}

/// A page of a queue's ring.
fn segment(queue: &WorkerQueue, number: usize) -> Option<NonNull<u64>> {
    if number == 0 {
        return page(&queue.first);
    }
    let ring = page(&queue.ring)?;
    // SAFETY: a page of words, and a ring has at most as many pages as that.
    page(unsafe { word_of(ring, number) })
}

/// # Safety
///
/// `page` is a segment or a steal buffer with more than `index` words.
#[inline(always)]
unsafe fn get(page: NonNull<u64>, index: usize) -> Entry {
    // SAFETY: the caller's promise.
    Entry(unsafe { word_of(page, index) }.load(Ordering::Relaxed))
}

/// # Safety
///
/// As for [`get`].
#[inline(always)]
unsafe fn put(page: NonNull<u64>, index: usize, entry: Entry) {
    // SAFETY: the caller's promise.
    unsafe { word_of(page, index) }.store(entry.0, Ordering::Relaxed);
}

/// A position in a queue, where entries are taken out or put in.
#[derive(Clone, Copy)]
struct Cursor {
    segment: usize,
    start: NonNull<u64>,
    at: usize,
}

impl Cursor {
    fn new(start: NonNull<u64>) -> Self {
        Self {
            segment: 0,
            start,
            at: 0,
        }
    }
}

/// Whether a segment has entries left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    GoesOn,
    Ended,
}

/// A CPU's queue: a ring of segments.
pub(crate) struct Queue<'a> {
    queue: &'a WorkerQueue,
    /// How many segments there are.
    segments: usize,
    /// Entries of a segment.
    segment_len: usize,
    /// Entries that it holds at most.
    room: usize,
    len: usize,
    head: Cursor,
    /// May stand at the end of its segment.
    tail: Cursor,
    /// The places from the tail up to this one, in its segment, are free. There may be more.
    free_to: usize,
}

impl Queue<'_> {
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether it is more than half full.
    pub(crate) fn is_filling(&self) -> bool {
        2 * self.len > self.room
    }

    /// Appends an entry. False if it is full.
    #[inline(always)]
    pub(crate) fn push(&mut self, entry: Entry) -> bool {
        if self.tail.at == self.free_to && !self.make_room() {
            return false;
        }
        // SAFETY: the tail stands in a segment, before its end.
        unsafe { put(self.tail.start, self.tail.at, entry) };
        self.tail.at += 1;
        self.len += 1;
        true
    }

    /// Finds places behind those that were known to be free. False if there are none.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self) -> bool {
        if self.len == self.room {
            return false;
        }
        if self.tail.at == self.segment_len {
            self.tail = self.after(self.tail);
        }
        self.free_to = self.segment_len.min(self.tail.at + (self.room - self.len));
        true
    }

    /// Takes the oldest entry.
    #[inline(always)]
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        let mut one = [Entry::NONE];
        let (len, _) = self.pop_some(&mut one);
        (len == 1).then_some(one[0])
    }

    /// Takes the oldest entries, at most `N`, all from one segment. Returns how many, and tells whether the segment's last one is
    /// among them.
    #[inline(always)]
    pub(crate) fn pop_some<const N: usize>(&mut self, to: &mut [Entry; N]) -> (usize, Segment) {
        let len = N.min(self.len).min(self.segment_len - self.head.at);
        for (entry, at) in to[..len].iter_mut().zip(self.head.at..) {
            // SAFETY: the head stands in a segment, which has so many entries more.
            *entry = unsafe { get(self.head.start, at) };
        }
        self.head.at += len;
        self.len -= len;
        if self.head.at < self.segment_len {
            return (len, Segment::GoesOn);
        }
        self.head = self.after(self.head);
        (len, Segment::Ended)
    }

    /// Entries of a segment.
    pub(crate) fn segment_len(&self) -> usize {
        self.segment_len
    }

    /// The beginning of the segment that follows a position's.
    #[cold]
    #[inline(never)]
    fn after(&self, end: Cursor) -> Cursor {
        let number = (end.segment + 1) % self.segments;
        Cursor {
            segment: number,
            // A single segment follows itself.
            start: segment(self.queue, number).unwrap_or(end.start),
            at: 0,
        }
    }

    /// Puts some entries into the steal buffer, if that is empty and the queue has plenty.
    #[inline(always)]
    pub(crate) fn offer(&mut self) {
        if self.queue.offered.load(Ordering::Relaxed) == 0 && self.len() > 2 * BATCH {
            self.offer_some();
        }
    }

    #[inline(never)]
    fn offer_some(&mut self) {
        let Some(steal_buffer) = page(&self.queue.steal_buffer) else {
            return;
        };
        let _one_at_a_time = self.queue.lock.lock();
        let mut count = 0;
        while count < BATCH
            && let Some(entry) = self.pop()
        {
            // SAFETY: a steal buffer has room for a batch.
            unsafe { put(steal_buffer, count, entry) };
            count += 1;
        }
        self.queue.offered.store(count, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
