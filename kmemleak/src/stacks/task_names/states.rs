//! The states of numbers: which have a name, and which of those are in use.

use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::atomic::AtomicU32;
use crate::sizes::MAX_TASK_NAMES;
use crate::stacks::task_names::Adding;

/// Numbers whose states share a word.
const PER_WORD: usize = u32::BITS as usize / 2;
const WORDS: usize = MAX_TASK_NAMES.div_ceil(PER_WORD);

/// The number has a name.
const LIVE: u32 = 1;
/// Found in a record or a row, in this round.
const MARKED: u32 = 2;
/// [`LIVE`] and [`MARKED`] for all numbers of a word.
const ALL_LIVE: u32 = u32::MAX / 3 * LIVE;
const ALL_MARKED: u32 = u32::MAX / 3 * MARKED;

/// States of the numbers. [`LIVE`] publishes a name: it is set with Release, and [`protect`](Self::protect) sees it
/// with Acquire. [`MARKED`] publishes the row in which the number stands: set with Release, cleared with Acquire. The
/// walk sets it Relaxed, as a round's steps are ordered by the round's lock; and numbers are freed under both locks.
pub(super) struct States([AtomicU32; WORDS]);

impl States {
    pub(super) const fn new() -> Self {
        Self([const { AtomicU32::new(0) }; WORDS])
    }

    /// The word that has the state of a number, and where in it.
    fn of(&self, number: u32) -> (&AtomicU32, u32) {
        let number = number as usize % MAX_TASK_NAMES;
        let word = &self.0[number / PER_WORD];
        (word, (number % PER_WORD * 2) as u32)
    }

    pub(super) fn is_live(&self, number: u32) -> bool {
        let (state, shift) = self.of(number);
        state.load(Relaxed) >> shift & LIVE != 0
    }

    /// Keeps rounds from freeing a number that stands in this CPU's row, as long as it stands there. False if the number was
    /// already free.
    pub(super) fn protect(&self, number: u32) -> bool {
        let (state, shift) = self.of(number);
        // Acquire, for what was written before it was live. Release, for the row.
        let before = state.fetch_or(MARKED << shift, AcqRel);
        before >> shift & LIVE != 0
    }

    /// Notes that a record or a row has the number.
    pub(super) fn mark(&self, number: u32) {
        let (state, shift) = self.of(number);
        if state.load(Relaxed) >> shift & MARKED == 0 {
            state.fetch_or(MARKED << shift, Relaxed);
        }
    }

    /// Makes a number live and marked. Its name has been written, and the number stands in this CPU's row.
    pub(super) fn publish(&self, number: u32, _: &Adding) {
        let (state, shift) = self.of(number);
        state.fetch_or((LIVE | MARKED) << shift, Release);
    }

    /// A free number.
    pub(super) fn free_one(&self, _: &Adding) -> Option<u32> {
        self.0.iter().enumerate().find_map(|(index, state)| {
            // The first number stands for no name, and is never free.
            let never = if index == 0 { LIVE } else { 0 };
            let free = ALL_LIVE & !(state.load(Relaxed) | never);
            let number = index * PER_WORD + free.trailing_zeros() as usize / 2;
            (free != 0 && number < MAX_TASK_NAMES).then_some(number as u32)
        })
    }

    /// Clears all marks.
    pub(super) fn clear_marks(&self) {
        for state in &self.0 {
            // Acquire: where a CPU has marked its row's number before, the row is seen with that number, or a later one.
            state.fetch_and(!ALL_MARKED, Acquire);
        }
    }

    /// Frees the numbers that are not marked, and returns how many.
    pub(super) fn free_unmarked(&self, _: &Adding) -> u32 {
        self.0.iter().map(free_unmarked_of).sum()
    }

    pub(super) fn empty(&self) {
        self.0.iter().for_each(|state| state.store(0, Relaxed));
    }
}

/// Frees the unmarked numbers of a word of states, and returns how many.
fn free_unmarked_of(state: &AtomicU32) -> u32 {
    let mut now = state.load(Relaxed);
    loop {
        let unmarked = now & ALL_LIVE & !(now >> 1);
        match state.compare_exchange(now, now & !unmarked, Relaxed, Relaxed) {
            Ok(_) => return unmarked.count_ones(),
            Err(changed) => now = changed,
        }
    }
}
