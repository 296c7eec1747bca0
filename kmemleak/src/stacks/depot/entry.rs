//! Entries of the depot: call stacks as they lie in its pages.
//!
//! An entry is a head, and behind it the frames. A narrow one holds them in pairs, so that one pointer leads to all that a frame
//! needs: two distances from the text base, 32 bits each, and two links, 16 bits each. A wide one holds whole addresses,
//! inverted.
//!
//! | word of the head | what |
//! | --- | --- |
//! | 0 | the next entry of the bucket |
//! | 1 | the hash |
//! | 2 | the state: how many frames there are, which kind, and the marks |
//! | 3 | the entry's own number |
//! | 4 | the span: the sum of the links, in bytes |
//!
//! # Invariants
//!
//! - The head of a [`StackEntry`] lies in a page of the depot. Where its frames lie is only known by its state: whoever reads them
//!   has looked whether they lie in the page ([`StackEntry::contents`]), or has the entry from where it was published.
//! - All words are atomics, and accesses to them are Relaxed: the word that publishes the entry orders them, a bucket or a
//!   [slot](Slot). Those that are written before the entry is seen, and never again, are read as plain words where speed counts.
//!   (Of the state, the marks change later; they are bits that mean nothing to others.)

use core::ptr::NonNull;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::atomic::{AtomicU16, AtomicU32, AtomicU64, settled_u16, settled_u32};
use crate::metadata::hidden::Hidden;
use crate::metadata::page::Page;
use crate::platform::{MAX_FRAMES, METADATA_PAGE};
use crate::stacks::depot::walked::Walked;
use crate::stacks::frame_walk::{FRAME, FrameChain, WORD, holds, read};

/// The use of pages in which entries lie.
#[derive(Clone, Copy)]
pub(super) enum Entries {}

/// Bytes of a unit, in which entries are placed.
const UNIT: usize = 8;

/// Units of a page.
pub(super) const PAGE_UNITS: u32 = (METADATA_PAGE / UNIT) as u32;

/// Bytes of the head; the frames of a narrow entry follow.
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

/// How many frames an entry has, and how they are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Narrow(usize),
    Wide(usize),
}

impl Shape {
    /// What a call stack needs.
    pub(super) fn of(addresses: &[usize], base: usize) -> Self {
        let is_near = |address: &usize| u32::try_from(address.wrapping_sub(base)).is_ok();
        match addresses.iter().all(is_near) {
            true => Self::Narrow(addresses.len()),
            false => Self::Wide(addresses.len()),
        }
    }

    const fn from_state(state: u32) -> Self {
        let len = (state & STATE_LEN) as usize;
        match state & STATE_WIDE {
            0 => Self::Narrow(len),
            _ => Self::Wide(len),
        }
    }

    const fn state(self) -> u32 {
        match self {
            Self::Narrow(len) => len as u32,
            Self::Wide(len) => len as u32 | STATE_WIDE,
        }
    }

    const fn len(self) -> usize {
        match self {
            Self::Narrow(len) | Self::Wide(len) => len,
        }
    }

    const fn bytes(self) -> usize {
        match self {
            Self::Narrow(len) => HEAD + len.div_ceil(2) * PAIR,
            Self::Wide(len) => WIDE_HEAD + len * WORD,
        }
    }

    /// Units that such an entry takes.
    pub(super) const fn units(self) -> u32 {
        self.bytes().div_ceil(UNIT) as u32
    }
}

/// The head of an entry.
#[derive(Clone, Copy)]
pub(super) struct StackEntry(NonNull<u8>);

impl StackEntry {
    /// The entry that begins with this unit of a page. `None` where no entry can begin.
    pub(super) fn at(page: Page<Entries>, unit: u32) -> Option<Self> {
        if unit + Shape::Narrow(1).units() > PAGE_UNITS {
            return None;
        }
        // SAFETY: inside the page, as was just seen.
        Some(Self(unsafe { page.start().add(unit as usize * UNIT) }))
    }

    /// Writes a call stack, which nobody sees yet. `None`, and nothing is written, where it reaches beyond the page.
    pub(super) fn write(
        self,
        shape: Shape,
        walked: &Walked,
        base: usize,
        hash: u32,
        number: u32,
    ) -> Option<()> {
        let contents = self.contents_of(shape)?;
        contents.write(walked, base);
        let links = match (shape, walked.span()) {
            (Shape::Narrow(_), Some(_)) => STATE_LINKS,
            _ => 0,
        };
        self.hash().store(hash, Relaxed);
        self.state().store(shape.state() | links, Relaxed);
        self.number().store(number, Relaxed);
        self.span().store(walked.span().unwrap_or(0), Relaxed);
        Some(())
    }

    /// A word of the head, by its number.
    #[inline(always)]
    fn head<'a, const WORD: usize>(self) -> &'a AtomicU32 {
        const { assert!(4 * WORD < HEAD) };
        // SAFETY: the head lies in the page, and its words are used as atomics of this size alone. Pages outlive their use.
        unsafe { AtomicU32::from_ptr(self.0.as_ptr().cast::<u32>().wrapping_add(WORD)) }
    }

    pub(super) fn next<'a>(self) -> &'a AtomicU32 {
        self.head::<0>()
    }

    pub(super) fn hash<'a>(self) -> &'a AtomicU32 {
        self.head::<1>()
    }

    #[inline(always)]
    fn state<'a>(self) -> &'a AtomicU32 {
        self.head::<2>()
    }

    #[inline(always)]
    pub(super) fn number<'a>(self) -> &'a AtomicU32 {
        self.head::<3>()
    }

    #[inline(always)]
    fn span<'a>(self) -> &'a AtomicU32 {
        self.head::<4>()
    }

    /// Whether slots may name it.
    pub(super) fn has_links(self) -> bool {
        self.state().load(Relaxed) & STATE_LINKS != 0
    }

    /// Sets one of the 16 marks, and tells whether it was new.
    pub(super) fn mark(self, mark: u32) -> bool {
        let bit = 1 << (STATE_MARKS + mark % 16);
        self.state().fetch_or(bit, Relaxed) & bit == 0
    }

    /// The frames. `None` where the state is none of an entry here: in a place that never was one, it may be any number.
    pub(super) fn contents(self) -> Option<Contents> {
        self.contents_of(Shape::from_state(self.state().load(Relaxed)))
    }

    fn contents_of(self, shape: Shape) -> Option<Contents> {
        let room = METADATA_PAGE - self.0.addr().get() % METADATA_PAGE;
        let fits = (1..=MAX_FRAMES).contains(&shape.len()) && shape.bytes() <= room;
        fits.then_some(Contents { entry: self, shape })
    }

    /// Whether the call stack at hand is this entry's: the chain that begins at `frame`, in a stack whose last frame
    /// may lie at `highest`.
    ///
    /// # Safety
    ///
    /// The entry has links and was taken from where it was published. `frame` is aligned and not above `highest`, and
    /// all words from it through the frame at `highest` can be read; frames among them hold still.
    #[inline(always)]
    pub(super) unsafe fn is_stack(self, base: usize, mut frame: usize, highest: usize) -> bool {
        let state = self.state().load(Relaxed);
        if highest - frame < self.span().load(Relaxed) as usize {
            return false;
        }
        // The pairs not yet compared; all places in them are constants below.
        let mut rest = Pairs::of(self);
        macro_rules! compare {
            (address $index:literal) => {
                // SAFETY: the caller's promise; the entry has so many frames.
                let foretold = base.wrapping_add(unsafe { rest.distance_seen($index) });
                // SAFETY: the frame is none above `highest`, for the span leads no further.
                if !unsafe { holds(frame + WORD, foretold) } {
                    return false;
                }
            };
            ($($index:literal)*) => {$(
                compare!(address $index);
                // SAFETY: as for the distance.
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
            rest = rest.after(4);
        }
        if links & 4 != 0 {
            compare!(0 1 2 3);
            rest = rest.after(2);
        }
        if links & 2 != 0 {
            compare!(0 1);
            rest = rest.after(1);
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
    pub(super) unsafe fn differs_at(self, base: usize, mut chain: FrameChain) -> usize {
        let pairs = Pairs::of(self);
        let len = (self.state().load(Relaxed) & STATE_LEN) as usize;
        let mut at = chain.frame();
        let mut foretold = at;
        for frame in 0..len {
            let Some(address) = chain.return_address() else {
                break;
            };
            at = chain.frame();
            // SAFETY: the entry has so many frames.
            let distance = unsafe { pairs.distance_seen(frame) };
            if at != foretold || address != base.wrapping_add(distance) {
                break;
            }
            // SAFETY: as above.
            foretold = foretold.wrapping_add(unsafe { pairs.link_seen(frame) });
            chain.up();
        }
        at
    }
}

/// The frames of an entry, all of which lie in its page.
#[derive(Clone, Copy)]
pub(super) struct Contents {
    entry: StackEntry,
    pub(super) shape: Shape,
}

impl Contents {
    pub(super) fn len(self) -> usize {
        self.shape.len()
    }

    /// The addresses, innermost first.
    pub(super) fn addresses(self, base: usize) -> impl Iterator<Item = usize> {
        let pairs = Pairs::of(self.entry);
        (0..self.len()).map(move |frame| match self.shape {
            Shape::Narrow(_) => {
                // SAFETY: the entry has this frame.
                let distance = unsafe { pairs.distance(frame) };
                base.wrapping_add(distance.load(Relaxed) as usize)
            }
            Shape::Wide(_) => {
                // SAFETY: the entry has this frame.
                let hidden = unsafe { self.wide(frame) }.load(Relaxed);
                Hidden::from_bits(hidden).get()
            }
        })
    }

    /// Writes as many frames as there are.
    fn write(self, walked: &Walked, base: usize) {
        let pairs = Pairs::of(self.entry);
        for (frame, (address, link)) in walked.frames().take(self.len()).enumerate() {
            if let Shape::Wide(_) = self.shape {
                let hidden = Hidden::new(address).bits();
                // SAFETY: the entry has this frame.
                unsafe { self.wide(frame) }.store(hidden, Relaxed);
                continue;
            }
            let distance = address.wrapping_sub(base) as u32;
            // SAFETY: the entry has this frame.
            unsafe { pairs.distance(frame) }.store(distance, Relaxed);
            // SAFETY: as above.
            unsafe { pairs.link(frame) }.store(link, Relaxed);
        }
    }

    /// A frame's address, in a wide entry.
    ///
    /// # Safety
    ///
    /// The entry is wide and has this frame.
    unsafe fn wide<'a>(self, frame: usize) -> &'a AtomicU64 {
        let place = self.entry.0.as_ptr().wrapping_add(WIDE_HEAD + frame * WORD);
        // SAFETY: a word of the entry at a multiple of 8, used as an atomic of this size alone.
        unsafe { AtomicU64::from_ptr(place.cast()) }
    }
}

/// The pairs of frames of a narrow entry.
///
/// A frame is one of theirs if the entry has it: that is what all methods ask for.
#[derive(Clone, Copy)]
struct Pairs(*mut u8);

impl Pairs {
    #[inline(always)]
    fn of(entry: StackEntry) -> Self {
        Self(entry.0.as_ptr().wrapping_add(HEAD))
    }

    /// Without the first ones.
    #[inline(always)]
    fn after(self, pairs: usize) -> Self {
        Self(self.0.wrapping_add(pairs * PAIR))
    }

    /// A frame's distance from the text base.
    ///
    /// # Safety
    ///
    /// A narrow entry that lies in its page has this frame.
    #[inline(always)]
    unsafe fn distance<'a>(self, frame: usize) -> &'a AtomicU32 {
        let place = self.0.wrapping_add(frame / 2 * PAIR + frame % 2 * 4);
        // SAFETY: an aligned word of the entry, used as an atomic of this size alone.
        unsafe { AtomicU32::from_ptr(place.cast()) }
    }

    /// How many bytes the caller's frame lies above this one.
    ///
    /// # Safety
    ///
    /// As for [`distance`](Self::distance).
    #[inline(always)]
    unsafe fn link<'a>(self, frame: usize) -> &'a AtomicU16 {
        let place = self.0.wrapping_add(frame / 2 * PAIR + 8 + frame % 2 * 2);
        // SAFETY: as for a distance.
        unsafe { AtomicU16::from_ptr(place.cast()) }
    }

    /// [`distance`](Self::distance), read as a plain word.
    ///
    /// # Safety
    ///
    /// As for [`distance`](Self::distance). The entry was taken from where it was published.
    #[inline(always)]
    unsafe fn distance_seen(self, frame: usize) -> usize {
        // SAFETY: the caller's promise.
        let distance = unsafe { self.distance(frame) };
        // SAFETY: whoever took the entry from where it was published sees all that was written to its place before,
        // be it by another that gave the place back; and it is not written any more.
        unsafe { settled_u32(distance) as usize }
    }

    /// [`link`](Self::link), read as a plain word.
    ///
    /// # Safety
    ///
    /// As for [`distance_seen`](Self::distance_seen).
    #[inline(always)]
    unsafe fn link_seen(self, frame: usize) -> usize {
        // SAFETY: the caller's promise.
        let link = unsafe { self.link(frame) };
        // SAFETY: as for a distance.
        unsafe { usize::from(settled_u16(link)) }
    }
}

/// A word that names an entry with links, or none. It publishes the entry: [`name`](Self::name) stores it with Release,
/// [`get`](Self::get) loads it with Acquire.
pub(super) struct Slot(AtomicU64);

impl Slot {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(Hidden::NONE.bits()))
    }

    #[inline(always)]
    pub(super) fn get(&self) -> Option<StackEntry> {
        match Hidden::from_bits(self.0.load(Acquire)) {
            Hidden::NONE => None,
            // SAFETY: `name` has stored it.
            entry => Some(StackEntry(unsafe { entry.place() })),
        }
    }

    /// Names an entry from now on; one without links is not named.
    pub(super) fn name(&self, entry: StackEntry) {
        if entry.has_links() {
            self.0.store(Hidden::of(entry.0).bits(), Release);
        }
    }

    pub(super) fn clear(&self) {
        self.0.store(Hidden::NONE.bits(), Relaxed);
    }
}

const _: () = {
    assert!(MAX_FRAMES == 16, "the comparison is written out for 16");
    assert!(MAX_FRAMES as u32 <= STATE_LEN);
    assert!(Shape::Wide(MAX_FRAMES).units() < PAGE_UNITS);
    assert!(MAX_FRAMES * (u16::MAX as usize) <= u32::MAX as usize);
};
