//! The cycle that a leader lies in: lost objects that hold each other, such as `Arc`s that own each other.
//!
//! That there is a cycle, the search for leaders has seen (`fate::CYCLE`). Which objects it is made of is found when it is shown,
//! by a breadth-first search (Moore 1959) among the leaks of the verdict: from the leader, along the words of blocks that are scanned as a whole, to the
//! first object that points to the leader. So the cycle that is shown is a shortest one. A pointer from an object to itself
//! makes none.
//!
//! The world is not stopped: nothing points to leaks, so nothing changes them, and each is read under its chunk's lock, as long as it
//! is the object that the verdict named.
//!
//! # Memory
//!
//! A row for each object that the search comes to, [`MOST_OBJECTS`] at most, in pages that stay until all metadata is given back.
//!
//! # Locks
//!
//! A chunk's at a time.

use core::cell::Cell;

use crate::checker::claim::Claim;
use crate::metadata::WORD;
use crate::metadata::hidden::Hidden;
use crate::metadata::keyed_table::{Key, KeyedTable};
use crate::metadata::page::NoMemory;
use crate::objects::access::Locked;
use crate::objects::object::Object;
use crate::objects::record::flag;
use crate::platform::Platform;
use crate::tracker::Tracker;
use crate::verdict::leak_list::{LeakList, Named, fate};

/// Objects that a search comes to at most: it is made for each leader that is shown in full.
const MOST_OBJECTS: usize = 4096;
/// Words that it reads at most: two MiB.
const MOST_WORDS: usize = 1 << 18;
/// Words that are read with interrupts off.
const PIECE: usize = 32;

/// A leak that was reached, by its number in the verdict's list.
#[derive(Clone, Copy, PartialEq, Eq)]
struct OfCycle(u32);

impl Key for OfCycle {
    fn bits(self) -> u32 {
        self.0
    }
}

/// How it was reached.
#[derive(Default)]
struct CycleStep {
    /// The row of the object that points to it.
    from: usize,
    /// The row of the object behind it in the cycle.
    next: Cell<usize>,
}

/// What a search has come to, in that order: the rows are its queue.
pub(crate) struct CycleSearch(KeyedTable<OfCycle, CycleStep>);

/// What was found of a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cycle {
    /// The object lies in none.
    None,
    /// Its objects have been shown.
    Shown,
    /// It lies in one that has too many objects to be found, or that was freed meanwhile, or there was no memory.
    NotFound,
}

impl CycleSearch {
    pub(crate) const fn new() -> Self {
        Self(KeyedTable::new())
    }

    /// Forgets everything; its owner gives the memory back.
    pub(crate) fn empty(&mut self) {
        self.0.empty();
    }

    /// Searches for the way back to the leader. Then each row of the cycle, from the first on, has the next one.
    fn search<P: Platform>(
        &mut self,
        tracker: &Tracker<P>,
        list: &LeakList,
        leader: usize,
    ) -> Result<(), NotFound> {
        self.0.clear();
        self.reach(tracker, leader, 0)?;
        let (mut row, mut left) = (0, MOST_WORDS);
        while let Some(OfCycle(number)) = self.0.key(row) {
            let named = list.get(number as usize).ok_or(NotFound)?;
            let mut back = Ok(false);
            each_word(tracker, &named, &mut left, &mut |word| {
                let Some(index) = leak_at(tracker, list, word).filter(|_| back == Ok(false)) else {
                    return;
                };
                back = match index == leader {
                    true => Ok(row > 0),
                    false => self.reach(tracker, index, row).map(|()| false),
                };
            });
            if back? {
                self.link(row);
                return Ok(());
            }
            row += 1;
        }
        Err(NotFound)
    }

    /// Appends a leak, unless the search has come to it before.
    fn reach<P: Platform>(
        &mut self,
        tracker: &Tracker<P>,
        index: usize,
        from: usize,
    ) -> Result<(), NotFound> {
        let (key, before) = (OfCycle(index as u32), self.0.len());
        if before == MOST_OBJECTS {
            return Err(NotFound);
        }
        let row = tracker.without_interrupts(|meta| self.0.find_or_add(key, meta))?;
        if row == before
            && let Some(step) = self.0.get_mut(row)
        {
            step.from = from;
        }
        Ok(())
    }

    /// Turns the way from the leader to `last` round, so that it can be shown from the leader on. The last one leads to the leader.
    fn link(&self, last: usize) {
        let (mut row, mut next) = (last, 0);
        while let Some(step) = self.0.get(row) {
            step.next.set(next);
            if row == 0 {
                return;
            }
            (next, row) = (row, step.from);
        }
    }

    /// The leaks of the cycle that was found, the leader first.
    fn each(&self, look: &mut dyn FnMut(usize)) {
        let mut row = 0;
        while let Some(OfCycle(number)) = self.0.key(row) {
            look(number as usize);
            row = self.0.get(row).map_or(0, |step| step.next.get());
            if row == 0 {
                return;
            }
        }
    }
}

/// There is no way back, as far as was looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NotFound;

impl From<NoMemory> for NotFound {
    fn from(_: NoMemory) -> Self {
        Self
    }
}

impl<P: Platform> Claim<'_, P> {
    /// Shows the leaks of a shortest cycle in which a leader lies, by its number in the verdict's list, from the leader on.
    pub(crate) fn each_of_cycle(&self, leader: usize, look: &mut dyn FnMut(&Named)) -> Cycle {
        let (tracker, list) = (self.tracker(), &self.verdict().list);
        if !list.has(leader, fate::CYCLE) {
            return Cycle::None;
        }
        let Ok(mut search) = self.findings.cycle.try_borrow_mut() else {
            return Cycle::NotFound;
        };
        // A free waits for a reader only as long as the detector is on.
        if !tracker.is_on() || search.search(tracker, list, leader).is_err() {
            return Cycle::NotFound;
        }
        search.each(&mut |index| list.get(index).iter().for_each(&mut *look));
        Cycle::Shown
    }
}

/// The number of the leak that a word points into.
fn leak_at<P: Platform>(tracker: &Tracker<P>, list: &LeakList, word: Hidden) -> Option<usize> {
    let seen = |object: Object<'_>, _| (Hidden::new(object.start), object.record.read());
    let registry = tracker.registry();
    let (start, record) =
        tracker.without_interrupts(|_| registry.block_containing(Locked, word.get(), seen))?;
    let (index, is_suppressed) = list.find(start.get(), &record)?;
    (!is_suppressed).then_some(index)
}

/// Shows the words of a leak, if it is still there, and is scanned as a whole. It takes what is shown from `left`, and ends there.
fn each_word<P: Platform>(
    tracker: &Tracker<P>,
    named: &Named,
    left: &mut usize,
    look: &mut dyn FnMut(Hidden),
) {
    let size = named.size(tracker);
    let first = named.start.next_multiple_of(WORD);
    let words = size.saturating_sub(first - named.start) / WORD;
    for piece in (0..words).step_by(PIECE) {
        let count = PIECE.min(words - piece).min(*left);
        *left -= count;
        let mut read = [Hidden::NONE; PIECE];
        let is_read = read_words(tracker, named, first + piece * WORD, &mut read[..count]);
        if !is_read || count == 0 {
            return;
        }
        read[..count].iter().for_each(|word| look(*word));
    }
}

/// Reads words of a leak that is still there. False if they can't be read.
fn read_words<P: Platform>(
    tracker: &Tracker<P>,
    named: &Named,
    from: usize,
    words: &mut [Hidden],
) -> bool {
    let platform = tracker.platform();
    let read = |object: Object<'_>| {
        let record = object.record.read();
        let readable = tracker
            .strangers()
            .or_platform(platform, from, words.len() * WORD);
        if record.birth_us() != named.record.birth_us() || record.has(flag::SPECIAL) || !readable {
            return false;
        }
        for (place, word) in words.iter_mut().enumerate() {
            // SAFETY: whole words of the block, which the platform vouches for; its free waits for the chunk's lock.
            *word = Hidden::new(unsafe { platform.words().read(from + place * WORD) });
        }
        true
    };
    let registry = tracker.registry();
    tracker.without_interrupts(|_| registry.starting_at(Locked, named.start, read)) == Some(true)
}
