//! Mapping and unmapping single pages.
//!
//! A new table is zeroed before other CPUs can see it; then one compare-and-exchange links it, unless another CPU has linked
//! one first. So others first see it empty. Tables come from [`tables`] and are kept for later mappings near by.
//!
//! A removed mapping must be flushed from the TLBs of all CPUs before its address or its frame is used
//! again: see [`tlb`](crate::dev::tlb).
//!
//! # Locks
//!
//! None of its own; that of [`tables`] is taken. The caller that maps a page owns its address: mapping one page twice is an error
//! of the callers.

use core::sync::atomic::Ordering;

use x86_64::VirtAddr;
use x86_64::structures::paging::PageTableFlags;
use x86_64::structures::paging::page_table::PageTableLevel;

use super::paging::{Entry, Open, TABLE, Table, is_mapped};
use super::{PAGE, frame, tables, window};
use crate::arch::memory;

/// How a page may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read and written.
    Data,
    /// Read and written, past the caches: a device's registers.
    Device,
    /// Read and run: the page in which another CPU starts.
    Code,
}

impl Access {
    fn flags(self) -> PageTableFlags {
        match self {
            Self::Data => TABLE | PageTableFlags::NO_EXECUTE,
            Self::Device => TABLE | PageTableFlags::NO_EXECUTE | PageTableFlags::NO_CACHE,
            Self::Code => PageTableFlags::PRESENT,
        }
    }
}

/// The table that the entry for an address leads to; a new one is linked if the entry is absent.
///
/// # Panics
///
/// If the entry maps a large page.
fn table_below(
    table: &Table,
    level: PageTableLevel,
    address: VirtAddr,
    open: &Open,
) -> Result<&'static Table, NoMemory> {
    match table.look(level, address) {
        Entry::Table(below) => {
            // An entry made by the boot loader may allow less.
            let entry = table.entry(level, address);
            entry.fetch_or(TABLE.bits(), Ordering::Relaxed);
            Ok(below)
        }
        Entry::Page => panic!("mapping {address:?}: it lies in a large page"),
        Entry::Absent => add(table, level, address, open),
    }
}

#[cold]
fn add(
    table: &Table,
    level: PageTableLevel,
    address: VirtAddr,
    open: &Open,
) -> Result<&'static Table, NoMemory> {
    let physical = tables::take().ok_or(NoMemory)?;
    // Release: a CPU that sees the entry sees the zeros.
    let linked = table.entry(level, address).compare_exchange(
        0,
        physical | TABLE.bits(),
        Ordering::Release,
        Ordering::Relaxed,
    );
    if linked.is_err() {
        // Another CPU has linked a table first.
        tables::give_back(physical);
        return table_below(table, level, address, open);
    }
    // SAFETY: a table that was linked just now, and is never freed.
    Ok(unsafe { Table::at(physical) })
}

/// Maps the page at `address` to the frame at `physical`.
///
/// # Panics
///
/// If the page is mapped already.
///
/// # Safety
///
/// The caller owns the page, and what `access` allows may be done with the frame as long as it is mapped.
pub unsafe fn map(
    address: usize,
    physical: u64,
    access: Access,
    open: &Open,
) -> Result<(), NoMemory> {
    let address = VirtAddr::new(address as u64);
    let mut table = Table::root();
    let mut level = PageTableLevel::Four;
    while let Some(next) = level.next_lower_level() {
        table = table_below(table, level, address, open)?;
        level = next;
    }
    // No TLB holds an entry that is not present, so there is nothing to flush.
    let mapped = table.entry(level, address).compare_exchange(
        0,
        physical | access.flags().bits(),
        Ordering::Release,
        Ordering::Relaxed,
    );
    assert!(mapped.is_ok(), "mapping {address:?}: it is mapped already");
    Ok(())
}

/// There is no memory for a page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// Removes the mapping of the page at `address`, if there is one. TLBs may still hold it.
///
/// # Safety
///
/// Nobody uses the page any more.
pub unsafe fn unmap(address: usize, _open: &Open) {
    let address = VirtAddr::new(address as u64);
    let mut table = Table::root();
    let mut level = PageTableLevel::Four;
    while let Some(next) = level.next_lower_level() {
        let Entry::Table(lower) = table.look(level, address) else {
            return;
        };
        (table, level) = (lower, next);
    }
    // Acquire and release: all accesses to the page come before the next use of its frame.
    table.entry(level, address).swap(0, Ordering::AcqRel);
}

/// Makes the window show tables of the firmware, read-only, which lie in no memory of the memory map. At boot, on one CPU.
///
/// # Panics
///
/// If there is no memory for page tables.
pub fn show_firmware(physical: u64, len: usize) {
    let first = physical & !(PAGE as u64 - 1);
    let mut take = || tables::take().expect("memory for the window's tables");
    for page in (first..physical + len as u64).step_by(PAGE) {
        if page < frame::END && !is_mapped(memory::window(page)) {
            window::add_read_only(page, &mut take);
        }
    }
}
