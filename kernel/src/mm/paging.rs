//! Page table entries: mapping and unmapping single pages of the kernel's half.
//!
//! All CPUs share one root table, so a mapping made here is visible at once to the page walkers of other CPUs, which read
//! entries and set their accessed and dirty bits, and to callers of [`is_mapped`]. So a linked table is always shared, and
//! there is never a `&mut` to one. A table is an array of atomic words: an entry is read, and changed, by one atomic
//! operation.
//!
//! A new table is zeroed before other CPUs can see it; then one compare-and-exchange links it, unless another CPU has linked
//! one first. So others first see it empty. Tables come from the untracked entry of the buddy allocator and are kept for
//! later mappings near by.
//!
//! A removed mapping must be flushed from the TLBs of all CPUs before its address or its frame is used
//! again: see [`tlb`](crate::dev::tlb).
//!
//! # Invariants
//!
//! - A table that an entry leads to stays a table, and is never freed.
//! - A table is zero when it is linked.
//!
//! # Locks
//!
//! None. The caller that maps a page owns its address: mapping one page twice is an error of the callers.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::VirtAddr;
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::PageTableFlags;
use x86_64::structures::paging::page_table::PageTableLevel;

use super::PAGE;
use super::buddy::{self, Tracking};
use crate::arch::memory;

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
        match self {
            Self::Data => TABLE | PageTableFlags::NO_EXECUTE,
            Self::Device => TABLE | PageTableFlags::NO_EXECUTE | PageTableFlags::NO_CACHE,
            Self::Code => TABLE,
        }
    }
}

/// The flags of an entry that leads to a table: they allow everything, and the entries of the pages restrict it.
const TABLE: PageTableFlags = PageTableFlags::PRESENT.union(PageTableFlags::WRITABLE);

/// The bits of an entry that are a physical address.
pub(super) const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The bit of a page's entry, free for software, that says that the page is read-only only until it is written to: see
/// [`frozen`](super::frozen).
pub(super) const PROTECTED: u64 = PageTableFlags::BIT_9.bits();

/// A page table, which this CPU shares with all others.
#[repr(transparent)]
struct Table([AtomicU64; 512]);

/// What an entry says.
enum Entry {
    Absent,
    Table(&'static Table),
    Page,
}

impl Table {
    /// The table that all CPUs use.
    fn root() -> &'static Self {
        // SAFETY: the CPU uses it as its root table, and it is never freed.
        unsafe { Self::at(Cr3::read().0.start_address().as_u64()) }
    }

    /// # Safety
    ///
    /// There is a table at this physical address, and it is never freed.
    unsafe fn at(physical: u64) -> &'static Self {
        let table: *const Self = ptr::with_exposed_provenance(memory::window(physical));
        // SAFETY: the caller's promise; all others use it by atomic operations, or are page walkers of CPUs.
        unsafe { &*table }
    }

    /// The entry for an address in this table, which is of level `level`.
    fn entry(&self, level: PageTableLevel, address: VirtAddr) -> &AtomicU64 {
        &self.0[usize::from(address.page_table_index(level))]
    }

    /// What the entry for an address in this table says; the table is of level `level`.
    fn look(&self, level: PageTableLevel, address: VirtAddr) -> Entry {
        // Acquire: a CPU that sees the entry of a new table sees the table's zeros.
        let entry = self.entry(level, address).load(Ordering::Acquire);
        let flags = PageTableFlags::from_bits_truncate(entry);
        if !flags.contains(PageTableFlags::PRESENT) {
            Entry::Absent
        } else if level == PageTableLevel::One || flags.contains(PageTableFlags::HUGE_PAGE) {
            Entry::Page
        } else {
            // SAFETY: a present entry that maps no page leads to a table, and tables stay.
            Entry::Table(unsafe { Self::at(entry & ADDRESS) })
        }
    }

    /// The table that the entry for an address leads to; a new one is linked if the entry is absent.
    ///
    /// # Panics
    ///
    /// If the entry maps a large page.
    fn next(&self, level: PageTableLevel, address: VirtAddr) -> Result<&'static Self, NoMemory> {
        match self.look(level, address) {
            Entry::Table(table) => {
                // An entry made by the boot loader may allow less.
                let entry = self.entry(level, address);
                entry.fetch_or(TABLE.bits(), Ordering::Relaxed);
                Ok(table)
            }
            Entry::Page => panic!("mapping {address:?}: it lies in a large page"),
            Entry::Absent => self.add(level, address),
        }
    }

    #[cold]
    fn add(&self, level: PageTableLevel, address: VirtAddr) -> Result<&'static Self, NoMemory> {
        let page = zeroed_frame().ok_or(NoMemory)?;
        let physical = page.addr().get() as u64 - memory::PHYSICAL_WINDOW;
        // Release: a CPU that sees the entry sees the zeros.
        let linked = self.entry(level, address).compare_exchange(
            0,
            physical | TABLE.bits(),
            Ordering::Release,
            Ordering::Relaxed,
        );
        if linked.is_err() {
            // Another CPU has linked a table first.
            buddy::free(page, 0, Tracking::Untracked);
            return self.next(level, address);
        }
        // SAFETY: a table that was linked just now, and is never freed.
        Ok(unsafe { Self::at(physical) })
    }
}

/// Allocates a zeroed frame, and returns its address in the window.
fn zeroed_frame() -> Option<NonNull<u8>> {
    let page = buddy::alloc(0, Tracking::Untracked)?;
    // SAFETY: a frame that was allocated just now, and is not shared yet.
    unsafe { page.write_bytes(0, PAGE) };
    Some(page)
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
pub unsafe fn map(address: usize, physical: u64, access: Access) -> Result<(), NoMemory> {
    let address = VirtAddr::new(address as u64);
    let mut table = Table::root();
    let mut level = PageTableLevel::Four;
    while let Some(next) = level.next_lower_level() {
        table = table.next(level, address)?;
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
pub unsafe fn unmap(address: usize) {
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

/// Whether the page at `address` is mapped. Any context; the answer may be out of date at once if others map and unmap.
pub fn is_mapped(address: usize) -> bool {
    let address = VirtAddr::new_truncate(address as u64);
    let mut table = Table::root();
    let mut level = PageTableLevel::Four;
    loop {
        match table.look(level, address) {
            Entry::Absent => return false,
            Entry::Page => return true,
            Entry::Table(lower) => table = lower,
        }
        match level.next_lower_level() {
            Some(next) => level = next,
            None => return false,
        }
    }
}

/// The entry of the page at `address`; `None` where none is mapped, and where a larger page is. Any context.
pub(super) fn page_entry(address: usize) -> Option<&'static AtomicU64> {
    let address = VirtAddr::new_truncate(address as u64);
    let mut table = Table::root();
    let mut level = PageTableLevel::Four;
    loop {
        match (table.look(level, address), level.next_lower_level()) {
            (Entry::Table(lower), Some(next)) => (table, level) = (lower, next),
            (Entry::Page, None) => return Some(table.entry(level, address)),
            _ => return None,
        }
    }
}

/// The entry of the top table for the 512 GiB around `address`.
pub(super) fn top_entry(address: usize) -> &'static AtomicU64 {
    Table::root().entry(PageTableLevel::Four, VirtAddr::new_truncate(address as u64))
}
