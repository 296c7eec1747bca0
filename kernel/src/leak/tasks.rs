//! Which tasks wait, and for what, as the detector asks it: for the question which of them can never run again.
//!
//! A task waits for another one only in a wait queue ([`Task::queued_wait`]). All others can go on: they are
//! ready, sleep until a time, or are woken by interrupts and by what parks them on its own (the reaper). What waits for serial
//! input waits in a queue that is a static.
//!
//! The links of the scheduler and of wait queues lie in the tasks, and a task is its stack's control block: so they are followed only
//! once the task goes on. No further list is named.
//!
//! An executor whose tasks are futures names them itself ([`name_futures`]).

use core::ops::Range;
use core::ptr;

use kmemleak::{RootCursor, TaskState, Wait, WaitsOn};

use super::player::is_player;
use crate::arch::context::PUSHED;
use crate::sync::{LocalIrqDisabled, SpinLock};
use crate::task::waits::{Awaited, QueuedWait};
use crate::task::{State, Task, scheduler};

/// Names tasks that are no tasks of the scheduler's: futures. Both are called in a stopped world, under a lock.
pub trait NamesTasks: Sync {
    /// The task with this number in the order in which they are named. Its [`TaskState::task`] is no task's of the scheduler.
    fn task(&self, number: usize) -> Option<TaskState>;

    /// The list of tasks with this number.
    fn list(&self, number: usize) -> Option<Range<usize>>;
}

static NAMES: SpinLock<Option<&'static dyn NamesTasks>, LocalIrqDisabled> = SpinLock::new(None);

/// Lets these be named from now on, in place of those before. Any context.
pub fn name_futures(names: Option<&'static dyn NamesTasks>) {
    *NAMES.lock() = names;
}

/// The stages of the walk.
mod stage {
    pub const TASKS: usize = 0;
}

pub(super) fn next_task(cursor: &mut RootCursor) -> Option<TaskState> {
    if cursor.stage == stage::TASKS {
        let found = scheduler::find_task(cursor.index as u32, state_of);
        if let Some(state) = found {
            cursor.index = state.task as usize + 1;
            return Some(state);
        }
        *cursor = RootCursor {
            stage: stage::TASKS + 1,
            index: 0,
        };
    }
    let named = (*NAMES.lock())?.task(cursor.index)?;
    cursor.index += 1;
    Some(named)
}

pub(super) fn next_task_list(cursor: &mut RootCursor) -> Option<Range<usize>> {
    let list = (*NAMES.lock())?.list(cursor.index)?;
    cursor.index += 1;
    Some(list)
}

/// What the detector is told of a task. Under the scheduler's lock.
fn state_of(task: &Task) -> TaskState {
    let wait = task.queued_wait().filter(|_| !is_player(task.id()));
    TaskState {
        task: task.id(),
        comm: task.comm(),
        block: Some(ptr::from_ref(task).addr()),
        frame_pointer: frame_pointer(task),
        wait: wait.map(told),
    }
}

fn told(wait: QueuedWait) -> Wait {
    Wait {
        on: match wait.awaited {
            Awaited::End(task) => WaitsOn::Task(task),
            _ => WaitsOn::Address(wait.queue),
        },
        what: wait.awaited.name(),
        since_us: wait.since_us,
    }
}

/// Where the frames of a blocked task begin: that of the function of assembly that has switched. Under the scheduler's lock.
fn frame_pointer(task: &Task) -> Option<usize> {
    let place = PUSHED.iter().position(|register| *register == "rbp")?;
    let saved = task.stack_pointer() + place * size_of::<usize>();
    (task.state() == State::Blocked && task.stack().contains(&saved)).then_some(saved)
}

/// Whether a function is of those that block a task.
pub(super) fn is_waiting_machinery(function: &str) -> bool {
    const MODULES: [&str; 5] = [
        "kernel::arch::context::",
        "kernel::task::scheduler::",
        "kernel::task::wait_queue::",
        "kernel::task::mutex::",
        "kernel::task::channel::",
    ];
    let function = function.trim_start_matches('<');
    MODULES.iter().any(|module| function.starts_with(module))
        || function.starts_with("kernel::task::JoinHandle")
}
