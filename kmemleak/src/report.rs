//! Telling people what was found.
//!
//! Writing takes long, and what writes may allocate from the very allocators that are tracked: so nothing is
//! written under the lock. A record is copied out, with the first bytes of its block if that is still there,
//! then written.

use core::fmt::{self, Write};

use crate::depot::{Frames, crc32};
use crate::detector::Detector;
use crate::platform::{Comm, Platform};
use crate::record::{Handle, Record, flag};
use crate::verdict::How;

/// Bytes of a block that are shown.
const DUMP: usize = 32;
/// And in a line.
const DUMP_LINE: usize = 16;

/// What is written of one object.
pub(crate) struct Entry {
    record: Record,
    comm: Comm,
    frames: Frames,
    dump: [u8; DUMP],
    dump_len: usize,
    next: Handle,
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
        let (summary, objects, bytes) = self.with_state(|state, _| {
            let summary = state.verdict.summary;
            summary.map_or((None, 0, 0), |summary| {
                (Some(summary), summary.objects, summary.bytes)
            })
        });
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
        let noun = if objects == 1 { "object" } else { "objects" };
        writeln!(
            out,
            "kmemleak: {objects} unreferenced {noun} ({bytes} bytes)"
        )
    }

    fn write_objects(&self, which: Which, out: &mut dyn Write) -> fmt::Result {
        let mut here = self.with_state(|state, _| state.verdict.first);
        while let Some(handle) = here.some() {
            // The claim keeps the verdict: the chain holds whatever is freed meanwhile.
            let entry = self.entry(handle);
            here = entry.next;
            if which == Which::All || !entry.record.has(flag::REPORTED) {
                self.write_entry(&entry, out)?;
            }
        }
        Ok(())
    }

    pub(crate) fn entry(&self, handle: Handle) -> Entry {
        self.with_state(|state, _| {
            let record = state.slots.get(handle);
            let mut entry = Entry {
                comm: state.comm_of(&record),
                frames: state.frames_of(record.trace),
                dump: [0; DUMP],
                dump_len: 0,
                next: record.next,
                record,
            };
            if !record.has(flag::FREED) {
                entry.dump_len = self.read_bytes(&record, &mut entry.dump);
            }
            entry
        })
    }

    /// The first bytes of a block that can't be freed now, since the lock is held.
    fn read_bytes(&self, record: &Record, bytes: &mut [u8; DUMP]) -> usize {
        const WORD: usize = size_of::<usize>();
        let start = record.start();
        let len = record.size.min(DUMP);
        if !self.platform.readable(start, len) {
            return 0;
        }
        for (offset, byte) in bytes.iter_mut().enumerate().take(len) {
            let address = start + offset;
            let word = address & !(WORD - 1);
            if word < start || word + WORD > record.end() {
                // Half a word at the end, that is not the block's alone.
                return offset;
            }
            // SAFETY: a whole word of the block; who frees it waits for the lock.
            let word = unsafe { self.platform.read_word(word) };
            *byte = word.to_ne_bytes()[address % WORD];
        }
        len
    }

    pub(crate) fn write_entry(&self, entry: &Entry, out: &mut dyn Write) -> fmt::Result {
        let record = &entry.record;
        writeln!(
            out,
            "unreferenced object {:#018x} (size {}):",
            record.start(),
            record.size
        )?;
        let age_us = self.platform.now_us().saturating_sub(record.birth_us);
        let comm = if record.has(flag::INTERRUPT) {
            "hardirq"
        } else {
            entry.comm.as_str()
        };
        writeln!(
            out,
            "  comm \"{comm}\", pid {}, cpu {}, age {}.{:03}s",
            record.task,
            record.cpu,
            age_us / 1_000_000,
            age_us / 1000 % 1000
        )?;
        if record.has(flag::FREED) {
            writeln!(out, "  freed since")?;
        } else {
            write_dump(&entry.dump[..entry.dump_len], out)?;
        }
        self.write_frames("backtrace", &entry.frames, out)
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
        let found = self.with_state(|state, _| state.object_at(address));
        let Some((handle, _)) = found else {
            return writeln!(out, "kmemleak: no object at {address:#018x}");
        };
        let entry = self.entry(handle);
        let record = &entry.record;
        writeln!(
            out,
            "object {:#018x} (size {}):",
            record.start(),
            record.size
        )?;
        let task = (entry.comm.as_str(), record.task, record.cpu);
        writeln!(out, "  comm \"{}\", pid {}, cpu {}", task.0, task.1, task.2)?;
        writeln!(out, "  birth {} us", record.birth_us)?;
        writeln!(
            out,
            "  min_count {}, count {}",
            record.min_count, record.count
        )?;
        let flags = [
            (flag::PERCPU, "percpu"),
            (flag::NO_SCAN, "no-scan"),
            (flag::SUSPECT, "suspect"),
            (flag::REPORTED, "reported"),
            (flag::INTERRUPT, "interrupt"),
        ];
        write!(out, "  flags")?;
        for (bit, name) in flags.into_iter().filter(|(bit, _)| record.has(*bit)) {
            let _ = bit;
            write!(out, " {name}")?;
        }
        writeln!(out)?;
        let bytes = &entry.dump[..entry.dump_len];
        writeln!(
            out,
            "  checksum {:08x} (first {} bytes)",
            crc32(bytes.iter().copied()),
            bytes.len()
        )?;
        write_dump(bytes, out)?;
        self.write_frames("backtrace", &entry.frames, out)
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
