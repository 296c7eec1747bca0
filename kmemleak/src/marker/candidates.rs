//! Words that may be pointers: what they point to, and what the marker does about it.

use core::cell::Cell;
use core::sync::atomic::Ordering;

use super::{Marker, PointerPass, SharedPass};
use crate::marker::queue::Entry;
use crate::objects::access::Access;
use crate::objects::chunk::{Chunk, info};
use crate::objects::object::{Object, alias_owner};
use crate::objects::record::{MANY, RecordRef, flag};
use crate::objects::side_table::SideTable;
use crate::objects::spill::Spill;
use crate::platform::Platform;

/// What remains to be done when the chunk of an object is closed.
#[derive(Clone, Copy)]
pub(super) enum Then {
    Nothing,
    /// The object is alive now: it is to be scanned.
    Queue,
    /// The object is a copy of the per-CPU block with this handle, and was pointed to in this way.
    Owner(usize, Points),
    /// The object does not need the pointer, which counts for the object at this address.
    PassOn(usize),
    /// Both: it is alive now because of a pointer to its start, and already had as many pointers as it needs.
    QueueAndPassOn(usize),
}

/// What a pointer points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Points {
    /// The first byte of an object.
    AtStart,
    /// Any other byte.
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

/// The queue has no room for a marked object, whose chunk is open.
#[cold]
#[inline(never)]
pub(super) fn postpone(start: usize, record: RecordRef, chunk: Chunk, spill: &Spill) {
    spill.add(start, record, chunk);
}

/// Notes that an object is alive through interior pointers only, as far as is known.
#[cold]
#[inline(never)]
pub(super) fn note_interior_only(record: RecordRef, chunk: Chunk) {
    record.set(flag::INTERIOR_ONLY);
    chunk.set(info::INTERIOR_ONLY);
}

impl Object<'_> {
    /// Makes the object alive, and tells whether that is new: true for only one of the CPUs that try. An object with an excess
    /// reference is never marked, so that all pointers to it are counted.
    pub(crate) fn enliven(&self) -> bool {
        if self.record.has(flag::EXCESS) {
            return self.record.set(flag::REACHED) & flag::REACHED == 0;
        }
        self.mark.set()
    }
}

/// Notes, before a pointer is counted, whether it points to the start of an object that counts its pointers. So the CPU whose
/// pointer completes the count knows of it, for the count is in the same word, or changes under a lock.
fn note_started(object: Object<'_>, points: Points, pointers: PointerPass) {
    if points == Points::AtStart && pointers == PointerPass::Starts {
        object.record.set_started();
    }
}

/// Handles a word that points at an object that is open.
pub(super) fn refer(
    object: Object<'_>,
    points: Points,
    pointers: PointerPass,
    shared: &SharedPass,
    side_table: &SideTable,
) -> Then {
    if object.mark.is_set() {
        return Then::Nothing;
    }
    let record = object.record.read();
    if record.has(flag::ALIAS) {
        return Then::Owner(alias_owner(&record), points);
    }
    if record.has(flag::EXCESS) {
        return refer_area(object, points, pointers, shared, side_table);
    }
    if record.min_count() > 1 {
        note_started(object, points, pointers);
        if !object.count_reference(side_table) {
            return Then::Nothing;
        }
    }
    let started = points == Points::AtStart
        || pointers == PointerPass::Interiors
        || record.min_count() > 1 && object.record.is_started();
    match referenced(object, started, pointers, shared) {
        true => Then::Queue,
        false => Then::Nothing,
    }
}

/// Counts a reference to an object that has an excess reference.
#[cold]
fn refer_area(
    object: Object<'_>,
    points: Points,
    pointers: PointerPass,
    shared: &SharedPass,
    side_table: &SideTable,
) -> Then {
    note_started(object, points, pointers);
    let Some(arrival) = side_table.arrive(object.start) else {
        return Then::Nothing;
    };
    let record = object.record.read();
    let needed = match record.min_count() {
        // If there was no memory for the note, the object is no leak.
        MANY => side_table
            .references(object.start)
            .map_or(0, |(needed, _)| needed),
        few => few,
    };
    let Ok(needed) = u64::try_from(needed) else {
        // Black: it passes nothing on.
        return Then::Nothing;
    };
    let started = pointers == PointerPass::Interiors || object.record.is_started();
    let queue = arrival.number >= needed
        && !record.has(flag::REACHED)
        && referenced(object, started, pointers, shared);
    match (queue, arrival.number > needed) {
        (false, false) => Then::Nothing,
        (true, false) => Then::Queue,
        (false, true) => Then::PassOn(arrival.other),
        (true, true) => Then::QueueAndPassOn(arrival.other),
    }
}

/// Handles an object that has as many references as it needs: whether it is now alive, and is to be queued. If none of them
/// points to its start, it waits until all start pointers have been followed.
fn referenced(
    object: Object<'_>,
    started: bool,
    pointers: PointerPass,
    shared: &SharedPass,
) -> bool {
    if !started {
        object.record.set(flag::INTERIOR);
        object.chunk.set(info::INTERIOR);
        shared.interior.store(true, Ordering::Release);
        return false;
    }
    if !object.enliven() {
        return false;
    }
    if pointers == PointerPass::Interiors {
        note_interior_only(object.record, object.chunk);
        if object.record.is_started() {
            shared.started.store(true, Ordering::Release);
        }
    }
    true
}

impl<'a, P: Platform, A: Access> Marker<'a, P, A> {
    /// Handles a candidate that needs a closer look.
    #[inline(never)]
    pub(super) fn look_up(&mut self, word: usize) {
        let access = self.access;
        let place = Cell::new(None);
        let (pointers, shared, area) = (self.pointers, self.shared, self.area);
        let registry = self.tools.registry;
        let hit = self.without_interrupts(|_| {
            registry.containing(access, word, |object| {
                place.set(Some((object.start, object.record)));
                if area == Some(object.start) {
                    // Its pointers to itself don't count.
                    return Then::Nothing;
                }
                let points = Points::of(word, object.start);
                refer(object, points, pointers, shared, &registry.side_table)
            })
        });
        let (Some(then), Some((start, record))) = (hit, place.get()) else {
            self.misses += 1;
            return;
        };
        match then {
            Then::Nothing => {}
            Then::Queue => self.queue_found(start, record),
            Then::Owner(owner, _) if area == Some(owner) => {}
            Then::Owner(owner, points) => self.refer_to_owner(start, owner, points),
            Then::PassOn(other) => self.pass_on(Some(other)),
            Then::QueueAndPassOn(other) => {
                self.queue_found(start, record);
                self.pass_on(Some(other));
            }
        }
    }

    /// Handles a pointer to a copy of a per-CPU block.
    #[cold]
    fn refer_to_owner(&mut self, copy: usize, owner: usize, points: Points) {
        let access = self.access;
        let other = self.refer_to(owner, points);
        self.pass_on(other);
        let registry = self.tools.registry;
        let counts_all = |owner: Object<'_>| owner.record.has(flag::EXCESS);
        if points == Points::AtStart
            && self.without_interrupts(|_| registry.starting_at(access, owner, counts_all))
                == Some(false)
        {
            // One pointer is enough: later ones find the mark.
            self.without_interrupts(|_| {
                registry.starting_at(access, copy, |copy| {
                    if copy.record.has(flag::ALIAS) {
                        copy.mark.set();
                    }
                })
            });
        }
    }

    /// Counts one more reference to the object at `start`, from another object or a root. Returns the object that the reference
    /// counts for, if this one does not need it.
    #[cold]
    fn refer_to(&mut self, start: usize, points: Points) -> Option<usize> {
        let access = self.access;
        let place = Cell::new(None);
        let (pointers, shared) = (self.pointers, self.shared);
        let registry = self.tools.registry;
        let then = self.without_interrupts(|_| {
            registry.starting_at(access, start, |object| {
                place.set(Some((object.start, object.record)));
                refer(object, points, pointers, shared, &registry.side_table)
            })
        });
        let (start, record) = place.get()?;
        match then? {
            Then::Nothing | Then::Owner(..) => None,
            Then::Queue => {
                self.queue_found(start, record);
                None
            }
            Then::PassOn(other) => Some(other),
            Then::QueueAndPassOn(other) => {
                self.queue_found(start, record);
                Some(other)
            }
        }
    }

    /// Counts a pointer that an object does not need for another object; if that does not need it either, for the next.
    ///
    /// Each link is noted when the block at its end is new, so links form a circle only after misuse, or if callbacks run at the
    /// same time; a pointer that has gone round meets only objects that have all they need (Brent 1980).
    #[cold]
    fn pass_on(&mut self, to: Option<usize>) {
        let (mut next, mut seen, mut steps, mut limit) = (to, None, 0_u32, 1_u32);
        while let Some(object) = next {
            if seen == Some(object) {
                return;
            }
            if steps == limit {
                (seen, steps, limit) = (Some(object), 0, limit.saturating_mul(2));
            }
            steps += 1;
            // Nothing points to its start.
            next = self.refer_to(object, Points::Inside);
        }
    }

    pub(crate) fn queue_found(&mut self, start: usize, record: RecordRef) {
        if !self.queue.push(Entry::new(start, record)) {
            self.note_pending(start);
        }
    }

    /// Handles a full queue by the object's address, since its chunk is closed.
    #[cold]
    fn note_pending(&mut self, start: usize) {
        let (access, registry) = (self.access, self.tools.registry);
        let spill = &self.shared.spill;
        self.without_interrupts(|_| {
            registry.starting_at(access, start, |object| {
                postpone(object.start, object.record, object.chunk, spill)
            })
        });
    }

    /// Queues a marked object, or leaves a note at it.
    pub(super) fn enqueue(&mut self, object: Object<'_>) {
        if !self.queue.push(Entry::new(object.start, object.record)) {
            postpone(
                object.start,
                object.record,
                object.chunk,
                &self.shared.spill,
            );
        }
    }

    /// Marks and queues an object even if nothing points to it, and tells whether that is new. Its chunk is open.
    pub(crate) fn keep(&mut self, object: Object<'_>) -> bool {
        let new = object.enliven();
        if new {
            self.enqueue(object);
        }
        new
    }
}

#[cfg(test)]
mod tests;
