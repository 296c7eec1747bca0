//! The contents of a block, and all that is known of an object.

use core::fmt::Write;

use super::frames::write_frames;
use super::view::{Contents, named_at};
use super::words::write_dump;
use crate::front::outcome::{Answered, CommandError};
use crate::objects::record::flag;
use crate::platform::{Platform, Reading};
use crate::stacks::crc::crc32;
use crate::tracker::Tracker;

/// Writes what is known of the object that `address` lies in. The caller has the claim.
pub(in crate::front) fn dump<P: Platform>(
    tracker: &Tracker<P>,
    address: usize,
    out: &mut dyn Write,
) -> Answered {
    let Some(named) = named_at(tracker, address) else {
        writeln!(out, "kmemleak: no object at {address:#018x}")?;
        return Err(CommandError::NotDone);
    };
    let record = &named.record;
    writeln!(
        out,
        "object {:#018x} (size {}):",
        named.start,
        named.size(tracker)
    )?;
    writeln!(
        out,
        "  comm {:?}, pid {}, cpu {}",
        named.comm(tracker),
        record.task(),
        record.cpu()
    )?;
    writeln!(out, "  birth {} us", tracker.birth_us(record))?;
    let (min_count, count) =
        tracker.without_interrupts(|_| tracker.registry().references(named.start, record));
    write!(out, "  min_count {min_count}")?;
    if min_count > 1 {
        write!(out, ", count {count}")?;
    }
    writeln!(out)?;
    let flags = [
        (flag::PERCPU, "percpu"),
        (flag::PHYS, "phys"),
        (flag::NO_SCAN, "no-scan"),
        (flag::NOTES, "notes"),
        (flag::LISTED, "unreferenced"),
        (flag::REPORTED, "reported"),
        (flag::INTERRUPT, "interrupt"),
    ];
    write!(out, "  flags")?;
    if !flags.iter().any(|(bit, _)| record.has(*bit)) {
        write!(out, " none")?;
    }
    for (_, name) in flags.into_iter().filter(|(bit, _)| record.has(*bit)) {
        write!(out, " {name}")?;
    }
    writeln!(out)?;
    let reading = tracker.without_interrupts(|_| tracker.registry().reading(named.start));
    if record.has(flag::NOTES) && reading != Reading::Words {
        writeln!(out, "  read as {reading}")?;
    }
    if let Contents::Read(dump) = Contents::of(tracker, &named) {
        let bytes = dump.as_slice();
        writeln!(
            out,
            "  checksum {:08x} (first {} bytes)",
            crc32(bytes.iter().copied()),
            bytes.len()
        )?;
        write_dump(bytes, out)?;
    }
    write_frames(
        tracker,
        "backtrace",
        &tracker.depot().get(record.stack_id()),
        out,
    )?;
    Ok(())
}
