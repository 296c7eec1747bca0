//! Waiting for a condition, asleep.
//!
//! A wake-up is for a task whose condition does not hold yet. A task that is chosen for one, but has already found that its
//! condition holds, passes the wake-up on to the next waiter.
//!
//! The frame in which a task waits is made on cleared stack ([`context::on_cleared_frame`]), right below the frame of who asked to
//! wait. So nothing stale lies in what the detector reads of a task that waits, but what its own functions have left in their frames.
//!
//! # Locks
//!
//! The queue's own, with interrupts off. The scheduler's may be taken under it.

use alloc::sync::Arc;
use core::{fmt, ptr};

use intrusive_collections::LinkedList;

use super::may_wait::may_wait;
use super::waits::Awaited;
use super::{Task, WaitAdapter, scheduler};
use crate::arch::context;
use crate::sync::{LocalIrqDisabled, SpinLock};

/// Tasks that wait for something. A task waits in one queue at a time.
pub struct WaitQueue {
    waiters: SpinLock<LinkedList<WaitAdapter>, LocalIrqDisabled>,
}

impl WaitQueue {
    /// An empty queue.
    pub const fn new() -> Self {
        Self {
            waiters: SpinLock::new(LinkedList::new(WaitAdapter::NEW)),
        }
    }

    /// Sleeps until `condition` returns a value, and returns that. The condition is called at once and after each
    /// wake-up, with nothing locked. Task context, with no spinlock held.
    #[inline(always)]
    pub fn wait_for<R>(&self, condition: impl FnMut() -> Option<R>) -> R {
        self.wait_for_as(Awaited::Condition, condition)
    }

    /// Does what [`wait_for`](Self::wait_for) does, and notes what the task waits for.
    #[inline(always)]
    pub(super) fn wait_for_as<R>(
        &self,
        awaited: Awaited,
        mut condition: impl FnMut() -> Option<R>,
    ) -> R {
        may_wait();
        match condition() {
            Some(value) => value,
            None => context::on_cleared_frame(|| self.wait(awaited, condition)),
        }
    }

    /// Sleeps until `condition` returns a value. Called on a cleared frame.
    #[inline(never)]
    fn wait<R>(&self, awaited: Awaited, mut condition: impl FnMut() -> Option<R>) -> R {
        let task = scheduler::current();
        task.waits.begin(ptr::from_ref(self).addr(), awaited);
        loop {
            // First this task becomes a waiter, then it checks once more: a wake-up in between leaves a token.
            self.waiters.lock().push_back(task.clone());
            let value = condition();
            if value.is_none() {
                scheduler::park();
            }
            let was_chosen = !self.remove(&task);
            if let Some(value) = value {
                task.waits.end();
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

    /// Wakes all tasks that wait. Any context.
    pub fn wake_all(&self) {
        let mut waiters = self.waiters.lock();
        while let Some(task) = waiters.pop_front() {
            scheduler::unpark(&task);
        }
    }

    /// Takes a task out of the queue; false if a waker has already done so.
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
