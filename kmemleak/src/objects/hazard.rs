//! What the marker reads while other code runs: a block, so that its free waits, or a page of a region, so that the region's
//! removal waits.
//!
//! The marker stores which block it reads while it holds the lock of the chunk in which the block starts, and has
//! found the block there. A free takes the block out under that lock, and waits afterwards. So either the free comes
//! first, and the marker does not find the block; or the marker comes first, and the free sees that the block is read. For a
//! region the lock of the list of regions does the same: the marker stores what it reads, and looks for the region afterwards.

use core::ops::Range;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::atomic::{AtomicUsize, spin_loop};

/// Bytes that the marker reads in one piece, all of one page.
pub(crate) const PIECE: usize = 4096;

/// The start of the block or of the piece of a region, inverted; zero for none. It is set Relaxed: the lock of the chunk orders that for a free that waits.
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

    /// Waits while the marker reads a page that this range reaches into. The range has been taken out of the regions.
    pub(crate) fn wait_in(&self, range: Range<usize>) {
        // A piece lies in one page, and may begin before the range.
        let first = range.start & !(PIECE - 1);
        while (first..range.end).contains(&!self.0.load(Acquire)) {
            spin_loop();
        }
    }

    /// Notes that the marker reads the piece of a region that begins at `start` from here on, if a look at the regions then
    /// shows that it is one.
    #[inline(always)]
    pub(crate) fn set_region(&self, start: usize) {
        // Ordered by the lock of the regions.
        self.0.store(!start, Relaxed);
    }

    /// Notes that the marker reads the block at `start` from here on. Its chunk is locked, and the block is in it.
    #[inline(always)]
    pub(crate) fn set(&self, start: usize) {
        self.0.store(!start, Relaxed);
    }

    /// Notes that the marker does not read the block any more.
    #[inline(always)]
    pub(crate) fn clear(&self) {
        self.0.store(0, Release);
    }
}
