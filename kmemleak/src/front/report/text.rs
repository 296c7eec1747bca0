//! Reports as text.

use core::fmt::{self, Write};

use super::backtrace::EmptyStacks;
use super::frames::{CallSite, write_frames};
use super::view::{Contents, LeakView, named_at};
use super::words::{Age, Count, Missing, PassCount, Plain, Sum, write_dump};
use super::{Question, Standing};
use crate::checker::claim::Claim;
use crate::checker::references::{NoAnswer, Slot, SlotPlace};
use crate::objects::record::flag;
use crate::platform::Platform;
use crate::stacks::depot::Frames;
use crate::tracker::Tracker;
use crate::tracker::call_stack::NoCallStack;
use crate::verdict::groups::Group;
use crate::verdict::iter::{Block, Rank};
use crate::verdict::order::Which;
use crate::verdict::summary::{Doubt, How, Summary};
use crate::verdict::suppress::Suppression;

/// Columns for the function that allocated a holder.
const CALL_SITE: usize = 60;

/// Where the call stack of an object is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stack {
    Here,
    /// Written with its group.
    Above,
}

/// Writes the last verdict.
pub(super) fn report<P: Platform>(
    claim: &Claim<'_, P>,
    which: Which,
    summary: &Summary,
    out: &mut dyn Write,
) -> fmt::Result {
    let (tracker, verdict) = (claim.tracker(), claim.verdict());
    let standing = Standing::of(summary.doubt());
    if summary.leaders.is_none() {
        writeln!(
            out,
            "kmemleak: no memory to tell leaders from what they own, or to put objects in order: all are listed"
        )?;
    } else if summary.groups.is_none() {
        writeln!(
            out,
            "kmemleak: no memory to group the objects by call stack"
        )?;
    }
    let grouped = matches!(which, Which::Leaders | Which::All) && summary.groups.is_some();
    let (mut written, mut last) = (Ok(()), None);
    let (mut new_objects, mut new_bytes, mut empty) = (0, 0, EmptyStacks::default());
    claim.each_in_order(which, &mut |named, index| {
        let leak = LeakView::of(claim, named, index);
        new_objects += 1;
        new_bytes += leak.size;
        empty.note(leak.frames.as_slice());
        if written.is_err() {
            return;
        }
        let stack_id = named.record.stack_id();
        let leader = matches!(leak.rank, Some(Rank::Leader { .. }));
        let group = (grouped && leader).then(|| verdict.groups.of(stack_id));
        let group = group.flatten().filter(|group| group.leaders > 1);
        if let Some(group) = &group
            && last != Some(stack_id)
        {
            written = group_text(tracker, group, standing, &leak.frames, verdict.at_us, out);
            last = Some(stack_id);
        }
        let stack = if last == Some(stack_id) {
            Stack::Above
        } else {
            Stack::Here
        };
        written = written.and_then(|()| leak_text(tracker, &leak, standing, stack, out));
    });
    written?;
    if which == Which::New {
        let new = match standing {
            Standing::Leaks => Count(new_objects, "object"),
            Standing::Suspects => Count(new_objects, "suspect"),
        };
        let since = match claim.has_baseline() {
            true => "new since the mark",
            false => "new, there being no mark",
        };
        writeln!(out, "kmemleak: {new} ({new_bytes} bytes) {since}")?;
    }
    no_call_stacks_text(empty.why(tracker), out)?;
    summary_text(summary, out)
}

/// Says why call stacks above are empty.
pub(in crate::front) fn no_call_stacks_text(
    why: Option<NoCallStack>,
    out: &mut dyn Write,
) -> fmt::Result {
    match why {
        Some(why) => writeln!(out, "kmemleak: no call stacks: {why}"),
        None => Ok(()),
    }
}

fn group_text<P: Platform>(
    tracker: &Tracker<P>,
    group: &Group,
    standing: Standing,
    frames: &Frames,
    at_us: u64,
    out: &mut dyn Write,
) -> fmt::Result {
    write!(
        out,
        "group of {} ({} bytes)",
        Count(
            group.leaders,
            match standing {
                Standing::Leaks => "unreferenced object",
                Standing::Suspects => "suspected object",
            }
        ),
        group.leader_bytes
    )?;
    if group.owned_objects > 0 {
        write!(
            out,
            " that own {} ({} bytes)",
            Count(group.owned_objects, "object"),
            group.owned_bytes
        )?;
    }
    writeln!(
        out,
        ", age {} to {}:",
        Age(at_us.saturating_sub(group.newest_us)),
        Age(at_us.saturating_sub(group.oldest_us))
    )?;
    write_frames(tracker, "backtrace", frames, out)
}

pub(super) fn leak_text<P: Platform>(
    tracker: &Tracker<P>,
    leak: &LeakView<'_>,
    standing: Standing,
    stack: Stack,
    out: &mut dyn Write,
) -> fmt::Result {
    let record = &leak.named.record;
    writeln!(
        out,
        "{} object {:#018x} (size {}):",
        match standing {
            Standing::Leaks => "unreferenced",
            Standing::Suspects => "suspected",
        },
        leak.named.start,
        leak.size
    )?;
    writeln!(
        out,
        "  comm {:?}, pid {}, cpu {}, age {}",
        leak.comm,
        record.task(),
        record.cpu(),
        Age(leak.age_us)
    )?;
    match leak.rank {
        Some(Rank::Leader {
            owned_objects,
            owned_bytes,
        }) if owned_objects > 0 => writeln!(
            out,
            "  owns {} ({owned_bytes} bytes)",
            Count(owned_objects, "object")
        )?,
        Some(Rank::Owned { leader }) => writeln!(out, "  owned by {leader:#018x}")?,
        _ => {}
    }
    match &leak.contents {
        Contents::Read(dump) => write_dump(dump.as_slice(), out)?,
        Contents::Freed => writeln!(out, "  freed since")?,
        Contents::Unknown => writeln!(out, "  not read: off, so perhaps freed since")?,
    }
    match stack {
        Stack::Here => write_frames(tracker, "backtrace", &leak.frames, out),
        Stack::Above => writeln!(out, "  backtrace (crc {:08x}): as above", leak.frames.crc()),
    }
}

fn summary_text(summary: &Summary, out: &mut dyn Write) -> fmt::Result {
    doubts_text(summary, out)?;
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
            "kmemleak: {} ({} bytes) suppressed",
            Count(summary.suppressed_objects, "object"),
            summary.suppressed_bytes
        )?;
    }
    if let (Some(leaders), Some(groups)) = (summary.leaders, summary.groups)
        && summary.listed() > 1
    {
        writeln!(
            out,
            "kmemleak: {} ({} bytes) and {} owned ({} bytes), from {}",
            Count(leaders, "leader"),
            summary.leader_bytes,
            summary.listed() - leaders,
            summary.listed_bytes() - summary.leader_bytes,
            Count(groups, "call stack")
        )?;
    }
    write!(
        out,
        "kmemleak: {} tracked, {} words read in {} us on {}",
        Count(summary.tracked as usize, "object"),
        summary.words,
        summary.took_us,
        Count(summary.cpus as usize, "cpu")
    )?;
    if summary.stopped_us > 0 {
        write!(out, ", stopped for {} us", summary.stopped_us)?;
    }
    writeln!(
        out,
        "; candidates {}, hits {}, misses {}, unrecorded {}",
        summary.candidates,
        summary.hits,
        summary.candidates - summary.hits,
        summary.unrecorded
    )?;
    writeln!(out, "kmemleak: {}", Sum(summary))
}

pub(super) fn interior_text<P: Platform>(
    tracker: &Tracker<P>,
    block: &Block,
    empty: &mut EmptyStacks,
    out: &mut dyn Write,
) -> fmt::Result {
    writeln!(out, "object {:#018x} (size {}):", block.start, block.size)?;
    match named_at(tracker, block.start) {
        Some(named) => {
            let frames = tracker.depot().get(named.record.stack_id());
            empty.note(frames.as_slice());
            write_frames(tracker, "backtrace", &frames, out)
        }
        None => writeln!(out, "  freed since"),
    }
}

pub(in crate::front) fn slot_text<P: Platform>(
    tracker: &Tracker<P>,
    slot: Slot,
    out: &mut dyn Write,
) -> fmt::Result {
    write!(out, "  {:#018x}: ", slot.address)?;
    match slot.place {
        SlotPlace::Root(root) => {
            tracker
                .platform()
                .name_root(root, slot.address, &mut Plain(out))?;
        }
        SlotPlace::Object { start, size } => {
            write!(out, "object {start:#018x} (size {size})")?;
            match slot.offset() {
                Some(offset) => write!(out, "+{offset:#x}")?,
                None => write!(out, ", another copy")?,
            }
            let named = named_at(tracker, start);
            if named
                .as_ref()
                .is_some_and(|named| named.record.has(flag::NO_SCAN))
            {
                write!(out, ", not scanned")?;
            }
            let frames = named.map(|named| tracker.depot().get(named.record.stack_id()));
            let frames = frames.as_ref().map_or(&[][..], Frames::as_slice);
            if let Some(call_site) = CallSite::of(tracker, frames, CALL_SITE) {
                write!(out, ", from {call_site}")?;
            }
        }
    }
    writeln!(out)
}

/// Says why what is listed are suspects.
fn doubts_text(summary: &Summary, out: &mut dyn Write) -> fmt::Result {
    let passes = match summary.how {
        How::Stopped => None,
        How::Scanned { passes } => {
            writeln!(
                out,
                "kmemleak: suspects of {} beside what runs, which no stop of the world has confirmed",
                PassCount(passes)
            )?;
            Some(passes)
        }
        How::Repeated { reason, passes } => {
            writeln!(
                out,
                "kmemleak: {reason}: suspects of {} beside what runs",
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

pub(super) fn references_end(
    question: Question,
    count: usize,
    answer: Result<usize, NoAnswer>,
    out: &mut dyn Write,
) -> fmt::Result {
    match answer {
        Ok(object) => writeln!(
            out,
            "kmemleak: {} {} object {object:#018x}",
            Count(count, question.word()),
            match question {
                Question::Holders => "of",
                Question::Path => "to",
            }
        ),
        Err(why) => writeln!(out, "kmemleak: {why}"),
    }
}

pub(super) fn suppression_text(one: &Suppression<'_>, out: &mut dyn Write) -> fmt::Result {
    write!(Plain(out), "  {}", one.pattern)?;
    if let Some(max) = one.max {
        write!(out, ":max={max}")?;
    }
    let over = one.max.is_some_and(|max| one.matched > max);
    writeln!(
        out,
        "  {} matched{}, {} ({} bytes) hidden",
        one.matched,
        if over { ", over its ceiling" } else { "" },
        Count(one.objects as usize, "object"),
        one.bytes
    )
}
