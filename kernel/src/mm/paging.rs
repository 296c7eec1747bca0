//! Page table entries: mapping and unmapping single pages of the kernel's half.
//!
//! All CPUs share one root table, so a mapping made here is everybody's at once: for other CPUs' table walkers, which
//! read along and note what was used, and for callers of [`is_mapped`]. So a table is never anybody's alone
//! once it is linked, and nobody ever has a `&mut` to one. A table is an array of atomic words, which all share: an entry
//! is read, and changed, by one atomic operation.
//!
//! A table is zeroed while it is still a frame of the CPU that adds it; then one compare and exchange links it, if nobody
//! else's was quicker. What others see of it is empty. Tables are taken from the untracked entry of the buddy allocator and
//! kept for the next mapping near by.
//!
//! A mapping that is taken away must be forgotten by all CPUs before its address or its frame is used
//! again: see [`tlb`](crate::arch::tlb).
//!
//! # Invariants
//!
//! - A table that an entry leads to stays a table, at that place, permanently.
//! - A table is zero when it is linked.
//!
//! # Locks
//!
//! None. Who maps a page has the address to itself: two mappings of one are an error of the callers.

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

/// What an entry that leads to a table allows: everything, for the pages' own entries say what is allowed there.
const TABLE: PageTableFlags = PageTableFlags::PRESENT.union(PageTableFlags::WRITABLE);

/// The bits of an entry that are a physical address.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

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
        // SAFETY: the CPU uses it as one, and it stays permanently.
        unsafe { Self::at(Cr3::read().0.start_address().as_u64()) }
    }

    /// # Safety
    ///
    /// There is a table at this physical address, and it stays permanently.
    unsafe fn at(physical: u64) -> &'static Self {
        let table: *const Self = ptr::with_exposed_provenance(memory::window(physical));
        // SAFETY: the caller's promise; others use it by atomic operations, or is a CPU's walker.
        unsafe { &*table }
    }

    /// The entry for an address, of a table of that level.
    fn entry(&self, level: PageTableLevel, address: VirtAddr) -> &AtomicU64 {
        &self.0[usize::from(address.page_table_index(level))]
    }

    /// What the entry for an address says, of a table of that level.
    fn look(&self, level: PageTableLevel, address: VirtAddr) -> Entry {
        // Acquire: with the entry that links a table, the table's zeros.
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

    /// The table that the entry for an address leads to; where it leads nowhere yet, to a new one.
    ///
    /// # Panics
    ///
    /// Where it maps a large page.
    fn next(&self, level: PageTableLevel, address: VirtAddr) -> Result<&'static Self, NoMemory> {
        match self.look(level, address) {
            Entry::Table(table) => {
                // The boot loader's may allow less.
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
        // Release: who finds the entry finds the zeros.
        let linked = self.entry(level, address).compare_exchange(
            0,
            physical | TABLE.bits(),
            Ordering::Release,
            Ordering::Relaxed,
        );
        if linked.is_err() {
            // Somebody else's was quicker.
            buddy::free(page, 0, Tracking::Untracked);
            return self.next(level, address);
        }
        // SAFETY: linked just now, permanently.
        Ok(unsafe { Self::at(physical) })
    }
}

/// A frame without contents, as the window shows it.
fn zeroed_frame() -> Option<NonNull<u8>> {
    let page = buddy::alloc(0, Tracking::Untracked)?;
    // SAFETY: a frame taken just now, and nobody else's.
    unsafe { page.write_bytes(0, PAGE) };
    Some(page)
}

/// Maps the page at `address` to the frame at `physical`.
///
/// # Panics
///
/// Where the page is mapped already.
///
/// # Safety
///
/// The page is the caller's to hand out, and what `access` allows may be done with the frame as long as it is mapped.
pub unsafe fn map(address: usize, physical: u64, access: Access) -> Result<(), NoMemory> {
    let address = VirtAddr::new(address as u64);
    let mut table = Table::root();
    let mut level = PageTableLevel::Four;
    while let Some(next) = level.next_lower_level() {
        table = table.next(level, address)?;
        level = next;
    }
    // An entry that is not present is in no CPU's memory, so there is nothing to flush.
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

/// Takes the mapping of the page at `address` away, if there is one. CPUs may remember it yet.
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
    // Acquire and release: what was done with the page is done before who is told of this uses its frame.
    table.entry(level, address).swap(0, Ordering::AcqRel);
}

/// Whether the page at `address` is mapped. Any context; of a moment, where others map and unmap.
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
