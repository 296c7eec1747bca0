//! An index of the numbers of names, by the hashes of the names.
//!
//! Entries are hints: the number may have another name by now, or none. Only code that holds [`Adding`] changes them, so one
//! CPU at a time does.

use core::sync::atomic::Ordering::Relaxed;

use crate::atomic::AtomicU32;
use crate::sizes::{MAX_TASK_NAMES, NAME_WAYS as WAYS};
use crate::stacks::task_names::Adding;
use crate::stacks::task_names::names::Name;

/// The number of sets. The index has room for twice as many names as there are numbers, so a set is seldom full; a name
/// whose set is full is not stored.
const SETS: usize = 2 * MAX_TASK_NAMES / WAYS;

/// Bits of a number, in an entry. The others are of the name's hash.
const NUMBER_BITS: u32 = MAX_TASK_NAMES.ilog2();

/// The bits of a name's hash that an entry holds.
fn tag(name: &Name) -> u32 {
    (name.hash >> (32 + NUMBER_BITS)) as u32
}

/// The number of a name's set.
fn set_of(name: &Name) -> usize {
    name.hash as usize % SETS
}

const fn number_of(entry: u32) -> u32 {
    entry & (MAX_TASK_NAMES as u32 - 1)
}

/// Sets of entries, each with hash bits and the number of a name; 0 is no entry. Relaxed: entries are hints.
pub(super) struct Index([[AtomicU32; WAYS]; SETS]);

impl Index {
    pub(super) const fn new() -> Self {
        Self([const { [const { AtomicU32::new(0) }; WAYS] }; SETS])
    }

    fn set(&self, name: &Name) -> &[AtomicU32] {
        &self.0[set_of(name)]
    }

    /// The numbers that may have this name.
    pub(super) fn numbers(&self, name: &Name) -> impl Iterator<Item = u32> {
        let tag = tag(name);
        self.set(name).iter().filter_map(move |way| {
            let entry = way.load(Relaxed);
            (entry >> NUMBER_BITS == tag && entry != 0).then_some(number_of(entry))
        })
    }

    /// A free place in the set of a name; `None` if the set is full.
    pub(super) fn room(&self, name: &Name, _: &Adding) -> Option<IndexRoom<'_>> {
        let way = self.set(name).iter().find(|way| way.load(Relaxed) == 0)?;
        Some(IndexRoom {
            way,
            tag: tag(name),
        })
    }

    /// Drops the entries of a set whose numbers have other names by now, or none. Returns whether there are sets behind this one.
    pub(super) fn clear_stale(
        &self,
        set: usize,
        name_of: impl Fn(u32) -> Option<Name>,
        _: &Adding,
    ) -> bool {
        let is_true = |entry: u32| {
            name_of(number_of(entry))
                .is_some_and(|name| set_of(&name) == set && tag(&name) == entry >> NUMBER_BITS)
        };
        for way in &self.0[set % SETS] {
            let entry = way.load(Relaxed);
            if entry != 0 && !is_true(entry) {
                way.store(0, Relaxed);
            }
        }
        set + 1 < SETS
    }

    pub(super) fn empty(&self) {
        let ways = self.0.as_flattened();
        ways.iter().for_each(|way| way.store(0, Relaxed));
    }
}

/// The place for an entry.
pub(super) struct IndexRoom<'a> {
    way: &'a AtomicU32,
    tag: u32,
}

impl IndexRoom<'_> {
    pub(super) fn enter(self, number: u32) {
        self.way.store(self.tag << NUMBER_BITS | number, Relaxed);
    }
}

const _: () = {
    assert!(MAX_TASK_NAMES.is_power_of_two());
    assert!(2 * MAX_TASK_NAMES >= WAYS);
};
