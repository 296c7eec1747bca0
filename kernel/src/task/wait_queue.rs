//! Waiting for a condition, asleep.
//!
//! A wake-up is for one who waits in vain. Who is chosen for it while on the point of leaving, with what it waited for
//! in its hands, hands it on.
//!
//! # Locks
//!
//! The queue's own, with interrupts off. The scheduler's may be taken under it.

use alloc::sync::Arc;
use core::fmt;

use intrusive_collections::LinkedList;

use super::{Task, WaitAdapter, scheduler};
use crate::sync::{LocalIrqDisabled, SpinLock};

/// Tasks that wait for something. A task waits in one queue at a time.
pub struct WaitQueue {
    waiters: SpinLock<LinkedList<WaitAdapter>, LocalIrqDisabled>,
}

impl WaitQueue {
    /// A queue in which nobody waits.
    pub const fn new() -> Self {
        Self {
            waiters: SpinLock::new(LinkedList::new(WaitAdapter::NEW)),
        }
    }

    /// Sleeps until `condition` gives a value, and returns it. It is looked at now and after each
    /// wake-up, with nothing locked. Task context, with no spinlock held.
    pub fn wait_for<R>(&self, mut condition: impl FnMut() -> Option<R>) -> R {
        if let Some(value) = condition() {
            return value;
        }
        let task = scheduler::current();
        loop {
            // First noted as a waiter, then a last look: a wake-up in between leaves a token.
            self.waiters.lock().push_back(task.clone());
            let value = condition();
            if value.is_none() {
                scheduler::park();
            }
            let was_chosen = !self.remove(&task);
            if let Some(value) = value {
                if was_chosen {
                    self.wake_one();
                }
                return value;
            }
        }
    }

    /// Wakes the task that has waited longest. Any context.
    pub fn wake_one(&self) {
        let waiter = self.waiters.lock().pop_front();
        if let Some(task) = waiter {
            scheduler::unpark(&task);
        }
    }

    /// Wakes all. Any context.
    pub fn wake_all(&self) {
        let mut waiters = self.waiters.lock();
        while let Some(task) = waiters.pop_front() {
            scheduler::unpark(&task);
        }
    }

    /// Takes a task out of the queue; false if its waker has done so.
    fn remove(&self, task: &Arc<Task>) -> bool {
        let mut waiters = self.waiters.lock();
        if !task.wait_link.is_linked() {
            return false;
        }
        // SAFETY: the task waits in one queue at a time: this one.
        let listed = unsafe { waiters.cursor_mut_from_ptr(Arc::as_ptr(task)) }.remove();
        drop(waiters);
        drop(listed);
        true
    }
}

impl Default for WaitQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitQueue").finish_non_exhaustive()
    }
}
