//! The machine's allocators: where blocks lie.
//!
//! Four kinds, as a kernel has: slab classes, naturally aligned pages, whole pages with a guard page behind
//! them, and per-CPU blocks with a copy for each CPU. All bookkeeping is the host's; no word of it is scanned.
//!
//! Blocks are handed out zeroed. A freed block keeps its contents, and is the first to be used again: whoever
//! still reads or believes it is soon found out.

use std::collections::BTreeMap;

use crate::memory::{Memory, PAGE, zero};

/// The largest block of a slab, in bytes.
const SLAB_MAX: usize = 8192;
/// Blocks that a fresh slab has at least.
const SLAB_BLOCKS: usize = 8;
/// Bytes of one CPU's part of a per-CPU chunk, at least.
const PERCPU_UNIT: usize = 64 * 1024;

/// A large arena's alignment, in bytes: that of the largest pages that indexes have entries for.
const ARENA_ALIGN: usize = 2 << 20;

/// What kind of block it is, with what it occupies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shape {
    Slab {
        class: usize,
    },
    Pages {
        bytes: usize,
    },
    Vmalloc {
        bytes: usize,
    },
    /// The copies lie `stride` bytes apart, the first as far from the handle.
    Percpu {
        bytes: usize,
        stride: usize,
    },
}

pub(crate) struct Allocators {
    cpus: usize,
    /// All memory that was ever taken from the host.
    memory: Vec<Memory>,
    live: BTreeMap<usize, Shape>,
    free: BTreeMap<Shape, Vec<usize>>,
}

impl Allocators {
    pub(crate) fn new(cpus: u32) -> Self {
        Self {
            cpus: cpus as usize,
            memory: Vec::new(),
            live: BTreeMap::new(),
            free: BTreeMap::new(),
        }
    }

    fn host(&mut self, bytes: usize, align: usize) -> usize {
        let memory = Memory::new(bytes, align);
        let start = memory.start();
        self.memory.push(memory);
        start
    }

    /// Memory that belongs to no block.
    pub(crate) fn arena(&mut self, bytes: usize) -> usize {
        let align = bytes.next_power_of_two().clamp(PAGE, ARENA_ALIGN);
        self.host(bytes, align)
    }

    pub(crate) fn slab(&mut self, size: usize, align: usize) -> usize {
        assert!(size <= SLAB_MAX, "{size} bytes are too many for a slab");
        assert!(
            align <= PAGE,
            "{align} is too large an alignment for a slab"
        );
        let class = size_class(size.next_multiple_of(align));
        self.take(Shape::Slab { class })
    }

    pub(crate) fn pages(&mut self, bytes: usize) -> usize {
        let bytes = bytes.next_multiple_of(PAGE).next_power_of_two();
        self.take(Shape::Pages { bytes })
    }

    pub(crate) fn vmalloc(&mut self, bytes: usize) -> usize {
        let bytes = bytes.next_multiple_of(PAGE);
        self.take(Shape::Vmalloc { bytes })
    }

    pub(crate) fn percpu(&mut self, size: usize, align: usize) -> usize {
        assert!(align <= PAGE, "{align} is too large an alignment for a CPU");
        let bytes = size_class(size.next_multiple_of(align));
        let stride = bytes.next_multiple_of(PAGE).max(PERCPU_UNIT);
        self.take(Shape::Percpu { bytes, stride })
    }

    fn take(&mut self, shape: Shape) -> usize {
        if self.free.get(&shape).is_none_or(Vec::is_empty) {
            self.grow(shape);
        }
        let fresh = self.free.get_mut(&shape).and_then(Vec::pop);
        let start = fresh.expect("there is one now");
        self.live.insert(start, shape);
        match shape {
            Shape::Slab { class: bytes } | Shape::Pages { bytes } | Shape::Vmalloc { bytes } => {
                // SAFETY: memory of ours, in no list now.
                unsafe { zero(start, bytes) }
            }
            Shape::Percpu { bytes, stride } => (1..=self.cpus).for_each(|copy| {
                // SAFETY: as above.
                unsafe { zero(start + copy * stride, bytes) }
            }),
        }
        start
    }

    /// Gets fresh blocks of a shape, the lowest to be used first.
    fn grow(&mut self, shape: Shape) {
        let (start, count, bytes) = match shape {
            Shape::Slab { class } => {
                let all = (class * SLAB_BLOCKS).next_multiple_of(PAGE);
                (self.host(all, PAGE), all / class, class)
            }
            Shape::Pages { bytes } => (self.host(bytes, bytes), 1, bytes),
            Shape::Vmalloc { bytes } => (self.host(bytes + PAGE, PAGE), 1, bytes),
            // The part that the handles lie in is never used: they are addresses of nothing.
            Shape::Percpu { bytes, stride } => {
                let all = stride * (1 + self.cpus);
                (self.host(all, PAGE), stride / bytes, bytes)
            }
        };
        let free = self.free.entry(shape).or_default();
        free.extend((0..count).rev().map(|index| start + index * bytes));
    }

    /// Takes back the block that starts here.
    pub(crate) fn free(&mut self, start: usize) {
        let shape = self.live.remove(&start);
        let shape = shape.unwrap_or_else(|| panic!("{start:#x} is no block"));
        self.free.entry(shape).or_default().push(start);
    }

    /// Takes back whole pages of a block of pages; what is before them and behind them stays, as blocks of their own.
    pub(crate) fn free_part(&mut self, start: usize, offset: usize, len: usize) {
        let Some(&Shape::Pages { bytes }) = self.live.get(&start) else {
            panic!("{start:#x} is no block of pages");
        };
        let whole = offset.is_multiple_of(PAGE) && len.is_multiple_of(PAGE) && len > 0;
        assert!(whole && offset + len <= bytes, "no part of {bytes} bytes");
        self.live.remove(&start);
        let hole = Shape::Pages { bytes: len };
        if len.is_power_of_two() && (start + offset).is_multiple_of(len) {
            self.free.entry(hole).or_default().push(start + offset);
        }
        let rest = [
            (start, offset),
            (start + offset + len, bytes - offset - len),
        ];
        for (start, bytes) in rest.into_iter().filter(|&(_, bytes)| bytes > 0) {
            self.live.insert(start, Shape::Pages { bytes });
        }
    }

    /// Where a CPU's copy of a per-CPU block lies, while there is such a block.
    pub(crate) fn percpu_copy(&self, handle: usize, cpu: u32) -> Option<usize> {
        match self.live.get(&handle) {
            Some(Shape::Percpu { stride, .. }) if (cpu as usize) < self.cpus => {
                Some(handle + (1 + cpu as usize) * stride)
            }
            _ => None,
        }
    }
}

/// The block size that serves `size` bytes: a power of two, or halfway to the next. A multiple of each
/// alignment that the size is a multiple of.
fn size_class(size: usize) -> usize {
    let power = size.max(8).next_power_of_two();
    let halfway = power / 4 * 3;
    let lowest_bit = 1 << size.max(1).trailing_zeros();
    if halfway >= size && halfway.is_multiple_of(8) && halfway.is_multiple_of(lowest_bit) {
        halfway
    } else {
        power
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_and_align_what_they_serve() {
        for size in 1..=SLAB_MAX {
            let class = size_class(size);
            assert!(class >= size && class <= SLAB_MAX && class.is_multiple_of(8));
            assert!(class.is_multiple_of(1 << size.trailing_zeros()));
        }
    }

    #[test]
    fn a_freed_block_keeps_its_contents_and_is_zeroed_when_it_comes_back() {
        let mut allocators = Allocators::new(1);
        let block = allocators.slab(40, 8);
        // SAFETY: a word of the block.
        unsafe { crate::memory::write(block, 7) };
        allocators.free(block);
        // SAFETY: as above; freed memory stays mapped.
        assert_eq!(unsafe { crate::memory::read(block) }, 7);
        assert_eq!(allocators.slab(40, 8), block);
        // SAFETY: as above.
        assert_eq!(unsafe { crate::memory::read(block) }, 0);
    }

    #[test]
    fn alignment_is_kept() {
        let mut allocators = Allocators::new(1);
        for align in [8, 16, 64, 256, 4096] {
            for size in [1, 24, 100, 700] {
                assert!(allocators.slab(size, align).is_multiple_of(align));
                let handle = allocators.percpu(size, align);
                let copy = allocators.percpu_copy(handle, 0).expect("live");
                assert!((handle | copy).is_multiple_of(align));
            }
        }
        assert!(allocators.pages(16384).is_multiple_of(16384));
    }

    #[test]
    fn a_freed_percpu_handle_is_not_known() {
        let mut allocators = Allocators::new(2);
        let handle = allocators.percpu(32, 8);
        assert!(allocators.percpu_copy(handle, 1).is_some());
        assert_eq!(allocators.percpu_copy(handle, 2), None);
        allocators.free(handle);
        assert_eq!(allocators.percpu_copy(handle, 1), None);
    }

    #[test]
    fn the_middle_of_pages_goes_back() {
        let mut allocators = Allocators::new(1);
        let block = allocators.pages(4 * PAGE);
        allocators.free_part(block, PAGE, PAGE);
        assert_eq!(allocators.pages(PAGE), block + PAGE);
        allocators.free(block);
        allocators.free(block + 2 * PAGE);
    }
}
