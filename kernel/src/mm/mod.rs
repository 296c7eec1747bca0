//! Memory.
//!
//! | module | what | built on |
//! | --- | --- | --- |
//! | [`frame`] | one descriptor for each page frame | the boot loader's memory map |
//! | [`buddy`] | blocks of 2^n page frames | frame |
//! | [`slab`] | objects of one size, cached per CPU | buddy |
//! | [`paging`] | page tables and their entries | nothing |
//! | [`window`] | what the window on physical memory shows, and what of it is read-only | paging, buddy |
//! | [`tables`] | frames for page tables | buddy, window |
//! | [`mapping`] | mapping single pages | paging, tables |
//! | [`frozen`] | what memory held at one moment, for the leak detector | paging, buddy, vmalloc |
//! | [`audit`] | a walk over the page tables that looks for what must not be there | paging, vmalloc |
//! | [`vmalloc`] | blocks mapped page by page, between guard pages | mapping, slab |
//! | [`percpu`] | dynamic blocks with one copy a CPU | buddy |
//! | [`confined`] | code that is abandoned when its memory is used up | buddy |
//! | [`heap`] | Rust's global allocator, over slabs and pages | all of them |
//! | [`release`] | how a block is freed, for all allocators | misuse |
//! | [`misuse`] | frees that are refused | nothing |
//! | [`poison`] | writes to memory that is not the writer's | nothing |
//!
//! # Who tells the leak detector
//!
//! One byte belongs to at most one object. The allocator that hands a block to a user reports it: a slab cache of its objects,
//! vmalloc of its blocks, the buddy allocator of what is taken through its tracked entry. What these take for themselves (slabs,
//! the pages under a vmalloc block, page tables, magazines) comes from the untracked entry, and so does confined code. Hooks are
//! called with no lock of this module held: after a block has left every free list, and before it returns to one, but only after
//! the free has been checked: see [`release`].
//!
//! # Locks
//!
//! All are spinlocks, with interrupts off (but a confined arena's: preemption off). Nesting order, outermost first: vmalloc's; a
//! slab cache's, the list of caches', growing per-CPU memory's or a confined arena's; the magazine pool's or page tables' frames'; the
//! buddy allocator's. Page tables have none.

pub mod audit;
pub mod buddy;
pub mod confined;
pub mod frame;
pub mod frozen;
mod granules;
pub mod heap;
pub mod mapping;
pub mod misuse;
mod page;
pub mod paging;
pub mod percpu;
pub mod poison;
pub mod release;
pub mod slab;
mod tables;
pub mod vmalloc;
mod window;

use core::fmt;

use bootloader_api::info::MemoryRegions;
use x86_64::instructions::tlb as cpu_tlb;

use self::paging::Open;
use crate::arch::gdt;

pub use self::page::{Freed, PAGE, Wipe, freed, set_wipe};

/// Starts the allocators. Called once, on the boot CPU, while it runs alone.
pub fn init(regions: &MemoryRegions) {
    frame::init(regions);
    buddy::init(regions);
    window::init(regions);
    tables::protect_all();
    for guard in gdt::boot_guards() {
        // SAFETY: nobody uses the page.
        unsafe { mapping::unmap(guard, &Open::new()) };
    }
    cpu_tlb::flush_all();
    slab::init();
    heap::init();
}

/// Use of memory. Its `Display` prints some lines.
#[derive(Clone, Copy, Debug)]
pub struct Stats {
    pages: usize,
    free_pages: usize,
    slab_pages: usize,
    vmalloc_pages: usize,
    boot_heap_bytes: usize,
    /// Bytes in quarantine, where there is one.
    quarantined: Option<usize>,
}

/// How memory is used. Any context.
pub fn stats() -> Stats {
    Stats {
        pages: buddy::total_pages(),
        free_pages: buddy::free_pages(),
        slab_pages: slab::pages(),
        vmalloc_pages: vmalloc::pages(),
        boot_heap_bytes: heap::boot_heap_used(),
        quarantined: (freed() == Freed::Poisoned).then(slab::quarantined),
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = |pages: usize| pages * (PAGE / 1024);
        writeln!(f, "total      {:>9} KiB", kib(self.pages))?;
        writeln!(f, "free       {:>9} KiB", kib(self.free_pages))?;
        writeln!(f, "slabs      {:>9} KiB", kib(self.slab_pages))?;
        writeln!(f, "vmalloc    {:>9} KiB", kib(self.vmalloc_pages))?;
        writeln!(f, "boot heap  {:>9} B", self.boot_heap_bytes)?;
        self.quarantined
            .map_or(Ok(()), |bytes| writeln!(f, "quarantine {bytes:>9} B"))
    }
}

/// Checks that the allocators' structures are consistent. Any context; slow.
///
/// # Panics
///
/// If they are not consistent.
pub fn check_invariants() {
    buddy::check_invariants();
    slab::check_invariants();
}
