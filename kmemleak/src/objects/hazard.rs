//! The block that the marker reads while other code runs, so that its free waits.
//!
//! The marker says which block it reads while it holds the lock of the chunk in which the block starts, and
//! sees the block there. A free takes the block out under the same lock, and waits thereafter. So either the free
//! comes first, and the marker does not find the block; or the marker does, and the free sees it read.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::atomic::{AtomicUsize, spin_loop};

/// The start of the block, inverted; zero for none. It is set Relaxed: the lock of the chunk orders that for a free. It is
/// cleared with Release and waited for with Acquire: the marker's reads are over when the block is another's.
pub(crate) struct Hazard(AtomicUsize);

impl Hazard {
    pub(crate) const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Waits while the block at `start` is read. It has been taken out of its chunk.
    #[inline(always)]
    pub(crate) fn wait(&self, start: usize) {
        while self.0.load(Acquire) == !start {
            spin_loop();
        }
    }

    /// The block at `start` is read from here on. Its chunk is locked, and it is there.
    pub(crate) fn set(&self, start: usize) {
        self.0.store(!start, Relaxed);
    }

    /// It is read no more.
    pub(crate) fn clear(&self) {
        self.0.store(0, Release);
    }
}
