//! The tasks of a machine, as a test names them.

use std::fmt;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use kmemleak::{Comm, Root, RootKind, TaskState, Wait, WaitsOn};

#[derive(Default)]
struct Named {
    tasks: Vec<TaskState>,
    lists: Vec<Range<usize>>,
    stacks: Vec<Root>,
}

/// What a machine says of its tasks: at first that it has none.
#[derive(Default)]
pub struct Tasks(Mutex<Named>);

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").finish_non_exhaustive()
    }
}

impl Tasks {
    fn named(&self) -> MutexGuard<'_, Named> {
        self.0.lock().expect("nobody panics under it")
    }

    /// Names a task, after those that are named; in place of one with the same number.
    pub fn name(&self, task: TaskState) {
        let mut named = self.named();
        match named.tasks.iter_mut().find(|old| old.task == task.task) {
            Some(old) => *old = task,
            None => named.tasks.push(task),
        }
    }

    /// Names a task that waits: it has no block of its own and no frames.
    pub fn name_waiting(&self, task: u32, on: WaitsOn) {
        self.name(TaskState {
            task,
            comm: Comm::new("waits"),
            block: None,
            frame_pointer: None,
            wait: Some(Wait {
                on,
                what: "wait queue",
                since_us: 0,
            }),
        });
    }

    /// Names a list of tasks.
    pub fn name_list(&self, list: Range<usize>) {
        self.named().lists.push(list);
    }

    /// Makes words of the machine the live part of a task's stack.
    pub fn add_stack(&self, task: u32, start: usize, len: usize) {
        let kind = RootKind::Stack(task);
        self.named().stacks.push(Root { kind, start, len });
    }

    /// Names none any more.
    pub fn forget(&self) {
        *self.named() = Named::default();
    }

    /// Whether a task with this number waits.
    pub(crate) fn waits(&self, task: u32) -> bool {
        let named = self.named();
        let is_it = |one: &TaskState| one.task == task && one.wait.is_some();
        named.tasks.iter().any(is_it)
    }

    pub(crate) fn task(&self, number: usize) -> Option<TaskState> {
        self.named().tasks.get(number).copied()
    }

    pub(crate) fn list(&self, number: usize) -> Option<Range<usize>> {
        self.named().lists.get(number).cloned()
    }

    pub(crate) fn stack(&self, number: usize) -> Option<Root> {
        self.named().stacks.get(number).copied()
    }
}
