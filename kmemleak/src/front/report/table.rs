//! The table of a report: what was lost, a line for each call stack that lost it.
//!
//! What is most at stake comes first: the bytes of a group's leaders and of what these own. The first lines are shown, and how
//! many more there are. Without memory for groups there is a line for each object.

use core::fmt::{self, Write};

use super::Standing;
use super::backtrace::EmptyStacks;
use super::columns::{CALL_SITE, Right, handle_column, size_column, write_call_site};
use super::style::{Ink, Style};
use super::sums::{NextCommand, before_text, end_text, new_text};
use super::type_column::TypeColumn;
use super::words::{ByteSum, Count, ShortAge};
use crate::checker::claim::Claim;
use crate::platform::Platform;
use crate::stacks::depot::StackId;
use crate::verdict::groups::Share;
use crate::verdict::handles::{ShortHandle, Thing};
use crate::verdict::iter::Rank;
use crate::verdict::leak_list::Named;
use crate::verdict::order::Which;
use crate::verdict::summary::Summary;

/// Writes the last verdict, `top` lines of it.
pub(super) fn report<P: Platform>(
    claim: &Claim<'_, P>,
    which: Which,
    top: usize,
    summary: &Summary,
    out: &mut dyn Write,
) -> fmt::Result {
    before_text(summary, out)?;
    let standing = Standing::of(summary.doubt());
    let mut table = Table {
        types: types_of(claim, which, top, summary),
        claim,
        standing,
        which,
        top,
        rows: 0,
        all: Tally::default(),
        shown: Tally::default(),
        first: None,
        empty: EmptyStacks::default(),
        out: &mut *out,
    };
    let mut written = Ok(());
    let noun = if summary.groups.is_some() {
        claim.each_share(which, &mut |share, stack_id| {
            if written.is_ok() {
                written = table.row(share, Thing::Group(stack_id), stack_id);
            }
        });
        "more group"
    } else {
        claim.each_in_order(which, &mut |named, index| {
            if written.is_ok() {
                let share = share_of(claim, which, named, index);
                written = table.row(&share, named.thing(), named.record.stack_id());
            }
        });
        "more object"
    };
    written?;
    table.rest(noun)?;
    let (all, first, empty) = (table.all, table.first, table.empty);
    if which == Which::New {
        new_text(claim, standing, all.objects, all.bytes, out)?;
    }
    end_text(claim, summary, empty, first.map(NextCommand::Show), out)
}

/// What an object counts for where there are no groups.
fn share_of<P: Platform>(
    claim: &Claim<'_, P>,
    which: Which,
    named: &Named,
    index: Option<usize>,
) -> Share {
    let rank = index.map(|index| claim.verdict().list.rank(index));
    let (owned_objects, owned_bytes) = match (which, rank) {
        (
            Which::Leaders,
            Some(Rank::Leader {
                owned_objects,
                owned_bytes,
            }),
        ) => (owned_objects, owned_bytes),
        _ => (0, 0),
    };
    Share {
        objects: 1,
        bytes: named.size(claim.tracker()),
        owned_objects,
        owned_bytes,
        oldest_us: named.record.birth_us(),
    }
}

/// A sum over lines of the table, owned objects included.
#[derive(Clone, Copy, Default)]
struct Tally {
    objects: usize,
    bytes: usize,
}

impl Tally {
    fn add(&mut self, share: &Share) {
        self.objects += share.objects + share.owned_objects;
        self.bytes += share.at_stake();
    }
}

/// Whether the first `top` lines have types.
fn types_of<P: Platform>(
    claim: &Claim<'_, P>,
    which: Which,
    top: usize,
    summary: &Summary,
) -> TypeColumn {
    let (tracker, mut types, mut lines) = (claim.tracker(), TypeColumn::NEW, 0);
    let mut look = |stack_id| {
        lines += 1;
        if lines <= top {
            types.look(tracker, tracker.depot().get(stack_id).as_slice());
        }
    };
    match summary.groups {
        Some(_) => claim.each_share(which, &mut |_, stack_id| look(stack_id)),
        None => claim.each_in_order(which, &mut |named, _| look(named.record.stack_id())),
    }
    types
}

/// A table that is being written.
struct Table<'t, 'd, P: Platform> {
    types: TypeColumn,
    claim: &'t Claim<'d, P>,
    standing: Standing,
    which: Which,
    /// Lines that are shown at most.
    top: usize,
    /// Lines that there are.
    rows: usize,
    all: Tally,
    shown: Tally,
    first: Option<ShortHandle>,
    empty: EmptyStacks,
    out: &'t mut dyn Write,
}

impl<P: Platform> Table<'_, '_, P> {
    /// Whether objects count for themselves, owned or not: then there is no column for what they own.
    fn is_flat(&self) -> bool {
        self.which == Which::All
    }

    fn style(&self) -> Style {
        Style::of(self.claim.tracker())
    }

    fn heading(&mut self) -> fmt::Result {
        let count = match self.standing {
            Standing::Leaks => "count",
            Standing::Suspects => "suspects",
        };
        let (style, is_flat) = (self.style(), self.is_flat());
        let mut out = style.lines(Ink::Heading, self.out);
        let (handle, count, bytes) = (Right(5, "#"), Right(8, count), Right(9, "bytes"));
        write!(out, "{handle} {count} {bytes} ")?;
        if !is_flat {
            write!(out, "{} ", Right(9, "owned"))?;
        }
        let types = self.types.heading();
        writeln!(out, "{} {types}{CALL_SITE}", Right(7, "oldest"))
    }

    /// A line, or one that is only counted.
    fn row(&mut self, share: &Share, thing: Thing, stack_id: StackId) -> fmt::Result {
        self.rows += 1;
        self.all.add(share);
        if self.rows > self.top {
            return Ok(());
        }
        self.shown.add(share);
        if self.rows == 1 {
            self.heading()?;
        }
        let handle = self.claim.handle_of(thing);
        self.first = self.first.or(handle);
        let (style, objects) = (self.style(), Right(8, share.objects));
        let handle = handle_column(style, handle);
        let bytes = size_column(style, Some(share.bytes));
        write!(self.out, "{handle} {objects} {bytes} ")?;
        if !self.is_flat() {
            let owned = Some(share.owned_bytes).filter(|&bytes| bytes > 0);
            write!(self.out, "{} ", size_column(style, owned))?;
        }
        let age_us = (self.claim.verdict().at_us).saturating_sub(share.oldest_us);
        write!(self.out, "{} ", Right(7, ShortAge(age_us)))?;
        self.call_site(stack_id)
    }

    fn call_site(&mut self, stack_id: StackId) -> fmt::Result {
        let tracker = self.claim.tracker();
        let frames = tracker.depot().get(stack_id);
        self.empty.note(frames.as_slice());
        self.types.write(tracker, frames.as_slice(), self.out)?;
        write_call_site(tracker, frames.as_slice(), self.out)
    }

    /// What is not shown, and how to see it.
    fn rest(&mut self, noun: &'static str) -> fmt::Result {
        let more = self.rows.saturating_sub(self.top);
        if more == 0 {
            return Ok(());
        }
        let command = match self.which {
            Which::New => "new",
            Which::All => "report --all",
            Which::Leaders | Which::Unreported => "report",
        };
        writeln!(
            self.out,
            "  ... and {} ({}): kmemleak {command} --top {}",
            Count(more, noun),
            ByteSum(self.all.bytes - self.shown.bytes),
            self.rows
        )
    }
}
