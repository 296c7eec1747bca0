//! What holds an object, and by which path a root leads to it: a line for each word.
//!
//! An object that many words point to, such as an `Arc` with a thousand clones, has a table instead: a line for each call site that
//! allocated holders, and for each variable, task or CPU in whose memory there are words.

use core::fmt::{self, Write};

use super::chain::Way;
use super::columns::{CALL_SITE, Right, handle_column, size_column, write_call_site};
use super::style::{Ink, Style};
use super::text_sum::text_sum;
use super::type_column::TypeColumn;
use super::view::named_at;
use super::words::{Count, Plain};
use super::{Answered, CommandError, Form, Format, Question, json, text};
use crate::checker::claim::Claim;
use crate::checker::references::{NoAnswer, Slot, SlotPlace};
use crate::checker::tallies::{FromPlace, Whence};
use crate::metadata::hidden::Hidden;
use crate::metadata::page::NoMemory;
use crate::platform::{Platform, Root};
use crate::stacks::depot::StackId;
use crate::tracker::Tracker;

/// Words that are listed one by one.
const FEW: usize = 10;
/// Lines of a table.
const TOP: usize = 20;

/// Writes the words that point into the object in which `address` lies.
pub(in crate::front) fn write_holders<P: Platform>(
    claim: &mut Claim<'_, P>,
    form: Form,
    address: Hidden,
    out: &mut dyn Write,
) -> Answered {
    let mut count = 0;
    let answer = claim.find_holders(address, &mut |_| count += 1);
    let _outside = claim.outside();
    if form == Form::Table && count > FEW && group(claim, count).is_ok() {
        table(claim, out)?;
    } else {
        let mut slots = (0..count).filter_map(|number| claim.holder(number));
        slots.try_for_each(|slot| {
            one(claim.tracker(), form.format(), Question::Holders, slot, out)
        })?;
    }
    end(form.format(), Question::Holders, count, answer, out)
}

/// Writes the words of the shortest path from a root to the object in which `address` lies.
pub(in crate::front) fn write_path<P: Platform>(
    claim: &mut Claim<'_, P>,
    format: Format,
    address: Hidden,
    out: &mut dyn Write,
) -> Answered {
    let tracker = claim.tracker();
    let (mut count, mut written, mut way) = (0, Ok(()), Way::new());
    let answer = claim.find_path(address, &mut |slot| {
        count += 1;
        if written.is_ok() {
            let added = match slot.place {
                SlotPlace::Root(root) => {
                    way.add(|out| write_name(tracker, root, slot.address, &mut Plain(out)))
                }
                SlotPlace::Object { start, .. } => way.add_object(tracker, start),
            };
            written = added.and_then(|()| one(tracker, format, Question::Path, slot, out));
        }
    });
    written?;
    let _outside = claim.outside();
    if let (Ok(object), Format::Text) = (answer, format) {
        way.add_object(tracker, object)?;
        way.write_to(out)?;
    }
    end(format, Question::Path, count, answer, out)
}

fn one<P: Platform>(
    tracker: &Tracker<P>,
    format: Format,
    question: Question,
    slot: Slot,
    out: &mut dyn Write,
) -> fmt::Result {
    match format {
        Format::Text => text::slot_text(tracker, slot, out),
        Format::Json => json::slot_json(tracker, question, slot, out),
    }
}

/// Writes how many words there are, or why there is no answer.
fn end(
    format: Format,
    question: Question,
    count: usize,
    answer: Result<usize, NoAnswer>,
    out: &mut dyn Write,
) -> Answered {
    match format {
        Format::Text => text::references_end(question, count, answer, out)?,
        Format::Json => json::references_end(question, count, answer, out)?,
    }
    match answer {
        Ok(_) => Ok(()),
        Err(_) => Err(CommandError::NotDone),
    }
}

/// Counts the words of an answer by where they come from.
fn group<P: Platform>(claim: &mut Claim<'_, P>, count: usize) -> Result<(), NoMemory> {
    let tracker = claim.tracker();
    claim.clear_tallies();
    let mut last = Hidden::NONE;
    for number in 0..count {
        let Some(slot) = claim.holder(number) else {
            continue;
        };
        let (whence, object) = match slot.place {
            SlotPlace::Root(root) => (Whence::Root(name_sum(tracker, root, slot.address)), None),
            SlotPlace::Object { start, size } => {
                let named = named_at(tracker, start);
                let stack_id = named.map_or(StackId::NONE, |named| named.record.stack_id());
                (Whence::CallSite(stack_id), named.map(|named| (named, size)))
            }
        };
        let place = claim.tally(whence)?;
        if place.words == 0 {
            place.first = number;
        }
        place.words += 1;
        // The words of an object follow each other.
        if let Some((named, size)) = object
            && core::mem::replace(&mut last, Hidden::new(named.start)) != last
        {
            place.add(&named, size);
        }
    }
    Ok(())
}

fn table<P: Platform>(claim: &Claim<'_, P>, out: &mut dyn Write) -> fmt::Result {
    let (places, tracker) = (claim.tallies(), claim.tracker());
    let mut types = TypeColumn::NEW;
    for (whence, _) in places.in_order().take(TOP) {
        if let Whence::CallSite(stack_id) = whence {
            types.look(tracker, tracker.depot().get(stack_id).as_slice());
        }
    }
    heading(types, &mut Style::of(tracker).lines(Ink::Heading, out))?;
    for (whence, place) in places.in_order().take(TOP) {
        row(claim, whence, place, types, out)?;
    }
    let more = places.in_order().skip(TOP);
    let (lines, words) = more.fold((0, 0), |(lines, words), (_, place)| {
        (lines + 1, words + place.words)
    });
    if lines > 0 {
        let (lines, words) = (Count(lines, "more line"), Count(words, "word"));
        writeln!(out, "  ... and {lines} ({words}): --full lists each word")?;
    }
    Ok(())
}

fn heading(types: TypeColumn, out: &mut dyn Write) -> fmt::Result {
    let (handle, words, objects) = (Right(5, "#"), Right(8, "words"), Right(8, "objects"));
    let bytes = Right(9, "bytes");
    writeln!(
        out,
        "{handle} {words} {objects} {bytes} {}{CALL_SITE}",
        types.heading()
    )
}

fn row<P: Platform>(
    claim: &Claim<'_, P>,
    whence: Whence,
    place: &FromPlace,
    types: TypeColumn,
    out: &mut dyn Write,
) -> fmt::Result {
    let tracker = claim.tracker();
    let style = Style::of(tracker);
    let handle = handle_column(style, claim.handle_of_place(place));
    write!(out, "{handle} {} ", Right(8, place.words))?;
    match whence {
        Whence::CallSite(stack_id) => {
            let (objects, bytes) = (
                Right(8, place.objects),
                size_column(style, Some(place.bytes)),
            );
            write!(out, "{objects} {bytes} ")?;
            let frames = tracker.depot().get(stack_id);
            types.write(tracker, frames.as_slice(), out)?;
            write_call_site(tracker, frames.as_slice(), out)
        }
        Whence::Root(_) => {
            write!(out, "{} {} ", Right(8, "-"), size_column(style, None))?;
            if let Some(Slot {
                address,
                place: SlotPlace::Root(root),
            }) = claim.holder(place.first)
            {
                write_name(tracker, root, address, &mut Plain(out))?;
            }
            writeln!(out)
        }
    }
}

/// Writes the name of what a word of a root lies in, without the word's offset.
fn write_name<P: Platform>(
    tracker: &Tracker<P>,
    root: Root,
    address: usize,
    out: &mut dyn Write,
) -> fmt::Result {
    let mut name = WithoutOffset {
        out,
        kept: [0; OFFSET],
        len: 0,
    };
    tracker.platform().name_root(root, address, &mut name)
}

/// A checksum of that name.
fn name_sum<P: Platform>(tracker: &Tracker<P>, root: Root, address: usize) -> u32 {
    // A name that can't be written has the sum of what could.
    text_sum(|out| write_name(tracker, root, address, out)) as u32
}

/// Bytes of an offset, from its `+` on.
const OFFSET: usize = 24;

/// Passes a text on, but for an offset at its end.
struct WithoutOffset<'a> {
    out: &'a mut dyn Write,
    /// What may be the offset.
    kept: [u8; OFFSET],
    len: usize,
}

impl Write for WithoutOffset<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            let end = self.len + letter.len_utf8();
            let begins = letter == '+';
            if self.len > 0 && (begins || end > OFFSET) {
                let kept = core::str::from_utf8(&self.kept[..self.len]);
                self.out.write_str(kept.unwrap_or_default())?;
                self.len = 0;
            }
            if begins || self.len > 0 {
                self.len += letter.encode_utf8(&mut self.kept[self.len..]).len();
            } else {
                self.out.write_char(letter)?;
            }
        }
        Ok(())
    }
}
