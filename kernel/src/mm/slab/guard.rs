//! What guards the objects of slabs where freed blocks are poisoned.
//!
//! ```text
//! header | a track for each object | red zone | object | red zone | red zone | object | red zone ...
//! ```
//!
//! An object lies in a *slot* that is larger: 16 bytes of red zone before it, and one of at least 16 bytes behind it, which begins
//! where the bytes end that the user asked for. Objects are aligned as without. A *track* says how the object is used, who
//! allocated and who freed it last; it lies apart from the objects, so what runs over a red zone does not destroy at once what
//! tells of it.
//!
//! | moment | what is looked at | then |
//! | --- | --- | --- |
//! | an object is handed out | all of its slot: poison and red zones | filled anew; the red zone begins where the user's bytes end |
//! | it is freed | both red zones | poisoned |
//! | it leaves the quarantine | all of its slot | |
//! | `mem check` | all slots | |
//!
//! # Invariants
//!
//! - A track's state says whether the object is in use or free, and changes when that changes; meanwhile it is odd. The object's
//!   slot is written to by the CPU that made it odd, and by the object's user. So who finds a state even and unchanged has seen the
//!   slot as it was.
//! - What is looked at is free of races only as far as users keep to their blocks; all else is read as it is.

use core::fmt;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};

use arrayvec::ArrayVec;

use super::SlabCache;
use super::slabs::{Layout, MAX_OBJECTS, Slab, SlabRef, locate};
use crate::mm::page;
use crate::mm::poison::{
    CallStack, Damage, FRESH, Found, POISON, RED_ZONE, Report, changed, fill, tell_history,
};

/// Poisons from now on what is freed, and lays red zones. Called on the boot CPU while it runs alone. Errors: [`TooLate`] where
/// there are slabs already.
pub fn switch_poison_on() -> Result<(), TooLate> {
    if super::pages() > 0 {
        return Err(TooLate);
    }
    page::set_poisoned();
    Ok(())
}

/// There are slabs without red zones already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLate;

impl fmt::Display for TooLate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("poison must be switched on before the first allocation from a slab")
    }
}

/// Bytes of the red zone before an object.
const BEFORE: usize = 16;

/// Bytes of the red zone behind an object at least.
const BEHIND: usize = 16;

/// What is known of an object.
#[repr(C)]
pub(super) struct Track {
    /// Counts up: free, changing, in use, changing, free again.
    state: AtomicU32,
    /// Bytes that the user asked for.
    asked: AtomicU32,
    /// The next object in the quarantine.
    pub(super) next: AtomicUsize,
    allocated: CallStack,
    freed: CallStack,
}

impl Track {
    const fn new() -> Self {
        Self {
            state: AtomicU32::new(0),
            asked: AtomicU32::new(0),
            next: AtomicUsize::new(0),
            allocated: CallStack::new(),
            freed: CallStack::new(),
        }
    }

    fn content(state: u32) -> Content {
        match state % 4 {
            0 => Content::Free,
            2 => Content::InUse,
            _ => Content::Changing,
        }
    }

    /// Called by who hands the object out or takes it back, before and after.
    fn step(&self) {
        self.state.fetch_add(1, Ordering::AcqRel);
    }
}

/// A part of a slot that nobody may write to, and what it is if somebody does.
type Place = (Damage, Range<usize>);

/// What the parts of a slot are filled with that nobody may write to.
fn filled_with(damage: Damage) -> u8 {
    match damage {
        Damage::AfterFree => POISON,
        Damage::BeforeStart | Damage::PastEnd => RED_ZONE,
    }
}

/// How an object is used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Free,
    InUse,
    Changing,
}

impl Layout {
    /// As many objects in slots as fit behind a header and their tracks into `slab_len` bytes.
    pub(super) const fn guarded(cache: &SlabCache, slab_len: usize) -> Self {
        let stride = (cache.object_size + BEHIND + BEFORE).next_multiple_of(cache.align());
        let mut objects = slab_len / stride;
        if objects > MAX_OBJECTS {
            objects = MAX_OBJECTS;
        }
        loop {
            let tracks = size_of::<Slab>() + objects * size_of::<Track>();
            let first = (tracks + BEFORE).next_multiple_of(cache.align());
            if first + objects * stride <= slab_len {
                return Self {
                    first: first as u32,
                    stride: stride as u32,
                    objects: objects as u32,
                };
            }
            objects -= 1;
        }
    }
}

/// An object of a slab that has tracks.
#[derive(Clone, Copy)]
pub(super) struct Guarded {
    slab: SlabRef,
    index: usize,
}

impl Guarded {
    /// The object that begins at `address`, in a slab that was made with a [guarded](Layout::guarded) layout, as all are where
    /// freed blocks are poisoned.
    pub(super) fn at(address: usize) -> Option<Self> {
        let (slab, index) = locate(address).ok()?;
        Some(Self { slab, index })
    }

    /// The object at this place in a slab that has tracks.
    pub(super) fn new(slab: SlabRef, index: usize) -> Self {
        Self { slab, index }
    }

    fn track_place(&self) -> *mut Track {
        let tracks = self.slab.address() + size_of::<Slab>();
        ptr::with_exposed_provenance_mut::<Track>(tracks).wrapping_add(self.index)
    }

    pub(super) fn track(&self) -> &Track {
        // SAFETY: written when the slab was made, behind the header; all its fields are atomic.
        unsafe { &*self.track_place() }
    }

    /// Bytes that it takes in the slab.
    pub(super) fn slot_len(&self) -> usize {
        self.slab.layout.stride as usize
    }

    fn object(&self) -> Range<usize> {
        let start = self.slab.object(self.index);
        start..start + self.slab.cache.object_size
    }

    /// The object and its red zones.
    fn slot(&self) -> Range<usize> {
        let start = self.slab.object(self.index) - BEFORE;
        start..start + self.slot_len()
    }

    /// The part that its user asked for.
    fn asked(&self) -> Range<usize> {
        let start = self.object().start;
        start..start + self.track().asked.load(Ordering::Relaxed) as usize
    }

    /// The red zones of an object whose user's bytes end there.
    fn zones(&self, end: usize) -> [Place; 2] {
        let slot = self.slot();
        [
            (Damage::BeforeStart, slot.start..slot.start + BEFORE),
            (Damage::PastEnd, end..slot.end),
        ]
    }

    /// Fills the slot: the user's bytes, and the red zones round them.
    fn paint(&self, user: Range<usize>, byte: u8) {
        for (_, zone) in self.zones(user.end) {
            // SAFETY: in the slot, and nobody's.
            unsafe { fill(zone, RED_ZONE) };
        }
        // SAFETY: in the slot, which has no user now.
        unsafe { fill(user, byte) };
    }

    /// What nobody may write to, as the object is used.
    fn places(&self, content: Content) -> ArrayVec<Place, 3> {
        let end = match content {
            Content::InUse => self.asked().end,
            Content::Free | Content::Changing => self.object().end,
        };
        let mut places = ArrayVec::from_iter(self.zones(end));
        if content == Content::Free {
            places.push((Damage::AfterFree, self.object()));
        }
        places
    }

    /// Looks at what nobody may write to. What was written to is told, and put right. The caller has made the state odd, or the
    /// object free, so that nobody else gets it meanwhile; the argument says how it was used before.
    fn examine(&self, content: Content, found: Found) {
        for (damage, place) in self.places(content) {
            // SAFETY: in the slot.
            if let Some(changed) = unsafe { changed(place.clone(), filled_with(damage)) } {
                self.tell(damage, changed, found);
                // SAFETY: as above; nobody's memory.
                unsafe { fill(place, filled_with(damage)) };
            }
        }
    }

    /// Looks at an object as it is used now, and tells what was overwritten. If its use changes meanwhile, nothing is told: who
    /// changes it looks at it, too. The slab stays a slab meanwhile, which its cache's lock sees to.
    pub(super) fn check(&self) {
        let state = self.track().state.load(Ordering::Acquire);
        let content = Track::content(state);
        if content == Content::Changing {
            return;
        }
        let overwritten = |(damage, place): Place| {
            // SAFETY: in the slot.
            Some((damage, unsafe { changed(place, filled_with(damage)) }?))
        };
        let places = self.places(content).into_iter();
        let overwritten: ArrayVec<_, 3> = places.filter_map(overwritten).collect();
        fence(Ordering::Acquire);
        if self.track().state.load(Ordering::Relaxed) == state {
            for (damage, changed) in overwritten {
                self.tell(damage, changed, Found::Checked);
            }
        }
    }

    #[cold]
    fn tell(&self, damage: Damage, changed: Range<usize>, found: Found) {
        let report = Report {
            allocator: self.slab.cache.name(),
            damage,
            found,
            block: self.asked(),
            changed,
            around: self.slot(),
        };
        // SAFETY: the slot is mapped.
        unsafe { report.tell() };
        self.tell_history();
    }

    /// Prints who allocated and who freed the object last. Any context but an NMI.
    pub(super) fn tell_history(&self) {
        tell_history(&self.track().allocated, &self.track().freed);
    }

    /// Makes the object its user's, who asked for so many bytes.
    #[unsafe(link_section = ".text.hooks")]
    #[inline(never)]
    pub(super) fn hand_out(&self, asked: usize) {
        let track = self.track();
        track.step();
        self.examine(Content::Free, Found::HandedOut);
        let asked = asked.min(self.slab.cache.object_size);
        track.asked.store(asked as u32, Ordering::Relaxed);
        track.allocated.record();
        self.paint(self.asked(), FRESH);
        track.step();
    }

    /// Makes the object, which was taken from its user, a free one.
    #[unsafe(link_section = ".text.hooks")]
    #[inline(never)]
    pub(super) fn take_back(&self) {
        let track = self.track();
        track.step();
        track.freed.record();
        self.examine(Content::InUse, Found::Freed);
        self.paint(self.object(), POISON);
        track.step();
    }

    /// Looks at a free object that nobody else can get at.
    pub(super) fn let_go(&self) {
        self.examine(Content::Free, Found::LetGo);
    }
}

/// Makes the tracks and slots of a new slab, whose objects are all free.
pub(super) fn begin(slab: SlabRef) {
    for index in 0..slab.layout.objects as usize {
        let object = Guarded { slab, index };
        // SAFETY: behind the header of a fresh slab, which nobody else knows yet; aligned as the header is.
        unsafe { object.track_place().write(Track::new()) };
        object.paint(object.object(), POISON);
    }
}
