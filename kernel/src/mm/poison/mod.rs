//! Poison and red zones: how writes to memory that is not the writer's are caught, where `kmemleak.poison=on` asks for it.
//!
//! | bytes | what | where |
//! | --- | --- | --- |
//! | 0x6b | *poison*: free memory | slabs' free objects, which are looked at before they are used again; freed pages, which are not |
//! | 0x5a | memory that was just handed out | slabs' objects |
//! | 0xbb | a *red zone*: nobody's memory | round each object of a slab; between the end of a large block and that of its pages |
//!
//! As words these are addresses of nothing, so the leak detector finds no pointer in them that was not there before.
//!
//! # What is covered
//!
//! - All slab caches, also those that the detector is not told of: see [`slab`](super::slab).
//! - Blocks of the global allocator of more than 8192 bytes: a red zone from the end that was asked for to that of the last page,
//!   looked at when the block is freed. They have no quarantine, and what is written to freed pages is not noticed.
//! - A vmalloc block needs none of this: it lies between guard pages, and is unmapped when it is freed, so that a write faults.
//! - Not covered: the boot heap, per-CPU blocks, confined code, and what users of the page allocator take from it themselves.
//!
//! The global allocator never grows a block in place, so a block's red zone stays where it is.
//!
//! # What happens
//!
//! What was overwritten is printed at once, with who allocated and who freed the block, and put right; the kernel goes on. Nothing
//! here takes memory or a lock.

mod call_stack;
mod damage;
mod slack;

use core::ops::Range;
use core::ptr;

pub(super) use self::call_stack::CallStack;
pub use self::call_stack::{Outside, init};
pub use self::damage::count;
pub(super) use self::damage::{Damage, Found, Report, tell_history, tell_refused_free};
pub(super) use self::slack::Large;
pub use super::page::POISON;

/// What red zones are filled with.
pub const RED_ZONE: u8 = 0xbb;

/// What an object of a slab is filled with when it is handed out.
pub const FRESH: u8 = 0x5a;

/// Fills memory with one byte.
///
/// # Safety
///
/// The memory may be written to, and is nobody's at the moment.
pub(super) unsafe fn fill(place: Range<usize>, byte: u8) {
    let start: *mut u8 = ptr::with_exposed_provenance_mut(place.start);
    // SAFETY: the caller's promise.
    unsafe { start.write_bytes(byte, place.len()) };
}

/// The bytes that are not `byte`: from the first to the last of them. Others may write there meanwhile, by mistake.
///
/// # Safety
///
/// The memory can be read.
pub(super) unsafe fn changed(place: Range<usize>, byte: u8) -> Option<Range<usize>> {
    const WORD: usize = size_of::<u64>();
    let expected = u64::from_ne_bytes([byte; WORD]);
    let is_changed = |at: usize| {
        // SAFETY: in the place, as the callers below have it.
        unsafe { byte_at(at) != byte }
    };
    let is_whole = |at: usize| {
        // SAFETY: aligned, and in the place.
        let word = unsafe { ptr::with_exposed_provenance::<u64>(at).read_volatile() };
        word == expected
    };
    let words = place.start.next_multiple_of(WORD)..place.end & !(WORD - 1);
    // Nearly always all of it is as it was.
    if words.start < words.end
        && words.clone().step_by(WORD).all(is_whole)
        && !(place.start..words.start).any(is_changed)
        && !(words.end..place.end).any(is_changed)
    {
        return None;
    }
    let first = place.clone().find(|&at| is_changed(at))?;
    let last = place.rev().find(|&at| is_changed(at))?;
    Some(first..last + 1)
}

/// A byte that others may be writing to.
///
/// # Safety
///
/// It can be read.
unsafe fn byte_at(address: usize) -> u8 {
    // SAFETY: the caller's promise.
    unsafe { ptr::with_exposed_provenance::<u8>(address).read_volatile() }
}
