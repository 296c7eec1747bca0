//! The detector's `crate::atomic`, in which each access is a moment at which others may go on.
//!
//! The atomics are core's, of the same size and with the same bits, so that the detector finds them in its pages by their addresses.
//! What is new is the [`moment`] before each access. All accesses are sequentially consistent, whatever ordering they name: the
//! threads of `shuttle` are on one thread of the host.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::Ordering::{self, SeqCst};

pub(crate) use crate::schedule::wait as spin_loop;

use crate::schedule::{Fault, has, moment};

macro_rules! atomic {
    ($name:ident $number:ty) => {
        /// An atomic of core's, with a moment before each access.
        #[derive(Debug)]
        #[repr(transparent)]
        pub(crate) struct $name(core::sync::atomic::$name);

        #[allow(dead_code, reason = "the sources use a part of it")]
        impl $name {
            pub(crate) const fn new(first: $number) -> Self {
                Self(core::sync::atomic::$name::new(first))
            }

            /// The atomic that lies there.
            ///
            /// # Safety
            ///
            /// As for core's function of this name.
            pub(crate) unsafe fn from_ptr<'a>(place: *mut $number) -> &'a Self {
                // SAFETY: the caller's promise; this is an atomic of core's.
                unsafe { &*place.cast::<Self>() }
            }

            pub(crate) fn load(&self, _: Ordering) -> $number {
                moment();
                self.0.load(SeqCst)
            }

            pub(crate) fn store(&self, value: $number, _: Ordering) {
                moment();
                self.0.store(value, SeqCst);
            }

            pub(crate) fn swap(&self, value: $number, _: Ordering) -> $number {
                moment();
                self.0.swap(value, SeqCst)
            }

            pub(crate) fn compare_exchange(
                &self,
                current: $number,
                new: $number,
                _: Ordering,
                _: Ordering,
            ) -> Result<$number, $number> {
                moment();
                self.0.compare_exchange(current, new, SeqCst, SeqCst)
            }

            pub(crate) fn compare_exchange_weak(
                &self,
                current: $number,
                new: $number,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$number, $number> {
                self.compare_exchange(current, new, success, failure)
            }

            pub(crate) fn fetch_update(
                &self,
                set: Ordering,
                fetch: Ordering,
                mut change: impl FnMut($number) -> Option<$number>,
            ) -> Result<$number, $number> {
                let mut before = self.load(fetch);
                while let Some(next) = change(before) {
                    match self.compare_exchange(before, next, set, fetch) {
                        Ok(before) => return Ok(before),
                        Err(now) => before = now,
                    }
                }
                Err(before)
            }
        }
    };
    ($name:ident $number:ty, counts) => {
        atomic!($name $number);

        #[allow(dead_code, reason = "the sources use a part of it")]
        impl $name {
            pub(crate) fn fetch_add(&self, value: $number, _: Ordering) -> $number {
                moment();
                self.0.fetch_add(value, SeqCst)
            }

            pub(crate) fn fetch_sub(&self, value: $number, _: Ordering) -> $number {
                moment();
                self.0.fetch_sub(value, SeqCst)
            }

            pub(crate) fn fetch_or(&self, value: $number, _: Ordering) -> $number {
                moment();
                self.0.fetch_or(value, SeqCst)
            }

            pub(crate) fn fetch_and(&self, value: $number, _: Ordering) -> $number {
                moment();
                self.0.fetch_and(value, SeqCst)
            }

            pub(crate) fn fetch_max(&self, value: $number, _: Ordering) -> $number {
                moment();
                self.0.fetch_max(value, SeqCst)
            }
        }
    };
}

atomic!(AtomicBool bool);
atomic!(AtomicU8 u8, counts);
atomic!(AtomicU16 u16, counts);
atomic!(AtomicU32 u32, counts);
atomic!(AtomicU64 u64, counts);
atomic!(AtomicUsize usize, counts);

/// Orders nothing that is not ordered: all accesses are.
pub(crate) fn fence(_: Ordering) {
    moment();
}

/// The value of a word that is not written any more.
///
/// # Safety
///
/// All writes to the word happen before this.
pub(crate) unsafe fn settled_u64(word: &AtomicU64) -> u64 {
    word.load(SeqCst)
}

/// The value of a word that is not written any more, as [`settled_u64`] reads it.
///
/// # Safety
///
/// All writes to the word happen before this.
pub(crate) unsafe fn settled_u16(word: &AtomicU16) -> u16 {
    word.load(SeqCst)
}

/// A spin lock: who waits lets others go on.
#[derive(Debug)]
pub(crate) struct Lock<T> {
    locked: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is used by the holder of the lock alone.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            locked: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    pub(crate) fn lock(&self) -> LockGuard<'_, T> {
        loop {
            match self.try_lock() {
                Some(guard) => return guard,
                None => spin_loop(),
            }
        }
    }

    pub(crate) fn try_lock(&self) -> Option<LockGuard<'_, T>> {
        let free = !self.locked.swap(true, SeqCst) || has(Fault::LocksDoNotLock);
        free.then(|| LockGuard(self))
    }

    pub(crate) fn into_inner(self) -> T {
        self.value.into_inner()
    }

    #[allow(dead_code, reason = "the sources may use it")]
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

/// The right to use what is under a lock.
#[derive(Debug)]
pub(crate) struct LockGuard<'a, T>(&'a Lock<T>);

impl<T> Drop for LockGuard<'_, T> {
    fn drop(&mut self) {
        self.0.locked.store(false, SeqCst);
    }
}

impl<T> Deref for LockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard's owner is alone.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for LockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard's owner is alone.
        unsafe { &mut *self.0.value.get() }
    }
}
