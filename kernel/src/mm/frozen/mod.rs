//! Memory as it was at one moment, for the leak detector, while all goes on writing to it.
//!
//! While the world is stopped, the memory that allocators hand out becomes read-only: the window by one entry of the top page
//! table, which then leads to tables of 4 KiB pages that were made before ([`window`]); vmalloc's buffers and the boot heap page by
//! page. The first write to a page faults. The handler copies the page, makes it writable, and the write is done again
//! ([`copies`]). Who asks for what memory held gets the copy if there is one, else what is there.
//!
//! # What is not protected, and why that is enough
//!
//! - The kernel's image (but for the boot heap), the static per-CPU areas, stacks and the descriptors of page frames: the detector
//!   reads them in the stop. Interrupts could not be delivered to a read-only stack, either.
//! - The exception stacks. A page fault has one of its own, so it may be caused by any code, on any stack, with any lock held and
//!   interrupts off; but not by its handler, which clears CR0.WP for as long as it works.
//! - No device writes to memory by itself in this machine. Buffers of one that did would have to be copied in the stop.
//!
//! The detector's metadata is protected like all else in the window, but not copied.
//!
//! # Other CPUs
//!
//! All share one set of tables. Each forgets its translations before it leaves the stop, so none writes past the protection. Later a
//! page only becomes writable: a CPU that holds the old translation faults, finds that there is nothing to do, and goes on.
//!
//! # If there is no room
//!
//! All memory is taken before the stop. When it is used up, pages become writable without a copy, and that is noted
//! ([`Lost`]): the detector gives its pass up.
//!
//! # Locks
//!
//! None in the handler: which CPU copies a page is decided by one compare and exchange, and the others wait while it copies,
//! which takes some hundred instructions with interrupts off. Vmalloc's while the areas are walked.

mod copies;
mod window;

use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};

use x86_64::VirtAddr;
use x86_64::instructions::tlb as cpu_tlb;
use x86_64::structures::paging::PageTableFlags;

use self::copies::Copies;
use self::window::Window;
use super::frame::{self, Owner, Use};
use super::heap::arena;
use super::paging::{self, Open, PROTECTED};
use super::{PAGE, vmalloc};
use crate::arch::memory;
use crate::arch::protection::AllWritable;
use crate::dev::tlb;

/// Error code of a page fault: the page is present, and was written to (Intel SDM volume 3, 4.7).
const PRESENT_AND_WRITE: u64 = 3;

const WRITABLE: u64 = PageTableFlags::WRITABLE.bits();

mod state {
    /// Nothing is protected.
    pub const OFF: u8 = 0;
    /// What is written to is copied.
    pub const FROZEN: u8 = 1;
    /// Pages become writable, without a copy.
    pub const THAWING: u8 = 2;
}

/// Relaxed where faults read it: it changes in a stopped world, or before all CPUs have answered an interrupt.
static STATE: AtomicU8 = AtomicU8::new(state::OFF);

/// What memory held is not known any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

/// Room for copies, and tables that lead to read-only pages: what [`protect`] needs.
pub struct Prepared(());

/// Takes the memory for freezing; `None` if there is not enough. Task context, by one task at a time.
pub fn prepare() -> Option<Prepared> {
    Copies::prepare()?;
    if Window::prepare().is_none() {
        Copies::release();
        return None;
    }
    Some(Prepared(()))
}

/// Gives the memory back, when the world could not be stopped.
pub fn cancel(_prepared: Prepared) {
    Window::release();
    Copies::release();
}

/// Makes memory read-only. In a stopped world, on one CPU; then all CPUs [forget](forget_translations) their translations.
pub fn protect(_prepared: &Prepared) {
    STATE.store(state::FROZEN, Ordering::Release);
    each_page_apart(&mut |entry| {
        let change = |bits: u64| {
            let flags = PageTableFlags::from_bits_truncate(bits);
            (flags.contains(PageTableFlags::WRITABLE)).then_some(bits & !WRITABLE | PROTECTED)
        };
        // Nobody else changes it, but page walkers set flags.
        let _ = entry.fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
    });
    Window::show_read_only();
}

/// Forgets this CPU's translations. In a stopped world, after [`protect`].
pub fn forget_translations() {
    cpu_tlb::flush_all();
}

/// Makes all memory writable again, and gives the copies back. Task context, with interrupts on and no spinlock held. Nobody asks any
/// more what memory held.
pub fn thaw() {
    STATE.store(state::THAWING, Ordering::Release);
    Window::show_writable();
    each_page_apart(&mut |entry| {
        let change = |bits: u64| (bits & PROTECTED != 0).then_some(bits & !PROTECTED | WRITABLE);
        // Nothing is changed where the page was unmapped meanwhile.
        let _ = entry.fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
    });
    // After this no CPU uses the tables any more, and none is in a handler that does.
    tlb::flush_all_cpus();
    STATE.store(state::OFF, Ordering::Release);
    Window::release();
    Copies::release();
}

/// Shows the entries of the pages outside the window that are protected, to be changed.
fn each_page_apart(change: &mut dyn FnMut(&AtomicU64)) {
    /// Pages whose entries are changed with interrupts off.
    const AT_ONCE: usize = 256;
    let mut each_page = |range: Range<usize>| {
        for some in range.clone().step_by(AT_ONCE * PAGE) {
            let _open = Open::new();
            let end = range.end.min(some + AT_ONCE * PAGE);
            let entries = (some..end).step_by(PAGE).filter_map(paging::page_entry);
            entries.for_each(&mut *change);
        }
    };
    each_page(arena());
    vmalloc::each_buffer(&mut each_page);
}

/// Notes that a page is the detector's own: it need not be copied.
pub fn note_metadata(page: usize) {
    if let Some(frame) = frame::frame_of(page) {
        frame.set_owner(Owner::Metadata);
    }
}

/// Pages that were copied in this freeze so far.
pub fn pages_copied() -> usize {
    Copies::count()
}

/// Whether a page fault was a write to a page that is, or was, protected: then it can be written to now, and the
/// interrupted code goes on. On the stack for page faults.
pub fn handle_fault(address: usize, error_code: u64) -> bool {
    if error_code != PRESENT_AND_WRITE {
        return false;
    }
    // SAFETY: interrupts are off in an exception's handler.
    let all_writable = unsafe { AllWritable::begin() };
    let handled = allow_write(address);
    drop(all_writable);
    if handled {
        cpu_tlb::flush(VirtAddr::new(address as u64));
    }
    handled
}

fn allow_write(address: usize) -> bool {
    let frozen = STATE.load(Ordering::Acquire);
    if let Some(number) = frame::number_of(address) {
        let Some(entry) = Window::entry(number).filter(|_| frozen != state::OFF) else {
            // The window is as it always is: if the page is writable, this CPU had not heard of that.
            return paging::is_writable(address);
        };
        let bits = entry.load(Ordering::Acquire);
        if bits & WRITABLE == 0 {
            if bits & PROTECTED == 0 || frame::frames()[number as usize].owner() == Owner::PageTable
            {
                // It was read-only before memory was frozen, or is now what is.
                return false;
            }
            if frozen == state::FROZEN {
                keep(number);
            }
            entry.fetch_or(WRITABLE, Ordering::AcqRel);
        }
        return true;
    }
    let Some(entry) = paging::page_entry(address) else {
        return false;
    };
    let bits = entry.load(Ordering::Acquire);
    if bits & PROTECTED == 0 {
        // Another CPU has made it writable; or it is read-only for good reason.
        return bits & WRITABLE != 0;
    }
    if frozen == state::FROZEN {
        keep(number_in(bits));
    }
    let change = |bits: u64| (bits & PROTECTED != 0).then_some(bits & !PROTECTED | WRITABLE);
    let _ = entry.fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
    true
}

/// The number of the frame that an entry leads to.
fn number_in(entry: u64) -> u32 {
    ((entry & paging::ADDRESS) / PAGE as u64) as u32
}

/// Copies a frame, if that is needed and has not been done.
fn keep(number: u32) {
    let is_metadata = |frame: &frame::Frame| {
        frame.usage() == (Use::Untracked, 0) && frame.owner() == Owner::Metadata
    };
    // What a block had left there before it became metadata was read when it was freed.
    if !frame::frames()
        .get(number as usize)
        .is_some_and(is_metadata)
    {
        Copies::keep(number);
    }
}

/// Reads what memory held, when it was frozen, from `address` on: whole words of a block, all in one page.
///
/// # Safety
///
/// They are mapped, and stay so until this returns.
pub unsafe fn read(address: usize, words: &mut [usize]) -> Result<(), Lost> {
    let (entry, number) = match frame::number_of(address) {
        Some(number) => match Window::entry(number) {
            Some(entry) => (entry, number),
            None => return Err(Lost),
        },
        None => {
            let entry = paging::page_entry(address).ok_or(Lost)?;
            (entry, number_in(entry.load(Ordering::Acquire)))
        }
    };
    let is_protected = || entry.load(Ordering::Acquire) & WRITABLE == 0;
    if is_protected() {
        // SAFETY: the caller's promise.
        unsafe { read_now(address, words) };
        // If it is still protected, nobody had written to it.
        fence(Ordering::Acquire);
        if is_protected() {
            return Ok(());
        }
    }
    if Copies::has_overflowed() {
        return Err(Lost);
    }
    // A page without a copy was mapped, or became metadata, since: no block of then is there.
    let from = Copies::find(number).map_or(address, |copy| copy + address % PAGE);
    // SAFETY: the caller's promise; a copy is a page that stays until memory thaws.
    unsafe { read_now(from, words) };
    Ok(())
}

/// # Safety
///
/// There are words from `address` on, that may be read.
unsafe fn read_now(address: usize, words: &mut [usize]) {
    let from: *const usize = ptr::with_exposed_provenance(address);
    for (index, word) in words.iter_mut().enumerate() {
        // SAFETY: the caller's promise; volatile, since others may write to the word meanwhile.
        *word = unsafe { from.wrapping_add(index).read_volatile() };
    }
}

/// From now on this CPU writes wherever it likes, for the report of its end: what was frozen does not matter any more.
///
/// # Safety
///
/// Interrupts are off, and stay off.
pub unsafe fn write_everywhere() {
    // SAFETY: the caller's promise.
    core::mem::forget(unsafe { AllWritable::begin() });
}

/// The window's addresses of a frame.
fn window_of(number: u32) -> usize {
    memory::window(u64::from(number) * PAGE as u64)
}
