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
//! The leak detector is told the size that was asked for, not that of the slot: words beyond it are nobody's.
//! What a block holds when it is handed out is whatever it held last, and if its user leaves a part unwritten, a
//! stale pointer there keeps an object alive. Who builds large structures that stay can have their
//! blocks cleared: see [`with_cleared_blocks`].
//!
//! # Locks
//!
//! One for each of the two list allocators, with interrupts off; nothing is called under them.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use linked_list_allocator::Heap;

use super::buddy::{self, Tracking};
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
static BOOT: SpinLock<Heap, LocalIrqDisabled> = SpinLock::new(Heap::empty());

/// Whether the slabs stand.
static SLABS_STAND: AtomicBool = AtomicBool::new(false);

/// Whether the emergency reserve is to be used.
static EMERGENCY: AtomicBool = AtomicBool::new(false);
#[unsafe(link_section = ".heap_arena")]
static RESERVE: SpinLock<Heap, LocalIrqDisabled> = SpinLock::new(Heap::empty());

/// How many want cleared blocks at the moment.
static CLEARING: AtomicU32 = AtomicU32::new(0);

/// The slab caches for objects of any kind, by size.
static CLASSES: [SlabCache; 15] = [
    SlabCache::new("size-8", 8, Trace::Trace),
    SlabCache::new("size-16", 16, Trace::Trace),
    SlabCache::new("size-32", 32, Trace::Trace),
    SlabCache::new("size-64", 64, Trace::Trace),
    SlabCache::new("size-96", 96, Trace::Trace),
    SlabCache::new("size-128", 128, Trace::Trace),
    SlabCache::new("size-192", 192, Trace::Trace),
    SlabCache::new("size-256", 256, Trace::Trace),
    SlabCache::new("size-384", 384, Trace::Trace),
    SlabCache::new("size-512", 512, Trace::Trace),
    SlabCache::new("size-768", 768, Trace::Trace),
    SlabCache::new("size-1024", 1024, Trace::Trace),
    SlabCache::new("size-2048", 2048, Trace::Trace),
    SlabCache::new("size-4096", 4096, Trace::Trace),
    SlabCache::new("size-8192", 8192, Trace::Trace),
];

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

fn arena() -> core::ops::Range<usize> {
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
        } else if let Some(class) = class(layout) {
            class.alloc(layout.size())
        } else {
            buddy::alloc(page_order(layout), Tracking::Tracked)
        };
        let Some(block) = block else {
            return ptr::null_mut();
        };
        if CLEARING.load(Ordering::Relaxed) != 0 {
            // SAFETY: the block is as long as was asked for, and nobody's yet.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block.as_ptr()
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
            leak::free(address);
            // SAFETY: the block is in the boot heap's arena, and the caller gives its layout.
            unsafe { BOOT.lock().deallocate(block, layout) };
        } else if let Some(class) = class(layout) {
            class.free(block);
        } else {
            buddy::free(block, page_order(layout), Tracking::Tracked);
        }
    }
}

fn page_order(layout: Layout) -> u32 {
    buddy::order_of(layout.size().max(layout.align()))
}

fn from_boot_heap(layout: Layout) -> Option<NonNull<u8>> {
    let mut heap = BOOT.lock();
    if heap.size() == 0 {
        let arena = (&raw mut ARENA).cast();
        // SAFETY: the arena is this heap's alone, for good; the heap has none yet.
        unsafe { heap.init(arena, BOOT_HEAP) };
    }
    let block = heap.allocate_first_fit(layout).ok();
    drop(heap);
    if let Some(block) = block {
        leak::alloc(block.addr().get(), layout.size());
    }
    block
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

/// Runs `work`, during which blocks are cleared when they are handed out: to whomever, since telling apart
/// who asks would cost every allocation more.
pub fn with_cleared_blocks<R>(work: impl FnOnce() -> R) -> R {
    CLEARING.fetch_add(1, Ordering::Relaxed);
    let result = work();
    CLEARING.fetch_sub(1, Ordering::Relaxed);
    result
}

/// Bytes of the boot heap in use.
pub fn boot_heap_used() -> usize {
    BOOT.lock().used()
}
