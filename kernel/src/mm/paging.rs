//! Page table entries: mapping and unmapping single pages of the kernel's half.
//!
//! All CPUs share one root table, so a mapping made here is everybody's at once. One taken away must be forgotten
//! by all CPUs before its address or its frame is used again: see [`tlb`](crate::arch::tlb). Tables are taken
//! from the untracked entry of the buddy allocator and kept for the next mapping near by.
//!
//! # Invariants
//!
//! - A frame is zeroed before an entry names it as a table: whoever walks the tables meanwhile, a CPU's own walker
//!   included, finds entries that are not present, never what somebody else has left in the frame.
//! - There is one reference to the tables at a time, whichever CPU has it.
//!
//! # Locks
//!
//! One, over all tables, with interrupts off. The buddy allocator's is taken under it.

use core::ptr::NonNull;

use x86_64::registers::control::Cr3;
use x86_64::structures::paging::mapper::{MapToError, TranslateResult};
use x86_64::structures::paging::{
    FrameAllocator, Mapper, OffsetPageTable, Page, PageTable, PageTableFlags, PhysFrame, Size4KiB,
    Translate,
};
use x86_64::{PhysAddr, VirtAddr};

use super::buddy::{self, Tracking};
use super::frame;
use crate::arch::memory;
use crate::sync::{LocalIrqDisabled, SpinLock};

/// How a page may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read and written.
    Data,
    /// Read and written, past the caches: a device's registers.
    Device,
    /// Read, written and run: the page in which another CPU starts.
    Code,
}

impl Access {
    fn flags(self) -> PageTableFlags {
        let flags = PageTableFlags::PRESENT | PageTableFlags::WRITABLE;
        match self {
            Self::Data => flags | PageTableFlags::NO_EXECUTE,
            Self::Device => flags | PageTableFlags::NO_EXECUTE | PageTableFlags::NO_CACHE,
            Self::Code => flags,
        }
    }
}

/// A frame for a table, zeroed: the mapper makes a table live, and clears it only then. It is the caller's, to be given back
/// through the untracked entry. Any context.
pub fn take_table() -> Option<NonNull<u8>> {
    let page = buddy::alloc(0, Tracking::Untracked)?;
    // SAFETY: a frame of ours, which the window shows.
    unsafe { page.write_bytes(0, super::PAGE) };
    Some(page)
}

/// Where the mapper takes tables from.
struct ZeroedFrames;

// SAFETY: the buddy allocator gives out a frame to one user at a time.
unsafe impl FrameAllocator<Size4KiB> for ZeroedFrames {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let page = take_table()?;
        let number = frame::number_of(page.addr().get())?;
        Some(frame_at(u64::from(number) * super::PAGE as u64))
    }
}

fn frame_at(physical: u64) -> PhysFrame {
    PhysFrame::containing_address(PhysAddr::new(physical))
}

fn page_at(address: usize) -> Page {
    Page::containing_address(VirtAddr::new(address as u64))
}

/// The tables: who may look at them or change them.
struct Tables;

static TABLES: SpinLock<Tables, LocalIrqDisabled> = SpinLock::new(Tables);

fn with_tables<R>(action: impl FnOnce(&mut OffsetPageTable<'_>) -> R) -> R {
    let _tables = TABLES.lock();
    let root = memory::window(Cr3::read().0.start_address().as_u64());
    let root: *mut PageTable = core::ptr::with_exposed_provenance_mut(root);
    // SAFETY: the root table that all CPUs use, and the lock is over it and all that it leads to.
    let root = unsafe { &mut *root };
    // SAFETY: the window shows all of physical memory.
    let mut tables = unsafe { OffsetPageTable::new(root, VirtAddr::new(memory::PHYSICAL_WINDOW)) };
    action(&mut tables)
}

/// Maps the page at `address` to the frame at `physical`.
///
/// # Panics
///
/// Where the page is mapped already.
pub fn map(address: usize, physical: u64, access: Access) -> Result<(), NoMemory> {
    let flags = access.flags();
    // SAFETY: nobody has used the address so far, so nothing changes under anybody's feet.
    let mapped = with_tables(|tables| unsafe {
        tables.map_to(
            page_at(address),
            frame_at(physical),
            flags,
            &mut ZeroedFrames,
        )
    });
    match mapped {
        Ok(flush) => {
            // The page was not present, and such entries are not cached.
            flush.ignore();
            Ok(())
        }
        Err(MapToError::FrameAllocationFailed) => Err(NoMemory),
        Err(error) => panic!("mapping {address:#x}: {error:?}"),
    }
}

/// There is no memory for a page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// Takes the mapping of the page at `address` away, if there is one. CPUs may remember it yet.
pub fn unmap(address: usize) {
    if let Ok((_, flush)) = with_tables(|tables| tables.unmap(page_at(address))) {
        flush.ignore();
    }
}

/// Whether the page at `address` is mapped. Any context; of a moment, where others map and unmap.
pub fn is_mapped(address: usize) -> bool {
    let address = VirtAddr::new_truncate(address as u64);
    with_tables(|tables| matches!(tables.translate(address), TranslateResult::Mapped { .. }))
}
