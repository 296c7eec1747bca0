//! What only words of stacks keep alive: a line for each object that such a word points to, and below it the word, in whose frame it
//! lies. What hangs from these objects is only counted.

use core::fmt::{self, Write};

use super::backtrace::EmptyStacks;
use super::columns::{Right, handle_column, size_column, write_narrow_call_site};
use super::frames::write_backtrace;
use super::json::{Escaped, Quoted, begin, frames_json, handle_json, named_json, string};
use super::json::{OrNull, no_call_stacks_json};
use super::refusal::Refusal;
use super::style::{Ink, Style};
use super::text::no_call_stacks_text;
use super::type_column::TypeColumn;
use super::words::{ByteSum, Count, Plain, ShortAge};
use super::{Answered, Form, refuse};
use crate::checker::claim::Claim;
use crate::checker::references::{Slot, SlotPlace};
use crate::checker::stack_only::{NoStackOnly, StackOnly, StackOnlySums};
use crate::platform::Platform;
use crate::tracker::Tracker;
use crate::verdict::leak_list::Named;

/// Lines of a table by default.
const TOP: usize = 20;
/// Columns for the function that allocated an object: with most names, lines stay within 100 columns.
const FUNCTION: usize = 28;

impl Refusal for NoStackOnly {
    fn code(&self) -> &'static str {
        match self {
            Self::NotDone(why) => why.code(),
            Self::Unstopped(_) => "unstopped",
        }
    }
}

/// Writes what is alive through words of stacks only: `top` lines of a table, or all objects.
pub(in crate::front) fn write_stack_only<P: Platform>(
    claim: &mut Claim<'_, P>,
    form: Form,
    top: Option<usize>,
    out: &mut dyn Write,
) -> Answered {
    let found = claim.find_stack_only();
    let _outside = claim.outside();
    let sums = match found {
        Ok(sums) => sums,
        Err(why) => return refuse(form.format(), &why, out),
    };
    let tracker = claim.tracker();
    let mut empty = EmptyStacks::default();
    match form {
        Form::Table => table(claim, &sums, top.unwrap_or(TOP), &mut empty, out)?,
        Form::Each | Form::Json => each(claim, form, &mut empty, out)?,
    }
    if form == Form::Json {
        return Ok(sums_json(&sums, &empty, tracker, out)?);
    }
    no_call_stacks_text(empty.why(tracker), out)?;
    Ok(sums_text(tracker, &sums, out)?)
}

fn table<P: Platform>(
    claim: &Claim<'_, P>,
    sums: &StackOnlySums,
    top: usize,
    empty: &mut EmptyStacks,
    out: &mut dyn Write,
) -> fmt::Result {
    let tracker = claim.tracker();
    let (mut types, mut looked) = (TypeColumn::NEW, 0);
    claim.each_stack_only(&mut |named, _| {
        looked += 1;
        if looked <= top {
            let frames = tracker.depot().get(named.record.stack_id());
            types.look(tracker, frames.as_slice());
        }
    });
    let (mut shown, mut written) = (0, Ok(()));
    claim.each_stack_only(&mut |named, object| {
        if shown == top || written.is_err() {
            return;
        }
        if shown == 0 {
            written = heading(types, &mut Style::of(tracker).lines(Ink::Heading, out));
        }
        shown += 1;
        let frames = tracker.depot().get(named.record.stack_id());
        empty.note(frames.as_slice());
        if written.is_ok() {
            written = row(claim, named, object, types, out);
        }
    });
    written?;
    match sums.objects.saturating_sub(shown) {
        0 => Ok(()),
        more => writeln!(
            out,
            "  ... and {}: kmemleak stack-only --top {}",
            Count(more, "more object"),
            sums.objects
        ),
    }
}

fn heading(types: TypeColumn, out: &mut dyn Write) -> fmt::Result {
    let (handle, address, size) = (Right(5, "#"), "address", Right(9, "bytes"));
    let (age, types) = (Right(7, "age"), types.heading());
    writeln!(
        out,
        "{handle} {address:<18} {size} {age} {types}{:<FUNCTION$} at",
        "allocated by"
    )
}

fn row<P: Platform>(
    claim: &Claim<'_, P>,
    named: &Named,
    object: &StackOnly,
    types: TypeColumn,
    out: &mut dyn Write,
) -> fmt::Result {
    let tracker = claim.tracker();
    let style = Style::of(tracker);
    let age_us = tracker.now_us().saturating_sub(named.record.birth_us());
    write!(
        out,
        "{} {:#018x} {} {} ",
        handle_column(style, claim.handle_of(named.thing())),
        object.start,
        size_column(style, Some(object.size)),
        Right(7, ShortAge(age_us))
    )?;
    let frames = tracker.depot().get(named.record.stack_id());
    types.write(tracker, frames.as_slice(), out)?;
    write_narrow_call_site(tracker, frames.as_slice(), FUNCTION, out)?;
    held_by(tracker, object.held_by, out)
}

/// The word that holds an object, and in whose frame it lies, as the platform names it.
fn held_by<P: Platform>(tracker: &Tracker<P>, slot: Slot, out: &mut dyn Write) -> fmt::Result {
    write!(out, "      held by {:#018x}: ", slot.address)?;
    if let SlotPlace::Root(root) = slot.place {
        let platform = tracker.platform();
        platform.name_root(root, slot.address, &mut Plain(out))?;
    }
    writeln!(out)
}

fn each<P: Platform>(
    claim: &Claim<'_, P>,
    form: Form,
    empty: &mut EmptyStacks,
    out: &mut dyn Write,
) -> fmt::Result {
    let (tracker, mut written) = (claim.tracker(), Ok(()));
    claim.each_stack_only(&mut |named, object| {
        let frames = tracker.depot().get(named.record.stack_id());
        empty.note(frames.as_slice());
        if written.is_ok() {
            written = match form {
                Form::Table | Form::Each => object_text(tracker, named, object, out),
                Form::Json => object_json(claim, named, object, out),
            };
        }
    });
    written
}

fn object_text<P: Platform>(
    tracker: &Tracker<P>,
    named: &Named,
    object: &StackOnly,
    out: &mut dyn Write,
) -> fmt::Result {
    writeln!(out, "object {:#018x} (size {}):", object.start, object.size)?;
    held_by(tracker, object.held_by, out)?;
    let frames = tracker.depot().get(named.record.stack_id());
    write_backtrace(tracker, frames.as_slice(), out)
}

fn sums_text<P: Platform>(
    tracker: &Tracker<P>,
    sums: &StackOnlySums,
    out: &mut dyn Write,
) -> fmt::Result {
    if let Some(doubt) = &sums.doubt {
        let doubt = format_args!("kmemleak: {doubt}: other words may hold some of these");
        let style = Style::of(tracker);
        writeln!(out, "{}", style.paint(Ink::Warning, doubt))?;
    }
    if !sums.complete {
        writeln!(
            out,
            "kmemleak: no memory to list all: some are counted as behind these"
        )?;
    }
    let (objects, bytes) = (Count(sums.objects, "object"), ByteSum(sums.bytes));
    write!(
        out,
        "kmemleak: {objects} ({bytes}) alive through stack words only"
    )?;
    match sums.behind_objects {
        0 => writeln!(out),
        behind => writeln!(
            out,
            ", and {} ({}) behind them",
            Count(behind, "object"),
            ByteSum(sums.behind_bytes)
        ),
    }
}

fn object_json<P: Platform>(
    claim: &Claim<'_, P>,
    named: &Named,
    object: &StackOnly,
    out: &mut dyn Write,
) -> fmt::Result {
    let tracker = claim.tracker();
    begin("stack_only", out)?;
    let handle = handle_json(claim.handle_of(named.thing()));
    write!(out, ",\"handle\":{handle}")?;
    named_json(tracker, named, object.size, out)?;
    let frames = tracker.depot().get(named.record.stack_id());
    frames_json(tracker, frames.as_slice(), out)?;
    let slot = object.held_by;
    write!(out, ",\"slot\":{},\"root\":\"", Quoted(slot.address))?;
    if let SlotPlace::Root(root) = slot.place {
        let platform = tracker.platform();
        platform.name_root(root, slot.address, &mut Escaped(out))?;
    }
    writeln!(out, "\"}}")
}

fn sums_json<P: Platform>(
    sums: &StackOnlySums,
    empty: &EmptyStacks,
    tracker: &Tracker<P>,
    out: &mut dyn Write,
) -> fmt::Result {
    begin("stack_only_sums", out)?;
    write!(
        out,
        ",\"objects\":{},\"bytes\":{},\"behind_objects\":{},\"behind_bytes\":{},\"complete\":{},\"stopped_us\":{},\"doubt\":",
        sums.objects,
        sums.bytes,
        sums.behind_objects,
        sums.behind_bytes,
        sums.complete,
        sums.stopped_us
    )?;
    match &sums.doubt {
        Some(doubt) => string(doubt, out)?,
        None => write!(out, "{}", OrNull::<u8>(None))?,
    }
    no_call_stacks_json(empty.why(tracker), out)?;
    writeln!(out, "}}")
}
