//! A pass over memory as it was when it was frozen: who reads which block, and what was found in blocks that are freed meanwhile.
//!
//! The pass marks what was reachable at one moment, while other code runs on ([`Platform::freeze`](crate::Platform::freeze)).
//! Each block that was there at that moment is read once, with its contents of then: by the marker; or, if it is freed before
//! the marker has come to it, by the code that frees it. For it may have been the only one that held others, and these have
//! been moved to where nobody looks: to a stack, or into a new block. What such code finds are *candidates* for the marker.
//!
//! The record's [`BORN`](flag::BORN) says that a block is not to be read (any more): it is new, or somebody reads it. So all flags
//! of that name are cleared before memory is frozen, and each that is set afterwards counts, whatever the block's birth.
//!
//! # Invariants
//!
//! - Who sets the flag on a block that was there reads the block.
//! - The marker stops in a block as soon as it is not the [current](Frozen::is_current) one any more: then the code that frees it
//!   reads the rest.
//! - The pass is over only if no such code was at work when its candidates had been looked at. Then each block that was reachable
//!   has been read: by whom it was found unread, its flag was set under the lock of its chunk, behind the note that somebody is
//!   at work.
//!
//! # Locks
//!
//! That of the candidates, a leaf. Flag and current block change under the lock of the block's chunk.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

use crate::atomic::{AtomicBool, AtomicUsize, Lock};
use crate::metadata::hidden::Hidden;
use crate::metadata::page::PageSource;
use crate::metadata::page_vec::PageVec;
use crate::objects::chunk::info;
use crate::objects::object::Object;
use crate::objects::record::flag;

/// How far the marker has come in a block that is not read from start to end.
const SOMEWHERE: usize = usize::MAX;

/// A number that may be an address in a block, and where it was found in a root; or no place, if it was found elsewhere.
#[derive(Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) slot: Hidden,
    pub(crate) number: Hidden,
}

struct Candidates {
    rows: PageVec<Candidate>,
    /// How many of them were taken.
    taken: usize,
}

/// What code that frees a block has to read of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    Nothing,
    All,
    /// From this address on.
    From(usize),
    /// It can't be told.
    Unknown,
}

/// The state of a pass over frozen memory.
pub(crate) struct Frozen {
    /// Whether memory is frozen. Set while the world is stopped, which orders it. When it is cleared: code that is about to free a block
    /// counts in `begun` and then looks here, and who thaws memory clears this and then looks there. So one of them sees the other:
    /// these four accesses are SeqCst.
    on: AtomicBool,
    /// Whether the pass can't be finished: something was lost. One word: Relaxed.
    lost: AtomicBool,
    /// The start of the block that the marker reads, inverted; zero for none. Under the lock of the block's chunk, as the next.
    current: AtomicUsize,
    /// Up to where the marker has read it.
    reached: AtomicUsize,
    /// How often code that frees a block has begun to read it. For the marker the lock of the block's chunk orders it.
    begun: AtomicUsize,
    /// How often it has ended. Publishes what was found: stored with Release, loaded with Acquire by the marker.
    ended: AtomicUsize,
    candidates: Lock<Candidates>,
}

impl Candidate {
    pub(crate) const NONE: Self = Self {
        slot: Hidden::NONE,
        number: Hidden::NONE,
    };
}

impl Frozen {
    pub(crate) const fn new() -> Self {
        Self {
            on: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            current: AtomicUsize::new(0),
            reached: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            candidates: Lock::new(Candidates {
                rows: PageVec::new(),
                taken: 0,
            }),
        }
    }

    /// Whether memory is frozen.
    #[inline(always)]
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    /// Begins a pass. The world is stopped.
    pub(crate) fn begin(&self) {
        self.lost.store(false, Relaxed);
        self.current.store(0, Relaxed);
        self.on.store(true, Relaxed);
    }

    /// The pass is over, or given up. Memory may thaw as soon as [all is quiet](Self::is_quiet).
    pub(crate) fn end(&self) {
        self.on.store(false, SeqCst);
    }

    /// Forgets the candidates of the last pass. With interrupts off.
    pub(crate) fn forget_candidates(&self) {
        let mut candidates = self.candidates.lock();
        candidates.rows.clear();
        candidates.taken = 0;
    }

    /// Forgets everything; its owner gives the memory back.
    pub(crate) fn empty(&self) {
        self.candidates.lock().rows.empty();
        self.candidates.lock().taken = 0;
    }

    /// Something was lost that the pass would need.
    #[cold]
    pub(crate) fn lose(&self) {
        self.lost.store(true, Relaxed);
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Relaxed)
    }

    // The marker.

    /// Notes that the marker reads a block now, all of it while its [hazard](super::hazard) is set; false if the block is not to be
    /// read. Its chunk is open.
    pub(crate) fn open_whole(&self, object: Object<'_>) -> bool {
        let unread = !object.record.has(flag::BORN);
        if unread {
            take(object);
        }
        unread
    }

    /// Notes that the marker reads a block from here on, piece by piece; false if the block is not to be read. Its chunk is open.
    pub(crate) fn open(&self, object: Object<'_>) -> bool {
        if object.record.has(flag::BORN) {
            return false;
        }
        take(object);
        self.current.store(!object.start, Relaxed);
        self.reached.store(SOMEWHERE, Relaxed);
        true
    }

    /// Whether it is still the marker that reads the block at `start`. Its chunk is open.
    pub(crate) fn is_current(&self, start: usize) -> bool {
        self.current.load(Relaxed) == !start
    }

    /// Notes that the marker has read the current block up to `end`, or does so now. The block's chunk is open.
    pub(crate) fn reach(&self, end: usize) {
        self.reached.store(end, Relaxed);
    }

    /// The marker has read all of the block at `start`. The block's chunk is open, if the block is still there.
    pub(crate) fn close(&self) {
        self.current.store(0, Relaxed);
    }

    // Code that frees a block.

    /// What the code that is about to free a block has to read of it; from now on the marker does not. Its chunk is open. Unless it
    /// is nothing, [`done`](Self::done) follows.
    pub(crate) fn take_over(&self, object: Object<'_>) -> Rest {
        let unread = !object.record.has(flag::BORN);
        if !unread && !self.is_current(object.start) {
            return Rest::Nothing;
        }
        self.begun.fetch_add(1, SeqCst);
        if !self.on.load(SeqCst) {
            // Memory thaws, which does not wait for this.
            self.done();
            return Rest::Nothing;
        }
        if unread {
            take(object);
            return Rest::All;
        }
        self.current.store(0, Relaxed);
        match self.reached.load(Relaxed) {
            SOMEWHERE => Rest::Unknown,
            reached => Rest::From(reached),
        }
    }

    /// Ends what `take_over` began.
    pub(crate) fn done(&self) {
        self.ended.fetch_add(1, Release);
    }

    /// Whether no code reads a block that it is about to free.
    pub(crate) fn is_quiet(&self) -> bool {
        // In this order: what has ended had begun before.
        let ended = self.ended.load(Acquire);
        self.begun.load(SeqCst) == ended
    }

    // Candidates.

    /// Notes candidates for the marker. With interrupts off.
    pub(crate) fn note(&self, candidates: &[Candidate], meta: &impl PageSource) {
        let noted = self.candidates.lock().rows.append(candidates, meta);
        if noted.is_err() {
            self.lose();
        }
    }

    /// Takes some candidates. With interrupts off.
    pub(crate) fn take_some(&self, places: &mut [Candidate]) -> usize {
        let mut candidates = self.candidates.lock();
        let mut len = 0;
        for place in places {
            let Some(&candidate) = candidates.rows.get(candidates.taken) else {
                candidates.rows.clear();
                candidates.taken = 0;
                break;
            };
            *place = candidate;
            candidates.taken += 1;
            len += 1;
        }
        len
    }
}

/// Notes that somebody reads a block: nobody else does. Its chunk is open.
fn take(object: Object<'_>) {
    object.record.set(flag::BORN);
    object.chunk.set(info::BORN);
}
