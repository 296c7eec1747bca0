//! The claim: one at a time checks, reports, answers or clears.
//!
//! Its holder may go on for long, sleep, and call the platform, which spinning locks don't allow. A task that waits for it lets
//! others run ([`Platform::relax`]), with interrupts as they were.
//!
//! # Who waits for itself
//!
//! The holder of the claim calls code of others: the closures that are shown something, what is written to, and the
//! platform's names for functions and roots. From there the detector may be asked once more, by the very task that has
//! the claim: that would wait for ever. So the guard notes whose the claim is and when such code runs
//! ([`Claim::outside`]); who asks as the same task at such a moment is refused. Elsewhere a task with the same number is
//! another one, of a platform that does not tell its tasks apart: it waits like anybody else.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use spin::mutex::SpinMutexGuard;

use crate::checker::Findings;
use crate::checker::handle::Handle;
use crate::marker::GivenUp;
use crate::platform::Platform;
use crate::tracker::Tracker;

/// Why something was not done, or not all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotDone {
    /// The detector is off, and can't be switched on again.
    Off,
    /// Who asked was asked to stop.
    Stopped,
    /// It was asked for from inside an answer: from a closure that was being shown something, from what a report was
    /// written to, or from a name that the platform looked up. It would have waited for itself.
    Nested,
    /// There was no memory for it.
    NoMemory,
}

impl fmt::Display for NotDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off, and can't be switched on again",
            Self::Stopped => "asked to stop",
            Self::Nested => "asked from inside another answer",
            Self::NoMemory => "no memory for it",
        })
    }
}

impl core::error::Error for NotDone {}

/// It was asked for from inside an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nested;

impl From<Nested> for NotDone {
    fn from(_: Nested) -> Self {
        Self::Nested
    }
}

impl From<GivenUp> for NotDone {
    fn from(_: GivenUp) -> Self {
        Self::Stopped
    }
}

/// The holder of the claim: zero for nobody, else [`HELD`], the task, and [`OUTSIDE`] while it runs code of others. What the
/// claim guards is ordered by the lock of the findings; this is looked at alone: Relaxed.
pub(super) struct Holder(AtomicU64);

const NOBODY: u64 = 0;
const HELD: u64 = 1 << 32;
const OUTSIDE: u64 = 1 << 33;

impl Holder {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(NOBODY))
    }

    /// Whether this task has the claim, and runs code of others.
    fn is_outside(&self, task: u32) -> bool {
        self.0.load(Relaxed) == HELD | OUTSIDE | u64::from(task)
    }
}

/// The right to check, report or clear, and the findings.
pub(crate) struct Claim<'d, P: Platform> {
    handle: Handle<'d, P>,
    pub(super) findings: SpinMutexGuard<'d, Findings>,
    task: u32,
}

impl<P: Platform> Drop for Claim<'_, P> {
    fn drop(&mut self) {
        // The lock of the findings goes after this.
        self.handle.checker.holder.0.store(NOBODY, Relaxed);
    }
}

impl<'d, P: Platform> Handle<'d, P> {
    /// Takes the claim; `None` while another task has it.
    pub(crate) fn try_claim(self) -> Option<Claim<'d, P>> {
        let Self { tracker, checker } = self;
        let findings = checker.findings.try_lock()?;
        let task = tracker.platform().context().task;
        checker.holder.0.store(HELD | u64::from(task), Relaxed);
        Some(Claim {
            handle: self,
            findings,
            task,
        })
    }

    /// Takes the claim; waits while another task has it. Task context, with no lock held.
    pub(crate) fn claim(self) -> Result<Claim<'d, P>, Nested> {
        let platform = self.tracker.platform();
        loop {
            if let Some(claim) = self.try_claim() {
                return Ok(claim);
            }
            if self.checker.holder.is_outside(platform.context().task) {
                return Err(Nested);
            }
            let _ = platform.relax();
        }
    }

    /// Takes the claim of a detector that is on: as long as the claim is held it stays on.
    pub(crate) fn claim_on(self) -> Result<Claim<'d, P>, NotDone> {
        let claim = self.claim()?;
        if self.tracker.is_on() {
            Ok(claim)
        } else {
            Err(NotDone::Off)
        }
    }
}

/// Code of others runs, for as long as this lives.
pub(crate) struct Outside<'d> {
    holder: &'d Holder,
    before: u64,
}

impl Drop for Outside<'_> {
    fn drop(&mut self) {
        self.holder.0.store(self.before, Relaxed);
    }
}

impl<'d, P: Platform> Claim<'d, P> {
    /// The detector's halves.
    pub(super) fn handle(&self) -> Handle<'d, P> {
        self.handle
    }

    /// What is tracked.
    pub(crate) fn tracker(&self) -> &'d Tracker<P> {
        self.handle.tracker
    }

    /// From here on code of others is called. To be held while anything is shown, written or named.
    #[must_use = "held while code of others runs"]
    pub(crate) fn outside(&self) -> Outside<'d> {
        self.way_out()()
    }

    /// What calls code of others now and then: as [`outside`](Self::outside), for code that has the findings borrowed.
    pub(super) fn way_out(&self) -> impl Fn() -> Outside<'d> + use<'d, P> {
        let (holder, task) = (&self.handle.checker.holder, self.task);
        move || Outside {
            holder,
            before: holder.0.swap(HELD | OUTSIDE | u64::from(task), Relaxed),
        }
    }
}
