//! Objects that lead to each other, named by their types: the cycle of a lost leader, the way from a root.

use core::fmt::{self, Write};

use super::block_type::BlockType;
use super::clipped::Clipped;
use super::style::{Ink, Style};
use super::view::named_at;
use crate::checker::claim::Claim;
use crate::checker::cycle::Cycle;
use crate::platform::Platform;
use crate::tracker::Tracker;
use crate::verdict::leak_list::Named;

/// Objects of a cycle that are named; the rest is counted.
const MOST: usize = 8;

/// Writes an object in a chain: its type, or its address where that is not known.
fn write_link(
    block_type: Option<&BlockType>,
    start: usize,
    style: Style,
    out: &mut dyn Write,
) -> fmt::Result {
    match block_type {
        Some(block_type) => write!(out, "{}", style.paint(Ink::Type, block_type.short())),
        None => write!(out, "{start:#018x}"),
    }
}

/// The type of an object, if its call stack names one.
fn type_of<P: Platform>(tracker: &Tracker<P>, named: &Named) -> Option<BlockType> {
    let frames = tracker.depot().get(named.record.stack_id());
    BlockType::of(tracker, frames.as_slice())
}

/// A way from a root to an object in one line: `.bss kernel::LIST -> Node -> Node`. What has no room is cut.
pub(super) struct Way {
    text: Clipped<WAY>,
    /// Whether a type was among its objects: a line of addresses would tell nothing new.
    is_typed: bool,
}

/// Columns of a way at most.
const WAY: usize = 160;

impl Way {
    pub(super) const fn new() -> Self {
        Self {
            text: Clipped::new(),
            is_typed: false,
        }
    }

    /// Adds what `write` writes.
    pub(super) fn add(&mut self, write: impl FnOnce(&mut dyn Write) -> fmt::Result) -> fmt::Result {
        if self.text.columns() > 0 {
            self.text.write_str(" -> ")?;
        }
        write(&mut self.text)
    }

    /// Adds the object that starts at an address.
    pub(super) fn add_object<P: Platform>(
        &mut self,
        tracker: &Tracker<P>,
        start: usize,
    ) -> fmt::Result {
        let Some(named) = named_at(tracker, start) else {
            return self.add(|out| out.write_str("(freed)"));
        };
        let block_type = type_of(tracker, &named);
        self.is_typed |= block_type.is_some();
        // What is cut can't have colours: the end of one might be cut off.
        self.add(|out| write_link(block_type.as_ref(), start, Style::Plain, out))
    }

    /// Writes it as a line.
    pub(super) fn write_to(&self, out: &mut dyn Write) -> fmt::Result {
        match self.is_typed {
            true => writeln!(out, "kmemleak: {}", self.text),
            false => Ok(()),
        }
    }
}

/// Writes the cycle in which a leader lies, by its number in the verdict's list, as a line; nothing if it lies in none.
pub(super) fn cycle_text<P: Platform>(
    claim: &Claim<'_, P>,
    leader: usize,
    out: &mut dyn Write,
) -> fmt::Result {
    let (mut count, mut written) = (0, Ok(()));
    let cycle = claim.each_of_cycle(leader, &mut |named| {
        count += 1;
        if written.is_ok() && count <= MOST {
            let begins = if count == 1 { "  in a cycle: " } else { " -> " };
            let tracker = claim.tracker();
            let (block_type, style) = (type_of(tracker, named), Style::of(tracker));
            written = out
                .write_str(begins)
                .and_then(|()| write_link(block_type.as_ref(), named.start, style, out));
        }
    });
    written?;
    match cycle {
        Cycle::None => Ok(()),
        Cycle::NotFound => writeln!(out, "  in a cycle"),
        Cycle::Shown => {
            if count > MOST {
                write!(out, " -> ... {} more", count - MOST)?;
            }
            writeln!(out, " -> (back)")
        }
    }
}
