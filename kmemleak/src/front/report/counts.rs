//! Counts that do not match the references that were found.
//!
//! A line of the table stands for the blocks of a call site whose counts are wrong in one way. What is most urgent comes first: blocks
//! that are freed too early, or may be; then those that are never freed, the oldest first.

use core::fmt::{self, Write};

use super::backtrace::EmptyStacks;
use super::block_type::BlockType;
use super::columns::{CALL_SITE, Right, handle_column, write_call_site};
use super::handles::OrDash;
use super::json::{begin, frames_json, handle_json, named_json, no_call_stacks_json, string};
use super::refusal::Refusal;
use super::style::{Ink, Style};
use super::text::no_call_stacks_text;
use super::type_column::TypeColumn;
use super::words::{Count, ShortAge};
use super::{Answered, Format, refuse};
use crate::checker::claim::{Claim, NotDone};
use crate::checker::counts::{CountSums, Miscount, Miscounted, NotCompared};
use crate::checker::tallies::{FromPlace, Whence};
use crate::metadata::page::NoMemory;
use crate::platform::{Counted, Platform};
use crate::tracker::Tracker;
use crate::verdict::leak_list::Named;

/// Whether what is no more than possible is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::front) enum Shown {
    Certain,
    All,
}

impl Shown {
    /// How it is asked for.
    fn option(self) -> &'static str {
        match self {
            Self::Certain => "",
            Self::All => " --all",
        }
    }

    /// What is shown, in this order.
    fn kinds(self) -> &'static [Miscounted] {
        match self {
            Self::Certain => &[Miscounted::BelowZero, Miscounted::TooHigh],
            Self::All => &[
                Miscounted::BelowZero,
                Miscounted::TooLow,
                Miscounted::TooHigh,
            ],
        }
    }
}

impl Refusal for NotCompared {
    fn code(&self) -> &'static str {
        match self {
            Self::Unstopped(_) => "unstopped",
            Self::Unrecorded(_) => "unrecorded",
            Self::InFlight => "in_flight",
            Self::NoStacks => "no_stacks",
            Self::NotDone(why) => why.code(),
        }
    }
}

/// How the blocks of a call stack count the references to them, if they do. May sleep: task context.
pub(in crate::front) fn counted_by<P: Platform>(
    tracker: &Tracker<P>,
    call_stack: &[usize],
) -> Option<Counted> {
    BlockType::of(tracker, call_stack)?.counted(tracker.platform())
}

/// Compares counts, and writes those that are wrong: `top` lines of a table, or `top` blocks in JSON.
pub(in crate::front) fn write_counts<P: Platform>(
    claim: &mut Claim<'_, P>,
    format: Format,
    kinds: Shown,
    top: usize,
    out: &mut dyn Write,
) -> Answered {
    let tracker = claim.tracker();
    let compared = claim.compare_counts(&mut |call_stack| counted_by(tracker, call_stack));
    let _outside = claim.outside();
    let sums = match compared {
        Ok(sums) => sums,
        Err(why) => return refuse(format, &why, out),
    };
    let mut empty = EmptyStacks::default();
    match format {
        Format::Text => {
            table(claim, kinds, top, &mut empty, out)?;
            no_call_stacks_text(empty.why(tracker), out)?;
            sums_text(&sums, kinds, out)?;
        }
        Format::Json => {
            let shown = each_json(claim, kinds, top, &mut empty, out)?;
            sums_json(&sums, shown, &empty, tracker, out)?;
        }
    }
    Ok(())
}

fn table<P: Platform>(
    claim: &mut Claim<'_, P>,
    kinds: Shown,
    top: usize,
    empty: &mut EmptyStacks,
    out: &mut dyn Write,
) -> Answered {
    let tracker = claim.tracker();
    let mut types = TypeColumn::NEW;
    for &kind in kinds.kinds() {
        claim.each_miscount(kind, &mut |named, _| {
            let frames = tracker.depot().get(named.record.stack_id());
            types.look(tracker, frames.as_slice());
        });
    }
    let (mut lines, mut sites) = (0, 0);
    for &kind in kinds.kinds() {
        if sum_up(claim, kind).is_err() {
            return refuse(Format::Text, &NotDone::NoMemory, out);
        }
        sites += claim.tallies().len();
        let places = claim.tallies().oldest_first();
        for (whence, place) in places.take(top.saturating_sub(lines)) {
            let Whence::CallSite(stack_id) = whence else {
                continue;
            };
            if lines == 0 {
                heading(types, &mut Style::of(tracker).lines(Ink::Heading, out))?;
            }
            lines += 1;
            columns(claim, kind, place, out)?;
            let frames = tracker.depot().get(stack_id);
            empty.note(frames.as_slice());
            types.write(tracker, frames.as_slice(), out)?;
            write_call_site(tracker, frames.as_slice(), out)?;
        }
    }
    if let more @ 1.. = sites - lines {
        writeln!(
            out,
            "  ... and {}: kmemleak counts {sites}{}",
            Count(more, "more line"),
            kinds.option()
        )?;
    }
    Ok(())
}

/// Sums up by call site the blocks whose count is wrong in this way: in `words` of a place by how much.
fn sum_up<P: Platform>(claim: &mut Claim<'_, P>, kind: Miscounted) -> Result<(), NoMemory> {
    claim.tally_miscounts(kind, &mut |place, named, miscount| {
        place.words += miscount.difference.unsigned_abs() as usize;
        place.add(named, miscount.size);
    })
}

fn heading(types: TypeColumn, out: &mut dyn Write) -> fmt::Result {
    let (handle, objects, difference) = (Right(5, "#"), Right(8, "count"), Right(9, "too many"));
    let age = Right(7, "oldest");
    writeln!(
        out,
        "{handle} {objects} {difference} {age} {}{CALL_SITE}",
        types.heading()
    )
}

/// How many blocks come from one place, with a handle for the oldest of them, how many references their counts have too many, and its
/// age.
fn columns<P: Platform>(
    claim: &Claim<'_, P>,
    kind: Miscounted,
    place: &FromPlace,
    out: &mut dyn Write,
) -> fmt::Result {
    let tracker = claim.tracker();
    let handle = handle_column(Style::of(tracker), claim.handle_of_place(place));
    let at_us = claim.compared_at_us();
    let age = |(_, birth_us)| ShortAge(at_us.saturating_sub(birth_us));
    let age = Right(7, OrDash(place.oldest.map(age)));
    write!(out, "{handle} {} ", Right(8, place.objects))?;
    match kind {
        Miscounted::BelowZero => write!(out, "{}", Right(9, "below 0"))?,
        Miscounted::TooLow => write!(out, "{}", Right(9, format_args!("-{}?", place.words)))?,
        Miscounted::TooHigh => write!(out, "{}", Right(9, format_args!("+{}", place.words)))?,
    }
    write!(out, " {age} ")
}

fn sums_text(sums: &CountSums, kinds: Shown, out: &mut dyn Write) -> fmt::Result {
    if sums.below_zero > 0 {
        writeln!(
            out,
            "kmemleak: {} below zero: a reference was dropped twice, and what still points there may use freed memory",
            CountsAre(sums.below_zero)
        )?;
    }
    match (sums.too_low, kinds) {
        (0, _) => {}
        (blocks, Shown::All) => writeln!(
            out,
            "kmemleak: {} possibly too low: words beyond the counts are stale, or the block is about to be freed too early",
            CountsAre(blocks)
        )?,
        (blocks, Shown::Certain) => writeln!(
            out,
            "kmemleak: {} possibly too low, or stale words point there: kmemleak counts --all",
            CountsAre(blocks)
        )?,
    }
    let all = Count(sums.blocks, "counted block");
    write!(
        out,
        "kmemleak: {} too high, of {all}",
        CountsAre(sums.too_high)
    )?;
    match sums.on_stacks {
        0 => writeln!(out),
        held => writeln!(out, "; {held} held by stacks, not judged"),
    }
}

/// `1 count is`, `2 counts are`.
struct CountsAre(usize);

impl fmt::Display for CountsAre {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let are = if self.0 == 1 { "is" } else { "are" };
        write!(f, "{} {are}", Count(self.0, "count"))
    }
}

/// Writes the first blocks, and returns how many.
fn each_json<P: Platform>(
    claim: &Claim<'_, P>,
    kinds: Shown,
    top: usize,
    empty: &mut EmptyStacks,
    out: &mut dyn Write,
) -> Result<usize, fmt::Error> {
    let (mut shown, mut written) = (0, Ok(()));
    for &kind in kinds.kinds() {
        claim.each_miscount(kind, &mut |named, miscount| {
            if shown < top && written.is_ok() {
                shown += 1;
                written = miscount_json(claim, named, miscount, empty, out);
            }
        });
    }
    written.map(|()| shown)
}

fn miscount_json<P: Platform>(
    claim: &Claim<'_, P>,
    named: &Named,
    miscount: &Miscount,
    empty: &mut EmptyStacks,
    out: &mut dyn Write,
) -> fmt::Result {
    let tracker = claim.tracker();
    let handle = handle_json(claim.handle_of(named.thing()));
    begin("miscount", out)?;
    write!(out, ",\"handle\":{handle},\"wrong\":")?;
    string(
        &match miscount.wrong {
            Miscounted::BelowZero => "below_zero",
            Miscounted::TooLow => "too_low",
            Miscounted::TooHigh => "too_high",
        },
        out,
    )?;
    write!(
        out,
        ",\"certain\":{},\"references\":{},\"words\":{},\"difference\":{}",
        miscount.wrong != Miscounted::TooLow,
        miscount.references,
        miscount.words,
        miscount.difference
    )?;
    named_json(tracker, named, miscount.size, out)?;
    let frames = tracker.depot().get(named.record.stack_id());
    empty.note(frames.as_slice());
    frames_json(tracker, frames.as_slice(), out)?;
    writeln!(out, "}}")
}

fn sums_json<P: Platform>(
    sums: &CountSums,
    shown: usize,
    empty: &EmptyStacks,
    tracker: &Tracker<P>,
    out: &mut dyn Write,
) -> fmt::Result {
    begin("miscounts", out)?;
    write!(
        out,
        ",\"shown\":{shown},\"blocks\":{},\"on_stacks\":{},\"below_zero\":{},\"too_low\":{},\"too_high\":{}",
        sums.blocks, sums.on_stacks, sums.below_zero, sums.too_low, sums.too_high
    )?;
    no_call_stacks_json(empty.why(tracker), out)?;
    writeln!(out, "}}")
}
