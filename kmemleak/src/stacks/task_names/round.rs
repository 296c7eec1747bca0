//! Rounds, which find the numbers that no record has any more.

use core::sync::atomic::Ordering::Relaxed;

use crate::stacks::task_names::TaskNames;

/// After a round that freed no number, this many look-ups take no step for each step that it had: so what is in vain costs a
/// look-up little.
const REST: u32 = 16;

/// Sets of the index that a step looks through.
const SETS_TOGETHER: usize = 2;

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
#[derive(Clone, Copy)]
enum Phase {
    /// No round has begun.
    None,
    /// Records are looked at, from here on.
    Records(usize),
    /// Numbers have been freed. The index is looked through, from this set on, and forgets what they were.
    Index(usize),
}

/// When steps are taken.
pub(super) struct Pace {
    phase: Phase,
    /// How many steps the round has had.
    steps: u32,
    /// How many look-ups are still to take no step.
    rest: u32,
}

impl Pace {
    pub(super) const NONE: Self = Self {
        phase: Phase::None,
        steps: 0,
        rest: 0,
    };
}

impl TaskNames {
    /// Takes a round one step further, or begins one. True if steps of the round remain; false if it is at its end, or if another
    /// CPU takes a step. Interrupts are off, and no lock is held.
    pub(crate) fn step(&self, in_use: &impl NamesInUse) -> bool {
        let Some(mut pace) = self.round.try_lock() else {
            return false;
        };
        self.take_step(&mut pace, in_use)
    }

    /// Takes a step for a look-up of a name that is not known, if few numbers are free or a round is to be ended. After a round
    /// that freed none, look-ups take no step for a while ([`REST`]).
    pub(super) fn step_for_look_up(&self, in_use: &impl NamesInUse) {
        let Some(mut pace) = self.round.try_lock() else {
            return;
        };
        match (pace.phase, pace.rest.checked_sub(1)) {
            (Phase::None, _) if !self.is_short() => {}
            (Phase::None, Some(rest)) => pace.rest = rest,
            _ => {
                self.take_step(&mut pace, in_use);
            }
        }
    }

    fn take_step(&self, pace: &mut Pace, in_use: &impl NamesInUse) -> bool {
        pace.steps = pace.steps.saturating_add(1);
        pace.phase = match pace.phase {
            Phase::None => {
                self.begin_round();
                Phase::Records(0)
            }
            Phase::Records(from) => {
                let mark = &mut |number| self.states.mark(number);
                match in_use.numbers(from, mark).map(Phase::Records) {
                    Some(next) => next,
                    None if self.end_round() == 0 => {
                        let rest = pace.steps.saturating_mul(REST);
                        *pace = Pace { rest, ..Pace::NONE };
                        return false;
                    }
                    None => Phase::Index(0),
                }
            }
            Phase::Index(from) => match self.clear_index(from).map(Phase::Index) {
                Some(next) => next,
                None => {
                    *pace = Pace::NONE;
                    return false;
                }
            },
        };
        true
    }

    fn begin_round(&self) {
        self.states.clear_marks();
        for number in self.rows.numbers() {
            self.states.mark(number);
        }
    }

    /// Drops from some sets of the index what is not true any more. Returns the next set, if there is one.
    fn clear_index(&self, from: usize) -> Option<usize> {
        let adding = self.adding.lock();
        let name_of = |number| match self.states.is_live(number) {
            true => self.names.stored(number),
            false => None,
        };
        let mut sets = from..from + SETS_TOGETHER;
        let more = sets.all(|set| self.index.clear_stale(set, name_of, &adding));
        more.then_some(from + SETS_TOGETHER)
    }

    /// Frees the numbers that are not marked, and returns how many.
    fn end_round(&self) -> u32 {
        let adding = self.adding.lock();
        self.count_round();
        let freed = self.states.free_unmarked(&adding);
        self.live.fetch_sub(freed, Relaxed);
        freed
    }

    pub(super) fn count_round(&self) {
        let ended = self.ended.load(Relaxed);
        self.ended.store(ended.wrapping_add(1), Relaxed);
    }
}
