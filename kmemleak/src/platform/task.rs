//! Tasks: which of them wait to be woken, and for what.

use super::Comm;

/// A task that does not run, for the question which tasks can never run again.
///
/// It may be any flow of control that somebody has to go on with: a thread with a stack, or the future that an executor polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskState {
    /// Its number. What is held by the stack of this number ([`RootKind::Stack`](super::RootKind::Stack)) is held by this task.
    pub task: u32,
    /// Its name.
    pub comm: Comm,
    /// An address in the tracked block that holds what belongs to this task alone: the control block of a thread, the block that a
    /// future lies in. Its words count as words of the task, as those of its stack do.
    pub block: Option<usize>,
    /// The frame pointer that was saved when it left its CPU. `None` if it has no stack, or its code keeps no frame pointers.
    pub frame_pointer: Option<usize>,
    /// What it waits for. `None` if it goes on without being woken by another task: it is ready, sleeps until a time, or waits for
    /// a device.
    pub wait: Option<Wait>,
}

/// A wait that another task has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Who can end it.
    pub on: WaitsOn,
    /// What it waits for, in a word or two: `mutex`, `channel`.
    pub what: &'static str,
    /// When it began, in microseconds of the platform's clock.
    pub since_us: u64,
}

/// Who can end a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsOn {
    /// Whoever can reach what lies at this address: a wait queue, a mutex, a channel; of a future the block that its wakers point to.
    Address(usize),
    /// The task with this number, by ending.
    Task(u32),
}
