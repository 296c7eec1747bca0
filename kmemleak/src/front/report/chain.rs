//! Objects that lead to each other, named by their types: the cycle of a lost leader, the way from a root.

use core::fmt::{self, Write};

use super::block_type::BlockType;
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
pub(super) fn write_link<P: Platform>(
    tracker: &Tracker<P>,
    named: &Named,
    out: &mut dyn Write,
) -> fmt::Result {
    let frames = tracker.depot().get(named.record.stack_id());
    match BlockType::of(tracker, frames.as_slice()) {
        Some(block_type) => {
            let style = Style::of(tracker);
            write!(out, "{}", style.paint(Ink::Type, block_type.short()))
        }
        None => write!(out, "{:#018x}", named.start),
    }
}

/// Bytes of a way.
const WAY: usize = 240;
/// The sign for what has no room.
const CUT: char = '\u{2026}';

/// A way from a root to an object in one line: `.bss kernel::LIST -> Node -> Node`. What has no room is cut.
pub(super) struct Way {
    text: [u8; WAY],
    len: usize,
    is_cut: bool,
    /// Whether a type was among its objects: a line of addresses would tell nothing new.
    is_typed: bool,
}

impl Way {
    pub(super) const fn new() -> Self {
        Self {
            text: [0; WAY],
            len: 0,
            is_cut: false,
            is_typed: false,
        }
    }

    /// Adds what `write` writes.
    pub(super) fn add(&mut self, write: impl FnOnce(&mut dyn Write) -> fmt::Result) -> fmt::Result {
        if self.len > 0 {
            self.write_str(" -> ")?;
        }
        write(self)
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
        let frames = tracker.depot().get(named.record.stack_id());
        let block_type = BlockType::of(tracker, frames.as_slice());
        self.is_typed |= block_type.is_some();
        self.add(|out| match block_type {
            Some(block_type) => write!(out, "{}", block_type.short()),
            None => write!(out, "{start:#018x}"),
        })
    }

    /// Writes it as a line.
    pub(super) fn write_to(&self, out: &mut dyn Write) -> fmt::Result {
        let text = core::str::from_utf8(&self.text[..self.len]).unwrap_or_default();
        match self.is_typed {
            true => writeln!(out, "kmemleak: {text}"),
            false => Ok(()),
        }
    }
}

impl Write for Way {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            if self.is_cut {
                return Ok(());
            }
            let end = self.len + letter.len_utf8();
            self.is_cut = end + CUT.len_utf8() > WAY;
            let shown = if self.is_cut { CUT } else { letter };
            let end = self.len + shown.len_utf8();
            shown.encode_utf8(&mut self.text[self.len..end]);
            self.len = end;
        }
        Ok(())
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
            written = out
                .write_str(begins)
                .and_then(|()| write_link(claim.tracker(), named, out));
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
