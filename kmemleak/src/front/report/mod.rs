//! Reports: what was found, for people and for programs.
//!
//! Writing takes long, and the writer may allocate from the very allocators that are tracked: so nothing is written under a lock.
//! A record is copied out, with the first bytes of its block if that is still there, then written.
//!
//! There are two formats: text, and JSON with one object a line, of which `kmemleak/FORMATS.md` is the reference. If either
//! leaves something out, it says so.

mod backtrace;
mod block_type;
mod brackets;
mod chain;
mod clipped;
mod columns;
mod counts;
mod done;
mod dump;
mod frames;
mod full;
mod function;
mod handles;
mod holders;
mod interior;
mod json;
mod live;
mod machinery;
mod path_end;
mod reasons;
mod refusal;
mod shorten;
mod show;
mod sites;
mod snapshot;
mod stack_only;
mod status;
mod style;
mod sums;
mod suppressed;
mod table;
mod tasks;
mod text;
mod text_sum;
mod type_column;
mod type_lines;
mod type_name;
mod types;
mod user_function;
mod view;
mod why;
mod words;

pub(super) use self::backtrace::EmptyStacks;
pub use self::block_type::{BlockType, TypeSearch};
pub(super) use self::counts::{Shown, counted_by, write_counts};
pub(super) use self::done::{write_done, write_selftest_json};
pub(super) use self::dump::dump;
pub(super) use self::frames::write_frames;
pub use self::function::FunctionText;
pub(super) use self::holders::{write_holders, write_path};
pub(super) use self::interior::write_interior;
pub(super) use self::live::write_objects;
pub use self::machinery::is_allocation_machinery;
pub(super) use self::refusal::Because;
pub(super) use self::show::write_shown;
pub(super) use self::sites::{write_site, write_sites};
pub(super) use self::snapshot::write_snapshot;
pub(super) use self::stack_only::write_stack_only;
pub(super) use self::status::write_status;
pub(super) use self::suppressed::Suppressed;
pub(super) use self::tasks::write_tasks;
pub(super) use self::text::{no_call_stacks_text, slot_text as write_slot};
pub(super) use self::types::write_types;
pub(super) use self::user_function::{SuppressionText, UserFunction};
pub(super) use self::why::write_why;
pub(super) use self::words::{Count, OfWhich, Plain, Sum, Typed};

use core::fmt::{self, Write};

use self::refusal::{NO_CHECK, Refusal};
use self::view::LeakView;
use crate::checker::claim::{Claim, Nested, NotDone};
use crate::checker::handle::Handle;
use crate::front::outcome::{Answered, CommandError};
use crate::platform::Platform;
use crate::verdict::leak_list::Named;
use crate::verdict::order::Which;
use crate::verdict::summary::{Doubt, Summary};

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For programs: a JSON object a line, as `FORMATS.md` says.
    Json,
}

/// How an answer that lists things is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// For people, a line for each group.
    Table,
    /// For people, all that is known of each.
    Each,
    /// For programs.
    Json,
}

impl Form {
    const fn format(self) -> Format {
        match self {
            Self::Table | Self::Each => Format::Text,
            Self::Json => Format::Json,
        }
    }
}

/// How much a report in text tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// A table, with a line for each group, and so many lines at most.
    Table { top: usize },
    /// Each object.
    Full,
}

impl Detail {
    /// The table, with as many lines as a screen has room for.
    pub(super) const TABLE: Self = Self::Table { top: 20 };
}

/// A question about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// What holds the object that it lies in.
    Holders,
    /// By which path a root leads to it.
    Path,
}

impl Question {
    /// What a word of the answer is called.
    const fn word(self) -> &'static str {
        match self {
            Self::Holders => "holder",
            Self::Path => "step",
        }
    }
}

/// What the objects that a verdict lists are: leaks or suspects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Leaks,
    Suspects,
}

impl Standing {
    fn of(doubt: Option<Doubt>) -> Self {
        match doubt {
            None => Self::Leaks,
            Some(_) => Self::Suspects,
        }
    }
}

/// Says why there is no answer.
pub(super) fn complain(format: Format, why: &dyn Refusal, out: &mut dyn Write) -> fmt::Result {
    match format {
        Format::Text => {
            write!(out, "kmemleak: ")?;
            write!(Plain(out), "{why}")?;
            writeln!(out)
        }
        Format::Json => json::error(why, out),
    }
}

/// Says why there is no answer, in place of one.
pub(super) fn refuse(format: Format, why: &dyn Refusal, out: &mut dyn Write) -> Answered {
    complain(format, why, out)?;
    Err(CommandError::NotDone)
}

/// Writes the last verdict.
pub(super) fn write_report<P: Platform>(
    claim: &Claim<'_, P>,
    format: Format,
    which: Which,
    detail: Detail,
    out: &mut dyn Write,
) -> Answered {
    let _outside = claim.outside();
    if claim.verdict().summary.get().is_some() {
        claim.begin_handles();
    }
    match (claim.verdict().summary.get(), format) {
        (None, _) => return refuse(format, &NO_CHECK, out),
        (Some(summary), Format::Text) => match detail {
            Detail::Table { top } => table::report(claim, which, top, &summary, out)?,
            Detail::Full => full::report(claim, which, &summary, out)?,
        },
        (Some(summary), Format::Json) => json::report(claim, which, &summary, out)?,
    }
    Ok(())
}

/// Writes the last verdict for a caller that has no claim.
pub(super) fn write_asked<P: Platform>(
    handle: Handle<'_, P>,
    format: Format,
    which: Which,
    detail: Detail,
    out: &mut dyn Write,
) -> fmt::Result {
    let answered = match handle.claim() {
        Ok(claim) => write_report(&claim, format, which, detail, out),
        Err(Nested) => refuse(format, &NotDone::Nested, out),
    };
    match answered {
        Err(CommandError::Write(error)) => Err(error),
        _ => Ok(()),
    }
}

/// Writes the sum of a verdict.
pub(super) fn write_sum(format: Format, summary: &Summary, out: &mut dyn Write) -> fmt::Result {
    match format {
        Format::Text => writeln!(out, "kmemleak: {}", Sum(summary)),
        Format::Json => json::summary(summary, out),
    }
}

/// Writes one leak or suspect as text.
pub(super) fn write_leak<P: Platform>(
    claim: &Claim<'_, P>,
    named: &Named,
    index: Option<usize>,
    out: &mut dyn Write,
) -> fmt::Result {
    let summary = claim.verdict().summary.get();
    let standing = Standing::of(summary.and_then(|summary| summary.doubt()));
    let leak = LeakView::of(claim, named, index);
    full::leak_text(claim, (&leak, index), standing, full::Stack::Here, out)
}

/// Writes the suppressions, and what they hide.
pub(super) fn write_suppressions<P: Platform>(
    claim: &mut Claim<'_, P>,
    format: Format,
    out: &mut dyn Write,
) -> fmt::Result {
    let _outside = claim.outside();
    let (mut count, mut written) = (0, Ok(()));
    claim.each_suppression(&mut |one| {
        count += 1;
        if written.is_ok() {
            written = match format {
                Format::Text => text::suppression_text(&one, out),
                Format::Json => json::suppression_json(&one, out),
            };
        }
    });
    written?;
    match format {
        Format::Text => writeln!(out, "kmemleak: {}", Count(count, "suppression")),
        Format::Json => json::suppressions_end(count, out),
    }
}
