//! Types, with what is alive of each, and what that has grown by since the mark.
//!
//! Types are what call sites allocate ([`block_type`](super::block_type)), so one question names the functions of all call
//! stacks once. What has no known type is a line of its own, so that the lines are all that is alive.

use core::fmt::{self, Write};

use super::block_type::BlockType;
use super::columns::{Right, handle_column, size_column};
use super::json::{OrNull, begin, handle_json, string};
use super::sites::order_name;
use super::style::{Ink, Style};
use super::text_sum::text_sum;
use super::words::{Count, SizeChange};
use super::{Format, refuse};
use crate::checker::claim::{Claim, NotDone};
use crate::front::outcome::Answered;
use crate::platform::Platform;
use crate::tracker::Tracker;
use crate::verdict::call_sites::SiteOrder;
use crate::verdict::handles::{ShortHandle, Thing};
use crate::verdict::type_sums::{TypeKey, TypeSum};

/// Writes the first types of an order, `top` of them.
pub(in crate::front) fn write_types<P: Platform>(
    claim: &mut Claim<'_, P>,
    format: Format,
    order: SiteOrder,
    top: usize,
    out: &mut dyn Write,
) -> Answered {
    let (_outside, tracker) = (claim.outside(), claim.tracker());
    let all = claim.find_sites(order);
    let summed = claim.sum_types(order, &mut |call_stack| key_of(tracker, call_stack));
    if !all || summed.is_err() {
        return refuse(format, &NotDone::NoMemory, out);
    }
    let mut sums = Sums::default();
    for (number, (key, sum)) in claim.types().in_order().enumerate() {
        sums.add(key, sum);
        if number >= top {
            continue;
        }
        let group = sum.first.map(Thing::Group);
        let handle = group.and_then(|group| claim.handle_of(group));
        match format {
            Format::Text => {
                if number == 0 {
                    heading(sum, &mut Style::of(tracker).lines(Ink::Heading, out))?;
                }
                row(tracker, sum, handle, out)?;
            }
            Format::Json => type_json(tracker, sum, handle, out)?,
        }
    }
    let shown = claim.types().len().min(top);
    end(format, shown, &sums, order, out)?;
    Ok(())
}

/// What tells the type of a call stack from others.
fn key_of<P: Platform>(tracker: &Tracker<P>, call_stack: &[usize]) -> TypeKey {
    let Some(block_type) = BlockType::of(tracker, call_stack) else {
        return TypeKey::UNKNOWN;
    };
    TypeKey(text_sum(|out| write!(out, "{block_type}")))
}

/// The type whose sum this is.
fn type_of<P: Platform>(tracker: &Tracker<P>, sum: &TypeSum) -> Option<BlockType> {
    BlockType::of(tracker, tracker.depot().get(sum.first?).as_slice())
}

fn heading(sum: &TypeSum, out: &mut dyn Write) -> fmt::Result {
    let (handle, objects, bytes) = (Right(5, "#"), Right(8, "count"), Right(9, "bytes"));
    write!(out, "{handle} {objects} {bytes} ")?;
    if sum.growth.is_some() {
        let (bytes, objects) = (Right(10, "growth"), Right(8, "objects"));
        write!(out, "{bytes} {objects} ")?;
    }
    writeln!(out, "{} type", Right(6, "sites"))
}

fn row<P: Platform>(
    tracker: &Tracker<P>,
    sum: &TypeSum,
    handle: Option<ShortHandle>,
    out: &mut dyn Write,
) -> fmt::Result {
    let style = Style::of(tracker);
    let (handle, objects) = (handle_column(style, handle), Right(8, sum.objects));
    let bytes = size_column(style, Some(sum.bytes));
    write!(out, "{handle} {objects} {bytes} ")?;
    if let Some(growth) = sum.growth {
        let bytes = style.paint(Ink::Size, Right(10, SizeChange(growth.bytes)));
        write!(out, "{bytes} {:+8} ", growth.objects)?;
    }
    write!(out, "{} ", Right(6, sum.sites))?;
    match type_of(tracker, sum) {
        Some(block_type) => writeln!(out, "{}", style.paint(Ink::Type, block_type)),
        None => writeln!(out, "(no type)"),
    }
}

fn type_json<P: Platform>(
    tracker: &Tracker<P>,
    sum: &TypeSum,
    handle: Option<ShortHandle>,
    out: &mut dyn Write,
) -> fmt::Result {
    begin("type", out)?;
    write!(out, ",\"handle\":{},\"type\":", handle_json(handle))?;
    match type_of(tracker, sum) {
        Some(block_type) => string(&block_type, out)?,
        None => write!(out, "null")?,
    }
    writeln!(
        out,
        ",\"sites\":{},\"bytes\":{},\"objects\":{},\"growth_bytes\":{},\"growth_objects\":{}}}",
        sum.sites,
        sum.bytes,
        sum.objects,
        OrNull(sum.growth.map(|growth| growth.bytes)),
        OrNull(sum.growth.map(|growth| growth.objects))
    )
}

/// How many types there are, and how much has one.
#[derive(Default)]
struct Sums {
    types: usize,
    objects: usize,
    typed_objects: usize,
}

impl Sums {
    fn add(&mut self, key: TypeKey, sum: &TypeSum) {
        self.objects += sum.objects;
        if key != TypeKey::UNKNOWN {
            self.types += 1;
            self.typed_objects += sum.objects;
        }
    }
}

fn end(
    format: Format,
    shown: usize,
    sums: &Sums,
    order: SiteOrder,
    out: &mut dyn Write,
) -> fmt::Result {
    let (typed, objects, by) = (sums.typed_objects, sums.objects, order_name(order));
    match format {
        Format::Text => writeln!(
            out,
            "kmemleak: {}, by {by}; {typed} of {} have one",
            Count(sums.types, "type"),
            Count(objects, "object")
        ),
        Format::Json => {
            begin("types", out)?;
            writeln!(
                out,
                ",\"shown\":{shown},\"total\":{},\"by\":\"{by}\",\"objects\":{objects},\"typed_objects\":{typed}}}",
                sums.types
            )
        }
    }
}
