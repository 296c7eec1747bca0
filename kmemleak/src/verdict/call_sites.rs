//! What is alive at each call site, and how that has changed since a mark: for memory that stays reachable and is never given
//! back.
//!
//! A site is a call stack. Nothing is counted while objects come and go; a question has all of them walked over.
//!
//! # Estimates
//!
//! Where call stacks were taken of a [sample](crate::tracker::sampling) only, an object in the sample counts for as many as it stands
//! for, and what has no call stack is not counted: others stand for it. [`Sampled`] says how much of each there was.
//!
//! # Memory
//!
//! 104 bytes for each call stack of which anything was alive at a mark or a question, in pages that stay until all metadata is
//! given back: 64 of them are the [history] of the last eight marks. Want of memory while objects are counted leaves the earlier
//! marks as they are.
//!
//! # At the end
//!
//! A kernel that is out of memory, or that has panicked, needs to know where memory went, too; but it has none for tables, and
//! must not wait: the holder of a lock may never go on. So the largest sites are found in a few words on the stack (Misra and
//! Gries 1982): each object adds its bytes to its site's counter; if all counters belong to other sites, as much is taken away
//! from each of them, and a site whose counter comes to zero loses it. A site that has more than one part in [`COUNTERS`] + 1 of
//! all bytes has a counter left. A second walk counts those sites exactly. Chunks that are locked are left out, and so are the
//! few objects that start at no multiple of eight, which a lock guards.
//!
//! # Locks
//!
//! A chunk's at a time, while the objects are walked over. At the end, locks are only tried.

use super::history::{self, History, Trend};
use crate::metadata::MetaAlloc;
use crate::metadata::page::NoMemory;
use crate::platform::Platform;
use crate::stacks::depot::StackId;
use crate::stacks::stack_table::StackTable;
use crate::tracker::Tracker;
use crate::tracker::poisson::ONE;
use crate::tracker::sampling::StandsFor;

/// A call site, and what is alive of what it allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site<'a> {
    /// Return addresses of its call stack, innermost first. Empty if there is no call stack.
    pub call_stack: &'a [usize],
    /// Live bytes; estimated if call stacks are taken of a sample.
    pub bytes: usize,
    /// Live objects; estimated as well.
    pub objects: usize,
    /// How that has changed since the last mark; `None` where there is none.
    pub growth: Option<Growth>,
    /// Live bytes at the last marks, eight at most, oldest first. Empty where there is no mark.
    pub history: &'a [usize],
    /// What these say of its growth; `None` if it is neither steady nor a step, or there are too few of them.
    pub trend: Option<Trend>,
}

/// The order of call sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteOrder {
    /// By live bytes, the most first; sites with nothing alive come last.
    Bytes,
    /// By growth since the last mark, in bytes, the most first; sites that have shrunk come last.
    Growth,
    /// By live objects, the most first.
    Count,
}

/// Growth of a call site since the mark: what was allocated less what was freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// Bytes.
    pub bytes: i64,
    /// Objects.
    pub objects: i64,
}

impl Growth {
    pub(crate) const NONE: Self = Self {
        bytes: 0,
        objects: 0,
    };
}

/// A call site among those with the most live bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopSite<'a> {
    /// Return addresses of its call stack, innermost first. Empty if there is no call stack.
    pub call_stack: &'a [usize],
    /// Live bytes; a block of 4 GiB or more counts as just under 4 GiB.
    pub bytes: usize,
    /// Live objects.
    pub objects: usize,
}

/// Sites that can be told apart without memory.
const COUNTERS: usize = 64;

/// A site that may be one of the largest. The counter is free if it has no bytes.
#[derive(Clone, Copy)]
struct Counter {
    stack_id: StackId,
    bytes: usize,
    objects: usize,
}

/// The sites that may be the largest.
struct Counters([Counter; COUNTERS]);

impl Counters {
    const fn new() -> Self {
        Self(
            [Counter {
                stack_id: StackId::NONE,
                bytes: 0,
                objects: 0,
            }; COUNTERS],
        )
    }

    /// Adds bytes of a site, or takes as many from all others.
    fn compete(&mut self, stack_id: StackId, bytes: usize) {
        let counters = &mut self.0;
        let same = |counter: &&mut Counter| counter.bytes > 0 && counter.stack_id == stack_id;
        if let Some(counter) = counters.iter_mut().find(same) {
            counter.bytes = counter.bytes.saturating_add(bytes);
            return;
        }
        let least = counters.iter().map(|counter| counter.bytes).min();
        let taken = least.unwrap_or(0).min(bytes);
        counters
            .iter_mut()
            .for_each(|counter| counter.bytes -= taken);
        let mut free = counters.iter_mut().filter(|counter| counter.bytes == 0);
        if let Some(counter) = free.next() {
            (counter.stack_id, counter.bytes) = (stack_id, bytes - taken);
        }
    }

    /// From now on counts only sites that have a counter, from zero.
    fn settle(&mut self) -> usize {
        self.0.sort_unstable_by_key(|counter| counter.bytes == 0);
        let left = self.0.partition_point(|counter| counter.bytes > 0);
        self.0.iter_mut().for_each(|counter| counter.bytes = 0);
        left
    }
}

/// What is alive of what a site allocated.
#[derive(Clone, Copy, Default)]
struct Alive {
    bytes: usize,
    /// In parts of an object, of which it has [`ONE`].
    parts: usize,
}

impl Alive {
    fn objects(self) -> usize {
        (self.parts + ONE as usize / 2) / ONE as usize
    }

    /// Counts one object for as many as it stands for.
    fn add(&mut self, bytes: usize, weight: u64) {
        self.parts += weight as usize;
        let bytes = (bytes as u128 * u128::from(weight) + u128::from(ONE / 2)) / u128::from(ONE);
        self.bytes = self.bytes.saturating_add(bytes as usize);
    }
}

/// What the call sites were estimated from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sampled {
    /// One in so many allocated bytes chose an object, in the mean.
    pub(crate) every: u64,
    /// Objects that were chosen, and their bytes.
    pub(crate) objects: usize,
    pub(crate) bytes: usize,
    /// Objects that these stand for besides themselves, and their bytes: of those it is known how many there are.
    pub(crate) other_objects: usize,
    pub(crate) other_bytes: usize,
}

/// A site, now and at the last marks.
#[derive(Default)]
struct SiteRow {
    now: Alive,
    /// Live bytes at the last marks.
    history: History,
    /// Live objects at the last one.
    marked_objects: usize,
}

const _: () = assert!(size_of::<SiteRow>() == 88, "as the header says");

impl SiteRow {
    /// Since the last mark; what is alive, where there was none.
    fn growth(&self) -> Growth {
        let change = |now: usize, marked: usize| now.wrapping_sub(marked) as i64;
        let marked_bytes: usize = self.history.last(1).iter().sum();
        Growth {
            bytes: change(self.now.bytes, marked_bytes),
            objects: change(self.now.objects(), self.marked_objects),
        }
    }

    fn mark(&mut self) {
        self.history.push(self.now.bytes);
        self.marked_objects = self.now.objects();
    }

    /// What the row is ordered by; what is equal in the first figure is ordered by the second.
    fn weight(&self, order: SiteOrder) -> (i64, i64) {
        let (bytes, objects) = (self.now.bytes as i64, self.now.objects() as i64);
        match order {
            SiteOrder::Bytes => (bytes, objects),
            SiteOrder::Growth => (self.growth().bytes, bytes),
            SiteOrder::Count => (objects, bytes),
        }
    }
}

/// All sites.
pub(crate) struct CallSites {
    table: StackTable<SiteRow>,
    /// How many marks the rows have of each site.
    marks: usize,
    /// `None` where all objects were counted.
    sampled: Option<Sampled>,
}

impl CallSites {
    pub(crate) const fn new() -> Self {
        Self {
            table: StackTable::new(),
            marks: 0,
            sampled: None,
        }
    }

    /// Forgets everything; its owner gives the memory back.
    pub(crate) fn empty(&mut self) {
        self.table.empty();
        self.marks = 0;
    }

    /// Counts one block more.
    fn add(
        &mut self,
        stack_id: StackId,
        bytes: usize,
        stands_for: StandsFor,
        meta: &MetaAlloc<'_>,
    ) -> Result<(), NoMemory> {
        let weight = match (stands_for, &mut self.sampled) {
            (StandsFor::Sampled(weight), Some(sampled)) => {
                sampled.objects += 1;
                sampled.bytes += bytes;
                weight
            }
            (StandsFor::Others, Some(sampled)) => {
                sampled.other_objects += 1;
                sampled.other_bytes += bytes;
                return Ok(());
            }
            _ => ONE,
        };
        let number = self.table.find_or_add(stack_id, meta)?;
        let row = self.table.get_mut(number).ok_or(NoMemory)?;
        row.now.add(bytes, weight);
        Ok(())
    }
}

impl CallSites {
    /// Counts what is alive. False where there was no memory to count all of it.
    fn count<P: Platform>(&mut self, tracker: &Tracker<P>) -> bool {
        self.table.each_mut(|row| row.now = Alive::default());
        self.sampled = tracker.sampled_every().map(|every| Sampled {
            every,
            objects: 0,
            bytes: 0,
            other_objects: 0,
            other_bytes: 0,
        });
        let mut all = true;
        tracker.each_tracked(&mut |object, meta| {
            let bytes = tracker.registry().size(object.start, object.record);
            let record = object.record.read();
            let stands_for = tracker.stands_for(&record, bytes);
            let added = self.add(record.stack_id(), bytes, stands_for, meta);
            all &= added.is_ok();
        });
        // A sample that has ended, of which nothing is alive any more, is none.
        self.sampled = (self.sampled).filter(|sampled| sampled.objects + sampled.other_objects > 0);
        all
    }

    /// Notes what is alive. False where there was no memory to count all: then what was noted before stays.
    pub(crate) fn mark<P: Platform>(&mut self, tracker: &Tracker<P>) -> bool {
        let all = self.count(tracker);
        if all {
            self.table.each_mut(SiteRow::mark);
            self.marks = history::MARKS.min(self.marks + 1);
        }
        all
    }

    /// Forgets what was noted.
    pub(crate) fn unmark(&mut self) {
        self.table.clear();
        self.marks = 0;
    }

    /// Counts what is alive at each call site, and puts the sites in order. False where there was no memory to count all.
    pub(crate) fn find<P: Platform>(&mut self, tracker: &Tracker<P>, order: SiteOrder) -> bool {
        let all = self.count(tracker);
        self.table.order_by(|row| row.weight(order));
        all
    }

    /// What was estimated, of what was counted last.
    pub(crate) fn sampled(&self) -> Option<Sampled> {
        self.sampled
    }

    /// Shows each call site that was found, with its growth if anything was noted before.
    pub(crate) fn each<P: Platform>(
        &self,
        tracker: &Tracker<P>,
        look: &mut dyn FnMut(Site<'_>, StackId),
    ) {
        for (stack_id, row) in self.table.in_order() {
            let growth = row.growth();
            let frames = tracker.depot().get(stack_id);
            let site = Site {
                call_stack: frames.as_slice(),
                bytes: row.now.bytes,
                objects: row.now.objects(),
                growth: (self.marks > 0).then_some(growth),
                history: row.history.last(self.marks),
                trend: row.history.trend(self.marks, row.now.bytes),
            };
            if site.objects > 0 || growth.objects != 0 {
                look(site, stack_id);
            }
        }
    }
}

/// Shows the `top` call sites with the most live bytes, the most first. False where something was left out.
pub(crate) fn each_top<P: Platform>(
    tracker: &Tracker<P>,
    top: usize,
    look: &mut dyn FnMut(TopSite<'_>),
) -> bool {
    let mut counters = Counters::new();
    let each = |look: &mut dyn FnMut(StackId, usize)| {
        tracker.each_without_waiting(&mut |record| {
            look(record.stack_id(), record.short_size() as usize);
        })
    };
    let mut all = each(&mut |stack_id, bytes| counters.compete(stack_id, bytes));
    let left = counters.settle();
    let counters = &mut counters.0[..left];
    all &= each(&mut |stack_id, bytes| {
        let mut of = counters.iter_mut();
        if let Some(counter) = of.find(|counter| counter.stack_id == stack_id) {
            counter.bytes += bytes;
            counter.objects += 1;
        }
    });
    counters.sort_unstable_by_key(|counter| core::cmp::Reverse((counter.bytes, counter.objects)));
    for counter in counters.iter().take(top) {
        let Some(frames) = tracker.look(|_| tracker.depot().get(counter.stack_id)) else {
            return false;
        };
        look(TopSite {
            call_stack: frames.as_slice(),
            bytes: counter.bytes,
            objects: counter.objects,
        });
    }
    all
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    /// A call site with more than a share of all bytes has a counter left, in whatever order the objects come.
    #[test]
    fn the_largest_are_not_crowded_out() {
        const SMALL: u32 = 4000;
        for turned in [false, true] {
            let mut counters = Counters::new();
            let mut objects: std::vec::Vec<(u32, usize)> =
                (0..SMALL).map(|site| (site, 10)).collect();
            // A site of few large objects, and one of many small ones between the others.
            objects.extend([(SMALL, 900); 2]);
            (0..SMALL as usize / 4).for_each(|at| objects.insert(at * 3, (SMALL + 1, 3)));
            if turned {
                objects.reverse();
            }
            let all: usize = objects.iter().map(|(_, bytes)| bytes).sum();
            assert!(1800 > all / (COUNTERS + 1));
            objects
                .iter()
                .for_each(|&(site, bytes)| counters.compete(StackId(site), bytes));
            let left = counters.settle();
            let left: std::vec::Vec<_> = counters.0[..left]
                .iter()
                .map(|one| one.stack_id.0)
                .collect();
            assert!(
                left.contains(&SMALL) && left.contains(&(SMALL + 1)),
                "{left:?}"
            );
        }
    }
}
