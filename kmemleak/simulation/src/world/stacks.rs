//! Stacks of tasks that sleep: such tasks are born and end while others run, also while a check reads their stacks.
//!
//! A task that sleeps is no thread of the simulation: it does nothing. Whoever runs begins one or reaps one ([`crate::actor`]). What
//! lies on its stack keeps blocks alive as long as it lives. There are few places for stacks, so that one is soon used again.
//!
//! A kernel has one of two ways to let a check read the stack of a task that may end ([`Keeping`]). Which one a run's has is decided
//! by its seed, as is whether it has such tasks at all, by numbers of their own: a seed without them is what it would be if there
//! were none.

use super::{ROOT_WORDS, World};
use crate::oracle::random::Random;
use crate::schedule::{Fault, has};

/// Where these stacks lie, one a page. No other block does.
pub const SLEEPERS: usize = 0xffff_c980_0000_0000;
/// Places for stacks.
pub const PLACES: usize = 6;
/// Bytes of a stack that are in use, and so a root.
pub const USED: usize = ROOT_WORDS * 8;

/// Bytes below them, where stacks are blocks.
const UNUSED: usize = 512;

/// How a kernel lets a check read the stack of a task that may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// What has ended stays mapped as long as a check walks over the roots.
    Mapped,
    /// Stacks are tracked blocks. One that is freed is unmapped as soon as that was told.
    Blocks,
}

/// A place for a stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Nothing is there.
    #[default]
    Free,
    /// A task begins or ends there.
    Busy,
    /// The stack of a task.
    Lives,
    /// Its task has ended, but a check may read it.
    Kept,
}

/// Stacks of tasks that sleep.
#[derive(Clone, Debug)]
pub struct Stacks {
    keeping: Option<Keeping>,
    places: [Place; PLACES],
    /// A check walks over the roots.
    walked: bool,
    random: Random,
}

/// Where the part in use of the stack at a place begins.
pub(crate) fn start_of(place: usize) -> usize {
    SLEEPERS + place * 4096
}

impl Stacks {
    /// Those of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::new(seed.rotate_left(32) ^ 0x57ac_c500);
        let keeping = match seed % 7 {
            1 | 2 | 5 => Some([Keeping::Mapped, Keeping::Blocks][random.below(2)]),
            _ => None,
        };
        Self {
            keeping,
            places: Default::default(),
            walked: false,
            random,
        }
    }

    /// How this kernel keeps them, if it is time for a task to begin or to end: that comes often while a check may read them.
    pub(crate) fn turn(&mut self) -> Option<Keeping> {
        let one_in = if self.walked { 2 } else { 8 };
        self.keeping.filter(|_| self.random.below(one_in) == 0)
    }

    /// The memory of a stack: where it begins, and its bytes.
    pub(crate) fn memory(&self, place: usize) -> (usize, usize) {
        match self.keeping {
            // What is in use lies at the end, as in kernels.
            Some(Keeping::Blocks) => (start_of(place) - UNUSED, UNUSED + USED),
            Some(Keeping::Mapped) | None => (start_of(place), USED),
        }
    }

    /// How many places for stacks this kernel has.
    pub(crate) fn places(&self) -> usize {
        match self.keeping {
            Some(_) => PLACES,
            None => 0,
        }
    }

    /// A place that is busy from now on, and whether a task is to begin there; else the one there is to end.
    pub(crate) fn take(&mut self) -> Option<(usize, bool)> {
        let place = self.random.below(PLACES);
        let begins = match self.places[place] {
            Place::Free => true,
            Place::Lives => false,
            Place::Busy | Place::Kept => return None,
        };
        self.places[place] = Place::Busy;
        Some((place, begins))
    }

    /// A place whose task is to end, which is busy from now on: for the end of all.
    pub(crate) fn take_living(&mut self) -> Option<(usize, Keeping)> {
        let place = self.places.iter().position(|&one| one == Place::Lives)?;
        self.places[place] = Place::Busy;
        Some((place, self.keeping?))
    }

    /// The next stack that the kernel names, from this place on: its place, and where it begins.
    pub(super) fn named_from(&self, place: usize) -> Option<(usize, usize)> {
        let next = (place..PLACES).find(|&one| self.places[one] == Place::Lives)?;
        Some((next, start_of(next)))
    }

    /// Whether a stack that lies in no block stays readable while a check walks over the roots.
    pub(super) fn stays(&self, start: usize) -> bool {
        let sleeps = start.wrapping_sub(SLEEPERS) < PLACES * 4096;
        !sleeps || self.keeping == Some(Keeping::Mapped) || has(Fault::EndedTasksAreVouchedFor)
    }
}

impl World {
    /// A stack is mapped.
    pub(crate) fn map_stack(&mut self, place: usize) {
        let (start, len) = self.setting.stacks.memory(place);
        self.memory.map(start, len);
    }

    /// It is a root from now on.
    pub(crate) fn begin_stack(&mut self, place: usize) {
        self.setting.stacks.places[place] = Place::Lives;
    }

    /// It is none any more.
    pub(crate) fn end_stack(&mut self, place: usize) {
        let stacks = &mut self.setting.stacks;
        self.log.reaped += u64::from(stacks.walked);
        let keeps = stacks.walked && !has(Fault::EndedTasksAreVouchedFor);
        match stacks.keeping {
            Some(Keeping::Mapped) if keeps => stacks.places[place] = Place::Kept,
            Some(Keeping::Mapped) => self.forget_stack(place),
            // It stays until its free was told.
            Some(Keeping::Blocks) | None => {}
        }
    }

    /// Nobody reads it any more.
    pub(crate) fn forget_stack(&mut self, place: usize) {
        let (start, _) = self.setting.stacks.memory(place);
        self.memory.unmap(start);
        self.setting.stacks.places[place] = Place::Free;
    }

    pub(super) fn begin_roots(&mut self) {
        assert!(!self.setting.stacks.walked, "walks over roots nest");
        self.setting.stacks.walked = true;
    }

    pub(super) fn end_roots(&mut self) {
        assert!(self.setting.stacks.walked, "no walk over roots has begun");
        self.setting.stacks.walked = false;
        for place in 0..PLACES {
            if self.setting.stacks.places[place] == Place::Kept {
                self.forget_stack(place);
            }
        }
    }
}
