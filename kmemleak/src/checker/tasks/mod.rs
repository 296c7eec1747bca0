//! Which tasks can never run again, and what memory only they retain.
//!
//! A question of its own, always in a stopped world: all CPUs mark what tasks reach that can run, one of them lets further tasks go on
//! ([`task_table`](crate::marker::task_table)), copies the call stacks of those that are lost, and adds up what they retain
//! ([`retained`]). The last verdict stays as it is; in it the stacks of lost tasks are roots, as those of all others.
//!
//! A task that is lost by the marker is lost: it errs only where it errs with leaks, so for the same reasons of [`Doubt`] the
//! answer is doubtful. What looks like a pointer to an awaited object hides a lost task.

mod retained;
mod rows;

use core::fmt;

use self::retained::RetainedMemory;
use self::rows::LostRow;
use crate::atomic::Lock;
use crate::checker::claim::{Claim, Nested, NotDone};
use crate::checker::pass::{NotSeen, Together};
use crate::marker::task_table::{Awaited, TaskRow, TaskStanding, TaskTable};
use crate::marker::{Figures, GivenUp, Marker, Stacks};
use crate::metadata::page_vec::PageVec;
use crate::objects::access::Stopped;
use crate::platform::{Comm, MAX_FRAMES, Platform, StopError, WaitsOn};
use crate::stacks::frame_walk::frame_pointer_walk;
use crate::verdict::summary::Doubt;

/// A task that can never run again.
#[derive(Clone, Copy, Debug)]
pub struct LostTask<'a> {
    /// Its number.
    pub task: u32,
    /// Its name.
    pub comm: Comm,
    /// What it waits for.
    pub on: WaitsOn,
    /// What that is, as the platform calls it.
    pub what: &'static str,
    /// The start of the object that what it waits for lies in, and its bytes; `None` if it waits for the end of a task.
    pub object: Option<(usize, usize)>,
    /// When it began to wait, in microseconds of the platform's clock.
    pub since_us: u64,
    /// For how long it has waited, in microseconds.
    pub waited_us: u64,
    /// The address of the block that belongs to it alone, if the platform named one.
    pub block: Option<usize>,
    /// Return addresses of the calls in which it waits, innermost first. Empty if it has no stack, or that is not known.
    pub call_stack: &'a [usize],
    /// How many objects only it retains: its own block, the blocks that hold its stacks, and what nothing but these reaches.
    pub objects: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// Tasks in figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskSummary {
    /// Tasks that the platform has named. Those that run are none of them.
    pub named: usize,
    /// Those of them that wait for another task to wake them.
    pub waiting: usize,
    /// Those that can never run again.
    pub lost: usize,
    /// Objects that only lost tasks retain, one or several of them.
    pub objects: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Whether there was memory for all tasks and for what they retain. If not, tasks or objects are missing.
    pub complete: bool,
    /// Why it is not certain that the lost tasks are lost; `None` if it is.
    pub doubt: Option<Doubt>,
    /// For how long the world was stopped, in microseconds.
    pub stopped_us: u64,
    /// Steps of the question that depend on how many tasks there are: searches in the index of tasks. It grows as the number of tasks
    /// does.
    pub searches: u64,
}

/// Why it is not known which tasks can never run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTasks {
    /// For a reason for which other things are not done, either.
    NotDone(NotDone),
    /// The world can't be stopped.
    Unstopped(StopError),
}

impl fmt::Display for NoTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDone(why) => why.fmt(f),
            Self::Unstopped(why) => why.fmt(f),
        }
    }
}

impl core::error::Error for NoTasks {}

impl From<NotDone> for NoTasks {
    fn from(why: NotDone) -> Self {
        Self::NotDone(why)
    }
}

impl From<Nested> for NoTasks {
    fn from(why: Nested) -> Self {
        Self::NotDone(why.into())
    }
}

impl From<NotSeen> for NoTasks {
    fn from(why: NotSeen) -> Self {
        match why {
            NotSeen::Unstopped(why) => Self::Unstopped(why),
            NotSeen::GivenUp => Self::NotDone(NotDone::Stopped),
        }
    }
}

/// The lost tasks of the last question.
pub(super) struct LostTasks {
    table: Lock<TaskTable>,
    lost: PageVec<LostRow>,
    retained: RetainedMemory,
    asked_us: u64,
}

impl LostTasks {
    pub(super) const fn new() -> Self {
        Self {
            table: Lock::<_>::new(TaskTable::new()),
            lost: PageVec::new(),
            retained: RetainedMemory::new(),
            asked_us: 0,
        }
    }

    /// Forgets everything; its owner gives the memory back.
    pub(super) fn empty(&mut self) {
        self.table.get_mut().empty();
        self.lost.empty();
        self.retained.empty();
    }
}

/// Finds what is known of the lost tasks, when those that are not lost have been let go on.
fn look_at_lost<P: Platform>(
    marker: &mut Marker<'_, P, Stopped>,
    table: &Lock<TaskTable>,
    lost: &mut PageVec<LostRow>,
    retained: &mut RetainedMemory,
) -> Result<bool, GivenUp> {
    lost.clear();
    let mut complete = true;
    for number in 0.. {
        let Some(row) = table.lock().row(number).copied() else {
            break;
        };
        if row.standing == TaskStanding::Withheld {
            let found = lost_row(marker, table, number, &row);
            complete &= lost.push(found, marker.meta()).is_ok();
        }
    }
    complete &= retained.add_up(marker, table, lost)?;
    Ok(complete && !table.lock().is_short())
}

fn lost_row<P: Platform>(
    marker: &Marker<'_, P, Stopped>,
    table: &Lock<TaskTable>,
    number: usize,
    row: &TaskRow,
) -> LostRow {
    let (registry, access) = (marker.registry(), marker.access());
    let object_bytes = match row.awaited {
        Awaited::At { object, .. } => registry.starting_at(access, object.get(), |object| {
            registry.size(object.start, object.record)
        }),
        Awaited::EndOf(_) => None,
    };
    let mut addresses = [0; MAX_FRAMES];
    let mut frames = 0;
    if let Some(stack) = table.lock().stack(row.task, 0) {
        let frame_pointer = row.frame_pointer.get();
        // SAFETY: a root, which can be read as long as the world is stopped.
        frames = unsafe { frame_pointer_walk(frame_pointer, stack, &mut addresses) };
    }
    LostRow {
        row: number as u32,
        frames: frames as u32,
        addresses,
        object_bytes: object_bytes.unwrap_or(0),
        objects: 0,
        bytes: 0,
    }
}

impl<P: Platform> Claim<'_, P> {
    /// Finds the tasks that can never run again, for [`each_lost_task`](Self::each_lost_task).
    pub(crate) fn find_lost_tasks(&mut self) -> Result<TaskSummary, NoTasks> {
        let tracker = self.tracker();
        let seen = self.on_unscanned_stack(|claim| {
            let handle = claim.handle();
            let tasks = &mut claim.findings.tasks;
            tasks.asked_us = tracker.now_us();
            let LostTasks {
                table,
                lost,
                retained,
                ..
            } = tasks;
            let table = &*table;
            let together: &Together<'_, P> = &|marker, worker| {
                let done = marker.run_withholding();
                if done.is_err() && worker == 0 {
                    marker.forget_tasks();
                }
                done
            };
            let seen = handle.stopped_with(Stacks::Scan, Some(table), together, |marker| {
                let mut found = marker.let_go_on();
                let complete = match found {
                    Ok(()) => look_at_lost(marker, table, lost, retained),
                    Err(GivenUp) => Err(GivenUp),
                };
                found = complete.map(|_| ());
                marker.forget_tasks();
                found.and(complete)
            });
            Ok::<_, GivenUp>(seen)
        });
        let seen = seen.map_err(|GivenUp| NotDone::Stopped)??;
        let tasks = &mut self.findings.tasks;
        let (objects, bytes) = tasks.retained.total();
        let lost = tasks.lost.len();
        let table = tasks.table.get_mut();
        Ok(TaskSummary {
            named: table.named(),
            waiting: table.waiting(),
            lost,
            objects,
            bytes,
            complete: seen.result,
            doubt: doubt(&seen.figures, tracker.unrecorded()),
            stopped_us: seen.stopped_us,
            searches: table.searches(),
        })
    }

    /// Shows the lost tasks that were found, in the order in which the platform named them.
    pub(crate) fn each_lost_task(&self, look: &mut dyn FnMut(LostTask<'_>)) {
        let _outside = self.outside();
        let tasks = &self.findings.tasks;
        for lost in (0..tasks.lost.len()).filter_map(|number| tasks.lost.get(number)) {
            let Some(row) = tasks.table.lock().row(lost.row as usize).copied() else {
                continue;
            };
            look(shown(&row, lost, tasks.asked_us));
        }
    }
}

/// Why it is not certain that nothing reaches what was not reached.
pub(super) fn doubt(figures: &Figures, unrecorded: u64) -> Option<Doubt> {
    match *figures {
        _ if unrecorded > 0 => Some(Doubt::Unrecorded(unrecorded)),
        Figures { unread: 1.., .. } => Some(Doubt::Unread(figures.unread)),
        Figures { in_flight: 1.., .. } => Some(Doubt::InFlight(figures.in_flight)),
        _ => None,
    }
}

fn shown<'l>(row: &TaskRow, lost: &'l LostRow, asked_us: u64) -> LostTask<'l> {
    let (on, object) = match row.awaited {
        Awaited::At { address, object } => (
            WaitsOn::Address(address.get()),
            Some((object.get(), lost.object_bytes)),
        ),
        Awaited::EndOf(task) => (WaitsOn::Task(task), None),
    };
    LostTask {
        task: row.task,
        comm: row.comm,
        on,
        what: row.what,
        object,
        since_us: row.since_us,
        waited_us: asked_us.saturating_sub(row.since_us),
        block: row.block.pointer::<u8>().map(|block| block.addr().get()),
        call_stack: &lost.addresses[..lost.frames as usize],
        objects: lost.objects,
        bytes: lost.bytes,
    }
}
