//! The background scan: a pass while other code runs.
//!
//! Other code runs, so pointers move while they are looked for. These rules keep objects in use from being suspected:
//!
//! - What is allocated during the pass is marked from the start, and scanned when the queues are empty.
//! - An object that is unreferenced for the first time, or whose contents have changed since the last time, is treated as if it
//!   were referenced: it, or an object that it points to, is in use.
//! - An object that is too young, measured from the beginning of the pass, is treated as referenced as well.
//! - These two rules do not apply to an object that was reported already: only a reference makes it count as in use again.
//! - What is left is a suspect. For certainty, a short stop of the world confirms the suspects ([`crate::checker::confirm`]). Without
//!   it there is no certainty: pointers that move all the time may be missed by any number of passes. But passes in a row, of which
//!   each removes what it found referenced, leave few objects that are in use; they go on until three have left the same
//!   suspects, or to a bound, and the verdict says which.
//!
//! The marker keeps the first three ([`crate::marker::suspects`]).

use crate::atomic::Lock;
use crate::checker::claim::Claim;
use crate::marker::suspects::{Among, Flagged};
use crate::marker::{Figures, GivenUp, Marker};
use crate::objects::access::Locked;
use crate::objects::record::flag;
use crate::platform::Platform;
use crate::verdict::summary::{How, Summary};
use crate::verdict::{Filter, Making, Settled, list_white_that};

/// A pass of the scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    /// The least age of an object when the pass began.
    pub(crate) min_age_us: u64,
    pub(crate) among: Among,
}

/// What comes after a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another pass.
    Again,
    /// The verdict.
    Judge,
}

/// Passes in a row that must find the same suspects.
const STILL_PASSES: u32 = 3;
/// Passes at most.
const MAX_PASSES: u32 = 16;

/// Waits until the suspects stand still.
///
/// A pass among suspects removes some and adds none: those that are referenced in it, and those that were freed. So if there are
/// as many as before they are the same ones.
pub(crate) struct Patience {
    pub(crate) passes: u32,
    suspects: usize,
    /// Passes in a row that have found these.
    same: u32,
}

impl Patience {
    /// The state after `passes` passes.
    pub(crate) const fn after(passes: u32) -> Self {
        Self {
            passes,
            suspects: 0,
            same: 0,
        }
    }

    /// Notes that a pass has found `suspects` suspects.
    pub(crate) fn count(&mut self, suspects: usize) -> Next {
        self.same = if suspects == self.suspects {
            self.same + 1
        } else {
            1
        };
        self.suspects = suspects;
        self.passes += 1;
        if self.settled() == Settled::Yes || self.passes >= MAX_PASSES {
            Next::Judge
        } else {
            Next::Again
        }
    }

    /// Whether they stand still.
    pub(crate) fn settled(&self) -> Settled {
        if self.suspects == 0 || self.same >= STILL_PASSES {
            Settled::Yes
        } else {
            Settled::No
        }
    }
}

impl<P: Platform> Claim<'_, P> {
    /// Makes one pass, whose suspects are the verdict, unconfirmed, and count as reported.
    pub(crate) fn scan(&mut self) -> Result<Summary, GivenUp> {
        self.take_suppressions();
        let summary = self.on_unscanned_stack(Self::scan_once)?;
        self.note_reported();
        Ok(summary)
    }

    /// Makes further passes among the suspects of one, until these stand still.
    pub(super) fn scan_among_suspects(
        &mut self,
        start_us: u64,
        patience: &mut Patience,
    ) -> Result<Summary, GivenUp> {
        let pass = Pass {
            among: Among::Suspects,
            ..self.background_pass()
        };
        let figures = self.scan_until_still(pass, patience)?;
        let how = How::Scanned {
            passes: patience.passes,
        };
        Ok(self.complete_scan(how, patience.settled(), start_us, figures))
    }

    pub(super) fn background_pass(&self) -> Pass {
        Pass {
            min_age_us: self.tracker().settings().min_age.get(),
            among: Among::All,
        }
    }

    /// Makes one pass, and its suspects the verdict.
    fn scan_once(&mut self) -> Result<Summary, GivenUp> {
        let start_us = self.tracker().now_us();
        let figures = self.pass(self.background_pass(), &mut |_| Next::Judge)?;
        let how = How::Scanned { passes: 1 };
        Ok(self.complete_scan(how, Settled::Yes, start_us, figures))
    }

    pub(super) fn complete_scan(
        &mut self,
        how: How,
        settled: Settled,
        start_us: u64,
        figures: Figures,
    ) -> Summary {
        let tracker = self.tracker();
        self.findings.verdict.complete(
            tracker,
            Making {
                how,
                settled,
                start_us,
                figures,
                cpus: 1,
                stopped_us: 0,
            },
        )
    }

    /// Makes passes until the suspects stand still, or there have been enough; the last one makes the verdict.
    pub(super) fn scan_until_still(
        &mut self,
        first: Pass,
        patience: &mut Patience,
    ) -> Result<Figures, GivenUp> {
        let mut pass = first;
        loop {
            let mut next = Next::Again;
            let figures = self.pass(pass, &mut |suspects| {
                next = patience.count(suspects);
                next
            })?;
            if next == Next::Judge {
                return Ok(figures);
            }
            pass.among = Among::Suspects;
        }
    }

    /// Makes a pass, on a stack that is not scanned. `next` is told how many suspects it has, and says whether they are the
    /// verdict's; the caller completes it then.
    ///
    /// While it marks it may be given up, and the verdict before stays. From where that is retired it goes on to its end.
    pub(super) fn pass(
        &mut self,
        pass: Pass,
        next: &mut dyn FnMut(usize) -> Next,
    ) -> Result<Figures, GivenUp> {
        let work = self.handle().running(|marker, start_us| {
            let before_us = start_us.saturating_sub(pass.min_age_us);
            marker.mark_beside(before_us)?;
            let verdict = &mut self.findings.verdict;
            let flagged = core::mem::replace(&mut verdict.flagged, Flagged::Some);
            let suspects = marker.suspect(pass.among, flagged)?;
            if suspects == 0 {
                verdict.flagged = Flagged::None;
            }
            if next(suspects) == Next::Again {
                return Ok(());
            }
            let filter = Filter {
                // Also an object that was born in the same tick as the pass began, for clocks may be coarse: objects that the
                // pass did not see are marked.
                before_us: before_us.saturating_add(1),
                flags: flag::SUSPECT,
            };
            self.judge_unmarked(marker, Filter::ALL, filter)
        });
        work.map(|((), figures)| figures)
    }
    /// Makes a verdict of unmarked objects, while other code runs: those that `filter` lets through of those that `listed` does, all of
    /// which suppressions are asked about. From here on the pass goes on to its end.
    pub(super) fn judge_unmarked(
        &mut self,
        marker: &mut Marker<'_, P, Locked>,
        listed: Filter,
        filter: Filter,
    ) -> Result<(), GivenUp> {
        let tracker = self.tracker();
        marker.go_on_to_the_end();
        let verdict = &mut self.findings.verdict;
        verdict.retire(tracker);
        list_white_that(marker, &Lock::<_>::new(verdict), listed);
        self.judge();
        let findings = &mut *self.findings;
        let verdict = &mut findings.verdict;
        verdict.conclude(tracker, &mut findings.suppressions, marker, filter)
    }
}
