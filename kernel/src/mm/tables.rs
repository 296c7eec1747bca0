//! Frames for page tables: zeroed, and read-only in the [window](super::window).
//!
//! They are taken from the buddy allocator's untracked entry in small blocks, since making a frame read-only may need a table
//! itself: the window's large page around it is split into pages. Another CPU may still write to a new table by a translation of
//! the large page that it remembers, until it flushes them: the protection is against stray writes, and need not be complete at
//! once.
//!
//! # Locks
//!
//! One, over the frames in hand, with interrupts off. The buddy allocator's is taken under it.

use core::sync::atomic::Ordering;

use arrayvec::ArrayVec;
use x86_64::instructions::tlb as cpu_tlb;

use super::buddy::{self, Tracking};
use super::frame::{self, Owner};
use super::paging::{self, ADDRESS, Found, Open};
use super::{PAGE, window};
use crate::arch::memory;
use crate::sync::{LocalIrqDisabled, SpinLock};

/// Frames are taken in blocks of 2^order, or less if memory is short, but at least two: one may be needed to split a large page.
const ORDERS: core::ops::RangeInclusive<u32> = 1..=3;

/// Physical addresses of frames in hand. Two that were given back may come on top of a block.
type Frames = ArrayVec<u64, 16>;

static FRAMES: SpinLock<Frames, LocalIrqDisabled> = SpinLock::new(Frames::new_const());

/// A zeroed frame for a page table: its physical address. Any context.
pub(super) fn take() -> Option<u64> {
    let mut frames = FRAMES.lock();
    if frames.is_empty() {
        refill(&mut frames)?;
    }
    frames.pop()
}

/// Takes a frame back that was never linked, so that it is still zeroed. Any context.
pub(super) fn give_back(physical: u64) {
    // Where there is no room for it, it stays unused: tables are given back by CPUs that were slower than another, a few at once.
    let _ = FRAMES.lock().try_push(physical);
}

fn refill(frames: &mut Frames) -> Option<()> {
    let (block, order) = ORDERS
        .rev()
        .find_map(|order| Some((buddy::alloc(order, Tracking::Untracked)?, order)))?;
    {
        // While memory is frozen, these frames stay read-only.
        let _open = Open::new();
        // SAFETY: allocated just now, and not shared yet.
        unsafe { block.write_bytes(0, PAGE << order) };
    }
    let first = block.addr().get() as u64 - memory::PHYSICAL_WINDOW;
    frames.extend((0..1 << order).map(|index| first + index * PAGE as u64));
    for index in 0..1 << order {
        let physical = first + index * PAGE as u64;
        note(physical);
        // The first one may take a frame of this block, of which there are two; the others lie in the same large page.
        window::protect(physical, &mut || frames.pop());
    }
    Some(())
}

/// Notes that a frame is a page table.
pub(super) fn note(physical: u64) {
    if let Some(frame) = frame::frame_of(memory::window(physical)) {
        frame.set_owner(Owner::PageTable);
    }
}

/// Makes read-only in the window what is to be: the image's code and constants, and the tables that are in use. Called once, on
/// the boot CPU, while it runs alone.
pub(super) fn protect_all() {
    protect_image();
    protect_tables();
    cpu_tlb::flush_all();
}

/// Makes a frame read-only in the window. The frame for a table is taken before it is looked whether one is needed: taking one
/// may split the very page that is to be split.
fn protect(physical: u64) {
    let mut spare = take();
    window::protect(physical, &mut || spare.take());
    if let Some(unused) = spare {
        give_back(unused);
    }
}

/// Makes the frames of the image's code and constants read-only.
fn protect_image() {
    for section in [memory::text(), memory::rodata()] {
        for page in (section.start..section.end).step_by(PAGE) {
            let entry = paging::page_entry(page).expect("the image is mapped in pages");
            let physical = entry.load(Ordering::Relaxed) & ADDRESS;
            if let Some(frame) = frame::frame_of(memory::window(physical)) {
                frame.set_owner(Owner::Image);
            }
            protect(physical);
        }
    }
}

/// Makes all page tables read-only that are in use.
fn protect_tables() {
    let done: Result<(), core::convert::Infallible> = paging::walk(&mut |found| {
        if let Found::Table(physical) = found {
            note(physical);
            protect(physical);
        }
        Ok(())
    });
    let Ok(()) = done;
}
