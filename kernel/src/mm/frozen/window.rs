//! The window on physical memory a second time: tables that map the same frames in pages of 4 KiB, read-only.
//!
//! They are made while the world runs, and are put into use by one entry of the top table. They take a page for each 2 MiB of
//! memory, and are given back when memory thaws. What the window does not show, or shows read-only, they show in the same way;
//! all else is read-only until it is written to, and a bit of the entry says so ([`PROTECTED`]).
//!
//! Some frames are writable from the start: see [`super`].

use core::ops::Range;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::structures::paging::PageTableFlags;

use super::WRITABLE;
use crate::arch::{memory, percpu};
use crate::mm::buddy::{self, Tracking};
use crate::mm::paging::{self, ADDRESS, ENTRIES, Open, PROTECTED};
use crate::mm::{PAGE, frame};

const TABLE: u64 = PageTableFlags::PRESENT.bits() | WRITABLE;
const HUGE: u64 = PageTableFlags::HUGE_PAGE.bits();

/// Physical address of the upper table; zero while there is none.
static UPPER: AtomicU64 = AtomicU64::new(0);
/// The entry of the top table that leads to the window as it was.
static BEFORE: AtomicU64 = AtomicU64::new(0);

/// A zeroed table: its physical address.
fn new_table() -> Option<u64> {
    let page = buddy::alloc(0, Tracking::Untracked)?;
    // SAFETY: a frame that was allocated just now.
    unsafe { page.write_bytes(0, PAGE) };
    Some(page.addr().get() as u64 - memory::PHYSICAL_WINDOW)
}

fn give_back(table: u64) {
    if let Some(page) = NonNull::new(ptr::with_exposed_provenance_mut(memory::window(table))) {
        buddy::free(page, 0, Tracking::Untracked);
    }
}

/// Indices of a frame in the upper table, the middle one and the lower one.
fn indices(number: usize) -> [usize; 3] {
    [
        number >> 18,
        number >> 9 & (ENTRIES - 1),
        number & (ENTRIES - 1),
    ]
}

pub(super) struct Window;

impl Window {
    /// Makes the tables; `None` if there is no memory for them.
    pub(super) fn prepare() -> Option<()> {
        let upper = new_table()?;
        UPPER.store(upper, Ordering::Release);
        let made = Self::fill(upper);
        if made.is_none() {
            Self::release();
        }
        made
    }

    fn fill(upper: u64) -> Option<()> {
        let before = paging::top_entry(memory::window(0)).load(Ordering::Acquire);
        BEFORE.store(before, Ordering::Relaxed);
        let frames = frame::frames().len();
        for index in 0..ENTRIES {
            // SAFETY: the window's own table, which stays.
            let old = unsafe { paging::entry_at(before & ADDRESS, index) }.load(Ordering::Acquire);
            let is_memory = index << 18 < frames && old != 0;
            let new = match is_memory {
                true => Self::middle(index << 18, old, frames)?,
                false => old,
            };
            // SAFETY: the new table, which nobody else uses.
            unsafe { paging::entry_at(upper, index) }.store(new, Ordering::Relaxed);
        }
        Self::leave_writable();
        Some(())
    }

    /// The entry of a new table for the GiB that begins with a frame. `old` is that of the window's table.
    fn middle(first: usize, old: u64, frames: usize) -> Option<u64> {
        let middle = new_table()?;
        for index in 0..ENTRIES {
            let from = first + (index << 9);
            // SAFETY: the window's own table, which stays.
            let old = unsafe { paging::entry_at(old & ADDRESS, index) }.load(Ordering::Acquire);
            let is_memory = from < frames && old != 0;
            let new = match is_memory {
                true => Self::lower(old),
                false => Some(old),
            };
            let Some(new) = new else {
                Self::give_middle_back(middle, first);
                return None;
            };
            // SAFETY: the new table, which nobody else uses.
            unsafe { paging::entry_at(middle, index) }.store(new, Ordering::Relaxed);
        }
        Some(middle | TABLE)
    }

    /// The entry of a new table for 2 MiB. `old` is the window's entry, for a large page or a table.
    fn lower(old: u64) -> Option<u64> {
        let lower = new_table()?;
        for index in 0..ENTRIES {
            let page = match old & HUGE {
                // SAFETY: the window's own table, which stays.
                0 => unsafe { paging::entry_at(old & ADDRESS, index) }.load(Ordering::Acquire),
                _ => (old & !HUGE) + (index * PAGE) as u64,
            };
            let new = match page & WRITABLE {
                0 => page,
                _ => page & !WRITABLE | PROTECTED,
            };
            // SAFETY: the new table, which nobody else uses.
            unsafe { paging::entry_at(lower, index) }.store(new, Ordering::Relaxed);
        }
        Some(lower | TABLE)
    }

    /// Gives a middle table and its lower ones back.
    fn give_middle_back(middle: u64, first: usize) {
        let frames = frame::frames().len();
        for index in (0..ENTRIES).take_while(|index| first + (index << 9) < frames) {
            // SAFETY: a table of ours.
            let lower = unsafe { paging::entry_at(middle, index) }.load(Ordering::Relaxed);
            if lower != 0 {
                give_back(lower & ADDRESS);
            }
        }
        give_back(middle);
    }

    /// Gives all tables back. They are not in use.
    pub(super) fn release() {
        let upper = UPPER.swap(0, Ordering::AcqRel);
        if upper == 0 {
            return;
        }
        let frames = frame::frames().len();
        for index in (0..ENTRIES).take_while(|index| index << 18 < frames) {
            // SAFETY: a table of ours.
            let middle = unsafe { paging::entry_at(upper, index) }.load(Ordering::Relaxed);
            if middle != 0 {
                Self::give_middle_back(middle & ADDRESS, index << 18);
            }
        }
        give_back(upper);
    }

    /// Lets those frames be written to that are read in the stop. (Exception stacks are not in the window.)
    fn leave_writable() {
        let frames = frame::frames();
        Self::allow(frames.as_ptr().addr()..frames.as_ptr_range().end.addr());
        for cpu in 0..percpu::cpus() {
            if let Some(area) = percpu::area(cpu) {
                Self::allow(area..area + percpu::area_len());
            }
        }
    }

    fn allow(range: Range<usize>) {
        let first = range.start & !(PAGE - 1);
        for page in (first..range.end).step_by(PAGE) {
            // CPU 0's lie in the image, and not in the window.
            if let Some(entry) = frame::number_of(page).and_then(Self::entry) {
                entry.fetch_or(WRITABLE, Ordering::Relaxed);
            }
        }
    }

    /// Puts the read-only tables into use. In a stopped world.
    pub(super) fn show_read_only() {
        let _open = Open::new();
        let upper = UPPER.load(Ordering::Acquire);
        paging::top_entry(memory::window(0)).store(upper | TABLE, Ordering::Release);
    }

    /// Puts the tables into use that were there before.
    pub(super) fn show_writable() {
        let _open = Open::new();
        let before = BEFORE.load(Ordering::Relaxed);
        paging::top_entry(memory::window(0)).store(before, Ordering::Release);
    }

    /// The entry of a frame's page; `None` without tables, and where the window shows nothing. The tables stay as long as memory
    /// is frozen.
    pub(super) fn entry(number: u32) -> Option<&'static AtomicU64> {
        let upper = UPPER.load(Ordering::Acquire);
        let number = number as usize;
        if upper == 0 || number >= frame::frames().len() {
            return None;
        }
        let [high, middle, low] = indices(number);
        // SAFETY: a table of ours, which leads to one for each frame.
        let table = unsafe { paging::entry_at(upper, high) }.load(Ordering::Relaxed) & ADDRESS;
        if table == 0 {
            return None;
        }
        // SAFETY: as above.
        let table = unsafe { paging::entry_at(table, middle) }.load(Ordering::Relaxed) & ADDRESS;
        if table == 0 {
            return None;
        }
        // SAFETY: as above.
        Some(unsafe { paging::entry_at(table, low) })
    }
}
