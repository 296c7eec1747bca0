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
//! What the kernel keeps for the detector alone would be the first thing that the detector shows. Who builds that does
//! so [with unseen blocks](with_unseen_blocks): they come from caches of their own, which the detector is not told of, and as
//! pages that are marked. Whether a block is unseen was decided by who asked for it; whoever frees it, and wherever, finds that by its
//! address. A block that is reallocated is a new one, of the kind of who asks.
//!
//! # Locks
//!
//! One for each of the two list allocators, with interrupts off; nothing is called under them.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use linked_list_allocator::Heap;

use super::buddy::{self, Tracking};
use super::frame::{self, Use};
use super::misuse::{self, Misuse};
use super::returned::Returned;
use super::slab::{self, SlabCache, Trace};
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

/// Blocks of the boot heap begin at multiples of this.
const GRANULE: usize = align_of::<usize>();

/// The boot heap, and which of its blocks users have: a list allocator takes back whatever it is given.
struct BootHeap {
    heap: Heap,
    /// Bits of the granules at which these begin.
    live: [u64; BOOT_HEAP / GRANULE / 64],
}

impl BootHeap {
    const fn new() -> Self {
        Self {
            heap: Heap::empty(),
            live: [0; BOOT_HEAP / GRANULE / 64],
        }
    }

    fn alloc(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        if self.heap.size() == 0 {
            let arena = (&raw mut ARENA).cast();
            // SAFETY: the arena is this heap's alone, for good; the heap has none yet.
            unsafe { self.heap.init(arena, BOOT_HEAP) };
        }
        let block = self.heap.allocate_first_fit(layout).ok()?;
        let (word, bit) = place(block.addr().get());
        self.live[word] |= bit;
        Some(block)
    }

    /// Takes a block from its user. It is free when the heap has it.
    fn take_back(&mut self, address: usize, layout: Layout) -> Result<Returned, Misuse> {
        let (word, bit) = place(address);
        if !address.is_multiple_of(GRANULE) || self.live[word] & bit == 0 {
            return Err(Misuse::NotABlock);
        }
        self.live[word] &= !bit;
        Ok(Returned::new(address, layout.size()))
    }
}

/// The bit of an address in the arena: its word, and the bit in that.
fn place(address: usize) -> (usize, u64) {
    let granule = (address - arena().start) / GRANULE;
    (granule / 64, 1 << (granule % 64))
}

/// Whether the slabs stand.
static SLABS_STAND: AtomicBool = AtomicBool::new(false);

/// Whether the emergency reserve is to be used.
static EMERGENCY: AtomicBool = AtomicBool::new(false);
#[unsafe(link_section = ".heap_arena")]
static RESERVE: SpinLock<Heap, LocalIrqDisabled> = SpinLock::new(Heap::empty());

/// The task whose blocks the detector is not to see.
static UNSEEN_FOR: AtomicU32 = AtomicU32::new(NOBODY);
const NOBODY: u32 = u32::MAX;

/// Slab caches for objects of any kind, by size.
macro_rules! classes {
    ($prefix:literal, $trace:expr) => {
        classes!(@ $prefix, $trace,
            8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, 8192)
    };
    (@ $prefix:literal, $trace:expr, $($size:literal),+) => {
        [$(SlabCache::new(concat!($prefix, $size), $size, $trace)),+]
    };
}
static CLASSES: [SlabCache; 15] = classes!("size-", Trace::Trace);
/// The same, for who is not seen.
static UNSEEN_CLASSES: [SlabCache; 15] = classes!("unseen-", Trace::NoLeakTrace);

/// The global allocator.
struct KernelHeap;

#[global_allocator]
static HEAP: KernelHeap = KernelHeap;

/// The caches whose objects are the smallest that fit: by their place.
fn class(layout: Layout) -> Option<usize> {
    CLASSES
        .iter()
        .position(|class| class.object_size() >= layout.size() && class.align() >= layout.align())
}

/// Whether who asks for a block is not seen by the detector.
#[inline]
fn is_unseen() -> bool {
    let task = UNSEEN_FOR.load(Ordering::Relaxed);
    task != NOBODY && leak::task() == Some(task)
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
        let block = if EMERGENCY.load(Ordering::Relaxed) {
            RESERVE.lock().allocate_first_fit(layout).ok()
        } else if !SLABS_STAND.load(Ordering::Relaxed) {
            from_boot_heap(layout)
        } else {
            match (class(layout), is_unseen()) {
                (Some(class), false) => CLASSES[class].alloc(layout.size()),
                (Some(class), true) => UNSEEN_CLASSES[class].alloc(layout.size()),
                (None, false) => from_pages(layout, Tracking::Tracked),
                (None, true) => from_pages(layout, Tracking::Unseen),
            }
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
        if EMERGENCY.load(Ordering::Relaxed) {
            let mut reserve = RESERVE.lock();
            if (reserve.bottom().addr()..reserve.top().addr()).contains(&address) {
                // SAFETY: the block is the reserve's, and the caller gives its layout.
                unsafe { reserve.deallocate(block, layout) };
            }
            return;
        }
        if arena().contains(&address) {
            to_boot_heap(block, layout);
        } else if let Some(class) = class(layout) {
            let unseen = &UNSEEN_CLASSES[class];
            let is_unseen = slab::cache_of(address).is_some_and(|cache| ptr::eq(cache, unseen));
            let cache = if is_unseen { unseen } else { &CLASSES[class] };
            cache.free(block);
        } else {
            let is_unseen =
                frame::frame_of(address).is_some_and(|frame| frame.usage().0 == Use::Unseen);
            let tracking = if is_unseen {
                Tracking::Unseen
            } else {
                Tracking::Tracked
            };
            buddy::free(block, page_order(layout), tracking);
        }
    }
}

fn page_order(layout: Layout) -> u32 {
    buddy::order_of(layout.size().max(layout.align()))
}

#[unsafe(link_section = ".text.hooks")]
fn from_pages(layout: Layout, tracking: Tracking) -> Option<NonNull<u8>> {
    buddy::alloc_for(layout.size(), page_order(layout), tracking)
}

#[unsafe(link_section = ".text.hooks")]
fn from_boot_heap(layout: Layout) -> Option<NonNull<u8>> {
    let block = BOOT.lock().alloc(layout)?;
    leak::alloc(block.addr().get(), layout.size());
    Some(block)
}

#[unsafe(link_section = ".text.hooks")]
fn to_boot_heap(block: NonNull<u8>, layout: Layout) {
    let taken = BOOT.lock().take_back(block.addr().get(), layout);
    match taken {
        Ok(returned) => leak::free(&returned),
        Err(misuse) => return misuse::tell("boot heap", misuse, block.addr().get()),
    }
    // SAFETY: a block of this heap that its user has given up, and the caller gives its layout.
    unsafe { BOOT.lock().heap.deallocate(block, layout) };
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
    SLABS_STAND.store(true, Ordering::Release);
}

/// From now on memory comes from the emergency reserve. By the CPU that ends the machine.
pub fn use_emergency_reserve() {
    EMERGENCY.store(true, Ordering::Relaxed);
}

/// Runs `work`, during which the detector does not see the blocks that this task takes. By one task at a time, which
/// frees them whenever it likes. They keep nothing alive: what only they point to is to be of their kind. Before there are
/// tasks, and where the machine ends, blocks are as they would be without.
pub fn with_unseen_blocks<R>(work: impl FnOnce() -> R) -> R {
    let before = UNSEEN_FOR.swap(leak::task().unwrap_or(NOBODY), Ordering::Relaxed);
    let result = work();
    UNSEEN_FOR.store(before, Ordering::Relaxed);
    result
}

/// Bytes of the boot heap in use.
pub fn boot_heap_used() -> usize {
    BOOT.lock().heap.used()
}
