//! What the detector knows and does, in a few lines.

use core::fmt::{self, Write};
use core::sync::atomic::Ordering;

use crate::checker::claim::Claim;
use crate::front::report::Count;
use crate::platform::Platform;
use crate::tracker::Detector;
use crate::verdict::How;

impl<P: Platform> Detector<P> {
    pub(super) fn status(&self, out: &mut dyn Write) -> fmt::Result {
        let now_us = self.now_us();
        let tracking = self.tracking();
        let metadata = self.metadata();
        let unrecorded = self.unrecorded.load(Ordering::Relaxed);
        let incomplete = if unrecorded > 0 { ", incomplete" } else { "" };
        writeln!(
            out,
            "state        {}{incomplete}",
            if self.is_on() { "enabled" } else { "disabled" }
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
            self.depot.len(),
            metadata.call_stacks
        )?;
        writeln!(
            out,
            "unrecorded   {unrecorded} (ever: {})",
            self.unrecorded_total.load(Ordering::Relaxed)
        )?;
        writeln!(
            out,
            "missed frees {}",
            self.missed_frees.load(Ordering::Relaxed)
        )?;
        let warnings = self.without_interrupts(|_| self.warnings.lock().count());
        writeln!(out, "warnings     {warnings}")?;
        match self.try_claim() {
            Some(claim) => claim.findings_status(now_us, out)?,
            None => writeln!(
                out,
                "last check   goes on, or is being read: ask again later"
            )?,
        }
        if !self.is_on() || self.settings.background_off.load(Ordering::Relaxed) {
            return writeln!(out, "next scan    none");
        }
        let next_us = self.settings.next_scan_us.load(Ordering::Relaxed);
        writeln!(
            out,
            "next scan    in {} s",
            next_us.saturating_sub(now_us) / 1_000_000
        )
    }
}

impl<P: Platform> Claim<'_, P> {
    /// What is known through the claim alone.
    fn findings_status(&self, now_us: u64, out: &mut dyn Write) -> fmt::Result {
        self.take_suppressions();
        let suppressions = self.count_suppressions();
        let (last, at_us, objects, bytes) = self.with_verdict(|verdict, _| {
            let hidden = (verdict.suppressed_objects, verdict.suppressed_bytes);
            (verdict.summary, verdict.at_us, hidden.0, hidden.1)
        });
        let _outside = self.outside();
        writeln!(
            out,
            "suppressions {suppressions}, hiding {} ({bytes} bytes)",
            Count(objects, "object")
        )?;
        let Some(summary) = last else {
            return writeln!(out, "last check   none");
        };
        write!(
            out,
            "last check   {} s ago, took {} us, ",
            now_us.saturating_sub(at_us) / 1_000_000,
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
}
