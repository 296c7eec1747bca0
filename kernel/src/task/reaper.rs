//! Frees what a task leaves when it has ended: its stack, and with the last reference the task.
//!
//! A task can't free the stack it runs on. So it goes on a list, and this task, woken by the scheduler,
//! takes it from there; by then no CPU uses that stack any more.

use core::ptr;
use core::sync::atomic::Ordering;

use super::{Priority, SpawnError, scheduler, spawn};
use crate::mm::vmalloc;
use crate::sync::PreemptGuard;

/// Starts the reaper.
pub fn init() -> Result<(), SpawnError> {
    let handle = spawn("reaper", Priority::Normal, run)?;
    scheduler::set_reaper(handle.task().clone());
    Ok(())
}

fn run() {
    loop {
        while reap_one() {}
        // The frames in which this task waits must not hold addresses that it has worked with.
        super::clear_dead_stack();
        scheduler::park();
    }
}

/// Frees what the next ended task has left; false if there is none. A function of its own, so that no address of a task is left
/// in the frame or in the registers with which the reaper waits for the next one.
#[inline(never)]
fn reap_one() -> bool {
    let Some(task) = scheduler::take_dead() else {
        return false;
    };
    vmalloc::vfree(ptr::with_exposed_provenance_mut(task.stack().start));
    // No stop of the world before the task is dropped: a woken waiter that looks for leaks must not find it.
    let stay_here = PreemptGuard::new();
    task.reaped.store(1, Ordering::Release);
    task.joiners.wake_all();
    drop(task);
    drop(stay_here);
    true
}
