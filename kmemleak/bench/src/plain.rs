//! The allocator under the pairs: as plain as one can be.
//!
//! Each thread has its own. Free blocks of a size are a list through their first words; a list that is empty takes a
//! slab of fresh memory. So what a tracked pair costs more than an untracked one is the detector's cost, and
//! no slow allocator makes the ratio of the two look better.

use kmemleak_emulated::Machine;

/// Sizes are powers of two from this one on.
const SMALLEST: usize = 32;
const CLASSES: usize = 6;
/// Bytes that are taken from the machine at once.
const SLAB: usize = 64 * 1024;

/// One thread's allocator.
pub struct Plain<'a> {
    machine: &'a Machine,
    /// The first free block of each size; 0 is none.
    free: [usize; CLASSES],
}

impl<'a> Plain<'a> {
    /// An allocator with nothing in it yet.
    pub fn new(machine: &'a Machine) -> Self {
        Self {
            machine,
            free: [0; CLASSES],
        }
    }

    #[inline]
    fn class(size: usize) -> usize {
        (size.max(SMALLEST).next_power_of_two() / SMALLEST).trailing_zeros() as usize
    }

    /// A block of `size` bytes, at most 1024.
    #[inline]
    pub fn alloc(&mut self, size: usize) -> usize {
        let class = Self::class(size);
        if self.free[class] == 0 {
            self.refill(class);
        }
        let block = self.free[class];
        // SAFETY: a block of the machine's memory.
        self.free[class] = unsafe { self.machine.read_unchecked(block) };
        // A block that is handed out holds no link.
        // SAFETY: as above.
        unsafe { self.machine.write_unchecked(block, 0) };
        block
    }

    /// Takes back a block of `size` bytes.
    ///
    /// # Safety
    ///
    /// It is one, and nobody uses it any more.
    #[inline]
    pub unsafe fn free(&mut self, block: usize, size: usize) {
        let class = Self::class(size);
        // SAFETY: the caller's promise: a block of the machine's memory.
        unsafe { self.machine.write_unchecked(block, self.free[class]) };
        self.free[class] = block;
    }

    #[cold]
    fn refill(&mut self, class: usize) {
        let (slab, size) = (self.machine.arena(SLAB), SMALLEST << class);
        for offset in (0..SLAB).step_by(size).rev() {
            // SAFETY: a part of a new slab.
            unsafe { self.free(slab + offset, size) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn live_blocks_are_different_and_freed_ones_come_back_first() {
        let machine = Machine::new();
        let mut plain = Plain::new(&machine);
        let blocks: BTreeSet<usize> = (0..3000).map(|_| plain.alloc(64)).collect();
        assert_eq!(blocks.len(), 3000);
        let apart = blocks.iter().zip(blocks.iter().skip(1));
        assert!(apart.into_iter().all(|(one, next)| next - one >= 64));
        let last = plain.alloc(64);
        // SAFETY: it was handed out just now.
        unsafe { plain.free(last, 64) };
        assert_eq!(plain.alloc(33), last);
        assert_eq!(machine.read(last), 0);
    }
}
