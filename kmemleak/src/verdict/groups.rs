//! Groups: the leaks of a verdict by the call stack that allocated them, and the order in which they are told of.
//!
//! A group's leader bytes are those of its leaders, its owned bytes are what these own, whoever
//! allocated that: so the sums of all groups are the sum of the verdict, and a group shows what is at stake at its
//! call stack. Groups are told of by the sum of the two, largest first; those whose objects all belong to leaders of
//! other groups come last, by their own bytes.
//!
//! Objects are told of group by group, in each by leader, in the order of allocation, each leader with what it owns
//! behind it. That order takes one walk to count and one to place, and lies in the verdict's list.

use core::cmp::Reverse;

use crate::platform::Platform;
use crate::stacks::depot::Trace;
use crate::stacks::stack_table::StackTable;
use crate::tracker::Tracker;
use crate::verdict::leak_list::{LeakList, fate};

/// Words of a group's row.
const ROW: usize = 10;
/// Lower half: objects; upper half: leaders.
const COUNTS: usize = 1;
/// Bytes of all its objects.
const BYTES: usize = 2;
const LEADER_BYTES: usize = 3;
const OWNED_BYTES: usize = 4;
/// What its leaders own, in objects.
const OWNED: usize = 5;
/// Births, in microseconds: of its leaders, or where there are none, of all its objects.
const OLDEST: usize = 6;
const NEWEST: usize = 7;
/// The group that stands in this place of the order.
const ORDER: usize = 8;
/// Where its next leader goes, while places are given out.
const NEXT_PLACE: usize = 9;

/// Leaks that were allocated by one call stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its objects among the leaks.
    pub objects: usize,
    /// Bytes of these.
    pub bytes: usize,
    /// The leaders among them.
    pub leaders: usize,
    /// Bytes of the leaders.
    pub leader_bytes: usize,
    /// Objects that these leaders own.
    pub owned_objects: usize,
    /// Bytes of what they own.
    pub owned_bytes: usize,
    /// When the first of its leaders was allocated (of all its objects, where none is a leader), in microseconds of the
    /// platform's clock.
    pub oldest_us: u64,
    /// When the last one was.
    pub newest_us: u64,
}

/// The groups of a verdict. Used by one at a time.
pub(crate) struct Groups {
    table: StackTable<ROW>,
    /// There was no memory for all of them.
    pub(crate) incomplete: bool,
}

impl Groups {
    pub(crate) const fn new() -> Self {
        Self {
            table: StackTable::new(),
            incomplete: false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.rows.len()
    }

    /// The group of the objects that a call stack allocated.
    pub(crate) fn of(&self, trace: Trace) -> Option<Group> {
        self.table.find(trace).map(|group| self.get(group))
    }

    /// The group that stands in this place of the order, by its number.
    fn ordered(&self, place: usize) -> usize {
        self.table.rows.get(place, ORDER) as usize
    }

    fn get(&self, group: usize) -> Group {
        let rows = &self.table.rows;
        Group {
            objects: rows.low(group, COUNTS) as usize,
            bytes: rows.get(group, BYTES) as usize,
            leaders: rows.high(group, COUNTS) as usize,
            leader_bytes: rows.get(group, LEADER_BYTES) as usize,
            owned_objects: rows.get(group, OWNED) as usize,
            owned_bytes: rows.get(group, OWNED_BYTES) as usize,
            oldest_us: rows.get(group, OLDEST),
            newest_us: rows.get(group, NEWEST),
        }
    }

    /// Shows the groups in the order in which they are told of.
    pub(crate) fn each(&self, look: &mut dyn FnMut(&Group, Trace)) {
        for place in 0..self.len() {
            let group = self.ordered(place);
            look(&self.get(group), self.table.trace(group));
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

    fn add(&self, group: usize, list: &LeakList, index: usize, bytes: usize) {
        let rows = &self.table.rows;
        let add = |word, more: usize| rows.set(group, word, rows.get(group, word) + more as u64);
        let (objects, leaders) = (rows.low(group, COUNTS), rows.high(group, COUNTS));
        let leader = list.has(index, fate::LEADER);
        let birth_us = list.get(index).map_or(0, |named| named.record.birth_us());
        // In the order of allocation. Where there is a leader, the others' births don't count.
        if leader || leaders == 0 {
            if objects == 0 || leader && leaders == 0 {
                rows.set(group, OLDEST, birth_us);
            }
            rows.set(group, NEWEST, birth_us);
        }
        rows.set_low(group, COUNTS, objects + 1);
        add(BYTES, bytes);
        if leader {
            rows.set_high(group, COUNTS, leaders + 1);
            add(LEADER_BYTES, bytes);
            add(OWNED_BYTES, list.owned_bytes(index));
            add(OWNED, list.owned(index));
        }
    }
}

impl Groups {
    /// Groups the leaks of a list, and puts groups and leaks in the order in which they are told of. Task context.
    pub(crate) fn form<P: Platform>(&mut self, list: &LeakList, tracker: &Tracker<P>) {
        let groups = self;
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
            let trace = named.record.trace();
            let group = tracker.without_interrupts(|meta| groups.table.find_or_add(trace, meta));
            let bytes = named.size(tracker);
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
        let rows = &groups.table.rows;
        groups.table.order_by(ORDER, |group| {
            let at_stake = rows.get(group, LEADER_BYTES) + rows.get(group, OWNED_BYTES);
            (
                at_stake,
                rows.get(group, BYTES),
                Reverse(rows.get(group, OLDEST)),
            )
        });
        let mut next = 0;
        for place in 0..groups.len() {
            let group = groups.ordered(place);
            rows.set(group, NEXT_PLACE, next);
            next += u64::from(rows.high(group, COUNTS)) + rows.get(group, OWNED);
        }
        let group_of = |index| {
            let trace = list.get(index)?.record.trace();
            groups.table.find(trace)
        };
        for index in leaks().filter(|&index| list.has(index, fate::LEADER)) {
            let Some(group) = group_of(index) else {
                continue;
            };
            let place = rows.get(group, NEXT_PLACE);
            rows.set(group, NEXT_PLACE, place + 1 + list.owned(index) as u64);
            list.set_queued(place as usize, index);
            list.set_next_place(index, place as usize + 1);
        }
        for index in leaks().filter(|&index| !list.has(index, fate::LEADER)) {
            let place = list.next_place(list.leader(index) as usize);
            list.set_queued(place, index);
        }
    }
}
