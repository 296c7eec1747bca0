//! Walks over what the verdict names.
//!
//! Where there was no memory to list all objects that the verdict names, they are found by their flag in the registry, by
//! address: table by table of the page map, in which a huge block is a word or two, and a chunk at a time with interrupts off.
//!
//! # Locks
//!
//! A chunk's, one at a time; none while the caller's code runs.

use crate::objects::access::{Access, Locked};
use crate::objects::object::Object;
use crate::objects::page_map::chunk_of;
use crate::objects::record::flag;
use crate::platform::{Comm, Platform};
use crate::tracker::Tracker;
use crate::verdict::leak_list::{LeakList, Named, fate};

/// An object that nothing points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreferenced {
    /// Its address.
    pub start: usize,
    /// Its bytes.
    pub size: usize,
    /// When it was allocated, in microseconds of the platform's clock.
    pub birth_us: u64,
    /// A number that stands for the call stack that allocated it.
    pub call_stack: u32,
    /// Its place in the graph of lost objects. `None` where there was no memory to find out.
    pub rank: Option<Rank>,
}

/// Whether an unreferenced object is a leader or was lost with one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// A leader: nothing that is not itself reached from it points to it.
    Leader {
        /// Objects that it owns.
        owned_objects: usize,
        /// Bytes of these.
        owned_bytes: usize,
    },
    /// It was lost with a leader.
    Owned {
        /// Where the leader starts.
        leader: usize,
    },
}

/// A tracked object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its address.
    pub start: usize,
    /// Its bytes.
    pub size: usize,
    /// When it was allocated, in microseconds of the platform's clock.
    pub birth_us: u64,
}

/// An object that is alive through interior pointers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InteriorOnly {
    /// Its address.
    pub start: usize,
    /// Its bytes.
    pub size: usize,
    /// When it was allocated, in microseconds of the platform's clock.
    pub birth_us: u64,
    /// A number that stands for the call stack that allocated it.
    pub call_stack: u32,
    /// Whether a pointer to its middle comes from what pointers to starts reach. Otherwise it is held by another such object, and
    /// that one's interior pointer is the one to look at.
    pub first_hand: bool,
}

impl Unreferenced {
    /// A named object, with its number in the list.
    pub(crate) fn of<P: Platform>(
        tracker: &Tracker<P>,
        list: &LeakList,
        named: &Named,
        index: Option<usize>,
    ) -> Self {
        Self {
            start: named.start,
            size: named.size(tracker),
            birth_us: tracker.birth_us(&named.record),
            call_stack: named.record.stack_id().0,
            rank: index.map(|index| list.rank(index)),
        }
    }
}

impl Named {
    /// Bytes of the object.
    pub(crate) fn size<P: Platform>(&self, tracker: &Tracker<P>) -> usize {
        let short = self.record.short_size();
        tracker.without_interrupts(|_| tracker.registry().size_from(self.start, short))
    }

    /// The name of the task that allocated it.
    pub(crate) fn comm<P: Platform>(&self, tracker: &Tracker<P>) -> Comm {
        match self.record.has(flag::INTERRUPT) {
            true => Comm::new("hardirq"),
            false => (tracker.task_names()).get(self.record.task_name(), self.copied),
        }
    }

    /// Whether it is still there.
    pub(crate) fn is_there<P: Platform>(&self, tracker: &Tracker<P>) -> bool {
        let mut there = false;
        self.change(tracker, &mut |_| there = true);
        there
    }

    /// Does something with the object, if it is still there.
    pub(crate) fn change<P: Platform>(
        &self,
        tracker: &Tracker<P>,
        change: &mut dyn FnMut(Object<'_>),
    ) {
        let same = |object: Object<'_>| {
            if object.record.read().birth_us() == self.record.birth_us() {
                change(object);
            }
        };
        tracker.without_interrupts(|_| {
            let registry = tracker.registry();
            registry.starting_at(Locked, self.start, same)
        });
    }
}

impl LeakList {
    /// Shows each object of the verdict with its number, whether it is still there or not, in the order of allocation. Where
    /// there was no memory to put them in order, shows those that are still there, by address, without a number.
    pub(crate) fn each<P: Platform>(
        &self,
        tracker: &Tracker<P>,
        look: &mut dyn FnMut(&Named, Option<usize>),
    ) {
        if self.left_out > 0 {
            return each_flagged(tracker, flag::LISTED, &mut |named| look(named, None));
        }
        for index in (0..self.len()).filter(|&index| !self.has(index, fate::NO_LEAK)) {
            if let Some(named) = self.get(index) {
                look(&named, Some(index));
            }
        }
    }

    /// Shows the objects that are still there, under the locks of their chunks.
    pub(crate) fn each_there<P: Platform>(
        &self,
        tracker: &Tracker<P>,
        look: &mut dyn FnMut(Option<usize>, Object<'_>),
    ) {
        self.each(tracker, &mut |named, index| {
            named.change(tracker, &mut |object| look(index, object));
        });
    }

    /// Shows each object in the list that suppressions hide, whether it is still there or not.
    pub(crate) fn each_suppressed(&self, look: &mut dyn FnMut(&Named)) {
        for index in (0..self.len()).filter(|&index| self.has(index, fate::SUPPRESSED)) {
            if let Some(named) = self.get(index) {
                look(&named);
            }
        }
    }

    /// The place of the leak with this number in the graph of lost objects.
    pub(crate) fn rank(&self, index: usize) -> Rank {
        let leader = self.leader(index) as usize;
        if leader == index {
            Rank::Leader {
                owned_objects: self.owned(index),
                owned_bytes: self.owned_bytes(index),
            }
        } else {
            Rank::Owned {
                leader: self.start(leader),
            }
        }
    }
}

/// Shows what is alive through interior pointers only, by address.
pub(crate) fn each_interior<P: Platform>(
    tracker: &Tracker<P>,
    look: &mut dyn FnMut(&Named, InteriorOnly),
) {
    each_flagged(tracker, flag::INTERIOR_ONLY, &mut |named| {
        let object = InteriorOnly {
            start: named.start,
            size: named.size(tracker),
            birth_us: tracker.birth_us(&named.record),
            call_stack: named.record.stack_id().0,
            first_hand: named.record.has(flag::INTERIOR),
        };
        look(named, object);
    });
}

/// Shows each object that has a flag, by address; objects may be freed meanwhile.
fn each_flagged<P: Platform>(tracker: &Tracker<P>, flags: u16, look: &mut dyn FnMut(&Named)) {
    let mut from = Some(0);
    while let Some(named) = from.and_then(|from| next_flagged(tracker, from, flags)) {
        look(&named);
        from = named.start.checked_add(1);
    }
}

/// The first object at `from` or after that has a flag.
fn next_flagged<P: Platform>(tracker: &Tracker<P>, from: usize, flags: u16) -> Option<Named> {
    let (registry, copied) = (tracker.registry(), tracker.task_names().now());
    registry.chunks(chunk_of(from)).find_map(|(number, chunk)| {
        let mut found: Option<Named> = None;
        tracker.without_interrupts(|_| {
            let open = Locked.open(number, chunk);
            // Objects that start at no multiple of eight come after the others.
            registry.each_of(&open, u64::MAX, &mut |object| {
                let sooner = found.is_none_or(|found| object.start < found.start);
                if object.start >= from && sooner && object.record.has(flags) {
                    found = Some(Named {
                        start: object.start,
                        record: object.record.read(),
                        copied,
                    });
                }
            });
        });
        found
    })
}
