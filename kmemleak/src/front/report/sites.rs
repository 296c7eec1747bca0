//! Call sites, and what they have grown by.

use core::fmt::{self, Write};

use super::backtrace::EmptyStacks;
use super::columns::{CALL_SITE, Right, handle_column, size_column, write_call_site};
use super::frames::write_backtrace;
use super::handles::Numbered;
use super::json::{OrNull, begin, frames_json, handle_json, no_call_stacks_json};
use super::live::{ObjectForm, write_objects_below};
use super::style::{Ink, Style};
use super::text::no_call_stacks_text;
use super::type_column::TypeColumn;
use super::words::{Count, SizeChange};
use super::{Because, Form, Format, refuse};
use crate::checker::claim::Claim;
use crate::checker::live::ObjectFilter;
use crate::front::outcome::Answered;
use crate::platform::Platform;
use crate::stacks::crc::crc_of;
use crate::tracker::Tracker;
use crate::verdict::call_sites::{Sampled, Site, SiteOrder};
use crate::verdict::handles::{ShortHandle, Thing};
use crate::verdict::history::Trend;

const NO_MEMORY: &str = "kmemleak: no memory to count all call sites";

/// What an order is called, as `--by` takes it.
pub(super) const fn order_name(order: SiteOrder) -> &'static str {
    match order {
        SiteOrder::Bytes => "bytes",
        SiteOrder::Growth => "growth",
        SiteOrder::Count => "count",
    }
}

/// What a trend is called.
const fn trend_name(trend: Trend) -> &'static str {
    match trend {
        Trend::Steady => "steady",
        Trend::Step => "step",
    }
}

/// Writes the first call sites of an order, `top` of them.
pub(in crate::front) fn write_sites<P: Platform>(
    claim: &mut Claim<'_, P>,
    form: Form,
    order: SiteOrder,
    top: usize,
    out: &mut dyn Write,
) -> fmt::Result {
    let (_outside, tracker) = (claim.outside(), claim.tracker());
    let (mut count, mut empty, mut written) = (0, EmptyStacks::default(), Ok(()));
    let all = claim.find_sites(order);
    let (mut types, mut lines) = (TypeColumn::NEW, 0);
    claim.each_site(&mut |site, _| {
        lines += 1;
        if form == Form::Table && lines <= top {
            types.look(tracker, site.call_stack);
        }
    });
    claim.each_site(&mut |site, stack_id| {
        count += 1;
        if written.is_ok() && count <= top {
            empty.note(site.call_stack);
            let handle = claim.handle_of(Thing::Group(stack_id));
            if form == Form::Table && count == 1 {
                let style = Style::of(tracker);
                written = heading(&site, types, &mut style.lines(Ink::Heading, out));
            }
            written = written.and_then(|()| match form {
                Form::Table => row(tracker, &site, handle, types, out),
                Form::Each => site_text(tracker, &site, handle, out),
                Form::Json => site_json(tracker, &site, handle, out),
            });
        }
    });
    written?;
    let (shown, by) = (count.min(top), order_name(order));
    let no_call_stacks = empty.why(tracker);
    match form {
        Form::Table | Form::Each => {
            no_call_stacks_text(no_call_stacks, out)?;
            if !all {
                writeln!(out, "{NO_MEMORY}")?;
            }
            sampled_text(claim.sampled(), out)?;
            let of = Count(count, "call site");
            writeln!(out, "kmemleak: {shown} of {of}, by {by}")
        }
        Form::Json => {
            begin("sites", out)?;
            write!(
                out,
                ",\"shown\":{shown},\"total\":{count},\"by\":\"{by}\",\"complete\":{all}"
            )?;
            sampled_json(claim.sampled(), out)?;
            no_call_stacks_json(no_call_stacks, out)?;
            writeln!(out, "}}")
        }
    }
}

/// Says that call sites are estimated, and from what.
fn sampled_text(sampled: Option<Sampled>, out: &mut dyn Write) -> fmt::Result {
    let Some(sampled) = sampled else {
        return Ok(());
    };
    writeln!(
        out,
        "kmemleak: estimated from a sample, one for each {} bytes: {} ({} bytes) with a call stack for {} ({} bytes) without",
        sampled.every,
        Count(sampled.objects, "object"),
        sampled.bytes,
        Count(sampled.other_objects, "object"),
        sampled.other_bytes
    )
}

fn sampled_json(sampled: Option<Sampled>, out: &mut dyn Write) -> fmt::Result {
    let Some(sampled) = sampled else {
        return write!(out, ",\"sample\":null");
    };
    write!(
        out,
        ",\"sample\":{{\"every\":{},\"objects\":{},\"bytes\":{},\"other_objects\":{},\"other_bytes\":{}}}",
        sampled.every, sampled.objects, sampled.bytes, sampled.other_objects, sampled.other_bytes
    )
}

/// Writes the call site with this checksum, then its objects.
pub(in crate::front) fn write_site<P: Platform>(
    claim: &mut Claim<'_, P>,
    format: Format,
    crc: u32,
    filter: &ObjectFilter,
    out: &mut dyn Write,
) -> Answered {
    let (outside, tracker) = (claim.outside(), claim.tracker());
    let (mut count, mut empty, mut written) = (0, EmptyStacks::default(), Ok(()));
    let all = claim.find_sites(SiteOrder::Bytes);
    claim.each_site(&mut |site, stack_id| {
        if crc_of(site.call_stack) == crc {
            count += 1;
            empty.note(site.call_stack);
            if written.is_ok() {
                let handle = claim.handle_of(Thing::Group(stack_id));
                written = write_one(tracker, format, &site, handle, out);
            }
        }
    });
    written?;
    if count == 0 && all {
        let nothing =
            format_args!("no call site {crc:08x} has live objects, or had any at the mark");
        return refuse(format, &Because("no_site", nothing), out);
    }
    if !all && format == Format::Text {
        writeln!(out, "{NO_MEMORY}")?;
    }
    if format == Format::Text {
        sampled_text(claim.sampled(), out)?;
    }
    drop(outside);
    let form = match format {
        Format::Text => ObjectForm::RowOfSite,
        Format::Json => ObjectForm::Json,
    };
    write_objects_below(claim, form, filter, empty, out)?;
    Ok(())
}

fn write_one<P: Platform>(
    tracker: &Tracker<P>,
    format: Format,
    site: &Site<'_>,
    handle: Option<ShortHandle>,
    out: &mut dyn Write,
) -> fmt::Result {
    match format {
        Format::Text => site_text(tracker, site, handle, out),
        Format::Json => site_json(tracker, site, handle, out),
    }
}

/// The first line of a table: there is growth in all lines or in none.
fn heading(site: &Site<'_>, types: TypeColumn, out: &mut dyn Write) -> fmt::Result {
    let (handle, objects, bytes) = (Right(5, "#"), Right(8, "count"), Right(9, "bytes"));
    write!(out, "{handle} {objects} {bytes} ")?;
    if site.growth.is_some() {
        let (bytes, objects) = (Right(10, "growth"), Right(8, "objects"));
        write!(out, "{bytes} {objects} {:6} ", "trend")?;
    }
    writeln!(out, "{}{CALL_SITE}", types.heading())
}

/// A call site as a line of a table.
fn row<P: Platform>(
    tracker: &Tracker<P>,
    site: &Site<'_>,
    handle: Option<ShortHandle>,
    types: TypeColumn,
    out: &mut dyn Write,
) -> fmt::Result {
    let style = Style::of(tracker);
    let (handle, objects) = (handle_column(style, handle), Right(8, site.objects));
    let bytes = size_column(style, Some(site.bytes));
    write!(out, "{handle} {objects} {bytes} ")?;
    if let Some(growth) = site.growth {
        let bytes = style.paint(Ink::Size, Right(10, SizeChange(growth.bytes)));
        let trend = site.trend.map_or("-", trend_name);
        write!(out, "{bytes} {:+8} {trend:6} ", growth.objects)?;
    }
    types.write(tracker, site.call_stack, out)?;
    write_call_site(tracker, site.call_stack, out)
}

fn site_text<P: Platform>(
    tracker: &Tracker<P>,
    site: &Site<'_>,
    handle: Option<ShortHandle>,
    out: &mut dyn Write,
) -> fmt::Result {
    write!(
        out,
        "{} bytes in {}",
        site.bytes,
        Count(site.objects, "object")
    )?;
    if let Some(growth) = site.growth {
        write!(
            out,
            ", grown by {:+} bytes ({:+})",
            growth.bytes, growth.objects
        )?;
    }
    if let Some(trend) = site.trend {
        write!(out, ", {}", trend_name(trend))?;
    }
    writeln!(out, "{}:", Numbered(handle))?;
    if let marks @ 2.. = site.history.len() {
        write!(out, "  bytes at the last {marks} marks: ")?;
        let mut history = site.history.iter();
        history.try_for_each(|bytes| write!(out, "{bytes}, "))?;
        writeln!(out, "now {}", site.bytes)?;
    }
    write_backtrace(tracker, site.call_stack, out)
}

fn site_json<P: Platform>(
    tracker: &Tracker<P>,
    site: &Site<'_>,
    handle: Option<ShortHandle>,
    out: &mut dyn Write,
) -> fmt::Result {
    begin("site", out)?;
    write!(
        out,
        ",\"handle\":{},\"bytes\":{},\"objects\":{},\"growth_bytes\":{},\"growth_objects\":{}",
        handle_json(handle),
        site.bytes,
        site.objects,
        OrNull(site.growth.map(|growth| growth.bytes)),
        OrNull(site.growth.map(|growth| growth.objects))
    )?;
    write!(out, ",\"history\":[")?;
    for (place, bytes) in site.history.iter().enumerate() {
        let comma = if place > 0 { "," } else { "" };
        write!(out, "{comma}{bytes}")?;
    }
    write!(out, "],\"trend\":")?;
    match site.trend {
        Some(trend) => write!(out, "\"{}\"", trend_name(trend))?,
        None => write!(out, "null")?,
    }
    frames_json(tracker, site.call_stack, out)?;
    writeln!(out, "}}")
}
