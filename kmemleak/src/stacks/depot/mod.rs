//! Call stacks, each stored once.
//!
//! Each record names the call stack that allocated its block. Kernels have thousands of different call stacks, not millions. So
//! each is stored once and named by a [`StackId`] of 32 bits. Each allocation asks for the id of its call stack, which nearly
//! always is stored already: so this case is made fast.
//!
//! # Entries
//!
//! A stack's entry holds its return addresses, and beside them the *links*: how far above each frame the caller's frame lay when
//! the stack was first seen.
//! Functions have frames of fixed sizes, so the same calls leave the same links, on any task's stack. (Not always: the size
//! of a frame with overaligned locals varies. So links are a guess that is checked, and no part of the call stack.)
//!
//! Entries lie in pages, which a directory numbers; an id is the place of its entry, counted in units of 8 bytes.
//! They are found by a hash of their addresses, in an [index] that grows with them.
//!
//! # The fast path
//!
//! Each CPU has slots that name entries it has used recently. The innermost return address and its frame's address choose the
//! slot. The slot's entry predicts where each frame lies and what is in it, so nothing is walked, buffered or
//! hashed: for each frame the return address is compared, and the caller's frame pointer. All predicted frames
//! lie in the stack, aligned and upwards, if the first one does and the sum of the links doesn't lead out of the stack.
//! So reading them is safe even if the prediction is wrong. If every word is as predicted, the full walk would have
//! found the same addresses. A hit is equality; nothing depends on the hash.
//!
//! Two stacks may share their slot and most of their frames: for example, a function calls another twice. Where the
//! first slot's entry differs from the stack, the frame of the first difference chooses a second slot. The full walk, the hash
//! and the table are used only if that slot's entry differs, too.
//!
//! # Invariants
//!
//! - An entry is written before the index or a slot names it, and neither moves nor changes (but for its marks) until
//!   the depot is emptied.
//! - No two entries hold the same addresses: an entry enters the index by compare-and-swap of the word that it was looked for in,
//!   and a CPU that loses looks at what entered meanwhile before it tries again.
//! - Slots name entries with links only. They are hints: a lost one costs time.
//! - Addresses are stored negated, so that they are no addresses of objects, as nothing in metadata is.
//!
//! # Locks
//!
//! None. Every word that two CPUs may use at once is an atomic, whose declaration says with what it pairs. No CPU waits for
//! another, so all of it (except emptying) may run in any context, also in an interrupt during an insertion on the same
//! CPU. `kmemleak/models` runs this source in all orders that its atomics allow.

mod compare;
mod entry;
mod frames;
mod groups;
mod index;
mod insert;
mod slot;
mod walked;

use core::sync::atomic::Ordering::Relaxed;

pub(crate) use self::frames::Frames;

use self::entry::{Entries, PAGE_UNITS, StackEntry};
use self::index::Fork;
use self::slot::StackSlot;
use self::walked::Walked;
use crate::atomic::AtomicU32;
use crate::metadata::page::{Links, PAGE_WORDS, Page, PageLink, PageSource};
use crate::platform::{METADATA_PAGE, StackWalk};
use crate::sizes::{
    DEPOT_BUCKETS as BUCKETS, DEPOT_PAGES, DEPOT_ROWS as ROWS, DEPOT_SLOTS as SLOTS,
};
use crate::stacks::frame_walk::{FrameChain, WORD, read};

/// How many pages one table of the directory names.
const FAN_OUT: usize = PAGE_WORDS;

/// Tables of the directory.
const TABLES: usize = DEPOT_PAGES / FAN_OUT;

/// The multiplier of hashes: odd, with its one bits spread evenly (2^64 divided by the golden ratio).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The number of a call stack in the depot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StackId(pub(crate) u32);

/// Set in an id that is no entry's number, but names the code of a call stack of one frame: by the distance from where these begin.
const SITE: u32 = 1 << 31;

/// The distance begins so far below [`HERE`].
const SITES_BELOW: usize = 1 << 30;

/// Something of this crate's that lies beside its code.
static HERE: u8 = 0;

/// Where the code begins that call sites can name.
#[inline(always)]
fn sites() -> usize {
    (&raw const HERE).addr().wrapping_sub(SITES_BELOW)
}

impl StackId {
    /// No call stack: there was none, or no memory to store it.
    pub(crate) const NONE: Self = Self(0);
}

/// The slots of a CPU.
#[repr(align(64))]
struct CpuSlots([StackSlot; SLOTS]);

/// All call stacks.
pub(crate) struct Depot {
    /// Slots by CPU.
    slots: [CpuSlots; ROWS],
    /// The root of the [index], whose slots, as those of its forks, publish what they lead to: `find_or_insert` exchanges one with
    /// Release, and loads it with Acquire before it follows it.
    root: [AtomicU32; BUCKETS],
    /// Tables that name the pages in which entries lie.
    tables: [PageLink<Links<Entries>>; TABLES],
    /// The first unit that is not taken; 0 if none is. Unit 0 belongs to no entry, since id 0 is no call stack. It hands room from one CPU to
    /// another: `unreserve` gives room back with Release after it was written to, and `reserve` takes it with Acquire before it
    /// is written to again. The value that an exchange expects is a guess, which is loaded Relaxed.
    used: AtomicU32,
    /// The number of different call stacks. A statistic.
    stacks: AtomicU32,
    /// The number of pages taken from the source. A statistic.
    pages: AtomicU32,
}

impl Depot {
    pub(crate) const fn new() -> Self {
        Self {
            slots: [const { CpuSlots([const { StackSlot::new() }; SLOTS]) }; ROWS],
            root: [const { AtomicU32::new(0) }; BUCKETS],
            tables: [const { PageLink::new() }; TABLES],
            used: AtomicU32::new(0),
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

    /// The id of the current call stack, of which the innermost [`MAX_FRAMES`](crate::MAX_FRAMES) frames count, if the first slot
    /// names its entry. Any context.
    ///
    /// # Safety
    ///
    /// All of the walk's stack can be read, and its frames do not change meanwhile: it is the stack of the calling code.
    #[inline(always)]
    pub(crate) unsafe fn seen(&self, walk: &StackWalk, cpu: u32) -> Option<StackId> {
        // SAFETY: the caller's promise.
        let (chain, address) = unsafe { FrameChain::first_kept(walk) }?;
        let entry = self.slot(cpu, address, chain.frame()).get()?;
        // SAFETY: slots name entries with links; the chain stands at a frame of the stack; the caller's promise.
        unsafe { entry.is_stack(chain.frame(), chain.highest()) }
            .then(|| StackId(entry.number().load(Relaxed)))
    }

    /// The id of the current call stack, where [`seen`](Self::seen) does not know it. A new call stack is stored.
    /// [`StackId::NONE`] if there are no frames, or no memory. Any context.
    ///
    /// # Safety
    ///
    /// The caller ensures what [`seen`](Self::seen) requires.
    pub(crate) unsafe fn record_unseen(
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
            // SAFETY: as in `seen`.
            let differs = unsafe { entry.differs_at(chain.clone()) };
            // SAFETY: a frame of the stack.
            let caller = unsafe { read(differs) };
            // SAFETY: as above.
            let address = unsafe { read(differs + WORD) };
            second = self.slot(cpu, address, differs ^ caller.rotate_left(7));
            if let Some(entry) = second.get()
                // SAFETY: as in `seen`.
                && unsafe { entry.is_stack(chain.frame(), chain.highest()) }
            {
                return StackId(entry.number().load(Relaxed));
            }
        }
        let walked = Walked::new(chain);
        let Some((id, entry)) = self.find_or_insert(&walked, meta) else {
            return StackId::NONE;
        };
        first.name(entry);
        second.name(entry);
        id
    }

    /// The id of a call stack, innermost frame first; frames beyond [`MAX_FRAMES`](crate::MAX_FRAMES) are left out. A new call
    /// stack is stored. For platforms that walk their stacks themselves. Any context.
    pub(crate) fn store(&self, addresses: &[usize], meta: &impl PageSource) -> StackId {
        let walked = Walked::without_links(addresses);
        self.find_or_insert(&walked, meta)
            .map_or(StackId::NONE, |(id, _)| id)
    }

    /// The id of a call stack of one frame that nothing is stored for. `None` for code that is farther than 1 GiB from this crate's own.
    /// Any context.
    #[inline(always)]
    pub(crate) fn site(&self, address: usize) -> Option<StackId> {
        let distance = address.wrapping_sub(sites());
        (distance < SITE as usize).then_some(StackId(distance as u32 | SITE))
    }

    /// The call stack with this id; [`Frames::NONE`] if there is none. Any context.
    pub(crate) fn get(&self, id: StackId) -> Frames {
        if id.0 & SITE != 0 {
            let address = sites().wrapping_add((id.0 & !SITE) as usize);
            return Frames::of([address].into_iter());
        }
        let frames = self.entry(id.0).and_then(StackEntry::frames);
        frames.map_or(Frames::NONE, |frames| Frames::of(frames.addresses()))
    }

    /// Sets one of the 16 marks of a call stack, and returns whether it was not set before; always true for an id without a
    /// call stack. The caller decides what marks mean. Any context.
    pub(crate) fn mark(&self, id: StackId, mark: u32) -> bool {
        self.entry(id.0).is_none_or(|entry| entry.mark(mark))
    }

    /// The slot for stacks that have this return address in the frame at `frame`.
    #[inline(always)]
    fn slot(&self, cpu: u32, address: usize, frame: usize) -> &StackSlot {
        // Most frames are aligned to two words. Shifted, the bits of their addresses that vary lie beside those of the code's.
        let key = (address as u64).wrapping_add((frame as u64) << 3);
        let slot = key.wrapping_mul(SPREAD) >> (64 - SLOTS.ilog2());
        &self.slots[cpu as usize % ROWS].0[slot as usize % SLOTS]
    }

    /// The page in which a unit lies, if it was taken.
    fn page_of(&self, unit: u32) -> Option<Page<Entries>> {
        let page = (unit / PAGE_UNITS) as usize;
        let table = self.tables.get(page / FAN_OUT)?.get()?;
        table.link(page % FAN_OUT).get()
    }

    /// The place of an entry, for which there is room.
    fn place(&self, number: u32) -> Option<StackEntry> {
        StackEntry::at(self.page_of(number)?, number % PAGE_UNITS)
    }

    /// The fork that begins with this unit.
    fn fork(&self, unit: u32) -> Option<Fork> {
        Fork::at(self.page_of(unit)?, unit % PAGE_UNITS)
    }

    /// The entry with this number; `None` where no entry says that the number is its own.
    fn entry(&self, number: u32) -> Option<StackEntry> {
        let entry = self.place(number).filter(|_| number != 0)?;
        (entry.number().load(Relaxed) == number).then_some(entry)
    }

    /// Forgets all call stacks; their memory is given back by its owner.
    ///
    /// # Safety
    ///
    /// Nobody else uses the depot meanwhile, and all earlier uses on other CPUs happened before this call.
    pub(crate) unsafe fn empty(&self) {
        let slots = self.slots.iter().flat_map(|slots| &slots.0);
        slots.for_each(StackSlot::clear);
        self.root.iter().for_each(|slot| slot.store(0, Relaxed));
        self.tables.iter().for_each(PageLink::clear);
        self.used.store(0, Relaxed);
        self.stacks.store(0, Relaxed);
        self.pages.store(0, Relaxed);
    }
}

const _: () = assert!(SLOTS.is_power_of_two());

#[cfg(test)]
mod tests;
