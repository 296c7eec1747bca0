//! Modes: whether blocks are recorded, and whether there is metadata to look at.
//!
//! A detector is *on*, then *off*: callbacks do nothing any more, and the last verdict stays. Then, when a caller asks for the
//! memory, its metadata is *gone*. A mode never goes back to an earlier one.
//!
//! Metadata goes back to the platform while other tasks run, and one of them may have been preempted in a callback, for as long
//! as the scheduler likes. So a mode that was read with interrupts on says nothing of the next instruction. Only a mode that was
//! read with interrupts off counts: the task that gives the metadata back changes the mode and then stops the world once, and a
//! CPU joins a stop only with interrupts on. All code that saw the mode before has left by then.
//!
//! So there are only three ways to what a CPU takes metadata from ([`MetaAlloc`]) and to what lies there:
//!
//! - [`Tracker::enter`], for callbacks: while the detector is on.
//! - [`Tracker::look`], for readers without the claim: while there is metadata.
//! - [`Tracker::without_interrupts`], for the holder of the claim or of a scope: metadata stays while either is held.
//!
//! Between two entries nothing is known for certain. What was found before still lies there if the second one succeeds.
//!
//! # Locks
//!
//! None: bits of one [word](crate::tracker::mode_word). Any context.

use crate::metadata::MetaAlloc;
use crate::platform::{IrqState, Platform};
use crate::tracker::Tracker;
use crate::tracker::mode_word::Unusual;

/// What a detector does that is not on. The modes follow each other in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It records nothing; what it knows can be read.
    Off,
    /// It knows nothing.
    Gone,
}

/// Interrupts are off, and metadata stays until this is dropped.
pub(crate) struct Entered<'d, P: Platform> {
    tracker: &'d Tracker<P>,
    interrupts: IrqState,
}

impl<'d, P: Platform> Entered<'d, P> {
    /// Where metadata comes from, for this CPU.
    #[inline(always)]
    pub(crate) fn meta(&self) -> MetaAlloc<'d> {
        self.meta_for(self.tracker.platform.cpu())
    }

    /// Where metadata comes from, for a CPU that is known already.
    #[inline(always)]
    pub(crate) fn meta_for(&self, cpu: u32) -> MetaAlloc<'d> {
        self.tracker.meta(cpu)
    }
}

impl<P: Platform> Drop for Entered<'_, P> {
    #[inline(always)]
    fn drop(&mut self) {
        self.tracker.platform.irq_restore(self.interrupts);
    }
}

impl<P: Platform> Tracker<P> {
    /// Whether blocks are recorded. Once the detector is off, it never records again.
    ///
    /// A callback may ask this first, as the cheapest way out; the answer is certain only with interrupts off.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        !self.word.has(Unusual::OFF)
    }

    /// The caller has the claim.
    pub(crate) fn set_mode(&self, mode: Mode) {
        match mode {
            Mode::Off => {
                self.word.begin(Unusual::OFF);
                self.word.end(Unusual::GONE);
            }
            Mode::Gone => self.word.begin(Unusual::GONE),
        }
    }

    /// Turns interrupts off. Whether there is metadata is not known yet.
    #[inline(always)]
    pub(super) fn interrupts_off(&self) -> Entered<'_, P> {
        Entered {
            tracker: self,
            interrupts: self.platform.irq_save(),
        }
    }

    /// Begins a callback. `None` once the detector is off.
    #[inline(always)]
    pub(crate) fn enter(&self) -> Option<Entered<'_, P>> {
        let entered = self.interrupts_off();
        self.is_on().then_some(entered)
    }

    /// Runs `action` as a callback. `None` once the detector is off.
    #[inline(always)]
    pub(crate) fn callback<R>(&self, action: impl FnOnce(&MetaAlloc<'_>) -> R) -> Option<R> {
        if !self.is_on() {
            return None;
        }
        let entered = self.enter()?;
        Some(action(&entered.meta()))
    }

    /// Runs `action`, which reads metadata without the claim, on or off. `None` once the metadata is gone.
    #[inline(always)]
    pub(crate) fn look<R>(&self, action: impl FnOnce(&MetaAlloc<'_>) -> R) -> Option<R> {
        let entered = self.interrupts_off();
        (!self.word.has(Unusual::GONE)).then(|| action(&entered.meta()))
    }

    /// Runs `action` with interrupts off, for the holder of the claim or a scope.
    #[inline(always)]
    pub(crate) fn without_interrupts<R>(&self, action: impl FnOnce(&MetaAlloc<'_>) -> R) -> R {
        action(&self.interrupts_off().meta())
    }

    #[inline(always)]
    fn meta(&self, cpu: u32) -> MetaAlloc<'_> {
        MetaAlloc {
            platform: &self.platform,
            memory: &self.memory,
            cpu,
        }
    }

    /// Where metadata comes from, for the marker on a CPU. Where the world runs, it turns interrupts off around each use.
    pub(crate) fn meta_for_marker(&self, cpu: u32) -> MetaAlloc<'_> {
        self.meta(cpu)
    }
}
