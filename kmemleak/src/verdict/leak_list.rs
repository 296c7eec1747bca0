//! The objects that a verdict names: copies of their records, so that they can be reported after they were freed.
//!
//! The list lies in pages of metadata, which it keeps for the next verdict, and is sorted by the order of allocation. Objects for
//! which it has no room are counted, and are found again by their flag in the registry (`flag::LISTED`).

use core::cell::Cell;

use crate::metadata::MetaAlloc;
use crate::metadata::hidden::Hidden;
use crate::metadata::page_vec::PageVec;
use crate::objects::record::Record;
use crate::stacks::task_names::Round;

/// A number that no object has.
pub(crate) const NOBODY: u32 = u32::MAX;

/// Chains that wait to be merged: as many as a row's number has bits.
const BINS: usize = 32;

/// What was found out about an object.
pub(crate) mod fate {
    /// Reached in the sweep that goes on.
    pub(crate) const REACHED: u32 = 1 << 0;
    /// Not reached from any object that was allocated before.
    pub(crate) const FIRST: u32 = 1 << 1;
    /// A leader.
    pub(crate) const LEADER: u32 = 1 << 2;
    /// Hidden by a suppression.
    pub(crate) const SUPPRESSED: u32 = 1 << 3;
    /// Not among the objects that the verdict is about.
    pub(crate) const LEFT: u32 = 1 << 4;
    /// The verdict before the last mark did not have the object.
    pub(crate) const NEW: u32 = 1 << 5;
    /// A leader to which an object that it leads to points.
    pub(crate) const CYCLE: u32 = 1 << 6;
    /// Not a leak.
    pub(crate) const NO_LEAK: u32 = SUPPRESSED | LEFT;
}

/// An object that the verdict names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) start: usize,
    /// A copy.
    pub(crate) record: Record,
    /// When it was made.
    pub(crate) copied: Round,
}

/// What is kept of an object.
struct Row {
    start: Hidden,
    record: Record,
    /// The number of its leader.
    leader: Cell<u32>,
    /// While leaders are looked for, an entry of a queue; later an entry of the order in which objects are reported.
    queued: Cell<u32>,
    /// What was found out about it: see [`fate`].
    fate: Cell<u32>,
    /// Of a leader: the bytes that it owns.
    owned_bytes: Cell<usize>,
    /// Of a leader: the objects that it owns.
    owned: Cell<u32>,
    /// Of a leader: where the next of its owned objects goes in the order.
    next_place: Cell<u32>,
}

const _: () = assert!(size_of::<Row>() == 64);

/// The list.
pub(crate) struct LeakList {
    rows: PageVec<Row>,
    /// Objects that found no room.
    pub(crate) left_out: usize,
    /// When the copies in the list were made.
    copied: Round,
}

impl LeakList {
    pub(crate) const fn new() -> Self {
        Self {
            rows: PageVec::new(),
            left_out: 0,
            copied: Round::FIRST,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Empties the list, for copies that are made from now on.
    pub(crate) fn clear(&mut self, now: Round) {
        self.copied = now;
        self.rows.clear();
        self.left_out = 0;
    }

    /// Appends an object; it is left out if there is no memory.
    pub(crate) fn push(&mut self, start: usize, record: Record, meta: &MetaAlloc<'_>) {
        let row = Row {
            start: Hidden::new(start),
            record,
            leader: Cell::new(NOBODY),
            queued: Cell::new(0),
            fate: Cell::new(0),
            owned_bytes: Cell::new(0),
            owned: Cell::new(0),
            next_place: Cell::new(0),
        };
        if self.rows.push(row, meta).is_err() {
            self.left_out += 1;
        }
    }

    /// The object with this number.
    pub(crate) fn get(&self, index: usize) -> Option<Named> {
        self.rows.get(index).map(|row| Named {
            start: row.start.get(),
            record: row.record,
            copied: self.copied,
        })
    }

    /// The number of an object, and whether a suppression hides it; `None` if the verdict is not about it.
    pub(crate) fn find(&self, start: usize, record: &Record) -> Option<(usize, bool)> {
        let index = self.number_of(start, record)?;
        let left = self.left_out > 0 || self.has(index, fate::LEFT);
        (!left).then(|| (index, self.has(index, fate::SUPPRESSED)))
    }

    /// Whether it is certain that the object was referenced when the unreferenced ones were listed.
    pub(crate) fn lacks(&self, start: usize, record: &Record) -> bool {
        self.left_out == 0 && self.number_of(start, record).is_none()
    }

    fn number_of(&self, start: usize, record: &Record) -> Option<usize> {
        let is_it = |index: &usize| self.order(*index) == (record.birth_us(), start);
        (0..self.len()).find(is_it)
    }

    pub(crate) fn start(&self, index: usize) -> usize {
        self.of(index, |row| row.start.get())
    }

    /// A part of an object's row; blank if there is no object with this number.
    fn of<T: Default>(&self, index: usize, part: impl FnOnce(&Row) -> T) -> T {
        self.rows.get(index).map_or_else(T::default, part)
    }

    /// Puts the objects in the order of their allocation, ties by address.
    pub(crate) fn sort(&mut self) {
        // Chains of rows that are in order already are merged, chains of similar length first: the bin with number n has a chain
        // that took n merges. No row moves before its place is known.
        let mut bins = [NOBODY; BINS];
        let (len, mut next) = (self.rows.len(), 0);
        while next < len {
            let first = next;
            next += 1;
            while next < len && self.order(next - 1) <= self.order(next) {
                self.set_queued(next - 1, next);
                next += 1;
            }
            self.set_queued(next - 1, NOBODY as usize);
            let mut chain = first as u32;
            for bin in &mut bins {
                if *bin == NOBODY {
                    *bin = chain;
                    break;
                }
                chain = self.merge(core::mem::replace(bin, NOBODY), chain);
            }
        }
        let chains = bins.into_iter().filter(|&chain| chain != NOBODY);
        let mut row = chains.fold(NOBODY, |younger, older| self.merge(older, younger));
        let mut place = 0;
        while row != NOBODY {
            let index = row as usize;
            row = self.queued(index) as u32;
            self.set_queued(index, place);
            place += 1;
        }
        for index in 0..len {
            // Each exchange brings a row to its place.
            loop {
                let place = self.queued(index);
                if place == index || place >= len {
                    break;
                }
                self.rows.swap(index, place);
            }
        }
    }

    fn order(&self, index: usize) -> (u64, usize) {
        self.of(index, |row| (row.record.birth_us(), row.start.get()))
    }

    /// Merges two chains that are in order, linked by their entries in the queue; one of them may be empty.
    fn merge(&self, one: u32, other: u32) -> u32 {
        let (mut one, mut other) = (one, other);
        let (mut first, mut last) = (NOBODY, NOBODY);
        loop {
            let next = if one == NOBODY {
                other
            } else if other == NOBODY || self.order(one as usize) <= self.order(other as usize) {
                one
            } else {
                other
            };
            match last {
                NOBODY => first = next,
                last => self.set_queued(last as usize, next as usize),
            }
            if one == NOBODY || other == NOBODY {
                // The rest is linked already.
                return first;
            }
            last = next;
            let after = self.queued(next as usize) as u32;
            if next == one {
                one = after;
            } else {
                other = after;
            }
        }
    }

    pub(crate) fn leader(&self, index: usize) -> u32 {
        self.of(index, |row| row.leader.get())
    }

    pub(crate) fn set_leader(&self, index: usize, leader: u32) {
        self.of(index, |row| row.leader.set(leader));
    }

    pub(crate) fn has(&self, index: usize, fate: u32) -> bool {
        self.of(index, |row| row.fate.get() & fate != 0)
    }

    pub(crate) fn set_fate(&self, index: usize, fate: u32) {
        self.of(index, |row| row.fate.update(|before| before | fate));
    }

    pub(crate) fn clear_fate(&self, index: usize, fate: u32) {
        self.of(index, |row| row.fate.update(|before| before & !fate));
    }

    /// The number that stands in this place of the queue, or of the order.
    pub(crate) fn queued(&self, place: usize) -> usize {
        self.of(place, |row| row.queued.get() as usize)
    }

    pub(crate) fn set_queued(&self, place: usize, index: usize) {
        self.of(place, |row| row.queued.set(index as u32));
    }

    pub(crate) fn owned_bytes(&self, leader: usize) -> usize {
        self.of(leader, |row| row.owned_bytes.get())
    }

    pub(crate) fn owned(&self, leader: usize) -> usize {
        self.of(leader, |row| row.owned.get() as usize)
    }

    /// Gives a leader one object more, of `bytes` bytes.
    pub(crate) fn add_owned(&self, leader: usize, bytes: usize) {
        self.of(leader, |row| {
            row.owned_bytes.update(|sum| sum + bytes);
            row.owned.update(|count| count + 1);
        });
    }

    /// Takes the next place in the order of a leader's block.
    pub(crate) fn next_place(&self, leader: usize) -> usize {
        self.of(leader, |row| {
            row.next_place.replace(row.next_place.get() + 1) as usize
        })
    }

    pub(crate) fn set_next_place(&self, leader: usize, place: usize) {
        self.of(leader, |row| row.next_place.set(place as u32));
    }

    /// Forgets everything; its owner gives the memory back.
    pub(crate) fn empty(&mut self) {
        self.rows.empty();
        self.left_out = 0;
    }
}
