//! The machine's allocators: where blocks lie.
//!
//! Four kinds, as a kernel has: slab classes, naturally aligned pages, whole pages with a guard page behind
//! them, and per-CPU blocks with a copy for each CPU. All bookkeeping is the host's; no word of it is scanned.
//!
//! Blocks are handed out zeroed. A freed block keeps its contents, and is the first to be used again: code
//! that still uses it is soon found out. What the host has no memory for is refused. A fresh block is memory
//! that nobody has touched yet, and costs the host next to nothing, however large it is.

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

/// Which allocator a block comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocator {
    /// Size classes, up to 8192 bytes; where the alignment is larger than a page, pages.
    Slab,
    /// A power of two of pages, aligned to their size at least.
    Pages,
    /// Whole pages, with a page behind them that belongs to no block.
    Vmalloc,
    /// A copy for each CPU. The block's address is a handle that holds no copy; its alignment and theirs is up to a page.
    PerCpu,
}

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
        align: usize,
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

    fn host(&mut self, bytes: usize, align: usize) -> Option<usize> {
        let memory = Memory::try_new(bytes, align)?;
        let start = memory.start();
        self.memory.push(memory);
        Some(start)
    }

    /// Whether the word at an address lies in memory that blocks are cut from, or in an arena.
    /// All memory that blocks and arenas lie in.
    pub(crate) fn memory(&self) -> &[Memory] {
        &self.memory
    }

    pub(crate) fn has_word(&self, address: usize) -> bool {
        self.memory.iter().any(|memory| memory.has_word(address))
    }

    /// Memory that belongs to no block.
    pub(crate) fn arena(&mut self, bytes: usize) -> usize {
        let align = bytes.next_power_of_two().clamp(PAGE, ARENA_ALIGN);
        self.host(bytes, align).expect("the host has memory for it")
    }

    /// A block; `None` where there is none of that size and alignment, or no memory.
    pub(crate) fn alloc(&mut self, from: Allocator, size: usize, align: usize) -> Option<usize> {
        let whole_pages = || size.checked_next_multiple_of(PAGE);
        self.take(match from {
            Allocator::Slab if size > SLAB_MAX => return None,
            Allocator::Slab if align <= PAGE => Shape::Slab {
                class: size_class(size.next_multiple_of(align))?,
            },
            Allocator::Slab | Allocator::Pages => Shape::Pages {
                bytes: whole_pages()?.max(align).checked_next_power_of_two()?,
            },
            Allocator::Vmalloc => Shape::Vmalloc {
                bytes: whole_pages()?,
                align: align.max(PAGE),
            },
            Allocator::PerCpu if align > PAGE => return None,
            Allocator::PerCpu => {
                let bytes = size_class(size.checked_next_multiple_of(align)?)?;
                let stride = bytes.checked_next_multiple_of(PAGE)?.max(PERCPU_UNIT);
                Shape::Percpu { bytes, stride }
            }
        })
    }

    fn take(&mut self, shape: Shape) -> Option<usize> {
        let used = self.free.get_mut(&shape).and_then(Vec::pop);
        let start = match used {
            Some(start) => {
                self.zero(start, shape);
                start
            }
            None => self.grow(shape)?,
        };
        self.live.insert(start, shape);
        Some(start)
    }

    /// Clears a block that is in no list.
    fn zero(&self, start: usize, shape: Shape) {
        match shape {
            Shape::Slab { class: bytes }
            | Shape::Pages { bytes }
            | Shape::Vmalloc { bytes, .. } => {
                // SAFETY: memory of ours, in no block.
                unsafe { zero(start, bytes) }
            }
            Shape::Percpu { bytes, stride } => (1..=self.cpus).for_each(|copy| {
                // SAFETY: as above.
                unsafe { zero(start + copy * stride, bytes) }
            }),
        }
    }

    /// Gets fresh blocks of a shape, and returns the lowest; the next ones are to be used in their order.
    fn grow(&mut self, shape: Shape) -> Option<usize> {
        let (start, count, bytes) = match shape {
            Shape::Slab { class } => {
                let all = (class * SLAB_BLOCKS).next_multiple_of(PAGE);
                (self.host(all, PAGE)?, all / class, class)
            }
            Shape::Pages { bytes } => (self.host(bytes, bytes)?, 1, bytes),
            Shape::Vmalloc { bytes, align } => {
                (self.host(bytes.checked_add(PAGE)?, align)?, 1, bytes)
            }
            // The part that the handles lie in is never used: no handle is the address of a copy.
            Shape::Percpu { bytes, stride } => {
                let all = stride.checked_mul(1 + self.cpus)?;
                (self.host(all, PAGE)?, stride / bytes, bytes)
            }
        };
        let free = self.free.entry(shape).or_default();
        free.extend((1..count).rev().map(|index| start + index * bytes));
        Some(start)
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
/// alignment that the size is a multiple of. `None` where there is no such size.
fn size_class(size: usize) -> Option<usize> {
    let power = size.max(8).checked_next_power_of_two()?;
    let halfway = power / 4 * 3;
    let lowest_bit = 1 << size.max(1).trailing_zeros();
    let is_halfway =
        halfway >= size && halfway.is_multiple_of(8) && halfway.is_multiple_of(lowest_bit);
    Some(if is_halfway { halfway } else { power })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slab(allocators: &mut Allocators, size: usize, align: usize) -> usize {
        let block = allocators.alloc(Allocator::Slab, size, align);
        block.expect("the host has memory")
    }

    fn pages(allocators: &mut Allocators, bytes: usize) -> usize {
        let block = allocators.alloc(Allocator::Pages, bytes, PAGE);
        block.expect("the host has memory")
    }

    fn percpu(allocators: &mut Allocators, size: usize, align: usize) -> usize {
        let block = allocators.alloc(Allocator::PerCpu, size, align);
        block.expect("the host has memory")
    }

    #[test]
    fn classes_hold_and_align_what_they_serve() {
        for size in 1..=SLAB_MAX {
            let class = size_class(size).expect("a size of slabs");
            assert!(class >= size && class <= SLAB_MAX && class.is_multiple_of(8));
            assert!(class.is_multiple_of(1 << size.trailing_zeros()));
        }
    }

    #[test]
    fn a_freed_block_keeps_its_contents_and_is_zeroed_when_it_comes_back() {
        let mut allocators = Allocators::new(1);
        let block = slab(&mut allocators, 40, 8);
        // SAFETY: a word of the block.
        unsafe { crate::memory::write(block, 7) };
        allocators.free(block);
        // SAFETY: as above; freed memory stays mapped.
        assert_eq!(unsafe { crate::memory::read(block) }, 7);
        assert_eq!(slab(&mut allocators, 40, 8), block);
        // SAFETY: as above.
        assert_eq!(unsafe { crate::memory::read(block) }, 0);
    }

    #[test]
    fn alignment_is_kept() {
        let mut allocators = Allocators::new(1);
        for align in [8, 16, 64, 256, 4096] {
            for size in [1, 24, 100, 700] {
                assert!(slab(&mut allocators, size, align).is_multiple_of(align));
                let handle = percpu(&mut allocators, size, align);
                let copy = allocators.percpu_copy(handle, 0).expect("live");
                assert!((handle | copy).is_multiple_of(align));
            }
        }
        assert!(pages(&mut allocators, 16384).is_multiple_of(16384));
    }

    #[test]
    fn what_there_is_no_memory_for_is_refused() {
        let mut allocators = Allocators::new(2);
        for from in [Allocator::Pages, Allocator::Vmalloc, Allocator::PerCpu] {
            for size in [1 << 47, 1 << 62, 1 << 63, usize::MAX - 4094, usize::MAX] {
                assert_eq!(allocators.alloc(from, size, 8), None, "{from:?} {size}");
            }
        }
        assert_eq!(allocators.alloc(Allocator::Slab, usize::MAX, 8), None);
        for from in [Allocator::Slab, Allocator::Pages, Allocator::Vmalloc] {
            assert_eq!(allocators.alloc(from, PAGE, 1 << 63), None, "{from:?}");
        }
        // Later requests are served as if this one had not been made.
        assert!(allocators.alloc(Allocator::Vmalloc, PAGE, 8).is_some());
    }

    #[test]
    fn alignments_beyond_a_page_are_kept() {
        let mut allocators = Allocators::new(1);
        for align in [8192, 1 << 16, 1 << 20] {
            for from in [Allocator::Slab, Allocator::Pages, Allocator::Vmalloc] {
                let block = allocators.alloc(from, PAGE, align).expect("memory");
                assert!(block.is_multiple_of(align), "{from:?} {align}");
                allocators.free(block);
            }
        }
    }

    #[test]
    fn a_freed_percpu_handle_is_not_known() {
        let mut allocators = Allocators::new(2);
        let handle = percpu(&mut allocators, 32, 8);
        assert!(allocators.percpu_copy(handle, 1).is_some());
        assert_eq!(allocators.percpu_copy(handle, 2), None);
        allocators.free(handle);
        assert_eq!(allocators.percpu_copy(handle, 1), None);
    }

    #[test]
    fn the_middle_of_pages_goes_back() {
        let mut allocators = Allocators::new(1);
        let block = pages(&mut allocators, 4 * PAGE);
        allocators.free_part(block, PAGE, PAGE);
        assert_eq!(pages(&mut allocators, PAGE), block + PAGE);
        allocators.free(block);
        allocators.free(block + 2 * PAGE);
    }
}
