//! One group, or one object, in full.
//!
//! Of a group its sums, its call stack and its objects in a line each; of an object all that a full report tells, and what it
//! owns. A group of one leader is shown as that. An object that the last verdict does not list is shown as `dump` does.

use core::fmt::{self, Write};

use super::columns::{Right, handle_column, size_column};
use super::frames::write_backtrace;
use super::full::{Stack, group_text, leak_text};
use super::style::{Ink, Style};
use super::sums::NextCommand;
use super::type_column::TypeColumn;
use super::view::LeakView;
use super::words::{ByteSum, Count, ShortAge};
use super::{Format, Standing, dump, refuse};
use crate::checker::claim::Claim;
use crate::checker::numbers::NoTarget;
use crate::front::outcome::Answered;
use crate::platform::Platform;
use crate::stacks::depot::StackId;
use crate::verdict::groups::Group;
use crate::verdict::handles::{ShortHandle, Thing};
use crate::verdict::iter::Rank;
use crate::verdict::leak_list::Named;
use crate::verdict::order::Which;

/// Writes what has this handle, `top` objects of it.
pub(in crate::front) fn write_shown<P: Platform>(
    claim: &Claim<'_, P>,
    asked: ShortHandle,
    top: usize,
    out: &mut dyn Write,
) -> Answered {
    let _outside = claim.outside();
    let thing = match claim.thing(asked) {
        Ok(thing) => thing,
        Err(why) => return refuse(Format::Text, &why, out),
    };
    match thing {
        Thing::Group(stack_id) => group(claim, asked, stack_id, top, out),
        Thing::Object { .. } => object(claim, asked, thing, top, out),
    }
}

fn standing<P: Platform>(claim: &Claim<'_, P>) -> Standing {
    let summary = claim.verdict().summary.get();
    Standing::of(summary.and_then(|summary| summary.doubt()))
}

fn group<P: Platform>(
    claim: &Claim<'_, P>,
    asked: ShortHandle,
    stack_id: StackId,
    top: usize,
    out: &mut dyn Write,
) -> Answered {
    let frames = claim.tracker().depot().get(stack_id);
    let group = claim.verdict().groups.of(stack_id);
    let mut which = Which::All;
    match group.filter(|group| group.leaders > 0) {
        Some(group) => {
            which = Which::Leaders;
            if let Some(only) = only_leader(claim, &group, stack_id) {
                return object(claim, asked, only, top, out);
            }
            group_text(claim, &group, Some(asked), standing(claim), &frames, out)?;
        }
        // What leaders of other groups own, or there was no memory for groups.
        None => {
            let (objects, bytes) = tally(claim, &|named, _| named.record.stack_id() == stack_id);
            if objects == 0 {
                return refuse(Format::Text, &NoTarget::NoneLeft(asked), out);
            }
            let owned = match group {
                Some(_) => "owned object",
                None => "object",
            };
            let (owned, bytes) = (Count(objects, owned), ByteSum(bytes));
            writeln!(out, "group of {owned} ({bytes}), {asked}:")?;
            write_backtrace(claim.tracker(), frames.as_slice(), out)?;
        }
    }
    let is_of_group = |named: &Named, _| named.record.stack_id() == stack_id;
    let first = list(claim, asked, which, top, &is_of_group, out)?;
    Ok(next(first.map(NextCommand::Show), out)?)
}

/// The leader of a group that has one only: it is shown itself.
fn only_leader<P: Platform>(
    claim: &Claim<'_, P>,
    group: &Group,
    stack_id: StackId,
) -> Option<Thing> {
    let mut only = None;
    if group.leaders == 1 {
        claim.each_in_order(Which::Leaders, &mut |named, _| {
            if named.record.stack_id() == stack_id {
                only = Some(named.thing());
            }
        });
    }
    only
}

fn object<P: Platform>(
    claim: &Claim<'_, P>,
    asked: ShortHandle,
    thing: Thing,
    top: usize,
    out: &mut dyn Write,
) -> Answered {
    let mut found = None;
    claim.each_in_order(Which::All, &mut |named, index| {
        if named.thing() == thing {
            found = Some((*named, index));
        }
    });
    let Some((named, index)) = found else {
        return match claim.named(asked) {
            Ok(named) => {
                dump(claim.tracker(), Format::Text, named.start, out)?;
                Ok(next(Some(NextCommand::Path(asked)), out)?)
            }
            Err(why) => refuse(Format::Text, &why, out),
        };
    };
    let leak = LeakView::of(claim, &named, index).numbered(claim, index);
    let rank = leak.rank;
    leak_text(claim, (&leak, index), standing(claim), Stack::Here, out)?;
    if matches!(
        rank,
        Some(Rank::Leader {
            owned_objects: 1..,
            ..
        })
    ) {
        writeln!(out, "  owns:")?;
        let verdict = &claim.verdict().list;
        let is_owned = |_: &Named, at: Option<usize>| {
            let leader = at.map(|at| verdict.leader(at) as usize);
            at != index && leader == index
        };
        list(claim, asked, Which::All, top, &is_owned, out)?;
    }
    Ok(next(Some(NextCommand::Why(asked)), out)?)
}

fn next(next: Option<NextCommand>, out: &mut dyn Write) -> fmt::Result {
    next.map_or(Ok(()), |next| writeln!(out, "{next}"))
}

/// Whether an object of the verdict is shown, by its number in the list.
type IsShown<'w> = dyn Fn(&Named, Option<usize>) -> bool + 'w;

/// How many objects of the verdict these are, and their bytes.
fn tally<P: Platform>(claim: &Claim<'_, P>, wanted: &IsShown<'_>) -> (usize, usize) {
    let (mut objects, mut bytes) = (0, 0);
    claim.each_in_order(Which::All, &mut |named, index| {
        if wanted(named, index) {
            objects += 1;
            bytes += named.size(claim.tracker());
        }
    });
    (objects, bytes)
}

/// Writes these objects, a line each, `top` of them. Returns the handle of the first.
fn list<P: Platform>(
    claim: &Claim<'_, P>,
    asked: ShortHandle,
    which: Which,
    top: usize,
    wanted: &IsShown<'_>,
    out: &mut dyn Write,
) -> Result<Option<ShortHandle>, fmt::Error> {
    let (mut written, mut first) = (Ok(()), None);
    let (mut count, mut rest_bytes) = (0, 0);
    let types = types_of(claim, which, top, wanted);
    claim.each_in_order(which, &mut |named, index| {
        if written.is_err() || !wanted(named, index) {
            return;
        }
        count += 1;
        if count > top {
            rest_bytes += named.size(claim.tracker());
            return;
        }
        let handle = claim.handle_of(named.thing());
        first = first.or(handle);
        if count == 1 {
            let style = Style::of(claim.tracker());
            written = heading(types, &mut style.lines(Ink::Heading, out));
        }
        written = written.and_then(|()| line(claim, named, index, (handle, types), out));
    });
    written?;
    if count > top {
        writeln!(
            out,
            "  ... and {} ({}): kmemleak show {asked} --top {count}",
            Count(count - top, "more object"),
            ByteSum(rest_bytes)
        )?;
    }
    Ok(first)
}

/// Whether the first `top` of these objects have types, of several call stacks: those of one have their type above.
fn types_of<P: Platform>(
    claim: &Claim<'_, P>,
    which: Which,
    top: usize,
    wanted: &IsShown<'_>,
) -> TypeColumn {
    let tracker = claim.tracker();
    let (mut types, mut count, mut last, mut several) = (TypeColumn::NEW, 0, None, false);
    claim.each_in_order(which, &mut |named, index| {
        if count < top && wanted(named, index) {
            count += 1;
            let stack_id = named.record.stack_id();
            several |= last.replace(stack_id).is_some_and(|last| last != stack_id);
            types.look(tracker, tracker.depot().get(stack_id).as_slice());
        }
    });
    match several || which == Which::All {
        true => types,
        false => TypeColumn::NEW,
    }
}

fn heading(types: TypeColumn, out: &mut dyn Write) -> fmt::Result {
    let (handle, address, size) = (Right(5, "#"), "address", Right(9, "bytes"));
    let (owned, age) = (Right(9, "owned"), Right(7, "age"));
    writeln!(
        out,
        "{handle} {address:<18} {size} {owned} {age} {}task",
        types.heading()
    )
}

fn line<P: Platform>(
    claim: &Claim<'_, P>,
    named: &Named,
    index: Option<usize>,
    (handle, types): (Option<ShortHandle>, TypeColumn),
    out: &mut dyn Write,
) -> fmt::Result {
    let (tracker, verdict) = (claim.tracker(), claim.verdict());
    let (style, start) = (Style::of(tracker), named.start);
    let size = size_column(style, Some(named.size(tracker)));
    write!(
        out,
        "{} {start:#018x} {size} ",
        handle_column(style, handle)
    )?;
    let owned = index.map(|index| verdict.list.owned_bytes(index));
    let owned = size_column(style, owned.filter(|&bytes| bytes > 0));
    write!(out, "{owned} ")?;
    let age_us = verdict.at_us.saturating_sub(named.record.birth_us());
    let (comm, pid) = (named.comm(tracker), named.record.task());
    let comm = comm.as_str().escape_debug();
    write!(out, "{} ", Right(7, ShortAge(age_us)))?;
    let frames = tracker.depot().get(named.record.stack_id());
    types.write(tracker, frames.as_slice(), out)?;
    write!(out, "{comm}/{pid}")?;
    match named.is_there(tracker) {
        true => writeln!(out),
        false => writeln!(out, ", freed since"),
    }
}
