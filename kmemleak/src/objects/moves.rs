//! How many blocks an allocator is moving or resizing: their records are in no chunk meanwhile.
//!
//! While an allocator moves a block, its record must be at neither place: the old one may be another block's at any moment, and the
//! new one is not known yet. Nobody reads the block then, so what only it points to seems to be lost. So a pass counts for certain
//! only if no block was *in flight* at its end: with the world stopped, if none is in flight; while other code runs, if none was, and
//! none has been since, when it last looked for blocks to be scanned.
//!
//! # Locks
//!
//! None. A move is counted before the record is taken out, under the lock of its chunk, and until after it was put back: a pass that
//! does not find it in its chunk sees that a move has begun, since it takes that lock afterwards.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::atomic::AtomicUsize;

/// The moves of blocks that have begun, and those that have ended.
pub(crate) struct Moves {
    /// Relaxed: the lock of the block's chunk orders it.
    begun: AtomicUsize,
    /// Publishes where the records are now: stored with Release, loaded with Acquire by a pass that looks for them.
    ended: AtomicUsize,
}

/// No block is in flight. It holds the number of moves so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standstill(usize);

impl Moves {
    pub(crate) const fn new() -> Self {
        Self {
            begun: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
        }
    }

    /// A record is about to be taken out.
    pub(crate) fn begin(&self) {
        self.begun.fetch_add(1, Relaxed);
    }

    /// The record has been put back, or is given up.
    pub(crate) fn end(&self) {
        self.ended.fetch_add(1, Release);
    }

    /// How many blocks are in flight.
    pub(crate) fn in_flight(&self) -> usize {
        // In this order: what has ended had begun before.
        let ended = self.ended.load(Acquire);
        self.begun.load(Relaxed).wrapping_sub(ended)
    }

    /// Whether no block is in flight.
    pub(crate) fn standstill(&self) -> Option<Standstill> {
        let ended = self.ended.load(Acquire);
        (self.begun.load(Relaxed) == ended).then_some(Standstill(ended))
    }

    /// Whether no move has begun since.
    pub(crate) fn none_since(&self, standstill: Standstill) -> bool {
        self.begun.load(Relaxed) == standstill.0
    }
}
