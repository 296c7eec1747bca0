//! Names of tasks, each stored once: a record holds a number of eleven bits.
//!
//! To ask the platform for a name and look it up at each allocation would cost more than the rest of the callback. So each CPU
//! remembers which task ran on it last, and the number of that task's name. A task that is renamed keeps its old name here until
//! another task has allocated on its CPU, or, where few tasks take turns, for a few hundred turns: a CPU remembers some earlier
//! tasks as well. Other names are found by their hash, in one set of an index: a few steps, however
//! many names there are. A task whose name cannot be stored has number 0: no name. That is remembered like a number.
//!
//! # Recycling
//!
//! A kernel makes tasks as long as it runs, and there are numbers for two thousand names. A number is free again when no record
//! has it. Counting records would make each allocation and each free slower. So when few numbers are free, a *round* finds
//! more: it clears all marks, walks over all records and marks the numbers that they have, and in the end frees the numbers
//! without a mark. A look-up of a name that is not known takes the round one step further: a few records, in constant time,
//! so that no task is needed for it; while rounds free nothing, most look-ups take no step. A check takes all steps of a round
//! ([`TaskNames::step`]).
//!
//! Other CPUs allocate meanwhile. A number can enter a record behind the walk only if it stands in a *row*: it is what a CPU
//! remembers, or what a CPU [holds](TaskNames::hold) while a record is in no chunk. A CPU that writes a number to its row marks
//! the number afterwards, and a round begins by marking the numbers in all rows.
//!
//! A copy of a record may outlive the name of its number. So the [`Round`] in which a copy was made is kept with the copy: a name
//! that got the number in a later round is another task's.
//!
//! # Invariants
//!
//! - A number that a record or a row has is live, or is 0.
//! - The name of a live number does not change.
//! - An index entry is a hint: its number may have another name, or none.
//!
//! # Locks
//!
//! Two. `adding` is held while a name is added or numbers are freed. `round` is held while a step of a round is taken, and is
//! taken before `adding`; steps only try to take it, so no step waits for another. Steps take the locks of chunks. No lock
//! is taken to look up a name that is known, or if there is no free number for a new name.

mod index;
mod names;
mod round;
mod rows;
mod states;
mod who;

use core::sync::atomic::Ordering::Relaxed;

pub(crate) use self::round::{NamesInUse, Round};
pub(crate) use self::who::Who;

use self::index::Index;
use self::names::{Name, Names};
use self::round::Pace;
use self::rows::{CpuRow, Rows};
use self::states::States;
use crate::atomic::{AtomicU32, Lock};
use crate::metadata::page::PageSource;
use crate::platform::Comm;
use crate::sizes::MAX_TASK_NAMES;

/// If there are more names than this, rounds are begun.
const MANY: usize = MAX_TASK_NAMES / 4 * 3;

/// The number that stands for no name.
const NONE: u32 = 0;

/// The right to add a name or to free numbers. It is borrowed from the lock `adding`, while that is held.
struct Adding(());

/// All names.
pub(crate) struct TaskNames {
    rows: Rows,
    names: Names,
    index: Index,
    states: States,
    /// Live numbers. Relaxed: without the lock it is a guess.
    live: AtomicU32,
    /// The number of rounds that have ended. Relaxed: it is loaded before a record is copied; if the record's number is freed
    /// afterwards, a later round frees it, which the lock of the record's chunk orders.
    ended: AtomicU32,
    adding: Lock<Adding>,
    round: Lock<Pace>,
}

/// The number of a name that no round frees as long as this lives.
#[must_use = "the number is safe as long as it is held"]
pub(crate) struct HeldName<'a> {
    row: Option<CpuRow<'a>>,
    number: u32,
}

impl HeldName<'_> {
    /// The number for the record: the one that is held, or 0 if it could not be held.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }
}

impl Drop for HeldName<'_> {
    fn drop(&mut self) {
        if let Some(row) = self.row {
            row.hold(NONE);
        }
    }
}

impl TaskNames {
    pub(crate) const fn new() -> Self {
        Self {
            rows: Rows::new(),
            names: Names::new(),
            index: Index::new(),
            states: States::new(),
            live: AtomicU32::new(0),
            ended: AtomicU32::new(0),
            adding: Lock::new(Adding(())),
            round: Lock::new(Pace::NONE),
        }
    }

    /// The number of the running task's name, and this CPU, if it is the task that this CPU remembers. (CPUs whose row is not at hand
    /// are left to [`number`](Self::number).) No round frees the number until this CPU asks for another one. Interrupts are off.
    #[inline(always)]
    pub(crate) fn remembered(&self, task: u32, cpu: u32) -> Option<Who> {
        self.rows.near(cpu)?.who(task)
    }

    /// The number of the running task's name, which is looked up or added if this CPU remembers another task; 0 if the name
    /// can't be stored. Interrupts are off, and no lock is held.
    pub(crate) fn number(
        &self,
        task: u32,
        cpu: u32,
        comm: impl FnOnce() -> Comm,
        meta: &impl PageSource,
        in_use: &impl NamesInUse,
    ) -> u32 {
        let Ok(row) = self.rows.get(cpu, meta) else {
            return NONE;
        };
        if let Some(who) = row.who(task) {
            return who.number();
        }
        row.set_task(task, cpu);
        let now = self.now();
        if let Some(number) = self.find_earlier(task, now, row) {
            return number;
        }
        let name = Name::of(comm());
        let number = self
            .find(&name, row)
            .or_else(|| self.try_add(&name, row, meta, in_use))
            .unwrap_or(NONE);
        row.enter(number);
        row.note_earlier(task, number, now);
        number
    }

    /// The number of a task that ran on this CPU not long ago, which is then in the row, and protected from rounds.
    #[inline(never)]
    fn find_earlier(&self, task: u32, now: Round, row: CpuRow<'_>) -> Option<u32> {
        let number = row.earlier(task, now)?;
        row.enter(number);
        // If no round has ended since the number was found, it is that name's. The round is read after the number was protected:
        // if it was freed before, and has another name, that is seen here.
        let is_its = number == NONE || self.states.protect(number) && self.now() == now;
        is_its.then_some(number)
    }

    fn try_add(
        &self,
        name: &Name,
        row: CpuRow<'_>,
        meta: &impl PageSource,
        in_use: &impl NamesInUse,
    ) -> Option<u32> {
        self.step_for_look_up(in_use);
        match self.is_full() {
            true => None,
            false => self.add(name, row, meta),
        }
    }

    /// The number of a name, if the name is known. The number is then in the row, and protected from rounds.
    fn find(&self, name: &Name, row: CpuRow<'_>) -> Option<u32> {
        self.index.numbers(name).find(|&number| {
            row.enter(number);
            self.states.protect(number) && self.names.has(number, name)
        })
    }

    /// Adds a name. `None` if there is no memory, no free number, or no room in the name's set.
    fn add(&self, name: &Name, row: CpuRow<'_>, meta: &impl PageSource) -> Option<u32> {
        let adding = self.adding.lock();
        let known = self.find(name, row);
        if known.is_some() {
            return known;
        }
        let room = self.index.room(name, &adding)?;
        let number = self.states.free_one(&adding)?;
        self.names.write(number, name, self.now(), meta).ok()?;
        row.enter(number);
        self.states.publish(number, &adding);
        room.enter(number);
        self.live.fetch_add(1, Relaxed);
        Some(number)
    }

    /// Protects the number of a record that is taken out of its chunk, until the record is in another chunk, or gone.
    /// Interrupts are off since before the record was taken out. A CPU holds one number at a time.
    pub(crate) fn hold(&self, number: u32, cpu: u32, meta: &impl PageSource) -> HeldName<'_> {
        let row = self.rows.get(cpu, meta).ok();
        let is_safe = row.is_some_and(|row| {
            row.hold(number);
            self.states.protect(number)
        });
        let number = if is_safe { number } else { NONE };
        HeldName { row, number }
    }

    /// [Holds](Self::hold) the number of a record that was in no chunk since it was copied; 0 if the number has become another
    /// name's.
    pub(crate) fn hold_copied(
        &self,
        number: u32,
        copied: Round,
        cpu: u32,
        meta: &impl PageSource,
    ) -> HeldName<'_> {
        let mut held = self.hold(number, cpu, meta);
        if held.number != NONE && self.names.read(held.number, copied).is_none() {
            held.number = NONE;
        }
        held
    }

    /// Whether few numbers are free.
    pub(crate) fn is_short(&self) -> bool {
        self.live.load(Relaxed) as usize > MANY
    }

    fn is_full(&self) -> bool {
        self.live.load(Relaxed) as usize >= MAX_TASK_NAMES - 1
    }

    /// The round to keep with a copy of a record. It must be read before the copy is made. Any context.
    pub(crate) fn now(&self) -> Round {
        Round(self.ended.load(Relaxed))
    }

    /// The name that a number had when a copy of its record was made. Any context.
    pub(crate) fn get(&self, number: u32, copied: Round) -> Comm {
        let name = match number {
            NONE => None,
            number => self.names.read(number, copied),
        };
        name.unwrap_or(Comm::new("?"))
    }

    /// Forgets everything; the memory is given back by its owner. Nobody else uses the names meanwhile.
    pub(crate) fn empty(&self) {
        self.rows.empty();
        self.names.empty();
        self.index.empty();
        self.states.empty();
        self.live.store(0, Relaxed);
        self.count_round();
        *self.round.lock() = Pace::NONE;
        drop(self.adding.lock());
    }
}
