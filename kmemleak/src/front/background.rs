//! The work of a task of low priority for the detector: it scans now and then, and reports what is new.

use core::fmt::Write;

use super::log::write_news;
use crate::checker::handle::Handle;
use crate::platform::Platform;
use crate::tracker::Tracker;

/// How long to wait when another task checks.
const BUSY_US: u64 = 100_000;

/// When [`Detector::background_step`](crate::Detector::background_step) is to be called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// In this time, or earlier.
    Wait {
        /// Microseconds.
        us: u64,
    },
    /// Not before the background scan is switched on; an earlier call does no harm.
    Stopped,
}

/// Scans if a scan is due, and writes what is new to `log`.
pub(super) fn step<P: Platform>(handle: Handle<'_, P>, log: &mut dyn Write) -> NextStep {
    let tracker = handle.tracker;
    let settings = tracker.settings();
    if !tracker.is_on() || settings.background_off.is_on() {
        return NextStep::Stopped;
    }
    let (next_us, now_us) = (settings.next_scan.get(), tracker.now_us());
    if now_us < next_us {
        return NextStep::Wait {
            us: next_us - now_us,
        };
    }
    let Some(mut claim) = handle.try_claim() else {
        return NextStep::Wait { us: BUSY_US };
    };
    let found = claim.scan_and_confirm();
    let every_us = settings.scan_every.get();
    settings
        .next_scan
        .set(tracker.now_us().saturating_add(every_us));
    if let Ok(summary) = found {
        write_news(&mut claim, &summary, log);
    }
    NextStep::Wait { us: every_us }
}

/// Sets the seconds between two background scans; zero switches them off.
pub(super) fn set_seconds<P: Platform>(tracker: &Tracker<P>, seconds: u64) {
    let settings = tracker.settings();
    settings.background_off.set(seconds == 0);
    if seconds > 0 {
        let us = seconds.saturating_mul(1_000_000);
        settings.scan_every.set(us);
        settings.next_scan.set(tracker.now_us().saturating_add(us));
    }
}
