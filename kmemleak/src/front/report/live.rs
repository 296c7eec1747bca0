//! Live objects, in a line each, with their addresses.
//!
//! In text they are a table, or lines that say all that is known. Below a call site, which has its call stack, the table does not
//! repeat it.

use core::fmt::{self, Display, Formatter, Write};

use super::Form;
use super::backtrace::EmptyStacks;
use super::block_type::BlockType;
use super::columns::{Left, Right, handle_column, size_column, write_narrow_call_site};
use super::frames::CallSite;
use super::handles::Leading;
use super::json::{OrNull, Quoted, begin, frames_json, handle_json, no_call_stacks_json, string};
use super::style::{Ink, Style};
use super::text::no_call_stacks_text;
use super::type_column::TypeColumn;
use super::words::{Age, Count, ShortAge};
use crate::checker::claim::Claim;
use crate::checker::live::{Colour, LiveObject, ObjectFilter};
use crate::platform::Platform;
use crate::stacks::crc::crc_of;
use crate::tracker::Tracker;
use crate::verdict::handles::ShortHandle;

/// Columns for the function that allocated an object, in a line of all that is known.
const CALL_SITE: usize = 60;
/// The same in the table: with most names, lines stay within 100 columns.
const FUNCTION: usize = 19;
/// Columns for the task.
const TASK: usize = 8;

/// How an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ObjectForm {
    /// A line of the table.
    Row,
    /// The same below the call site that all of them come from.
    RowOfSite,
    /// All that is known.
    Full,
    Json,
}

impl From<Form> for ObjectForm {
    fn from(form: Form) -> Self {
        match form {
            Form::Table => Self::Row,
            Form::Each => Self::Full,
            Form::Json => Self::Json,
        }
    }
}

const fn colour_name(colour: Colour) -> &'static str {
    match colour {
        Colour::Gray => "gray",
        Colour::Black => "black",
    }
}

/// Writes the oldest objects that match, then how many there are.
pub(in crate::front) fn write_objects<P: Platform>(
    claim: &mut Claim<'_, P>,
    form: Form,
    filter: &ObjectFilter,
    out: &mut dyn Write,
) -> fmt::Result {
    write_objects_below(claim, form.into(), filter, EmptyStacks::default(), out)
}

/// Writes the oldest objects that match below their call site; `empty` has noted the call stack of that already.
pub(super) fn write_objects_below<P: Platform>(
    claim: &mut Claim<'_, P>,
    form: ObjectForm,
    filter: &ObjectFilter,
    mut empty: EmptyStacks,
    out: &mut dyn Write,
) -> fmt::Result {
    let tracker = claim.tracker();
    let (mut shown, mut written) = (0, Ok(()));
    let (all, complete) = claim.find_live(filter);
    let mut types = TypeColumn::NEW;
    if form == ObjectForm::Row {
        claim.each_found(&mut |object, _| types.look(tracker, object.call_stack));
    }
    claim.each_found(&mut |object, thing| {
        shown += 1;
        empty.note(object.call_stack);
        if written.is_ok() {
            let handle = claim.handle_of(thing);
            written = match form {
                ObjectForm::Row | ObjectForm::RowOfSite => {
                    let headed = match shown {
                        1 => heading(tracker, form, types, out),
                        _ => Ok(()),
                    };
                    headed.and_then(|()| object_row(tracker, &object, handle, (form, types), out))
                }
                ObjectForm::Full => object_text(tracker, &object, handle, out),
                ObjectForm::Json => object_json(tracker, &object, handle, out),
            };
        }
    });
    written?;
    let _outside = claim.outside();
    let (total, bytes) = (all.objects, all.bytes);
    let no_call_stacks = empty.why(tracker);
    if form == ObjectForm::Json {
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

fn heading<P: Platform>(
    tracker: &Tracker<P>,
    form: ObjectForm,
    types: TypeColumn,
    out: &mut dyn Write,
) -> fmt::Result {
    let mut out = Style::of(tracker).lines(Ink::Heading, out);
    let (handle, address, size) = (Right(5, "#"), "address", Right(9, "bytes"));
    let (age, task) = (Right(7, "age"), "task");
    write!(out, "{handle} {address:<18} {size} {age} ")?;
    match form {
        ObjectForm::RowOfSite => writeln!(out, "{task}"),
        _ => writeln!(
            out,
            "{task:<TASK$} {}{:<FUNCTION$} at",
            types.heading(),
            "allocated by"
        ),
    }
}

fn object_row<P: Platform>(
    tracker: &Tracker<P>,
    object: &LiveObject<'_>,
    handle: Option<ShortHandle>,
    (form, types): (ObjectForm, TypeColumn),
    out: &mut dyn Write,
) -> fmt::Result {
    let style = Style::of(tracker);
    write!(
        out,
        "{} {:#018x} {} {} ",
        handle_column(style, handle),
        object.start,
        size_column(style, Some(object.size)),
        Right(7, ShortAge(object.age_us))
    )?;
    let (comm, pid) = (object.comm.as_str().escape_debug(), object.task);
    let task = format_args!("{comm}/{pid}{}", Notes(object));
    if form == ObjectForm::RowOfSite {
        return writeln!(out, "{task}");
    }
    write!(out, "{} ", Left(TASK, task))?;
    types.write(tracker, object.call_stack, out)?;
    write_narrow_call_site(tracker, object.call_stack, FUNCTION, out)
}

/// What is special about an object, each thing behind a comma.
struct Notes<'o, 'd>(&'o LiveObject<'d>);

impl Display for Notes<'_, '_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(colour) = self.0.colour {
            write!(f, ", {}", colour_name(colour))?;
        }
        match self.0.freed {
            true => f.write_str(", freed since"),
            false => Ok(()),
        }
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
        "  {}{:#018x} (size {}), age {}, comm {:?}, pid {}{}",
        Leading(handle),
        object.start,
        object.size,
        Age(object.age_us),
        object.comm,
        object.task,
        Notes(object)
    )?;
    if let Some(block_type) = BlockType::of(tracker, object.call_stack) {
        let block_type = Style::of(tracker).paint(Ink::Type, block_type);
        write!(out, ", {block_type}")?;
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
