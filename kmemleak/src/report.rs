//! Telling people what was found.
//!
//! Writing takes long, and what writes may allocate from the very allocators that are tracked: so nothing is
//! written under the lock. A record is copied out, with the first bytes of its block if that is still there,
//! then written.

use core::fmt::{self, Write};

use crate::depot::{Frames, crc32};
use crate::detector::Detector;
use crate::list::Named;
use crate::platform::{Comm, Platform};
use crate::record::{Record, flag};
use crate::registry::{Locked, alias_owner};
use crate::verdict::How;

/// Bytes of a block that are shown.
const DUMP: usize = 32;
/// And in a line.
const DUMP_LINE: usize = 16;

/// The first bytes of a block.
struct Dump {
    bytes: [u8; DUMP],
    len: usize,
}

/// Which objects of a verdict are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    All,
    /// Those that have not been told of.
    New,
}

impl<P: Platform, const BOOTSTRAP: usize> Detector<P, BOOTSTRAP> {
    /// Writes the last verdict: each object that nothing points to, then a line with the sum. Task context,
    /// with no lock held.
    pub fn report(&self, out: &mut dyn Write) -> fmt::Result {
        let _claim = self.claim();
        self.report_claimed(Which::All, out)
    }

    /// The same, for who has the claim.
    pub(crate) fn report_claimed(&self, which: Which, out: &mut dyn Write) -> fmt::Result {
        self.write_objects(which, out)?;
        let summary = self.with_verdict(|verdict, _| verdict.summary);
        let Some(summary) = summary else {
            return writeln!(out, "kmemleak: no check so far");
        };
        if let How::Repeated { reason, passes } = summary.how {
            writeln!(
                out,
                "kmemleak: {reason}: suspects of {passes} passes beside what runs"
            )?;
        }
        if summary.unrecorded > 0 {
            writeln!(
                out,
                "kmemleak: {} blocks are unrecorded for want of memory; what they own may be listed",
                summary.unrecorded
            )?;
        }
        let noun = if summary.objects == 1 {
            "object"
        } else {
            "objects"
        };
        writeln!(
            out,
            "kmemleak: {} unreferenced {noun} ({} bytes)",
            summary.objects, summary.bytes
        )
    }

    fn write_objects(&self, which: Which, out: &mut dyn Write) -> fmt::Result {
        let at_us = self.with_verdict(|verdict, _| verdict.at_us);
        let left_out = self.with_verdict(|verdict, _| verdict.list.left_out);
        if left_out > 0 {
            writeln!(
                out,
                "kmemleak: no memory to put the objects in the order of their allocation"
            )?;
        }
        // The claim keeps the verdict, whatever is freed meanwhile.
        let mut written = Ok(());
        self.each_named(&mut |named| {
            if written.is_ok() && (which == Which::All || !named.record.has(flag::REPORTED)) {
                written = self.write_named(named, at_us, out);
            }
        });
        written
    }

    /// The first bytes of a block, if it is still there. It can't be freed meanwhile: its chunk is locked.
    fn dump_of(&self, named: &Named) -> Option<Dump> {
        let birth_us = named.record.birth_us();
        self.quietly(|_| {
            self.registry
                .starting_at::<Locked, _>(named.start, |object| {
                    let record = object.record.read();
                    (record.birth_us() == birth_us).then(|| self.read_bytes(named.start, &record))
                })
                .flatten()
        })
    }

    fn read_bytes(&self, start: usize, record: &Record) -> Dump {
        const WORD: usize = size_of::<usize>();
        let mut dump = Dump {
            bytes: [0; DUMP],
            len: 0,
        };
        let size = record.short_size() as usize;
        let copy = if record.has(flag::PERCPU) {
            Some(self.platform.percpu_copy(start, 0))
        } else if record.has(flag::PHYS) {
            self.platform.phys_to_virt(start, size)
        } else {
            Some(start)
        };
        let Some(start) = copy.filter(|&copy| self.platform.readable(copy, size.min(DUMP))) else {
            return dump;
        };
        for (offset, byte) in dump.bytes.iter_mut().enumerate().take(size) {
            let address = start + offset;
            let word = address & !(WORD - 1);
            if word < start || word + WORD > start + size {
                // Half a word at the end, that is not the block's alone.
                break;
            }
            // SAFETY: a whole word of the block; who frees it waits for the chunk's lock.
            let word = unsafe { self.platform.read_word(word) };
            *byte = word.to_ne_bytes()[address % WORD];
            dump.len = offset + 1;
        }
        dump
    }

    fn comm_of(&self, record: &Record) -> Comm {
        if record.has(flag::INTERRUPT) {
            return Comm::new("hardirq");
        }
        self.comms.get(record.comm())
    }

    fn write_named(&self, named: &Named, at_us: u64, out: &mut dyn Write) -> fmt::Result {
        let record = &named.record;
        writeln!(
            out,
            "unreferenced object {:#018x} (size {}):",
            named.start,
            self.size_of(named)
        )?;
        let age_us = at_us.saturating_sub(record.birth_us());
        writeln!(
            out,
            "  comm \"{}\", pid {}, cpu {}, age {}.{:03}s",
            self.comm_of(record).as_str(),
            record.task(),
            record.cpu(),
            age_us / 1_000_000,
            age_us / 1000 % 1000
        )?;
        match self.dump_of(named) {
            Some(dump) => write_dump(&dump.bytes[..dump.len], out)?,
            None => writeln!(out, "  freed since")?,
        }
        self.write_frames("backtrace", &self.depot.get(record.trace()), out)
    }

    pub(crate) fn write_frames(
        &self,
        title: &str,
        frames: &Frames,
        out: &mut dyn Write,
    ) -> fmt::Result {
        if frames.as_slice().is_empty() {
            return writeln!(out, "  {title}: none recorded");
        }
        writeln!(out, "  {title} (crc {:08x}):", frames.crc())?;
        frames.as_slice().iter().try_for_each(|&address| {
            write!(out, "    ")?;
            self.platform.symbol(address, out)?;
            writeln!(out)
        })
    }

    /// Writes what is known of the object that `address` lies in.
    pub(crate) fn dump(&self, address: usize, out: &mut dyn Write) -> fmt::Result {
        let named_at = |address| {
            self.quietly(|_| {
                self.registry
                    .containing::<Locked, _>(address, |object| Named {
                        start: object.start,
                        record: object.record.read(),
                    })
            })
        };
        let found = named_at(address).and_then(|named| {
            if named.record.has(flag::ALIAS) {
                named_at(alias_owner(&named.record))
            } else {
                Some(named)
            }
        });
        let Some(named) = found else {
            return writeln!(out, "kmemleak: no object at {address:#018x}");
        };
        let record = &named.record;
        writeln!(
            out,
            "object {:#018x} (size {}):",
            named.start,
            self.size_of(&named)
        )?;
        writeln!(
            out,
            "  comm \"{}\", pid {}, cpu {}",
            self.comm_of(record).as_str(),
            record.task(),
            record.cpu()
        )?;
        writeln!(out, "  birth {} us", record.birth_us())?;
        write!(out, "  min_count {}", record.min_count())?;
        if record.min_count() > 1 {
            write!(out, ", count {}", record.count())?;
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
        for (_, name) in flags.into_iter().filter(|(bit, _)| record.has(*bit)) {
            write!(out, " {name}")?;
        }
        writeln!(out)?;
        if let Some(dump) = self.dump_of(&named) {
            let bytes = &dump.bytes[..dump.len];
            writeln!(
                out,
                "  checksum {:08x} (first {} bytes)",
                crc32(bytes.iter().copied()),
                bytes.len()
            )?;
            write_dump(bytes, out)?;
        }
        self.write_frames("backtrace", &self.depot.get(record.trace()), out)
    }
}

fn write_dump(bytes: &[u8], out: &mut dyn Write) -> fmt::Result {
    if bytes.is_empty() {
        return Ok(());
    }
    writeln!(out, "  hex dump (first {} bytes):", bytes.len())?;
    for line in bytes.chunks(DUMP_LINE) {
        write!(out, "    ")?;
        line.iter()
            .try_for_each(|byte| write!(out, "{byte:02x} "))?;
        (line.len()..DUMP_LINE).try_for_each(|_| write!(out, "   "))?;
        write!(out, " ")?;
        for &byte in line {
            let shown = if matches!(byte, b' '..=b'~') {
                char::from(byte)
            } else {
                '.'
            };
            out.write_char(shown)?;
        }
        writeln!(out)?;
    }
    Ok(())
}
