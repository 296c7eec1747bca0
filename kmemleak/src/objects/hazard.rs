//! The block that the marker reads while other code runs, so that a free of the block waits.
//!
//! The marker stores which block it reads while it holds the lock of the chunk in which the block starts, and has
//! found the block there. A free takes the block out under that lock, and waits afterwards. So either the free comes
//! first, and the marker does not find the block; or the marker comes first, and the free sees that the block is read.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::atomic::{AtomicUsize, spin_loop};

/// The start of the block, inverted; zero for none. It is set Relaxed: the lock of the chunk orders that for a free that waits.
/// It is cleared with Release and waited for with Acquire: the marker's reads are over before the block is used again.
pub(crate) struct Hazard(AtomicUsize);

impl Hazard {
    pub(crate) const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Waits while the marker reads the block at `start`, which has been taken out of its chunk.
    #[inline(always)]
    pub(crate) fn wait(&self, start: usize) {
        while self.0.load(Acquire) == !start {
            spin_loop();
        }
    }

    /// Notes that the marker reads the block at `start` from here on. Its chunk is locked, and the block is in it.
    pub(crate) fn set(&self, start: usize) {
        self.0.store(!start, Relaxed);
    }

    /// Notes that the marker does not read the block any more.
    pub(crate) fn clear(&self) {
        self.0.store(0, Release);
    }
}
