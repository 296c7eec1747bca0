//! The window on physical memory a second time: tables that map the same frames in pages of 4 KiB, read-only.
//!
//! They are made while the world runs, and are put into use by one entry of the top table. They take a page for each 2 MiB of
//! memory, and are given back when memory thaws. Frames that are no memory keep the entries that the boot loader made.
//!
//! Some frames are writable from the start: see [`super`].

use core::ops::Range;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::structures::paging::PageTableFlags;

use super::WRITABLE;
use crate::arch::{memory, percpu};
use crate::mm::buddy::{self, Tracking};
use crate::mm::paging::{self, ADDRESS};
use crate::mm::{PAGE, frame};

/// Entries of a table.
const ENTRIES: usize = 512;

const TABLE: u64 = PageTableFlags::PRESENT.bits() | WRITABLE;
const PAGE_READ_ONLY: u64 = PageTableFlags::PRESENT.bits() | PageTableFlags::NO_EXECUTE.bits();
const HUGE: u64 = PageTableFlags::HUGE_PAGE.bits();

/// Physical address of the upper table; zero while there is none.
static UPPER: AtomicU64 = AtomicU64::new(0);
/// The entry of the top table that leads to the window as it was.
static BEFORE: AtomicU64 = AtomicU64::new(0);

/// The entry at an index of the table at a physical address.
///
/// # Safety
///
/// There is a table, and it stays as long as the result is used.
unsafe fn entry_of<'a>(table: u64, index: usize) -> &'a AtomicU64 {
    let first: *mut u64 = ptr::with_exposed_provenance_mut(memory::window(table));
    // SAFETY: the caller's promise: inside a table, whose entries all use as atomic words.
    unsafe { AtomicU64::from_ptr(first.wrapping_add(index % ENTRIES)) }
}

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
            let old = unsafe { entry_of(before & ADDRESS, index) }.load(Ordering::Acquire);
            let is_memory = index << 18 < frames;
            let new = if is_memory {
                Self::middle(index << 18, old, frames)?
            } else {
                old
            };
            // SAFETY: the new table, which nobody else uses.
            unsafe { entry_of(upper, index) }.store(new, Ordering::Relaxed);
        }
        Self::leave_writable();
        Some(())
    }

    /// The entry of a new table for the GiB that begins with a frame.
    fn middle(first: usize, old: u64, frames: usize) -> Option<u64> {
        let middle = new_table()?;
        for index in 0..ENTRIES {
            let from = first + (index << 9);
            let new = if from < frames {
                Self::lower(from)
            } else if old & HUGE != 0 {
                Some(old + (index * ENTRIES * PAGE) as u64)
            } else {
                // SAFETY: the window's own table, which stays.
                Some(unsafe { entry_of(old & ADDRESS, index) }.load(Ordering::Acquire))
            };
            let Some(new) = new else {
                Self::give_middle_back(middle, first);
                return None;
            };
            // SAFETY: the new table, which nobody else uses.
            unsafe { entry_of(middle, index) }.store(new, Ordering::Relaxed);
        }
        Some(middle | TABLE)
    }

    /// The entry of a new table for the 2 MiB that begin with a frame.
    fn lower(first: usize) -> Option<u64> {
        let lower = new_table()?;
        for index in 0..ENTRIES {
            let frame = ((first + index) * PAGE) as u64 | PAGE_READ_ONLY;
            // SAFETY: the new table, which nobody else uses.
            unsafe { entry_of(lower, index) }.store(frame, Ordering::Relaxed);
        }
        Some(lower | TABLE)
    }

    /// Gives a middle table and its lower ones back.
    fn give_middle_back(middle: u64, first: usize) {
        let frames = frame::frames().len();
        for index in (0..ENTRIES).take_while(|index| first + (index << 9) < frames) {
            // SAFETY: a table of ours.
            let lower = unsafe { entry_of(middle, index) }.load(Ordering::Relaxed);
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
            let middle = unsafe { entry_of(upper, index) }.load(Ordering::Relaxed);
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
        let upper = UPPER.load(Ordering::Acquire);
        paging::top_entry(memory::window(0)).store(upper | TABLE, Ordering::Release);
    }

    /// Puts the tables into use that were there before.
    pub(super) fn show_writable() {
        let before = BEFORE.load(Ordering::Relaxed);
        paging::top_entry(memory::window(0)).store(before, Ordering::Release);
    }

    /// The entry of a frame's page. The tables stay as long as memory is frozen.
    pub(super) fn entry(number: u32) -> Option<&'static AtomicU64> {
        let upper = UPPER.load(Ordering::Acquire);
        let number = number as usize;
        if upper == 0 || number >= frame::frames().len() {
            return None;
        }
        let [high, middle, low] = indices(number);
        // SAFETY: a table of ours, which leads to one for each frame.
        let table = unsafe { entry_of(upper, high) }.load(Ordering::Relaxed) & ADDRESS;
        // SAFETY: as above.
        let table = unsafe { entry_of(table, middle) }.load(Ordering::Relaxed) & ADDRESS;
        // SAFETY: as above.
        Some(unsafe { entry_of(table, low) })
    }
}
