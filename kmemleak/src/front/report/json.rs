//! Reports as JSON, an object a line: the schema is in `kmemleak/FORMATS.md`.

use core::fmt::{self, Display, Formatter, Write};

use super::{Contents, Standing, Told, Totals, Which};
use crate::checker::claim::Claim;
use crate::checker::references::{NoAnswer, Slot, SlotPlace};
use crate::objects::record::flag;
use crate::platform::{Platform, Root};
use crate::stacks::depot::{Frames, Trace, crc_of};
use crate::tracker::Detector;
use crate::verdict::call_sites::Site;
use crate::verdict::groups::Group;
use crate::verdict::iter::{Block, Rank};
use crate::verdict::leak_list::Named;
use crate::verdict::suppress::Suppression;
use crate::verdict::{How, Summary};

/// The version of the schema: it changes when a field goes or means something else, not when one is added.
const SCHEMA: u32 = 1;

/// Begins a line.
fn begin(kind: &str, out: &mut dyn Write) -> fmt::Result {
    write!(out, "{{\"schema\":{SCHEMA},\"kind\":\"{kind}\"")
}

/// A value, or null.
struct OrNull<T>(Option<T>);

impl<T: Display> Display for OrNull<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("null"),
        }
    }
}

/// An address: text, since not all readers take numbers of 64 bits.
struct Address(usize);

impl Display for Address {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "\"{:#018x}\"", self.0)
    }
}

/// Text between quotation marks; what would end it, and what is no character of JSON text, is escaped.
struct Escaped<'a>(&'a mut dyn Write);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|character| match character {
            '"' | '\\' => write!(self.0, "\\{character}"),
            '\0'..='\u{1f}' => write!(self.0, "\\u{:04x}", u32::from(character)),
            _ => self.0.write_char(character),
        })
    }
}

fn string(text: &str, out: &mut dyn Write) -> fmt::Result {
    out.write_char('"')?;
    Escaped(out).write_str(text)?;
    out.write_char('"')
}

/// Instead of an answer.
pub(super) fn error(what: &dyn Display, out: &mut dyn Write) -> fmt::Result {
    begin("error", out)?;
    write!(out, ",\"error\":")?;
    string_of(what, out)?;
    writeln!(out, "}}")
}

pub(crate) fn interior_end(objects: usize, bytes: usize, out: &mut dyn Write) -> fmt::Result {
    begin("interiors", out)?;
    writeln!(out, ",\"objects\":{objects},\"bytes\":{bytes}}}")
}

pub(crate) fn suppressions_end(count: usize, out: &mut dyn Write) -> fmt::Result {
    begin("suppressions", out)?;
    writeln!(out, ",\"count\":{count}}}")
}

pub(super) fn trail_end(
    kind: &str,
    count: usize,
    answer: Result<usize, NoAnswer>,
    out: &mut dyn Write,
) -> fmt::Result {
    begin(if kind == "holder" { "holders" } else { "path" }, out)?;
    write!(out, ",\"count\":{count}")?;
    match answer {
        Ok(target) => writeln!(out, ",\"target\":{},\"error\":null}}", Address(target)),
        Err(why) => {
            write!(out, ",\"target\":null,\"error\":")?;
            string_of(&why, out)?;
            writeln!(out, "}}")
        }
    }
}

pub(super) fn sites_end(shown: usize, of: usize, all: bool, out: &mut dyn Write) -> fmt::Result {
    begin("sites", out)?;
    writeln!(
        out,
        ",\"shown\":{shown},\"total\":{of},\"complete\":{all}}}"
    )
}

fn string_of(value: &dyn Display, out: &mut dyn Write) -> fmt::Result {
    out.write_char('"')?;
    write!(Escaped(out), "{value}")?;
    out.write_char('"')
}

impl<P: Platform> Claim<'_, P> {
    pub(super) fn report_json(
        &self,
        which: Which,
        totals: &Totals,
        out: &mut dyn Write,
    ) -> fmt::Result {
        let mut written = Ok(());
        if matches!(which, Which::Leaders | Which::All) {
            self.each_group(&mut |group, trace| {
                if written.is_ok() {
                    written = self.group_json(group, trace, totals.at_us, out);
                }
            });
        }
        let standing = Standing::of(totals.summary.doubt());
        let (mut new_objects, mut new_bytes) = (0, 0);
        self.each_told(which, totals.at_us, &mut |told| {
            new_objects += 1;
            new_bytes += told.size;
            if written.is_ok() {
                written = self.told_json(told, standing, out);
            }
        });
        written?;
        let new = (which == Which::New).then_some((new_objects, new_bytes));
        summary_json(&totals.summary, new, out)
    }
}

impl<P: Platform> Detector<P> {
    fn group_json(
        &self,
        group: &Group,
        trace: Trace,
        at_us: u64,
        out: &mut dyn Write,
    ) -> fmt::Result {
        begin("group", out)?;
        write!(
            out,
            ",\"objects\":{},\"bytes\":{},\"direct_objects\":{},\"direct_bytes\":{},\"indirect_objects\":{},\"indirect_bytes\":{},\"oldest_age_us\":{},\"newest_age_us\":{}",
            group.objects,
            group.bytes,
            group.direct_objects,
            group.direct_bytes,
            group.indirect_objects,
            group.indirect_bytes,
            at_us.saturating_sub(group.oldest_us),
            at_us.saturating_sub(group.newest_us)
        )?;
        self.frames_json(self.depot.get(trace).as_slice(), out)?;
        writeln!(out, "}}")
    }

    fn told_json(&self, told: &Told<'_>, standing: Standing, out: &mut dyn Write) -> fmt::Result {
        begin("object", out)?;
        self.named_json(told.named, told.size, out)?;
        write!(out, ",\"age_us\":{}", told.age_us)?;
        let (direct, leader, owned) = match told.rank {
            Some(Rank::Direct {
                owned_objects,
                owned_bytes,
            }) => (Some(true), None, Some((owned_objects, owned_bytes))),
            Some(Rank::Indirect { leader }) => (Some(false), Some(leader), Some((0, 0))),
            None => (None, None, None),
        };
        let freed = match told.contents {
            Contents::Read(_) => Some(false),
            Contents::Freed => Some(true),
            Contents::Unknown => None,
        };
        write!(
            out,
            ",\"direct\":{},\"leader\":{},\"indirect_objects\":{},\"indirect_bytes\":{},\"suspect\":{},\"reported\":{},\"freed\":{},\"dump\":",
            OrNull(direct),
            OrNull(leader.map(Address)),
            OrNull(owned.map(|owned| owned.0)),
            OrNull(owned.map(|owned| owned.1)),
            standing == Standing::Suspects,
            told.named.record.has(flag::REPORTED),
            OrNull(freed)
        )?;
        match &told.contents {
            Contents::Read(dump) => {
                let mut bytes = dump.bytes[..dump.len].iter();
                out.write_char('"')?;
                bytes.try_for_each(|byte| write!(out, "{byte:02x}"))?;
                out.write_char('"')?;
            }
            Contents::Freed | Contents::Unknown => out.write_str("null")?,
        }
        self.frames_json(told.frames.as_slice(), out)?;
        writeln!(out, "}}")
    }

    fn named_json(&self, named: &Named, size: usize, out: &mut dyn Write) -> fmt::Result {
        let record = &named.record;
        write!(
            out,
            ",\"address\":{},\"size\":{size},\"birth_us\":{},\"task\":{},\"comm\":",
            Address(named.start),
            self.birth_us(record),
            record.task()
        )?;
        string(self.comm_of(named).as_str(), out)?;
        write!(
            out,
            ",\"cpu\":{},\"interrupt\":{}",
            record.cpu(),
            record.has(flag::INTERRUPT)
        )
    }

    fn frames_json(&self, addresses: &[usize], out: &mut dyn Write) -> fmt::Result {
        write!(
            out,
            ",\"crc\":\"{:08x}\",\"backtrace\":[",
            crc_of(addresses)
        )?;
        for (place, &address) in addresses.iter().enumerate() {
            out.write_str(if place > 0 { ",\"" } else { "\"" })?;
            self.platform.symbol(address, &mut Escaped(out))?;
            out.write_char('"')?;
        }
        out.write_char(']')
    }

    pub(super) fn slot_json(&self, kind: &str, slot: Slot, out: &mut dyn Write) -> fmt::Result {
        begin(kind, out)?;
        write!(out, ",\"slot\":{},\"root\":", Address(slot.address))?;
        match slot.place {
            SlotPlace::Root(root) => {
                out.write_char('"')?;
                self.name_root_in(root, slot.address, out)?;
                write!(
                    out,
                    "\",\"object\":null,\"object_size\":null,\"offset\":null,\"crc\":null,\"backtrace\":null"
                )?;
            }
            SlotPlace::Object { start, size } => {
                write!(
                    out,
                    "null,\"object\":{},\"object_size\":{size},\"offset\":{}",
                    Address(start),
                    OrNull(slot.offset())
                )?;
                let frames = match self.named_at(start) {
                    Some(named) => self.depot.get(named.record.trace()),
                    None => Frames::NONE,
                };
                self.frames_json(frames.as_slice(), out)?;
            }
        }
        writeln!(out, "}}")
    }

    fn name_root_in(&self, root: Root, address: usize, out: &mut dyn Write) -> fmt::Result {
        self.platform.name_root(root, address, &mut Escaped(out))
    }

    pub(super) fn site_json(&self, site: &Site<'_>, out: &mut dyn Write) -> fmt::Result {
        begin("site", out)?;
        write!(
            out,
            ",\"bytes\":{},\"objects\":{},\"growth_bytes\":{},\"growth_objects\":{}",
            site.bytes,
            site.objects,
            OrNull(site.growth.map(|growth| growth.bytes)),
            OrNull(site.growth.map(|growth| growth.objects))
        )?;
        self.frames_json(site.call_stack, out)?;
        writeln!(out, "}}")
    }

    pub(crate) fn interior_json(&self, block: &Block, out: &mut dyn Write) -> fmt::Result {
        begin("interior", out)?;
        match self.named_at(block.start) {
            Some(named) => {
                self.named_json(&named, block.size, out)?;
                self.frames_json(self.depot.get(named.record.trace()).as_slice(), out)?;
            }
            None => write!(
                out,
                ",\"address\":{},\"size\":{},\"birth_us\":{},\"task\":null,\"comm\":null,\"cpu\":null,\"interrupt\":null,\"crc\":null,\"backtrace\":null",
                Address(block.start),
                block.size,
                block.birth_us
            )?,
        }
        writeln!(out, "}}")
    }
}

pub(crate) fn suppression_json(suppression: &Suppression<'_>, out: &mut dyn Write) -> fmt::Result {
    begin("suppression", out)?;
    write!(out, ",\"pattern\":")?;
    string_of(&suppression.pattern, out)?;
    writeln!(
        out,
        ",\"max\":{},\"matched\":{},\"suppressed_objects\":{},\"suppressed_bytes\":{}}}",
        OrNull(suppression.max),
        suppression.matched,
        suppression.objects,
        suppression.bytes
    )
}

/// The sums, with objects and bytes of what is new since the mark, where that was asked for.
fn summary_json(
    summary: &Summary,
    new: Option<(usize, usize)>,
    out: &mut dyn Write,
) -> fmt::Result {
    begin("summary", out)?;
    let (how, passes, reason) = match summary.how {
        How::Stopped => ("stopped", 1, None),
        How::Scanned { passes } => ("scanned", passes, None),
        How::Repeated { reason, passes } => ("repeated", passes, Some(reason)),
    };
    write!(out, ",\"how\":\"{how}\",\"passes\":{passes},\"reason\":")?;
    match reason {
        Some(reason) => string_of(&reason, out)?,
        None => write!(out, "null")?,
    }
    write!(
        out,
        ",\"settled\":{},\"objects\":{},\"bytes\":{},\"suspects\":{},\"suspect_bytes\":{},\"direct_objects\":{},\"direct_bytes\":{},\"groups\":{},\"unreported_objects\":{},\"unreported_bytes\":{},\"new_objects\":{},\"new_bytes\":{},\"suppressed_objects\":{},\"suppressed_bytes\":{}",
        summary.settled,
        summary.objects,
        summary.bytes,
        summary.suspects,
        summary.suspect_bytes,
        OrNull(summary.direct_objects),
        summary.direct_bytes,
        OrNull(summary.groups),
        summary.unreported_objects,
        summary.unreported_bytes,
        OrNull(new.map(|new| new.0)),
        OrNull(new.map(|new| new.1)),
        summary.suppressed_objects,
        summary.suppressed_bytes
    )?;
    writeln!(
        out,
        ",\"tracked\":{},\"words\":{},\"candidates\":{},\"hits\":{},\"misses\":{},\"took_us\":{},\"stopped_us\":{},\"cpus\":{},\"unread\":{},\"unrecorded\":{}}}",
        summary.tracked,
        summary.words,
        summary.candidates,
        summary.hits,
        summary.candidates - summary.hits,
        summary.took_us,
        summary.stopped_us,
        summary.cpus,
        summary.unread,
        summary.unrecorded
    )
}
