//! Groups: the leaks of a verdict by the call stack that allocated them, and the order in which they are told of.
//!
//! A group's *direct* bytes are those of its leaders, its *indirect* bytes are what its leaders own, whoever
//! allocated that: so the sums of all groups are the sum of the verdict, and a group shows what is at stake at its
//! call stack. Groups are told of by the sum of the two, largest first; those whose objects all belong to leaders of
//! other groups come last, by their own bytes.
//!
//! Objects are told of group by group, in each by leader, in the order of allocation, each leader with what it owns
//! behind it. That order takes one walk to count and one to place, and lies in the verdict's list.

use crate::detector::Detector;
use crate::list::{List, fate};
use crate::paged::heapsort;
use crate::platform::Platform;
use crate::traces::Traces;

/// Words of a group's row.
const ROW: usize = 8;
/// Lower half: objects; upper half: leaders.
const COUNTS: usize = 1;
/// Bytes of all its objects.
const BYTES: usize = 2;
const DIRECT_BYTES: usize = 3;
const INDIRECT_BYTES: usize = 4;
/// Lower half: what its leaders own, in objects; upper half: the group that stands in this place of the order.
const OWNED: usize = 5;
/// Births in microseconds; while places are given out, the next place.
const OLDEST: usize = 6;
const NEWEST: usize = 7;

/// Leaks that were allocated by one call stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its objects among the leaks.
    pub objects: usize,
    /// Bytes of these.
    pub bytes: usize,
    /// The leaders among them.
    pub direct_objects: usize,
    /// Bytes of the leaders.
    pub direct_bytes: usize,
    /// Objects that these leaders own.
    pub indirect_objects: usize,
    /// Bytes of what they own.
    pub indirect_bytes: usize,
    /// When the first of its objects was allocated, in microseconds of the platform's clock.
    pub oldest_us: u64,
    /// When the last one was.
    pub newest_us: u64,
}

/// The groups of a verdict. Used by one at a time.
pub(crate) struct Groups {
    table: Traces<ROW>,
    /// There was no memory for all of them.
    pub(crate) incomplete: bool,
}

impl Groups {
    pub(crate) const fn new() -> Self {
        Self {
            table: Traces::new(),
            incomplete: false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.rows.len()
    }

    /// The group of the objects that a call stack allocated, by its number.
    pub(crate) fn of(&self, trace: crate::depot::Trace) -> Option<usize> {
        self.table.find(trace)
    }

    /// The call stack of a group.
    pub(crate) fn trace(&self, group: usize) -> crate::depot::Trace {
        self.table.trace(group)
    }

    /// The group that stands in this place of the order, by its number.
    pub(crate) fn ordered(&self, place: usize) -> usize {
        self.table.rows.high(place, OWNED) as usize
    }

    pub(crate) fn get(&self, group: usize) -> Group {
        let rows = &self.table.rows;
        Group {
            objects: rows.low(group, COUNTS) as usize,
            bytes: rows.get(group, BYTES) as usize,
            direct_objects: rows.high(group, COUNTS) as usize,
            direct_bytes: rows.get(group, DIRECT_BYTES) as usize,
            indirect_objects: rows.low(group, OWNED) as usize,
            indirect_bytes: rows.get(group, INDIRECT_BYTES) as usize,
            oldest_us: rows.get(group, OLDEST),
            newest_us: rows.get(group, NEWEST),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.table.clear();
        self.incomplete = false;
    }

    /// Forgets everything; the memory is given back by its owner.
    pub(crate) fn empty(&mut self) {
        self.table.empty();
        self.incomplete = false;
    }

    fn add(&self, group: usize, list: &List, index: usize, bytes: usize) {
        let rows = &self.table.rows;
        let add = |word, more: usize| rows.set(group, word, rows.get(group, word) + more as u64);
        let birth_us = list.get(index).map_or(0, |named| named.record.birth_us());
        if rows.low(group, COUNTS) == 0 {
            rows.set(group, OLDEST, birth_us);
        }
        rows.set(group, NEWEST, birth_us);
        rows.set_low(group, COUNTS, rows.low(group, COUNTS) + 1);
        add(BYTES, bytes);
        if list.has(index, fate::LEADER) {
            rows.set_high(group, COUNTS, rows.high(group, COUNTS) + 1);
            add(DIRECT_BYTES, bytes);
            add(INDIRECT_BYTES, list.owned_bytes(index));
            let owned = rows.low(group, OWNED) + list.owned(index) as u32;
            rows.set_low(group, OWNED, owned);
        }
    }

    /// Puts the groups in the order in which they are told of.
    fn sort(&self) {
        let rows = &self.table.rows;
        let weight = |place| {
            let group = self.ordered(place);
            let at_stake = rows.get(group, DIRECT_BYTES) + rows.get(group, INDIRECT_BYTES);
            // Ties in the order of allocation.
            (
                at_stake,
                rows.get(group, BYTES),
                core::cmp::Reverse(rows.get(group, OLDEST)),
                core::cmp::Reverse(group),
            )
        };
        (0..self.len()).for_each(|place| rows.set_high(place, OWNED, place as u32));
        heapsort(
            self.len(),
            &|one, other| weight(one) < weight(other),
            &mut |one, other| {
                let (a, b) = (rows.high(one, OWNED), rows.high(other, OWNED));
                rows.set_high(one, OWNED, b);
                rows.set_high(other, OWNED, a);
            },
        );
    }
}

impl<P: Platform, const BOOTSTRAP: usize> Detector<P, BOOTSTRAP> {
    /// Groups the leaks of the verdict, and puts groups and leaks in the order in which they are told of. Task
    /// context; the caller has the claim. (So nobody waits for the verdict's lock, which is held throughout: who has
    /// no claim only tries it.)
    pub(crate) fn group(&self) {
        let verdict = &mut *self.verdict.lock();
        let (list, groups) = (&verdict.list, &mut verdict.groups);
        groups.clear();
        if list.left_out > 0 {
            groups.incomplete = true;
            return;
        }
        let leaks = || (0..list.len()).filter(|&index| !list.has(index, fate::NO_LEAK));
        for index in leaks() {
            let Some(named) = list.get(index) else {
                continue;
            };
            let group =
                self.quietly(|source| groups.table.find_or_add(named.record.trace(), source));
            let bytes = self.size_of(&named);
            match group {
                Some(group) => groups.add(group, list, index, bytes),
                None => groups.incomplete = true,
            }
        }
        if groups.incomplete {
            groups.table.clear();
            for (place, index) in leaks().enumerate() {
                list.set_queued(place, index);
            }
            return;
        }
        groups.sort();
        // The next place of each group stands where its oldest birth belongs, which is put back at the end.
        let rows = &groups.table.rows;
        let mut next = 0;
        for place in 0..groups.len() {
            let group = groups.ordered(place);
            let room = rows.high(group, COUNTS) + rows.low(group, OWNED);
            rows.set(group, OLDEST, next);
            next += u64::from(room);
        }
        let group_of = |index| {
            let trace = list.get(index)?.record.trace();
            groups.of(trace)
        };
        for index in leaks().filter(|&index| list.has(index, fate::LEADER)) {
            let Some(group) = group_of(index) else {
                continue;
            };
            let place = rows.get(group, OLDEST);
            rows.set(group, OLDEST, place + 1 + list.owned(index) as u64);
            list.set_queued(place as usize, index);
            list.set_next_place(index, place as usize + 1);
        }
        for index in leaks().filter(|&index| !list.has(index, fate::LEADER)) {
            let place = list.next_place(list.leader(index) as usize);
            list.set_queued(place, index);
        }
        for index in leaks().rev() {
            if let (Some(group), Some(named)) = (group_of(index), list.get(index)) {
                rows.set(group, OLDEST, named.record.birth_us());
            }
        }
    }
}
