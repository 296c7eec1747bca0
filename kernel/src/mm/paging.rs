//! Page tables: reading and changing entries. [`mapping`](super::mapping) maps pages.
//!
//! All CPUs share one root table, so a change is visible at once to the page walkers of other CPUs, which read
//! entries and set their accessed and dirty bits, and to callers of [`is_mapped`]. So a linked table is always shared, and
//! there is never a `&mut` to one. A table is an array of atomic words: an entry is read, and changed, by one atomic
//! operation.
//!
//! The window shows tables read-only, so that a stray write does not change them. Who changes an entry holds an [`Open`], as long
//! as which this CPU writes to read-only pages, with interrupts off. It is to be short, and nothing is written meanwhile but
//! entries and new tables: a write to a [frozen](super::frozen) page would go by unnoticed.
//!
//! # Invariants
//!
//! - A table that an entry leads to stays a table, and is never freed.
//! - A table is zero when it is linked.
//!
//! # Locks
//!
//! None.

use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::VirtAddr;
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::PageTableFlags;
use x86_64::structures::paging::page_table::PageTableLevel;

use crate::arch::memory;
use crate::arch::protection::AllWritable;
use crate::sync::IrqGuard;

/// The flags of an entry that leads to a table: they allow everything, and the entries of the pages restrict it.
pub(super) const TABLE: PageTableFlags = PageTableFlags::PRESENT.union(PageTableFlags::WRITABLE);

/// As long as this lives, the CPU that made it may change page tables, and interrupts are off.
#[derive(Debug)]
pub struct Open {
    // The order in which they are dropped.
    _all_writable: AllWritable,
    _no_interrupts: IrqGuard,
}

impl Open {
    /// Lets this CPU change page tables. Any context.
    pub fn new() -> Self {
        let no_interrupts = IrqGuard::new();
        Self {
            // SAFETY: interrupts are off, and the functions that ask for an `Open` write to entries only.
            _all_writable: unsafe { AllWritable::begin() },
            _no_interrupts: no_interrupts,
        }
    }
}

impl Default for Open {
    fn default() -> Self {
        Self::new()
    }
}

/// The bits of an entry that are a physical address.
pub(super) const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The bit of a page's entry, free for software, that says that the page is read-only only until it is written to: see
/// [`frozen`](super::frozen).
pub(super) const PROTECTED: u64 = PageTableFlags::BIT_9.bits();

/// A page table, which this CPU shares with all others.
#[repr(transparent)]
pub(super) struct Table([AtomicU64; ENTRIES]);

/// What an entry says.
pub(super) enum Entry {
    Absent,
    Table(&'static Table),
    Page,
}

impl Table {
    /// The table that all CPUs use.
    pub(super) fn root() -> &'static Self {
        // SAFETY: the CPU uses it as its root table, and it is never freed.
        unsafe { Self::at(Cr3::read().0.start_address().as_u64()) }
    }

    /// # Safety
    ///
    /// There is a table at this physical address, and it is never freed.
    pub(super) unsafe fn at(physical: u64) -> &'static Self {
        let table: *const Self = ptr::with_exposed_provenance(memory::window(physical));
        // SAFETY: the caller's promise; all others use it by atomic operations, or are page walkers of CPUs.
        unsafe { &*table }
    }

    /// The entry for an address in this table, which is of level `level`.
    pub(super) fn entry(&self, level: PageTableLevel, address: VirtAddr) -> &AtomicU64 {
        &self.0[usize::from(address.page_table_index(level))]
    }

    /// What the entry for an address in this table says; the table is of level `level`.
    pub(super) fn look(&self, level: PageTableLevel, address: VirtAddr) -> Entry {
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
}

/// Whether the page at `address` is mapped. Any context; the answer may be out of date at once if others map and unmap.
pub fn is_mapped(address: usize) -> bool {
    leaf(address).is_some()
}

/// Whether a write to `address` is allowed by the page tables. Any context; the answer may be out of date at once.
pub fn is_writable(address: usize) -> bool {
    const WRITABLE: u64 = PageTableFlags::WRITABLE.bits();
    // The entries that lead to tables allow everything.
    leaf(address).is_some_and(|(entry, _)| entry.load(Ordering::Acquire) & WRITABLE != 0)
}

/// The entry that maps the page around `address`, of whatever size, and its level.
fn leaf(address: usize) -> Option<(&'static AtomicU64, PageTableLevel)> {
    let address = VirtAddr::new_truncate(address as u64);
    let mut table = Table::root();
    let mut level = PageTableLevel::Four;
    loop {
        match table.look(level, address) {
            Entry::Absent => return None,
            Entry::Page => return Some((table.entry(level, address), level)),
            Entry::Table(lower) => table = lower,
        }
        level = level.next_lower_level()?;
    }
}

/// The entry of the page at `address`; `None` where none is mapped, and where a larger page is. Any context.
pub(super) fn page_entry(address: usize) -> Option<&'static AtomicU64> {
    leaf(address)
        .filter(|&(_, level)| level == PageTableLevel::One)
        .map(|(entry, _)| entry)
}

/// The entry of the top table for the 512 GiB around `address`.
pub(super) fn top_entry(address: usize) -> &'static AtomicU64 {
    Table::root().entry(PageTableLevel::Four, VirtAddr::new_truncate(address as u64))
}

/// The entry at an index of the table at a physical address.
///
/// # Safety
///
/// There is a table, and it stays as long as the result is used.
pub(super) unsafe fn entry_at<'a>(table: u64, index: usize) -> &'a AtomicU64 {
    let first: *mut u64 = ptr::with_exposed_provenance_mut(memory::window(table));
    // SAFETY: the caller's promise: inside a table, whose entries all use as atomic words.
    unsafe { AtomicU64::from_ptr(first.wrapping_add(index % ENTRIES)) }
}

/// Removes all mappings of the lower half of the address space: the boot loader's page, in which it entered the kernel.
///
/// # Safety
///
/// Nobody uses the lower half; this CPU runs alone.
pub(super) unsafe fn clear_lower_half(_open: &Open) {
    for entry in &Table::root().0[..ENTRIES / 2] {
        entry.store(0, Ordering::Relaxed);
    }
}

/// Entries of a table.
pub(super) const ENTRIES: usize = 512;

/// What [`walk`] finds.
pub(super) enum Found {
    /// A table, at this physical address.
    Table(u64),
    /// A page, or a larger one.
    Mapped(Mapping),
}

/// A mapping, as all levels of tables together have it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mapping {
    /// The first address.
    pub start: usize,
    /// How many bytes are mapped.
    pub len: usize,
    /// The physical address of the first byte.
    pub physical: u64,
    /// What may be done: writable and a user's where all levels say so, not executable where one does.
    pub flags: PageTableFlags,
}

/// Shows all tables, from the top down, and all that they map, to `look`, until it fails.
pub(super) fn walk<E>(look: &mut dyn FnMut(Found) -> Result<(), E>) -> Result<(), E> {
    let all = PageTableFlags::WRITABLE | PageTableFlags::USER_ACCESSIBLE;
    Table::root().walk(PageTableLevel::Four, 0, all, look)
}

impl Table {
    fn walk<E>(
        &self,
        level: PageTableLevel,
        start: u64,
        above: PageTableFlags,
        look: &mut dyn FnMut(Found) -> Result<(), E>,
    ) -> Result<(), E> {
        let physical = ptr::from_ref(self).addr() as u64 - memory::PHYSICAL_WINDOW;
        look(Found::Table(physical))?;
        let allows = PageTableFlags::WRITABLE | PageTableFlags::USER_ACCESSIBLE;
        for index in 0..ENTRIES as u64 {
            let address = start + index * level.entry_address_space_alignment();
            let address = VirtAddr::new_truncate(address);
            let entry = self.entry(level, address).load(Ordering::Acquire);
            let own = PageTableFlags::from_bits_truncate(entry);
            let flags = (own & above & allows) | ((own | above) & PageTableFlags::NO_EXECUTE);
            match (self.look(level, address), level.next_lower_level()) {
                (Entry::Table(table), Some(next)) => {
                    table.walk(next, address.as_u64(), flags, look)?;
                }
                (Entry::Page, _) => look(Found::Mapped(Mapping {
                    start: address.as_u64() as usize,
                    len: level.entry_address_space_alignment() as usize,
                    physical: entry & ADDRESS & !(level.entry_address_space_alignment() - 1),
                    flags,
                }))?,
                _ => {}
            }
        }
        Ok(())
    }
}
