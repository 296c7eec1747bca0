//! The buddy allocator: blocks of 2^n page frames, aligned to their size.
//!
//! A free block whose buddy (the other half of the next larger block) is free as well is merged with it. Free
//! blocks of each order are in a list through their heads' descriptors; what the frames themselves hold is
//! never looked at.
//!
//! There are two ways in: blocks for users are *tracked*, the leak detector is told of them; blocks that
//! another allocator cuts up, and the detector's own, are *untracked*. A user's blocks that the detector is not to see
//! are untracked as well, but marked as such. A block goes back the way it came.
//!
//! A block that is freed is looked at and taken from its user under the lock (`Use::Returning`), then the detector is told,
//! and then it becomes free.
//!
//! # Locks
//!
//! One, with interrupts off; nothing is called under it.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};

use bootloader_api::info::MemoryRegions;

use super::frame::{self, Frame, NO_FRAME, Use};
use super::misuse::{self, Misuse};
use super::returned::Returned;
use super::{PAGE, Wipe, wipe};
use crate::leak;
use crate::sync::{LocalIrqDisabled, SpinLock};

/// The largest order: blocks of 8 MiB.
pub const MAX_ORDER: u32 = 11;

/// Whether the leak detector is told of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// It is: the block goes to a user.
    Tracked,
    /// It is not: the block is cut up, or holds it by physical address, or is the detector's own.
    Untracked,
}

impl Tracking {
    fn usage(self) -> Use {
        match self {
            Self::Tracked => Use::Tracked,
            Self::Untracked => Use::Untracked,
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

    fn take(&mut self, order: u32) -> Option<u32> {
        let mut found =
            (order..=MAX_ORDER).find(|&order| self.lists[order as usize] != NO_FRAME)?;
        let number = self.lists[found as usize];
        self.remove(number, found);
        while found > order {
            found -= 1;
            self.push(number + (1 << found), found);
        }
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

    /// Makes the block in use that holds a frame into blocks of one frame each.
    fn split(&mut self, number: u32, tracking: Tracking) -> Result<(), Misuse> {
        // A block begins at a multiple of its size.
        let mut heads = (0..=MAX_ORDER).map(|order| (number & !((1 << order) - 1), order));
        let (head, order) = heads
            .find(|&(head, order)| descriptor(head).usage() == (tracking.usage(), order))
            .ok_or(match descriptor(number).usage().0 {
                Use::Free | Use::Returning => Misuse::DoubleFree,
                _ => Misuse::NotABlock,
            })?;
        for frame in &frame::frames()[head as usize..][..1 << order] {
            frame.set_usage(tracking.usage(), 0);
        }
        Ok(())
    }

    /// Takes a block from its user. It is free when it has been put away.
    fn take_back(&mut self, address: usize, order: u32, tracking: Tracking) -> Result<u32, Misuse> {
        let number = frame::number_of(address).ok_or(Misuse::NotABlock)?;
        if !address.is_multiple_of(PAGE) {
            return Err(Misuse::NotABlock);
        }
        let frame = descriptor(number);
        match frame.usage() {
            (Use::Free | Use::Returning, _) => return Err(Misuse::DoubleFree),
            (Use::Reserved | Use::Tail, _) => return Err(Misuse::NotABlock),
            found if found != (tracking.usage(), order) => return Err(Misuse::WrongSize),
            _ => {}
        }
        frame.set_usage(Use::Returning, order);
        Ok(number)
    }

    /// Takes a page from the user of the block that it lies in.
    fn take_part_back(&mut self, address: usize, tracking: Tracking) -> Result<u32, Misuse> {
        let number = frame::number_of(address).ok_or(Misuse::NotABlock)?;
        self.split(number, tracking)?;
        self.take_back(address, 0, tracking)
    }

    /// Makes a block free that has been taken back.
    fn put_away(&mut self, number: u32, order: u32) {
        for frame in &frame::frames()[number as usize..][..1 << order] {
            frame.set_owner(0);
        }
        self.give(number, order);
        FREE.fetch_add(1 << order, Ordering::Relaxed);
    }
}

/// The smallest order whose blocks hold `len` bytes.
pub const fn order_of(len: usize) -> u32 {
    len.div_ceil(PAGE).next_power_of_two().trailing_zeros()
}

/// Takes a block of 2^`order` frames, as the window on physical memory shows it. Its contents are
/// whatever they are. Any context.
#[unsafe(link_section = ".text.hooks")]
#[inline(never)] // Inlined, it would not be among the hooks.
pub fn alloc(order: u32, tracking: Tracking) -> Option<NonNull<u8>> {
    alloc_for(PAGE.checked_shl(order)?, order, tracking)
}

/// The same for a user who wants `len` of its bytes: what the leak detector is told. What lies behind them is nobody's.
/// Any context.
#[unsafe(link_section = ".text.hooks")]
#[inline(never)]
pub fn alloc_for(len: usize, order: u32, tracking: Tracking) -> Option<NonNull<u8>> {
    if order > MAX_ORDER {
        return None;
    }
    let number = {
        let mut buddy = BUDDY.lock();
        let number = buddy.take(order)?;
        descriptor(number).set_usage(tracking.usage(), order);
        number
    };
    FREE.fetch_sub(1 << order, Ordering::Relaxed);
    let address = frame::address_of(number);
    if tracking == Tracking::Tracked {
        leak::alloc(address, len);
    }
    NonNull::new(ptr::with_exposed_provenance_mut(address))
}

/// Takes an untracked block if nobody has the lock. For who ends the machine: whoever has it then never goes on.
pub fn try_alloc(order: u32) -> Option<NonNull<u8>> {
    if order > MAX_ORDER {
        return None;
    }
    let number = {
        let mut buddy = BUDDY.try_lock()?;
        let number = buddy.take(order)?;
        descriptor(number).set_usage(Use::Untracked, order);
        number
    };
    FREE.fetch_sub(1 << order, Ordering::Relaxed);
    NonNull::new(ptr::with_exposed_provenance_mut(frame::address_of(number)))
}

/// Gives a block back. A wrong address, order or entry is told on the console, and nothing else happens.
/// Any context.
#[unsafe(link_section = ".text.hooks")]
pub fn free(block: NonNull<u8>, order: u32, tracking: Tracking) {
    let address = block.addr().get();
    let taken = BUDDY.lock().take_back(address, order, tracking);
    let number = match taken {
        Ok(number) => number,
        Err(misuse) => return misuse::tell("pages", misuse, address),
    };
    let returned = Returned::new(address, PAGE << order);
    if tracking == Tracking::Tracked {
        leak::free(&returned);
    }
    if tracking != Tracking::Untracked {
        wipe_returned(&returned);
    }
    BUDDY.lock().put_away(number, order);
}

/// Gives back `pages` frames from `part` on, which may be a part of a block or lie in several: what remains of these
/// is single frames from then on, and is given back in this way, too. What is not in use is told on the
/// console, and nothing else happens with it. Any context.
#[unsafe(link_section = ".text.hooks")]
pub fn free_part(part: NonNull<u8>, pages: usize, tracking: Tracking) {
    let start = part.addr().get();
    for address in (0..pages).map(|page| start + page * PAGE) {
        let taken = BUDDY.lock().take_part_back(address, tracking);
        let number = match taken {
            Ok(number) => number,
            Err(misuse) => {
                misuse::tell("pages", misuse, address);
                continue;
            }
        };
        let returned = Returned::new(address, PAGE);
        if tracking == Tracking::Tracked {
            leak::free_part(&returned);
            wipe_returned(&returned);
        }
        BUDDY.lock().put_away(number, 0);
    }
}

/// Clears what a user has given up, if freed blocks are cleared.
fn wipe_returned(block: &Returned) {
    if wipe() == Wipe::OnFree {
        let start: *mut u8 = ptr::with_exposed_provenance_mut(block.start());
        // SAFETY: frames that a user has given up, and nobody else has yet.
        unsafe { start.write_bytes(0, block.len()) };
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

/// Takes over the usable memory.
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

/// Looks whether lists and descriptors agree.
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
