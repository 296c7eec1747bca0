//! Reports as JSON, an object a line: the schema is in `kmemleak/FORMATS.md`.

use core::fmt::{self, Display, Formatter, Write};

use super::backtrace::{Backtrace, EmptyStacks};
use super::block_type::BlockType;
use super::frames::write_whole;
use super::refusal::Refusal;
use super::view::{Contents, LeakView, named_at};
use super::{Question, Standing};
use crate::checker::claim::Claim;
use crate::checker::cycle::Cycle;
use crate::checker::references::{NoAnswer, Slot, SlotPlace};
use crate::objects::record::flag;
use crate::platform::Platform;
use crate::stacks::depot::{Frames, StackId};
use crate::tracker::Tracker;
use crate::tracker::call_stack::NoCallStack;
use crate::verdict::groups::Group;
use crate::verdict::handles::{ShortHandle, Thing};
use crate::verdict::iter::Rank;
use crate::verdict::leak_list::Named;
use crate::verdict::order::Which;
use crate::verdict::summary::{How, Summary};
use crate::verdict::suppress::Suppression;

/// The version of the schema: it changes when a field is removed or changes its meaning, not when one is added.
const SCHEMA: u32 = 2;

/// Begins a line.
pub(super) fn begin(kind: &str, out: &mut dyn Write) -> fmt::Result {
    write!(out, "{{\"schema\":{SCHEMA},\"kind\":\"{kind}\"")
}

/// A value, or null.
pub(super) struct OrNull<T>(pub(super) Option<T>);

impl<T: Display> Display for OrNull<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("null"),
        }
    }
}

/// A handle, or null.
pub(super) fn handle_json(handle: Option<ShortHandle>) -> OrNull<u32> {
    OrNull(handle.map(|handle| handle.0))
}

/// An address: text, since not all readers take numbers of 64 bits.
pub(super) struct Quoted(pub(super) usize);

impl Display for Quoted {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "\"{:#018x}\"", self.0)
    }
}

/// Text between quotation marks; characters that would end it, and control characters, are escaped.
pub(super) struct Escaped<'a>(pub(super) &'a mut dyn Write);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|character| match character {
            '"' | '\\' => write!(self.0, "\\{character}"),
            // JSON text may have some of them; a terminal that shows it obeys them.
            _ if character.is_control() => write!(self.0, "\\u{:04x}", u32::from(character)),
            _ => self.0.write_char(character),
        })
    }
}

/// A line that replaces an answer.
pub(super) fn error(why: &dyn Refusal, out: &mut dyn Write) -> fmt::Result {
    begin("error", out)?;
    write!(out, ",\"code\":\"{}\",\"error\":", why.code())?;
    string(&why, out)?;
    writeln!(out, "}}")
}

pub(super) fn suppressions_end(count: usize, out: &mut dyn Write) -> fmt::Result {
    begin("suppressions", out)?;
    writeln!(out, ",\"count\":{count}}}")
}

pub(super) fn references_end(
    question: Question,
    count: usize,
    answer: Result<usize, NoAnswer>,
    out: &mut dyn Write,
) -> fmt::Result {
    let kind = match question {
        Question::Holders => "holders",
        Question::Path => "path",
    };
    begin(kind, out)?;
    write!(out, ",\"count\":{count}")?;
    match answer {
        Ok(target) => writeln!(
            out,
            ",\"target\":{},\"code\":null,\"error\":null}}",
            Quoted(target)
        ),
        Err(why) => {
            let code = why.code();
            write!(out, ",\"target\":null,\"code\":\"{code}\",\"error\":")?;
            string(&why, out)?;
            writeln!(out, "}}")
        }
    }
}

pub(super) fn string(value: &dyn Display, out: &mut dyn Write) -> fmt::Result {
    out.write_char('"')?;
    write!(Escaped(out), "{value}")?;
    out.write_char('"')
}

/// Writes the last verdict.
pub(super) fn report<P: Platform>(
    claim: &Claim<'_, P>,
    which: Which,
    summary: &Summary,
    out: &mut dyn Write,
) -> fmt::Result {
    let (tracker, verdict) = (claim.tracker(), claim.verdict());
    let mut written = Ok(());
    if matches!(which, Which::Leaders | Which::All) {
        verdict.groups.each(&mut |group, stack_id| {
            if written.is_ok() {
                let handle = claim.handle_of(Thing::Group(stack_id));
                written = group_json(tracker, group, stack_id, verdict.at_us, handle, out);
            }
        });
    }
    let standing = Standing::of(summary.doubt());
    let (mut new_objects, mut new_bytes, mut empty) = (0, 0, EmptyStacks::default());
    claim.each_in_order(which, &mut |named, index| {
        let leak = LeakView::of(claim, named, index).numbered(claim, index);
        new_objects += 1;
        new_bytes += leak.size;
        empty.note(leak.frames.as_slice());
        if written.is_ok() {
            written = leak_json(claim, (&leak, index), standing, out);
        }
    });
    written?;
    let new = (which == Which::New).then_some((new_objects, new_bytes));
    begin("summary", out)?;
    summary_fields(summary, new, empty.why(tracker), out)?;
    writeln!(out, "}}")
}

/// Writes the sums of a verdict alone.
pub(super) fn summary(summary: &Summary, out: &mut dyn Write) -> fmt::Result {
    begin("summary", out)?;
    summary_fields(summary, None, None, out)?;
    writeln!(out, "}}")
}

fn group_json<P: Platform>(
    tracker: &Tracker<P>,
    group: &Group,
    stack_id: StackId,
    at_us: u64,
    handle: Option<ShortHandle>,
    out: &mut dyn Write,
) -> fmt::Result {
    begin("group", out)?;
    write!(
        out,
        ",\"handle\":{},\"objects\":{},\"bytes\":{},\"leaders\":{},\"leader_bytes\":{},\"owned_objects\":{},\"owned_bytes\":{},\"oldest_age_us\":{},\"newest_age_us\":{}",
        handle_json(handle),
        group.objects,
        group.bytes,
        group.leaders,
        group.leader_bytes,
        group.owned_objects,
        group.owned_bytes,
        at_us.saturating_sub(group.oldest_us),
        at_us.saturating_sub(group.newest_us)
    )?;
    frames_json(tracker, tracker.depot().get(stack_id).as_slice(), out)?;
    writeln!(out, "}}")
}

fn leak_json<P: Platform>(
    claim: &Claim<'_, P>,
    (leak, index): (&LeakView<'_>, Option<usize>),
    standing: Standing,
    out: &mut dyn Write,
) -> fmt::Result {
    let tracker = claim.tracker();
    begin("object", out)?;
    write!(out, ",\"handle\":{}", handle_json(leak.handle))?;
    named_json(tracker, leak.named, leak.size, out)?;
    write!(out, ",\"age_us\":{}", leak.age_us)?;
    let (rank, leader, owned) = match leak.rank {
        Some(Rank::Leader {
            owned_objects,
            owned_bytes,
        }) => (Some("\"leader\""), None, Some((owned_objects, owned_bytes))),
        Some(Rank::Owned { leader }) => (Some("\"owned\""), Some(leader), Some((0, 0))),
        None => (None, None, None),
    };
    let freed = match leak.contents {
        Contents::Read(_) => Some(false),
        Contents::Freed => Some(true),
        Contents::Unknown => None,
    };
    write!(
        out,
        ",\"rank\":{},\"leader\":{},\"owned_objects\":{},\"owned_bytes\":{},\"suspect\":{},\"reported\":{},\"freed\":{}",
        OrNull(rank),
        OrNull(leader.map(Quoted)),
        OrNull(owned.map(|owned| owned.0)),
        OrNull(owned.map(|owned| owned.1)),
        standing == Standing::Suspects,
        leak.named.record.has(flag::REPORTED),
        OrNull(freed)
    )?;
    contents_json(&leak.contents, out)?;
    cycle_json(claim, index, out)?;
    frames_json(tracker, leak.frames.as_slice(), out)?;
    writeln!(out, "}}")
}

pub(super) fn contents_json(contents: &Contents, out: &mut dyn Write) -> fmt::Result {
    write!(out, ",\"dump\":")?;
    match contents {
        Contents::Read(dump) => {
            let mut bytes = dump.as_slice().iter();
            out.write_char('"')?;
            bytes.try_for_each(|byte| write!(out, "{byte:02x}"))?;
            out.write_char('"')
        }
        Contents::Freed | Contents::Unknown => out.write_str("null"),
    }
}

pub(super) fn named_json<P: Platform>(
    tracker: &Tracker<P>,
    named: &Named,
    size: usize,
    out: &mut dyn Write,
) -> fmt::Result {
    let record = &named.record;
    write!(
        out,
        ",\"address\":{},\"size\":{size},\"birth_us\":{},\"task\":{},\"comm\":",
        Quoted(named.start),
        tracker.birth_us(record),
        record.task()
    )?;
    string(&named.comm(tracker).as_str(), out)?;
    write!(
        out,
        ",\"cpu\":{},\"interrupt\":{}",
        record.cpu(),
        record.has(flag::INTERRUPT)
    )
}

/// The call stack that allocated a block, and the type of the block.
pub(super) fn frames_json<P: Platform>(
    tracker: &Tracker<P>,
    addresses: &[usize],
    out: &mut dyn Write,
) -> fmt::Result {
    write!(out, ",\"type\":")?;
    match BlockType::of(tracker, addresses) {
        Some(block_type) => string(&block_type, out)?,
        None => write!(out, "null")?,
    }
    call_stack_json(tracker, addresses, out)
}

/// A call stack.
pub(super) fn call_stack_json<P: Platform>(
    tracker: &Tracker<P>,
    addresses: &[usize],
    out: &mut dyn Write,
) -> fmt::Result {
    backtrace_json(tracker, &Backtrace::of(tracker, addresses), out)
}

pub(super) fn backtrace_json<P: Platform>(
    tracker: &Tracker<P>,
    backtrace: &Backtrace<'_>,
    out: &mut dyn Write,
) -> fmt::Result {
    write!(
        out,
        ",\"crc\":\"{:08x}\",\"skipped\":{},\"backtrace\":[",
        backtrace.crc(),
        backtrace.skipped()
    )?;
    for (place, &address) in backtrace.whole().iter().enumerate() {
        out.write_str(if place > 0 { ",\"" } else { "\"" })?;
        write_whole(tracker.platform(), address, &mut Escaped(out))?;
        out.write_char('"')?;
    }
    out.write_char(']')
}

/// Writes why call stacks before this line are empty.
pub(super) fn no_call_stacks_json(why: Option<NoCallStack>, out: &mut dyn Write) -> fmt::Result {
    write!(out, ",\"no_call_stacks\":")?;
    match why {
        Some(why) => string(&why, out),
        None => write!(out, "null"),
    }
}

pub(super) fn slot_json<P: Platform>(
    tracker: &Tracker<P>,
    question: Question,
    slot: Slot,
    out: &mut dyn Write,
) -> fmt::Result {
    begin(question.word(), out)?;
    slot_fields(tracker, slot, out)?;
    writeln!(out, "}}")
}

/// Where a word lies.
pub(super) fn slot_fields<P: Platform>(
    tracker: &Tracker<P>,
    slot: Slot,
    out: &mut dyn Write,
) -> fmt::Result {
    write!(out, ",\"slot\":{},\"root\":", Quoted(slot.address))?;
    match slot.place {
        SlotPlace::Root(root) => {
            out.write_char('"')?;
            tracker
                .platform()
                .name_root(root, slot.address, &mut Escaped(out))?;
            write!(
                out,
                "\",\"object\":null,\"object_size\":null,\"offset\":null,\"acknowledged\":null,\"type\":null,\"crc\":null,\"skipped\":null,\"backtrace\":null"
            )
        }
        SlotPlace::Object { start, size } => {
            let named = named_at(tracker, start);
            let acknowledged = (named.as_ref()).is_some_and(|named| named.record.is_acknowledged());
            write!(
                out,
                "null,\"object\":{},\"object_size\":{size},\"offset\":{},\"acknowledged\":{acknowledged}",
                Quoted(start),
                OrNull(slot.offset())
            )?;
            let frames = match named {
                Some(named) => tracker.depot().get(named.record.stack_id()),
                None => Frames::NONE,
            };
            frames_json(tracker, frames.as_slice(), out)
        }
    }
}

pub(super) fn suppression_json(suppression: &Suppression<'_>, out: &mut dyn Write) -> fmt::Result {
    begin("suppression", out)?;
    write!(out, ",\"pattern\":")?;
    string(&suppression.pattern, out)?;
    writeln!(
        out,
        ",\"max\":{},\"matched\":{},\"suppressed_objects\":{},\"suppressed_bytes\":{}}}",
        OrNull(suppression.max),
        suppression.matched,
        suppression.objects,
        suppression.bytes
    )
}

/// The sums, with objects and bytes of what is new since the mark, where that was asked for, and why there are no call stacks.
pub(super) fn summary_fields(
    summary: &Summary,
    new: Option<(usize, usize)>,
    no_call_stacks: Option<NoCallStack>,
    out: &mut dyn Write,
) -> fmt::Result {
    let (how, passes, reason) = match summary.how {
        How::Stopped => ("stopped", 1, None),
        How::Frozen => ("frozen", 1, None),
        How::Confirmed => ("confirmed", 1, None),
        How::Scanned { passes } => ("scanned", passes, None),
        How::Repeated { reason, passes } => ("repeated", passes, Some(reason)),
    };
    write!(out, ",\"how\":\"{how}\",\"passes\":{passes},\"reason\":")?;
    match reason {
        Some(reason) => string(&reason, out)?,
        None => write!(out, "null")?,
    }
    write!(
        out,
        ",\"settled\":{},\"objects\":{},\"bytes\":{},\"suspects\":{},\"suspect_bytes\":{},\"leaders\":{},\"leader_bytes\":{},\"groups\":{},\"unreported_objects\":{},\"unreported_bytes\":{},\"new_objects\":{},\"new_bytes\":{},\"suppressed_objects\":{},\"suppressed_bytes\":{}",
        summary.settled,
        summary.objects,
        summary.bytes,
        summary.suspects,
        summary.suspect_bytes,
        OrNull(summary.leaders),
        summary.leader_bytes,
        OrNull(summary.groups),
        summary.unreported_objects,
        summary.unreported_bytes,
        OrNull(new.map(|new| new.0)),
        OrNull(new.map(|new| new.1)),
        summary.suppressed_objects,
        summary.suppressed_bytes
    )?;
    write!(
        out,
        ",\"tracked\":{},\"words\":{},\"candidates\":{},\"hits\":{},\"misses\":{},\"took_us\":{},\"stopped_us\":{},\"cpus\":{},\"unread\":{},\"in_flight\":{},\"in_sections\":{},\"stacks\":{},\"unrecorded\":{},\"missing_bytes\":{}",
        summary.tracked,
        summary.words,
        summary.candidates,
        summary.hits,
        summary.candidates - summary.hits,
        summary.took_us,
        summary.stopped_us,
        summary.cpus,
        summary.unread,
        summary.in_flight,
        summary.in_sections,
        summary.stacks,
        summary.unrecorded,
        summary.missing_bytes
    )?;
    no_call_stacks_json(no_call_stacks, out)
}

/// The cycle in which a leader lies, by its number in the verdict's list: its objects with their types; empty if they are not known, `null` if there is none.
pub(super) fn cycle_json<P: Platform>(
    claim: &Claim<'_, P>,
    leader: Option<usize>,
    out: &mut dyn Write,
) -> fmt::Result {
    let (mut count, mut written) = (0, Ok(()));
    write!(out, ",\"cycle\":")?;
    let cycle = leader.map_or(Cycle::None, |leader| {
        claim.each_of_cycle(leader, &mut |named| {
            count += 1;
            if written.is_ok() {
                let begins = if count == 1 { "[" } else { "," };
                written = out
                    .write_str(begins)
                    .and_then(|()| link_json(claim.tracker(), named, out));
            }
        })
    });
    written?;
    match cycle {
        Cycle::None => out.write_str("null"),
        Cycle::NotFound => out.write_str("[]"),
        Cycle::Shown => out.write_str("]"),
    }
}

fn link_json<P: Platform>(tracker: &Tracker<P>, named: &Named, out: &mut dyn Write) -> fmt::Result {
    let frames = tracker.depot().get(named.record.stack_id());
    write!(out, "{{\"address\":{},\"type\":", Quoted(named.start))?;
    match BlockType::of(tracker, frames.as_slice()) {
        Some(block_type) => string(&block_type, out)?,
        None => write!(out, "null")?,
    }
    out.write_char('}')
}
