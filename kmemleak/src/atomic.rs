//! All atomics and spin locks of the crate. They are imported from this module alone, so that a model can replace them with its own.
//!
//! Code that takes no lock is right only if it is right in every order in which its loads and stores may be seen. No test on one
//! machine shows that. So the sources that import their atomics from here ([`crate::stacks::depot`],
//! [`crate::stacks::task_names`], [`crate::objects::hazard`] and others) are compiled a second time, in `kmemleak/models`, where
//! this module is one of loom's atomics: there they run in all those orders, and each `Acquire` and `Release` in them is weakened
//! in turn, which a model must notice. All of the crate is compiled a third time in `kmemleak/simulation`, where each access is a moment
//! at which a seed may let another CPU go on.
//!
//! # Orderings
//!
//! The declaration of each atomic of the crate says with which accesses its accesses pair. These are the ways to say it:
//!
//! - *Publishes*: a `Release` store of it makes what was written before visible to code that loads it with `Acquire`. Both sides
//!   are named.
//! - *Under a lock*: `Relaxed`, since the lock orders the accesses of its holders.
//! - *Only counted*, *only told*: `Relaxed`, since nothing else is concluded from the value.
//! - *One word*: `Relaxed`, since the value is all there is to see.

pub(crate) use core::hint::spin_loop;
pub(crate) use core::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, fence,
};
pub(crate) use spin::mutex::{SpinMutex as Lock, SpinMutexGuard as LockGuard};

/// The value of a word that is not written any more, read as a plain word: the compiler may combine such reads.
///
/// # Safety
///
/// All writes to the word happen before this.
#[inline(always)]
pub(crate) unsafe fn settled_u64(word: &AtomicU64) -> u64 {
    // SAFETY: the word is not written any more, by the caller's promise.
    unsafe { word.as_ptr().read() }
}

/// The value of a word that is not written any more, as [`settled_u64`] reads it.
///
/// # Safety
///
/// All writes to the word happen before this.
#[inline(always)]
pub(crate) unsafe fn settled_u16(word: &AtomicU16) -> u16 {
    // SAFETY: the word is not written any more, by the caller's promise.
    unsafe { word.as_ptr().read() }
}
