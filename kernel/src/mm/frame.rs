//! Page frames: an array with one descriptor for each.
//!
//! A descriptor says what the frame is used for, and whose it is; it holds a word for its owner: while a frame is in use that
//! word is a root of the leak detector. Links between descriptors are frame numbers, not addresses, so
//! that the lists of free frames would keep nothing alive even if they were scanned.
//!
//! # Invariants
//!
//! - A block of frames is described by its first one, the *head*; the others are `Tail`.
//! - Heads partition the frames that the buddy allocator manages; all other frames are `Reserved`, or `Absent`.
//! - A descriptor's use and link are changed under the buddy allocator's lock, or by the owner of the block.

use core::mem::offset_of;
use core::ops::Range;
use core::ptr;
use core::slice;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use bootloader_api::info::{MemoryRegionKind, MemoryRegions};
use spin::Once;

use super::PAGE;
use crate::arch::memory;

/// Frames below this address are left to the firmware and the start of other CPUs.
pub const LOW_MEMORY: u64 = 0x10_0000;

/// Frames from this address on are not used: the window has no room for them.
pub const END: u64 = 1 << 39;

/// No frame: the end of a list.
pub const NO_FRAME: u32 = u32::MAX;

/// What a frame is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Use {
    /// There is no memory.
    Absent,
    /// Belongs to the block of a frame before it.
    Tail,
    /// Head of a free block.
    Free,
    /// Head of a block taken through the tracked entry.
    Tracked,
    /// Head of a block taken through the untracked entry.
    Untracked,
    /// Head of a block that was taken from its user, and is in no list yet.
    Retired,
    /// Memory that the buddy allocator does not manage.
    Reserved,
}

/// A page frame's descriptor.
#[derive(Debug)]
#[repr(C)]
pub struct Frame {
    /// What the frame is used for; in the high half, the order of its block.
    usage: AtomicU32,
    /// The next frame of the list that this one is in.
    next: AtomicU32,
    /// The frame before, if the list is doubly linked.
    previous: AtomicU32,
    /// Which kind of owner the frame has: what [`owner`](Self::owner) tells its word by.
    kind: AtomicU32,
    /// The owner's word.
    word: AtomicUsize,
}

impl Frame {
    const fn new() -> Self {
        Self {
            usage: AtomicU32::new(Use::Absent as u32),
            next: AtomicU32::new(NO_FRAME),
            previous: AtomicU32::new(NO_FRAME),
            kind: AtomicU32::new(kind::USER),
            word: AtomicUsize::new(0),
        }
    }

    /// What the frame is used for, and the order of the block it heads.
    pub fn usage(&self) -> (Use, u32) {
        let bits = self.usage.load(Ordering::Acquire);
        let usage = match bits & 0xffff {
            1 => Use::Tail,
            2 => Use::Free,
            3 => Use::Tracked,
            4 => Use::Untracked,
            5 => Use::Retired,
            6 => Use::Reserved,
            _ => Use::Absent,
        };
        (usage, bits >> 16)
    }

    pub(super) fn set_usage(&self, usage: Use, order: u32) {
        self.usage
            .store(usage as u32 | order << 16, Ordering::Release);
    }

    pub(super) fn next(&self) -> u32 {
        self.next.load(Ordering::Relaxed)
    }

    pub(super) fn set_next(&self, next: u32) {
        self.next.store(next, Ordering::Relaxed);
    }

    pub(super) fn previous(&self) -> u32 {
        self.previous.load(Ordering::Relaxed)
    }

    pub(super) fn set_previous(&self, previous: u32) {
        self.previous.store(previous, Ordering::Relaxed);
    }

    /// Whose the frame is. Any context.
    #[inline]
    pub fn owner(&self) -> Owner {
        match self.kind.load(Ordering::Acquire) {
            kind::SLAB => Owner::Slab(self.word.load(Ordering::Relaxed)),
            kind::METADATA => Owner::Metadata,
            kind::PAGE_TABLE => Owner::PageTable,
            kind::IMAGE => Owner::Image,
            _ => Owner::User(self.word.load(Ordering::Relaxed)),
        }
    }

    /// Where the slab begins that the frame belongs to, if it belongs to one. Any context.
    #[inline]
    pub fn slab(&self) -> Option<usize> {
        let is_slab = self.kind.load(Ordering::Acquire) == kind::SLAB;
        is_slab.then(|| self.word.load(Ordering::Relaxed))
    }

    /// The address of the owner's word.
    pub fn word_address(&self) -> usize {
        self.word.as_ptr().addr()
    }

    /// Says whose the frame is. Called by its owner, or where it is handed over. The owner's word is a root of
    /// the leak detector while the frame is in use.
    pub fn set_owner(&self, owner: Owner) {
        let (kind, word) = match owner {
            Owner::User(word) => (kind::USER, word),
            Owner::Slab(start) => (kind::SLAB, start),
            Owner::Metadata => (kind::METADATA, 0),
            Owner::PageTable => (kind::PAGE_TABLE, 0),
            Owner::Image => (kind::IMAGE, 0),
        };
        self.kind.store(kind::USER, Ordering::Relaxed);
        self.word.store(word, Ordering::Release);
        self.kind.store(kind, Ordering::Release);
    }
}

/// Whose a frame in use is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A user of the page allocator. What the owner's word holds is its own matter.
    User(usize),
    /// A slab, whose first frame begins at this address.
    Slab(usize),
    /// The leak detector, for metadata.
    Metadata,
    /// The page tables, of which the frame is one.
    PageTable,
    /// The kernel's image, of which the frame holds code or constants.
    Image,
}

mod kind {
    pub(super) const USER: u32 = 0;
    pub(super) const SLAB: u32 = 1;
    pub(super) const METADATA: u32 = 2;
    pub(super) const PAGE_TABLE: u32 = 3;
    pub(super) const IMAGE: u32 = 4;
}

static FRAMES: Once<&'static [Frame]> = Once::new();
static TRAMPOLINE: Once<u64> = Once::new();
/// Physical addresses at which the array begins and ends.
static ARRAY: Once<(u64, u64)> = Once::new();

/// All descriptors, by frame number.
pub fn frames() -> &'static [Frame] {
    FRAMES.get().copied().unwrap_or_default()
}

/// The descriptor of the frame that the window shows at `address`.
pub fn frame_of(address: usize) -> Option<&'static Frame> {
    frames().get(number_of(address)? as usize)
}

/// The number of the frame that the window shows at `address`.
pub fn number_of(address: usize) -> Option<u32> {
    let physical = (address as u64).checked_sub(memory::PHYSICAL_WINDOW)?;
    let number = physical / PAGE as u64;
    (number < frames().len() as u64).then_some(number as u32)
}

/// Addresses in the window that show memory without a hole.
struct Span {
    start: AtomicUsize,
    end: AtomicUsize,
}

/// The largest parts of memory, the larger one first: mostly that below the devices' addresses, and that above.
static SPANS: [Span; 2] = [const {
    Span {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
    }
}; 2];

/// Notes a part of memory, if it is among the largest.
fn note_span(mut span: Range<usize>) {
    for known in &SPANS {
        let before = known.start.load(Ordering::Relaxed)..known.end.load(Ordering::Relaxed);
        if span.len() > before.len() {
            known.start.store(span.start, Ordering::Relaxed);
            known.end.store(span.end, Ordering::Relaxed);
            span = before;
        }
    }
}

/// Whether the window shows memory at all addresses from `start` to `end`, which is not below it. Any context.
#[inline]
pub fn are_memory(start: usize, end: usize) -> bool {
    let is_in = |span: &Span| {
        span.start.load(Ordering::Relaxed) <= start && end <= span.end.load(Ordering::Relaxed)
    };
    SPANS.iter().any(is_in) || frames_are_memory(start, end)
}

#[cold]
fn frames_are_memory(start: usize, end: usize) -> bool {
    let window = memory::window(0);
    let (Some(first), Some(end)) = (start.checked_sub(window), end.checked_sub(window)) else {
        return false;
    };
    let found = frames().get(first / PAGE..end.div_ceil(PAGE));
    found.is_some_and(|frames| frames.iter().all(|frame| frame.usage().0 != Use::Absent))
}

/// The address of a frame in the window.
pub fn address_of(number: u32) -> usize {
    memory::window(u64::from(number) * PAGE as u64)
}

/// The physical address of a page below 1 MiB, for the start of other CPUs.
///
/// # Panics
///
/// If the machine has no such page; all PCs known so far have one.
pub fn trampoline_page() -> u64 {
    *TRAMPOLINE
        .get()
        .expect("the memory map has no usable page below 1 MiB")
}

/// The usable parts of the memory map above [`LOW_MEMORY`], without the array, in whole frames.
pub(super) fn usable(regions: &MemoryRegions) -> impl Iterator<Item = (u64, u64)> {
    let array = ARRAY.get().copied().unwrap_or((0, 0));
    above_low(regions).flat_map(move |(start, end)| {
        // The array lies within one region, at its start.
        if start == array.0 {
            [(array.1, end)]
        } else {
            [(start, end)]
        }
    })
}

/// The parts of the memory map that are memory, which the boot loader may have used. Neighbours are not joined.
pub(super) fn existing(regions: &MemoryRegions) -> impl Iterator<Item = (u64, u64)> {
    let is_memory = |kind| {
        matches!(
            kind,
            MemoryRegionKind::Usable | MemoryRegionKind::Bootloader
        )
    };
    let page = PAGE as u64;
    regions
        .iter()
        .filter(move |region| is_memory(region.kind))
        .map(move |region| {
            (
                region.start.next_multiple_of(page),
                region.end.min(END) & !(page - 1),
            )
        })
        .filter(|(start, end)| start < end)
}

/// Shows the parts of [`existing`] memory, with neighbours joined.
pub(super) fn each_existing(regions: &MemoryRegions, look: &mut dyn FnMut(Range<u64>)) {
    let mut joined = 0..0;
    for (start, end) in existing(regions) {
        if joined.end != start {
            look(joined);
            joined = start..start;
        }
        joined.end = end;
    }
    look(joined);
}

fn above_low(regions: &MemoryRegions) -> impl Iterator<Item = (u64, u64)> {
    regions
        .iter()
        .filter(|region| region.kind == MemoryRegionKind::Usable)
        .map(|region| {
            let start = region.start.max(LOW_MEMORY).next_multiple_of(PAGE as u64);
            (start, region.end.min(END) & !(PAGE as u64 - 1))
        })
        .filter(|(start, end)| start < end)
}

/// Lays the array into the largest usable region.
///
/// # Panics
///
/// If there is no memory for the array.
pub(super) fn init(regions: &MemoryRegions) {
    let end = existing(regions)
        .map(|(_, end)| end)
        .max()
        .expect("the memory map names no memory");
    let count = (end / PAGE as u64) as usize;
    let len = (count * size_of::<Frame>()).next_multiple_of(PAGE) as u64;
    let (start, region_end) = above_low(regions)
        .max_by_key(|(start, end)| end - start)
        .expect("the memory map names no memory");
    assert!(
        region_end - start > len,
        "no memory for {len} bytes of frame descriptors"
    );
    ARRAY.call_once(|| (start, start + len));
    let array: *mut Frame = ptr::with_exposed_provenance_mut(memory::window(start));
    for number in 0..count {
        // SAFETY: inside the usable region that is taken for the array.
        unsafe { array.wrapping_add(number).write(Frame::new()) };
    }
    each_existing(regions, &mut |part| {
        note_span(memory::window(part.start)..memory::window(part.end));
    });
    for (start, end) in existing(regions) {
        for number in start / PAGE as u64..(end / PAGE as u64).min(count as u64) {
            // SAFETY: an element that was written just now; nobody else uses the array yet.
            let frame = unsafe { &*array.wrapping_add(number as usize) };
            frame.set_usage(Use::Reserved, 0);
        }
    }
    // SAFETY: all elements were written just now, and the memory is never used for anything else.
    FRAMES.call_once(|| unsafe { slice::from_raw_parts(array, count) });
    let low = regions
        .iter()
        .filter(|region| region.kind == MemoryRegionKind::Usable)
        .map(|region| {
            (
                region.start.max(PAGE as u64).next_multiple_of(PAGE as u64),
                region.end,
            )
        })
        .find(|&(start, end)| start + PAGE as u64 <= end && end <= LOW_MEMORY);
    if let Some((start, _)) = low {
        TRAMPOLINE.call_once(|| start);
    }
}

/// The number of the frame whose descriptor holds the word at `address`, and which of its fields lie there. Any context.
pub fn field_at(address: usize) -> Option<(usize, &'static str)> {
    const NEXT_WORD: usize = offset_of!(Frame, previous);
    const WORD: usize = offset_of!(Frame, word);
    let offset = address.checked_sub(frames().as_ptr().addr())?;
    let number = offset / size_of::<Frame>();
    let field = match offset % size_of::<Frame>() {
        WORD.. => "owner word",
        NEXT_WORD.. => "previous and kind of owner",
        _ => "usage and next",
    };
    (number < frames().len()).then_some((number, field))
}

/// Neighbouring descriptors of frames in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first frame's number.
    pub first: usize,
    /// How many there are.
    pub count: usize,
    /// Address of the first descriptor.
    pub start: usize,
    /// Bytes of the descriptors.
    pub len: usize,
}

/// The next run of frames in use, beginning with number `from` or later. Any context; exact while nobody
/// allocates.
pub fn next_in_use(from: usize) -> Option<Run> {
    let frames = frames();
    let mut number = from;
    let mut first = None;
    while let Some(frame) = frames.get(number) {
        let (usage, order) = frame.usage();
        let in_use = matches!(usage, Use::Tracked | Use::Untracked);
        match (in_use, first) {
            (true, None) => first = Some(number),
            (false, Some(_)) => break,
            _ => {}
        }
        number += if matches!(usage, Use::Absent | Use::Reserved | Use::Tail) {
            1
        } else {
            1 << order
        };
    }
    let first = first?;
    let count = number - first;
    let start = (&raw const frames[first]).addr();
    Some(Run {
        first,
        count,
        start,
        len: count * size_of::<Frame>(),
    })
}
