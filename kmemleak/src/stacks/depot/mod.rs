//! Call stacks, each stored once.
//!
//! Every block that is tracked knows the call stack that allocated it. Kernels have thousands of different ones,
//! not millions, so each is kept once and named by a [`StackId`] of 32 bits. Allocations ask for a name all the time,
//! and nearly always for one that was asked for before: that case is the one to be fast.
//!
//! # Entries
//!
//! A stack's entry holds its return addresses as 32-bit distances from a *text base*, which is chosen once: kernel
//! code lies within 4 GiB. A stack with an address elsewhere gets a *wide* entry: whole addresses, inverted. Beside
//! the distances stand the *links*: how far above each frame the caller's frame lay when the stack was first seen.
//! Functions have frames of fixed sizes, so the same calls leave the same links, on whichever task's stack. (Not
//! quite always: a function with overaligned locals has a frame that varies. So links are a guess that is checked,
//! never a part of what a stack is.)
//!
//! Entries lie in pages, which a directory numbers; a trace is the place of its entry, counted in units of 8 bytes.
//! They are found by a hash of their addresses, in chained buckets.
//!
//! # The fast path
//!
//! Each CPU has a row of slots that name entries of late, found by the innermost return address and its frame's
//! address. The slot's entry foretells where each frame lies and what is in it, so nothing is walked, buffered or
//! hashed: for each frame it is one comparison of the return address, one of the caller's frame pointer. All frames
//! foretold lie in the stack, aligned and upwards, if the first does and the sum of the links doesn't lead out of it.
//! So reading them is safe even if the guess is wrong, and if every word is as foretold, the full walk would have
//! found the very same addresses. Nothing is left to the hash: a hit is equality.
//!
//! Two stacks may share their slot and much of their length: a function that calls another twice, say. Where the
//! first slot's entry differs from the stack at hand, the frame of the first difference names a second slot. Only then
//! comes the full walk, the hash and the table.
//!
//! # Invariants
//!
//! - An entry is written before a bucket or a slot names it, and neither moves nor changes (but for its marks) until
//!   the depot is emptied.
//! - Two entries never hold the same addresses: an entry enters its bucket by compare-and-swap of the bucket's head,
//!   and whoever loses looks through what came in before it tries again.
//! - Slots name narrow entries with links only. They are hints: losing one costs time.
//! - Addresses of memory are kept inverted, as all that the detector keeps: a scan that strays here finds none.
//!   Distances from the text base are no addresses.
//!
//! # Locks
//!
//! None. Every word that two may use at once is an atomic, whose declaration says with what it pairs; no one waits for
//! another, so that all of it (except emptying) may run in any context: an interrupt in the midst of an insertion on the same
//! CPU as well. `kmemleak/models` runs this source in all orders that its atomics allow.

mod compare;
mod entry;
mod frames;
mod insert;
mod pairs;
mod slot;
mod walked;

use core::sync::atomic::Ordering::Relaxed;

pub(crate) use self::frames::Frames;

use self::entry::{Entries, PAGE_UNITS, StackEntry};
use self::slot::StackSlot;
use self::walked::Walked;
use crate::atomic::{AtomicU32, AtomicU64};
use crate::metadata::hidden::Hidden;
use crate::metadata::page::{Links, PAGE_WORDS, PageLink, PageSource};
use crate::platform::{METADATA_PAGE, StackWalk};
use crate::sizes::{
    DEPOT_BUCKETS as BUCKETS, DEPOT_PAGES, DEPOT_ROWS as ROWS, DEPOT_SLOTS as SLOTS,
};
use crate::stacks::frame_walk::{FrameChain, WORD, read};

/// Pages that one table of the directory names.
const FAN_OUT: usize = PAGE_WORDS;

/// Tables of the directory.
const TABLES: usize = DEPOT_PAGES / FAN_OUT;

/// What a hash multiplies by: odd, with bits all over (2^64 divided by the golden ratio).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The name of a call stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StackId(pub(crate) u32);

impl StackId {
    /// No call stack: none was to be had, or there was no memory to keep it.
    pub(crate) const NONE: Self = Self(0);
}

/// The slots of a CPU: entries of late.
#[repr(align(64))]
struct CpuSlots([StackSlot; SLOTS]);

/// All call stacks.
pub(crate) struct Depot {
    /// Slots by CPU.
    slots: [CpuSlots; ROWS],
    /// First entries of the buckets; 0 is none. A bucket publishes the entry, with all that follow in the chain:
    /// `find_or_insert` exchanges it with Release, and loads it with Acquire before it follows the chain, also where the
    /// exchange fails.
    buckets: [AtomicU32; BUCKETS],
    /// Tables that name the pages in which entries lie.
    tables: [PageLink<Links<Entries>>; TABLES],
    /// The text base, hidden; none while it is not chosen. Relaxed: it is one word, and is chosen once. Who has an entry from
    /// where it was published loads it after the one who made the entry, so does not find 0 any more.
    base: AtomicU64,
    /// The first unit that is not taken. Unit 0 is no entry's, for trace 0 is none. It hands room from one CPU to another:
    /// `unreserve` gives back with Release what it has written to, and `reserve` takes room with Acquire before it is written
    /// to again. What the exchange is to find is a guess: its load may be Relaxed.
    used: AtomicU32,
    /// Different call stacks. Only told.
    stacks: AtomicU32,
    /// Pages taken from the source. Only told.
    pages: AtomicU32,
}

impl Depot {
    pub(crate) const fn new() -> Self {
        Self {
            slots: [const { CpuSlots([const { StackSlot::new() }; SLOTS]) }; ROWS],
            buckets: [const { AtomicU32::new(0) }; BUCKETS],
            tables: [const { PageLink::new() }; TABLES],
            base: AtomicU64::new(Hidden::NONE.bits()),
            used: AtomicU32::new(1),
            stacks: AtomicU32::new(0),
            pages: AtomicU32::new(0),
        }
    }

    /// How many different call stacks there are. Any context.
    pub(crate) fn len(&self) -> u32 {
        self.stacks.load(Relaxed)
    }

    /// Bytes of memory taken. Any context.
    pub(crate) fn bytes(&self) -> usize {
        self.pages.load(Relaxed) as usize * METADATA_PAGE
    }

    /// The name of the call stack that leads here, which is kept if it is new: at most [`MAX_FRAMES`](crate::MAX_FRAMES) frames.
    /// [`StackId::NONE`] where there are none, or no memory. Any context.
    ///
    /// # Safety
    ///
    /// All of the walk's stack can be read, and its frames hold still: it is the stack of the code that calls.
    #[inline(always)]
    pub(crate) unsafe fn record(
        &self,
        walk: &StackWalk,
        cpu: u32,
        meta: &impl PageSource,
    ) -> StackId {
        // SAFETY: the caller's promise.
        let Some((chain, address)) = (unsafe { FrameChain::first_kept(walk) }) else {
            return StackId::NONE;
        };
        if let Some(entry) = self.slot(cpu, address, chain.frame()).get()
            // SAFETY: slots name entries with links; the chain stands at a frame of the stack; the caller's promise.
            && unsafe { entry.is_stack(self.base(), chain.frame(), chain.highest()) }
        {
            return StackId(entry.number().load(Relaxed));
        }
        // SAFETY: the caller's promise.
        unsafe { self.record_differing(walk, cpu, meta) }
    }

    /// Goes on where the first slot doesn't name the stack's entry.
    ///
    /// # Safety
    ///
    /// As for [`record`](Self::record).
    #[cold]
    #[inline(never)]
    unsafe fn record_differing(
        &self,
        walk: &StackWalk,
        cpu: u32,
        meta: &impl PageSource,
    ) -> StackId {
        // SAFETY: the caller's promise.
        let Some((chain, address)) = (unsafe { FrameChain::first_kept(walk) }) else {
            return StackId::NONE;
        };
        let first = self.slot(cpu, address, chain.frame());
        let mut second = first;
        if let Some(entry) = first.get() {
            let base = self.base();
            // SAFETY: as in `record`.
            let differs = unsafe { entry.differs_at(base, chain.clone()) };
            // SAFETY: a frame of the stack.
            let caller = unsafe { read(differs) };
            // SAFETY: as above.
            let address = unsafe { read(differs + WORD) };
            second = self.slot(cpu, address, differs ^ caller.rotate_left(7));
            if let Some(entry) = second.get()
                // SAFETY: as in `record`.
                && unsafe { entry.is_stack(base, chain.frame(), chain.highest()) }
            {
                return StackId(entry.number().load(Relaxed));
            }
        }
        let walked = Walked::new(chain);
        let Some((trace, entry)) = self.find_or_insert(&walked, meta) else {
            return StackId::NONE;
        };
        first.name(entry);
        second.name(entry);
        trace
    }

    /// The name of this call stack, innermost frame first, which is kept if it is new; frames beyond [`MAX_FRAMES`](crate::MAX_FRAMES)
    /// are left out. For platforms that walk their stacks themselves. Any context.
    pub(crate) fn store(&self, addresses: &[usize], meta: &impl PageSource) -> StackId {
        let walked = Walked::without_links(addresses);
        self.find_or_insert(&walked, meta)
            .map_or(StackId::NONE, |(trace, _)| trace)
    }

    /// The call stack of this name; [`Frames::NONE`] for what is no name. Any context.
    pub(crate) fn get(&self, trace: StackId) -> Frames {
        let frames = self.entry(trace.0).and_then(StackEntry::frames);
        frames.map_or(Frames::NONE, |frames| {
            Frames::of(frames.addresses(self.base()))
        })
    }

    /// Sets one of the 16 marks of a call stack and tells whether it was new. They are for the depot's user. A mark
    /// of no call stack is always new. Any context.
    pub(crate) fn mark(&self, trace: StackId, mark: u32) -> bool {
        self.entry(trace.0).is_none_or(|entry| entry.mark(mark))
    }

    /// Chooses the text base, if none is chosen yet: call stacks with all addresses less than 4 GiB above it are
    /// kept small and found fast. Without this, it is 2 GiB below this crate's own code. Any context.
    pub(crate) fn set_text_base(&self, base: usize) {
        // The one base that can't be hidden is as good one byte below.
        let hidden = Hidden::new(base.min(usize::MAX - 1)).bits();
        let none = Hidden::NONE.bits();
        let _ = self.base.compare_exchange(none, hidden, Relaxed, Relaxed);
    }

    /// The text base, once there are entries.
    #[inline(always)]
    fn base(&self) -> usize {
        Hidden::from_bits(self.base.load(Relaxed)).get()
    }

    /// The slot for stacks that have this return address in the frame at `frame`.
    #[inline(always)]
    fn slot(&self, cpu: u32, address: usize, frame: usize) -> &StackSlot {
        // Frames are aligned to two words mostly: shifted, their low bits are beside those of the code.
        let key = (address as u64).wrapping_add((frame as u64) << 3);
        let slot = key.wrapping_mul(SPREAD) >> (64 - SLOTS.ilog2());
        &self.slots[cpu as usize % ROWS].0[slot as usize % SLOTS]
    }

    /// The place of an entry, for which there is room.
    fn place(&self, number: u32) -> Option<StackEntry> {
        let page = (number / PAGE_UNITS) as usize;
        let table = self.tables.get(page / FAN_OUT)?.get()?;
        StackEntry::at(table.link(page % FAN_OUT).get()?, number % PAGE_UNITS)
    }

    /// The entry with this number. None for 0, or where no entry says that the number is its own.
    fn entry(&self, number: u32) -> Option<StackEntry> {
        let entry = self.place(number).filter(|_| number != 0)?;
        (entry.number().load(Relaxed) == number).then_some(entry)
    }

    /// Forgets all call stacks; their memory is given back by its owner.
    ///
    /// # Safety
    ///
    /// Nobody else uses the depot meanwhile, and whoever has used it is done before, as seen from here.
    pub(crate) unsafe fn empty(&self) {
        let slots = self.slots.iter().flat_map(|slots| &slots.0);
        slots.for_each(StackSlot::clear);
        self.buckets
            .iter()
            .for_each(|first| first.store(0, Relaxed));
        self.tables.iter().for_each(PageLink::clear);
        self.base.store(Hidden::NONE.bits(), Relaxed);
        self.used.store(1, Relaxed);
        self.stacks.store(0, Relaxed);
        self.pages.store(0, Relaxed);
    }
}

const _: () = assert!(SLOTS.is_power_of_two());

#[cfg(test)]
mod tests;
