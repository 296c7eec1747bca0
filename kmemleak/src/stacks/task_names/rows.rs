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
use crate::stacks::task_names::{Round, Who};

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

/// The task that ran last, plus one; 0 is none.
const LAST: usize = 0;
/// The number of that task's name, and the row's CPU: see [`Who`].
const WHO: usize = 1;
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

    /// The number of a task's name and the row's CPU, if that task ran last on it.
    #[inline(always)]
    pub(super) fn who(self, task: u32) -> Option<Who> {
        let (last, who) = (self.word(LAST).load(Relaxed), self.word(WHO).load(Relaxed));
        (last == u64::from(task) + 1).then_some(Who(who as u32))
    }

    /// Notes which task runs on the row's CPU; the number of its name is entered next.
    pub(super) fn set_task(self, task: u32, cpu: u32) {
        let number = Who(self.word(WHO).load(Relaxed) as u32).number();
        self.set_who(Who::of(number, cpu));
        self.word(LAST).store(u64::from(task) + 1, Relaxed);
    }

    pub(super) fn enter(self, number: u32) {
        let cpu = Who(self.word(WHO).load(Relaxed) as u32).cpu();
        self.set_who(Who::of(number, cpu));
    }

    fn set_who(self, who: Who) {
        self.word(WHO).store(who.0.into(), Relaxed);
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
        let word = |index| self.word(index).load(Relaxed) as u32;
        [Who(word(WHO)).number(), word(HELD)].into_iter()
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

    /// The row of a CPU if it is one of the first.
    #[inline(always)]
    pub(super) fn near(&self, cpu: u32) -> Option<CpuRow<'_>> {
        self.own.get(cpu as usize).map(CpuRow::Own)
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
