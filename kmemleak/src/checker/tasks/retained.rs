//! What lost tasks retain: objects that no task reaches which can run, but that a lost one reaches.
//!
//! An object is retained by one task alone if no other lost task reaches it. Two walks tell: in the first the tasks visit in
//! their order what none has visited before, in the second in the opposite order. So an object is visited by the first task that
//! reaches it, then by the last: if these are one task, it is the only one. Each object and each stack is read twice, however many tasks
//! reach it. The two lists are sorted and laid beside each other: the work is that of sorting what lost tasks retain.
//!
//! Its own block and the blocks that hold its stacks are a task's own, whoever points there: no walk crosses them.

use crate::atomic::Lock;
use crate::checker::tasks::rows::LostRow;
use crate::marker::objects::WordSet;
use crate::marker::task_table::TaskTable;
use crate::marker::{GivenUp, Marker};
use crate::metadata::heap::{Places, heapsort};
use crate::metadata::hidden::Hidden;
use crate::metadata::page_vec::PageVec;
use crate::objects::access::Stopped;
use crate::objects::object::{Object, alias_owner};
use crate::objects::record::flag;
use crate::platform::Platform;

/// An object that a walk has visited, and by which of the lost tasks.
#[derive(Clone, Copy)]
struct Visit {
    start: Hidden,
    lost: u32,
}

/// The objects that a walk has visited.
struct Visits(PageVec<Visit>);

impl Places for Visits {
    fn is_after(&self, one: usize, other: usize) -> bool {
        let start = |place| self.0.get(place).map(|visit: &Visit| visit.start.get());
        start(one) > start(other)
    }

    fn exchange(&mut self, one: usize, other: usize) {
        self.0.swap(one, other);
    }
}

impl Visits {
    fn sort(&mut self) {
        let len = self.0.len();
        heapsort(self, len);
    }
}

/// What lost tasks retain.
pub(super) struct RetainedMemory {
    first: Visits,
    last: Visits,
    objects: usize,
    bytes: usize,
    /// Whether there was no memory for all.
    short: bool,
}

type LostRows = PageVec<LostRow>;

impl RetainedMemory {
    pub(super) const fn new() -> Self {
        Self {
            first: Visits(PageVec::new()),
            last: Visits(PageVec::new()),
            objects: 0,
            bytes: 0,
            short: false,
        }
    }

    pub(super) fn empty(&mut self) {
        *self = Self::new();
    }

    /// How many objects lost tasks retain, and their bytes.
    pub(super) fn total(&self) -> (usize, usize) {
        (self.objects, self.bytes)
    }

    /// Adds up what each of the lost tasks retains, and what they retain together. False if there was no memory for all of it.
    pub(super) fn add_up<P: Platform>(
        &mut self,
        marker: &mut Marker<'_, P, Stopped>,
        table: &Lock<TaskTable>,
        lost: &mut LostRows,
    ) -> Result<bool, GivenUp> {
        self.first.0.clear();
        self.last.0.clear();
        (self.objects, self.bytes, self.short) = (0, 0, false);
        self.take_own(marker, table, lost);
        let count = lost.len();
        walk(
            marker,
            table,
            lost,
            0..count,
            &mut self.first,
            &mut self.short,
        )?;
        let visited = &self.first.0;
        for visit in (0..visited.len()).filter_map(|place| visited.get(place)) {
            let registry = marker.registry();
            registry.starting_at(marker.access(), visit.start.get(), unvisit);
        }
        let backwards = (0..count).rev();
        walk(
            marker,
            table,
            lost,
            backwards,
            &mut self.last,
            &mut self.short,
        )?;
        self.compare(marker, lost);
        Ok(!self.short)
    }

    /// Gives each task its own blocks, whoever points there.
    fn take_own<P: Platform>(
        &mut self,
        marker: &Marker<'_, P, Stopped>,
        table: &Lock<TaskTable>,
        lost: &mut LostRows,
    ) {
        each_own_block(marker, table, lost, &mut |_, object| unvisit(object));
        let registry = marker.registry();
        let (objects, bytes) = (&mut self.objects, &mut self.bytes);
        each_own_block(marker, table, lost, &mut |lost, object| {
            // One that is a second task's as well has been counted.
            if visit(object) {
                let size = registry.size(object.start, object.record);
                lost.objects += 1;
                lost.bytes += size;
                *objects += 1;
                *bytes += size;
            }
        });
    }

    /// Gives each task what only it has visited.
    fn compare<P: Platform>(&mut self, marker: &Marker<'_, P, Stopped>, lost: &mut LostRows) {
        self.first.sort();
        self.last.sort();
        let mut other = 0;
        for place in 0..self.first.0.len() {
            let Some(&first) = self.first.0.get(place) else {
                break;
            };
            let registry = marker.registry();
            let size = registry.starting_at(marker.access(), first.start.get(), |object| {
                registry.size(object.start, object.record)
            });
            let size = size.unwrap_or(0);
            self.objects += 1;
            self.bytes += size;
            let last = loop {
                match self.last.0.get(other) {
                    Some(last) if last.start.get() < first.start.get() => other += 1,
                    last => break last,
                }
            };
            let only =
                last.is_some_and(|last| last.start == first.start && last.lost == first.lost);
            if only && let Some(lost) = lost.get_mut(first.lost as usize) {
                lost.objects += 1;
                lost.bytes += size;
            }
        }
    }
}

/// Shows the own blocks of lost tasks, and the blocks that hold their stacks.
fn each_own_block<P: Platform>(
    marker: &Marker<'_, P, Stopped>,
    table: &Lock<TaskTable>,
    lost: &mut LostRows,
    look: &mut dyn FnMut(&mut LostRow, Object<'_>),
) {
    let (registry, access) = (marker.registry(), marker.access());
    for number in 0..lost.len() {
        let Some(lost) = lost.get_mut(number) else {
            continue;
        };
        let mut table = table.lock();
        let Some(&row) = table.row(lost.row as usize) else {
            continue;
        };
        let mut own = row.block.pointer::<u8>().map(|block| block.addr().get());
        let mut stacks = 0;
        loop {
            if let Some(at) = own {
                registry.block_containing(access, at, |object, _| look(lost, object));
            }
            own = table.stack(row.task, stacks).map(|stack| stack.start);
            if own.is_none() {
                break;
            }
            stacks += 1;
        }
    }
}

/// Visits an object: true the first time, and never for one that tasks reach which can run.
fn visit(object: Object<'_>) -> bool {
    object.enliven()
}

fn unvisit(object: Object<'_>) {
    match object.record.has(flag::EXCESS) {
        true => object.record.clear(flag::REACHED),
        false => object.mark.clear(),
    }
}

/// A walk, at one of the lost tasks.
struct Walk<'v> {
    visits: &'v mut Visits,
    lost: u32,
    short: &'v mut bool,
}

impl Walk<'_> {
    /// Visits the object that a word points to, unless it has been visited.
    fn come<P: Platform>(&mut self, marker: &Marker<'_, P, Stopped>, word: usize) {
        if let Some(start) = visited_at(marker, word) {
            let visit = Visit {
                start: Hidden::new(start),
                lost: self.lost,
            };
            *self.short |= self.visits.0.push(visit, marker.meta()).is_err();
        }
    }

    /// Visits what the words of the object at `start` point to.
    fn follow<P: Platform>(
        &mut self,
        marker: &mut Marker<'_, P, Stopped>,
        start: usize,
    ) -> Result<(), GivenUp> {
        if marker.is_task_list(start) {
            return Ok(());
        }
        marker.each_word(start, WordSet::Scanned, &mut |marker, _, word| {
            self.come(marker, word);
        })
    }
}

/// Lets the lost tasks with these numbers visit what none has visited before.
fn walk<P: Platform>(
    marker: &mut Marker<'_, P, Stopped>,
    table: &Lock<TaskTable>,
    lost: &LostRows,
    order: impl Iterator<Item = usize>,
    visits: &mut Visits,
    short: &mut bool,
) -> Result<(), GivenUp> {
    let mut followed = 0;
    for number in order {
        let row = lost
            .get(number)
            .and_then(|lost| table.lock().row(lost.row as usize).copied());
        let Some(row) = row else {
            continue;
        };
        let mut walk = Walk {
            visits,
            lost: number as u32,
            short,
        };
        marker.each_word_of_stacks(row.task, &mut |marker, _, word| walk.come(marker, word))?;
        if let Some(block) = row.block.pointer::<u8>() {
            walk.follow(marker, block.addr().get())?;
        }
        while let Some(visit) = walk.visits.0.get(followed) {
            let start = visit.start.get();
            walk.follow(marker, start)?;
            followed += 1;
        }
    }
    Ok(())
}

/// Visits the object that a word points to; its start if that is new.
fn visited_at<P: Platform>(marker: &Marker<'_, P, Stopped>, word: usize) -> Option<usize> {
    let (registry, access) = (marker.registry(), marker.access());
    let new = |object: Object<'_>| visit(object).then_some(object.start);
    let seen = registry.containing(access, word, |object| {
        let record = object.record.read();
        match record.has(flag::ALIAS) {
            true => Err(alias_owner(&record)),
            false => Ok(new(object)),
        }
    });
    match seen? {
        Ok(start) => start,
        Err(owner) => registry.starting_at(access, owner, new).flatten(),
    }
}
