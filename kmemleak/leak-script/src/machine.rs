//! What a script runs on.

use crate::statement::{Allocator, Place};

/// Whether the detector gets memory of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supply {
    /// It does.
    Given,
    /// Each request fails.
    Refused,
}

/// Memory, allocators and time, for scripts to play with. All from one task.
///
/// The detector is told by the interpreter: none of these methods does.
pub trait Machine {
    /// A zeroed block that the detector doesn't know: its address, or the handle of a per-CPU block. `None` where there
    /// is no such block to be had.
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

    /// Writes a word, in a place or in a live block.
    fn write(&mut self, address: usize, word: usize);

    /// Reads one.
    fn read(&self, address: usize) -> usize;

    /// From now on the call stack is one frame with this name.
    fn call_from(&mut self, site: &str);

    /// Lets time pass.
    fn advance_us(&mut self, us: u64);

    /// Whether the detector gets memory from now on.
    fn supply(&mut self, supply: Supply);

    /// Whether an object that the detector names belongs to the script, though no name of it does: where nothing but
    /// the script allocates, a mistake of the detector.
    fn is_ours(&self, address: usize) -> bool {
        let _ = address;
        true
    }
}
