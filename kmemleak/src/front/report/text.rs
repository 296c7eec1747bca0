//! Reports as text.

use core::fmt::{self, Write};

use super::Question;
use super::block_type::BlockType;
use super::frames::CallSite;
use super::style::{Ink, Style};
use super::view::named_at;
use super::words::{Count, Plain};
use crate::checker::references::{NoAnswer, Slot, SlotPlace};
use crate::objects::record::flag;
use crate::platform::Platform;
use crate::stacks::depot::Frames;
use crate::tracker::Tracker;
use crate::tracker::call_stack::NoCallStack;
use crate::verdict::suppress::Suppression;

/// Columns for the function that allocated a holder.
const CALL_SITE: usize = 60;

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
            if named
                .as_ref()
                .is_some_and(|named| named.record.is_acknowledged())
            {
                write!(out, ", acknowledged by clear")?;
            }
            let frames = named.map(|named| tracker.depot().get(named.record.stack_id()));
            let frames = frames.as_ref().map_or(&[][..], Frames::as_slice);
            let block_type = BlockType::of(tracker, frames);
            if let Some(block_type) = &block_type {
                let block_type = Style::of(tracker).paint(Ink::Type, block_type.short());
                write!(out, ", {block_type}")?;
            }
            if let Some(call_site) = CallSite::of(tracker, frames, CALL_SITE) {
                let comma = if block_type.is_some() { "" } else { "," };
                write!(out, "{comma} from {call_site}")?;
            }
        }
    }
    writeln!(out)
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
