//! What interior pointers alone keep alive.
//!
//! The objects to look at are those to which such a pointer leads first-hand, since it may be a number that is no pointer. So a
//! table shows the call sites of these objects, and what they lead to is only counted. Of a hash table with fifty boxes, the
//! memory of the table is shown, since hashbrown points to the middle of it, and the boxes are counted.

use core::fmt::{self, Write};

use super::backtrace::EmptyStacks;
use super::columns::{CALL_SITE, Right, handle_column, size_column, write_call_site};
use super::frames::write_backtrace;
use super::handles::OrDash;
use super::json::{Quoted, begin, frames_json, handle_json, named_json, no_call_stacks_json};
use super::style::{Ink, Style};
use super::text::no_call_stacks_text;
use super::type_column::TypeColumn;
use super::view::named_at;
use super::words::{ByteSum, Count, ShortAge};
use super::{Answered, Form, NO_CHECK, refuse};
use crate::checker::claim::Claim;
use crate::checker::tallies::{FromPlace, Whence};
use crate::metadata::page::NoMemory;
use crate::platform::Platform;
use crate::tracker::Tracker;
use crate::tracker::call_stack::NoCallStack;
use crate::verdict::iter::{InteriorOnly, each_interior};

/// Objects, and their bytes.
#[derive(Clone, Copy, Default)]
struct Amount {
    objects: usize,
    bytes: usize,
}

impl Amount {
    fn add(&mut self, object: &InteriorOnly) {
        self.objects += 1;
        self.bytes += object.size;
    }
}

/// `N objects (B bytes)`.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({})",
            Count(self.objects, "object"),
            ByteSum(self.bytes)
        )
    }
}

/// All of them.
#[derive(Clone, Copy, Default)]
struct InteriorSums {
    first_hand: Amount,
    behind: Amount,
}

impl InteriorSums {
    fn add(&mut self, object: &InteriorOnly) {
        match object.first_hand {
            true => self.first_hand.add(object),
            false => self.behind.add(object),
        }
    }
}

/// Lines of a table by default.
const TOP: usize = 20;

/// Writes what is alive through interior pointers only. A table has a line for each call site of what is held so first-hand, `top`
/// of them.
pub(in crate::front) fn write_interior<P: Platform>(
    claim: &mut Claim<'_, P>,
    form: Form,
    top: Option<usize>,
    out: &mut dyn Write,
) -> Answered {
    let marked = claim.finish_marks();
    let _outside = claim.outside();
    if claim.verdict().summary.get().is_none() {
        return refuse(form.format(), &NO_CHECK, out);
    }
    if let Err(why) = marked {
        return refuse(form.format(), &why, out);
    }
    if form == Form::Table && group(claim).is_err() {
        writeln!(
            out,
            "kmemleak: no memory to group the objects by call stack"
        )?;
        return each(claim, Form::Each, out);
    }
    match form {
        Form::Table => table(claim, top.unwrap_or(TOP), out),
        Form::Each | Form::Json => each(claim, form, out),
    }
}

/// Counts by call site the objects to which an interior pointer leads first-hand.
fn group<P: Platform>(claim: &mut Claim<'_, P>) -> Result<(), NoMemory> {
    let (tracker, mut counted) = (claim.tracker(), Ok(()));
    claim.clear_tallies();
    each_interior(tracker, &mut |named, object| {
        if !object.first_hand || counted.is_err() {
            return;
        }
        let whence = Whence::CallSite(named.record.stack_id());
        counted = claim
            .tally(whence)
            .map(|place| place.add(named, object.size));
    });
    counted
}

fn table<P: Platform>(claim: &Claim<'_, P>, top: usize, out: &mut dyn Write) -> Answered {
    let tracker = claim.tracker();
    let (places, mut empty) = (claim.tallies(), EmptyStacks::default());
    let mut types = TypeColumn::NEW;
    for (whence, _) in places.in_order().take(top) {
        if let Whence::CallSite(stack_id) = whence {
            types.look(tracker, tracker.depot().get(stack_id).as_slice());
        }
    }
    for (line, (whence, place)) in places.in_order().take(top).enumerate() {
        let Whence::CallSite(stack_id) = whence else {
            continue;
        };
        if line == 0 {
            heading(types, &mut Style::of(tracker).lines(Ink::Heading, out))?;
        }
        columns(claim, place, out)?;
        let frames = tracker.depot().get(stack_id);
        empty.note(frames.as_slice());
        types.write(tracker, frames.as_slice(), out)?;
        write_call_site(tracker, frames.as_slice(), out)?;
    }
    if let more @ 1.. = places.len().saturating_sub(top) {
        let (more, all) = (Count(more, "more call site"), places.len());
        writeln!(out, "  ... and {more}: kmemleak interior --top {all}")?;
    }
    let mut sums = InteriorSums::default();
    each_interior(tracker, &mut |_, object| sums.add(&object));
    no_call_stacks_text(empty.why(tracker), out)?;
    sums_text(&sums, out)?;
    Ok(())
}

fn heading(types: TypeColumn, out: &mut dyn Write) -> fmt::Result {
    let (handle, objects, bytes) = (Right(5, "#"), Right(8, "count"), Right(9, "bytes"));
    let age = Right(7, "oldest");
    writeln!(
        out,
        "{handle} {objects} {bytes} {age} {}{CALL_SITE}",
        types.heading()
    )
}

/// How many objects come from one place, with a handle for the oldest of them, their bytes, and its age.
fn columns<P: Platform>(
    claim: &Claim<'_, P>,
    place: &FromPlace,
    out: &mut dyn Write,
) -> fmt::Result {
    let style = Style::of(claim.tracker());
    let handle = handle_column(style, claim.handle_of_place(place));
    let (objects, bytes) = (
        Right(8, place.objects),
        size_column(style, Some(place.bytes)),
    );
    let at_us = claim.verdict().at_us;
    let age = |(_, birth_us)| ShortAge(at_us.saturating_sub(birth_us));
    let age = Right(7, OrDash(place.oldest.map(age)));
    write!(out, "{handle} {objects} {bytes} {age} ")
}

fn each<P: Platform>(claim: &Claim<'_, P>, form: Form, out: &mut dyn Write) -> Answered {
    let tracker = claim.tracker();
    let (mut sums, mut empty, mut written) =
        (InteriorSums::default(), EmptyStacks::default(), Ok(()));
    each_interior(tracker, &mut |_, object| {
        sums.add(&object);
        if written.is_ok() {
            written = match form {
                Form::Table | Form::Each => object_text(tracker, &object, &mut empty, out),
                Form::Json => object_json(claim, &object, &mut empty, out),
            };
        }
    });
    written?;
    let no_call_stacks = empty.why(tracker);
    if form == Form::Json {
        sums_json(&sums, no_call_stacks, out)?;
        return Ok(());
    }
    no_call_stacks_text(no_call_stacks, out)?;
    sums_text(&sums, out)?;
    Ok(())
}

fn object_text<P: Platform>(
    tracker: &Tracker<P>,
    object: &InteriorOnly,
    empty: &mut EmptyStacks,
    out: &mut dyn Write,
) -> fmt::Result {
    let behind = match object.first_hand {
        true => "",
        false => ", behind another",
    };
    writeln!(
        out,
        "object {:#018x} (size {}){behind}:",
        object.start, object.size
    )?;
    match named_at(tracker, object.start) {
        Some(named) => {
            let frames = tracker.depot().get(named.record.stack_id());
            empty.note(frames.as_slice());
            write_backtrace(tracker, frames.as_slice(), out)
        }
        None => writeln!(out, "  freed since"),
    }
}

fn sums_text(sums: &InteriorSums, out: &mut dyn Write) -> fmt::Result {
    let first_hand = sums.first_hand;
    write!(
        out,
        "kmemleak: {first_hand} alive through interior pointers only"
    )?;
    match sums.behind.objects {
        0 => writeln!(out),
        _ => writeln!(out, ", and {} behind them", sums.behind),
    }
}

fn object_json<P: Platform>(
    claim: &Claim<'_, P>,
    object: &InteriorOnly,
    empty: &mut EmptyStacks,
    out: &mut dyn Write,
) -> fmt::Result {
    let tracker = claim.tracker();
    begin("interior", out)?;
    match named_at(tracker, object.start) {
        Some(named) => {
            let handle = handle_json(claim.handle_of(named.thing()));
            write!(out, ",\"handle\":{handle}")?;
            named_json(tracker, &named, object.size, out)?;
            let frames = tracker.depot().get(named.record.stack_id());
            empty.note(frames.as_slice());
            frames_json(tracker, frames.as_slice(), out)?;
        }
        None => write!(
            out,
            ",\"handle\":null,\"address\":{},\"size\":{},\"birth_us\":{},\"task\":null,\"comm\":null,\"cpu\":null,\"interrupt\":null,\"type\":null,\"crc\":null,\"skipped\":null,\"backtrace\":null",
            Quoted(object.start),
            object.size,
            object.birth_us
        )?,
    }
    writeln!(out, ",\"first_hand\":{}}}", object.first_hand)
}

fn sums_json(
    sums: &InteriorSums,
    no_call_stacks: Option<NoCallStack>,
    out: &mut dyn Write,
) -> fmt::Result {
    let InteriorSums { first_hand, behind } = sums;
    begin("interiors", out)?;
    write!(
        out,
        ",\"objects\":{},\"bytes\":{},\"first_hand_objects\":{},\"first_hand_bytes\":{}",
        first_hand.objects + behind.objects,
        first_hand.bytes + behind.bytes,
        first_hand.objects,
        first_hand.bytes
    )?;
    no_call_stacks_json(no_call_stacks, out)?;
    writeln!(out, "}}")
}
