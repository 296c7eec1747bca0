//! Rows: for each CPU, the task that ran last on it, and the numbers that no round may free.
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

/// Bytes of a row: a cache line, so that no two CPUs write to one line.
const ROW_BYTES: usize = 64;
/// Rows in a page.
const ROWS_PER_PAGE: usize = METADATA_PAGE / ROW_BYTES;

/// A row that lies in the detector itself: the words of a [`CpuRow`].
#[repr(align(64))]
struct OwnRow([AtomicU64; 3]);

/// A CPU's row, wherever it lies. Its CPU alone writes to it, in callbacks; rounds read it.
#[derive(Clone, Copy)]
pub(super) struct CpuRow<'a> {
    /// The task that ran last, and the CPU: see [`key`]; 0 is none.
    last: &'a AtomicU64,
    /// The number of that task's name.
    number: &'a AtomicU64,
    /// The number of the name in a record that is in no chunk at the moment.
    held: &'a AtomicU64,
}

/// A task on a CPU, in a word. (The CPU is in it since a CPU may look at the row of another: see [`Rows::near`].)
#[inline(always)]
fn key(task: u32, cpu: u32) -> u64 {
    (u64::from(cpu) << 32 | u64::from(task)).wrapping_add(1)
}

impl<'a> CpuRow<'a> {
    #[inline(always)]
    fn of(OwnRow([last, number, held]): &'a OwnRow) -> Self {
        Self { last, number, held }
    }

    fn in_page(page: Page<Numbers>, index: usize) -> Self {
        let first = index * ROW_BYTES / WORD;
        Self {
            last: page.word(first),
            number: page.word(first + 1),
            held: page.word(first + 2),
        }
    }

    /// The number of a task's name, if that task ran last on this CPU.
    #[inline(always)]
    pub(super) fn number_of(self, task: u32, cpu: u32) -> Option<u32> {
        let (last, number) = (self.last.load(Relaxed), self.number.load(Relaxed));
        (last == key(task, cpu)).then_some(number as u32)
    }

    /// Notes which task runs; the number of its name is entered next.
    pub(super) fn set_task(self, task: u32, cpu: u32) {
        self.last.store(key(task, cpu), Relaxed);
    }

    pub(super) fn enter(self, number: u32) {
        self.number.store(u64::from(number), Relaxed);
    }

    pub(super) fn hold(self, number: u32) {
        self.held.store(u64::from(number), Relaxed);
    }

    /// All numbers in this row.
    pub(super) fn numbers(self) -> impl Iterator<Item = u32> {
        [self.number, self.held]
            .map(|word| word.load(Relaxed) as u32)
            .into_iter()
    }

    fn clear(self) {
        for word in [self.last, self.number, self.held] {
            word.store(0, Relaxed);
        }
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
            own: [const { OwnRow([const { AtomicU64::new(0) }; 3]) }; ROWS],
            pages: [const { PageLink::new() }; ROW_PAGES],
        }
    }

    /// The row of a CPU if it is one of the first; else the row of another CPU.
    #[inline(always)]
    pub(super) fn near(&self, cpu: u32) -> CpuRow<'_> {
        CpuRow::of(&self.own[cpu as usize % ROWS])
    }

    /// The row of a CPU. An error if there is no memory for it, or the CPU's number is too large for a row.
    pub(super) fn get(&self, cpu: u32, meta: &impl PageSource) -> Result<CpuRow<'_>, NoMemory> {
        let cpu = cpu as usize;
        if let Some(row) = self.own.get(cpu) {
            return Ok(CpuRow::of(row));
        }
        let beyond = cpu - ROWS;
        let page = self.pages.get(beyond / ROWS_PER_PAGE).ok_or(NoMemory)?;
        let page = page.get_or_take(meta)?;
        Ok(CpuRow::in_page(page, beyond % ROWS_PER_PAGE))
    }

    /// The numbers in all rows.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        let pages = self.pages.iter().filter_map(PageLink::get);
        let beyond = pages
            .flat_map(|page| (0..ROWS_PER_PAGE).map(move |index| CpuRow::in_page(page, index)));
        let rows = self.own.iter().map(CpuRow::of).chain(beyond);
        rows.flat_map(CpuRow::numbers)
    }

    /// Forgets all; the memory is given back by its owner.
    pub(super) fn empty(&self) {
        self.own.iter().map(CpuRow::of).for_each(CpuRow::clear);
        self.pages.iter().for_each(PageLink::clear);
    }
}
