//! Who vouches that tracked memory can be read.
//!
//! Callbacks are safe functions that take numbers: any caller can name memory that does not exist. So that a callback has named
//! memory is no reason to read it. Two can vouch:
//!
//! - the platform, for what it knows to be mapped ([`Platform::readable`]);
//! - a [`Tracked`](crate::Tracked): its blocks come from a `GlobalAlloc`, which promises that they are memory until they go back.
//!
//! As long as only such allocators have named memory, the platform is not asked, and need not know anything. From the first
//! call of a *stranger* (any other caller) on, it is asked about all blocks.
//!
//! # Locks
//!
//! None. A stranger is noted before its block is recorded, under the lock of the block's chunk. The marker finds the block under
//! that lock, and so sees that there is a stranger.

use core::sync::atomic::Ordering;

use crate::atomic::AtomicBool;
use crate::platform::Platform;

/// Whether a caller that can't vouch for memory has named some. Relaxed: the lock of the block's chunk orders it, see above.
pub(crate) struct Strangers(AtomicBool);

impl Strangers {
    pub(crate) const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Notes that a stranger is about to name memory.
    #[inline(always)]
    pub(crate) fn note(&self) {
        if !self.0.load(Ordering::Relaxed) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Whether somebody vouches that `len` bytes of a block, or a region, at `start` can be read.
    #[inline(always)]
    pub(crate) fn or_platform<P: Platform>(&self, platform: &P, start: usize, len: usize) -> bool {
        !self.0.load(Ordering::Relaxed) || platform.readable(start, len)
    }
}
