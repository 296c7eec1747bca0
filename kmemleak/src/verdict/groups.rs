//! Groups: the leaks of a verdict by the call stack that allocated them, and the order in which they are reported.
//!
//! A group's leader bytes are those of its leaders, its owned bytes are the bytes of what these own, whichever call stack
//! allocated that: so the sums of all groups are the sum of the verdict, and a group shows how much was lost because of its call
//! stack. Groups are reported by the sum of the two, largest first; groups whose objects all belong to leaders of other groups
//! come last, by their own bytes.
//!
//! Objects are reported group by group, in each by leader, in the order of allocation, each leader with what it owns
//! behind it. That order takes one walk to count and one to place, and lies in the verdict's list.

use core::cell::Cell;
use core::cmp::Reverse;

use crate::platform::Platform;
use crate::stacks::depot::StackId;
use crate::stacks::stack_table::StackTable;
use crate::tracker::Tracker;
use crate::verdict::leak_list::{LeakList, fate};

/// Leaks that were allocated by one call stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

/// What a report tells of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    /// Objects that count for themselves.
    pub(crate) objects: usize,
    /// Their bytes.
    pub(crate) bytes: usize,
    /// What these own.
    pub(crate) owned_objects: usize,
    pub(crate) owned_bytes: usize,
    /// When the first of them was allocated, in microseconds of the platform's clock.
    pub(crate) oldest_us: u64,
}

impl Share {
    /// What is lost because of them.
    pub(crate) fn at_stake(&self) -> usize {
        self.bytes + self.owned_bytes
    }

    /// Adds an object that counts for itself. To be called in the order of allocation.
    pub(super) fn add(&mut self, bytes: usize, birth_us: u64) {
        if self.objects == 0 {
            self.oldest_us = birth_us;
        }
        self.oldest_us = self.oldest_us.min(birth_us);
        self.objects += 1;
        self.bytes += bytes;
    }
}

impl Group {
    /// What a report of the leaders tells.
    pub(super) fn leaders_share(&self) -> Share {
        Share {
            objects: self.leaders,
            bytes: self.leader_bytes,
            owned_objects: self.owned_objects,
            owned_bytes: self.owned_bytes,
            oldest_us: self.oldest_us,
        }
    }

    /// What a report of all objects tells.
    pub(super) fn whole_share(&self) -> Share {
        Share {
            objects: self.objects,
            bytes: self.bytes,
            owned_objects: 0,
            owned_bytes: 0,
            oldest_us: self.oldest_us,
        }
    }
}

/// A group, and the next free place of its leaders while places are given out.
#[derive(Default)]
struct GroupRow {
    group: Group,
    next_place: Cell<usize>,
    /// What the report that is being written tells of it.
    share: Cell<Share>,
}

/// The groups of a verdict. Not shared between CPUs.
pub(crate) struct Groups {
    table: StackTable<GroupRow>,
    /// Whether there was no memory for all of them.
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
        self.table.len()
    }

    /// The group of the objects that a call stack allocated.
    pub(crate) fn of(&self, stack_id: StackId) -> Option<Group> {
        let row = self.table.get(self.table.find(stack_id)?)?;
        Some(row.group)
    }

    /// Shows the groups in the order in which they are reported.
    pub(crate) fn each(&self, look: &mut dyn FnMut(&Group, StackId)) {
        for (stack_id, row) in self.table.in_order() {
            look(&row.group, stack_id);
        }
    }

    /// Sets what a report tells of each group.
    pub(super) fn set_shares(&self, share: impl Fn(&Group) -> Share) {
        let rows = self.table.in_order();
        rows.for_each(|(_, row)| row.share.set(share(&row.group)));
    }

    /// Changes what a report tells of the group of a call stack.
    pub(super) fn change_share(&self, stack_id: StackId, change: impl FnOnce(&mut Share)) {
        if let Some(row) = self
            .table
            .find(stack_id)
            .and_then(|row| self.table.get(row))
        {
            let mut share = row.share.get();
            change(&mut share);
            row.share.set(share);
        }
    }

    /// Shows what a report tells of each group, where that is anything; what is most at stake first.
    pub(super) fn each_share(&self, look: &mut dyn FnMut(&Share, StackId)) {
        self.table.order_by(|row| {
            let share = row.share.get();
            (share.at_stake(), Reverse(share.oldest_us))
        });
        for (stack_id, row) in self.table.in_order() {
            let share = row.share.get();
            if share.objects > 0 {
                look(&share, stack_id);
            }
        }
        self.put_in_order();
    }

    /// Puts the groups in the order in which they are reported.
    fn put_in_order(&self) {
        self.table.order_by(|row| {
            let group = &row.group;
            let at_stake = group.leader_bytes + group.owned_bytes;
            (at_stake, group.bytes, Reverse(group.oldest_us))
        });
    }

    pub(crate) fn clear(&mut self) {
        self.table.clear();
        self.incomplete = false;
    }

    /// Forgets everything; its owner gives the memory back.
    pub(crate) fn empty(&mut self) {
        self.table.empty();
        self.incomplete = false;
    }
}

impl GroupRow {
    /// Adds an object. To be called in the order of allocation.
    fn add(&mut self, list: &LeakList, index: usize, bytes: usize) {
        let group = &mut self.group;
        let leader = list.has(index, fate::LEADER);
        let birth_us = list.get(index).map_or(0, |named| named.record.birth_us());
        // Where there is a leader, the others' births don't count.
        if leader || group.leaders == 0 {
            if group.objects == 0 || leader && group.leaders == 0 {
                group.oldest_us = birth_us;
            }
            group.newest_us = birth_us;
        }
        group.objects += 1;
        group.bytes += bytes;
        if leader {
            group.leaders += 1;
            group.leader_bytes += bytes;
            group.owned_bytes += list.owned_bytes(index);
            group.owned_objects += list.owned(index);
        }
    }
}

impl Groups {
    /// Groups the leaks of a list, and puts groups and leaks in the order in which they are reported. Task context.
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
            let stack_id = named.record.stack_id();
            let group = tracker.without_interrupts(|meta| groups.table.find_or_add(stack_id, meta));
            let row = group.ok().and_then(|group| groups.table.get_mut(group));
            match row {
                Some(row) => row.add(list, index, named.size(tracker)),
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
        groups.put_in_order();
        let mut next = 0;
        for (_, row) in groups.table.in_order() {
            row.next_place.set(next);
            next += row.group.leaders + row.group.owned_objects;
        }
        let group_of = |index| {
            let stack_id = list.get(index)?.record.stack_id();
            groups.table.get(groups.table.find(stack_id)?)
        };
        for index in leaks().filter(|&index| list.has(index, fate::LEADER)) {
            let Some(group) = group_of(index) else {
                continue;
            };
            let place = group.next_place.get();
            group.next_place.set(place + 1 + list.owned(index));
            list.set_queued(place, index);
            list.set_next_place(index, place + 1);
        }
        for index in leaks().filter(|&index| !list.has(index, fate::LEADER)) {
            let place = list.next_place(list.leader(index) as usize);
            list.set_queued(place, index);
        }
    }
}
