//! The oracle's tasks: who waits for what, who is lost, and what the lost retain.
//!
//! The definitions of the format, each as it is written there, without any thought of speed. `alive` knows which objects those tasks
//! reach that go on; `lost` takes tasks away from those that wait until nothing changes any more.

use std::collections::{BTreeMap, BTreeSet};

use crate::verdict::spread;
use crate::world::{Pointer, Slot, Told, World};

type Set = BTreeSet<usize>;

/// A task. An object is one for as long as it is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    Parked,
    Object(usize),
}

/// What a task waits for.
#[derive(Clone, Copy, Debug)]
enum Awaited {
    /// What lies there.
    At(Slot),
    /// The end of a task.
    EndOf(Task),
}

/// The tasks that wait, and the lists of tasks.
#[derive(Default)]
pub struct Tasks {
    waits: BTreeMap<Task, Awaited>,
    lists: Set,
}

impl Tasks {
    /// An object is another one from now on: its words have moved.
    pub fn moved(&mut self, old: usize, new: usize) {
        let renamed = |task| match task {
            Task::Object(id) if id == old => Task::Object(new),
            task => task,
        };
        let waits = std::mem::take(&mut self.waits).into_iter();
        let waits = waits.map(|(task, awaited)| {
            let awaited = match awaited {
                Awaited::EndOf(other) => Awaited::EndOf(renamed(other)),
                at => at,
            };
            (renamed(task), awaited)
        });
        self.waits = waits.collect();
        if self.lists.remove(&old) {
            self.lists.insert(new);
        }
    }
}

/// The tasks that are lost, with the objects that are alive without them.
pub struct Lost {
    pub tasks: BTreeSet<Task>,
    alive: Set,
}

impl World {
    /// A statement about tasks, if these words are one.
    pub fn task_statement(&mut self, words: &[&str]) -> Option<Told<()>> {
        Some(match *words {
            ["blocked", "on", ref rest @ ..] => self.block(Task::Parked, rest),
            ["blocked", name, "on", ref rest @ ..] => self
                .task_object(name)
                .and_then(|task| self.block(task, rest)),
            ["woken"] => self.wake(Task::Parked),
            ["woken", name] => self.task_object(name).and_then(|task| self.wake(task)),
            ["task_list", name] => self.task_object(name).map(|task| {
                if let Task::Object(id) = task {
                    self.tasks.lists.insert(id);
                }
            }),
            _ => return None,
        })
    }

    fn block(&mut self, task: Task, on: &[&str]) -> Told<()> {
        let awaited = match on {
            ["end", other] => Awaited::EndOf(self.task(other)?),
            slot => Awaited::At(self.slot(slot)?),
        };
        self.tasks.waits.insert(task, awaited);
        Ok(())
    }

    fn wake(&mut self, task: Task) -> Told<()> {
        self.tasks.waits.remove(&task);
        Ok(())
    }

    fn task_object(&self, name: &str) -> Told<Task> {
        let id = self.live_named(name)?;
        match self.objects[id].percpu {
            true => Err(format!("{name} has a copy a cpu")),
            false => Ok(Task::Object(id)),
        }
    }

    fn task(&self, name: &str) -> Told<Task> {
        match name {
            "parked" => Ok(Task::Parked),
            name => self.task_object(name),
        }
    }

    fn task_name(&self, task: Task) -> String {
        match task {
            Task::Parked => "parked".into(),
            Task::Object(id) => self.objects[id].name.clone(),
        }
    }

    /// The tasks that wait.
    fn waiting(&self) -> BTreeSet<Task> {
        let is_live = |task: &Task| match *task {
            Task::Parked => true,
            Task::Object(id) => !self.objects[id].freed,
        };
        self.tasks.waits.keys().copied().filter(is_live).collect()
    }

    /// The tasks that wait for a word in memory which was freed: their names, of the parked one none.
    pub fn stale_waits(&self) -> Vec<String> {
        let is_stale = |task: &Task| match self.tasks.waits[task] {
            Awaited::At(slot) => !self.is_memory(slot),
            Awaited::EndOf(_) => false,
        };
        let stale = self.waiting().into_iter().filter(is_stale);
        let name = |task| match task {
            Task::Parked => String::new(),
            task => self.task_name(task),
        };
        stale.map(name).collect()
    }

    /// The words that count while these tasks are withheld.
    fn words_without(&self, withheld: &BTreeSet<Task>) -> Vec<Pointer> {
        let mut words = self.pointers_with_stacks();
        words.retain(|word| {
            word.scanned
                && match (word.from, word.slot) {
                    (None, slot) if is_of_parked(slot) => !withheld.contains(&Task::Parked),
                    (None, _) => true,
                    (Some(id), _) => {
                        !self.tasks.lists.contains(&id) && !withheld.contains(&Task::Object(id))
                    }
                }
        });
        words
    }

    /// The objects that are alive while these tasks are withheld.
    fn alive(&self, withheld: &BTreeSet<Task>) -> Set {
        let mut alive: Set = self
            .tracked()
            .filter(|&id| self.objects[id].min_count <= 0)
            .collect();
        for task in self.waiting().difference(withheld) {
            if let Task::Object(id) = *task {
                alive.insert(id);
            }
        }
        spread(self, &self.words_without(withheld), &mut alive);
        alive
    }

    /// The tasks that can never run again.
    pub fn lost(&self) -> Told<Lost> {
        let is_complete = self.live().all(|id| self.objects[id].tracked);
        if !is_complete || self.off || self.metadata_off {
            return Err("there is no answer".into());
        }
        let mut withheld = self.waiting();
        loop {
            let alive = self.alive(&withheld);
            let goes_on = |task: &Task| match self.tasks.waits[task] {
                Awaited::At(slot) => self.owner(slot).is_none_or(|id| alive.contains(&id)),
                Awaited::EndOf(other) => !withheld.contains(&other),
            };
            let left: BTreeSet<Task> = withheld
                .iter()
                .copied()
                .filter(|task| !goes_on(task))
                .collect();
            if left == withheld {
                let tasks = withheld;
                return Ok(Lost { tasks, alive });
            }
            withheld = left;
        }
    }

    /// The objects that a lost task reaches and no task that goes on, its own one among them.
    fn reached(&self, task: Task, lost: &Lost) -> Set {
        let words = self.words_without(&BTreeSet::new());
        let mut reached = Set::new();
        if let Task::Object(id) = task {
            reached.insert(id);
        }
        loop {
            let leads = |word: &&Pointer| match word.from {
                None => task == Task::Parked && is_of_parked(word.slot),
                Some(from) => reached.contains(&from),
            };
            let crossed =
                |id: &usize| !lost.alive.contains(id) && !lost.tasks.contains(&Task::Object(*id));
            let more: Set = words
                .iter()
                .filter(leads)
                .map(|word| word.to)
                .filter(crossed)
                .collect();
            let before = reached.len();
            reached.extend(more);
            if reached.len() == before {
                return reached;
            }
        }
    }

    /// The objects that only this lost task retains.
    fn retained(&self, task: Task, lost: &Lost) -> Set {
        let mut only = self.reached(task, lost);
        for other in lost.tasks.iter().filter(|other| **other != task) {
            let reached = self.reached(*other, lost);
            only.retain(|id| !reached.contains(id));
        }
        only
    }

    /// The answer to `expect lost`, or to `expect retains TASK`.
    pub fn told_of_tasks(&self, about: &[&str]) -> Told<Vec<String>> {
        let lost = self.lost()?;
        match *about {
            ["lost", ..] => {
                let mut names: Vec<String> = lost
                    .tasks
                    .iter()
                    .map(|&task| self.task_name(task))
                    .collect();
                names.sort();
                Ok(names)
            }
            ["retains", name, ..] => {
                let task = self.task(name)?;
                if !lost.tasks.contains(&task) {
                    return Err(format!("{name} is not lost"));
                }
                let only = self.retained(task, &lost);
                Ok(vec![self.bytes(&only).to_string(), only.len().to_string()])
            }
            _ => Err(format!("{about:?} is nothing to ask of tasks")),
        }
    }

    /// What there is to say of tasks, in the words of [`told_of_tasks`](Self::told_of_tasks), if any waits.
    pub fn questions_of_tasks(&self) -> Vec<String> {
        let mut all = Vec::new();
        if let Ok(lost) = self.lost()
            && !self.waiting().is_empty()
        {
            all.push("lost".into());
            let names = lost.tasks.iter().map(|&task| self.task_name(task));
            all.extend(names.map(|name| format!("retains {name}")));
        }
        all
    }
}

/// Whether a slot lies on the stack of the parked task, or is a register of it.
fn is_of_parked(slot: Slot) -> bool {
    matches!(slot, Slot::Place("stack" | "reg", ..))
}
