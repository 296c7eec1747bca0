//! What a task of low priority does for the detector: it scans now and then, and tells of warnings.

use core::fmt::Write;
use core::sync::atomic::Ordering;

use crate::check::MinAge;
use crate::detector::Detector;
use crate::platform::Platform;
use crate::report::Which;

/// How old an object must be for the background scan to report it.
const MIN_AGE_US: u64 = 5_000_000;

/// How long to wait when somebody else checks.
const BUSY_US: u64 = 100_000;

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

impl<P: Platform, const BOOTSTRAP: usize> Detector<P, BOOTSTRAP> {
    /// Scans if it is time to, and writes what is new to `log`: one line, or with `kmemleak.verbose=on`
    /// all of the report. Task context, with no lock held; one task calls it, over and over.
    pub fn background_step(&self, log: &mut dyn Write) -> NextStep {
        if !self.is_on() || self.settings.background_off.load(Ordering::Relaxed) {
            return NextStep::Stopped;
        }
        let next_us = self.settings.next_scan_us.load(Ordering::Relaxed);
        let now_us = self.platform.now_us();
        if now_us < next_us {
            return NextStep::Wait {
                us: next_us - now_us,
            };
        }
        let Some(claim) = self.try_claim() else {
            return NextStep::Wait { us: BUSY_US };
        };
        let found = self.check_claimed(MinAge::Us(MIN_AGE_US));
        let every_us = self.settings.scan_every_us.load(Ordering::Relaxed);
        self.settings
            .next_scan_us
            .store(self.platform.now_us() + every_us, Ordering::Relaxed);
        if let Ok(summary) = found {
            if summary.new_objects > 0 {
                // A log that can't be written to is its owner's affair.
                if self.settings.verbose.load(Ordering::Relaxed) {
                    let _ = self.report_claimed(Which::New, log);
                } else {
                    let noun = if summary.new_objects == 1 {
                        "object"
                    } else {
                        "objects"
                    };
                    let _ = writeln!(
                        log,
                        "kmemleak: {} new unreferenced {noun} ({} bytes), see \"kmemleak report\"",
                        summary.new_objects, summary.new_bytes
                    );
                }
                self.with_state(|state, _| state.note_reported());
            }
            while let Some((start, size)) = self.with_state(|state, _| state.take_revived()) {
                let _ = writeln!(
                    log,
                    "kmemleak: object {start:#018x} (size {size}) is referenced again"
                );
            }
        }
        drop(claim);
        NextStep::Wait { us: every_us }
    }

    /// Writes the warnings that have come up since the last time. Task context, with no lock held.
    pub fn drain_warnings(&self, out: &mut dyn Write) {
        while let Some(warning) = self.with_state(|state, _| state.warnings.pop()) {
            let (caller, allocated) = self.with_state(|state, _| {
                (
                    state.frames_of(warning.caller),
                    state.frames_of(warning.allocated),
                )
            });
            // A log that can't be written to is its owner's affair.
            let _ = writeln!(out, "kmemleak: {}: {:?}", warning.kind, warning.address);
            let _ = self.write_frames("called from", &caller, out);
            if !allocated.as_slice().is_empty() {
                let _ = self.write_frames("allocated last from", &allocated, out);
            }
        }
        let lost = self.with_state(|state, _| state.warnings.take_lost());
        if lost > 0 {
            let _ = writeln!(out, "kmemleak: {lost} more warnings found no room");
        }
    }
}
