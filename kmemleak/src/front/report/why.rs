//! Why an address is, or is not, reported as a leak: as text and as JSON.
//!
//! Each answer is a sentence, what it rests on, and an advice what to do next. In text they come in this order; JSON has sentence
//! and advice in its last line. The words are in [`super::reasons`].

use core::fmt::{self, Write};

use super::frames::write_addresses;
use super::json::{
    Escaped, OrNull, Quoted, begin, call_stack_json, frames_json, slot_fields, suppression_json,
};
use super::reasons::{Reason, miss_code, miss_remedy, miss_text};
use super::text::slot_text;
use super::words::Count;
use super::{Format, refuse};
use crate::checker::claim::Claim;
use crate::checker::references::{Answer, Clue, Explanation};
use crate::front::outcome::Answered;
use crate::metadata::hidden::Hidden;
use crate::platform::Platform;
use crate::tracker::Tracker;

/// Writes why `address` is, or is not, reported.
pub(in crate::front) fn write_why<P: Platform>(
    claim: &mut Claim<'_, P>,
    format: Format,
    address: Hidden,
    out: &mut dyn Write,
) -> Answered {
    let explained = claim.explain(address);
    let _outside = claim.outside();
    match (explained, format) {
        (Ok(explanation), Format::Text) => text(claim, &explanation, address, out)?,
        (Ok(explanation), Format::Json) => json(claim, &explanation, address, out)?,
        (Err(reason), _) => return refuse(format, &reason, out),
    }
    Ok(())
}

fn text<P: Platform>(
    claim: &Claim<'_, P>,
    explanation: &Explanation,
    address: Hidden,
    out: &mut dyn Write,
) -> fmt::Result {
    let (tracker, why) = (claim.tracker(), explanation.why());
    let reason = Reason::of(claim, why, address);
    match &why.object {
        Some(block) => write!(out, "object {:#018x} (size {}): ", block.start, block.size)?,
        None => write!(out, "{:#018x}: ", address.get())?,
    }
    reason.sentence(tracker, out)?;
    writeln!(out)?;
    let (clues, misses) = write_clues(claim, explanation, &mut |clue| {
        clue_text(tracker, clue, out)
    })?;
    if why.near_misses > misses {
        writeln!(out, "  and {} more like these", why.near_misses - misses)?;
    }
    if why.answer == Answer::Suppressed && clues == misses {
        writeln!(
            out,
            "  no pattern matches its own call stack: a suppressed object leads to it, which `holders` shows"
        )?;
    }
    if let Some(reason) = why.beside {
        writeln!(
            out,
            "kmemleak: {reason}: other code ran meanwhile, so this may be out of date"
        )?;
    }
    write!(out, "kmemleak: ")?;
    reason.advice(out)?;
    writeln!(out)
}

/// Writes the clues; how many there are, and how many of them are near misses.
fn write_clues<P: Platform>(
    claim: &Claim<'_, P>,
    explanation: &Explanation,
    write: &mut dyn FnMut(&Clue<'_>) -> fmt::Result,
) -> Result<(usize, usize), fmt::Error> {
    let (mut written, mut clues, mut misses) = (Ok(()), 0, 0);
    claim.show_clues(explanation, &mut |clue| {
        clues += 1;
        misses += usize::from(matches!(clue, Clue::NearMiss(..)));
        if written.is_ok() {
            written = write(&clue);
        }
    });
    written.map(|()| (clues, misses))
}

fn clue_text<P: Platform>(
    tracker: &Tracker<P>,
    clue: &Clue<'_>,
    out: &mut dyn Write,
) -> fmt::Result {
    match *clue {
        Clue::Step(slot) => slot_text(tracker, slot, out),
        Clue::NearMiss(slot, miss) => {
            slot_text(tracker, slot, out)?;
            writeln!(
                out,
                "    near miss: {}: {}",
                miss_text(miss),
                miss_remedy(miss)
            )
        }
        Clue::Suppression(one) => writeln!(
            out,
            "  by \"{}\", which matches {}",
            one.pattern,
            Count(one.matched as usize, "object")
        ),
        Clue::AllocatedBy(frames) => write_addresses(tracker, "allocated by", frames, out),
        Clue::FreedBy(frames) => write_addresses(tracker, "freed by", frames, out),
    }
}

fn json<P: Platform>(
    claim: &Claim<'_, P>,
    explanation: &Explanation,
    address: Hidden,
    out: &mut dyn Write,
) -> fmt::Result {
    let (tracker, why) = (claim.tracker(), explanation.why());
    let reason = Reason::of(claim, why, address);
    let (count, _) = write_clues(claim, explanation, &mut |clue| {
        clue_json(tracker, clue, out)
    })?;
    begin("why", out)?;
    write!(
        out,
        ",\"count\":{count},\"address\":{},\"target\":{},\"size\":{},\"answer\":\"{}\",\"text\":\"",
        Quoted(address.get()),
        OrNull(why.object.map(|block| Quoted(block.start))),
        OrNull(why.object.map(|block| block.size)),
        reason.code()
    )?;
    reason.sentence(tracker, &mut Escaped(out))?;
    out.write_str("\",\"advice\":\"")?;
    reason.advice(&mut Escaped(out))?;
    writeln!(
        out,
        "\",\"leader\":{},\"needed\":{},\"found\":{},\"near_misses\":{},\"stopped\":{}}}",
        OrNull(reason.leader().map(Quoted)),
        OrNull(why.references.map(|(needed, _)| needed)),
        OrNull(why.references.map(|(_, found)| found)),
        why.near_misses,
        why.beside.is_none()
    )
}

fn clue_json<P: Platform>(
    tracker: &Tracker<P>,
    clue: &Clue<'_>,
    out: &mut dyn Write,
) -> fmt::Result {
    match *clue {
        Clue::Step(slot) => {
            begin("step", out)?;
            slot_fields(tracker, slot, out)?;
        }
        Clue::NearMiss(slot, miss) => {
            begin("near_miss", out)?;
            slot_fields(tracker, slot, out)?;
            write!(
                out,
                ",\"miss\":\"{}\",\"text\":\"{}\",\"remedy\":\"{}\"",
                miss_code(miss),
                miss_text(miss),
                miss_remedy(miss)
            )?;
        }
        Clue::Suppression(one) => return suppression_json(&one, out),
        Clue::AllocatedBy(frames) => {
            begin("allocated", out)?;
            frames_json(tracker, frames, out)?;
        }
        Clue::FreedBy(frames) => {
            begin("freed", out)?;
            call_stack_json(tracker, frames, out)?;
        }
    }
    writeln!(out, "}}")
}
