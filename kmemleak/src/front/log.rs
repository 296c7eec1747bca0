//! What goes to the kernel's log without a command: warnings, and what the background scan finds.

use core::fmt::Write;

use super::report::{Count, Detail, Format, write_frames, write_report};
use crate::checker::claim::Claim;
use crate::platform::Platform;
use crate::tracker::Tracker;
use crate::verdict::order::Which;
use crate::verdict::summary::Summary;

/// Writes the warnings that have come up since the last time. Errors of the log are ignored.
pub(super) fn drain_warnings<P: Platform>(tracker: &Tracker<P>, log: &mut dyn Write) {
    while let Some((warning, [caller, allocated, freed])) = tracker.next_warning() {
        let _ = writeln!(log, "kmemleak: {}: {:?}", warning.kind, warning.address);
        let _ = write_frames(tracker, "called from", &caller, log);
        if !allocated.as_slice().is_empty() {
            let _ = write_frames(tracker, "allocated last from", &allocated, log);
        }
        if !freed.as_slice().is_empty() {
            let _ = write_frames(tracker, "freed last from", &freed, log);
        }
    }
    let lost = tracker.take_lost_warnings();
    if lost > 0 {
        let _ = writeln!(
            log,
            "kmemleak: {lost} more warnings were lost: there was no room to keep them"
        );
    }
}

/// Writes what a background scan has found that was not reported.
pub(super) fn write_news<P: Platform>(
    claim: &mut Claim<'_, P>,
    summary: &Summary,
    log: &mut dyn Write,
) {
    let _outside = claim.outside();
    if summary.unreported_objects > 0 {
        // Errors of the log are ignored.
        if claim.tracker().settings().verbose.is_on() {
            let _ = write_report(claim, Format::Text, Which::Unreported, Detail::TABLE, log);
        } else {
            let what = match summary.doubt() {
                None => "new unreferenced object",
                Some(_) => "new suspected object",
            };
            let _ = writeln!(
                log,
                "kmemleak: {} ({} bytes), see \"kmemleak report\"",
                Count(summary.unreported_objects, what),
                summary.unreported_bytes
            );
        }
        claim.note_reported();
    }
    while let Some((start, size)) = claim.take_revived() {
        let _ = writeln!(
            log,
            "kmemleak: object {start:#018x} (size {size}) is referenced again"
        );
    }
    let lost = claim.take_lost_revived();
    if lost > 0 {
        let _ = writeln!(log, "kmemleak: {lost} more objects are referenced again");
    }
}
