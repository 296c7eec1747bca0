//! The claim: one at a time checks, reports, answers or clears.
//!
//! Who has it may go on for long, sleep, and call the platform, which spinning locks don't allow. Whoever waits for it lets
//! others run ([`Platform::relax`]), with interrupts as they were.
//!
//! What checks leave behind, the *findings* (verdict, suppressions, what a mark remembers, call sites, the words of an
//! answer), is reached through the claim's guard and in no other way: the fields of [`Findings`] are private to this
//! file, and what works on them are methods of [`Claim`]. So nobody ever waits for one of their locks. These are for the
//! CPUs that work together in a stopped world, and for what the compiler can't see.
//!
//! # Who waits for itself
//!
//! Who has the claim calls code of others: the closures that are shown something, what is written to, and the
//! platform's names for functions and roots. From there the detector may be asked once more, by the very task that has
//! the claim: that would wait for ever. So the guard notes whose the claim is and when such code runs
//! ([`Claim::outside`]); who asks as the same task at such a moment is refused. Elsewhere a task with the same number is
//! another one, of a platform that does not tell its tasks apart: it waits like anybody else.

use core::fmt;
use core::ops::Deref;
use core::sync::atomic::{AtomicU64, Ordering};

use spin::mutex::SpinMutex;

use crate::checker::references::References;
use crate::metadata::MetaAlloc;
use crate::platform::Platform;
use crate::tracker::Detector;
use crate::verdict::Verdict;
use crate::verdict::baseline::Baseline;
use crate::verdict::call_sites::CallSites;
use crate::verdict::suppress::Suppressed;

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
            Self::Off => "off, for good",
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

/// Who has the claim: zero for nobody, else [`HELD`], the task, and [`OUTSIDE`] while it runs code of others.
pub(crate) struct Holder(AtomicU64);

const NOBODY: u64 = 0;
const HELD: u64 = 1 << 32;
const OUTSIDE: u64 = 1 << 33;

impl Holder {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(NOBODY))
    }

    fn take(&self, task: u32) -> bool {
        let mine = HELD | u64::from(task);
        // Acquire: what the last one found is seen. Its Release is in `Claim::drop`.
        self.0
            .compare_exchange(NOBODY, mine, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Whether this task has it, and runs code of others.
    fn is_outside(&self, task: u32) -> bool {
        // Relaxed: what the task itself has stored it sees.
        self.0.load(Ordering::Relaxed) == HELD | OUTSIDE | u64::from(task)
    }
}

/// What checks leave behind.
pub(crate) struct Findings {
    verdict: SpinMutex<Verdict>,
    suppressed: SpinMutex<Suppressed>,
    marked: SpinMutex<Option<Baseline>>,
    sites: SpinMutex<CallSites>,
    trail: SpinMutex<References>,
}

impl Findings {
    pub(crate) const fn new() -> Self {
        Self {
            verdict: SpinMutex::new(Verdict::new()),
            suppressed: SpinMutex::new(Suppressed::new()),
            marked: SpinMutex::new(None),
            sites: SpinMutex::new(CallSites::new()),
            trail: SpinMutex::new(References::new()),
        }
    }
}

/// The right to check, report or clear, and the only way to the findings.
pub(crate) struct Claim<'d, P: Platform> {
    detector: &'d Detector<P>,
    task: u32,
}

impl<P: Platform> Deref for Claim<'_, P> {
    type Target = Detector<P>;

    fn deref(&self) -> &Detector<P> {
        self.detector
    }
}

impl<P: Platform> Drop for Claim<'_, P> {
    fn drop(&mut self) {
        // With the Acquire of `Holder::take`.
        self.holder.0.store(NOBODY, Ordering::Release);
    }
}

impl<P: Platform> Detector<P> {
    /// Lets one task at a time check, report or clear; `None` while another does.
    pub(crate) fn try_claim(&self) -> Option<Claim<'_, P>> {
        let task = self.platform.context().task;
        // Lazily: a claim that is made and thrown away would end the other's.
        self.holder.take(task).then(|| Claim {
            detector: self,
            task,
        })
    }

    /// Takes the claim; waits while another task has it. Task context, with no lock held.
    pub(crate) fn claim(&self) -> Result<Claim<'_, P>, Nested> {
        loop {
            if let Some(claim) = self.try_claim() {
                return Ok(claim);
            }
            if self.holder.is_outside(self.platform.context().task) {
                return Err(Nested);
            }
            let _ = self.platform.relax();
        }
    }

    /// Takes the claim of a detector that is on: as long as the claim is held it stays on.
    pub(crate) fn claim_on(&self) -> Result<Claim<'_, P>, NotDone> {
        let claim = self.claim()?;
        if claim.is_on() {
            Ok(claim)
        } else {
            Err(NotDone::Off)
        }
    }
}

/// Code of others runs, for as long as this lives.
pub(crate) struct Outside<'c> {
    holder: &'c Holder,
    before: u64,
}

impl Drop for Outside<'_> {
    fn drop(&mut self) {
        self.holder.0.store(self.before, Ordering::Relaxed);
    }
}

impl<P: Platform> Claim<'_, P> {
    /// From here on code of others is called. To be held while anything is shown, written or named.
    #[must_use = "held while code of others runs"]
    pub(crate) fn outside(&self) -> Outside<'_> {
        let holder = &self.detector.holder;
        // Relaxed: it matters to this task alone, which reads what it has stored. Others see that somebody has the claim.
        let before = holder.0.load(Ordering::Relaxed);
        let outside = HELD | OUTSIDE | u64::from(self.task);
        holder.0.store(outside, Ordering::Relaxed);
        Outside { holder, before }
    }

    pub(crate) fn verdict(&self) -> &SpinMutex<Verdict> {
        &self.findings.verdict
    }

    /// Runs `work` on the verdict, with interrupts off.
    pub(crate) fn with_verdict<R>(
        &self,
        work: impl FnOnce(&mut Verdict, &MetaAlloc<'_>) -> R,
    ) -> R {
        self.without_interrupts(|meta| work(&mut self.findings.verdict.lock(), meta))
    }

    pub(crate) fn suppressed(&self) -> &SpinMutex<Suppressed> {
        &self.findings.suppressed
    }

    /// The leaks that there were at the last mark; `None` where there was none.
    pub(crate) fn marked(&self) -> &SpinMutex<Option<Baseline>> {
        &self.findings.marked
    }

    pub(crate) fn sites(&self) -> &SpinMutex<CallSites> {
        &self.findings.sites
    }

    pub(crate) fn trail(&self) -> &SpinMutex<References> {
        &self.findings.trail
    }

    /// Forgets everything; the memory is given back by its owner.
    pub(crate) fn empty_findings(&self) {
        self.verdict().lock().empty();
        self.suppressed().lock().empty();
        *self.marked().lock() = None;
        self.sites().lock().empty();
        self.trail().lock().empty();
    }
}
