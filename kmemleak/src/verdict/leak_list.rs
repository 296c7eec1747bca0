//! The objects that a verdict names: copies of their records, so that they can be told of when they are gone.
//!
//! The list lies in pages of metadata, which it keeps for the next verdict, and is sorted by the order of allocation. What
//! finds no room is counted, and is found again by its flag in the registry (`flag::LISTED`).
//!
//! | word | what |
//! | --- | --- |
//! | 0 | start, inverted |
//! | 1 to 4 | the record; in the upper half of the last one the object's leader, by its number |
//! | 5 | lower half: a queue of numbers while leaders are looked for, then the order in which objects are told of; upper half: what became of the object ([`fate`]) |
//! | 6 | of a leader: bytes that it owns |
//! | 7 | of a leader: objects that it owns; where the next of them goes in the order |

use crate::metadata::MetaAlloc;
use crate::metadata::hidden::Hidden;
use crate::metadata::page_vec::Paged;
use crate::objects::record::{RECORD_WORDS, Record, birth_of};
use crate::stacks::task_names::Round;

const ROW: usize = 8;
const LAST_OF_RECORD: usize = RECORD_WORDS.div_ceil(2);
const QUEUE: usize = 5;
const OWNED_BYTES: usize = 6;
const OWNED: usize = 7;

/// The number of no object.
pub(crate) const NOBODY: u32 = u32::MAX;

/// Chains that wait to be merged: as many as a row's number has bits.
const BINS: usize = 32;

/// What became of an object.
pub(crate) mod fate {
    /// Reached in the sweep that goes on.
    pub(crate) const REACHED: u32 = 1 << 0;
    /// Not reached from any that was allocated before.
    pub(crate) const FIRST: u32 = 1 << 1;
    /// A leader.
    pub(crate) const LEADER: u32 = 1 << 2;
    /// Hidden by a suppression.
    pub(crate) const SUPPRESSED: u32 = 1 << 3;
    /// Not of those that the verdict is about.
    pub(crate) const LEFT: u32 = 1 << 4;
    /// The verdict before the last mark did not have it.
    pub(crate) const NEW: u32 = 1 << 5;
    /// No leak.
    pub(crate) const NO_LEAK: u32 = SUPPRESSED | LEFT;
}

/// An object that is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) start: usize,
    /// A copy.
    pub(crate) record: Record,
    /// When it was made.
    pub(crate) copied: Round,
}

/// The list. Used by one at a time.
pub(crate) struct LeakList {
    rows: Paged<ROW>,
    /// Objects that found no room.
    pub(crate) left_out: usize,
    /// When the copies in it were made.
    copied: Round,
}

impl LeakList {
    pub(crate) const fn new() -> Self {
        Self {
            rows: Paged::new(),
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

    /// Appends an object; where there is no memory it is left out.
    pub(crate) fn push(&mut self, start: usize, record: Record, meta: &MetaAlloc<'_>) {
        let mut row = [0; ROW];
        row[0] = Hidden::new(start).bits();
        for (offset, halves) in record.0.chunks(2).enumerate() {
            let high = halves.get(1).copied().unwrap_or(NOBODY);
            row[1 + offset] = u64::from(halves[0]) | u64::from(high) << 32;
        }
        if self.rows.push(row, meta).is_none() {
            self.left_out += 1;
        }
    }

    /// The object with this number.
    pub(crate) fn get(&self, index: usize) -> Option<Named> {
        if index >= self.rows.len() {
            return None;
        }
        let row = self.rows.row(index);
        let half = |number: usize| (row[1 + number / 2] >> (32 * (number % 2))) as u32;
        Some(Named {
            start: Hidden::from_bits(row[0]).get(),
            record: Record(core::array::from_fn(half)),
            copied: self.copied,
        })
    }

    pub(crate) fn start(&self, index: usize) -> usize {
        Hidden::from_bits(self.rows.get(index, 0)).get()
    }

    /// Puts the objects in the order of their allocation, ties by address.
    pub(crate) fn sort(&mut self) {
        // Chains of what is in order already are merged, those of like length first: the bin with number n has a
        // chain that took n merges. No row moves before its place is known.
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
                let (one, other) = (self.rows.row(index), self.rows.row(place));
                self.rows.set_row(index, other);
                self.rows.set_row(place, one);
            }
        }
    }

    fn order(&self, index: usize) -> (u64, usize) {
        // The birth lies in the fourth, the fifth and the last word of the record.
        let rows = &self.rows;
        let birth = birth_of(rows.high(index, 2), rows.low(index, 3), rows.low(index, 4));
        (birth, self.start(index))
    }

    /// Merges two chains that are in order, linked by what stands in the queue; one may be none.
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
        self.rows.high(index, LAST_OF_RECORD)
    }

    pub(crate) fn set_leader(&self, index: usize, leader: u32) {
        self.rows.set_high(index, LAST_OF_RECORD, leader);
    }

    pub(crate) fn has(&self, index: usize, fate: u32) -> bool {
        self.rows.high(index, QUEUE) & fate != 0
    }

    pub(crate) fn set_fate(&self, index: usize, fate: u32) {
        self.rows
            .set_high(index, QUEUE, self.rows.high(index, QUEUE) | fate);
    }

    pub(crate) fn clear_fate(&self, index: usize, fate: u32) {
        self.rows
            .set_high(index, QUEUE, self.rows.high(index, QUEUE) & !fate);
    }

    /// The number that stands in this place of the queue, or of the order.
    pub(crate) fn queued(&self, place: usize) -> usize {
        self.rows.low(place, QUEUE) as usize
    }

    pub(crate) fn set_queued(&self, place: usize, index: usize) {
        self.rows.set_low(place, QUEUE, index as u32);
    }

    pub(crate) fn owned_bytes(&self, leader: usize) -> usize {
        self.rows.get(leader, OWNED_BYTES) as usize
    }

    pub(crate) fn owned(&self, leader: usize) -> usize {
        self.rows.low(leader, OWNED) as usize
    }

    /// A leader owns one object more, of so many bytes.
    pub(crate) fn add_owned(&self, leader: usize, bytes: usize) {
        let sum = self.rows.get(leader, OWNED_BYTES) + bytes as u64;
        self.rows.set(leader, OWNED_BYTES, sum);
        self.rows
            .set_low(leader, OWNED, self.rows.low(leader, OWNED) + 1);
    }

    /// Takes the next place in the order of a leader's block.
    pub(crate) fn next_place(&self, leader: usize) -> usize {
        let place = self.rows.high(leader, OWNED);
        self.rows.set_high(leader, OWNED, place + 1);
        place as usize
    }

    pub(crate) fn set_next_place(&self, leader: usize, place: usize) {
        self.rows.set_high(leader, OWNED, place as u32);
    }

    /// Forgets everything; the memory is given back by its owner.
    pub(crate) fn empty(&mut self) {
        self.rows.empty();
        self.left_out = 0;
    }
}
