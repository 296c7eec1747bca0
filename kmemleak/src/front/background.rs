//! What a task of low priority does for the detector: it scans now and then, and tells of warnings.

use core::fmt::Write;
use core::sync::atomic::Ordering;

use crate::checker::claim::Claim;
use crate::checker::concurrent::{Among, Pass, Patience};
use crate::front::report::{Count, Format, Which};
use crate::marker::GivenUp;
use crate::platform::Platform;
use crate::tracker::Detector;
use crate::verdict::{Filter, How, Making, Summary};

/// How old an object must be for the background scan to report it.
pub(crate) const MIN_AGE_US: u64 = 5_000_000;

/// How long to wait when somebody else checks.
const BUSY_US: u64 = 100_000;

/// The longest stop of the world by which suspects are confirmed, in microseconds.
const STOP_MAX_US: u64 = 100_000;

/// Words that a stopped check reads in a microsecond, at least: what the length of a stop is foretold by.
const WORDS_A_US: u64 = 30;

/// Microseconds that a suspect takes more: to be listed, sorted, and told from what it owns.
const SUSPECT_US: u64 = 2;

/// When [`Detector::background_step`] is to be called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// In so many microseconds, or earlier.
    Wait {
        /// Microseconds.
        us: u64,
    },
    /// Not before somebody switches the background scan on; it does no harm.
    Stopped,
}

impl<P: Platform> Detector<P> {
    /// Scans if it is time to, and writes what is new to `log`: one line, or with `kmemleak.verbose=on`
    /// all of the report. Task context, with no lock held; one task calls it, over and over.
    pub fn background_step(&self, log: &mut dyn Write) -> NextStep {
        if !self.is_on() || self.settings.background_off.load(Ordering::Relaxed) {
            return NextStep::Stopped;
        }
        let next_us = self.settings.next_scan_us.load(Ordering::Relaxed);
        let now_us = self.now_us();
        if now_us < next_us {
            return NextStep::Wait {
                us: next_us - now_us,
            };
        }
        let Some(claim) = self.try_claim() else {
            return NextStep::Wait { us: BUSY_US };
        };
        let found = claim.apart(|| claim.scan_and_confirm());
        let every_us = self.settings.scan_every_us.load(Ordering::Relaxed);
        let next_us = self.now_us().saturating_add(every_us);
        self.settings.next_scan_us.store(next_us, Ordering::Relaxed);
        if let Ok(summary) = found {
            claim.tell(&summary, log);
        }
        drop(claim);
        NextStep::Wait { us: every_us }
    }
}

impl<P: Platform> Claim<'_, P> {
    /// A pass, and what makes sure of its suspects. Where that is given up the verdict of the pass alone stays.
    fn scan_and_confirm(&self) -> Result<Summary, GivenUp> {
        self.take_suppressions();
        let start_us = self.now_us();
        let min_age_us = self.settings.min_age_us.load(Ordering::Relaxed);
        let first = self.scan_once(min_age_us)?;
        if first.listed() == 0 {
            return Ok(first);
        }
        let stop_us = first.words / WORDS_A_US + first.listed() as u64 * SUSPECT_US;
        if stop_us <= STOP_MAX_US
            && let Ok(summary) = self.check_judged(Filter::SUSPECTS)
        {
            return Ok(summary);
        }
        let mut patience = Patience::after(0);
        patience.count(first.listed());
        let among = Among::Suspects;
        let figures = self.scan_until_still(Pass { min_age_us, among }, &mut patience)?;
        Ok(self.complete_verdict(Making {
            how: How::Scanned {
                passes: patience.passes,
            },
            settled: patience.settled(),
            start_us,
            figures,
            cpus: 1,
            stopped_us: 0,
        }))
    }

    fn tell(&self, summary: &Summary, log: &mut dyn Write) {
        let _outside = self.outside();
        if summary.unreported_objects > 0 {
            // A log that can't be written to is its owner's affair.
            if self.settings.verbose.load(Ordering::Relaxed) {
                let _ = self.write_report(Format::Text, Which::Unreported, log);
            } else {
                let _ = writeln!(
                    log,
                    "kmemleak: {} ({} bytes), see \"kmemleak report\"",
                    Count(
                        summary.unreported_objects,
                        match summary.doubt() {
                            None => "new unreferenced object",
                            Some(_) => "new suspected object",
                        }
                    ),
                    summary.unreported_bytes
                );
            }
            self.note_reported();
        }
        while let Some((start, size)) = self.with_verdict(|verdict, _| verdict.take_revived()) {
            let _ = writeln!(
                log,
                "kmemleak: object {start:#018x} (size {size}) is referenced again"
            );
        }
        let lost = self.with_verdict(|verdict, _| core::mem::take(&mut verdict.revived_lost));
        if lost > 0 {
            let _ = writeln!(log, "kmemleak: so are {lost} more objects");
        }
    }
}
