//! All that is known of an object, with the contents of its block.

use core::fmt::{self, Write};

use super::frames::write_backtrace;
use super::json::{OrNull, begin, contents_json, frames_json, named_json, string};
use super::view::{Contents, named_at};
use super::words::write_dump;
use super::{Because, Format, refuse};
use crate::front::outcome::Answered;
use crate::objects::record::flag;
use crate::platform::{Platform, Reading};
use crate::stacks::crc::crc32;
use crate::tracker::Tracker;
use crate::verdict::leak_list::Named;

/// Bits of a record, with their names.
const FLAGS: [(u16, &str); 7] = [
    (flag::PERCPU, "percpu"),
    (flag::PHYS, "phys"),
    (flag::NO_SCAN, "no-scan"),
    (flag::NOTES, "notes"),
    (flag::LISTED, "unreferenced"),
    (flag::REPORTED, "reported"),
    (flag::INTERRUPT, "interrupt"),
];

/// An object as it is dumped.
struct Dumped {
    named: Named,
    size: usize,
    min_count: i32,
    /// References that were found, if it needs several.
    count: Option<u32>,
    /// `None` if it is read as plain words.
    reading: Option<Reading>,
    contents: Contents,
}

impl Dumped {
    fn of<P: Platform>(tracker: &Tracker<P>, named: Named) -> Self {
        let record = &named.record;
        let (min_count, count) =
            tracker.without_interrupts(|_| tracker.registry().references(named.start, record));
        let reading = tracker.without_interrupts(|_| tracker.registry().reading(named.start));
        Self {
            size: named.size(tracker),
            min_count,
            count: (min_count > 1).then_some(count),
            reading: Some(reading)
                .filter(|&reading| record.has(flag::NOTES) && reading != Reading::Words),
            contents: Contents::of(tracker, &named),
            named,
        }
    }

    /// The names of its flags.
    fn flags(&self) -> impl Iterator<Item = &'static str> + Clone {
        let set = FLAGS.into_iter();
        set.filter_map(|(bit, name)| self.named.record.has(bit).then_some(name))
    }

    /// The first bytes, with their checksum.
    fn bytes(&self) -> Option<(&[u8], u32)> {
        match &self.contents {
            Contents::Read(dump) => {
                let bytes = dump.as_slice();
                Some((bytes, crc32(bytes.iter().copied())))
            }
            Contents::Freed | Contents::Unknown => None,
        }
    }
}

/// Writes what is known of the object that `address` lies in. The caller has the claim.
pub(in crate::front) fn dump<P: Platform>(
    tracker: &Tracker<P>,
    format: Format,
    address: usize,
    out: &mut dyn Write,
) -> Answered {
    let Some(named) = named_at(tracker, address) else {
        let nothing = Because("no_object", format_args!("no object at {address:#018x}"));
        return refuse(format, &nothing, out);
    };
    let dumped = Dumped::of(tracker, named);
    match format {
        Format::Text => text(tracker, &dumped, out)?,
        Format::Json => json(tracker, &dumped, out)?,
    }
    Ok(())
}

fn text<P: Platform>(tracker: &Tracker<P>, dumped: &Dumped, out: &mut dyn Write) -> fmt::Result {
    let (named, record) = (&dumped.named, &dumped.named.record);
    writeln!(out, "object {:#018x} (size {}):", named.start, dumped.size)?;
    writeln!(
        out,
        "  comm {:?}, pid {}, cpu {}",
        named.comm(tracker),
        record.task(),
        record.cpu()
    )?;
    writeln!(out, "  birth {} us", tracker.birth_us(record))?;
    write!(out, "  min_count {}", dumped.min_count)?;
    if let Some(count) = dumped.count {
        write!(out, ", count {count}")?;
    }
    write!(out, "\n  flags")?;
    if dumped.flags().next().is_none() {
        write!(out, " none")?;
    }
    (dumped.flags()).try_for_each(|name| write!(out, " {name}"))?;
    writeln!(out)?;
    if let Some(reading) = dumped.reading {
        writeln!(out, "  read as {reading}")?;
    }
    if let Some((bytes, checksum)) = dumped.bytes() {
        let len = bytes.len();
        writeln!(out, "  checksum {checksum:08x} (first {len} bytes)")?;
        write_dump(bytes, out)?;
    }
    write_backtrace(
        tracker,
        tracker.depot().get(record.stack_id()).as_slice(),
        out,
    )
}

fn json<P: Platform>(tracker: &Tracker<P>, dumped: &Dumped, out: &mut dyn Write) -> fmt::Result {
    begin("dump", out)?;
    named_json(tracker, &dumped.named, dumped.size, out)?;
    write!(
        out,
        ",\"min_count\":{},\"count\":{},\"flags\":[",
        dumped.min_count,
        OrNull(dumped.count)
    )?;
    for (place, name) in dumped.flags().enumerate() {
        let comma = if place > 0 { "," } else { "" };
        write!(out, "{comma}\"{name}\"")?;
    }
    write!(out, "],\"reading\":")?;
    match dumped.reading {
        Some(reading) => string(&reading, out)?,
        None => write!(out, "null")?,
    }
    write!(out, ",\"checksum\":")?;
    match dumped.bytes() {
        Some((_, checksum)) => write!(out, "\"{checksum:08x}\"")?,
        None => write!(out, "null")?,
    }
    contents_json(&dumped.contents, out)?;
    let stack_id = dumped.named.record.stack_id();
    frames_json(tracker, tracker.depot().get(stack_id).as_slice(), out)?;
    writeln!(out, "}}")
}
