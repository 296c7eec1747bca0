//! What a script runs on.
//!
//! Anything that a script asks of a machine may fail; then the script fails, and the machine goes on to the next one. All
//! machines have blocks of the same sizes and alignments, as [`alignment`] says: only how much memory they have may differ.

use core::ops::Range;

use kmemleak::TaskState;

use crate::statement::{Allocator, Place};

/// Bytes of a page.
const PAGE: usize = 4096;
/// The largest block of pages, and the largest alignment.
const PAGES_MAX: usize = 8 << 20;
/// The largest block that each CPU has a copy of.
const PERCPU_MAX: usize = 32 << 10;
/// What blocks with a copy for each CPU are aligned to at least.
const PERCPU_ALIGN: usize = 16;
/// What slabs' blocks are aligned to at least.
const SLAB_ALIGN: usize = 16;

/// What a block of `size` bytes is aligned to at least, if `align` (a power of two) is asked for. `None` where no machine
/// has such a block.
pub fn alignment(from: Allocator, size: usize, align: usize) -> Option<usize> {
    let largest = match from {
        Allocator::Percpu => PAGE,
        _ => PAGES_MAX,
    };
    let too_large = match from {
        Allocator::Percpu => size > PERCPU_MAX,
        Allocator::Pages => size > PAGES_MAX,
        Allocator::Slab | Allocator::Vmalloc => false,
    };
    if align > largest || too_large {
        return None;
    }
    Some(match from {
        Allocator::Slab => align.max(SLAB_ALIGN),
        Allocator::Pages => align.max(size),
        Allocator::Vmalloc => align.max(PAGE),
        Allocator::Percpu => align.max(PERCPU_ALIGN),
    })
}

/// What the statement `check` asks of the detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// A check in a stopped world.
    Stopped,
    /// A check of frozen memory, where the machine can freeze it.
    Frozen,
}

/// Whether the detector gets memory of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supply {
    /// It gets memory.
    Given,
    /// Each request fails.
    Refused,
}

/// Memory, allocators and time, for scripts to play with. One task makes all calls.
///
/// The interpreter tells the detector of blocks; none of these methods does.
pub trait Machine {
    /// What `check` asks of the detector.
    fn checks(&self) -> Checks {
        Checks::Stopped
    }

    /// A zeroed block that the detector doesn't know: its address, or the handle of a per-CPU block. `None` where there
    /// is no memory for it. The alignment is one that [`alignment`] has told for this size.
    fn alloc(&mut self, from: Allocator, size: usize, align: usize) -> Option<usize>;

    /// Takes back a block that the detector doesn't know any more.
    fn free(&mut self, from: Allocator, start: usize, size: usize);

    /// Takes back whole pages of a block of `size` bytes of pages, the detector having been told. What lies before
    /// and behind are blocks of their own from then on.
    fn free_part(&mut self, start: usize, size: usize, offset: usize, len: usize);

    /// Where CPU `cpu`'s copy of a per-CPU block lies.
    fn percpu_copy(&self, handle: usize, cpu: u32) -> usize;

    /// How many CPUs there are.
    fn cpus(&self) -> u32;

    /// Where a word outside all objects lies. All of them are 0 when a script starts.
    fn address(&self, place: Place) -> usize;

    /// Writes a word.
    ///
    /// # Safety
    ///
    /// It is a place, or lies in a live block, wholly and aligned.
    unsafe fn write(&mut self, address: usize, word: usize);

    /// Reads a word.
    ///
    /// # Safety
    ///
    /// As for [`write`](Self::write).
    unsafe fn read(&self, address: usize) -> usize;

    /// A line of the script begins. A machine may note it, to tell how far the script came.
    fn begin_line(&mut self, line: usize) {
        let _ = line;
    }

    /// From now on the call stack is one frame with this name.
    fn call_from(&mut self, site: &str);

    /// Lets time pass.
    fn advance_us(&mut self, us: u64);

    /// Whether the detector gets memory from now on.
    fn supply(&mut self, supply: Supply);

    /// The number of the task whose stack has the places of a stack, and whose saved registers are those of a register.
    fn parked_task(&self) -> u32;

    /// The platform names these tasks and lists of tasks from now on, besides those that are no script's. Those that were named before
    /// it names no more.
    fn name_tasks(&mut self, tasks: &[TaskState], lists: &[Range<usize>]);

    /// Whether an object that the detector reports counts as the script's, though the script has no name for it. Where
    /// only the script allocates it does: such a report is a mistake of the detector.
    fn is_ours(&self, address: usize) -> bool {
        let _ = address;
        true
    }
}
