//! The spinlock, generic over what it disables.
//!
//! The lock word is the `spin` crate's. This file adds that the holder is not preempted, and that no CPU waits for a holder that
//! was halted at the end of the machine. `SpinLock<T>` disables preemption; `SpinLock<T, LocalIrqDisabled>` disables interrupts
//! as well, and is needed for all that an interrupt handler locks, too.

use core::fmt;
use core::ops::{Deref, DerefMut};

use spin::RelaxStrategy;
use spin::mutex::{SpinMutex, SpinMutexGuard};

use super::preempt::{IrqGuard, PreemptGuard};
use crate::arch::ending;

/// What a CPU does while it waits for a lock.
#[derive(Debug)]
struct Wait;

impl RelaxStrategy for Wait {
    #[inline(always)]
    fn relax() {
        ending::relax();
    }
}

/// What a lock disables.
pub trait Guardian {
    /// A guard that disables preemption or interrupts for as long as it lives.
    type Guard;
    /// Makes such a guard.
    fn guard() -> Self::Guard;
}

/// The lock disables preemption. Not for what interrupt handlers lock.
#[derive(Debug)]
pub enum PreemptDisabled {}

/// The lock disables this CPU's interrupts, and so preemption.
#[derive(Debug)]
pub enum LocalIrqDisabled {}

impl Guardian for PreemptDisabled {
    type Guard = PreemptGuard;
    #[inline]
    fn guard() -> PreemptGuard {
        PreemptGuard::new()
    }
}

impl Guardian for LocalIrqDisabled {
    type Guard = IrqGuard;
    #[inline]
    fn guard() -> IrqGuard {
        IrqGuard::new()
    }
}

/// A lock that waits by spinning.
pub struct SpinLock<T: ?Sized, G = PreemptDisabled> {
    disables: core::marker::PhantomData<fn() -> G>,
    inner: SpinMutex<T, Wait>,
}

impl<T, G> SpinLock<T, G> {
    /// An open lock.
    pub const fn new(value: T) -> Self {
        Self {
            disables: core::marker::PhantomData,
            inner: SpinMutex::new(value),
        }
    }
}

impl<T: ?Sized, G: Guardian> SpinLock<T, G> {
    /// Waits until the lock is open, and takes it.
    #[inline]
    #[cfg_attr(feature = "scripted", track_caller)]
    pub fn lock(&self) -> SpinLockGuard<'_, T, G> {
        let disabled = G::guard();
        let guard = SpinLockGuard {
            inner: self.inner.lock(),
            disabled,
        };
        #[cfg(feature = "scripted")]
        super::trap::taken(core::panic::Location::caller());
        guard
    }

    /// Takes the lock if it is open.
    #[inline]
    pub fn try_lock(&self) -> Option<SpinLockGuard<'_, T, G>> {
        let disabled = G::guard();
        Some(SpinLockGuard {
            inner: self.inner.try_lock()?,
            disabled,
        })
    }

    /// The value, through the only reference to it.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }

    /// Opens the lock without its guard.
    ///
    /// # Safety
    ///
    /// The lock is held, its guard was forgotten (or its holder never runs again), and what the guard
    /// disabled is put right by the caller.
    pub unsafe fn force_unlock(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.inner.force_unlock() };
    }
}

impl<T: ?Sized, G> fmt::Debug for SpinLock<T, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpinLock").finish_non_exhaustive()
    }
}

/// A held lock. The fields are dropped in this order: first the lock opens, then what it disabled is enabled.
pub struct SpinLockGuard<'a, T: ?Sized, G: Guardian = PreemptDisabled> {
    inner: SpinMutexGuard<'a, T, Wait>,
    disabled: G::Guard,
}

impl<T: ?Sized, G: Guardian> SpinLockGuard<'_, T, G> {
    /// The guard that keeps the holder on this CPU while the lock is held.
    pub fn disabled(&self) -> &G::Guard {
        &self.disabled
    }

    /// Leaves the lock closed and returns the guard that keeps the holder on this CPU. The lock is then opened by
    /// [`force_unlock`](SpinLock::force_unlock).
    pub fn keep_locked(self) -> G::Guard {
        let Self { inner, disabled } = self;
        core::mem::forget(inner);
        disabled
    }
}

impl<T: ?Sized, G: Guardian> Deref for SpinLockGuard<'_, T, G> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized, G: Guardian> DerefMut for SpinLockGuard<'_, T, G> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}
