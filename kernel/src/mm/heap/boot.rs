//! The boot heap, and which of its blocks users have: its list allocator does not check frees itself.

use core::alloc::Layout;
use core::ptr::{self, NonNull};

use linked_list_allocator::Heap;

use crate::leak::hooks;
use crate::mm::granules::Granules;
use crate::mm::misuse::{Audience, Misuse};
use crate::mm::release::{Allocator, Retired};
use crate::sync::{LocalIrqDisabled, SpinLock};

/// Bytes of the boot heap.
const BOOT_HEAP: usize = 64 * 1024;

/// Memory of the boot heap: in a section that is no root, since its blocks are objects. The heaps themselves lie there
/// too, because they hold their end address, where another block may begin.
#[repr(align(4096))]
struct Arena(#[expect(dead_code, reason = "memory for the heap")] [u8; BOOT_HEAP]);

#[unsafe(link_section = ".heap_arena")]
static mut ARENA: Arena = Arena([0; BOOT_HEAP]);

#[unsafe(link_section = ".heap_arena")]
static BOOT: SpinLock<BootHeap, LocalIrqDisabled> = SpinLock::new(BootHeap::new());

/// Blocks of the boot heap begin at multiples of this, and take multiples of it.
const GRANULE: usize = align_of::<usize>();
/// Granules that a block has at least: room for the list allocator's link.
const MIN_GRANULES: usize = 2;

/// The boot heap.
struct BootHeap {
    heap: Heap,
    granules: Granules<{ BOOT_HEAP / GRANULE / 64 }>,
}

impl BootHeap {
    const fn new() -> Self {
        Self {
            heap: Heap::empty(),
            granules: Granules::new(),
        }
    }

    fn alloc(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        if self.heap.size() == 0 {
            let arena = (&raw mut ARENA).cast();
            // SAFETY: only this heap uses the arena, which is static; the heap has no memory yet.
            unsafe { self.heap.init(arena, BOOT_HEAP) };
        }
        let block = self.heap.allocate_first_fit(layout).ok()?;
        self.granules
            .hand_out(granule_at(block.addr().get()), granules_of(layout));
        Some(block)
    }

    /// Takes a block of this layout from its user.
    fn retire(&mut self, address: usize, layout: Layout) -> Result<NonNull<u8>, Misuse> {
        if !address.is_multiple_of(GRANULE) {
            return Err(Misuse::NotABlock);
        }
        let granule = granule_at(address);
        if self.granules.count_at(granule)? != granules_of(layout) {
            return Err(Misuse::WrongSize);
        }
        self.granules.retire(granule)?;
        NonNull::new(ptr::with_exposed_provenance_mut(address)).ok_or(Misuse::NotABlock)
    }

    fn put(&mut self, block: NonNull<u8>, layout: Layout) {
        self.granules.put(granule_at(block.addr().get()));
        // SAFETY: a block of this heap that was taken from its user, with the size that the heap rounds this layout to.
        unsafe { self.heap.deallocate(block, layout) };
    }
}

/// The granule of an address in the arena.
fn granule_at(address: usize) -> usize {
    (address - arena().start) / GRANULE
}

/// Granules that a block of this layout has.
fn granules_of(layout: Layout) -> usize {
    layout.size().div_ceil(GRANULE).max(MIN_GRANULES)
}

/// How blocks of the boot heap are freed.
pub(super) struct BootBlocks {
    pub(super) layout: Layout,
}

impl Allocator for BootBlocks {
    type Block = NonNull<u8>;
    type Done = ();

    fn name(&self) -> &'static str {
        "boot heap"
    }

    fn audience(&self) -> Audience {
        Audience::Detector
    }

    fn retire(&self, address: usize) -> Result<NonNull<u8>, Misuse> {
        BOOT.lock().retire(address, self.layout)
    }

    #[inline(always)]
    fn tell(&self, retired: &Retired<NonNull<u8>>) {
        hooks::free(retired);
    }

    fn put(&self, block: NonNull<u8>) {
        BOOT.lock().put(block, self.layout);
    }
}

/// The addresses of the boot heap's blocks. Any context.
pub fn arena() -> core::ops::Range<usize> {
    let start = (&raw const ARENA).addr();
    start..start + BOOT_HEAP
}

#[unsafe(link_section = ".text.hooks")]
pub(super) fn from_boot_heap(layout: Layout) -> Option<NonNull<u8>> {
    let block = BOOT.lock().alloc(layout)?;
    hooks::alloc(block.addr().get(), layout.size());
    Some(block)
}

/// Bytes of the boot heap in use.
pub fn boot_heap_used() -> usize {
    BOOT.lock().heap.used()
}
