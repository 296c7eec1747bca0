//! A spin lock in 16 bits of a table's entry, so that it takes no extra room.
//!
//! 0 means free, so the locks of a zeroed table are free. Interrupts are off while it is held.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::atomic::{AtomicU16, spin_loop};

/// Waits for the lock and takes it. Acquire: sees what was done under it before.
#[inline(always)]
pub(crate) fn lock(word: &AtomicU16) {
    while word.compare_exchange_weak(0, 1, Acquire, Relaxed).is_err() {
        while word.load(Relaxed) != 0 {
            spin_loop();
        }
    }
}

/// Takes the lock if it is free. Acquire: as in [`lock`].
#[inline(always)]
pub(crate) fn try_lock(word: &AtomicU16) -> bool {
    word.fetch_or(1, Acquire) & 1 == 0
}

/// Releases the lock. Release: the next CPU that takes it sees what was done under it.
#[inline(always)]
pub(crate) fn unlock(word: &AtomicU16) {
    word.store(0, Release);
}
