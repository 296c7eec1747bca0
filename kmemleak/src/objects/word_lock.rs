//! A spin lock in half a word of a table, where a lock of its own for each entry is to take no room.
//!
//! Free is 0, which a zeroed table holds. Interrupts are off while it is held.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::atomic::{AtomicU16, spin_loop};

/// Waits for the lock. Acquire: what was done under it before is seen.
#[inline(always)]
pub(crate) fn lock(word: &AtomicU16) {
    while word.compare_exchange_weak(0, 1, Acquire, Relaxed).is_err() {
        while word.load(Relaxed) != 0 {
            spin_loop();
        }
    }
}

/// Takes it if it is free.
#[inline(always)]
pub(crate) fn try_lock(word: &AtomicU16) -> bool {
    word.compare_exchange(0, 1, Acquire, Relaxed).is_ok()
}

/// Gives it back. Release: who takes it next sees what was done.
#[inline(always)]
pub(crate) fn unlock(word: &AtomicU16) {
    word.store(0, Release);
}
