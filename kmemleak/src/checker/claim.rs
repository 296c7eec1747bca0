//! The claim: one task at a time checks, reports, answers or clears.
//!
//! Its holder may go on for long, sleep, and call the platform, which spinning locks don't allow. A task that waits for it lets
//! others run ([`Platform::relax`]), with interrupts as they were.
//!
//! # A task that would wait for itself
//!
//! The holder of the claim calls foreign code: the closures that are shown something, the writers that reports go to, and the
//! platform's names for functions and roots. Such code may call the detector again, in the very task that has the claim, which
//! would wait for ever. So the guard notes which task has the claim and when foreign code runs ([`Claim::outside`]); a call of
//! the same task at such a moment is refused. At other moments a task with the same number is another one, of a platform that
//! does not tell its tasks apart: it waits like any other.

use core::fmt;
use core::sync::atomic::Ordering::Relaxed;

use crate::atomic::{AtomicU64, LockGuard};
use crate::checker::Findings;
use crate::checker::handle::Handle;
use crate::marker::GivenUp;
use crate::platform::Platform;
use crate::tracker::Tracker;

/// Why something was not done, or not completely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotDone {
    /// The detector is off, and can't be switched on again.
    Off,
    /// The task was asked to stop.
    Stopped,
    /// It was requested from code that the detector calls: a closure that was being shown something, a writer that a report was
    /// written to, or a name that the platform looked up. It would have waited for itself.
    Nested,
    /// There was no memory for it.
    NoMemory,
    /// Growth was asked for, and there is no mark to measure it from.
    NoMark,
}

impl fmt::Display for NotDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off, and can't be switched on again",
            Self::Stopped => "asked to stop",
            Self::Nested => "asked from inside another answer",
            Self::NoMemory => "no memory for it",
            Self::NoMark => "no mark to measure growth from: \"mark\" makes one",
        })
    }
}

impl core::error::Error for NotDone {}

/// It was requested from code that the detector calls.
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

/// The holder of the claim: zero for none, else [`HELD`], the task, and [`OUTSIDE`] while it runs foreign code. The lock of the
/// findings orders what the claim guards; this word is read by itself: Relaxed.
pub(super) struct Holder(AtomicU64);

const NOBODY: u64 = 0;
const HELD: u64 = 1 << 32;
const OUTSIDE: u64 = 1 << 33;

impl Holder {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(NOBODY))
    }

    /// Whether this task has the claim, and runs foreign code.
    fn is_outside(&self, task: u32) -> bool {
        self.0.load(Relaxed) == HELD | OUTSIDE | u64::from(task)
    }
}

/// The right to check, report or clear, and the findings.
pub(crate) struct Claim<'d, P: Platform> {
    handle: Handle<'d, P>,
    pub(super) findings: LockGuard<'d, Findings>,
    task: u32,
}

impl<P: Platform> Drop for Claim<'_, P> {
    fn drop(&mut self) {
        self.tracker().settings().color_of_command.set(None);
        // The lock of the findings is released after this.
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

    /// Takes the claim of a detector that is on: as long as the claim is held the detector stays on.
    pub(crate) fn claim_on(self) -> Result<Claim<'d, P>, NotDone> {
        let claim = self.claim()?;
        if self.tracker.is_on() {
            Ok(claim)
        } else {
            Err(NotDone::Off)
        }
    }
}

/// Foreign code runs as long as this lives.
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
    /// The tracker and the checker.
    pub(super) fn handle(&self) -> Handle<'d, P> {
        self.handle
    }

    /// What is tracked.
    pub(crate) fn tracker(&self) -> &'d Tracker<P> {
        self.handle.tracker
    }

    /// Sets whether text that is written under this claim has colours; `None` leaves that to the settings.
    pub(crate) fn set_colours(&self, on: Option<bool>) {
        self.tracker().settings().color_of_command.set(on);
    }

    /// Notes that foreign code is called from here on. To be held while anything is shown, written or named.
    #[must_use = "held while code of others runs"]
    pub(crate) fn outside(&self) -> Outside<'d> {
        self.way_out()()
    }

    /// What foreign code runs under, as with [`outside`](Self::outside), for code that has the findings borrowed.
    pub(super) fn way_out(&self) -> impl Fn() -> Outside<'d> + use<'d, P> {
        let (holder, task) = (&self.handle.checker.holder, self.task);
        move || Outside {
            holder,
            before: holder.0.swap(HELD | OUTSIDE | u64::from(task), Relaxed),
        }
    }
}
