//! Counts that lie: reference-counted blocks whose count says more references than there are.
//!
//! `mem::forget(arc.clone())`, an `into_raw` too many, a waker that was cloned and never dropped: the block stays reachable by its
//! other references, so it is no leak, and it is never freed either. Its count is one higher than the number of references.
//!
//! # The rule
//!
//! In a stopped world the words of all roots and of all objects are read, scanned or not. Each word that points into a counted block,
//! to its start, its value or its middle, may be one reference. So there are at most as many references as words, and
//!
//! - a count that is *higher* than the number of words is certainly too high, by the difference at least;
//! - a count *below zero* was dropped more often than it was taken: what still points there may use freed memory;
//! - a count that is *lower* than the number of words says little. A stale word, in a popped slot of a vector or an old variant of an
//!   enum, is one word more. Only words that point to the start of an `Arc`'s or `Rc`'s block are looked at for that, since borrows and
//!   back pointers point to the value; weak references are known by the weak count. What is left is *possible*, and told
//!   where it is asked for.
//!
//! What is not certain is not judged:
//!
//! - A block into which a word of a *stack* points, of a register or of a registered region, which may be a stack. Code that holds two
//!   clones of an `Arc` may keep them in one word, as they are equal; and between the increment of a count and the moment in which the
//!   new reference is stored, that is in a register. In other memory each reference has a word of its own.
//! - A block whose counts and words are not the same in a second stop, before which other tasks have run.
//! - A block that is never a leak (gray or black), as references to it need not be seen; and one that is just as large as its two
//!   counts: the raw pointer of an `Arc` without a value points one past its end.
//!
//! And nothing is judged where references may be missing among the words: objects are unrecorded, stacks are not read, the world can't be
//! stopped.
//!
//! # Limits
//!
//! Stale words and pointers to the middle hide a difference, and never make one. A reference that is stored where the detector does
//! not look, or in a form that it does not know, makes one: one that a device holds, or in which a pointer is compressed. Such a
//! reference would also make a false leak; what keeps it from being one ([`not_leak`](crate::Detector::not_leak),
//! [`read_as`](crate::Detector::read_as), a region, tags of [`Words::Tagged`](crate::Words::Tagged)) helps here, too. The raw pointer of
//! an empty value that is aligned to more than 16 bytes lies one past the end of its block, and is not seen.
//!
//! # How
//!
//! What a call stack's blocks are is known by names, which are never looked up in a stopped world. So call stacks are judged first;
//! then the counted blocks are listed, by address; then comes the first stop. What is allocated after that is not looked at. In the
//! stop all CPUs read words together, and look each up in the list. The second stop has only those that differed.
//!
//! # Memory
//!
//! A row of 104 bytes for each counted block, in pages that stay until all metadata is given back. Without memory for all there is no
//! answer.
//!
//! # Locks
//!
//! The claim. A chunk's, one at a time, while blocks are listed; none in a stop.

mod compare;
mod rows;

use core::fmt;

pub(in crate::checker) use self::rows::CountedBlocks;
use crate::checker::claim::{Claim, Nested, NotDone};
use crate::checker::pass::NotSeen;
use crate::checker::tallies::{FromPlace, Whence};
use crate::marker::GivenUp;
use crate::metadata::page::NoMemory;
use crate::platform::{Counted, Platform, StopError};
use crate::stacks::depot::StackId;
use crate::stacks::stack_table::StackTable;
use crate::tracker::Tracker;
use crate::verdict::call_sites::SiteOrder;
use crate::verdict::leak_list::Named;

/// How often other tasks are let run between the two stops.
const WAITS: u32 = 64;

/// What is wrong with a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Miscounted {
    /// It is below zero: it was dropped more often than it was taken. Certain.
    BelowZero,
    /// More words point to the block's start than there are strong and weak references. They are stale, or the block is about to be
    /// freed too early: possible.
    TooLow,
    /// It is higher than the number of words that may be references. Certain.
    TooHigh,
}

/// A block whose count does not match the references that were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Miscount {
    /// Its address.
    pub start: usize,
    /// Its bytes.
    pub size: usize,
    /// When it was allocated, in microseconds of the platform's clock.
    pub birth_us: u64,
    /// What is wrong.
    pub wrong: Miscounted,
    /// How many references its count says there are.
    pub references: i64,
    /// How many words may be references: of a count that is too low only those that point to its start.
    pub words: u32,
    /// How much the count is too high; negative if it is too low.
    pub difference: i64,
}

/// What was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CountSums {
    /// Counted blocks.
    pub blocks: usize,
    /// Those of them that were not judged, as a stack points to them.
    pub on_stacks: usize,
    /// Those whose count is below zero.
    pub below_zero: usize,
    /// Those whose count may be too low.
    pub too_low: usize,
    /// Those whose count is too high.
    pub too_high: usize,
}

/// Why counts were not compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotCompared {
    /// The world can't be stopped, so counts change while references are looked for.
    Unstopped(StopError),
    /// So many blocks, or things said of them, are unrecorded for lack of memory: they may hold references.
    Unrecorded(u64),
    /// Allocators were reallocating blocks however often the question waited.
    InFlight,
    /// Stacks were not read: `stack=off`, or the platform names none.
    NoStacks,
    /// As with other questions.
    NotDone(NotDone),
}

impl fmt::Display for NotCompared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unstopped(why) => why.fmt(f),
            Self::Unrecorded(_) => f.write_str(
                "blocks are unrecorded, and may hold references: `status` says how many, `clear` begins anew",
            ),
            Self::InFlight => f.write_str("blocks were being reallocated all the time: ask again"),
            Self::NoStacks => f.write_str(
                "stacks are not read, and may hold references: `stack=on`, or a platform that names stacks",
            ),
            Self::NotDone(why) => why.fmt(f),
        }
    }
}

impl core::error::Error for NotCompared {}

impl From<NotDone> for NotCompared {
    fn from(why: NotDone) -> Self {
        Self::NotDone(why)
    }
}

impl From<Nested> for NotCompared {
    fn from(why: Nested) -> Self {
        Self::NotDone(why.into())
    }
}

impl From<NoMemory> for NotCompared {
    fn from(why: NoMemory) -> Self {
        Self::NotDone(why.into())
    }
}

impl From<NoMemory> for NotDone {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

/// The counted blocks of a question.
pub(in crate::checker) struct Counts {
    /// The call stacks that allocate such blocks.
    stacks: StackTable<Option<Counted>>,
    /// All of them, as the first stop has seen them.
    blocks: CountedBlocks,
    /// Those that differed, as the second one has.
    again: CountedBlocks,
    sums: CountSums,
    /// When the question was asked.
    at_us: u64,
}

impl Counts {
    pub(in crate::checker) const fn new() -> Self {
        Self {
            stacks: StackTable::new(),
            blocks: CountedBlocks::new(),
            again: CountedBlocks::new(),
            sums: CountSums {
                blocks: 0,
                on_stacks: 0,
                below_zero: 0,
                too_low: 0,
                too_high: 0,
            },
            at_us: 0,
        }
    }

    /// Forgets everything; its owner gives the memory back.
    pub(in crate::checker) fn empty(&mut self) {
        self.stacks.empty();
        self.blocks.empty();
        self.again.empty();
    }
}

impl Counts {
    /// Shows each block whose count is wrong in this way, oldest first.
    fn each_wrong<P: Platform>(
        &self,
        tracker: &Tracker<P>,
        wrong: Miscounted,
        look: &mut dyn FnMut(&Named, &Miscount),
    ) {
        for block in self.again.each() {
            if let Some((found, difference)) = block.wrong()
                && found == wrong
            {
                let named = block.named(self.again.copied_at());
                look(&named, &block.miscount(tracker, wrong, difference));
            }
        }
    }
}

impl<P: Platform> Claim<'_, P> {
    /// Compares all counts; `counted` says how the blocks of a call stack count, and asks nothing. What is wrong is shown afterwards
    /// by [`each_miscount`](Self::each_miscount).
    pub(crate) fn compare_counts(
        &mut self,
        counted: &mut dyn FnMut(&[usize]) -> Option<Counted>,
    ) -> Result<CountSums, NotCompared> {
        self.judge_call_stacks(counted)?;
        self.on_unscanned_stack(|claim| Ok(claim.compare_here()))
            .map_err(|GivenUp| NotDone::Stopped)??;
        Ok(self.findings.counts.sums)
    }

    /// Finds the call stacks that allocate counted blocks.
    fn judge_call_stacks(
        &mut self,
        counted: &mut dyn FnMut(&[usize]) -> Option<Counted>,
    ) -> Result<(), NotDone> {
        let tracker = self.tracker();
        if !tracker.is_on() {
            return Err(NotDone::Off);
        }
        if !self.find_sites(SiteOrder::Count) {
            return Err(NotDone::NoMemory);
        }
        let way_out = self.way_out();
        let findings = &mut *self.findings;
        let stacks = &mut findings.counts.stacks;
        stacks.clear();
        let mut noted = Ok(());
        findings
            .call_sites
            .each(tracker, &mut |site, stack_id: StackId| {
                let outside = way_out();
                let how = counted(site.call_stack);
                drop(outside);
                if how.is_some() && noted.is_ok() {
                    noted = tracker
                        .without_interrupts(|meta| stacks.find_or_add(stack_id, meta))
                        .map(|row| stacks.get_mut(row).into_iter().for_each(|row| *row = how));
                }
            });
        Ok(noted?)
    }

    /// Compares the counts of blocks that the call stacks have allocated.
    fn compare_here(&mut self) -> Result<(), NotCompared> {
        let tracker = self.tracker();
        let counts = &mut self.findings.counts;
        counts.at_us = tracker.now_us();
        counts.blocks.fill(tracker, &counts.stacks)?;
        self.look(|counts| &counts.blocks)?;
        let counts = &mut self.findings.counts;
        counts.sums = CountSums {
            blocks: counts
                .blocks
                .each()
                .filter(|block| block.is_there())
                .count(),
            on_stacks: counts
                .blocks
                .each()
                .filter(|block| block.is_on_stack())
                .count(),
            ..CountSums::default()
        };
        let Counts { blocks, again, .. } = counts;
        again.fill_with_wrong(tracker, blocks)?;
        if again.len() == 0 {
            return Ok(());
        }
        for _ in 0..WAITS {
            if tracker.platform().relax().is_break() {
                return Err(NotDone::Stopped.into());
            }
        }
        self.look(|counts| &counts.again)?;
        let counts = &mut self.findings.counts;
        counts.again.keep_if_same(&counts.blocks);
        for block in counts.again.each() {
            match block.wrong().map(|(wrong, _)| wrong) {
                Some(Miscounted::BelowZero) => counts.sums.below_zero += 1,
                Some(Miscounted::TooLow) => counts.sums.too_low += 1,
                Some(Miscounted::TooHigh) => counts.sums.too_high += 1,
                None => {}
            }
        }
        counts.again.sort_by_age();
        Ok(())
    }

    /// Reads the counts of some blocks, and the words that point to them, in a stopped world.
    fn look(&mut self, which: impl Fn(&Counts) -> &CountedBlocks) -> Result<(), NotCompared> {
        let (handle, tracker) = (self.handle(), self.tracker());
        let blocks = which(&self.findings.counts);
        let seen = handle.stopped(
            &|marker, _| {
                compare::read_words(marker, blocks)?;
                marker.barrier()
            },
            |marker| {
                compare::read_counts(marker, blocks);
                Ok(tracker.unrecorded())
            },
        );
        match seen {
            Ok(seen) if seen.figures.in_flight > 0 => Err(NotCompared::InFlight),
            Ok(seen) if seen.result > 0 => Err(NotCompared::Unrecorded(seen.result)),
            Ok(seen) if !seen.figures.stacks || self.skips_stacks() => Err(NotCompared::NoStacks),
            Ok(_) => Ok(()),
            Err(NotSeen::Unstopped(why)) => Err(NotCompared::Unstopped(why)),
            Err(NotSeen::GivenUp) if tracker.is_on() => Err(NotDone::Stopped.into()),
            Err(NotSeen::GivenUp) => Err(NotDone::Off.into()),
        }
    }

    fn skips_stacks(&self) -> bool {
        self.tracker().settings().skip_stacks.is_on()
    }

    /// When counts were compared last.
    pub(crate) fn compared_at_us(&self) -> u64 {
        self.findings.counts.at_us
    }

    /// Shows each block whose count is wrong in this way, oldest first.
    pub(crate) fn each_miscount(&self, wrong: Miscounted, look: &mut dyn FnMut(&Named, &Miscount)) {
        self.findings.counts.each_wrong(self.tracker(), wrong, look);
    }

    /// Counts the blocks whose count is wrong in this way by call site: `add` adds one to what comes from its place.
    pub(crate) fn tally_miscounts(
        &mut self,
        wrong: Miscounted,
        add: &mut dyn FnMut(&mut FromPlace, &Named, &Miscount),
    ) -> Result<(), NoMemory> {
        self.clear_tallies();
        let tracker = self.tracker();
        let findings = &mut *self.findings;
        let (counts, tallies) = (&findings.counts, &mut findings.tallies);
        let mut tallied = Ok(());
        counts.each_wrong(tracker, wrong, &mut |named, miscount| {
            if tallied.is_ok() {
                let whence = Whence::CallSite(named.record.stack_id());
                tallied = tallies
                    .of(tracker, whence)
                    .map(|place| add(place, named, miscount));
            }
        });
        tallied
    }

    /// Compares all counts, and shows each block whose count is wrong.
    pub(crate) fn show_miscounts(
        &mut self,
        counted: &mut dyn FnMut(&[usize]) -> Option<Counted>,
        look: &mut dyn FnMut(Miscount),
    ) -> Result<CountSums, NotCompared> {
        let sums = self.compare_counts(counted)?;
        let _outside = self.outside();
        for wrong in [
            Miscounted::BelowZero,
            Miscounted::TooLow,
            Miscounted::TooHigh,
        ] {
            self.each_miscount(wrong, &mut |_, miscount| look(*miscount));
        }
        Ok(sums)
    }
}
