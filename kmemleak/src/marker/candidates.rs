//! Words that may be pointers: what they point to, and what becomes of that.

use core::cell::Cell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{Course, Marker, RING, Shared};
use crate::chunk::{Chunk, ENTRY_WORDS, granule_of, info};
use crate::memory::WORD;
use crate::page_map::{Look, chunk_of};
use crate::platform::Platform;
use crate::prefetch::prefetch;
use crate::queue::Entry;
use crate::record::{Place, flag};
use crate::registry::{Access, Object, alias_owner, object_in};

/// The entry of a chunk in which there is nothing, for rings that are not full.
pub(super) static BLANK: [AtomicU64; ENTRY_WORDS] = [const { AtomicU64::new(0) }; ENTRY_WORDS];

pub(super) fn blank() -> Chunk {
    Chunk::at(NonNull::from(&BLANK).cast())
}

/// A candidate that waits for the entry of its chunk.
#[derive(Clone, Copy)]
pub(super) struct Candidate {
    pub(super) word: usize,
    pub(super) chunk: Chunk,
}

/// A marked object that waits for its record.
#[derive(Clone, Copy)]
pub(super) struct Marked {
    pub(super) start: usize,
    /// None in a ring that is not full.
    pub(super) record: Option<Place>,
}

/// What remains to be done when the chunk of an object is closed.
pub(super) enum Then {
    Nothing,
    /// It is marked now.
    Queue,
    /// It is a copy of the per-CPU block with this handle, pointed to like this.
    Owner(usize, Points),
    /// Another object has one more reference: the one that the notes of this one name.
    Count(usize),
}

/// What a pointer points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Points {
    /// The first byte of an object.
    AtStart,
    /// Another one.
    Inside,
}

impl Points {
    fn of(word: usize, start: usize) -> Self {
        if word == start {
            Self::AtStart
        } else {
            Self::Inside
        }
    }
}

/// There is no room in the queue for a marked object: leaves a note at it.
#[cold]
#[inline(never)]
pub(super) fn postpone(record: Place, chunk: Chunk, overflowed: &AtomicBool) {
    record.set(flag::PENDING);
    chunk.set(info::PENDING);
    if !overflowed.load(Ordering::Relaxed) {
        overflowed.store(true, Ordering::Release);
    }
}

/// An object is alive through interior pointers only, as far as is known.
#[cold]
#[inline(never)]
pub(super) fn note_interior_only(record: Place, chunk: Chunk) {
    record.set(flag::INTERIOR_ONLY);
    chunk.set(info::INTERIOR_ONLY);
}

/// A word points at an object that is open.
pub(super) fn refer(object: Object<'_>, points: Points, course: Course, shared: &Shared) -> Then {
    if object.mark.is_set() {
        return Then::Nothing;
    }
    let record = object.record.read();
    if record.has(flag::ALIAS) {
        if points == Points::AtStart {
            object.mark.set();
        }
        return Then::Owner(alias_owner(&record), points);
    }
    if record.has(flag::EXCESS) {
        // Never marked, so that every pointer comes here: as many as it needs are its own, the others are the other's.
        if !record.has(flag::REACHED) {
            if record.min_count() > 1 && !object.record.count_reference() {
                return Then::Nothing;
            }
            if object.record.set(flag::REACHED) & flag::REACHED == 0 {
                return Then::Queue;
            }
        }
        return Then::Count(object.start);
    }
    if record.min_count() > 1 {
        let enough = object.record.count_reference();
        if points == Points::AtStart && course == Course::Starts {
            object.record.set_started();
        }
        if !enough {
            return Then::Nothing;
        }
    }
    let started = points == Points::AtStart
        || record.min_count() > 1 && (object.record.is_started() || course == Course::Interiors);
    if !started {
        // It waits until the start pointers are through.
        object.record.set(flag::INTERIOR);
        object.chunk.set(info::INTERIOR);
        shared.interior.store(true, Ordering::Release);
        return Then::Nothing;
    }
    if !object.mark.set() {
        return Then::Nothing;
    }
    if course == Course::Interiors {
        note_interior_only(object.record, object.chunk);
        if object.record.is_started() {
            shared.started.store(true, Ordering::Release);
        }
    }
    Then::Queue
}

impl<'a, P: Platform, A: Access> Marker<'a, P, A> {
    /// A word that may be an address in an object.
    #[inline(always)]
    pub(super) fn candidate(&mut self, word: usize) {
        if !A::STOPPED {
            self.candidates += 1;
            return self.look_up(word);
        }
        match self.way.look(&self.tools.registry.map, chunk_of(word)) {
            Look::Entry(chunk) => {
                prefetch(chunk.address());
                self.candidate_at(Candidate { word, chunk });
            }
            Look::Nothing => {
                self.candidates += 1;
                self.misses += 1;
            }
            Look::Run(_) => {
                self.candidates += 1;
                self.look_up(word);
            }
        }
    }

    /// Puts a candidate into its ring, and looks at the one that has waited there.
    #[inline(always)]
    pub(super) fn candidate_at(&mut self, candidate: Candidate) {
        let slot = &mut self.candidates_ahead[self.next_candidate % RING];
        let Candidate { word, chunk } = core::mem::replace(slot, candidate);
        self.next_candidate += 1;
        let granule = granule_of(word);
        let starts = chunk.starts().load(Ordering::Relaxed);
        if !word.is_multiple_of(WORD) || starts >> granule & 1 == 0 {
            if starts != 0 || !chunk.is_blank() {
                self.look_up(word);
            } else {
                self.misses += 1;
            }
            return;
        }
        if chunk.marks().load(Ordering::Relaxed) >> granule & 1 != 0 {
            return;
        }
        if chunk.has(info::SPECIAL) {
            return self.look_up(word);
        }
        let object = object_in(chunk_of(word), chunk, granule);
        if object.mark.set() {
            if self.course == Course::Interiors {
                note_interior_only(object.record, chunk);
            }
            prefetch(object.record.address());
            self.marked_at(Marked {
                start: word,
                record: Some(object.record),
            });
        }
    }

    /// Puts a marked object into its ring, and queues the one that has waited there.
    #[inline(always)]
    pub(super) fn marked_at(&mut self, marked: Marked) {
        let slot = &mut self.marked_ahead[self.next_marked % RING];
        let before = core::mem::replace(slot, marked);
        self.next_marked += 1;
        if let Some(record) = before.record
            && !self.queue.push(Entry::of_aligned(before.start, record))
        {
            self.note_pending(before.start);
        }
    }

    /// A candidate that needs a closer look.
    #[inline(never)]
    pub(super) fn look_up(&mut self, word: usize) {
        let place = Cell::new(None);
        let (course, shared) = (self.course, self.shared);
        let hit = self.tools.registry.containing::<A, _>(word, |object| {
            place.set(Some((object.start, object.record)));
            refer(object, Points::of(word, object.start), course, shared)
        });
        let (Some(then), Some((start, record))) = (hit, place.get()) else {
            self.misses += 1;
            return;
        };
        match then {
            Then::Nothing => {}
            Then::Queue => self.queue_found(start, record),
            Then::Owner(owner, points) => self.refer_to(owner, points),
            Then::Count(start) if self.area == Some(start) => {}
            Then::Count(start) => {
                if let Some(other) = self.tools.registry.notes.excess(start) {
                    self.refer_to(other, Points::AtStart);
                }
            }
        }
    }

    /// One more reference to the object at `start`, from elsewhere.
    #[cold]
    fn refer_to(&mut self, start: usize, points: Points) {
        let place = Cell::new(None);
        let (course, shared) = (self.course, self.shared);
        let then = self.tools.registry.starting_at::<A, _>(start, |object| {
            place.set(Some((object.start, object.record)));
            refer(object, points, course, shared)
        });
        if let (Some(Then::Queue), Some((start, record))) = (then, place.get()) {
            self.queue_found(start, record);
        }
    }

    pub(crate) fn queue_found(&mut self, start: usize, record: Place) {
        if !self.queue.push(Entry::new(start, record)) {
            self.note_pending(start);
        }
    }

    /// No room in the queue: by the object's address, since its chunk is closed.
    #[cold]
    pub(super) fn note_pending(&self, start: usize) {
        let overflowed = &self.shared.overflowed;
        self.tools.registry.starting_at::<A, _>(start, |object| {
            postpone(object.record, object.chunk, overflowed)
        });
    }

    /// Looks at all candidates that wait, and queues all objects that do.
    pub(super) fn flush(&mut self) {
        for _ in 0..RING {
            self.candidate_at(Candidate {
                word: 0,
                chunk: blank(),
            });
            self.flushed += 1;
        }
        for _ in 0..RING {
            self.marked_at(Marked {
                start: 0,
                record: None,
            });
        }
    }

    /// Queues a marked object, or leaves a note at it.
    pub(super) fn enqueue(&mut self, object: Object<'_>) {
        if !self.queue.push(Entry::new(object.start, object.record)) {
            postpone(object.record, object.chunk, &self.shared.overflowed);
        }
    }

    /// Marks and queues an object whatever points to it, and tells whether that is new. Its chunk is open.
    pub(crate) fn keep(&mut self, object: Object<'_>) -> bool {
        let new = object.mark.set();
        if new {
            self.enqueue(object);
        }
        new
    }
}
