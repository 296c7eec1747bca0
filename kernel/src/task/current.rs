//! The task that a CPU runs.
//!
//! The scheduler sets it where it gives a CPU to a task, and keeps that task for as long as it runs.

use alloc::sync::Arc;
use core::arch::asm;
use core::ptr;
use core::sync::atomic::AtomicPtr;

use super::Task;
use crate::percpu;

percpu! {
    /// The task that this CPU runs; null before there are tasks.
    pub(super) static CURRENT: AtomicPtr<Task> = AtomicPtr::new(ptr::null_mut());
}

/// The running task's address; null before there are tasks. Read in one instruction, so that no migration can
/// make it another task's.
#[inline]
fn current_pointer() -> *const Task {
    let pointer;
    // SAFETY: reads one word of this CPU's area.
    unsafe {
        asm!("mov {0}, gs:[{1}]", out(reg) pointer, sym CURRENT,
            options(nostack, readonly, preserves_flags));
    }
    pointer
}

/// The running task. Task context, once there are tasks.
pub fn current() -> Arc<Task> {
    try_current().expect("called before there were tasks")
}

/// The running (or interrupted) task, if there are tasks already. Any context.
pub fn try_current() -> Option<Arc<Task>> {
    let pointer = current_pointer();
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the pointer came from an Arc, and the task that runs is kept by the scheduler.
    unsafe { Arc::increment_strong_count(pointer) };
    // SAFETY: as above; the count was taken for this one.
    Some(unsafe { Arc::from_raw(pointer) })
}

/// Runs `look` on the running (or interrupted) task, if there are tasks already. Any context; unlike
/// [`try_current`] it changes no reference count and frees nothing.
#[inline]
pub fn with_current<R>(look: impl FnOnce(&Task) -> R) -> Option<R> {
    let pointer = current_pointer();
    // SAFETY: null, or a task that is kept by the scheduler while it runs; and it runs this.
    unsafe { pointer.as_ref() }.map(look)
}
