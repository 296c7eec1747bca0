//! Reports as text.

use core::fmt::{self, Display, Formatter, Write};

use super::{Contents, Standing, Told, Totals, Which};
use crate::checker::claim::Claim;
use crate::checker::references::{NoAnswer, Slot, SlotPlace};
use crate::objects::record::flag;
use crate::platform::{MAX_FRAMES, Platform};
use crate::stacks::depot::{Frames, crc_of, crc32};
use crate::tracker::Detector;
use crate::verdict::call_sites::Site;
use crate::verdict::groups::Group;
use crate::verdict::iter::{Block, Rank};
use crate::verdict::suppress::Suppression;
use crate::verdict::{Doubt, How, Summary};

/// Where the call stack of an object is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stack {
    Here,
    /// With its group.
    Above,
}

/// So many of something.
pub(crate) struct Count<'a>(pub(crate) usize, pub(crate) &'a str);

impl Display for Count<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let ending = if self.0 == 1 { "" } else { "s" };
        write!(f, "{} {}{ending}", self.0, self.1)
    }
}

/// The sum of a verdict: the line for machines.
pub(crate) struct Sum<'a>(pub(crate) &'a Summary);

impl Display for Sum<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let summary = self.0;
        write!(
            f,
            "{} ({} bytes)",
            Count(summary.objects, "unreferenced object"),
            summary.bytes
        )?;
        if summary.suspects > 0 {
            write!(f, ", {}", Count(summary.suspects, "suspect"))?;
        }
        if summary.unrecorded > 0 {
            write!(f, ", {} unrecorded", summary.unrecorded)?;
        }
        Ok(())
    }
}

/// Text from elsewhere, such as names: control characters, which would end a line or steer a terminal, are escaped.
pub(crate) struct Plain<'a>(pub(crate) &'a mut dyn Write);

impl Write for Plain<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|character| {
            if character.is_control() {
                write!(self.0, "{}", character.escape_default())
            } else {
                self.0.write_char(character)
            }
        })
    }
}

/// The same, of text that there is already.
pub(crate) struct Typed<'a>(pub(crate) &'a str);

impl Display for Typed<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Plain(f).write_str(self.0)
    }
}

/// Microseconds, in seconds.
struct Age(u64);

impl Display for Age {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.0 / 1_000_000, self.0 / 1000 % 1000)
    }
}

/// So many passes.
struct Passes(u32);

impl Display for Passes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 pass"),
            passes => write!(f, "{passes} passes"),
        }
    }
}

/// Bytes of a dump in a line.
const DUMP_LINE: usize = 16;

impl<P: Platform> Claim<'_, P> {
    pub(super) fn report_text(
        &self,
        which: Which,
        totals: &Totals,
        out: &mut dyn Write,
    ) -> fmt::Result {
        let summary = &totals.summary;
        let standing = Standing::of(summary.doubt());
        if summary.direct_objects.is_none() {
            writeln!(
                out,
                "kmemleak: no memory to tell leaders from what they own, or to put objects in order: all are listed"
            )?;
        } else if summary.groups.is_none() {
            writeln!(
                out,
                "kmemleak: no memory to group the objects by call stack"
            )?;
        }
        let grouped = matches!(which, Which::Leaders | Which::All) && summary.groups.is_some();
        let (mut written, mut last) = (Ok(()), None);
        let (mut new_objects, mut new_bytes) = (0, 0);
        self.each_told(which, totals.at_us, &mut |told| {
            new_objects += 1;
            new_bytes += told.size;
            if written.is_err() {
                return;
            }
            let trace = told.named.record.trace();
            let leader = matches!(told.rank, Some(Rank::Direct { .. }));
            let group = (grouped && leader)
                .then(|| self.group_of(trace))
                .flatten()
                .filter(|group| group.direct_objects > 1);
            if let Some(group) = &group
                && last != Some(trace)
            {
                written = self.group_text(group, standing, &told.frames, totals.at_us, out);
                last = Some(trace);
            }
            let stack = if last == Some(trace) {
                Stack::Above
            } else {
                Stack::Here
            };
            written = written.and_then(|()| self.told_text(told, standing, stack, out));
        });
        written?;
        if which == Which::New {
            let new = match standing {
                Standing::Leaks => Count(new_objects, "object"),
                Standing::Suspects => Count(new_objects, "suspect"),
            };
            let since = match self.has_mark() {
                true => "new since the mark",
                false => "new, there being no mark",
            };
            writeln!(out, "kmemleak: {new} ({new_bytes} bytes) {since}")?;
        }
        self.summary_text(summary, out)
    }
}

impl<P: Platform> Detector<P> {
    fn group_text(
        &self,
        group: &Group,
        standing: Standing,
        frames: &Frames,
        at_us: u64,
        out: &mut dyn Write,
    ) -> fmt::Result {
        write!(
            out,
            "group of {} ({} bytes)",
            Count(
                group.direct_objects,
                match standing {
                    Standing::Leaks => "unreferenced object",
                    Standing::Suspects => "suspected object",
                }
            ),
            group.direct_bytes
        )?;
        if group.indirect_objects > 0 {
            write!(
                out,
                " that own {} ({} bytes)",
                Count(group.indirect_objects, "object"),
                group.indirect_bytes
            )?;
        }
        writeln!(
            out,
            ", age {} to {}:",
            Age(at_us.saturating_sub(group.newest_us)),
            Age(at_us.saturating_sub(group.oldest_us))
        )?;
        self.write_frames("backtrace", frames, out)
    }

    pub(super) fn told_text(
        &self,
        told: &Told<'_>,
        standing: Standing,
        stack: Stack,
        out: &mut dyn Write,
    ) -> fmt::Result {
        let record = &told.named.record;
        writeln!(
            out,
            "{} object {:#018x} (size {}):",
            match standing {
                Standing::Leaks => "unreferenced",
                Standing::Suspects => "suspected",
            },
            told.named.start,
            told.size
        )?;
        writeln!(
            out,
            "  comm {:?}, pid {}, cpu {}, age {}",
            told.comm,
            record.task(),
            record.cpu(),
            Age(told.age_us)
        )?;
        match told.rank {
            Some(Rank::Direct {
                owned_objects,
                owned_bytes,
            }) if owned_objects > 0 => writeln!(
                out,
                "  owns {} ({owned_bytes} bytes)",
                Count(owned_objects, "object")
            )?,
            Some(Rank::Indirect { leader }) => writeln!(out, "  owned by {leader:#018x}")?,
            _ => {}
        }
        match &told.contents {
            Contents::Read(dump) => write_dump(&dump.bytes[..dump.len], out)?,
            Contents::Freed => writeln!(out, "  freed since")?,
            Contents::Unknown => writeln!(out, "  not read: off, so perhaps freed since")?,
        }
        match stack {
            Stack::Here => self.write_frames("backtrace", &told.frames, out),
            Stack::Above => writeln!(out, "  backtrace (crc {:08x}): as above", told.frames.crc()),
        }
    }

    fn summary_text(&self, summary: &Summary, out: &mut dyn Write) -> fmt::Result {
        doubts_text(summary, out)?;
        if summary.suppressed_objects > 0 {
            writeln!(
                out,
                "kmemleak: {} ({} bytes) suppressed",
                Count(summary.suppressed_objects, "object"),
                summary.suppressed_bytes
            )?;
        }
        if let (Some(direct), Some(groups)) = (summary.direct_objects, summary.groups)
            && summary.listed() > 1
        {
            writeln!(
                out,
                "kmemleak: {} ({} bytes) and {} owned ({} bytes), from {}",
                Count(direct, "leader"),
                summary.direct_bytes,
                summary.listed() - direct,
                summary.listed_bytes() - summary.direct_bytes,
                Count(groups, "call stack")
            )?;
        }
        write!(
            out,
            "kmemleak: {} tracked, {} words read in {} us on {}",
            Count(summary.tracked as usize, "object"),
            summary.words,
            summary.took_us,
            Count(summary.cpus as usize, "cpu")
        )?;
        if summary.stopped_us > 0 {
            write!(out, ", stopped for {} us", summary.stopped_us)?;
        }
        writeln!(
            out,
            "; candidates {}, hits {}, misses {}, unrecorded {}",
            summary.candidates,
            summary.hits,
            summary.candidates - summary.hits,
            summary.unrecorded
        )?;
        writeln!(out, "kmemleak: {}", Sum(summary))
    }

    pub(crate) fn write_frames(
        &self,
        title: &str,
        frames: &Frames,
        out: &mut dyn Write,
    ) -> fmt::Result {
        self.write_addresses(title, frames.as_slice(), out)
    }

    fn write_addresses(
        &self,
        title: &str,
        addresses: &[usize],
        out: &mut dyn Write,
    ) -> fmt::Result {
        if addresses.is_empty() {
            return writeln!(out, "  {title}: none recorded");
        }
        writeln!(out, "  {title} (crc {:08x}):", crc_of(addresses))?;
        addresses.iter().try_for_each(|&address| {
            write!(out, "    ")?;
            self.platform.symbol(address, &mut Plain(out))?;
            writeln!(out)
        })?;
        if addresses.len() == MAX_FRAMES {
            writeln!(out, "    and perhaps more: {MAX_FRAMES} are kept")?;
        }
        Ok(())
    }

    /// Writes what is known of the object that `address` lies in. The caller has the claim.
    pub(crate) fn dump(&self, address: usize, out: &mut dyn Write) -> fmt::Result {
        let Some(named) = self.named_at(address) else {
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
            "  comm {:?}, pid {}, cpu {}",
            self.comm_of(&named),
            record.task(),
            record.cpu()
        )?;
        writeln!(out, "  birth {} us", self.birth_us(record))?;
        let (min_count, count) =
            self.without_interrupts(|_| self.registry.references(named.start, record));
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
        if let Contents::Read(dump) = self.contents_of(&named) {
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

    pub(crate) fn interior_text(&self, block: &Block, out: &mut dyn Write) -> fmt::Result {
        writeln!(out, "object {:#018x} (size {}):", block.start, block.size)?;
        match self.named_at(block.start) {
            Some(named) => {
                let frames = self.depot.get(named.record.trace());
                self.write_frames("backtrace", &frames, out)
            }
            None => writeln!(out, "  freed since"),
        }
    }

    pub(super) fn slot_text(&self, slot: Slot, out: &mut dyn Write) -> fmt::Result {
        write!(out, "  {:#018x}: ", slot.address)?;
        match slot.place {
            SlotPlace::Root(root) => {
                self.platform
                    .name_root(root, slot.address, &mut Plain(out))?;
            }
            SlotPlace::Object { start, size } => {
                write!(out, "object {start:#018x} (size {size})")?;
                match slot.offset() {
                    Some(offset) => write!(out, "+{offset:#x}")?,
                    None => write!(out, ", another copy")?,
                }
                let named = self.named_at(start);
                if named
                    .as_ref()
                    .is_some_and(|named| named.record.has(flag::NO_SCAN))
                {
                    write!(out, ", not scanned")?;
                }
                let frames = named.map(|named| self.depot.get(named.record.trace()));
                if let Some(&innermost) =
                    frames.as_ref().and_then(|frames| frames.as_slice().first())
                {
                    write!(out, ", from ")?;
                    self.platform.symbol(innermost, &mut Plain(out))?;
                }
            }
        }
        writeln!(out)
    }

    pub(super) fn site_text(&self, site: &Site<'_>, out: &mut dyn Write) -> fmt::Result {
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
        writeln!(out, ":")?;
        self.write_addresses("backtrace", site.call_stack, out)
    }
}

/// Says why what is listed are suspects.
fn doubts_text(summary: &Summary, out: &mut dyn Write) -> fmt::Result {
    let passes = match summary.how {
        How::Stopped => None,
        How::Scanned { passes } => {
            writeln!(
                out,
                "kmemleak: suspects of {} beside what runs, which no stop of the world has confirmed",
                Passes(passes)
            )?;
            Some(passes)
        }
        How::Repeated { reason, passes } => {
            writeln!(
                out,
                "kmemleak: {reason}: suspects of {} beside what runs",
                Passes(passes)
            )?;
            Some(passes)
        }
    };
    if let Some(passes) = passes
        && !summary.settled
    {
        writeln!(
            out,
            "kmemleak: after {passes} passes the suspects still changed: what is in use may be among them"
        )?;
    }
    if summary.unread > 0 {
        let doubt = Doubt::Unread(summary.unread);
        writeln!(
            out,
            "kmemleak: {doubt}: what only these point to is among the suspects"
        )?;
    }
    if summary.unrecorded == 0 {
        return Ok(());
    }
    writeln!(
        out,
        "kmemleak: {}: what that would keep alive may be among the suspects",
        Doubt::Unrecorded(summary.unrecorded)
    )
}

pub(super) fn trail_end(
    kind: &str,
    count: usize,
    answer: Result<usize, NoAnswer>,
    out: &mut dyn Write,
) -> fmt::Result {
    match answer {
        Ok(object) => writeln!(
            out,
            "kmemleak: {} {} object {object:#018x}",
            Count(count, kind),
            if kind == "holder" { "of" } else { "to" }
        ),
        Err(why) => writeln!(out, "kmemleak: {why}"),
    }
}

pub(super) fn sites_end(shown: usize, of: usize, all: bool, out: &mut dyn Write) -> fmt::Result {
    if !all {
        writeln!(out, "kmemleak: no memory to count all call sites")?;
    }
    writeln!(out, "kmemleak: {shown} of {}", Count(of, "call site"))
}

pub(crate) fn suppression_text(one: &Suppression<'_>, out: &mut dyn Write) -> fmt::Result {
    write!(Plain(out), "  {}", one.pattern)?;
    if let Some(max) = one.max {
        write!(out, ":max={max}")?;
    }
    let over = one.max.is_some_and(|max| one.matched > max);
    writeln!(
        out,
        "  {} matched{}, {} ({} bytes) hidden",
        one.matched,
        if over { ", over its ceiling" } else { "" },
        Count(one.objects as usize, "object"),
        one.bytes
    )
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
