//! Entries of the depot: how call stacks lie in its pages.
//!
//! An entry is a head, followed by the frames, in [groups](crate::stacks::depot::groups).
//!
//! | word of the head | what |
//! | --- | --- |
//! | 0 | the next entry with the same hash |
//! | 1 | the hash |
//! | 2 | the state: how many frames there are, what a stack is compared with, and the marks |
//! | 3 | the entry's own number |
//! | 4, 5 | the span: the sum of the links, in bytes |
//!
//! A stack usually ends at a frame whose return address is zero. Such an end is kept behind the frames, as if it were one more of
//! them, if there is room: then it is compared as they are.
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

use crate::atomic::{AtomicU32, AtomicU64, settled_u64};
use crate::metadata::page::Page;
use crate::platform::{MAX_FRAMES, METADATA_PAGE};
use crate::stacks::depot::groups::{FRAMES, FrameGroups, GROUP};
use crate::stacks::depot::walked::Walked;

/// The use of pages in which entries lie.
#[derive(Clone, Copy)]
pub(super) enum Entries {}

/// Bytes of a unit, in which entries are placed.
pub(super) const UNIT: usize = 8;

/// Units of a page.
pub(super) const PAGE_UNITS: u32 = (METADATA_PAGE / UNIT) as u32;

/// Bytes of the head; the frames follow.
const HEAD: usize = 24;

/// State: the number of frames.
pub(super) const STATE_LEN: u32 = 0x1f;

/// State: nothing need be looked at behind the frames that are compared.
pub(super) const STATE_ENDS: u32 = 1 << 5;

/// State: the entry has links, and may be named by slots.
const STATE_LINKS: u32 = 1 << 6;

/// State: the comparison is the longest one, and [ends](STATE_ENDS) so.
pub(super) const STATE_FULL: u32 = 1 << 7;

/// State: where the number of links begins that are compared. It is one less than that of return addresses.
pub(super) const STATE_COMPARED: u32 = 8;

/// State: the lowest one of the marks.
const STATE_MARKS: u32 = 16;

/// How many units an entry takes that has room for so many frames.
const fn units_of(frames: usize) -> u32 {
    (HEAD + frames.div_ceil(FRAMES) * GROUP).div_ceil(UNIT) as u32
}

/// The head of an entry.
#[derive(Clone, Copy)]
pub(super) struct StackEntry(NonNull<u8>);

impl StackEntry {
    /// The entry that begins with this unit of a page. `None` where no entry can begin.
    pub(super) fn at(page: Page<Entries>, unit: u32) -> Option<Self> {
        if unit + units_of(1) > PAGE_UNITS {
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

    /// The frames.
    #[inline(always)]
    pub(super) fn groups(self) -> FrameGroups {
        FrameGroups::new(self.0.as_ptr().wrapping_add(HEAD))
    }

    /// How many units the entry of a call stack takes.
    pub(super) fn units(walked: &Walked) -> u32 {
        units_of(walked.stored_frames())
    }

    /// Writes a call stack into an entry that nobody sees yet. `None`, and nothing is written, if it reaches beyond the page.
    pub(super) fn write(self, walked: &Walked, hash: u32, number: u32) -> Option<()> {
        let stored = walked.stored_frames();
        self.has_room(stored).then_some(())?;
        let groups = self.groups();
        for (frame, (address, link)) in walked.frames().take(stored).enumerate() {
            // SAFETY: there is room for it.
            unsafe { groups.write(frame, address, link) };
        }
        let mut state = walked.addresses().len() as u32;
        if walked.span().is_some() {
            state |= STATE_LINKS | (stored as u32 - 1) << STATE_COMPARED;
        }
        if stored == MAX_FRAMES {
            state |= STATE_ENDS | STATE_FULL;
        } else if stored > walked.addresses().len() {
            state |= STATE_ENDS;
        }
        self.hash().store(hash, Relaxed);
        self.state().store(state, Relaxed);
        self.number().store(number, Relaxed);
        self.span()
            .store(walked.span().unwrap_or(0).into(), Relaxed);
        Some(())
    }

    /// A word of the head, by its number.
    #[inline(always)]
    fn head<'a, const WORD: usize>(self) -> &'a AtomicU32 {
        const { assert!(WORD < 4) };
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

    fn span<'a>(self) -> &'a AtomicU64 {
        // SAFETY: the last words of the head, used as one atomic of this size alone; units are aligned to 8.
        unsafe { AtomicU64::from_ptr(self.0.as_ptr().wrapping_add(16).cast()) }
    }

    /// The span, in bytes, read as a plain word.
    ///
    /// # Safety
    ///
    /// The entry was taken from where it was published.
    #[inline(always)]
    pub(super) unsafe fn span_seen(self) -> usize {
        // SAFETY: all that was written to its place happened before, and it is not written any more.
        unsafe { settled_u64(self.span()) as usize }
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
        let len = (self.state().load(Relaxed) & STATE_LEN) as usize;
        let fits = (1..=MAX_FRAMES).contains(&len) && self.has_room(len);
        fits.then_some(EntryFrames { entry: self, len })
    }

    /// Whether so many frames lie in the page.
    fn has_room(self, frames: usize) -> bool {
        let room = METADATA_PAGE - self.0.addr().get() % METADATA_PAGE;
        units_of(frames) as usize * UNIT <= room
    }
}

/// The frames of an entry, all of which lie in its page.
#[derive(Clone, Copy)]
pub(super) struct EntryFrames {
    entry: StackEntry,
    len: usize,
}

impl EntryFrames {
    pub(super) fn len(self) -> usize {
        self.len
    }

    /// The addresses, innermost first.
    pub(super) fn addresses(self) -> impl Iterator<Item = usize> {
        let groups = self.entry.groups();
        // SAFETY: the entry has these frames.
        (0..self.len).map(move |frame| unsafe { groups.address(frame) })
    }
}

const _: () = {
    assert!(MAX_FRAMES as u32 <= STATE_LEN);
    assert!(units_of(MAX_FRAMES) < PAGE_UNITS);
    assert!(((MAX_FRAMES as u32 - 1) << STATE_COMPARED) < 1 << STATE_MARKS);
    assert!(MAX_FRAMES * (u16::MAX as usize) <= u32::MAX as usize);
};
