//! What plants counts that are too high: references are forgotten to blocks that stay in use.
//!
//! Such a block is never freed, and no check finds it, as it is reachable: only its count says more references than there are.
//! Each function runs as the task that plants it, so the detector must report it as the one that allocated the block.

use alloc::sync::Arc;
use alloc::task::Wake;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Waker;

use crate::mm::heap::{NoMemory, Room};
use crate::sync::SpinLock;

/// A value that stays in use, in a list of such values. What is planted is one reference too many to it.
struct Kept {
    _before: Option<Arc<Kept>>,
}

/// The value that was kept last, which keeps all others.
static KEPT: SpinLock<Option<Arc<Kept>>> = SpinLock::new(None);

/// A clone is forgotten.
#[inline(never)]
pub fn forgotten_clone() -> Result<(), NoMemory> {
    let room = Room::for_arc::<Kept>()?;
    let mut last = KEPT.lock();
    let kept = Arc::new(Kept {
        _before: last.take(),
    });
    drop(room);
    core::mem::forget(kept.clone());
    *last = Some(kept);
    Ok(())
}

/// A reference is made raw twice, and taken back once.
#[inline(never)]
pub fn double_into_raw() -> Result<(), NoMemory> {
    let room = Room::for_arc::<Kept>()?;
    let mut last = KEPT.lock();
    let kept = Arc::new(Kept {
        _before: last.take(),
    });
    drop(room);
    // Like a driver that hands its device to a callback when it is opened, each time, and takes it back when it is closed for good.
    let opened = [Arc::into_raw(kept.clone()), Arc::into_raw(kept.clone())];
    black_box(opened[0]);
    // SAFETY: made raw above, and taken back once.
    drop(unsafe { Arc::from_raw(opened[1]) });
    *last = Some(kept);
    Ok(())
}

/// A job of an executor, which has all of its jobs in a list.
struct Job {
    _before: Option<Arc<Job>>,
    is_woken: AtomicBool,
}

impl Wake for Job {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
    }
}

static JOBS: SpinLock<Option<Arc<Job>>> = SpinLock::new(None);

/// A waker is cloned and forgotten.
#[inline(never)]
pub fn lost_waker() -> Result<(), NoMemory> {
    let room = Room::for_arc::<Job>()?;
    let mut last = JOBS.lock();
    let job = Arc::new(Job {
        _before: last.take(),
        is_woken: AtomicBool::new(false),
    });
    drop(room);
    let waker = Waker::from(job.clone());
    // As a future does that registers its waker wherever it waits; the place forgets this one.
    core::mem::forget(waker.clone());
    waker.wake();
    *last = Some(job);
    Ok(())
}
