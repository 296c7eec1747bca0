//! Entries of the depot: how call stacks lie in its pages.
//!
//! An entry is a head, followed by the frames. A narrow entry holds them in [pairs](crate::stacks::depot::pairs). A wide entry
//! holds whole addresses, hidden.
//!
//! | word of the head | what |
//! | --- | --- |
//! | 0 | the next entry with the same hash |
//! | 1 | the hash |
//! | 2 | the state: how many frames there are, which kind, and the marks |
//! | 3 | the entry's own number |
//! | 4 | the span: the sum of the links, in bytes |
//!
//! # Invariants
//!
//! - The head of a [`StackEntry`] lies in a page of the depot. Only the state says how far the frames reach. So before they are
//!   read, [`StackEntry::frames`] checks that they lie in the page, or the entry came from a slot, which published it.
//! - All words are atomics, and accesses to them are Relaxed: the word that publishes the entry (a slot of the
//!   [index](crate::stacks::depot::index) or of a [CPU](crate::stacks::depot::slot)) orders them. Words that do not change after that are read as plain words for speed.
//!   (The marks in the state do change; they mean nothing to the depot.)

use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;

use crate::atomic::{AtomicU32, AtomicU64};
use crate::metadata::hidden::Hidden;
use crate::metadata::page::Page;
use crate::platform::{MAX_FRAMES, METADATA_PAGE};
use crate::stacks::depot::pairs::{PAIR, Pairs};
use crate::stacks::depot::walked::Walked;
use crate::stacks::frame_walk::WORD;

/// The use of pages in which entries lie.
#[derive(Clone, Copy)]
pub(super) enum Entries {}

/// Bytes of a unit, in which entries are placed.
pub(super) const UNIT: usize = 8;

/// Units of a page.
pub(super) const PAGE_UNITS: u32 = (METADATA_PAGE / UNIT) as u32;

/// Bytes of the head; the frames of a narrow entry follow.
const HEAD: usize = 20;

/// Where the whole addresses begin in a wide entry: aligned.
const WIDE_HEAD: usize = 24;

/// State: the number of frames.
pub(super) const STATE_LEN: u32 = 0x1f;

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
    /// The shape of the entry that a call stack needs.
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

    /// How many units an entry of this shape takes.
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

    /// The entry that lies there.
    ///
    /// # Safety
    ///
    /// [`place`](Self::place) has returned this place.
    #[inline(always)]
    pub(super) unsafe fn from_place(place: NonNull<u8>) -> Self {
        Self(place)
    }

    pub(super) fn place(self) -> NonNull<u8> {
        self.0
    }

    /// The frames of a narrow entry.
    #[inline(always)]
    pub(super) fn pairs(self) -> Pairs {
        Pairs::new(self.0.as_ptr().wrapping_add(HEAD))
    }

    /// Writes a call stack into an entry that nobody sees yet. `None`, and nothing is written, if it reaches beyond the page.
    pub(super) fn write(
        self,
        shape: Shape,
        walked: &Walked,
        base: usize,
        hash: u32,
        number: u32,
    ) -> Option<()> {
        let frames = self.frames_of(shape)?;
        frames.write(walked, base);
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
    pub(super) fn state<'a>(self) -> &'a AtomicU32 {
        self.head::<2>()
    }

    #[inline(always)]
    pub(super) fn number<'a>(self) -> &'a AtomicU32 {
        self.head::<3>()
    }

    #[inline(always)]
    pub(super) fn span<'a>(self) -> &'a AtomicU32 {
        self.head::<4>()
    }

    /// Whether slots may name this entry.
    pub(super) fn has_links(self) -> bool {
        self.state().load(Relaxed) & STATE_LINKS != 0
    }

    /// Sets one of the 16 marks, and returns whether it was not set before.
    pub(super) fn mark(self, mark: u32) -> bool {
        let bit = 1 << (STATE_MARKS + mark % 16);
        self.state().fetch_or(bit, Relaxed) & bit == 0
    }

    /// The frames; `None` if they would not lie in the page: where no entry was ever published, the state may be any number.
    pub(super) fn frames(self) -> Option<EntryFrames> {
        self.frames_of(Shape::from_state(self.state().load(Relaxed)))
    }

    fn frames_of(self, shape: Shape) -> Option<EntryFrames> {
        let room = METADATA_PAGE - self.0.addr().get() % METADATA_PAGE;
        let fits = (1..=MAX_FRAMES).contains(&shape.len()) && shape.bytes() <= room;
        fits.then_some(EntryFrames { entry: self, shape })
    }
}

/// The frames of an entry, all of which lie in its page.
#[derive(Clone, Copy)]
pub(super) struct EntryFrames {
    entry: StackEntry,
    pub(super) shape: Shape,
}

impl EntryFrames {
    pub(super) fn len(self) -> usize {
        self.shape.len()
    }

    /// The addresses, innermost first.
    pub(super) fn addresses(self, base: usize) -> impl Iterator<Item = usize> {
        let pairs = self.entry.pairs();
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

    /// Writes the frames of a call stack, all that it has.
    fn write(self, walked: &Walked, base: usize) {
        let pairs = self.entry.pairs();
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

const _: () = {
    assert!(MAX_FRAMES as u32 <= STATE_LEN);
    assert!(Shape::Wide(MAX_FRAMES).units() < PAGE_UNITS);
    assert!(MAX_FRAMES * (u16::MAX as usize) <= u32::MAX as usize);
};
