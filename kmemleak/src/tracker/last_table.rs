//! The table of the page map in which each CPU has recorded last: most blocks come from near the one before.
//!
//! A line is used by its CPU alone, with interrupts off. If a platform numbers its CPUs wrong, two CPUs may use one: then the last byte
//! may stand beside another table than its own, and blocks are recorded in wrong places. But the table is always one of the page
//! map's, so nothing else is touched.
//!
//! # Locks
//!
//! None. Any context, with interrupts off.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::atomic::{AtomicU64, AtomicUsize};
use crate::metadata::hidden::Hidden;
use crate::objects::chunk::Chunk;
use crate::objects::page_map::{Leaf, chunk_of};

/// CPUs that have a line; those beyond walk through the page map.
const CPUS: usize = 64;

/// What a CPU remembers.
/// A line is as long as a CPU's [row](crate::stacks::task_names) of task names, so that both are found by one shift.
#[repr(align(128))]
struct LastTable {
    /// The last byte that the table stands for; zero is none. It publishes that there is a table: stored with Release, loaded with
    /// Acquire.
    last: AtomicUsize,
    /// Where the table lies, hidden. Relaxed: once there is one, another one will do (for memory safety; see above).
    table: AtomicU64,
}

/// The lines of all CPUs.
pub(super) struct LastTables([LastTable; CPUS]);

impl LastTables {
    pub(super) const fn new() -> Self {
        Self(
            [const {
                LastTable {
                    last: AtomicUsize::new(0),
                    table: AtomicU64::new(Hidden::NONE.bits()),
                }
            }; CPUS],
        )
    }

    /// The entry of an address's chunk, if it lies in the table that the CPU remembers.
    #[inline(always)]
    pub(super) fn chunk(&self, start: usize, cpu: u32) -> Option<Chunk> {
        let line = self.0.get(cpu as usize)?;
        if line.last.load(Acquire) != Leaf::range_of(start).1 {
            return None;
        }
        let table = Hidden::from_bits(line.table.load(Relaxed));
        // SAFETY: `remember` has hidden a table there, before it wrote the last byte.
        let leaf = unsafe { Leaf::from_place(table) };
        Some(leaf.chunk(chunk_of(start)))
    }

    /// Remembers the table that an address's entry is in.
    pub(super) fn remember(&self, start: usize, table: Leaf, cpu: u32) {
        if let Some(line) = self.0.get(cpu as usize) {
            line.table.store(table.place().bits(), Relaxed);
            line.last.store(Leaf::range_of(start).1, Release);
        }
    }

    /// Forgets all tables.
    pub(super) fn empty(&self) {
        for line in &self.0 {
            line.last.store(0, Relaxed);
            line.table.store(Hidden::NONE.bits(), Relaxed);
        }
    }
}
