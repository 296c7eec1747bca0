//! What a report tells of the whole: the lines behind what it lists.

use core::fmt::{self, Display, Formatter, Write};

use super::Standing;
use super::backtrace::EmptyStacks;
use super::style::{Ink, Style};
use super::text::no_call_stacks_text;
use super::words::{ByteSum, Count, Missing, PassCount, Sum};
use crate::checker::claim::Claim;
use crate::platform::Platform;
use crate::verdict::groups::Group;
use crate::verdict::handles::ShortHandle;
use crate::verdict::summary::{Doubt, How, Summary};

/// What is most useful next.
pub(super) enum NextCommand {
    /// What was listed first, a group or an object.
    Show(ShortHandle),
    /// Why an object is reported.
    Why(ShortHandle),
    /// What keeps an object alive.
    Path(ShortHandle),
}

impl Display for NextCommand {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Show(handle) => write!(f, "next: kmemleak show {handle}"),
            Self::Why(handle) => write!(f, "next: kmemleak why {handle}"),
            Self::Path(handle) => write!(f, "next: kmemleak path {handle}"),
        }
    }
}

/// Says what there was no memory for, before all else.
pub(super) fn before_text(summary: &Summary, out: &mut dyn Write) -> fmt::Result {
    if summary.leaders.is_none() {
        return writeln!(
            out,
            "kmemleak: no memory to tell leaders from what they own, or to put objects in order: all are listed"
        );
    }
    match summary.groups {
        Some(_) => Ok(()),
        None => writeln!(
            out,
            "kmemleak: no memory to group the objects by call stack"
        ),
    }
}

/// How much is new since the mark.
pub(super) fn new_text<P: Platform>(
    claim: &Claim<'_, P>,
    standing: Standing,
    objects: usize,
    bytes: usize,
    out: &mut dyn Write,
) -> fmt::Result {
    let new = match standing {
        Standing::Leaks => Count(objects, "object"),
        Standing::Suspects => Count(objects, "suspect"),
    };
    let since = match claim.has_baseline() {
        true => "new since the mark",
        false => "new: all of them, since there is no mark",
    };
    writeln!(out, "kmemleak: {new} ({}) {since}", ByteSum(bytes))
}

/// The end of a report: doubts, what else is to be known of the verdict, its sum, and what to do next.
pub(super) fn end_text<P: Platform>(
    claim: &Claim<'_, P>,
    summary: &Summary,
    empty: EmptyStacks,
    next: Option<NextCommand>,
    out: &mut dyn Write,
) -> fmt::Result {
    no_call_stacks_text(empty.why(claim.tracker()), out)?;
    let style = Style::of(claim.tracker());
    doubts_text(summary, &mut style.lines(Ink::Warning, out))?;
    if !summary.stacks && summary.listed() > 0 {
        writeln!(
            out,
            "kmemleak: the platform has named no stack: what only a stack holds is listed as well (Platform::stack_bounds)"
        )?;
    }
    if summary.in_sections > 0 {
        writeln!(
            out,
            "kmemleak: {} in sections that are roots, so never leaks: is a heap's arena a variable? Detector::exclude takes it out",
            Count(summary.in_sections as usize, "object")
        )?;
    }
    if summary.suppressed_objects > 0 {
        writeln!(
            out,
            "kmemleak: {} ({}) suppressed",
            Count(summary.suppressed_objects, "object"),
            ByteSum(summary.suppressed_bytes)
        )?;
    }
    leaders_text(claim, summary, out)?;
    writeln!(out, "kmemleak: {}", Sum(summary))?;
    match next {
        Some(next) => writeln!(out, "{next}"),
        None => Ok(()),
    }
}

/// How the sum divides into leaders and what they own, and from how many call stacks each came: the table has a line for each
/// call stack of a leader.
fn leaders_text<P: Platform>(
    claim: &Claim<'_, P>,
    summary: &Summary,
    out: &mut dyn Write,
) -> fmt::Result {
    let (Some(leaders), Some(groups)) = (summary.leaders, summary.groups) else {
        return Ok(());
    };
    if summary.listed() < 2 {
        return Ok(());
    }
    let mut of_leaders = 0;
    let mut count = |group: &Group, _| of_leaders += usize::from(group.leaders > 0);
    claim.verdict().groups.each(&mut count);
    write!(
        out,
        "kmemleak: {} ({}) from {}",
        Count(leaders, "leader"),
        ByteSum(summary.leader_bytes),
        Count(of_leaders, "call stack")
    )?;
    let owned = summary.listed() - leaders;
    if owned == 0 {
        return writeln!(out);
    }
    write!(
        out,
        "; {} {} ({})",
        if leaders == 1 { "it owns" } else { "they own" },
        Count(owned, "object"),
        ByteSum(summary.listed_bytes() - summary.leader_bytes)
    )?;
    match groups - of_leaders {
        0 => writeln!(out),
        others => writeln!(out, " from {}", Count(others, "more call stack")),
    }
}

/// Says why what is listed are suspects.
fn doubts_text(summary: &Summary, out: &mut dyn Write) -> fmt::Result {
    let passes = match summary.how {
        How::Stopped | How::Frozen | How::Confirmed => None,
        How::Scanned { passes } => {
            write!(
                out,
                "kmemleak: suspects of {} while other code ran, which no check in a stopped world has confirmed",
                PassCount(passes)
            )?;
            match summary.stopped_us {
                0 => writeln!(out)?,
                us => writeln!(
                    out,
                    ": a stop was abandoned after {} ms (stop_max_ms)",
                    us.div_ceil(1000)
                )?,
            }
            Some(passes)
        }
        How::Repeated { reason, passes } => {
            writeln!(
                out,
                "kmemleak: {reason}: suspects of {} while other code ran",
                PassCount(passes)
            )?;
            Some(passes)
        }
    };
    if let Some(passes) = passes
        && !summary.settled
    {
        writeln!(
            out,
            "kmemleak: after {passes} passes the suspects still changed: what is in use may be among them"
        )?;
    }
    if summary.unread > 0 {
        let doubt = Doubt::Unread(summary.unread);
        writeln!(
            out,
            "kmemleak: {doubt}: what only these point to is among the suspects"
        )?;
    }
    if summary.in_flight > 0 {
        let doubt = Doubt::InFlight(summary.in_flight);
        writeln!(
            out,
            "kmemleak: {doubt}: what only these point to is among the suspects"
        )?;
    }
    if summary.unrecorded == 0 {
        return Ok(());
    }
    writeln!(
        out,
        "kmemleak: {}: what that would keep alive may be among the suspects",
        Doubt::Unrecorded(summary.unrecorded)
    )?;
    writeln!(out, "kmemleak: {}", Missing(summary.missing_bytes))
}
