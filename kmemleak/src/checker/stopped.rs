//! The check: an exact verdict, now.
//!
//! The world is stopped, all CPUs mark from the roots, and what is not marked then is a leak: no minimum age, no second look. If
//! the platform can't stop the world, passes of the background scan are repeated until the suspects stand still ([`Patience`]):
//! an object is suspected that was unreferenced in each of them. They remain suspects, since other code runs meanwhile and
//! nothing is certain.
//!
//! A check is given up by all CPUs or by none, and only as long as it marks: the verdict of the check before stays then. Once that is
//! retired, the check goes on to its end.

use crate::atomic::Lock;
use crate::checker::Findings;
use crate::checker::claim::Claim;
use crate::checker::concurrent::{Next, Pass, Patience};
use crate::checker::pass::NotSeen;
use crate::marker::GivenUp;
use crate::marker::suspects::Among;
use crate::platform::{Platform, StopError};
use crate::verdict::summary::{How, LastSummary, Summary};
use crate::verdict::{Filter, Making, Settled, list_white};

/// The largest number of checks in a stopped world for one verdict: each judges call stacks that the one before has found.
const MAX_CHECKS: u32 = 8;

/// Whether a check in a stopped world is the first one for its verdict. A later one goes on to its end in any case: the verdict before is
/// gone, and the one that it replaces has what is suppressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    First,
    Again,
}

impl<P: Platform> Claim<'_, P> {
    /// Checks.
    pub(crate) fn check(&mut self) -> Result<Summary, GivenUp> {
        self.take_suppressions();
        self.on_unscanned_stack(Self::check_here)
    }

    /// Checks, for a caller that is [on a stack that is not scanned](Self::on_unscanned_stack).
    pub(crate) fn check_here(&mut self) -> Result<Summary, GivenUp> {
        match self.check_stopped(Filter::ALL) {
            Ok(summary) => Ok(summary),
            Err(NotSeen::GivenUp) => Err(GivenUp),
            Err(NotSeen::Unstopped(reason)) => self.check_running(reason),
        }
    }

    /// Checks in a stopped world, and again if call stacks turn out to be suppressed that were not judged before.
    pub(super) fn check_stopped(&mut self, filter: Filter) -> Result<Summary, NotSeen> {
        let mut summary = self.check_once(filter, Turn::First)?;
        for _ in 1..MAX_CHECKS {
            if !self.judge() {
                break;
            }
            let (took_us, stopped_us) = (summary.took_us, summary.stopped_us);
            summary = self.check_once(filter, Turn::Again)?;
            summary.took_us += took_us;
            summary.stopped_us += stopped_us;
            self.findings.verdict.summary = LastSummary::Some(summary);
        }
        Ok(summary)
    }

    /// Makes a pass in a stopped world, after which the unmarked objects that `filter` lets through are named.
    fn check_once(&mut self, filter: Filter, turn: Turn) -> Result<Summary, NotSeen> {
        let (handle, tracker) = (self.handle(), self.tracker());
        let Findings {
            verdict,
            suppressions,
            ..
        } = &mut *self.findings;
        // For the CPUs that work together; nothing else waits for it.
        let verdict = Lock::<_>::new(verdict);
        let seen = handle.stopped(
            &|marker, worker| {
                if turn == Turn::Again {
                    marker.go_on_to_the_end();
                }
                marker.run()?;
                marker.barrier()?;
                marker.go_on_to_the_end();
                if worker == 0 {
                    verdict.lock().retire(tracker);
                }
                marker.barrier()?;
                list_white(marker, &verdict);
                marker.barrier()
            },
            |marker| {
                marker.go_on_to_the_end();
                let mut verdict = verdict.lock();
                verdict.conclude(tracker, suppressions, marker, filter)
            },
        )?;
        Ok(verdict.into_inner().complete(
            tracker,
            Making {
                how: How::Stopped,
                settled: Settled::Yes,
                start_us: seen.start_us,
                figures: seen.figures,
                cpus: seen.cpus,
                stopped_us: seen.stopped_us,
            },
        ))
    }

    /// Checks while other code runs, since the world can't be stopped.
    fn check_running(&mut self, reason: StopError) -> Result<Summary, GivenUp> {
        let start_us = self.tracker().now_us();
        let pass = Pass {
            min_age_us: 0,
            among: Among::All,
        };
        // The first pass only remembers checksums of contents, the second has the first suspects.
        self.pass(pass, &mut |_| Next::Again)?;
        let mut patience = Patience::after(1);
        let figures = self.scan_until_still(pass, &mut patience)?;
        let how = How::Repeated {
            reason,
            passes: patience.passes,
        };
        Ok(self.complete_scan(how, patience.settled(), start_us, figures))
    }
}
