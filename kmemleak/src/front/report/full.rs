//! A report in full: each leader with the first bytes of its block, below the call stack of its group.

use core::fmt::{self, Write};

use super::Standing;
use super::backtrace::EmptyStacks;
use super::chain::cycle_text;
use super::frames::write_backtrace;
use super::handles::Numbered;
use super::style::{Ink, Style};
use super::sums::{before_text, end_text, new_text};
use super::view::{Contents, LeakView};
use super::words::{Age, ByteSum, Count, write_dump};
use crate::checker::claim::Claim;
use crate::platform::Platform;
use crate::stacks::depot::Frames;
use crate::verdict::groups::Group;
use crate::verdict::handles::{ShortHandle, Thing};
use crate::verdict::iter::Rank;
use crate::verdict::order::Which;
use crate::verdict::summary::Summary;

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
    let verdict = claim.verdict();
    let standing = Standing::of(summary.doubt());
    before_text(summary, out)?;
    let grouped = matches!(which, Which::Leaders | Which::All) && summary.groups.is_some();
    let (mut written, mut last) = (Ok(()), None);
    let (mut objects, mut bytes, mut empty) = (0, 0, EmptyStacks::default());
    claim.each_in_order(which, &mut |named, index| {
        let leak = LeakView::of(claim, named, index).numbered(claim, index);
        objects += 1;
        bytes += leak.size;
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
            let handle = claim.handle_of(Thing::Group(stack_id));
            written = group_text(claim, group, handle, standing, &leak.frames, out);
            last = Some(stack_id);
        }
        let stack = if last == Some(stack_id) {
            Stack::Above
        } else {
            Stack::Here
        };
        written = written.and_then(|()| leak_text(claim, (&leak, index), standing, stack, out));
    });
    written?;
    if which == Which::New {
        new_text(claim, standing, objects, bytes, out)?;
    }
    end_text(claim, summary, empty, None, out)
}

pub(super) fn group_text<P: Platform>(
    claim: &Claim<'_, P>,
    group: &Group,
    handle: Option<ShortHandle>,
    standing: Standing,
    frames: &Frames,
    out: &mut dyn Write,
) -> fmt::Result {
    let style = Style::of(claim.tracker());
    let mut heading = style.lines(Ink::Heading, out);
    write!(
        heading,
        "group of {} ({})",
        Count(
            group.leaders,
            match standing {
                Standing::Leaks => "unreferenced object",
                Standing::Suspects => "suspected object",
            }
        ),
        ByteSum(group.leader_bytes)
    )?;
    if group.owned_objects > 0 {
        write!(
            heading,
            " that {} {} ({})",
            if group.leaders == 1 { "owns" } else { "own" },
            Count(group.owned_objects, "object"),
            ByteSum(group.owned_bytes)
        )?;
    }
    let at_us = claim.verdict().at_us;
    writeln!(
        heading,
        ", age {} to {}{}:",
        Age(at_us.saturating_sub(group.newest_us)),
        Age(at_us.saturating_sub(group.oldest_us)),
        Numbered(handle)
    )?;
    write_backtrace(claim.tracker(), frames.as_slice(), out)
}

/// Writes a leak, with its number in the verdict's list.
pub(super) fn leak_text<P: Platform>(
    claim: &Claim<'_, P>,
    (leak, index): (&LeakView<'_>, Option<usize>),
    standing: Standing,
    stack: Stack,
    out: &mut dyn Write,
) -> fmt::Result {
    let (tracker, record) = (claim.tracker(), &leak.named.record);
    writeln!(
        Style::of(tracker).lines(Ink::Heading, out),
        "{} object {:#018x} (size {}){}:",
        match standing {
            Standing::Leaks => "unreferenced",
            Standing::Suspects => "suspected",
        },
        leak.named.start,
        leak.size,
        Numbered(leak.handle)
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
            "  owns {} ({})",
            Count(owned_objects, "object"),
            ByteSum(owned_bytes)
        )?,
        Some(Rank::Owned { leader }) => {
            writeln!(
                out,
                "  owned by {leader:#018x}{}",
                Numbered(leak.leader_handle)
            )?;
        }
        _ => {}
    }
    index.map_or(Ok(()), |leader| cycle_text(claim, leader, out))?;
    match &leak.contents {
        Contents::Read(dump) => write_dump(dump.as_slice(), out)?,
        Contents::Freed => writeln!(out, "  freed since")?,
        Contents::Unknown => writeln!(
            out,
            "  not read: the detector is off, and the block may have been freed"
        )?,
    }
    match stack {
        Stack::Here => write_backtrace(tracker, leak.frames.as_slice(), out),
        Stack::Above => writeln!(out, "  backtrace (crc {:08x}): as above", leak.frames.crc()),
    }
}
