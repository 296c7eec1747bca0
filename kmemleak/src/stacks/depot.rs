//! Call stacks, each stored once.
//!
//! Every block that is tracked knows the call stack that allocated it. Kernels have thousands of different ones,
//! not millions, so each is kept once and named by a [`Trace`] of 32 bits. Allocations ask for a name all the time,
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

use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::atomic::{AtomicU16, AtomicU32, AtomicUsize, settled_u16, settled_u32};
use crate::metadata::page_source::PageSource;
use crate::platform::{MAX_FRAMES, METADATA_PAGE, StackWalk};
use crate::sizes::{
    DEPOT_BUCKETS as BUCKETS, DEPOT_PAGES, DEPOT_ROWS as ROWS, DEPOT_SLOTS as SLOTS,
};
use crate::stacks::frame_walk::{FRAME, FrameChain, WORD, holds, read};

/// Bytes of a unit, in which entries are placed.
const UNIT: usize = 8;

/// Units of a page.
const PAGE_UNITS: u32 = (METADATA_PAGE / UNIT) as u32;

/// Pages that one table of the directory names.
const FAN_OUT: usize = METADATA_PAGE / size_of::<usize>();

/// Tables of the directory.
const TABLES: usize = DEPOT_PAGES / FAN_OUT;

/// What a hash multiplies by: odd, with bits all over (2^64 divided by the golden ratio).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The name of a call stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trace(pub(crate) u32);

impl Trace {
    /// No call stack: none was to be had, or there was no memory to keep it.
    pub(crate) const NONE: Self = Self(0);
}

/// A call stack, taken out of the depot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frames {
    pub(crate) addresses: [usize; MAX_FRAMES],
    pub(crate) len: usize,
}

impl Frames {
    pub(crate) const NONE: Self = Self {
        addresses: [0; MAX_FRAMES],
        len: 0,
    };

    pub(crate) fn as_slice(&self) -> &[usize] {
        &self.addresses[..self.len]
    }

    /// Checksum of the addresses: CRC-32 as in IEEE 802.3.
    pub(crate) fn crc(&self) -> u32 {
        crc_of(self.as_slice())
    }
}

/// Checksum of the addresses of a call stack: CRC-32 as in IEEE 802.3.
pub(crate) fn crc_of(addresses: &[usize]) -> u32 {
    crc32(addresses.iter().flat_map(|address| address.to_le_bytes()))
}

/// CRC-32 (polynomial 0x04c11db7, reflected, IEEE 802.3).
pub(crate) fn crc32(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 != 0 {
                crc >> 1 ^ 0xedb8_8320
            } else {
                crc >> 1
            }
        })
    })
}

/// Bytes of an entry's head; the frames of a narrow one follow.
///
/// The head: the next entry of the bucket, the hash, the state, the entry's own number, and the span (the sum of the
/// links, in bytes). The frames of a narrow entry are in pairs, so that one pointer leads to all that a frame needs:
/// two distances and the two links.
const HEAD: usize = 20;

/// Bytes of a pair of frames in a narrow entry.
const PAIR: usize = 12;

/// Where the whole addresses begin in a wide entry: aligned.
const WIDE_HEAD: usize = 24;

/// State: the number of frames.
const STATE_LEN: u32 = 0x1f;

/// State: the entry is wide.
const STATE_WIDE: u32 = 1 << 5;

/// State: the entry has links, and may be named by slots.
const STATE_LINKS: u32 = 1 << 6;

/// State: the lowest one of the marks.
const STATE_MARKS: u32 = 16;

/// The place of an entry. Whoever makes one sees to it that all of it lies in a page of the depot.
///
/// Its words are atomics, and all accesses to them Relaxed: the word that publishes the entry orders them, a bucket or a
/// slot. (Of the state, the marks change later; they are bits that mean nothing to others.) Those that are written before the
/// entry is seen, and never again, are read as plain words where speed counts.
#[derive(Clone, Copy)]
struct Entry(*mut u8);

impl Entry {
    #[inline(always)]
    fn at(address: usize) -> Self {
        Self(ptr::with_exposed_provenance_mut(address))
    }

    /// Where a frame's distance is in a narrow entry.
    #[inline(always)]
    const fn distance_at(frame: usize) -> usize {
        HEAD + frame / 2 * PAIR + frame % 2 * 4
    }

    /// Where a frame's link is in a narrow entry.
    #[inline(always)]
    const fn link_at(frame: usize) -> usize {
        HEAD + frame / 2 * PAIR + 8 + frame % 2 * 2
    }

    #[inline(always)]
    fn half<'a>(self, byte: usize) -> &'a AtomicU32 {
        // SAFETY: an aligned word of an entry, to which all writes are atomic. It outlives its use, since the depot
        // is emptied when nobody uses it.
        unsafe { AtomicU32::from_ptr(self.0.wrapping_add(byte).cast()) }
    }

    fn next<'a>(self) -> &'a AtomicU32 {
        self.half(0)
    }

    fn hash<'a>(self) -> &'a AtomicU32 {
        self.half(4)
    }

    #[inline(always)]
    fn state<'a>(self) -> &'a AtomicU32 {
        self.half(8)
    }

    #[inline(always)]
    fn number<'a>(self) -> &'a AtomicU32 {
        self.half(12)
    }

    #[inline(always)]
    fn span<'a>(self) -> &'a AtomicU32 {
        self.half(16)
    }

    /// A frame's distance from the text base, in a narrow entry.
    #[inline(always)]
    fn distance<'a>(self, frame: usize) -> &'a AtomicU32 {
        self.half(Self::distance_at(frame))
    }

    /// How many bytes the caller's frame lies above this one, in a narrow entry.
    #[inline(always)]
    fn link<'a>(self, frame: usize) -> &'a AtomicU16 {
        // SAFETY: as in `half`.
        unsafe { AtomicU16::from_ptr(self.0.wrapping_add(Self::link_at(frame)).cast()) }
    }

    /// A frame's address, in a wide entry.
    fn wide<'a>(self, frame: usize) -> &'a AtomicUsize {
        // SAFETY: as in `half`; the addresses begin at a multiple of 8.
        unsafe { AtomicUsize::from_ptr(self.0.wrapping_add(WIDE_HEAD + frame * WORD).cast()) }
    }

    /// [`distance`](Self::distance), read as a plain word.
    ///
    /// # Safety
    ///
    /// The entry is narrow and was taken from where it was published. `frame` is below its length.
    #[inline(always)]
    unsafe fn distance_seen(self, frame: usize) -> usize {
        // SAFETY: whoever took the entry from where it was published sees all that was written to its place before,
        // be it by another that gave the place back; and it is not written any more.
        unsafe { settled_u32(self.distance(frame)) as usize }
    }

    /// [`link`](Self::link), read as a plain word.
    ///
    /// # Safety
    ///
    /// As for [`distance_seen`](Self::distance_seen).
    #[inline(always)]
    unsafe fn link_seen(self, frame: usize) -> usize {
        // SAFETY: as above.
        unsafe { usize::from(settled_u16(self.link(frame))) }
    }

    fn address(self, frame: usize, base: usize, state: u32) -> usize {
        if state & STATE_WIDE != 0 {
            !self.wide(frame).load(Relaxed)
        } else {
            base.wrapping_add(self.distance(frame).load(Relaxed) as usize)
        }
    }

    /// Units of an entry with `len` frames.
    const fn units(len: usize, wide: bool) -> u32 {
        let bytes = if wide {
            WIDE_HEAD + len * WORD
        } else {
            HEAD + len.div_ceil(2) * PAIR
        };
        bytes.div_ceil(UNIT) as u32
    }

    /// Whether the call stack at hand is this entry's: the chain that begins at `frame`, in a stack whose last frame
    /// may lie at `highest`.
    ///
    /// # Safety
    ///
    /// The entry has links and was taken from where it was published. `frame` is aligned and not above `highest`, and
    /// all words from it through the frame at `highest` can be read; frames among them hold still.
    #[inline(always)]
    unsafe fn is_stack(self, base: usize, mut frame: usize, highest: usize) -> bool {
        let state = self.state().load(Relaxed);
        if highest - frame < self.span().load(Relaxed) as usize {
            return false;
        }
        // The pairs not yet compared; all places in them are constants below.
        let mut rest = self;
        macro_rules! compare {
            (address $index:literal) => {
                // SAFETY: the caller's promise.
                let foretold = base.wrapping_add(unsafe { rest.distance_seen($index) });
                // SAFETY: the frame is none above `highest`, for the span leads no further.
                if !unsafe { holds(frame + WORD, foretold) } {
                    return false;
                }
            };
            ($($index:literal)*) => {$(
                compare!(address $index);
                // SAFETY: the caller's promise.
                let foretold = frame + unsafe { rest.link_seen($index) };
                // SAFETY: as above.
                if !unsafe { holds(frame, foretold) } {
                    return false;
                }
                frame = foretold;
            )*};
        }
        if state & MAX_FRAMES as u32 != 0 {
            compare!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
            compare!(address 15);
            return true;
        }
        let links = (state & STATE_LEN).wrapping_sub(1);
        if links & 8 != 0 {
            compare!(0 1 2 3 4 5 6 7);
            rest.0 = rest.0.wrapping_add(4 * PAIR);
        }
        if links & 4 != 0 {
            compare!(0 1 2 3);
            rest.0 = rest.0.wrapping_add(2 * PAIR);
        }
        if links & 2 != 0 {
            compare!(0 1);
            rest.0 = rest.0.wrapping_add(PAIR);
        }
        if links & 1 != 0 {
            compare!(0);
            compare!(address 1);
        } else {
            compare!(address 0);
        }
        // This was the last one: the walk has to end here, too.
        // SAFETY: as above.
        let caller = unsafe { read(frame) };
        if !caller.is_multiple_of(WORD) || caller < frame + FRAME || caller > highest {
            return true;
        }
        // SAFETY: aligned, between this frame and `highest`.
        unsafe { holds(caller + WORD, 0) }
    }

    /// The frame where the walk from `chain` on first leaves what this entry foretells, or where either ends.
    ///
    /// # Safety
    ///
    /// As for [`is_stack`](Self::is_stack).
    unsafe fn differs_at(self, base: usize, mut chain: FrameChain) -> usize {
        let len = (self.state().load(Relaxed) & STATE_LEN) as usize;
        let mut at = chain.frame();
        let mut foretold = at;
        for frame in 0..len {
            let Some(address) = chain.return_address() else {
                break;
            };
            at = chain.frame();
            // SAFETY: the caller's promise.
            let distance = unsafe { self.distance_seen(frame) };
            if at != foretold || address != base.wrapping_add(distance) {
                break;
            }
            // SAFETY: the caller's promise.
            foretold = foretold.wrapping_add(unsafe { self.link_seen(frame) });
            chain.up();
        }
        at
    }
}

/// A call stack that was walked.
struct Walked {
    addresses: [usize; MAX_FRAMES],
    len: usize,
    links: [u16; MAX_FRAMES],
    /// The sum of the links, in bytes; `None` if one of them is too long to be kept.
    span: Option<u32>,
}

impl Walked {
    /// Walks on from where `chain` stands.
    fn new(mut chain: FrameChain) -> Self {
        let mut walked = Self {
            addresses: [0; MAX_FRAMES],
            len: 0,
            links: [0; MAX_FRAMES],
            span: Some(0),
        };
        let mut before = chain.frame();
        while walked.len < MAX_FRAMES
            && let Some(address) = chain.return_address()
        {
            if let Some(inner) = walked.len.checked_sub(1) {
                let bytes = chain.frame() - before;
                match (walked.span, u16::try_from(bytes)) {
                    (Some(span), Ok(link)) => {
                        walked.links[inner] = link;
                        walked.span = Some(span + bytes as u32);
                    }
                    _ => walked.span = None,
                }
            }
            before = chain.frame();
            walked.addresses[walked.len] = address;
            walked.len += 1;
            chain.up();
        }
        walked
    }

    fn as_slice(&self) -> &[usize] {
        &self.addresses[..self.len]
    }
}

/// The slots of a CPU: addresses of entries, inverted; 0 is none.
#[repr(align(64))]
struct Row([AtomicUsize; SLOTS]);

/// All call stacks.
pub(crate) struct Depot {
    /// Slots of entries of late, by CPU. A slot publishes its entry: `record_differing` stores it with Release, `named`
    /// loads it with Acquire.
    rows: [Row; ROWS],
    /// First entries of the buckets; 0 is none. A bucket publishes the entry, with all that follow in the chain:
    /// `find_or_insert` exchanges it with Release, and loads it with Acquire before it follows the chain, also where the
    /// exchange fails.
    buckets: [AtomicU32; BUCKETS],
    /// Tables of pages, and in them the pages: addresses, inverted; 0 is none. Both publish a zeroed page: `ensure_page` and
    /// `add_page` exchange them with Release, `directory` and `place` load them with Acquire. Where it is only asked whether
    /// there is one, Relaxed will do.
    tables: [AtomicUsize; TABLES],
    /// The text base, inverted; 0 while it is not chosen. Relaxed: it is one word, and is chosen once. Who has an entry from
    /// where it was published loads it after the one who made the entry, so does not find 0 any more.
    base: AtomicUsize,
    /// The first unit that is not taken. Unit 0 is no entry's, for trace 0 is none. It hands room from one CPU to another:
    /// `unreserve` gives back with Release what it has written to, and `reserve` takes room with Acquire before it is written
    /// to again. What the exchange is to find is a guess: its load may be Relaxed.
    used: AtomicU32,
    /// Different call stacks. Only told.
    stacks: AtomicU32,
    /// Pages taken from the source. Only told.
    pages: AtomicU32,
    /// Pages that found no place in the directory, chained by their first words: addresses, inverted; 0 is none. Relaxed:
    /// only `empty` reads what is in the chain, when all others are done.
    unplaced: AtomicUsize,
}

impl Depot {
    pub(crate) const fn new() -> Self {
        Self {
            rows: [const { Row([const { AtomicUsize::new(0) }; SLOTS]) }; ROWS],
            buckets: [const { AtomicU32::new(0) }; BUCKETS],
            tables: [const { AtomicUsize::new(0) }; TABLES],
            base: AtomicUsize::new(0),
            used: AtomicU32::new(1),
            stacks: AtomicU32::new(0),
            pages: AtomicU32::new(0),
            unplaced: AtomicUsize::new(0),
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

    /// The name of the call stack that leads here, which is kept if it is new: at most [`MAX_FRAMES`] frames.
    /// [`Trace::NONE`] where there are none, or no memory. Any context.
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
    ) -> Trace {
        // SAFETY: the caller's promise.
        let Some((chain, address)) = (unsafe { FrameChain::first_kept(walk) }) else {
            return Trace::NONE;
        };
        if let Some(entry) = Self::named(self.slot(cpu, address, chain.frame()))
            // SAFETY: slots name entries with links; the chain stands at a frame of the stack; the caller's promise.
            && unsafe { entry.is_stack(self.base(), chain.frame(), chain.highest()) }
        {
            return Trace(entry.number().load(Relaxed));
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
    unsafe fn record_differing(&self, walk: &StackWalk, cpu: u32, meta: &impl PageSource) -> Trace {
        // SAFETY: the caller's promise.
        let Some((chain, address)) = (unsafe { FrameChain::first_kept(walk) }) else {
            return Trace::NONE;
        };
        let first = self.slot(cpu, address, chain.frame());
        let mut second = first;
        if let Some(entry) = Self::named(first) {
            let base = self.base();
            // SAFETY: as in `record`.
            let differs = unsafe { entry.differs_at(base, chain.clone()) };
            // SAFETY: a frame of the stack.
            let caller = unsafe { read(differs) };
            // SAFETY: as above.
            let address = unsafe { read(differs + WORD) };
            second = self.slot(cpu, address, differs ^ caller.rotate_left(7));
            if let Some(entry) = Self::named(second)
                // SAFETY: as in `record`.
                && unsafe { entry.is_stack(base, chain.frame(), chain.highest()) }
            {
                return Trace(entry.number().load(Relaxed));
            }
        }
        let walked = Walked::new(chain);
        let Some((trace, entry)) = self.find_or_insert(&walked, meta) else {
            return Trace::NONE;
        };
        if entry.state().load(Relaxed) & STATE_LINKS != 0 {
            first.store(inverted(entry.0.expose_provenance()), Release);
            second.store(inverted(entry.0.expose_provenance()), Release);
        }
        trace
    }

    /// The name of this call stack, innermost frame first, which is kept if it is new; frames beyond [`MAX_FRAMES`]
    /// are left out. For platforms that walk their stacks themselves. Any context.
    pub(crate) fn store(&self, addresses: &[usize], meta: &impl PageSource) -> Trace {
        let mut walked = Walked {
            addresses: [0; MAX_FRAMES],
            len: addresses.len().min(MAX_FRAMES),
            links: [0; MAX_FRAMES],
            span: None,
        };
        for (to, from) in walked.addresses.iter_mut().zip(addresses) {
            *to = *from;
        }
        self.find_or_insert(&walked, meta)
            .map_or(Trace::NONE, |(trace, _)| trace)
    }

    /// The call stack of this name; [`Frames::NONE`] for what is no name. Any context.
    pub(crate) fn get(&self, trace: Trace) -> Frames {
        let mut frames = Frames::NONE;
        if let Some(entry) = self.entry(trace.0) {
            let (base, state) = (self.base(), entry.state().load(Relaxed));
            frames.len = (state & STATE_LEN) as usize;
            for (frame, address) in frames.addresses[..frames.len].iter_mut().enumerate() {
                *address = entry.address(frame, base, state);
            }
        }
        frames
    }

    /// Sets one of the 16 marks of a call stack and tells whether it was new. They are for the depot's user. A mark
    /// of no call stack is always new. Any context.
    pub(crate) fn mark(&self, trace: Trace, mark: u32) -> bool {
        let bit = 1 << (STATE_MARKS + mark % 16);
        self.entry(trace.0)
            .is_none_or(|entry| entry.state().fetch_or(bit, Relaxed) & bit == 0)
    }

    /// Chooses the text base, if none is chosen yet: call stacks with all addresses less than 4 GiB above it are
    /// kept small and found fast. Without this, it is 2 GiB below this crate's own code. Any context.
    pub(crate) fn set_text_base(&self, base: usize) {
        // The one base whose inverse is 0 is as good one byte below.
        let hidden = inverted(base.min(usize::MAX - 1));
        let _ = self.base.compare_exchange(0, hidden, Relaxed, Relaxed);
    }

    /// Forgets all call stacks and hands all pages to `give_back`, from where they may go anywhere.
    ///
    /// # Safety
    ///
    /// Nobody else uses the depot meanwhile, and whoever has used it is done before, as seen from here.
    pub(crate) unsafe fn empty(&self, give_back: &mut dyn FnMut(NonNull<u8>)) {
        let mut give = |page: usize| {
            if let Some(page) = NonNull::new(ptr::with_exposed_provenance_mut(page)) {
                give_back(page);
            }
        };
        for row in &self.rows {
            row.0.iter().for_each(|slot| slot.store(0, Relaxed));
        }
        self.buckets
            .iter()
            .for_each(|first| first.store(0, Relaxed));
        for table in &self.tables {
            let table = table.swap(0, Relaxed);
            if table != 0 {
                let table = inverted(table);
                for index in 0..FAN_OUT {
                    let page = Self::word_of_page(table, index).load(Relaxed);
                    if page != 0 {
                        give(inverted(page));
                    }
                }
                give(table);
            }
        }
        let mut unplaced = self.unplaced.swap(0, Relaxed);
        while unplaced != 0 {
            let page = inverted(unplaced);
            unplaced = Self::word_of_page(page, 0).load(Relaxed);
            give(page);
        }
        self.base.store(0, Relaxed);
        self.used.store(1, Relaxed);
        self.stacks.store(0, Relaxed);
        self.pages.store(0, Relaxed);
    }

    /// The slot for stacks that have this return address in the frame at `frame`.
    #[inline(always)]
    fn slot(&self, cpu: u32, address: usize, frame: usize) -> &AtomicUsize {
        // Frames are aligned to two words mostly: shifted, their low bits are beside those of the code.
        let key = (address as u64).wrapping_add((frame as u64) << 3);
        let slot = key.wrapping_mul(SPREAD) >> (64 - SLOTS.ilog2());
        &self.rows[cpu as usize % ROWS].0[slot as usize % SLOTS]
    }

    #[inline(always)]
    fn named(slot: &AtomicUsize) -> Option<Entry> {
        match slot.load(Acquire) {
            0 => None,
            hidden => Some(Entry::at(inverted(hidden))),
        }
    }

    /// The text base, once there are entries.
    #[inline(always)]
    fn base(&self) -> usize {
        inverted(self.base.load(Relaxed))
    }

    /// The text base, which is chosen now if it has not been.
    fn chosen_base(&self) -> usize {
        if self.base.load(Relaxed) == 0 {
            let here = Self::get as fn(&Self, Trace) -> Frames as usize;
            self.set_text_base(here.saturating_sub(1 << 31));
        }
        self.base()
    }

    #[inline(never)]
    fn find_or_insert(&self, walked: &Walked, meta: &impl PageSource) -> Option<(Trace, Entry)> {
        let addresses = walked.as_slice();
        if addresses.is_empty() {
            return None;
        }
        let base = self.chosen_base();
        let hash = hash(addresses);
        let bucket = &self.buckets[(hash >> 32) as usize % BUCKETS];
        let hash = hash as u32;
        let mut first = bucket.load(Acquire);
        let found = self.find(first, 0, hash, addresses, base);
        if found.is_some() {
            return found;
        }
        let (number, units, entry) = self.keep(walked, hash, base, meta)?;
        loop {
            entry.next().store(first, Relaxed);
            match bucket.compare_exchange(first, number, Release, Acquire) {
                Ok(_) => {
                    self.stacks.fetch_add(1, Relaxed);
                    return Some((Trace(number), entry));
                }
                Err(now) => {
                    let found = self.find(now, first, hash, addresses, base);
                    if found.is_some() {
                        self.unreserve(number, units);
                        return found;
                    }
                    first = now;
                }
            }
        }
    }

    /// The entry of these addresses, if it is in the chain from the entry `number` on and before `end`.
    fn find(
        &self,
        mut number: u32,
        end: u32,
        hash: u32,
        addresses: &[usize],
        base: usize,
    ) -> Option<(Trace, Entry)> {
        while number != end {
            let entry = self.entry(number)?;
            let state = entry.state().load(Relaxed);
            if entry.hash().load(Relaxed) == hash
                && (state & STATE_LEN) as usize == addresses.len()
                && addresses
                    .iter()
                    .enumerate()
                    .all(|(frame, &address)| entry.address(frame, base, state) == address)
            {
                return Some((Trace(number), entry));
            }
            number = entry.next().load(Relaxed);
        }
        None
    }

    /// Writes a new entry, which nobody sees yet.
    fn keep(
        &self,
        walked: &Walked,
        hash: u32,
        base: usize,
        meta: &impl PageSource,
    ) -> Option<(u32, u32, Entry)> {
        let addresses = walked.as_slice();
        let wide = addresses
            .iter()
            .any(|address| u32::try_from(address.wrapping_sub(base)).is_err());
        let units = Entry::units(addresses.len(), wide);
        let number = self.reserve(units, meta)?;
        let entry = self.place(number)?;
        let mut state = addresses.len() as u32;
        if wide {
            state |= STATE_WIDE;
            for (frame, &address) in addresses.iter().enumerate() {
                entry.wide(frame).store(!address, Relaxed);
            }
        } else {
            if walked.span.is_some() {
                state |= STATE_LINKS;
            }
            for (frame, (&address, &link)) in addresses.iter().zip(&walked.links).enumerate() {
                let distance = address.wrapping_sub(base) as u32;
                entry.distance(frame).store(distance, Relaxed);
                entry.link(frame).store(link, Relaxed);
            }
        }
        entry.hash().store(hash, Relaxed);
        entry.state().store(state, Relaxed);
        entry.number().store(number, Relaxed);
        entry.span().store(walked.span.unwrap_or(0), Relaxed);
        Some((number, units, entry))
    }

    /// Takes room for an entry: units in one page, which is got if need be.
    fn reserve(&self, units: u32, meta: &impl PageSource) -> Option<u32> {
        let mut used = self.used.load(Relaxed);
        loop {
            let mut start = used;
            if start % PAGE_UNITS + units > PAGE_UNITS {
                start = start.next_multiple_of(PAGE_UNITS);
            }
            self.ensure_page((start / PAGE_UNITS) as usize, meta)?;
            match self
                .used
                .compare_exchange(used, start + units, Acquire, Relaxed)
            {
                Ok(_) => return Some(start),
                Err(now) => used = now,
            }
        }
    }

    /// Gives back the room of an entry that nobody saw, if no other was taken since. (If not, it is lost.)
    fn unreserve(&self, number: u32, units: u32) {
        let _ = self
            .used
            .compare_exchange(number + units, number, Release, Relaxed);
    }

    /// Sees to it that there is a page with this number; `None` if there is no memory.
    fn ensure_page(&self, page: usize, meta: &impl PageSource) -> Option<()> {
        let table = self.tables.get(page / FAN_OUT)?;
        if table.load(Relaxed) == 0 {
            let new = self.take(meta)?;
            if table
                .compare_exchange(0, inverted(new), Release, Relaxed)
                .is_err()
            {
                self.add_page(page, new);
            }
        }
        if self.directory(page)?.load(Relaxed) == 0 {
            let new = self.take(meta)?;
            self.add_page(page, new);
        }
        Some(())
    }

    /// Puts a page into the directory: at this number, or at a later one if another CPU was first. Its turn will come.
    fn add_page(&self, page: usize, new: usize) {
        let hidden = inverted(new);
        let table_end = (page / FAN_OUT + 1) * FAN_OUT;
        for page in page..table_end {
            if let Some(place) = self.directory(page)
                && place.compare_exchange(0, hidden, Release, Relaxed).is_ok()
            {
                return;
            }
        }
        // Kept to be given back.
        let mut first = self.unplaced.load(Relaxed);
        loop {
            Self::word_of_page(new, 0).store(first, Relaxed);
            match self
                .unplaced
                .compare_exchange(first, hidden, Relaxed, Relaxed)
            {
                Ok(_) => return,
                Err(now) => first = now,
            }
        }
    }

    fn take(&self, meta: &impl PageSource) -> Option<usize> {
        let page = meta.page()?;
        self.pages.fetch_add(1, Relaxed);
        Some(page.expose_provenance().get())
    }

    /// The directory's word for a page, if there is a table for it.
    fn directory(&self, page: usize) -> Option<&AtomicUsize> {
        match self.tables.get(page / FAN_OUT)?.load(Acquire) {
            0 => None,
            table => {
                let table = inverted(table);
                Some(Self::word_of_page(table, page % FAN_OUT))
            }
        }
    }

    fn word_of_page<'a>(page: usize, index: usize) -> &'a AtomicUsize {
        let address = page + index % FAN_OUT * WORD;
        // SAFETY: an aligned word of a page of the depot's, used by atomics only; it outlives its use, since the
        // depot is emptied when nobody uses it.
        unsafe { AtomicUsize::from_ptr(ptr::with_exposed_provenance_mut(address)) }
    }

    /// The place of a new entry, for which there is room.
    fn place(&self, number: u32) -> Option<Entry> {
        match self
            .directory((number / PAGE_UNITS) as usize)?
            .load(Acquire)
        {
            0 => None,
            page => {
                let page = inverted(page);
                Some(Entry::at(page + (number % PAGE_UNITS) as usize * UNIT))
            }
        }
    }

    /// The entry with this number. None for 0, or where no entry can be; for a number that never was a trace it may
    /// be an entry of nonsense, but one that lies in a page.
    fn entry(&self, number: u32) -> Option<Entry> {
        let unit = number % PAGE_UNITS;
        if number == 0 || unit + Entry::units(1, false) > PAGE_UNITS {
            return None;
        }
        let entry = self.place(number)?;
        let state = entry.state().load(Relaxed);
        let len = (state & STATE_LEN) as usize;
        let units = Entry::units(len, state & STATE_WIDE != 0);
        ((1..=MAX_FRAMES).contains(&len) && unit + units <= PAGE_UNITS).then_some(entry)
    }
}

/// An address as it is kept in a word that others use, too, and back. No address is kept as 0.
#[inline(always)]
const fn inverted(word: usize) -> usize {
    !word
}

/// A hash of a call stack, good in all its bits.
fn hash(addresses: &[usize]) -> u64 {
    let hash = addresses
        .iter()
        .fold(addresses.len() as u64, |hash, &address| {
            let mixed = (hash ^ address as u64).wrapping_mul(SPREAD);
            mixed ^ mixed >> 29
        });
    hash.wrapping_mul(SPREAD).rotate_left(32)
}

const _: () = {
    assert!(MAX_FRAMES == 16, "the comparison is written out for 16");
    assert!(MAX_FRAMES as u32 <= STATE_LEN);
    assert!(Entry::units(MAX_FRAMES, true) < PAGE_UNITS);
    assert!(SLOTS.is_power_of_two());
    assert!(MAX_FRAMES * (u16::MAX as usize) <= u32::MAX as usize);
};

#[cfg(test)]
mod tests;
