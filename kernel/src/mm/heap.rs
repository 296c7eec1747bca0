//! Rust's global allocator.
//!
//! Before the slabs stand, blocks come from the *boot heap*, a `linked_list_allocator` over an arena in
//! static memory. Then: up to 8192 bytes from the slab cache of the smallest fitting size, beyond that whole pages
//! from the buddy allocator. A block goes back to where its address says it came from.
//!
//! When the machine is about to end, the allocators may be locked by somebody who will never go on. Then
//! memory comes from an *emergency reserve*, a second `linked_list_allocator` over memory that is set aside
//! at boot; what was allocated before is not given back any more.
//!
//! The leak detector is told the size that was asked for, not that of the slot or of the pages: words beyond it are nobody's.
//!
//! [Confined](confined) code has memory of its own, and is left when that is used up.
//!
//! # Locks
//!
//! One for each of the two list allocators, with interrupts off; nothing is called under them.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, Ordering};

use linked_list_allocator::Heap;

use super::buddy::{self, Tracking};
use super::confined;
use super::granules::Granules;
use super::misuse::Misuse;
use super::release::{Allocator, Audience, Retired, release};
use super::slab::{SlabCache, Trace};
use crate::leak;
use crate::sync::{LocalIrqDisabled, SpinLock};

/// Bytes of the boot heap.
const BOOT_HEAP: usize = 64 * 1024;

/// Order of the emergency reserve: 8 MiB, since naming the lines of a call stack may take more than 4.
const EMERGENCY_ORDER: u32 = 11;
/// But of a small machine's memory no more than this share.
const EMERGENCY_SHARE: usize = 16;

/// Memory of the boot heap: in a section that is no root, since its blocks are objects. The heaps themselves lie there
/// too: where one ends, somebody else's block may begin.
#[repr(align(4096))]
struct Arena(#[expect(dead_code, reason = "memory for the heap")] [u8; BOOT_HEAP]);

#[unsafe(link_section = ".heap_arena")]
static mut ARENA: Arena = Arena([0; BOOT_HEAP]);

#[unsafe(link_section = ".heap_arena")]
static BOOT: SpinLock<BootHeap, LocalIrqDisabled> = SpinLock::new(BootHeap::new());

/// Blocks of the boot heap begin at multiples of this, and take multiples of it.
const GRANULE: usize = align_of::<usize>();
/// A block has as many of these at least: a list allocator's link.
const MIN_GRANULES: usize = 2;

/// The boot heap, and which of its blocks users have: a list allocator takes back whatever it is given.
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
            // SAFETY: the arena is this heap's alone, for good; the heap has none yet.
            unsafe { self.heap.init(arena, BOOT_HEAP) };
        }
        let block = self.heap.allocate_first_fit(layout).ok()?;
        self.granules
            .hand_out(granule_at(block.addr().get()), granules_of(layout));
        Some(block)
    }

    /// Takes a block of that layout from its user.
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
        // SAFETY: a block of this heap, of that size as the heap rounds it, which no user has.
        unsafe { self.heap.deallocate(block, layout) };
    }
}

/// The granule of an address in the arena.
fn granule_at(address: usize) -> usize {
    (address - arena().start) / GRANULE
}

/// Granules that a block of that layout has.
fn granules_of(layout: Layout) -> usize {
    layout.size().div_ceil(GRANULE).max(MIN_GRANULES)
}

/// Blocks of the boot heap, as they come back.
struct BootBlocks {
    layout: Layout,
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
        leak::free(retired);
    }

    fn put(&self, block: NonNull<u8>) {
        BOOT.lock().put(block, self.layout);
    }
}

/// Where blocks come from: a [`Stage`].
static STAGE: AtomicU32 = AtomicU32::new(Stage::Boot as u32);

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Stage {
    /// From the boot heap.
    Boot,
    /// From the slabs and the buddy allocator.
    Ordinary,
    /// The same; but somebody runs confined, and his come from the arena.
    Confined,
    /// From the emergency reserve.
    Ending,
}

impl Stage {
    #[inline]
    fn now() -> Self {
        match STAGE.load(Ordering::Relaxed) {
            1 => Self::Ordinary,
            0 => Self::Boot,
            2 => Self::Confined,
            _ => Self::Ending,
        }
    }

    /// From one to the next, if it is that one still.
    fn change(from: Self, to: Self) {
        // Else the machine is ending meanwhile.
        let _ =
            STAGE.compare_exchange(from as u32, to as u32, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[unsafe(link_section = ".heap_arena")]
static RESERVE: SpinLock<Heap, LocalIrqDisabled> = SpinLock::new(Heap::empty());

/// Slab caches for objects of any kind, by size.
macro_rules! classes {
    ($($size:literal),+) => {
        [$(SlabCache::new(concat!("size-", $size), $size, Trace::Trace)),+]
    };
}
static CLASSES: [SlabCache; 15] = classes!(
    8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, 8192
);

/// The global allocator.
struct KernelHeap;

#[global_allocator]
static HEAP: KernelHeap = KernelHeap;

/// The cache whose objects are the smallest that fit.
fn class(layout: Layout) -> Option<&'static SlabCache> {
    CLASSES
        .iter()
        .find(|class| class.object_size() >= layout.size() && class.align() >= layout.align())
}

/// Where the boot heap's blocks lie. Any context.
pub fn arena() -> core::ops::Range<usize> {
    let start = (&raw const ARENA).addr();
    start..start + BOOT_HEAP
}

// SAFETY: blocks of the slabs, the buddy allocator and the boot heap are as long and as aligned as asked
// for, and one user's at a time.
unsafe impl GlobalAlloc for KernelHeap {
    #[unsafe(link_section = ".text.hooks")]
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = match Stage::now() {
            Stage::Ordinary => ordinary(layout),
            stage => unusual(stage, layout),
        };
        block.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    // This and the next are what the trait has by itself; but its own would be a frame in every call stack.

    #[unsafe(link_section = ".text.hooks")]
    #[inline(never)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            // SAFETY: the block is as long as was asked for, and nobody's yet.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    #[unsafe(link_section = ".text.hooks")]
    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise: the size is none that overflows when it is rounded up to the alignment.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: the caller's promise: the size is not zero.
        let new_block = unsafe { self.alloc(new_layout) };
        if !new_block.is_null() {
            let len = layout.size().min(new_size);
            // SAFETY: both blocks have so many bytes, and the new one is nobody else's.
            unsafe { ptr::copy_nonoverlapping(block, new_block, len) };
            // SAFETY: the caller gives the block with its layout.
            unsafe { self.dealloc(block, layout) };
        }
        new_block
    }

    #[unsafe(link_section = ".text.hooks")]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(block) = NonNull::new(block) else {
            return;
        };
        let address = block.addr().get();
        match Stage::now() {
            Stage::Confined | Stage::Ending if confined::is_inside() => {
                return confined::free(block, layout);
            }
            // SAFETY: the caller gives it with its layout.
            Stage::Ending => return unsafe { give_to_reserve(block, layout) },
            _ => {}
        }
        if arena().contains(&address) {
            let _refused_or_done = release(&BootBlocks { layout }, address);
        } else {
            match class(layout) {
                Some(class) => class.free(block),
                None => buddy::free(block, page_order(layout), Tracking::Tracked),
            }
        }
    }
}

/// From the slabs and the buddy allocator.
#[inline(always)]
fn ordinary(layout: Layout) -> Option<NonNull<u8>> {
    match class(layout) {
        Some(class) => class.alloc(layout.size()),
        None => buddy::alloc_for(layout.size(), page_order(layout), Tracking::Tracked),
    }
}

/// From wherever it is at this stage. Confined code for which there is nothing is left.
#[unsafe(link_section = ".text.hooks")]
#[inline(never)]
#[cold]
fn unusual(stage: Stage, layout: Layout) -> Option<NonNull<u8>> {
    let is_inside = confined::is_inside();
    let block = match (stage, is_inside) {
        (_, true) => confined::alloc(layout),
        (Stage::Boot, _) => from_boot_heap(layout),
        (Stage::Ending, _) => from_reserve(layout),
        (Stage::Ordinary | Stage::Confined, _) => ordinary(layout),
    };
    if block.is_none() && is_inside {
        confined::out_of_memory();
    }
    block
}

/// Takes a block from the emergency reserve. Where the machine ends.
pub(super) fn from_reserve(layout: Layout) -> Option<NonNull<u8>> {
    RESERVE.lock().allocate_first_fit(layout).ok()
}

/// Gives one back; what is not the reserve's is left alone.
///
/// # Safety
///
/// The block has this layout, and nobody uses it any more.
pub(super) unsafe fn give_to_reserve(block: NonNull<u8>, layout: Layout) {
    let mut reserve = RESERVE.lock();
    if (reserve.bottom()..reserve.top()).contains(&block.as_ptr()) {
        // SAFETY: the block is the reserve's; the rest is the caller's promise.
        unsafe { reserve.deallocate(block, layout) };
    }
}

fn page_order(layout: Layout) -> u32 {
    buddy::order_of(layout.size().max(layout.align()))
}

#[unsafe(link_section = ".text.hooks")]
fn from_boot_heap(layout: Layout) -> Option<NonNull<u8>> {
    let block = BOOT.lock().alloc(layout)?;
    leak::alloc(block.addr().get(), layout.size());
    Some(block)
}

/// The slabs stand: blocks come from there, and the emergency reserve is set aside.
pub(super) fn init() {
    let most = buddy::total_pages() / EMERGENCY_SHARE;
    let mut orders = (0..=EMERGENCY_ORDER)
        .rev()
        .filter(|order| 1 << order <= most);
    let reserve = orders.find_map(|order| {
        Some((
            buddy::alloc(order, Tracking::Untracked)?,
            super::PAGE << order,
        ))
    });
    if let Some((start, len)) = reserve {
        // SAFETY: taken for this, for good; the heap has no memory yet.
        unsafe { RESERVE.lock().init(start.as_ptr(), len) };
    }
    Stage::change(Stage::Boot, Stage::Ordinary);
}

/// From now on memory comes from the emergency reserve. By the CPU that ends the machine.
pub fn use_emergency_reserve() {
    STAGE.store(Stage::Ending as u32, Ordering::Relaxed);
}

/// Whether confined code begins or ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Confinement {
    Begins,
    Ends,
}

/// Confined code begins, or ends. By the task that runs it, one at a time.
pub(super) fn set_confined(what: Confinement) {
    match what {
        Confinement::Begins => Stage::change(Stage::Ordinary, Stage::Confined),
        Confinement::Ends => Stage::change(Stage::Confined, Stage::Ordinary),
    }
}

/// Bytes of the boot heap in use.
pub fn boot_heap_used() -> usize {
    BOOT.lock().heap.used()
}
