//! The word that a callback looks at to see that nothing unusual is going on: nearly all bits are zero then.
//!
//! # Orderings
//!
//! One word: Relaxed. What must be seen before or after a change of it is ordered by something else:
//!
//! - *On, off and gone:* the stop of the world that follows a change ensures that no code runs that saw the mode before
//!   ([`crate::tracker::mode`]).
//! - *A pass runs:* what is allocated meanwhile is marked from the start. A callback takes the time of birth first, then looks
//!   here, and then enters the object into its chunk. A pass takes the time of its start, notes here that it runs, and then clears
//!   the marks of each chunk. So of the objects that it finds unmarked in the end, some were in their chunks when those were
//!   cleared; the others came later, from callbacks that looked here before they could see that the pass runs. The pass has to
//!   leave these out by their birth, if that is not before its start; a callback that began before the pass, and took until now,
//!   hands out its block later still. A stronger ordering would not help: between taking the time of the start and the note here
//!   there is always a gap.

use core::sync::atomic::Ordering::Relaxed;

use crate::atomic::AtomicU32;

/// Something unusual: a bit of the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unusual(u32);

impl Unusual {
    /// Nothing is recorded.
    pub(crate) const OFF: Self = Self(1 << 0);
    /// There is no metadata any more.
    pub(crate) const GONE: Self = Self(1 << 1);
    /// A pass runs beside other code.
    pub(crate) const PASS: Self = Self(1 << 2);
    /// Nothing is recorded, as if memory were used up.
    pub(crate) const EXHAUSTED: Self = Self(1 << 3);
    /// The call stack of each free is kept.
    pub(crate) const FREE_STACKS: Self = Self(1 << 4);
    /// Call stacks are taken for a sample of allocations only.
    pub(crate) const SAMPLE: Self = Self(1 << 5);
    /// No call stacks are taken.
    pub(crate) const NO_STACKS: Self = Self(1 << 6);
}

/// How often tasks have said that what they allocate is no leak, without saying the end of it: a count in these bits. The largest
/// one stands for itself and all beyond, and stays: from there on, callbacks take the general path.
const DISABLED: u32 = !STRANGERS & !(ONE_DISABLED - 1);
const ONE_DISABLED: u32 = 1 << 8;

/// Usual, but not at first: a stranger has named memory, and that has been [noted](crate::objects::vouching).
const STRANGERS: u32 = 1 << 31;

/// Unusual for how a block's call stack is named, but not for how it is recorded or forgotten.
const FEW_STACKS: u32 = Unusual::SAMPLE.0 | Unusual::NO_STACKS.0;

/// The word. It is zero in a detector that nobody has touched.
pub(crate) struct ModeWord(AtomicU32);

impl ModeWord {
    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Whether nothing unusual is going on, but that call stacks may be taken of few allocations.
    #[inline(always)]
    pub(crate) fn is_usual(&self) -> bool {
        self.0.load(Relaxed) & !(STRANGERS | FEW_STACKS) == 0
    }

    /// Whether nothing unusual is going on at all.
    #[inline(always)]
    pub(crate) fn takes_all_stacks(&self) -> bool {
        self.0.load(Relaxed) & !STRANGERS == 0
    }

    /// Whether nothing unusual is going on at all, and it has been noted that there are strangers.
    #[inline(always)]
    pub(crate) fn takes_all_stacks_of_strangers(&self) -> bool {
        self.0.load(Relaxed) == STRANGERS
    }

    /// Whether call stacks are taken of few allocations, nothing else is unusual, and it has been noted that there are strangers.
    #[inline(always)]
    pub(crate) fn takes_few_stacks_of_strangers(&self) -> bool {
        let word = self.0.load(Relaxed);
        word & !FEW_STACKS == STRANGERS
    }

    /// Remembers that it has been noted that there are strangers.
    pub(crate) fn remember_strangers(&self) {
        if self.0.load(Relaxed) & STRANGERS == 0 {
            self.0.fetch_or(STRANGERS, Relaxed);
        }
    }

    /// Counts what a task has said: that from here on its allocations are no leaks.
    pub(crate) fn begin_disabled(&self) {
        self.count_disabled(|word| word + ONE_DISABLED);
    }

    /// Counts that the end of it was said.
    pub(crate) fn end_disabled(&self) {
        self.count_disabled(|word| word - ONE_DISABLED);
    }

    fn count_disabled(&self, change: impl Fn(u32) -> u32) {
        let change = |word| (word & DISABLED != DISABLED).then(|| change(word));
        // An error where the count has reached its end.
        let _ = self.0.fetch_update(Relaxed, Relaxed, change);
    }

    #[inline(always)]
    pub(crate) fn has(&self, unusual: Unusual) -> bool {
        self.0.load(Relaxed) & unusual.0 != 0
    }

    pub(crate) fn begin(&self, unusual: Unusual) {
        self.0.fetch_or(unusual.0, Relaxed);
    }

    pub(crate) fn end(&self, unusual: Unusual) {
        self.0.fetch_and(!unusual.0, Relaxed);
    }
}
