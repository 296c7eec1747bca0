//! Rounds, which find the numbers that no record has any more.

use core::sync::atomic::Ordering::Relaxed;

use crate::stacks::task_names::TaskNames;

/// How many calls of [`TaskNames::step`] do nothing after a round that freed no number.
const REST: u32 = 64;

/// The round in which a copy of a record was made: a name that got its number in a later round is another task's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Round(pub(super) u32);

impl Round {
    /// The first round.
    pub(crate) const FIRST: Self = Self(0);

    /// Whether this round came after `other`. The number may wrap: no copy is kept for 2^31 rounds.
    pub(super) fn is_after(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) > 0
    }
}

/// The numbers that records have.
pub(crate) trait NamesInUse {
    /// Calls `look` with the numbers of some records, in constant time. The first call gets `from` 0, the next ones what the
    /// call before returned; it returns `None` when all records have been visited. Interrupts are off.
    fn numbers(&self, from: usize, look: &mut dyn FnMut(u32)) -> Option<usize>;
}

/// How far a round has come.
pub(super) struct Pace {
    /// Where the walk goes on; `None` if no round has begun.
    from: Option<usize>,
    /// How many calls of [`TaskNames::step`] are still to do nothing.
    rest: u32,
}

impl Pace {
    pub(super) const NONE: Self = Self {
        from: None,
        rest: 0,
    };
}

impl TaskNames {
    /// Takes a round one step further, or begins one. True if steps of the round remain; false if it is at its end, if no
    /// round is to begin yet, or if another CPU takes a step. Interrupts are off, and no lock is held.
    pub(crate) fn step(&self, in_use: &impl NamesInUse) -> bool {
        let Some(mut progress) = self.round.try_lock() else {
            // Another CPU takes a step.
            return false;
        };
        let from = match progress.from {
            Some(from) => from,
            None if progress.rest > 0 => {
                progress.rest -= 1;
                return false;
            }
            None => {
                self.begin_round();
                0
            }
        };
        progress.from = in_use.numbers(from, &mut |number| self.states.mark(number));
        if progress.from.is_none() {
            progress.rest = match self.end_round() {
                0 => REST,
                _ => 0,
            };
        }
        progress.from.is_some()
    }

    fn begin_round(&self) {
        self.states.clear_marks();
        for number in self.rows.numbers() {
            self.states.mark(number);
        }
    }

    /// Frees the numbers that are not marked, and returns how many.
    fn end_round(&self) -> u32 {
        let adding = self.adding.lock();
        self.count_round();
        let freed = self.states.free_unmarked(&adding);
        if freed > 0 {
            self.live.fetch_sub(freed, Relaxed);
            self.index
                .retain(|number| self.states.is_live(number), &adding);
        }
        freed
    }

    pub(super) fn count_round(&self) {
        let ended = self.ended.load(Relaxed);
        self.ended.store(ended.wrapping_add(1), Relaxed);
    }
}
