//! Rows: for each CPU, the task that ran last on it, some that ran before, and the numbers that no round may free.
//!
//! Earlier tasks are kept so that tasks that take turns are not looked up at each turn: one that has no name would be looked
//! for in vain each time. What was found for such a task holds until a round ends, and a limited number of times. Rounds do not
//! mark it.
//!
//! # Orderings
//!
//! Numbers of rows are Relaxed. The marks of [`States`](crate::stacks::task_names::states::States) order which numbers a round
//! must see in rows when it begins, and the locks of chunks order the rest. (If the round does not see a number, another one
//! has replaced it in the row. The last record with the old number was in its chunk before that, and the walk locks the chunk
//! later; if it had locked the chunk earlier, the new number was not yet written when the round read the row.)

use core::sync::atomic::Ordering::Relaxed;

use crate::atomic::AtomicU64;
use crate::metadata::page::{NoMemory, Numbers, Page, PageLink, PageSource, WORD};
use crate::platform::METADATA_PAGE;
use crate::sizes::{NAME_ROW_PAGES as ROW_PAGES, NAME_ROWS as ROWS};
use crate::stacks::task_names::Round;

/// Tasks that a CPU knows beside the last one.
const EARLIER: usize = 6;
/// How often a CPU goes by what it knows of an earlier task, before it asks again: the task may have been renamed, or its
/// number may be another task's by now.
const EARLIER_USES: u64 = 256;

/// Bytes of a row: whole cache lines, so that no two CPUs write to one line.
const ROW_BYTES: usize = 128;
/// Rows in a page.
const ROWS_PER_PAGE: usize = METADATA_PAGE / ROW_BYTES;

// The words of a row.

/// The task that ran last, and the CPU: see [`key`]; 0 is none.
const LAST: usize = 0;
/// The number of that task's name.
const NUMBER: usize = 1;
/// The number of the name in a record that is in no chunk at the moment.
const HELD: usize = 2;
/// Earlier tasks: two words each. The first has the task, and above it the round in which its name was looked up. The second has
/// the number that was found, and above it how often that may still be used.
const FIRST_EARLIER: usize = 3;
const ROW_WORDS: usize = FIRST_EARLIER + 2 * EARLIER;
const _: () = assert!(ROW_WORDS * WORD <= ROW_BYTES);

/// A row that lies in the detector itself.
#[repr(align(64))]
pub(super) struct OwnRow([AtomicU64; ROW_WORDS]);

/// A CPU's row, wherever it lies. Its CPU alone writes to it, in callbacks; rounds read it.
#[derive(Clone, Copy)]
pub(super) enum CpuRow<'a> {
    Own(&'a OwnRow),
    /// In a page, from the word with this index on.
    InPage(Page<Numbers>, usize),
}

/// A task on a CPU, in a word. (The CPU is in it since a CPU may look at the row of another: see [`Rows::near`].)
#[inline(always)]
fn key(task: u32, cpu: u32) -> u64 {
    (u64::from(cpu) << 32 | u64::from(task)).wrapping_add(1)
}

fn earlier_key(task: u32, round: Round) -> u64 {
    u64::from(round.0) << 32 | u64::from(task)
}

impl<'a> CpuRow<'a> {
    #[inline(always)]
    fn word(self, index: usize) -> &'a AtomicU64 {
        match self {
            Self::Own(OwnRow(words)) => &words[index],
            Self::InPage(page, first) => page.word(first + index),
        }
    }

    /// The number of a task's name, if that task ran last on this CPU.
    #[inline(always)]
    pub(super) fn number_of(self, task: u32, cpu: u32) -> Option<u32> {
        let (last, number) = (
            self.word(LAST).load(Relaxed),
            self.word(NUMBER).load(Relaxed),
        );
        (last == key(task, cpu)).then_some(number as u32)
    }

    /// Notes which task runs; the number of its name is entered next.
    pub(super) fn set_task(self, task: u32, cpu: u32) {
        self.word(LAST).store(key(task, cpu), Relaxed);
    }

    pub(super) fn enter(self, number: u32) {
        self.word(NUMBER).store(u64::from(number), Relaxed);
    }

    pub(super) fn hold(self, number: u32) {
        self.word(HELD).store(u64::from(number), Relaxed);
    }

    /// The number that was found for an earlier task in this round. No row protects it.
    pub(super) fn earlier(self, task: u32, now: Round) -> Option<u32> {
        let first = FIRST_EARLIER + task as usize % EARLIER * 2;
        if self.word(first).load(Relaxed) != earlier_key(task, now) {
            return None;
        }
        let found = self.word(first + 1).load(Relaxed);
        let left = found.checked_sub(1 << 32)?;
        self.word(first + 1).store(left, Relaxed);
        Some(found as u32)
    }

    /// Remembers what was found for a task in a round.
    pub(super) fn note_earlier(self, task: u32, found: u32, round: Round) {
        let first = FIRST_EARLIER + task as usize % EARLIER * 2;
        self.word(first).store(earlier_key(task, round), Relaxed);
        let found = EARLIER_USES << 32 | u64::from(found);
        self.word(first + 1).store(found, Relaxed);
    }

    /// All numbers in this row that no round may free.
    pub(super) fn numbers(self) -> impl Iterator<Item = u32> {
        [NUMBER, HELD]
            .map(|index| self.word(index).load(Relaxed) as u32)
            .into_iter()
    }

    fn clear(self) {
        (0..ROW_WORDS).for_each(|index| self.word(index).store(0, Relaxed));
    }
}

/// All rows.
pub(super) struct Rows {
    /// The rows of the first CPUs.
    own: [OwnRow; ROWS],
    /// Pages of rows for the CPUs beyond.
    pages: [PageLink<Numbers>; ROW_PAGES],
}

impl Rows {
    pub(super) const fn new() -> Self {
        Self {
            own: [const { OwnRow([const { AtomicU64::new(0) }; ROW_WORDS]) }; ROWS],
            pages: [const { PageLink::new() }; ROW_PAGES],
        }
    }

    /// The row of a CPU if it is one of the first; else the row of another CPU.
    #[inline(always)]
    pub(super) fn near(&self, cpu: u32) -> CpuRow<'_> {
        CpuRow::Own(&self.own[cpu as usize % ROWS])
    }

    /// The row of a CPU. An error if there is no memory for it, or the CPU's number is too large for a row.
    pub(super) fn get(&self, cpu: u32, meta: &impl PageSource) -> Result<CpuRow<'_>, NoMemory> {
        let cpu = cpu as usize;
        if let Some(row) = self.own.get(cpu) {
            return Ok(CpuRow::Own(row));
        }
        let beyond = cpu - ROWS;
        let page = self.pages.get(beyond / ROWS_PER_PAGE).ok_or(NoMemory)?;
        let page = page.get_or_take(meta)?;
        Ok(in_page(page, beyond % ROWS_PER_PAGE))
    }

    /// The numbers in all rows.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        let pages = self.pages.iter().filter_map(PageLink::get);
        let beyond =
            pages.flat_map(|page| (0..ROWS_PER_PAGE).map(move |index| in_page(page, index)));
        let rows = self.own.iter().map(CpuRow::Own).chain(beyond);
        rows.flat_map(CpuRow::numbers)
    }

    /// Forgets all; the memory is given back by its owner.
    pub(super) fn empty(&self) {
        self.own.iter().map(CpuRow::Own).for_each(CpuRow::clear);
        self.pages.iter().for_each(PageLink::clear);
    }
}

/// A row of a page.
fn in_page<'a>(page: Page<Numbers>, index: usize) -> CpuRow<'a> {
    CpuRow::InPage(page, index * ROW_BYTES / WORD)
}
