//! Blocks that are contiguous in virtual memory only, between guard pages.
//!
//! A block's frames come one by one from the untracked entry of the buddy allocator and are chained
//! through their descriptors. Before and after each block one page stays unmapped: an access past the
//! end of a stack or a buffer faults at once.
//!
//! # Giving back
//!
//! A freed block is unmapped at once, but TLBs may still hold the mapping. So its addresses and its frames are
//! kept until the TLBs of all CPUs are flushed. That costs an interrupt on each CPU, so one flush serves a batch
//! of blocks.
//!
//! # What the leak detector sees
//!
//! The blocks. The bookkeeping is in a cache that it is not told of, so only the user's pointers keep a block alive.
//!
//! # Locks
//!
//! One, over the areas, with interrupts off. Slab caches' and the buddy allocator's are taken under it.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};

mod areas;
mod lookup;

pub use self::areas::Kind;
use self::areas::{AREAS, Area, Keep, State, give_frames, take_frames};
pub use self::lookup::{
    GuardPage, Neighbour, each_buffer, guard_page, is_permanent, missing_guard, readable,
};
use super::frame::{self, NO_FRAME};
use super::mapping::{self, Access, NoMemory};
use super::misuse::{Audience, Misuse};
use super::paging::Open;
use super::release::{Allocator, Retired, release};
use super::{PAGE, freed, slab};
use crate::arch::mmio::Registers;
use crate::dev::tlb;
use crate::leak::hooks;

/// Pages of freed blocks above which the TLBs of all CPUs are flushed.
const LAZY_PAGES: usize = 256;

static PAGES: AtomicUsize = AtomicUsize::new(0);

/// Pages of all blocks in use.
pub fn pages() -> usize {
    PAGES.load(Ordering::Relaxed)
}

/// Allocates a block of `len` bytes, rounded up to pages, zeroed. Task context.
#[unsafe(link_section = ".text.hooks")]
#[inline(never)] // Inlined, it would not be among the hooks.
pub fn vmalloc(len: usize, kind: Kind) -> Option<NonNull<u8>> {
    vmalloc_aligned(len, PAGE, kind)
}

/// Allocates like [`vmalloc`], at a multiple of `align`, which is a power of two and at least a page. Task context.
#[unsafe(link_section = ".text.hooks")]
#[inline(never)]
pub fn vmalloc_aligned(len: usize, align: usize, kind: Kind) -> Option<NonNull<u8>> {
    let start = map_block(len, align, kind)?;
    let block = NonNull::new(ptr::with_exposed_provenance_mut::<u8>(start))?;
    // SAFETY: mapped just now, and not handed out yet.
    unsafe { block.write_bytes(0, len.next_multiple_of(PAGE)) };
    hooks::alloc(start, len);
    Some(block)
}

/// Maps memory for a stack of which the leak detector is not told: an exception's. Its contents are undefined. Any context.
pub fn map_untold_stack(len: usize) -> Option<NonNull<u8>> {
    let start = map_block(len, PAGE, Kind::Stack)?;
    NonNull::new(ptr::with_exposed_provenance_mut(start))
}

/// Gives back what [`map_untold_stack`] has mapped. If no block begins there, the error is printed, and nothing else happens. Task
/// context, with interrupts on and no spinlock held.
pub fn unmap_untold_stack(stack: NonNull<u8>) {
    free(stack.addr().get(), Audience::Nobody);
}

fn map_block(len: usize, align: usize, kind: Kind) -> Option<usize> {
    let pages = len.div_ceil(PAGE);
    if pages == 0 {
        return None;
    }
    let first_frame =
        take_frames(pages).or_else(|| slab::empty_quarantines().then(|| take_frames(pages))?)?;
    let mut areas = AREAS.lock();
    let Some(start) = areas.insert(pages, align, kind, first_frame) else {
        drop(areas);
        give_frames(first_frame);
        return None;
    };
    if map_frames(start, first_frame).is_err() {
        // What was mapped was never used, so no TLB holds it.
        areas.change(start, |_| Keep::No);
        drop(areas);
        give_frames(first_frame);
        return None;
    }
    PAGES.fetch_add(pages, Ordering::Relaxed);
    Some(start)
}

/// Maps chained frames to pages from `start` on: all, or none if there is no memory for a page table.
fn map_frames(start: usize, first_frame: u32) -> Result<(), NoMemory> {
    let open = Open::new();
    let (mut page, mut number) = (start, first_frame);
    while number != NO_FRAME {
        let physical = u64::from(number) * PAGE as u64;
        // SAFETY: the caller's area, which nobody has yet, and a frame that was taken for it.
        if let Err(error) = unsafe { mapping::map(page, physical, Access::Data, &open) } {
            // SAFETY: as above.
            (start..page)
                .step_by(PAGE)
                .for_each(|page| unsafe { mapping::unmap(page, &open) });
            return Err(error);
        }
        number = frame::frames()[number as usize].next();
        page += PAGE;
    }
    Ok(())
}

/// Frees a block. If no block begins at the address, the error is printed, and nothing else happens.
/// Task context, with interrupts on and no spinlock held: all CPUs may have to be interrupted.
#[unsafe(link_section = ".text.hooks")]
pub fn vfree(block: *mut u8) {
    free(block.addr(), Audience::Detector);
}

#[inline(always)]
fn free(start: usize, audience: Audience) {
    let lazy_pages = release(&Blocks { audience }, start);
    if lazy_pages.is_some_and(|pages| pages > LAZY_PAGES) {
        purge();
    }
}

/// How blocks are freed.
struct Blocks {
    audience: Audience,
}

/// A block that was taken from its user.
struct Mapped {
    start: usize,
    pages: usize,
}

impl Allocator for Blocks {
    type Block = Mapped;
    /// Pages of all freed blocks that TLBs may still hold.
    type Done = usize;

    fn name(&self) -> &'static str {
        "vmalloc"
    }

    fn audience(&self) -> Audience {
        self.audience
    }

    fn retire(&self, start: usize) -> Result<Mapped, Misuse> {
        let mut areas = AREAS.lock();
        let (pages, state, kind) = {
            let area = areas.tree.find(&start);
            let area = area.get().ok_or(Misuse::NotABlock)?;
            (area.pages, area.state, area.kind)
        };
        match (state, kind) {
            (State::Lazy(_) | State::Retired, _) => return Err(Misuse::DoubleFree),
            (_, Kind::Device) => return Err(Misuse::NotABlock),
            (State::InUse, _) => {}
        }
        areas.change(start, |area| {
            area.state = State::Retired;
            Keep::Yes
        });
        Ok(Mapped { start, pages })
    }

    #[inline(always)]
    fn tell(&self, retired: &Retired<Mapped>) {
        hooks::free(retired);
    }

    fn put(&self, Mapped { start, pages }: Mapped) -> usize {
        if let Some(byte) = freed().fill() {
            let block: *mut u8 = ptr::with_exposed_provenance_mut(start);
            // SAFETY: still mapped here, and taken from its user.
            unsafe { block.write_bytes(byte, pages * PAGE) };
        }
        let mut areas = AREAS.lock();
        let open = Open::new();
        // SAFETY: the block was taken from its user.
        (0..pages).for_each(|page| unsafe { mapping::unmap(start + page * PAGE, &open) });
        drop(open);
        areas.freed += 1;
        let state = State::Lazy(areas.freed);
        areas.change(start, |area| {
            area.state = state;
            Keep::Yes
        });
        areas.lazy_pages += pages;
        PAGES.fetch_sub(pages, Ordering::Relaxed);
        areas.lazy_pages
    }
}

/// Flushes the TLBs of all CPUs, and releases the addresses and frames of freed blocks. Task context, with
/// interrupts on and no spinlock held.
pub fn purge() {
    let mut batch = arrayvec::ArrayVec::<(usize, State), 64>::new();
    loop {
        {
            let areas = AREAS.lock();
            let lazy = |area: &&Area| matches!(area.state, State::Lazy(_));
            let lazy = areas.tree.iter().filter(lazy);
            batch.extend(lazy.map(|area| (area.start, area.state)).take(64));
        }
        if batch.is_empty() {
            return;
        }
        tlb::flush_all_cpus();
        for (start, state) in batch.drain(..) {
            let mut areas = AREAS.lock();
            let mut ours = false;
            let (mut pages, mut first_frame) = (0, NO_FRAME);
            areas.change(start, |area| {
                // Another task may have purged this area, and a new one at its address may be in use or freed: that
                // one's mapping may be in TLBs filled since the flush.
                ours = area.state == state;
                (pages, first_frame) = (area.pages, area.first_frame);
                if ours { Keep::No } else { Keep::Yes }
            });
            if ours {
                areas.lazy_pages -= pages;
                drop(areas);
                give_frames(first_frame);
            }
        }
    }
}

/// Maps `len` bytes of a device's registers, at the page-aligned physical address `physical`, permanently.
///
/// # Panics
///
/// If there is no memory for the mapping: the kernel maps its devices at boot.
///
/// # Safety
///
/// A device has its registers there, and reading and writing them breaks nothing else.
pub unsafe fn map_device(physical: u64, len: usize) -> Registers {
    let pages = len.div_ceil(PAGE);
    let mut areas = AREAS.lock();
    let start = areas
        .insert(pages, PAGE, Kind::Device, NO_FRAME)
        .expect("no memory to map a device");
    let open = Open::new();
    for page in 0..pages {
        let physical = physical + (page * PAGE) as u64;
        // SAFETY: the inserted area reserves the addresses for the device; the rest is the caller's promise.
        unsafe { mapping::map(start + page * PAGE, physical, Access::Device, &open) }
            .expect("no memory to map a device");
    }
    // SAFETY: mapped just now, whole pages, and never unmapped.
    unsafe { Registers::new(start, len) }
}

/// Maps the page at a physical address to the same virtual address, to run code there. Before other CPUs run.
///
/// # Safety
///
/// The caller owns the frame, and the page lies below the kernel's half of the address space.
pub unsafe fn identity_map(physical: u64) {
    // SAFETY: nothing else is mapped in the lower half; the caller's promise.
    unsafe { mapping::map(physical as usize, physical, Access::Code, &Open::new()) }
        .expect("no memory for a page table");
}

/// Removes a mapping made by [`identity_map`].
///
/// # Safety
///
/// The page was mapped by [`identity_map`], and no code runs there any more.
pub unsafe fn unmap_identity(physical: u64) {
    // SAFETY: the caller's promise.
    unsafe { mapping::unmap(physical as usize, &Open::new()) };
    tlb::flush_all_cpus();
}
