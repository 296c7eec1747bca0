//! Which tasks wait, which of them have been found to go on, and by what they are found.
//!
//! The question is which tasks can never run again. At first each task that waits is *withheld*: its stack is no root, and its own
//! block, however many point to it, is not followed. The marker says which objects it reaches. A task goes on when the object that it
//! waits for is reached, or the task goes on whose end it waits for. What is withheld when the marker has nothing left to do is
//! lost: no task that runs can find what would wake it. This is the rule of Go's detector of leaked goroutines (Saioc et al. 2025).
//!
//! All is found by one sorted index. So a pass over it takes, for each awaited object that is reached, one search; and for each task that
//! goes on, one more: a chain of tasks of which each can be woken only by the one before takes no more work than as many that
//! statics can reach.
//!
//! # Invariants
//!
//! - A row's state changes once, from withheld to going on.
//! - Memory is taken while the table is made. A task for which there is none counts as one that can run, and the table says so.
//!
//! # Locks
//!
//! The table is in a lock, which the marker's workers take for one look at a time.

use core::ops::Range;

use crate::metadata::MetaAlloc;
use crate::metadata::heap::{Places, heapsort};
use crate::metadata::hidden::Hidden;
use crate::metadata::page::NoMemory;
use crate::metadata::page_vec::PageVec;
use crate::platform::{Comm, TaskState, Wait};

/// Whether a task can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskStanding {
    /// Nobody that could wake it was found so far.
    Withheld,
    /// It can.
    GoesOn,
}

/// What a task waits for.
#[derive(Clone, Copy)]
pub(crate) enum Awaited {
    /// What lies at this address, in the object that starts there.
    At { address: Hidden, object: Hidden },
    /// The end of this task.
    EndOf(u32),
}

/// What is known of a task that waits.
#[derive(Clone, Copy)]
pub(crate) struct TaskRow {
    pub(crate) task: u32,
    pub(crate) comm: Comm,
    pub(crate) what: &'static str,
    pub(crate) since_us: u64,
    pub(crate) awaited: Awaited,
    /// The start of its own block.
    pub(crate) block: Hidden,
    pub(crate) frame_pointer: Hidden,
    pub(crate) standing: TaskStanding,
    /// Whether its own block was reached while it was withheld.
    pub(crate) block_reached: bool,
}

impl TaskRow {
    /// A task that waits, and is withheld.
    pub(super) fn new(task: &TaskState, wait: Wait, awaited: Awaited, block: Hidden) -> Self {
        Self {
            task: task.task,
            comm: task.comm,
            what: wait.what,
            since_us: wait.since_us,
            awaited,
            block,
            frame_pointer: task.frame_pointer.map_or(Hidden::NONE, Hidden::new),
            standing: TaskStanding::Withheld,
            block_reached: false,
        }
    }

    /// Whose end it waits for.
    pub(super) fn ended(&self) -> Option<u32> {
        match self.awaited {
            Awaited::EndOf(task) => Some(task),
            Awaited::At { .. } => None,
        }
    }

    /// The start of the object that it waits for.
    pub(super) fn object(&self) -> Option<Hidden> {
        match self.awaited {
            Awaited::At { object, .. } => Some(object),
            Awaited::EndOf(_) => None,
        }
    }
}

/// What leads to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LinkKind {
    /// The start of an object that a task waits for.
    Awaited,
    /// The start of a task's own block.
    Block,
    /// The number of a task whose end another one waits for.
    EndOf,
    /// The number of a task that waits.
    Task,
    /// The number of a task that waits, to its stacks.
    Stack,
    /// The start of a block that is a list of tasks.
    List,
}

/// An entry of the index. Addresses are inverted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct TaskLink {
    kind: LinkKind,
    key: u64,
    row: u32,
    /// Whether the object has been flagged for the question.
    flagged: bool,
}

const _: () = assert!(size_of::<TaskLink>() == 16);

/// The index.
struct TaskLinks(PageVec<TaskLink>);

impl Places for TaskLinks {
    fn is_after(&self, one: usize, other: usize) -> bool {
        self.0.get(one) > self.0.get(other)
    }

    fn exchange(&mut self, one: usize, other: usize) {
        self.0.swap(one, other);
    }
}

/// A range that is kept.
#[derive(Clone, Copy)]
struct HiddenRange {
    start: Hidden,
    end: Hidden,
}

impl HiddenRange {
    fn new(range: &Range<usize>) -> Self {
        Self {
            start: Hidden::new(range.start),
            end: Hidden::new(range.end),
        }
    }

    fn range(self) -> Range<usize> {
        self.start.get()..self.end.get()
    }
}

/// Tasks that wait.
pub(crate) struct TaskTable {
    rows: PageVec<TaskRow>,
    links: TaskLinks,
    /// How many links are in order.
    sorted: usize,
    /// Live parts of the stacks of tasks that wait.
    stacks: PageVec<HiddenRange>,
    /// Lists of tasks that lie in roots.
    lists: PageVec<HiddenRange>,
    /// Tasks that go on, and whose words have not been followed yet.
    ready: PageVec<u32>,
    ready_len: usize,
    /// All tasks that the platform has named, and those of them that wait.
    named: usize,
    waiting: usize,
    /// Searches in the index.
    searches: u64,
    /// Whether there was no memory for all of it.
    short: bool,
}

impl TaskTable {
    pub(crate) const fn new() -> Self {
        Self {
            rows: PageVec::new(),
            links: TaskLinks(PageVec::new()),
            sorted: 0,
            stacks: PageVec::new(),
            lists: PageVec::new(),
            ready: PageVec::new(),
            ready_len: 0,
            named: 0,
            waiting: 0,
            searches: 0,
            short: false,
        }
    }

    /// Forgets all tasks; the pages stay.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.links.0.clear();
        self.stacks.clear();
        self.lists.clear();
        self.ready.clear();
        (self.sorted, self.ready_len) = (0, 0);
        (self.named, self.waiting, self.searches) = (0, 0, 0);
        self.short = false;
    }

    /// Forgets everything; its owner gives the memory back.
    pub(crate) fn empty(&mut self) {
        *self = Self::new();
    }

    /// Counts a task that the platform has named.
    pub(super) fn count(&mut self, task: &TaskState) {
        self.named += 1;
        self.waiting += usize::from(task.wait.is_some());
    }

    /// Adds a task that waits, withheld. Where there is no memory for all that leads to it, it counts as one that can run.
    pub(super) fn add(&mut self, row: TaskRow, meta: &MetaAlloc<'_>) {
        let added = self.try_add(row, meta);
        self.short |= added.is_err();
    }

    fn try_add(&mut self, row: TaskRow, meta: &MetaAlloc<'_>) -> Result<(), NoMemory> {
        // Room for it when it goes on.
        self.ready.extend(self.rows.len() + 1, meta)?;
        let number = self.rows.push(row, meta)?;
        let links = [
            (LinkKind::Awaited, row.object().map_or(0, Hidden::bits)),
            (LinkKind::Block, row.block.bits()),
            (LinkKind::EndOf, row.ended().map_or(0, key_of)),
            (LinkKind::Task, key_of(row.task)),
        ];
        let mut links = links.into_iter().filter(|(_, key)| *key != 0);
        let linked = links.try_for_each(|(kind, key)| self.link(kind, key, number as u32, meta));
        if linked.is_err()
            && let Some(row) = self.rows.get_mut(number)
        {
            row.standing = TaskStanding::GoesOn;
        }
        linked
    }

    fn link(
        &mut self,
        kind: LinkKind,
        key: u64,
        row: u32,
        meta: &MetaAlloc<'_>,
    ) -> Result<(), NoMemory> {
        let flagged = false;
        let link = TaskLink {
            kind,
            key,
            row,
            flagged,
        };
        self.links.0.push(link, meta).map(|_| ())
    }

    /// Adds a stack of a task, if that is withheld.
    pub(super) fn add_stack(&mut self, task: u32, live: &Range<usize>, meta: &MetaAlloc<'_>) {
        let Some(row) = self.row_of(task).filter(|_| self.withholds(task)) else {
            return;
        };
        let added = self
            .stacks
            .push(HiddenRange::new(live), meta)
            .and_then(|number| self.link(LinkKind::Stack, key_of(task), number as u32, meta));
        if added.is_err()
            && let Some(row) = self.rows.get_mut(row as usize)
        {
            // It stays a root.
            row.standing = TaskStanding::GoesOn;
            self.short = true;
        }
    }

    /// Adds a list of tasks: the object that starts there, or, where that is none, a part of a root. Where there is no memory for it,
    /// its words count.
    pub(super) fn add_list(
        &mut self,
        object: Option<usize>,
        list: &Range<usize>,
        meta: &MetaAlloc<'_>,
    ) {
        let added = match object {
            Some(start) => self.link(LinkKind::List, Hidden::new(start).bits(), 0, meta),
            None => self.lists.push(HiddenRange::new(list), meta).map(|_| ()),
        };
        self.short |= added.is_err();
    }

    /// Puts the index in order: from here on what it has can be searched for.
    pub(super) fn sort(&mut self) {
        self.sorted = self.links.0.len();
        heapsort(&mut self.links, self.sorted);
    }

    /// The place of the first link of this kind and key, or where it would be.
    fn first(&mut self, kind: LinkKind, key: u64) -> usize {
        self.searches += 1;
        let (mut low, mut high) = (0, self.sorted);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.links.0.get(middle) {
                Some(link) if (link.kind, link.key) < (kind, key) => low = middle + 1,
                _ => high = middle,
            }
        }
        low
    }

    /// Shows where each object starts that leads to a row, with whether it has been flagged.
    pub(super) fn each_object(&mut self, look: &mut dyn FnMut(usize, &mut bool)) {
        for place in 0..self.links.0.len() {
            if let Some(link) = self.links.0.get_mut(place)
                && matches!(
                    link.kind,
                    LinkKind::Awaited | LinkKind::Block | LinkKind::List
                )
            {
                look(Hidden::from_bits(link.key).get(), &mut link.flagged);
            }
        }
    }

    /// What the link at a place leads to, if it is of this kind and key.
    fn linked(&self, place: usize, kind: LinkKind, key: u64) -> Option<u32> {
        if place >= self.sorted {
            return None;
        }
        let link = self.links.0.get(place)?;
        (link.kind == kind && link.key == key).then_some(link.row)
    }

    /// Does something with all rows to which this leads.
    fn each_linked(&mut self, kind: LinkKind, key: u64, look: &mut dyn FnMut(&mut Self, u32)) {
        let mut place = self.first(kind, key);
        while let Some(row) = self.linked(place, kind, key) {
            look(self, row);
            place += 1;
        }
    }

    /// Lets a task go on.
    pub(super) fn let_go_on(&mut self, number: u32) {
        let Some(row) = self.rows.get_mut(number as usize) else {
            return;
        };
        if row.standing == TaskStanding::GoesOn {
            return;
        }
        row.standing = TaskStanding::GoesOn;
        if let Some(place) = self.ready.get_mut(self.ready_len) {
            *place = number;
            self.ready_len += 1;
        }
    }

    /// A task that goes on, and whose words have not been followed; with it go on those that wait for its end.
    pub(super) fn take_ready(&mut self) -> Option<u32> {
        self.ready_len = self.ready_len.checked_sub(1)?;
        let number = *self.ready.get(self.ready_len)?;
        let task = self.rows.get(number as usize)?.task;
        self.each_linked(LinkKind::EndOf, key_of(task), &mut Self::let_go_on);
        Some(number)
    }

    /// Tells the table that the marker has reached an object, and whether its words are to be followed now.
    pub(super) fn reach(&mut self, start: usize) -> TaskStanding {
        let key = Hidden::new(start).bits();
        self.each_linked(LinkKind::Awaited, key, &mut Self::let_go_on);
        let mut follow = match self.is_list(start) {
            true => TaskStanding::Withheld,
            false => TaskStanding::GoesOn,
        };
        self.each_linked(LinkKind::Block, key, &mut |table, number| {
            if let Some(row) = table.rows.get_mut(number as usize)
                && row.standing == TaskStanding::Withheld
            {
                row.block_reached = true;
                follow = TaskStanding::Withheld;
            }
        });
        follow
    }

    /// Whether the object that starts there is a list of tasks.
    pub(super) fn is_list(&mut self, start: usize) -> bool {
        let key = Hidden::new(start).bits();
        let list = self.first(LinkKind::List, key);
        self.linked(list, LinkKind::List, key).is_some()
    }

    /// Whether the task with this number waits, and is withheld.
    pub(super) fn withholds(&mut self, task: u32) -> bool {
        self.row_of(task)
            .and_then(|number| self.rows.get(number as usize))
            .is_some_and(|row| row.standing == TaskStanding::Withheld)
    }

    /// The number of the row of a task.
    pub(super) fn row_of(&mut self, task: u32) -> Option<u32> {
        let place = self.first(LinkKind::Task, key_of(task));
        self.linked(place, LinkKind::Task, key_of(task))
    }

    /// Shows the lists that lie in roots and hold an address, or follow it.
    pub(super) fn lists_around(&self, at: usize, look: &mut dyn FnMut(Range<usize>)) {
        let lists = (0..self.lists.len()).filter_map(|list| self.lists.get(list));
        lists
            .map(|list| list.range())
            .filter(|list| list.end > at)
            .for_each(look);
    }

    /// The stack of a task with this number among its stacks.
    pub(crate) fn stack(&mut self, task: u32, number: usize) -> Option<Range<usize>> {
        let key = key_of(task);
        let place = self.first(LinkKind::Stack, key) + number;
        let stack = self.linked(place, LinkKind::Stack, key)?;
        self.stacks.get(stack as usize).map(|stack| stack.range())
    }

    /// How many rows there are: tasks that wait for something that not anybody can reach.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// How many tasks the platform has named.
    pub(crate) fn named(&self) -> usize {
        self.named
    }

    /// How many of these wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many searches in the index it took.
    pub(crate) fn searches(&self) -> u64 {
        self.searches
    }

    /// Whether there was no memory for all.
    pub(crate) fn is_short(&self) -> bool {
        self.short
    }

    pub(crate) fn row(&self, number: usize) -> Option<&TaskRow> {
        self.rows.get(number)
    }
}

/// The key of a task: none is zero.
fn key_of(task: u32) -> u64 {
    u64::from(task) + 1
}
