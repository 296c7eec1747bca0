//! The state of the detector, as text in a few lines, or as a record.
//!
//! It is collected first, then written. What only the holder of the claim can read is left out while another task checks: a
//! status waits for nobody.

use core::fmt::{self, Write};

use super::Format;
use super::json::{OrNull, begin, no_call_stacks_json, summary_fields};
use super::words::{Count, Missing, OfWhich, StacksSetting};
use crate::checker::claim::Claim;
use crate::checker::handle::Handle;
use crate::platform::Platform;
use crate::tracker::call_stack::NoCallStack;
use crate::tracker::sampling::StacksTaken;
use crate::tracker::{Metadata, Tracking};
use crate::verdict::summary::{How, Summary};

/// What is known without the claim.
struct Status {
    on: bool,
    tracking: Tracking,
    metadata: Metadata,
    call_stacks: u32,
    no_call_stacks: Option<NoCallStack>,
    stacks: StacksTaken,
    unrecorded: u64,
    unrecorded_ever: u64,
    /// Bytes of metadata that would have been enough for these.
    missing_bytes: usize,
    missed_frees: u64,
    warnings: u64,
    /// In how many microseconds the next background scan is due; `None` if there is none.
    next_scan_us: Option<u64>,
    stacks_are_roots: bool,
    /// `None` while another task has the claim.
    findings: Option<FindingsStatus>,
}

/// What only the holder of the claim can read.
struct FindingsStatus {
    suppressions: usize,
    suppressed_objects: usize,
    suppressed_bytes: usize,
    /// The last check, and how many microseconds ago it was.
    last: Option<(Summary, u64)>,
}

impl Status {
    fn of<P: Platform>(handle: Handle<'_, P>) -> Self {
        let tracker = handle.tracker;
        let settings = tracker.settings();
        let now_us = tracker.now_us();
        let tracking = tracker.tracking();
        let unrecorded = tracker.unrecorded();
        let scans = tracker.is_on() && !settings.background_off.is_on();
        Self {
            on: tracker.is_on(),
            metadata: tracker.metadata(),
            call_stacks: tracker.depot().len(),
            no_call_stacks: tracker.no_call_stack(),
            stacks: tracker.stacks(),
            unrecorded,
            unrecorded_ever: tracker.unrecorded_total(),
            missing_bytes: match unrecorded {
                0 => 0,
                _ => tracker.missing_bytes(tracking.objects),
            },
            missed_frees: tracker.missed_frees(),
            warnings: tracker.count_warnings(),
            next_scan_us: scans.then(|| settings.next_scan.get().saturating_sub(now_us)),
            stacks_are_roots: !settings.skip_stacks.is_on(),
            findings: (handle.try_claim()).map(|mut claim| FindingsStatus::of(&mut claim, now_us)),
            tracking,
        }
    }
}

impl FindingsStatus {
    fn of<P: Platform>(claim: &mut Claim<'_, P>, now_us: u64) -> Self {
        let suppressions = claim.count_suppressions();
        let verdict = claim.verdict();
        let ago_us = now_us.saturating_sub(verdict.at_us);
        Self {
            suppressions,
            suppressed_objects: verdict.suppressed_objects,
            suppressed_bytes: verdict.suppressed_bytes,
            last: verdict.summary.get().map(|summary| (summary, ago_us)),
        }
    }
}

/// Writes the state.
pub(in crate::front) fn write_status<P: Platform>(
    handle: Handle<'_, P>,
    format: Format,
    out: &mut dyn Write,
) -> fmt::Result {
    let status = Status::of(handle);
    match format {
        Format::Text => text(&status, out),
        Format::Json => json(&status, out),
    }
}

fn text(status: &Status, out: &mut dyn Write) -> fmt::Result {
    let incomplete = match status.unrecorded {
        0 => "",
        _ => ", incomplete",
    };
    let enabled = if status.on { "enabled" } else { "disabled" };
    writeln!(out, "state        {enabled}{incomplete}")?;
    writeln!(
        out,
        "objects      {} ({} bytes)",
        status.tracking.objects, status.tracking.bytes
    )?;
    writeln!(
        out,
        "metadata     {} bytes, of which {} call stacks take {}",
        status.metadata.bytes, status.call_stacks, status.metadata.call_stacks
    )?;
    if let Some(why) = status.no_call_stacks {
        writeln!(out, "call stacks  none: {why}")?;
    } else if status.stacks != StacksTaken::All {
        writeln!(out, "call stacks  of {}", OfWhich(status.stacks))?;
    }
    writeln!(
        out,
        "unrecorded   {} (ever: {})",
        status.unrecorded, status.unrecorded_ever
    )?;
    if status.unrecorded > 0 {
        writeln!(out, "missing      {}", Missing(status.missing_bytes))?;
    }
    writeln!(out, "missed frees {}", status.missed_frees)?;
    writeln!(out, "warnings     {}", status.warnings)?;
    match &status.findings {
        Some(findings) => findings_text(findings, out)?,
        None => writeln!(
            out,
            "last check   a check is running, or a report is being read: ask again later"
        )?,
    }
    match status.next_scan_us {
        Some(us) => writeln!(out, "next scan    in {} s", us / 1_000_000),
        None => writeln!(out, "next scan    none"),
    }
}

fn findings_text(findings: &FindingsStatus, out: &mut dyn Write) -> fmt::Result {
    writeln!(
        out,
        "suppressions {}, hiding {} ({} bytes)",
        findings.suppressions,
        Count(findings.suppressed_objects, "object"),
        findings.suppressed_bytes
    )?;
    let Some((summary, ago_us)) = &findings.last else {
        return writeln!(out, "last check   none");
    };
    write!(
        out,
        "last check   {} s ago, took {} us, ",
        ago_us / 1_000_000,
        summary.took_us
    )?;
    match summary.how {
        How::Stopped | How::Frozen | How::Confirmed => {
            write!(out, "world stopped for {} us", summary.stopped_us)?
        }
        How::Scanned { .. } | How::Repeated { .. } => write!(out, "world running")?,
    }
    write!(
        out,
        ", {} words, {}",
        summary.words,
        Count(summary.objects, "unreferenced object")
    )?;
    match summary.suspects {
        0 => writeln!(out)?,
        suspects => writeln!(out, ", {}", Count(suspects, "suspect"))?,
    }
    let misses = summary.candidates - summary.hits;
    writeln!(
        out,
        "marker       {}, {}, {misses} miss{}, on {}",
        Count(summary.candidates as usize, "candidate"),
        Count(summary.hits as usize, "hit"),
        if misses == 1 { "" } else { "es" },
        Count(summary.cpus as usize, "cpu")
    )
}

fn json(status: &Status, out: &mut dyn Write) -> fmt::Result {
    begin("status", out)?;
    write!(
        out,
        ",\"enabled\":{},\"objects\":{},\"bytes\":{},\"metadata_bytes\":{},\"call_stacks\":{},\"call_stack_bytes\":{},\"unrecorded\":{},\"unrecorded_ever\":{},\"missing_bytes\":{},\"missed_frees\":{},\"warnings\":{},\"stacks_are_roots\":{},\"stacks\":\"{}\",\"next_scan_us\":{}",
        status.on,
        status.tracking.objects,
        status.tracking.bytes,
        status.metadata.bytes,
        status.call_stacks,
        status.metadata.call_stacks,
        status.unrecorded,
        status.unrecorded_ever,
        status.missing_bytes,
        status.missed_frees,
        status.warnings,
        status.stacks_are_roots,
        StacksSetting(status.stacks),
        OrNull(status.next_scan_us)
    )?;
    no_call_stacks_json(status.no_call_stacks, out)?;
    let findings = status.findings.as_ref();
    write!(
        out,
        ",\"busy\":{},\"suppressions\":{},\"suppressed_objects\":{},\"suppressed_bytes\":{},\"last_check\":",
        findings.is_none(),
        OrNull(findings.map(|findings| findings.suppressions)),
        OrNull(findings.map(|findings| findings.suppressed_objects)),
        OrNull(findings.map(|findings| findings.suppressed_bytes))
    )?;
    match findings.and_then(|findings| findings.last.as_ref()) {
        Some((summary, ago_us)) => {
            write!(out, "{{\"ago_us\":{ago_us}")?;
            summary_fields(summary, None, None, out)?;
            writeln!(out, "}}}}")
        }
        None => writeln!(out, "null}}"),
    }
}
