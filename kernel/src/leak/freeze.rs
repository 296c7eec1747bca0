//! Freezing memory for a check: the stop in which the roots are read and memory becomes read-only.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use kmemleak::{StopError, StoppedCpu};

use crate::dev::time;
use crate::foreground::StopsWorld;
use crate::mm::frozen;
use crate::{stop, task};

/// What the last freeze took.
static STOPPED_TSC: AtomicU64 = AtomicU64::new(0);
static COPIED: AtomicUsize = AtomicUsize::new(0);

/// Stops the world, runs `at_stop` on all CPUs, and makes memory read-only. Returns for how many microseconds it was stopped.
pub(super) fn freeze(at_stop: &(dyn Fn(StoppedCpu) + Sync)) -> Result<u64, StopError> {
    let prepared = frozen::prepare().ok_or(StopError::Unsupported)?;
    let protected = AtomicBool::new(false);
    let _stops = StopsWorld::begin();
    let stopped = stop::stop_world(&|cpu| {
        let start = time::tsc();
        at_stop(cpu);
        if cpu.initiator {
            frozen::protect(&prepared);
            protected.store(true, Ordering::Release);
        }
        while !protected.load(Ordering::Acquire) {
            crate::arch::ending::relax();
        }
        frozen::forget_translations();
        if cpu.initiator {
            STOPPED_TSC.store(time::tsc() - start, Ordering::Relaxed);
        } else {
            // As after any stop.
            task::clear_dead_stack();
        }
    });
    match stopped {
        Ok(()) => Ok(time::us(STOPPED_TSC.load(Ordering::Relaxed))),
        Err(error) => {
            frozen::cancel(prepared);
            Err(error)
        }
    }
}

/// Ends what [`freeze`] began.
pub(super) fn thaw() {
    COPIED.store(frozen::pages_copied(), Ordering::Relaxed);
    frozen::thaw();
}

/// For how many counts of the time stamp counter all CPUs were stopped in the last freeze, and how many pages were copied.
pub fn last_freeze() -> (u64, usize) {
    (
        STOPPED_TSC.load(Ordering::Relaxed),
        COPIED.load(Ordering::Relaxed),
    )
}
