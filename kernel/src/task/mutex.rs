//! The sleeping lock.

use core::cell::UnsafeCell;
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

use super::WaitQueue;
use super::waits::Awaited;

/// A lock whose waiters sleep. For tasks only, with no spinlock held; its holder may sleep, too.
pub struct Mutex<T: ?Sized> {
    gate: Gate,
    value: UnsafeCell<T>,
}

/// What of a lock is the same for all values.
struct Gate {
    locked: AtomicBool,
    waiters: WaitQueue,
}

impl Gate {
    /// Takes the lock if it is open.
    #[inline(always)]
    fn take(&self) -> bool {
        self.locked
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Sleeps until the lock is open, and takes it.
    #[inline(always)]
    fn wait(&self) {
        let open = || self.take().then_some(());
        self.waiters.wait_for_as(Awaited::Mutex, open);
    }
}

// SAFETY: the lock lets one task at a time reach the value.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: the lock lets one task at a time reach the value.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    /// An open lock.
    pub const fn new(value: T) -> Self {
        Self {
            gate: Gate {
                locked: AtomicBool::new(false),
                waiters: WaitQueue::new(),
            },
            value: UnsafeCell::new(value),
        }
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Sleeps until the lock is open, and takes it.
    #[inline(always)]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.gate.wait();
        MutexGuard { mutex: self }
    }

    /// Takes the lock if it is open. Any context.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        // Made only if the lock was taken: dropping a guard opens the lock.
        self.gate.take().then(|| MutexGuard { mutex: self })
    }
}

impl<T: ?Sized> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").finish_non_exhaustive()
    }
}

/// A held [`Mutex`].
#[derive(Debug)]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the lock is held.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held, and the guard is borrowed exclusively.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.mutex.gate.locked.store(false, Ordering::Release);
        self.mutex.gate.waiters.wake_one();
    }
}
