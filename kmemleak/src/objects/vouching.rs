//! Who answers for it that tracked memory can be read.
//!
//! Callbacks are safe functions that take numbers: a caller can name memory that does not exist. So nothing is read
//! because a callback has named it. Two can vouch:
//!
//! - the platform, for what it knows to be mapped ([`Platform::readable`]);
//! - a [`Tracked`](crate::Tracked): its blocks come from a `GlobalAlloc`, which promises that they are memory until they go back.
//!
//! As long as nobody but such allocators has told of memory, the platform is not asked, and need not know anything. From the
//! first *stranger* on it is asked about all.
//!
//! # Locks
//!
//! None. A stranger is noted before the block is recorded, under the lock of whose chunk the marker finds it; so who finds
//! the block knows of the stranger.

use core::sync::atomic::{AtomicBool, Ordering};

use crate::platform::Platform;

/// Whether somebody has named memory who can't vouch for it. Relaxed: the lock of the block's chunk orders it, see above.
pub(crate) struct Strangers(AtomicBool);

impl Strangers {
    pub(crate) const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// One is about to.
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
