//! What a blocked task waits for: noted by the task itself before it blocks, read by the leak detector while the world is stopped.
//!
//! The address is kept inverted: a note must not keep alive what it names.
//!
//! # Invariants
//!
//! - A note says what a task waits for as long as the task is blocked and in a wait queue. A waker takes it out of there before it
//!   wakes it; then somebody is about to wake it, and the note says nothing any more.

use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::{State, Task, TaskId};
use crate::dev::time;

/// What a task waits for in a wait queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// Whatever its condition says.
    Condition,
    /// That a mutex is open.
    Mutex,
    /// A message in a channel.
    Message,
    /// The end of this task.
    End(TaskId),
}

impl Awaited {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Condition => "wait queue",
            Self::Mutex => "mutex",
            Self::Message => "channel",
            Self::End(_) => "task",
        }
    }
}

/// A note of what a task waits for. Only the task itself writes it; all words are Relaxed, since the scheduler's lock, under which
/// the task blocks, orders them.
#[derive(Default)]
pub(super) struct WaitNote {
    /// The address of the wait queue, inverted; zero for none.
    queue: AtomicUsize,
    kind: AtomicU32,
    /// The task whose end it waits for.
    of: AtomicU32,
    since_us: AtomicU64,
}

impl WaitNote {
    /// Notes that the task waits from now on, in the queue at this address.
    pub(super) fn begin(&self, queue: usize, awaited: Awaited) {
        let (kind, of) = match awaited {
            Awaited::Condition => (0, 0),
            Awaited::Mutex => (1, 0),
            Awaited::Message => (2, 0),
            Awaited::End(task) => (3, task),
        };
        self.kind.store(kind, Ordering::Relaxed);
        self.of.store(of, Ordering::Relaxed);
        self.since_us.store(time::now_us(), Ordering::Relaxed);
        self.queue.store(!queue, Ordering::Relaxed);
    }

    /// Notes that it does not wait any more.
    pub(super) fn end(&self) {
        self.queue.store(0, Ordering::Relaxed);
    }
}

/// A wait in a queue.
#[derive(Clone, Copy, Debug)]
pub struct QueuedWait {
    /// The address of the wait queue.
    pub queue: usize,
    /// What for.
    pub awaited: Awaited,
    /// When it began, in microseconds since the boot.
    pub since_us: u64,
}

impl Task {
    /// What it waits for, if only another task can wake it: it is blocked in a wait queue. Under the scheduler's lock, or in a stopped
    /// world.
    pub fn queued_wait(&self) -> Option<QueuedWait> {
        if self.state() != State::Blocked || !self.wait_link.is_linked() {
            return None;
        }
        let queue = self.waits.queue.load(Ordering::Relaxed);
        let of = self.waits.of.load(Ordering::Relaxed);
        let awaited = match self.waits.kind.load(Ordering::Relaxed) {
            0 => Awaited::Condition,
            1 => Awaited::Mutex,
            2 => Awaited::Message,
            _ => Awaited::End(of),
        };
        (queue != 0).then(|| QueuedWait {
            queue: !queue,
            awaited,
            since_us: self.waits.since_us.load(Ordering::Relaxed),
        })
    }
}
