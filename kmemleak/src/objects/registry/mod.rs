//! The registry: which objects there are, by address.
//!
//! The page map leads to the entry of a chunk, which has the records of the objects that start there; notes hold
//! rare properties. A look-up takes constant time however many objects there are. CPUs that allocate or free in different
//! pages share no lock and no cache line, except in rare cases (notes, changes of a table's users).
//!
//! Look-ups take any number: a word that was scanned, or what a person or an allocator has named. If the number is no
//! [`Address`](crate::platform::address::Address), they find nothing. Objects are put in and taken out by address.
//!
//! A per-CPU block has one object, and an *alias* for each further copy of its memory. An address in a copy stands for the
//! block ([`Registry::block_containing`]).
//!
//! # Invariants
//!
//! - One byte belongs to one object at most. [`Registry::insert`] refuses a block that overlaps a known one, and
//!   returns an address in that one.
//! - Whole objects are put in by [`Registry::insert`] and taken out by [`Registry::take_if`], which know where starts are stored; plain
//!   ones also by the two functions of [`short`].
//! - The start of an object is stored in its chunk before other chunks note that the object reaches into them, and is
//!   removed before those notes are removed.
//! - Objects are looked at under the lock of the chunk they start in, or with the world stopped
//!   ([`Access`](super::access::Access)).

mod insert;
mod lookup;
pub(crate) mod parts;
mod remove;
mod short;
mod walk;

use core::sync::atomic::Ordering;

pub(crate) use self::insert::{Marked, Refused};
pub(crate) use self::short::NotShort;
pub(crate) use self::walk::{ChunkStep, Chunks};
use crate::atomic::AtomicUsize;
use crate::objects::emptied::Emptied;
use crate::objects::page_map::PageMap;
use crate::objects::record::{MANY, Record, RecordRef};
use crate::objects::side_table::{Area, SideTable};
use crate::platform::Reading;

/// All objects.
pub(crate) struct Registry {
    pub(crate) map: PageMap,
    pub(crate) side_table: SideTable,
    emptied: Emptied,
    /// The lowest byte of all objects that there ever were, inverted: zero before the first. Relaxed, as the three below: they only widen. A pass reads them at
    /// its start. In a stopped world, the stop orders all earlier changes; objects that are recorded during a pass and not seen
    /// are new, and are judged by their birth.
    inverted_lowest: AtomicUsize,
    /// The last byte of the highest object.
    highest: AtomicUsize,
    /// The tables that all objects are in, physical memory's included: the first, inverted, and the one after the last.
    inverted_first_leaf: AtomicUsize,
    end_leaf: AtomicUsize,
}

impl Registry {
    pub(crate) const fn new() -> Self {
        Self {
            map: PageMap::new(),
            side_table: SideTable::new(),
            emptied: Emptied::new(),
            inverted_lowest: AtomicUsize::new(0),
            highest: AtomicUsize::new(0),
            inverted_first_leaf: AtomicUsize::new(0),
            end_leaf: AtomicUsize::new(0),
        }
    }

    /// The range in which all objects lie that there ever were: its first address, and its length in bytes.
    pub(crate) fn span(&self) -> (usize, usize) {
        let lowest = !self.inverted_lowest.load(Ordering::Relaxed);
        let highest = self.highest.load(Ordering::Relaxed);
        // No block lies in the first page, so the sum does not overflow.
        let bytes = highest.checked_sub(lowest).map_or(0, |bytes| bytes + 1);
        (lowest, bytes)
    }

    /// The numbers of the page map's tables that all objects are in.
    pub(crate) fn leaves(&self) -> core::ops::Range<usize> {
        let first = !self.inverted_first_leaf.load(Ordering::Relaxed);
        first..self.end_leaf.load(Ordering::Relaxed)
    }

    /// The size of an object.
    #[inline(always)]
    pub(crate) fn size(&self, start: usize, record: RecordRef) -> usize {
        self.size_from(start, record.short_size())
    }

    /// The size of an object whose record holds the size `short`.
    #[inline(always)]
    pub(crate) fn size_from(&self, start: usize, short: u32) -> usize {
        match short {
            u32::MAX => self.long_size(start),
            size => size as usize,
        }
    }

    #[cold]
    fn long_size(&self, start: usize) -> usize {
        self.side_table.size(start).unwrap_or(u32::MAX as usize)
    }

    /// How many references an object needs, 0 for a gray and -1 for a black one; and how many were found, if it needs
    /// several.
    pub(crate) fn references(&self, start: usize, record: &Record) -> (i32, u32) {
        let noted = (record.min_count() == MANY).then(|| self.side_table.references(start));
        noted
            .flatten()
            .unwrap_or((record.min_count(), record.count()))
    }

    /// The area of an object with this number.
    pub(crate) fn area(&self, start: usize, number: usize) -> Option<Area> {
        self.side_table.area(start, number)
    }

    /// How an object with notes is read.
    pub(crate) fn reading(&self, start: usize) -> Reading {
        self.side_table.reading(start)
    }

    /// Forgets everything; the memory is given back by its owner.
    pub(crate) fn empty(&self) {
        self.map.empty();
        self.side_table.empty();
        self.emptied.empty();
        self.inverted_lowest.store(0, Ordering::Relaxed);
        self.highest.store(0, Ordering::Relaxed);
        self.inverted_first_leaf.store(0, Ordering::Relaxed);
        self.end_leaf.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod memory_tests;
#[cfg(test)]
mod tests;
