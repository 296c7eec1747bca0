//! The buddy allocator: blocks of 2^n page frames, aligned to their size.
//!
//! A free block whose buddy (the other half of the next larger block) is free as well is merged with it. Free
//! blocks of each order are in a list through their heads' descriptors; the contents of
//! the frames are never read.
//!
//! There are two entries: blocks for users are *tracked*, the leak detector is told of them; blocks that
//! another allocator cuts up, and the detector's own, are *untracked*. A block is freed through the entry by which it
//! was allocated.
//!
//! # Locks
//!
//! One, with interrupts off; nothing is called under it.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};

use bootloader_api::info::MemoryRegions;

use super::frame::{self, Frame, NO_FRAME, Owner, Use};
use super::misuse::{Audience, Misuse};
use super::poison::Large;
use super::release::{Allocator, Retired, release};
use super::{Freed, PAGE, freed};
use crate::leak::hooks;
use crate::sync::{LocalIrqDisabled, SpinLock};

/// The largest order: blocks of 8 MiB.
pub const MAX_ORDER: u32 = 11;

/// Whether the leak detector is told of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// The detector is told: the block goes to a user.
    Tracked,
    /// The detector is not told: the block is cut up, is held by physical address only, or is the detector's own.
    Untracked,
}

impl Tracking {
    fn usage(self) -> Use {
        match self {
            Self::Tracked => Use::Tracked,
            Self::Untracked => Use::Untracked,
        }
    }

    fn audience(self) -> Audience {
        match self {
            Self::Tracked => Audience::Detector,
            Self::Untracked => Audience::Nobody,
        }
    }
}

struct Buddy {
    /// Heads of the lists of free blocks, by order.
    lists: [u32; MAX_ORDER as usize + 1],
}

static BUDDY: SpinLock<Buddy, LocalIrqDisabled> = SpinLock::new(Buddy {
    lists: [NO_FRAME; MAX_ORDER as usize + 1],
});

static TOTAL: AtomicUsize = AtomicUsize::new(0);
static FREE: AtomicUsize = AtomicUsize::new(0);

fn descriptor(number: u32) -> &'static Frame {
    &frame::frames()[number as usize]
}

impl Buddy {
    fn push(&mut self, number: u32, order: u32) {
        let list = &mut self.lists[order as usize];
        let frame = descriptor(number);
        frame.set_usage(Use::Free, order);
        frame.set_previous(NO_FRAME);
        frame.set_next(*list);
        if *list != NO_FRAME {
            descriptor(*list).set_previous(number);
        }
        *list = number;
    }

    fn remove(&mut self, number: u32, order: u32) {
        let frame = descriptor(number);
        let (next, previous) = (frame.next(), frame.previous());
        match previous {
            NO_FRAME => self.lists[order as usize] = next,
            previous => descriptor(previous).set_next(next),
        }
        if next != NO_FRAME {
            descriptor(next).set_previous(previous);
        }
        frame.set_next(NO_FRAME);
        frame.set_previous(NO_FRAME);
        frame.set_usage(Use::Tail, 0);
    }

    /// Takes a block into use.
    fn take(&mut self, order: u32, usage: Use) -> Option<u32> {
        let mut found =
            (order..=MAX_ORDER).find(|&order| self.lists[order as usize] != NO_FRAME)?;
        let number = self.lists[found as usize];
        self.remove(number, found);
        while found > order {
            found -= 1;
            self.push(number + (1 << found), found);
        }
        descriptor(number).set_usage(usage, order);
        FREE.fetch_sub(1 << order, Ordering::Relaxed);
        Some(number)
    }

    fn give(&mut self, mut number: u32, mut order: u32) {
        while order < MAX_ORDER {
            let buddy = number ^ (1 << order);
            let is_free = frame::frames()
                .get(buddy as usize)
                .is_some_and(|frame| frame.usage() == (Use::Free, order));
            if !is_free {
                break;
            }
            self.remove(buddy, order);
            descriptor(number).set_usage(Use::Tail, 0);
            number = number.min(buddy);
            order += 1;
        }
        self.push(number, order);
    }

    /// Takes a block from its user, and returns the number of its head.
    fn retire(&mut self, address: usize, order: u32, tracking: Tracking) -> Result<u32, Misuse> {
        let number = number_at(address)?;
        match descriptor(number).usage() {
            (Use::Free | Use::Retired, _) => return Err(Misuse::DoubleFree),
            (Use::Absent | Use::Reserved | Use::Tail, _) => return Err(Misuse::NotABlock),
            found if found != (tracking.usage(), order) => return Err(Misuse::WrongSize),
            _ => {}
        }
        descriptor(number).set_usage(Use::Retired, order);
        disown(number, 1 << order);
        Ok(number)
    }

    /// Takes frames from their user, from the one at `address` on: `wanted` of them, but none behind the end of the block that
    /// they lie in. The rest of that block becomes single frames. Returns the frames taken.
    fn retire_part(
        &mut self,
        address: usize,
        wanted: u32,
        tracking: Tracking,
    ) -> Result<Frames, Misuse> {
        let first = number_at(address)?;
        // A block begins at a multiple of its size.
        let mut heads = (0..=MAX_ORDER).map(|order| (first & !((1 << order) - 1), order));
        let (head, order) = heads
            .find(|&(head, order)| descriptor(head).usage() == (tracking.usage(), order))
            .ok_or(match descriptor(first).usage().0 {
                Use::Free | Use::Retired => Misuse::DoubleFree,
                _ => Misuse::NotABlock,
            })?;
        for frame in &frame::frames()[head as usize..][..1 << order] {
            frame.set_usage(tracking.usage(), 0);
        }
        let count = wanted.min(head + (1 << order) - first);
        for frame in &frame::frames()[first as usize..][..count as usize] {
            frame.set_usage(Use::Retired, 0);
        }
        disown(first, count);
        Ok(Frames { first, count })
    }
}

/// The number of the frame that begins at `address`.
fn number_at(address: usize) -> Result<u32, Misuse> {
    let number = frame::number_of(address).ok_or(Misuse::NotABlock)?;
    match address.is_multiple_of(PAGE) {
        true => Ok(number),
        false => Err(Misuse::NotABlock),
    }
}

fn disown(first: u32, count: u32) {
    for frame in &frame::frames()[first as usize..][..count as usize] {
        frame.set_owner(Owner::User(0));
    }
}

/// Consecutive frames.
#[derive(Clone, Copy)]
struct Frames {
    first: u32,
    count: u32,
}

/// Fills frames that were taken from their user, if they were tracked and freed blocks are to be filled.
fn wipe_frames(frames: Frames, tracking: Tracking) {
    if tracking != Tracking::Untracked
        && let Some(byte) = freed().fill()
    {
        let start: *mut u8 = ptr::with_exposed_provenance_mut(frame::address_of(frames.first));
        // SAFETY: frames that were taken from their user, and are not free yet.
        unsafe { start.write_bytes(byte, frames.count as usize * PAGE) };
    }
}

/// How whole blocks are freed.
struct Blocks {
    /// Bytes that the user has asked for.
    len: usize,
    order: u32,
    tracking: Tracking,
}

impl Allocator for Blocks {
    type Block = u32;
    type Done = ();

    fn name(&self) -> &'static str {
        "pages"
    }

    fn audience(&self) -> Audience {
        self.tracking.audience()
    }

    fn retire(&self, address: usize) -> Result<u32, Misuse> {
        BUDDY.lock().retire(address, self.order, self.tracking)
    }

    #[inline(always)]
    fn tell(&self, retired: &Retired<u32>) {
        hooks::free(retired);
    }

    #[inline(always)]
    fn put(&self, first: u32) {
        let count = 1 << self.order;
        if self.tracking == Tracking::Tracked
            && let Some(large) = guarded(frame::address_of(first), self.len, self.order)
        {
            // SAFETY: begun when the block was allocated; taken from its user, and not free yet.
            unsafe { large.end() };
        }
        wipe_frames(Frames { first, count }, self.tracking);
        BUDDY.lock().give(first, self.order);
        FREE.fetch_add(count as usize, Ordering::Relaxed);
    }
}

/// A block with a red zone, if there are red zones, and this one has room for one.
#[inline]
fn guarded(start: usize, len: usize, order: u32) -> Option<Large> {
    let end = start + (PAGE << order);
    let block = start..start + len;
    (freed() == Freed::Poisoned && block.end < end).then_some(Large { block, end })
}

/// How parts of blocks are freed.
struct Parts {
    wanted: u32,
    tracking: Tracking,
}

impl Allocator for Parts {
    type Block = Frames;
    /// How many frames were freed.
    type Done = u32;

    fn name(&self) -> &'static str {
        "pages"
    }

    fn audience(&self) -> Audience {
        self.tracking.audience()
    }

    fn retire(&self, address: usize) -> Result<Frames, Misuse> {
        BUDDY
            .lock()
            .retire_part(address, self.wanted, self.tracking)
    }

    #[inline(always)]
    fn tell(&self, retired: &Retired<Frames>) {
        hooks::free_part(retired, retired.block().count as usize * PAGE);
    }

    fn put(&self, frames: Frames) -> u32 {
        wipe_frames(frames, self.tracking);
        for number in frames.first..frames.first + frames.count {
            BUDDY.lock().give(number, 0);
        }
        FREE.fetch_add(frames.count as usize, Ordering::Relaxed);
        frames.count
    }
}

/// The smallest order whose blocks hold `len` bytes.
pub const fn order_of(len: usize) -> u32 {
    len.div_ceil(PAGE).next_power_of_two().trailing_zeros()
}

/// Allocates a block of 2^`order` frames, and returns its address in the window on physical memory. Its contents
/// are undefined. Any context.
#[unsafe(link_section = ".text.hooks")]
#[inline(never)] // Inlined, it would not be among the hooks.
pub fn alloc(order: u32, tracking: Tracking) -> Option<NonNull<u8>> {
    alloc_for(PAGE.checked_shl(order)?, order, tracking)
}

/// Allocates like [`alloc()`], for a user who wants `len` bytes of the block: the leak detector is told that size. The bytes
/// behind them are unused; where there are red zones, the block is freed by [`free_for`], and they are one. Any context.
#[unsafe(link_section = ".text.hooks")]
#[inline(never)]
pub fn alloc_for(len: usize, order: u32, tracking: Tracking) -> Option<NonNull<u8>> {
    let number = BUDDY.lock().take(order, tracking.usage())?;
    let address = frame::address_of(number);
    if tracking == Tracking::Tracked {
        if let Some(large) = guarded(address, len, order) {
            // SAFETY: taken just now.
            unsafe { large.begin() };
        }
        hooks::alloc(address, len);
    }
    NonNull::new(ptr::with_exposed_provenance_mut(address))
}

/// Allocates an untracked block if the lock is free. For the CPU that ends the machine, when a holder never releases the lock.
pub fn try_alloc(order: u32) -> Option<NonNull<u8>> {
    let number = BUDDY.try_lock()?.take(order, Use::Untracked)?;
    NonNull::new(ptr::with_exposed_provenance_mut(frame::address_of(number)))
}

/// Frees a block. If address, order or entry are wrong, the error is printed, and nothing else happens.
/// Any context.
#[unsafe(link_section = ".text.hooks")]
pub fn free(block: NonNull<u8>, order: u32, tracking: Tracking) {
    let len = PAGE.checked_shl(order).unwrap_or_default();
    free_for(block, len, order, tracking);
}

/// Frees like [`free`] a block that was [allocated for](alloc_for) `len` bytes. Any context.
#[unsafe(link_section = ".text.hooks")]
#[inline]
pub(super) fn free_for(block: NonNull<u8>, len: usize, order: u32, tracking: Tracking) {
    let blocks = Blocks {
        len,
        order,
        tracking,
    };
    let _refused_or_done = release(&blocks, block.addr().get());
}

/// Frees `pages` frames from `part` on, which may be a part of a block or lie in several blocks. The rest of these blocks
/// becomes single frames, to be freed by this function, too. For a frame that is not in use the error is printed, and the
/// frame is skipped. Any context.
#[unsafe(link_section = ".text.hooks")]
pub fn free_part(part: NonNull<u8>, pages: usize, tracking: Tracking) {
    let mut address = part.addr().get();
    let mut left = pages;
    while left > 0 {
        let wanted = u32::try_from(left).unwrap_or(u32::MAX);
        // Frames of one block are one object, or a part of it: the detector is told of them in one call. Of single frames, which
        // an earlier call has left, it is told one by one, because they may belong to several objects.
        let given = release(&Parts { wanted, tracking }, address);
        let passed = given.unwrap_or(1) as usize;
        address = address.wrapping_add(passed * PAGE);
        left -= passed;
    }
}

/// Page frames that this allocator manages.
pub fn total_pages() -> usize {
    TOTAL.load(Ordering::Relaxed)
}

/// Page frames that are free.
pub fn free_pages() -> usize {
    FREE.load(Ordering::Relaxed)
}

/// Adds the usable memory to the free lists.
pub(super) fn init(regions: &MemoryRegions) {
    let mut buddy = BUDDY.lock();
    for (start, end) in frame::usable(regions) {
        let (mut number, end) = ((start / PAGE as u64) as u32, (end / PAGE as u64) as u32);
        TOTAL.fetch_add((end - number) as usize, Ordering::Relaxed);
        FREE.fetch_add((end - number) as usize, Ordering::Relaxed);
        for frame in &frame::frames()[number as usize..end as usize] {
            frame.set_usage(Use::Tail, 0);
        }
        while number < end {
            let fits = (end - number).ilog2();
            let order = number.trailing_zeros().min(fits).min(MAX_ORDER);
            buddy.push(number, order);
            number += 1 << order;
        }
    }
}

/// Asserts that lists and descriptors agree.
pub(super) fn check_invariants() {
    let buddy = BUDDY.lock();
    for order in 0..=MAX_ORDER {
        let (mut number, mut previous) = (buddy.lists[order as usize], NO_FRAME);
        while number != NO_FRAME {
            let frame = descriptor(number);
            assert_eq!(
                frame.usage(),
                (Use::Free, order),
                "frame {number} in the list of order {order}"
            );
            assert_eq!(frame.previous(), previous, "back link of frame {number}");
            assert!(
                number.is_multiple_of(1 << order),
                "frame {number} heads a block of order {order}"
            );
            for tail in &frame::frames()[number as usize + 1..][..(1 << order) - 1] {
                assert_eq!(
                    tail.usage().0,
                    Use::Tail,
                    "inside the block of frame {number}"
                );
            }
            let buddy_frame = frame::frames().get((number ^ (1 << order)) as usize);
            let mergeable = order < MAX_ORDER
                && buddy_frame.is_some_and(|frame| frame.usage() == (Use::Free, order));
            assert!(
                !mergeable,
                "frame {number} and its buddy of order {order} are both free"
            );
            (previous, number) = (number, frame.next());
        }
    }
}
