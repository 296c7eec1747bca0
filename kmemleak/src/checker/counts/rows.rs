//! The counted blocks, in the order of addresses, with what a stop has seen of each.

use core::sync::atomic::Ordering::Relaxed;

use super::{Miscount, Miscounted};
use crate::atomic::{AtomicU32, AtomicU64, AtomicUsize};
use crate::metadata::heap::{Places, heapsort};
use crate::metadata::hidden::Hidden;
use crate::metadata::page::NoMemory;
use crate::metadata::page_vec::PageVec;
use crate::objects::object::Object;
use crate::objects::record::{Record, flag};
use crate::platform::{Counted, Platform};
use crate::stacks::stack_table::StackTable;
use crate::stacks::task_names::Round;
use crate::tracker::Tracker;
use crate::verdict::leak_list::Named;

/// Bytes of a block of the standard library's that has no room for more than its two counts.
const COUNTS_ALONE: usize = 2 * size_of::<usize>();

/// A counted block. What a stop has seen is written by all CPUs, and read when it is over. Relaxed: the end of the stop orders it.
pub(super) struct CountedBlock {
    start: Hidden,
    size: usize,
    /// A copy.
    record: Record,
    how: Counted,
    /// Whether the block was there, and its counts could be read.
    is_read: AtomicU32,
    /// What its count says.
    references: AtomicU64,
    /// What its weak count says; zero if it has none.
    weak: AtomicUsize,
    /// Words that point into it, and lie in no stack.
    words: AtomicU32,
    /// Those of them that point to its start.
    starts: AtomicU32,
    /// Words of stacks that point into it.
    on_stacks: AtomicU32,
}

const _: () = assert!(size_of::<CountedBlock>() <= 104, "as the module says");

/// Where a word lies that points into a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FoundOn {
    /// A stack, or what may be one: several references may be one word.
    Stack,
    /// Memory in which each reference has a word of its own.
    Memory,
}

impl CountedBlock {
    fn new(start: Hidden, size: usize, record: Record, how: Counted) -> Self {
        Self {
            start,
            size,
            record,
            how,
            is_read: AtomicU32::new(0),
            references: AtomicU64::new(0),
            weak: AtomicUsize::new(0),
            words: AtomicU32::new(0),
            starts: AtomicU32::new(0),
            on_stacks: AtomicU32::new(0),
        }
    }

    /// The block, unseen.
    fn unseen(&self) -> Self {
        Self::new(self.start, self.size, self.record, self.how)
    }

    pub(super) fn start(&self) -> usize {
        self.start.get()
    }

    pub(super) fn birth_us(&self) -> u64 {
        self.record.birth_us()
    }

    /// The words of the block with its counts, by their offsets, if both lie in it.
    pub(super) fn count_words(&self) -> Option<(usize, Option<usize>)> {
        let (strong, weak) = (self.how.strong_word()?, self.how.weak_word());
        let end = strong.max(weak.unwrap_or(0)) + size_of::<usize>();
        (end <= self.size).then_some((strong, weak))
    }

    /// Notes what the words with its counts hold.
    pub(super) fn set_counts(&self, strong: usize, weak: usize) {
        let references = self.how.references(strong).cast_unsigned();
        self.references.store(references, Relaxed);
        self.weak.store(weak, Relaxed);
        self.is_read.store(1, Relaxed);
    }

    /// Notes a word that points into it.
    pub(super) fn note(&self, word: usize, found_on: FoundOn) {
        match found_on {
            FoundOn::Stack => _ = self.on_stacks.fetch_add(1, Relaxed),
            FoundOn::Memory => {
                self.words.fetch_add(1, Relaxed);
                if word == self.start() {
                    self.starts.fetch_add(1, Relaxed);
                }
            }
        }
    }

    /// Whether the stop has found it, with its counts.
    pub(super) fn is_there(&self) -> bool {
        self.is_read.load(Relaxed) != 0
    }

    /// Whether it is there, and not judged, as a stack points to it.
    pub(super) fn is_on_stack(&self) -> bool {
        self.is_there() && self.on_stacks.load(Relaxed) > 0
    }

    fn references(&self) -> i64 {
        self.references.load(Relaxed).cast_signed()
    }

    /// How many references to its start there can be: strong ones, and weak ones, of which all strong ones together are one.
    fn most_starts(&self) -> Option<u64> {
        self.how.weak_word()?;
        let (strong, weak) = (self.references() as u64, self.weak.load(Relaxed) as u64);
        // While the only reference is being made sure of, the weak count is the largest number.
        let locked = weak > isize::MAX as u64;
        let others = if strong == 0 { weak } else { weak.max(1) - 1 };
        (!locked).then(|| strong.saturating_add(others))
    }

    /// What is wrong with its count, and how much it is too high.
    pub(super) fn wrong(&self) -> Option<(Miscounted, i64)> {
        if !self.is_there() || self.is_on_stack() {
            return None;
        }
        let (references, words) = (self.references(), i64::from(self.words.load(Relaxed)));
        if references < 0 {
            return Some((Miscounted::BelowZero, references.saturating_sub(words)));
        }
        if references > words {
            return Some((Miscounted::TooHigh, references - words));
        }
        let starts = u64::from(self.starts.load(Relaxed));
        let most = self.most_starts().filter(|most| *most < starts)?;
        Some((Miscounted::TooLow, most as i64 - starts as i64))
    }

    /// Whether two stops have seen the same of a block.
    fn is_same(&self, other: &Self) -> bool {
        let seen = |block: &Self| {
            (
                block.start,
                block.is_there(),
                block.references(),
                block.weak.load(Relaxed),
                block.words.load(Relaxed),
                block.starts.load(Relaxed),
            )
        };
        seen(self) == seen(other)
    }

    pub(super) fn named(&self, copied: Round) -> Named {
        Named {
            start: self.start(),
            record: self.record,
            copied,
        }
    }

    pub(super) fn miscount<P: Platform>(
        &self,
        tracker: &Tracker<P>,
        wrong: Miscounted,
        difference: i64,
    ) -> Miscount {
        let words = match wrong {
            Miscounted::TooLow => &self.starts,
            Miscounted::BelowZero | Miscounted::TooHigh => &self.words,
        };
        Miscount {
            start: self.start(),
            size: self.size,
            birth_us: tracker.birth_us(&self.record),
            wrong,
            references: self.references(),
            words: words.load(Relaxed),
            difference,
        }
    }
}

/// Counted blocks.
pub(in crate::checker) struct CountedBlocks {
    rows: PageVec<CountedBlock>,
    /// When the copies of records were made.
    copied: Round,
}

impl CountedBlocks {
    pub(super) const fn new() -> Self {
        Self {
            rows: PageVec::new(),
            copied: Round::FIRST,
        }
    }

    pub(super) fn empty(&mut self) {
        self.rows.empty();
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn each(&self) -> impl Iterator<Item = &CountedBlock> {
        (0..self.rows.len()).filter_map(|row| self.rows.get(row))
    }

    pub(super) fn copied_at(&self) -> Round {
        self.copied
    }

    /// The block that a word points into. They are in the order of addresses.
    pub(super) fn pointed(&self, word: usize) -> Option<&CountedBlock> {
        let (mut from, mut to) = (0, self.rows.len());
        while from < to {
            let middle = from + (to - from) / 2;
            match self.rows.get(middle)?.start() <= word {
                true => from = middle + 1,
                false => to = middle,
            }
        }
        let block = self.rows.get(from.checked_sub(1)?)?;
        (word - block.start() < block.size).then_some(block)
    }

    /// Lists the blocks that these call stacks have allocated.
    pub(super) fn fill<P: Platform>(
        &mut self,
        tracker: &Tracker<P>,
        stacks: &StackTable<Option<Counted>>,
    ) -> Result<(), NoMemory> {
        self.rows.clear();
        self.copied = tracker.task_names().now();
        let mut listed = Ok(());
        tracker.each_tracked(&mut |object: Object<'_>, meta| {
            let record = object.record.read();
            let how = stacks.find(record.stack_id());
            let how = how.and_then(|row| *stacks.get(row)?);
            let is_leak = record.min_count() > 0 && !record.has(flag::PERCPU | flag::PHYS);
            let Some(how) = how.filter(|_| is_leak && listed.is_ok()) else {
                return;
            };
            let size = tracker.registry().size(object.start, object.record);
            if how == Counted::STD && size <= COUNTS_ALONE {
                return;
            }
            let block = CountedBlock::new(Hidden::new(object.start), size, record, how);
            listed = self.rows.push(block, meta).map(|row| self.move_down(row));
        });
        listed
    }

    /// Objects come chunk by chunk; those of a chunk may come in any order.
    fn move_down(&mut self, mut row: usize) {
        let start = |rows: &PageVec<CountedBlock>, row| rows.get(row).map(CountedBlock::start);
        while row > 0 && start(&self.rows, row - 1) > start(&self.rows, row) {
            self.rows.swap(row - 1, row);
            row -= 1;
        }
    }

    /// Lists those of other blocks of which something is wrong, with nothing seen of them.
    pub(super) fn fill_with_wrong<P: Platform>(
        &mut self,
        tracker: &Tracker<P>,
        others: &Self,
    ) -> Result<(), NoMemory> {
        self.rows.clear();
        self.copied = others.copied;
        for block in others.each().filter(|block| block.wrong().is_some()) {
            tracker.without_interrupts(|meta| self.rows.push(block.unseen(), meta))?;
        }
        Ok(())
    }

    /// Forgets what was seen of blocks that were otherwise before.
    pub(super) fn keep_if_same(&self, before: &Self) {
        for block in self.each() {
            let same = before.pointed(block.start());
            if !same.is_some_and(|same| same.is_same(block)) {
                block.is_read.store(0, Relaxed);
            }
        }
    }

    /// Puts them in the order of allocation: then none is found any more by its address.
    pub(super) fn sort_by_age(&mut self) {
        let len = self.rows.len();
        heapsort(&mut ByAge(&mut self.rows), len);
    }
}

/// Blocks that are being put in the order of allocation.
struct ByAge<'r>(&'r mut PageVec<CountedBlock>);

impl Places for ByAge<'_> {
    fn is_after(&self, one: usize, other: usize) -> bool {
        let order = |row| {
            let block = self.0.get(row);
            block.map(|block| (block.birth_us(), block.start()))
        };
        order(one) > order(other)
    }

    fn exchange(&mut self, one: usize, other: usize) {
        self.0.swap(one, other);
    }
}
