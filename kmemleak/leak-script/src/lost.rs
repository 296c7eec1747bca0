//! Tasks that wait: what a script says of them, and what the detector says of those that are lost.
//!
//! A machine is told of them for as long as the detector is asked, by the addresses that names have at that moment.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;

use kmemleak::{Comm, Platform, TaskState, Wait, WaitsOn};

use crate::run::{Run, Stop};
use crate::statement::{Allocator, Slot, Waiter};
use crate::tasks::{Awaits, Who};
use crate::verify::{same, same_list};

/// The numbers of tasks that are objects begin here.
const OBJECTS: u32 = 0x4000_0000;

fn name_of(waiter: Waiter<'_>) -> String {
    match waiter {
        Waiter::Parked => "parked".into(),
        Waiter::Object(name) => name.to_string(),
    }
}

/// A lost task, by its name, with the bytes and blocks that only it retains.
type Lost = (String, usize, usize);

impl<P: Platform> Run<'_, P> {
    /// A task waits for what lies at a slot.
    pub(crate) fn block(&mut self, waiter: Waiter<'_>, slot: Slot<'_>) -> Result<(), Stop> {
        self.is_task(waiter)?;
        let at = self.names.place(slot, self.machine)?;
        let place = self.tasks.place(waiter);
        self.tasks.tasks[place].awaits = Some(Awaits::At(at));
        Ok(())
    }

    /// A task waits for the end of another one.
    pub(crate) fn join(&mut self, waiter: Waiter<'_>, other: Waiter<'_>) -> Result<(), Stop> {
        self.is_task(waiter)?;
        self.is_task(other)?;
        let (place, other) = (self.tasks.place(waiter), self.tasks.place(other));
        self.tasks.tasks[place].awaits = Some(Awaits::End(other));
        Ok(())
    }

    /// A task waits no more.
    pub(crate) fn wake(&mut self, waiter: Waiter<'_>) -> Result<(), Stop> {
        self.is_task(waiter)?;
        let place = self.tasks.place(waiter);
        self.tasks.tasks[place].awaits = None;
        Ok(())
    }

    /// An object is a list of tasks.
    pub(crate) fn list_tasks(&mut self, name: &str) -> Result<(), Stop> {
        self.is_task(Waiter::Object(name))?;
        self.tasks.lists.push(name.to_owned());
        Ok(())
    }

    /// Whether there is such a task. An object is one, or a list, if it is live and has one copy of its words.
    fn is_task(&self, waiter: Waiter<'_>) -> Result<(), Stop> {
        let Waiter::Object(name) = waiter else {
            return Ok(());
        };
        match self.names.live(name)?.from {
            Allocator::Percpu => Err(format!("{name} has a copy a cpu, as no task has").into()),
            _ => Ok(()),
        }
    }

    /// The number of the task at a place.
    fn number(&self, place: usize) -> u32 {
        match self.tasks.tasks[place].who {
            Who::Parked => self.machine.parked_task(),
            Who::Object(_) | Who::Freed => OBJECTS + place as u32,
        }
    }

    /// All tasks that wait and whose objects are live, as a platform names them.
    fn states(&self) -> Vec<TaskState> {
        let tasks = self.tasks.tasks.iter().enumerate();
        let live = tasks.filter_map(|(place, task)| {
            let awaits = task.awaits?;
            let block = match &task.who {
                Who::Freed => return None,
                Who::Parked => None,
                Who::Object(name) => Some(self.names.live(name).ok()?.start.get()),
            };
            let on = match awaits {
                Awaits::At(at) => WaitsOn::Address(at.get()),
                Awaits::End(other) => WaitsOn::Task(self.number(other)),
            };
            Some(TaskState {
                task: self.number(place),
                comm: Comm::new("script"),
                block,
                frame_pointer: None,
                wait: Some(Wait {
                    on,
                    what: "slot",
                    since_us: 0,
                }),
            })
        });
        live.collect()
    }

    /// The lists whose objects are live.
    fn lists(&self) -> Vec<Range<usize>> {
        let live = self.tasks.lists.iter().filter_map(|name| {
            let object = self.names.live(name).ok()?;
            Some(object.start.get()..object.start.get() + object.size)
        });
        live.collect()
    }

    /// The lost tasks of the script.
    fn lost(&mut self) -> Result<Vec<Lost>, Stop> {
        let (states, lists) = (self.states(), self.lists());
        self.machine.name_tasks(&states, &lists);
        let found = self.subject.lost_tasks();
        self.machine.name_tasks(&[], &[]);
        let found = found.map_err(|why| Stop::Misuse(why.to_string()))?;
        let named = found.into_iter().filter_map(|lost| {
            let mut places = 0..self.tasks.tasks.len();
            let place = places.find(|&place| self.number(place) == lost.task)?;
            let name = match &self.tasks.tasks[place].who {
                Who::Object(name) => Waiter::Object(name),
                Who::Parked | Who::Freed => Waiter::Parked,
            };
            Some((name_of(name), lost.bytes, lost.blocks))
        });
        Ok(named.collect())
    }

    /// Whether these tasks are lost, and no others.
    pub(crate) fn expect_lost(&mut self, waiters: &[Waiter<'_>]) -> Result<(), Stop> {
        let mut told: Vec<String> = self.lost()?.into_iter().map(|(name, ..)| name).collect();
        let mut wanted: Vec<String> = waiters.iter().map(|&waiter| name_of(waiter)).collect();
        told.sort();
        wanted.sort();
        same_list("lost", &wanted, &told)
    }

    /// Whether a task is lost, and retains so much.
    pub(crate) fn expect_retains(
        &mut self,
        waiter: Waiter<'_>,
        bytes: usize,
        blocks: usize,
    ) -> Result<(), Stop> {
        let name = name_of(waiter);
        let lost = self.lost()?.into_iter().find(|(lost, ..)| *lost == name);
        let told = match lost {
            None => "not lost".into(),
            Some((_, bytes, blocks)) => format!("{bytes} {blocks}"),
        };
        let wanted = format!("{bytes} {blocks}");
        same(&format!("retains {name} {wanted}"), told, |told| {
            told == wanted
        })
    }
}
