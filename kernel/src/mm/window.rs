//! The window on physical memory: what it shows, and what of it is read-only.
//!
//! The boot loader shows all physical addresses, devices' and holes as well, and all of it writable. At boot the kernel makes
//! tables of its own, which show the memory that the memory map names and nothing else, in pages of 2 MiB where all of one is
//! memory. Not writable are the image's code and constants, and page tables: for their sake large pages are split. The tables of
//! the firmware are shown read-only when they are read.
//!
//! The window has one entry of the top table: memory above 512 GiB is not used.
//!
//! # Locks
//!
//! None. The window changes at boot, and then under the lock of [`tables`](super::tables) only; entries of pages in it never
//! become absent.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use bootloader_api::info::MemoryRegions;
use x86_64::VirtAddr;
use x86_64::instructions::tlb as cpu_tlb;
use x86_64::structures::paging::PageTableFlags;

use super::buddy::{self, Tracking};
use super::paging::{self, ADDRESS, ENTRIES, Open, TABLE};
use super::{PAGE, frame};
use crate::arch::memory;

/// Bytes of a large page, as a table of pages shows them.
const LARGE: u64 = (PAGE * ENTRIES) as u64;
/// Bytes that a table of large pages shows.
const GIB: u64 = LARGE * ENTRIES as u64;

const HUGE: u64 = PageTableFlags::HUGE_PAGE.bits();
const WRITABLE: u64 = PageTableFlags::WRITABLE.bits();
const READ_ONLY: u64 = PageTableFlags::PRESENT.bits() | PageTableFlags::NO_EXECUTE.bits();

/// Puts the kernel's own window into use, in which all is writable yet. Called once, on the boot CPU, while it runs alone and the
/// buddy allocator works.
pub(super) fn init(regions: &MemoryRegions) {
    // Until they are in use, they are reached by the boot loader's window.
    let mut new_table = || {
        let page = buddy::alloc(0, Tracking::Untracked).expect("memory for the window's tables");
        // SAFETY: allocated just now.
        unsafe { page.write_bytes(0, PAGE) };
        page.addr().get() as u64 - memory::PHYSICAL_WINDOW
    };
    let upper = new_table();
    frame::each_existing(regions, &mut |memory| {
        show_memory(upper, memory, &mut new_table);
    });
    UPPER.store(upper, Ordering::Release);
    {
        let open = Open::new();
        paging::top_entry(memory::window(0)).store(upper | TABLE.bits(), Ordering::Release);
        // SAFETY: the kernel has tables of its own for all that the boot loader's page was for.
        unsafe { paging::clear_lower_half(&open) };
    }
    cpu_tlb::flush_all();
}

/// Shows whole frames, writable.
fn show_memory(upper: u64, memory: Range<u64>, new_table: &mut dyn FnMut() -> u64) {
    let Range { start: mut at, end } = memory;
    while at < end {
        let middle = table_at(upper, (at / GIB) as usize, new_table);
        let index = (at / LARGE) as usize;
        if at.is_multiple_of(LARGE) && end - at >= LARGE {
            // SAFETY: a table that is made here.
            unsafe { paging::entry_at(middle, index) }
                .store(at | READ_ONLY | WRITABLE | HUGE, Ordering::Relaxed);
            at += LARGE;
        } else {
            let lower = table_at(middle, index, new_table);
            // SAFETY: as above.
            unsafe { paging::entry_at(lower, (at / PAGE as u64) as usize) }
                .store(at | READ_ONLY | WRITABLE, Ordering::Relaxed);
            at += PAGE as u64;
        }
    }
}

/// The table to which an entry of a table leads; a new one if it leads nowhere.
fn table_at(table: u64, index: usize, new_table: &mut dyn FnMut() -> u64) -> u64 {
    // SAFETY: a table of the window.
    let entry = unsafe { paging::entry_at(table, index) };
    let found = entry.load(Ordering::Acquire);
    if found != 0 {
        return found & ADDRESS;
    }
    let new = new_table();
    entry.store(new | TABLE.bits(), Ordering::Release);
    new
}

/// The window's own upper table. While memory is frozen, another one is in use.
static UPPER: AtomicU64 = AtomicU64::new(0);

/// The entry of the upper table that leads to a physical address, and further on, if there is such a table.
fn large_entry(physical: u64) -> Option<&'static AtomicU64> {
    let upper = UPPER.load(Ordering::Acquire);
    // SAFETY: the window's table, which stays.
    let entry = unsafe { paging::entry_at(upper, (physical / GIB) as usize) };
    let middle = entry.load(Ordering::Acquire);
    // SAFETY: as above.
    (middle != 0)
        .then(|| unsafe { paging::entry_at(middle & ADDRESS, (physical / LARGE) as usize) })
}

/// Makes a frame read-only in the window. `take` gives a zeroed frame for a table, and changes nothing in the window; without one
/// a large page stays as it is.
/// Called at boot, and under the lock of [`tables`](super::tables).
pub(super) fn protect(physical: u64, take: &mut dyn FnMut() -> Option<u64>) {
    let Some(large) = large_entry(physical) else {
        return;
    };
    let entry = large.load(Ordering::Acquire);
    let lower = match entry & HUGE {
        0 => entry & ADDRESS,
        _ => match take() {
            Some(table) => split(large, table),
            None => return,
        },
    };
    let _open = Open::new();
    // SAFETY: a table of the window, which stays.
    unsafe { paging::entry_at(lower, (physical / PAGE as u64) as usize) }
        .fetch_and(!WRITABLE, Ordering::Release);
    cpu_tlb::flush(VirtAddr::new(memory::window(physical) as u64));
}

/// Makes the entry of a large page lead to a table that maps the same frames in the same way. Returns the table.
fn split(large: &AtomicU64, table: u64) -> u64 {
    let _open = Open::new();
    let entry = large.load(Ordering::Acquire) & !HUGE;
    for index in 0..ENTRIES {
        let page = entry + (index * PAGE) as u64;
        // SAFETY: a table that is not in use yet.
        unsafe { paging::entry_at(table, index) }.store(page, Ordering::Relaxed);
    }
    large.store(table | TABLE.bits(), Ordering::Release);
    table
}

/// Shows a page that is no memory, read-only. At boot, on one CPU. `take` gives a zeroed frame for a table.
pub(super) fn add_read_only(page: u64, take: &mut dyn FnMut() -> u64) {
    let upper = UPPER.load(Ordering::Acquire);
    let _open = Open::new();
    let middle = table_at(upper, (page / GIB) as usize, take);
    let lower = table_at(middle, (page / LARGE) as usize, take);
    // SAFETY: a table of the window, which stays.
    unsafe { paging::entry_at(lower, (page / PAGE as u64) as usize) }
        .store(page | READ_ONLY, Ordering::Release);
}
