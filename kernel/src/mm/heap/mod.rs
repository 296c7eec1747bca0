//! Rust's global allocator.
//!
//! Before the slabs work, blocks come from the *boot heap*, a `linked_list_allocator` over an arena in
//! static memory. Then: up to 8192 bytes from the slab cache of the smallest fitting size, beyond that whole pages
//! from the buddy allocator. The address of a block tells where it is freed.
//!
//! When the machine ends, the allocators' locks may be held by code that never goes on. Then
//! memory comes from an *emergency reserve*, a second `linked_list_allocator` over memory that is set aside
//! at boot; blocks that were allocated before are not freed any more.
//!
//! Blocks that must be aligned to more than 16 bytes have caches of their own, and leave at least the last byte of an object unused. So
//! no block of a slab begins where another one ends: see [`slab`].
//!
//! The leak detector is told the size that was asked for, not that of the slot or of the pages: words beyond it are unused.
//!
//! [Confined](confined) code has memory of its own, and is abandoned when that is used up.
//!
//! # Locks
//!
//! One for each of the two list allocators, with interrupts off; nothing is called under them.

mod boot;
mod room;
pub(super) mod stage;

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};

use self::boot::{BootBlocks, from_boot_heap};
pub use self::boot::{arena, boot_heap_used};
pub use self::room::{NoMemory, Room};
pub use self::stage::use_emergency_reserve;
use self::stage::{Stage, from_reserve, give_to_reserve};
use super::buddy::{self, Tracking};
use super::confined;
use super::release::release;
use super::slab::{self, SlabCache, Trace};
use super::{Freed, freed};

/// Slab caches by size, called a word with the size.
macro_rules! classes {
    ($new:ident $word:literal: $($size:literal),+) => {
        [$(SlabCache::$new(concat!($word, "-", $size), $size, Trace::Trace)),+]
    };
}
/// For objects of any kind.
static CLASSES: [SlabCache; 15] = classes!(
    new "size": 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, 8192
);
/// For objects that must be aligned to more than those of the others are.
static ALIGNED: [SlabCache; 8] = classes!(
    aligned "aligned": 64, 128, 256, 512, 1024, 2048, 4096, 8192
);

/// The global allocator.
struct KernelHeap;

#[global_allocator]
static HEAP: KernelHeap = KernelHeap;

/// The cache with the smallest objects that fit the layout; `None` if no cache fits.
#[inline(always)]
fn class(layout: Layout) -> Option<&'static SlabCache> {
    CLASSES
        .iter()
        .find(|class| class.object_size() >= layout.size() && class.align() >= layout.align())
        .or_else(|| aligned_class(layout))
}

/// The cache of aligned objects with the smallest ones that fit the layout and leave a byte unused.
#[cold]
#[inline(never)]
fn aligned_class(layout: Layout) -> Option<&'static SlabCache> {
    let fits =
        |class: &&SlabCache| class.object_size() > layout.size() && class.align() >= layout.align();
    let is_aligned = layout.align() > CLASSES[CLASSES.len() - 1].align();
    ALIGNED.iter().find(fits).filter(|_| is_aligned)
}

// SAFETY: blocks of the slabs, the buddy allocator and the boot heap are as long and as aligned as asked
// for, and have one user at a time.
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

    // This and `realloc` do what the trait's defaults do; but those would be a frame in the call stacks.

    #[unsafe(link_section = ".text.hooks")]
    #[inline(never)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            // SAFETY: the block is as long as was asked for, and not in use yet.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    #[unsafe(link_section = ".text.hooks")]
    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise: the size does not overflow when it is rounded up to the alignment.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: the caller's promise: the size is not zero.
        let new_block = unsafe { self.alloc(new_layout) };
        if !new_block.is_null() {
            let len = layout.size().min(new_size);
            // SAFETY: both blocks have so many bytes, and the new one is not shared.
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
            // SAFETY: the caller gives the block with its layout.
            Stage::Ending => return unsafe { give_to_reserve(block, layout) },
            _ => {}
        }
        if arena().contains(&address) {
            let _refused_or_done = release(&BootBlocks { layout }, address);
        } else {
            match class(layout) {
                Some(class) => class.free(block),
                None => {
                    buddy::free_for(block, layout.size(), page_order(layout), Tracking::Tracked)
                }
            }
        }
    }
}

/// Frees a block that was allocated just now and never used, so that this CPU hands it out next.
///
/// # Safety
///
/// The block was allocated with this layout, and is not used any more.
#[unsafe(link_section = ".text.hooks")]
unsafe fn free_unused(block: *mut u8, layout: Layout) {
    let would_wait = || {
        freed() == Freed::Poisoned
            && Stage::now() != Stage::Ending
            && !confined::is_inside()
            && slab::cache_of(block.addr()).is_some()
    };
    match (NonNull::new(block), class(layout)) {
        (Some(block), Some(class)) if would_wait() => class.free_unused(block),
        // SAFETY: the caller's promise.
        _ => unsafe { HEAP.dealloc(block, layout) },
    }
}

/// Allocates from the slabs or the buddy allocator.
#[inline(always)]
fn ordinary(layout: Layout) -> Option<NonNull<u8>> {
    match class(layout) {
        Some(class) => class.alloc(layout.size()),
        None => large(layout).or_else(|| large_after_all(layout)),
    }
}

#[inline(always)]
fn large(layout: Layout) -> Option<NonNull<u8>> {
    buddy::alloc_for(layout.size(), page_order(layout), Tracking::Tracked)
}

/// Allocates pages, if objects in quarantine are all that is in the way.
#[unsafe(link_section = ".text.hooks")]
#[inline(never)]
#[cold]
fn large_after_all(layout: Layout) -> Option<NonNull<u8>> {
    slab::empty_quarantines().then(|| large(layout))?
}

/// Allocates from where blocks come from at this stage. Does not return to confined code that gets no memory: leaves it.
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

fn page_order(layout: Layout) -> u32 {
    buddy::order_of(layout.size().max(layout.align()))
}

/// Sets the emergency reserve aside, and makes blocks come from the slabs, which work by now.
pub(super) fn init() {
    stage::init();
}
