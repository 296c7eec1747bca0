//! Gives back what a task leaves when it has ended: its stack, and with the last reference the task.
//!
//! A task can't free the stack it stands on. So it goes on a list, and this task, woken by the scheduler,
//! takes it from there; by then nobody is on the stack any more.

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
        // The frames in which it waits are not to hold what it has worked with.
        super::clear_dead_stack();
        scheduler::park();
    }
}

/// Gives back what the next task has left; false if there is none. Apart, so that no address of a task is left in the frame
/// or in the registers of who waits for the next.
#[inline(never)]
fn reap_one() -> bool {
    let Some(task) = scheduler::take_dead() else {
        return false;
    };
    vmalloc::vfree(ptr::with_exposed_provenance_mut(task.stack().start));
    // A waiter that is woken and then stops the world finds the task gone.
    let stay_here = PreemptGuard::new();
    task.reaped.store(1, Ordering::Release);
    task.joiners.wake_all();
    drop(task);
    drop(stay_here);
    true
}
