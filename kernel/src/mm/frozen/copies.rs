//! Copies of the frames that were written to, found by the frame's number.
//!
//! A table of words with open addressing says where the copy of a frame lies. Its words change once: from empty to *copying*, by the
//! CPU that copies the frame, and then to the number of the copy, or to *none*. There is room for twice as many words as copies, so
//! the table is never full.

use core::hint;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::window_of;
use crate::mm::PAGE;
use crate::mm::buddy::{self, Tracking};

/// Copies are allocated in blocks of 2^order pages.
const ORDER: u32 = 6;
const PAGES: usize = 1 << ORDER;

/// Blocks at most: 64 MiB of copies.
const BLOCKS: usize = 256;

/// What share of the free memory is taken at most.
const SHARE: usize = 4;

const _: () = assert!(BLOCKS.is_power_of_two());

/// The order of the table's block: a word for each copy, twice.
const TABLE_ORDER: u32 = (BLOCKS * PAGES * 2 * size_of::<u64>() / PAGE).trailing_zeros();
const TABLE_WORDS: usize = BLOCKS * PAGES * 2;

/// Lower halves of the table's words: a frame is being copied; or it has no copy. Else the number of its copy.
const COPYING: u64 = 0xffff_ffff;
const NONE: u64 = 0xffff_fffe;

static TABLE: AtomicUsize = AtomicUsize::new(0);
static POOL: [AtomicUsize; BLOCKS] = [const { AtomicUsize::new(0) }; BLOCKS];
/// Pages in all blocks of the pool.
static ROOM: AtomicUsize = AtomicUsize::new(0);
/// Pages that were used, or asked for.
static USED: AtomicUsize = AtomicUsize::new(0);
/// Whether a frame found no room.
static FULL: AtomicBool = AtomicBool::new(false);

fn word(index: usize) -> &'static AtomicU64 {
    let first: *mut u64 = ptr::with_exposed_provenance_mut(TABLE.load(Ordering::Acquire));
    // SAFETY: a word of the table, which stays as long as memory is frozen; all use it as an atomic word.
    unsafe { AtomicU64::from_ptr(first.wrapping_add(index % TABLE_WORDS)) }
}

/// The words at which a frame may be found, beginning with the likeliest (Fibonacci hashing).
fn places(number: u32) -> impl Iterator<Item = &'static AtomicU64> {
    const GOLDEN: u32 = 0x9e37_79b9;
    let first = (number.wrapping_mul(GOLDEN) >> (32 - TABLE_WORDS.trailing_zeros())) as usize;
    (0..TABLE_WORDS).map(move |step| word(first + step))
}

fn key(number: u32) -> u64 {
    (u64::from(number) + 1) << 32
}

/// The address of a copy.
fn copy_at(index: usize) -> usize {
    POOL[index / PAGES % BLOCKS].load(Ordering::Acquire) + index % PAGES * PAGE
}

pub(super) struct Copies;

impl Copies {
    /// Takes memory for copies, up to a share of what is free; `None` if there is none.
    pub(super) fn prepare() -> Option<()> {
        let most = (buddy::free_pages() / SHARE / PAGES).min(BLOCKS);
        let table = buddy::alloc(TABLE_ORDER, Tracking::Untracked)?;
        // SAFETY: a block that was allocated just now.
        unsafe { table.write_bytes(0, PAGE << TABLE_ORDER) };
        TABLE.store(table.expose_provenance().get(), Ordering::Release);
        let mut blocks = 0;
        while blocks < most {
            let Some(block) = buddy::alloc(ORDER, Tracking::Untracked) else {
                break;
            };
            POOL[blocks].store(block.expose_provenance().get(), Ordering::Release);
            blocks += 1;
        }
        ROOM.store(blocks * PAGES, Ordering::Relaxed);
        USED.store(0, Ordering::Relaxed);
        FULL.store(false, Ordering::Relaxed);
        if blocks == 0 {
            Self::release();
            return None;
        }
        Some(())
    }

    /// Gives all memory back. Nobody uses it.
    pub(super) fn release() {
        for block in &POOL {
            if let Some(block) = pointer(block.swap(0, Ordering::AcqRel)) {
                buddy::free(block, ORDER, Tracking::Untracked);
            }
        }
        if let Some(table) = pointer(TABLE.swap(0, Ordering::AcqRel)) {
            buddy::free(table, TABLE_ORDER, Tracking::Untracked);
        }
    }

    /// Copies a frame, or waits until another CPU has copied it. With interrupts off.
    pub(super) fn keep(number: u32) {
        if Self::has_overflowed() {
            return;
        }
        let key = key(number);
        for word in places(number) {
            let claimed =
                word.compare_exchange(0, key | COPYING, Ordering::AcqRel, Ordering::Acquire);
            match claimed {
                Ok(_) => return word.store(key | Self::copy(number), Ordering::Release),
                Err(found) if found >> 32 == key >> 32 => {
                    while word.load(Ordering::Acquire) == key | COPYING {
                        hint::spin_loop();
                    }
                    return;
                }
                Err(_) => {}
            }
        }
    }

    /// Copies a frame, and returns the number of its copy.
    fn copy(number: u32) -> u64 {
        let index = USED.fetch_add(1, Ordering::Relaxed);
        if index >= ROOM.load(Ordering::Relaxed) {
            FULL.store(true, Ordering::Release);
            return NONE;
        }
        let from: *const u64 = ptr::with_exposed_provenance(window_of(number));
        let to: *mut u64 = ptr::with_exposed_provenance_mut(copy_at(index));
        for index in 0..PAGE / size_of::<u64>() {
            // SAFETY: a word of a frame of memory, which the window shows, and nobody writes to yet.
            let word = unsafe { from.wrapping_add(index).read_volatile() };
            // SAFETY: a word of a page of the pool that is this frame's alone.
            unsafe { to.wrapping_add(index).write_volatile(word) };
        }
        index as u64
    }

    /// The address of a frame's copy, if there is one. A CPU that copies it just now is waited for.
    pub(super) fn find(number: u32) -> Option<usize> {
        let key = key(number);
        for word in places(number) {
            loop {
                let found = word.load(Ordering::Acquire);
                if found == 0 {
                    return None;
                }
                if found >> 32 != key >> 32 {
                    break;
                }
                match found & 0xffff_ffff {
                    COPYING => hint::spin_loop(),
                    NONE => return None,
                    index => return Some(copy_at(index as usize)),
                }
            }
        }
        None
    }

    /// Whether a frame was written to and there was no room for its copy.
    pub(super) fn has_overflowed() -> bool {
        FULL.load(Ordering::Acquire)
    }

    pub(super) fn count() -> usize {
        USED.load(Ordering::Relaxed)
            .min(ROOM.load(Ordering::Relaxed))
    }
}

fn pointer(address: usize) -> Option<NonNull<u8>> {
    NonNull::new(ptr::with_exposed_provenance_mut(address))
}
