//! Telling people, and machines, what was found.
//!
//! Writing takes long, and what writes may allocate from the very allocators that are tracked: so nothing is
//! written under a lock. A record is copied out, with the first bytes of its block if that is still there,
//! then written.
//!
//! There are two formats: text, and JSON with one object a line, of which `kmemleak/FORMATS.md` is the reference. Neither
//! leaves anything out but what it says it does.

mod json;
mod text;

pub(crate) use self::json::{interior_end, suppression_json, suppressions_end};
pub(crate) use self::text::{Count, Plain, Sum, Typed, suppression_text};

use core::fmt::{self, Write};

use crate::checker::claim::{Claim, Nested, NotDone};
use crate::checker::references::{NoAnswer, Slot};
use crate::metadata::hidden::Hidden;
use crate::objects::record::{Record, flag};
use crate::objects::{Locked, Object};
use crate::platform::address::Extent;
use crate::platform::{Comm, Platform};
use crate::stacks::depot::{Frames, Trace};
use crate::tracker::Detector;
use crate::verdict::groups::Group;
use crate::verdict::iter::{Rank, STEP};
use crate::verdict::leak_list::{Named, fate};
use crate::verdict::{Doubt, Summary};

/// Bytes of a block that are shown.
const DUMP: usize = 32;

/// What is said where there is no verdict.
pub(crate) const NO_CHECK: &str = "no check so far, or none since the last clear";

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For machines: a JSON object a line, as `FORMATS.md` says.
    Json,
}

/// Which leaks of a verdict are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The leaders, group by group, which stand for what they own.
    Leaders,
    /// All, group by group, each leader with what it owns.
    All,
    /// Those that have not been told of, one by one.
    Unreported,
    /// Those that the verdict before the last mark did not have, one by one.
    New,
}

/// Says what is in the way of an answer.
pub(crate) fn complain(
    format: Format,
    what: &dyn fmt::Display,
    out: &mut dyn Write,
) -> fmt::Result {
    match format {
        Format::Text => {
            write!(out, "kmemleak: ")?;
            write!(Plain(out), "{what}")?;
            writeln!(out)
        }
        Format::Json => json::error(what, out),
    }
}

/// What a block has in it.
enum Contents {
    Read(Dump),
    /// It has been freed since.
    Freed,
    /// Nobody knows whether it has been freed, so it is not read: the detector is off, and hears of no free.
    Unknown,
}

/// The first bytes of a block.
struct Dump {
    bytes: [u8; DUMP],
    len: usize,
}

/// What those that a verdict lists are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Leaks,
    Suspects,
}

impl Standing {
    pub(crate) fn of(doubt: Option<Doubt>) -> Self {
        match doubt {
            None => Self::Leaks,
            Some(_) => Self::Suspects,
        }
    }
}

/// A leak or a suspect, as it is told of.
struct Told<'a> {
    named: &'a Named,
    size: usize,
    age_us: u64,
    comm: Comm,
    /// None where the order was too much for memory.
    rank: Option<Rank>,
    contents: Contents,
    frames: Frames,
}

/// What a summary says beside the verdict's figures.
struct Totals {
    summary: Summary,
    at_us: u64,
}

impl<P: Platform> Detector<P> {
    /// Writes the last verdict as text: the leaders of what nothing points to, by call stack, then a line with the
    /// sum. Task context, with no lock held.
    pub fn report(&self, out: &mut dyn Write) -> fmt::Result {
        self.report_as(Format::Text, Which::Leaders, out)
    }

    /// Writes the last verdict: such of its leaks, in that format, then a line with the sum. Task context, with no lock
    /// held.
    pub fn report_as(&self, format: Format, which: Which, out: &mut dyn Write) -> fmt::Result {
        match self.claim() {
            Ok(claim) => claim.write_report(format, which, out),
            Err(Nested) => complain(format, &NotDone::Nested, out),
        }
    }
}

impl<P: Platform> Claim<'_, P> {
    /// Writes the last verdict.
    pub(crate) fn write_report(
        &self,
        format: Format,
        which: Which,
        out: &mut dyn Write,
    ) -> fmt::Result {
        let _outside = self.outside();
        let totals = self.with_verdict(|verdict, _| {
            let at_us = verdict.at_us;
            verdict.summary.map(|summary| Totals { summary, at_us })
        });
        let Some(totals) = totals else {
            return complain(format, &NO_CHECK, out);
        };
        match format {
            Format::Text => self.report_text(which, &totals, out),
            Format::Json => self.report_json(which, &totals, out),
        }
    }

    /// Shows the leaks in the order in which they are told of.
    fn each_told(&self, which: Which, at_us: u64, look: &mut dyn FnMut(&Told<'_>)) {
        if which == Which::New {
            self.note_new();
        }
        let flat = self.with_verdict(|verdict, _| verdict.list.left_out > 0);
        if flat && which == Which::New {
            return self.each_new(self.mark_cursor(), &mut |named, _| {
                look(&self.told(named, None, at_us));
            });
        }
        if flat {
            return self.each_named(&mut |named| {
                if which != Which::Unreported || !named.record.has(flag::REPORTED) {
                    look(&self.told(named, None, at_us));
                }
            });
        }
        let leaks =
            self.with_verdict(|verdict, _| verdict.summary.map_or(0, |summary| summary.listed()));
        let mut place = 0;
        while place < leaks {
            let next = self.with_verdict(|verdict, _| {
                let list = &verdict.list;
                let end = leaks.min(place + STEP);
                while place < end {
                    let index = list.queued(place);
                    place += 1;
                    let named = list.get(index)?;
                    let wanted = match which {
                        Which::All => true,
                        Which::Leaders => list.has(index, fate::LEADER),
                        Which::Unreported => !named.record.has(flag::REPORTED),
                        Which::New => list.has(index, fate::NEW),
                    };
                    if wanted {
                        return Some((named, index));
                    }
                }
                None
            });
            if let Some((named, index)) = next {
                look(&self.told(&named, Some(self.rank_of(index)), at_us));
            }
        }
    }

    /// Notes which leaks are new since the mark.
    fn note_new(&self) {
        let len = self.with_verdict(|verdict, _| verdict.list.len());
        for index in 0..len {
            self.with_verdict(|verdict, _| verdict.list.clear_fate(index, fate::NEW));
        }
        self.each_new(self.mark_cursor(), &mut |_, index| {
            if let Some(index) = index {
                self.with_verdict(|verdict, _| verdict.list.set_fate(index, fate::NEW));
            }
        });
    }

    fn told<'a>(&self, named: &'a Named, rank: Option<Rank>, at_us: u64) -> Told<'a> {
        Told {
            named,
            size: self.size_of(named),
            age_us: at_us.saturating_sub(named.record.birth_us()),
            comm: self.comm_of(named),
            rank,
            contents: self.contents_of(named),
            frames: self.depot.get(named.record.trace()),
        }
    }

    /// Writes one leak or suspect as text.
    pub(crate) fn write_leak(
        &self,
        named: &Named,
        index: Option<usize>,
        out: &mut dyn Write,
    ) -> fmt::Result {
        let (at_us, summary) = self.with_verdict(|verdict, _| (verdict.at_us, verdict.summary));
        let standing = Standing::of(summary.and_then(|summary| summary.doubt()));
        let rank = index.map(|index| self.rank_of(index));
        let told = self.told(named, rank, at_us);
        self.told_text(&told, standing, text::Stack::Here, out)
    }

    /// Shows the groups in the order in which they are told of.
    pub(crate) fn each_group(&self, look: &mut dyn FnMut(&Group, Trace)) {
        let mut place = 0;
        loop {
            let next = self.with_verdict(|verdict, _| {
                let groups = &verdict.groups;
                (place < groups.len()).then(|| {
                    let group = groups.ordered(place);
                    (groups.get(group), groups.trace(group))
                })
            });
            let Some((group, trace)) = next else { return };
            look(&group, trace);
            place += 1;
        }
    }

    /// The group of the objects that a call stack allocated.
    fn group_of(&self, trace: Trace) -> Option<Group> {
        self.with_verdict(|verdict, _| {
            let group = verdict.groups.of(trace)?;
            Some(verdict.groups.get(group))
        })
    }

    /// Writes who holds the object in which `address` lies.
    pub(crate) fn write_holders(
        &self,
        format: Format,
        address: Hidden,
        out: &mut dyn Write,
    ) -> fmt::Result {
        self.write_trail(format, "holder", out, |look| {
            self.find_holders(address, look)
        })
    }

    /// Writes by which way a root leads to the object in which `address` lies.
    pub(crate) fn write_path(
        &self,
        format: Format,
        address: Hidden,
        out: &mut dyn Write,
    ) -> fmt::Result {
        self.write_trail(format, "step", out, |look| self.find_path(address, look))
    }

    /// Writes the words that an answer shows, and how many there are.
    fn write_trail(
        &self,
        format: Format,
        kind: &str,
        out: &mut dyn Write,
        ask: impl FnOnce(&mut dyn FnMut(Slot)) -> Result<usize, NoAnswer>,
    ) -> fmt::Result {
        let (mut count, mut written) = (0, Ok(()));
        let answer = ask(&mut |slot| {
            count += 1;
            if written.is_ok() {
                written = match format {
                    Format::Text => self.slot_text(slot, out),
                    Format::Json => self.slot_json(kind, slot, out),
                };
            }
        });
        written?;
        let _outside = self.outside();
        match format {
            Format::Text => text::trail_end(kind, count, answer, out),
            Format::Json => json::trail_end(kind, count, answer, out),
        }
    }

    /// Writes the call sites with the most live bytes, `top` of them.
    pub(crate) fn write_sites(
        &self,
        format: Format,
        top: usize,
        out: &mut dyn Write,
    ) -> fmt::Result {
        let _outside = self.outside();
        let (mut count, mut written) = (0, Ok(()));
        let all = self.each_site(&mut |site| {
            count += 1;
            if written.is_ok() && count <= top {
                written = match format {
                    Format::Text => self.site_text(&site, out),
                    Format::Json => self.site_json(&site, out),
                };
            }
        });
        written?;
        match format {
            Format::Text => text::sites_end(count.min(top), count, all, out),
            Format::Json => json::sites_end(count.min(top), count, all, out),
        }
    }
}

impl<P: Platform> Detector<P> {
    /// The first bytes of a block, if it is still there. It can't be freed meanwhile: its chunk is locked.
    fn contents_of(&self, named: &Named) -> Contents {
        let birth_us = named.record.birth_us();
        self.without_interrupts(|_| {
            let contents = self
                .registry
                .starting_at::<Locked, _>(named.start, |object| {
                    let record = object.record.read();
                    if record.birth_us() != birth_us {
                        return Contents::Freed;
                    }
                    // Who frees a block waits for the chunk's lock only as long as it is told.
                    match self.is_on() {
                        true => Contents::Read(self.read_bytes(named.start, &record)),
                        false => Contents::Unknown,
                    }
                });
            contents.unwrap_or(Contents::Freed)
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
            let copy = Extent::copy(&self.platform, start, 0, size);
            copy.map(|copy| copy.start().get())
        } else if record.has(flag::PHYS) {
            let memory = Extent::mapped(&self.platform, start, size);
            memory.map(|memory| memory.start().get())
        } else {
            Some(start)
        };
        let Some(start) = copy.filter(|&copy| {
            self.strangers
                .or_platform(&self.platform, copy, size.min(DUMP))
        }) else {
            return dump;
        };
        for (offset, byte) in dump.bytes.iter_mut().enumerate().take(size) {
            let address = start + offset;
            let word = address & !(WORD - 1);
            if word < start || size - (word - start) < WORD {
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

    fn comm_of(&self, named: &Named) -> Comm {
        if named.record.has(flag::INTERRUPT) {
            return Comm::new("hardirq");
        }
        self.task_names.get(named.record.comm(), named.copied)
    }

    /// The object that an address lies in, a per-CPU block for each of its copies.
    pub(crate) fn named_at(&self, address: usize) -> Option<Named> {
        let copied = self.task_names.now();
        let named = |object: Object<'_>, _| Named {
            start: object.start,
            record: object.record.read(),
            copied,
        };
        self.without_interrupts(|_| self.registry.block_containing::<Locked, _>(address, named))
    }
}
