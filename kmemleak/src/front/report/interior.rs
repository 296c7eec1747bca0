//! What interior pointers alone keep alive.
//!
//! What such a pointer holds first-hand is to be looked at: the pointer may be a number that is none. What these objects lead to
//! is only counted in text: of a hash table with fifty boxes the table is shown, since hashbrown points to the middle of it, and
//! not the boxes.

use core::fmt::{self, Write};

use super::backtrace::EmptyStacks;
use super::frames::write_frames;
use super::json::{Quoted, begin, frames_json, handle_json, named_json, no_call_stacks_json};
use super::text::no_call_stacks_text;
use super::view::named_at;
use super::words::Count;
use super::{Answered, Format, NO_CHECK, refuse};
use crate::checker::claim::Claim;
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
            "{} ({} bytes)",
            Count(self.objects, "object"),
            self.bytes
        )
    }
}

/// All of them.
#[derive(Clone, Copy, Default)]
struct Sums {
    first_hand: Amount,
    behind: Amount,
}

impl Sums {
    fn add(&mut self, object: &InteriorOnly) {
        match object.first_hand {
            true => self.first_hand.add(object),
            false => self.behind.add(object),
        }
    }
}

/// Writes what is alive through interior pointers only: text leaves out what is not so first-hand.
pub(in crate::front) fn write_interior<P: Platform>(
    claim: &Claim<'_, P>,
    format: Format,
    out: &mut dyn Write,
) -> Answered {
    let (_outside, tracker) = (claim.outside(), claim.tracker());
    if claim.verdict().summary.get().is_none() {
        return refuse(format, &NO_CHECK, out);
    }
    let (mut sums, mut empty, mut written) = (Sums::default(), EmptyStacks::default(), Ok(()));
    each_interior(tracker, &mut |object| {
        sums.add(&object);
        if written.is_ok() {
            written = match format {
                Format::Text if !object.first_hand => Ok(()),
                Format::Text => object_text(tracker, &object, &mut empty, out),
                Format::Json => object_json(claim, &object, &mut empty, out),
            };
        }
    });
    written?;
    let no_call_stacks = empty.why(tracker);
    match format {
        Format::Text => {
            no_call_stacks_text(no_call_stacks, out)?;
            sums_text(&sums, out)?;
        }
        Format::Json => sums_json(&sums, no_call_stacks, out)?,
    }
    Ok(())
}

fn object_text<P: Platform>(
    tracker: &Tracker<P>,
    object: &InteriorOnly,
    empty: &mut EmptyStacks,
    out: &mut dyn Write,
) -> fmt::Result {
    writeln!(out, "object {:#018x} (size {}):", object.start, object.size)?;
    match named_at(tracker, object.start) {
        Some(named) => {
            let frames = tracker.depot().get(named.record.stack_id());
            empty.note(frames.as_slice());
            write_frames(tracker, "backtrace", &frames, out)
        }
        None => writeln!(out, "  freed since"),
    }
}

fn sums_text(sums: &Sums, out: &mut dyn Write) -> fmt::Result {
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
            ",\"handle\":null,\"address\":{},\"size\":{},\"birth_us\":{},\"task\":null,\"comm\":null,\"cpu\":null,\"interrupt\":null,\"crc\":null,\"skipped\":null,\"backtrace\":null",
            Quoted(object.start),
            object.size,
            object.birth_us
        )?,
    }
    writeln!(out, ",\"first_hand\":{}}}", object.first_hand)
}

fn sums_json(sums: &Sums, no_call_stacks: Option<NoCallStack>, out: &mut dyn Write) -> fmt::Result {
    let Sums { first_hand, behind } = sums;
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
