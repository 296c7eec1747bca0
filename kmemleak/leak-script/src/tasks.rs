//! The tasks of a script: who waits, and for what.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use crate::hidden::Hidden;
use crate::statement::Waiter;

/// What a task waits for.
#[derive(Clone, Copy)]
pub(crate) enum Awaits {
    /// What lies there.
    At(Hidden),
    /// The end of the task with this number.
    End(usize),
}

/// A task: an object, or the parked one.
pub(crate) struct NamedTask {
    pub(crate) object: Option<String>,
    pub(crate) awaits: Option<Awaits>,
}

/// The tasks that a script has named, and the lists of them.
#[derive(Default)]
pub(crate) struct ScriptTasks {
    pub(crate) tasks: Vec<NamedTask>,
    pub(crate) lists: Vec<String>,
}

impl ScriptTasks {
    /// The place of a task among those that are named.
    pub(crate) fn place(&mut self, waiter: Waiter<'_>) -> usize {
        let object = match waiter {
            Waiter::Parked => None,
            Waiter::Object(name) => Some(name.to_owned()),
        };
        let known = self.tasks.iter().position(|task| task.object == object);
        known.unwrap_or_else(|| {
            self.tasks.push(NamedTask {
                object,
                awaits: None,
            });
            self.tasks.len() - 1
        })
    }
}
