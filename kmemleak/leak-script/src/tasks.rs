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

/// Who a task is.
#[derive(PartialEq, Eq)]
pub(crate) enum Who {
    Parked,
    /// The object of this name.
    Object(String),
    /// An object that has been freed. One that gets its name later is another task.
    Freed,
}

/// A task.
pub(crate) struct NamedTask {
    pub(crate) who: Who,
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
        let who = match waiter {
            Waiter::Parked => Who::Parked,
            Waiter::Object(name) => Who::Object(name.to_owned()),
        };
        let known = self.tasks.iter().position(|task| task.who == who);
        known.unwrap_or_else(|| {
            self.tasks.push(NamedTask { who, awaits: None });
            self.tasks.len() - 1
        })
    }

    /// The object of this name has been freed: it is no task any more, and no list.
    pub(crate) fn forget(&mut self, name: &str) {
        for task in &mut self.tasks {
            if matches!(&task.who, Who::Object(object) if object == name) {
                (task.who, task.awaits) = (Who::Freed, None);
            }
        }
        self.lists.retain(|list| list != name);
    }
}
