//! The state of the detector, in a few lines.

use core::fmt::{self, Write};

use crate::checker::claim::Claim;
use crate::checker::handle::Handle;
use crate::front::report::{Count, Missing};
use crate::platform::Platform;
use crate::verdict::summary::How;

pub(super) fn write_status<P: Platform>(handle: Handle<'_, P>, out: &mut dyn Write) -> fmt::Result {
    let tracker = handle.tracker;
    let settings = tracker.settings();
    let now_us = tracker.now_us();
    let tracking = tracker.tracking();
    let metadata = tracker.metadata();
    let unrecorded = tracker.unrecorded();
    let incomplete = if unrecorded > 0 { ", incomplete" } else { "" };
    writeln!(
        out,
        "state        {}{incomplete}",
        if tracker.is_on() {
            "enabled"
        } else {
            "disabled"
        }
    )?;
    writeln!(
        out,
        "objects      {} ({} bytes)",
        tracking.objects, tracking.bytes
    )?;
    writeln!(
        out,
        "metadata     {} bytes, of which {} call stacks take {}",
        metadata.bytes,
        tracker.depot().len(),
        metadata.call_stacks
    )?;
    if let Some(why) = tracker.no_call_stack() {
        writeln!(out, "call stacks  none: {why}")?;
    }
    writeln!(
        out,
        "unrecorded   {unrecorded} (ever: {})",
        tracker.unrecorded_total()
    )?;
    if unrecorded > 0 {
        let missing = tracker.missing_bytes(tracking.objects);
        writeln!(out, "missing      {}", Missing(missing))?;
    }
    writeln!(out, "missed frees {}", tracker.missed_frees())?;
    let warnings = tracker.count_warnings();
    writeln!(out, "warnings     {warnings}")?;
    match handle.try_claim() {
        Some(mut claim) => findings_status(&mut claim, now_us, out)?,
        None => writeln!(
            out,
            "last check   goes on, or is being read: ask again later"
        )?,
    }
    if !tracker.is_on() || settings.background_off.is_on() {
        return writeln!(out, "next scan    none");
    }
    let next_us = settings.next_scan.get();
    writeln!(
        out,
        "next scan    in {} s",
        next_us.saturating_sub(now_us) / 1_000_000
    )
}

/// The part of the state that only the holder of the claim can read.
fn findings_status<P: Platform>(
    claim: &mut Claim<'_, P>,
    now_us: u64,
    out: &mut dyn Write,
) -> fmt::Result {
    let suppressions = claim.count_suppressions();
    let verdict = claim.verdict();
    let _outside = claim.outside();
    writeln!(
        out,
        "suppressions {suppressions}, hiding {} ({} bytes)",
        Count(verdict.suppressed_objects, "object"),
        verdict.suppressed_bytes
    )?;
    let Some(summary) = verdict.summary.get() else {
        return writeln!(out, "last check   none");
    };
    write!(
        out,
        "last check   {} s ago, took {} us, ",
        now_us.saturating_sub(verdict.at_us) / 1_000_000,
        summary.took_us
    )?;
    match summary.how {
        How::Stopped => write!(out, "world stopped for {} us", summary.stopped_us)?,
        How::Scanned { .. } | How::Repeated { .. } => write!(out, "world running")?,
    }
    write!(
        out,
        ", {} words, {}",
        summary.words,
        Count(summary.objects, "unreferenced object")
    )?;
    match summary.suspects {
        0 => writeln!(out),
        suspects => writeln!(out, ", {}", Count(suspects, "suspect")),
    }
}
