//! Gives back what a task leaves when it has ended: its stack, and with the last reference the task.
//!
//! A task can't free the stack it stands on. So it goes on a list, and this task, woken by the scheduler,
//! takes it from there; by then nobody is on the stack any more.

use core::ptr;
use core::sync::atomic::Ordering;

use super::{Priority, SpawnError, scheduler, spawn};
use crate::mm::vmalloc;

/// Starts the reaper.
pub fn init() -> Result<(), SpawnError> {
    let handle = spawn("reaper", Priority::Normal, run)?;
    scheduler::set_reaper(handle.task().clone());
    Ok(())
}

fn run() {
    loop {
        while let Some(task) = scheduler::take_dead() {
            vmalloc::vfree(ptr::with_exposed_provenance_mut(task.stack().start));
            task.reaped.store(1, Ordering::Release);
            task.joiners.wake_all();
        }
        scheduler::park();
    }
}
