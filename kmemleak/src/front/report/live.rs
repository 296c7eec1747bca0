//! Live objects, in a line each, with their addresses.

use core::fmt::{self, Write};

use super::Format;
use super::backtrace::EmptyStacks;
use super::frames::CallSite;
use super::handles::Leading;
use super::json::{OrNull, Quoted, begin, frames_json, handle_json, no_call_stacks_json, string};
use super::text::no_call_stacks_text;
use super::words::{Age, Count};
use crate::checker::claim::Claim;
use crate::checker::live::{Colour, LiveObject, ObjectFilter};
use crate::platform::Platform;
use crate::stacks::crc::crc_of;
use crate::tracker::Tracker;
use crate::verdict::handles::ShortHandle;

/// Columns for the function that allocated an object.
const CALL_SITE: usize = 60;

const fn colour_name(colour: Colour) -> &'static str {
    match colour {
        Colour::Gray => "gray",
        Colour::Black => "black",
    }
}

/// Writes the oldest objects that match, then how many there are.
pub(in crate::front) fn write_objects<P: Platform>(
    claim: &mut Claim<'_, P>,
    format: Format,
    filter: &ObjectFilter,
    out: &mut dyn Write,
) -> fmt::Result {
    write_objects_below(claim, format, filter, EmptyStacks::default(), out)
}

/// Writes the oldest objects that match below their call site; `empty` has noted the call stack of that already.
pub(super) fn write_objects_below<P: Platform>(
    claim: &mut Claim<'_, P>,
    format: Format,
    filter: &ObjectFilter,
    mut empty: EmptyStacks,
    out: &mut dyn Write,
) -> fmt::Result {
    let tracker = claim.tracker();
    let (mut shown, mut written) = (0, Ok(()));
    let (all, complete) = claim.find_live(filter);
    claim.each_found(&mut |object, thing| {
        shown += 1;
        empty.note(object.call_stack);
        if written.is_ok() {
            let handle = claim.handle_of(thing);
            written = match format {
                Format::Text => object_text(tracker, &object, handle, out),
                Format::Json => object_json(tracker, &object, handle, out),
            };
        }
    });
    written?;
    let _outside = claim.outside();
    let (total, bytes) = (all.objects, all.bytes);
    let no_call_stacks = empty.why(tracker);
    if format == Format::Json {
        begin("live_objects", out)?;
        write!(
            out,
            ",\"shown\":{shown},\"total\":{total},\"bytes\":{bytes},\"complete\":{complete}"
        )?;
        no_call_stacks_json(no_call_stacks, out)?;
        return writeln!(out, "}}");
    }
    no_call_stacks_text(no_call_stacks, out)?;
    if !complete {
        let these = Count(shown, "object");
        writeln!(out, "kmemleak: no memory to list more than {these}")?;
    }
    let of = Count(total, "object");
    write!(out, "kmemleak: {shown} of {of} ({bytes} bytes)")?;
    match total - shown {
        0 => writeln!(out),
        more => writeln!(out, ", {more} more that are younger"),
    }
}

fn object_text<P: Platform>(
    tracker: &Tracker<P>,
    object: &LiveObject<'_>,
    handle: Option<ShortHandle>,
    out: &mut dyn Write,
) -> fmt::Result {
    write!(
        out,
        "  {}{:#018x} (size {}), age {}, comm {:?}, pid {}",
        Leading(handle),
        object.start,
        object.size,
        Age(object.age_us),
        object.comm,
        object.task
    )?;
    if let Some(colour) = object.colour {
        write!(out, ", {}", colour_name(colour))?;
    }
    if object.freed {
        write!(out, ", freed since")?;
    }
    match CallSite::of(tracker, object.call_stack, CALL_SITE) {
        Some(call_site) => {
            let crc = crc_of(object.call_stack);
            write!(out, ", crc {crc:08x}, from {call_site}")?;
        }
        None => write!(out, ", no call stack")?,
    }
    writeln!(out)
}

fn object_json<P: Platform>(
    tracker: &Tracker<P>,
    object: &LiveObject<'_>,
    handle: Option<ShortHandle>,
    out: &mut dyn Write,
) -> fmt::Result {
    begin("live_object", out)?;
    write!(
        out,
        ",\"handle\":{},\"address\":{},\"size\":{},\"birth_us\":{},\"age_us\":{},\"task\":{},\"comm\":",
        handle_json(handle),
        Quoted(object.start),
        object.size,
        object.birth_us,
        object.age_us,
        object.task
    )?;
    string(&object.comm.as_str(), out)?;
    write!(
        out,
        ",\"cpu\":{},\"interrupt\":{},\"colour\":",
        object.cpu, object.interrupt
    )?;
    match object.colour {
        Some(colour) => string(&colour_name(colour), out)?,
        None => write!(out, "{}", OrNull::<u8>(None))?,
    }
    write!(out, ",\"freed\":{}", object.freed)?;
    frames_json(tracker, object.call_stack, out)?;
    writeln!(out, "}}")
}
