//! The text that says why an address is, or is not, reported. Each answer has a code for programs, a sentence, and an advice; so
//! does each near miss.

use core::fmt::{self, Write};

use super::view::named_at;
use super::words::{Age, Count, Plain};
use crate::checker::claim::Claim;
use crate::checker::references::{
    Answer, HeldBy, LiesIn, NearMiss, Reached, Unreported, Untracked, Why,
};
use crate::metadata::hidden::Hidden;
use crate::platform::{Platform, RootKind};
use crate::tracker::Tracker;
use crate::verdict::iter::Rank;
use crate::verdict::summary::Doubt;

/// An answer, with what else its text needs.
pub(super) struct Reason<'w> {
    why: &'w Why,
    address: Hidden,
    /// Why what the last verdict lists are suspects.
    doubt: Option<Doubt>,
    /// Whether call stacks of frees are kept.
    free_stacks: bool,
}

impl<'w> Reason<'w> {
    pub(super) fn of<P: Platform>(claim: &Claim<'_, P>, why: &'w Why, address: Hidden) -> Self {
        Self {
            why,
            address,
            doubt: (claim.verdict().summary.get()).and_then(|summary| summary.doubt()),
            free_stacks: claim.tracker().keeps_free_stacks(),
        }
    }

    /// One word for programs.
    pub(super) fn code(&self) -> &'static str {
        match self.why.answer {
            Answer::Untracked(_) => "untracked",
            Answer::Ignored => "ignored",
            Answer::NoLeak => "no_leak",
            Answer::Physical => "physical",
            Answer::InRoot(_) => "in_root",
            Answer::Reachable(reached) => match reached.held_by {
                Some(HeldBy::Variable) => "reachable",
                Some(HeldBy::NoLeak) => "held_by_no_leak",
                Some(HeldBy::ArenaStart) => "held_by_arena_start",
                Some(HeldBy::FreeMemory) => "held_by_free_memory",
                Some(HeldBy::Stack) => "held_by_stack",
                Some(HeldBy::Area) => "held_by_area",
                None => "alive",
            },
            Answer::Suppressed => "suppressed",
            Answer::Unreported(unreported) => match unreported {
                Unreported::NoVerdict => "no_verdict",
                Unreported::Newer => "newer",
                Unreported::Young(_) => "young",
                Unreported::FirstTime => "first_time",
                Unreported::Changed => "changed",
                Unreported::Unconfirmed => "unconfirmed",
                Unreported::LostSince => "lost_since",
            },
            Answer::Reported(Some(Rank::Leader { .. })) => "leader",
            Answer::Reported(Some(Rank::Owned { .. })) => "owned",
            Answer::Reported(None) => "reported",
        }
    }

    /// The leader of an owned leak.
    pub(super) fn leader(&self) -> Option<usize> {
        match self.why.answer {
            Answer::Reported(Some(Rank::Owned { leader })) => Some(leader),
            _ => None,
        }
    }

    /// What is true of the address.
    pub(super) fn sentence<P: Platform>(
        &self,
        tracker: &Tracker<P>,
        out: &mut dyn Write,
    ) -> fmt::Result {
        match &self.why.answer {
            Answer::Untracked(nothing) => untracked(tracker, nothing, self.address, out)?,
            Answer::Ignored => {
                out.write_str("never reported: it is ignored (black), so it is not scanned either")?
            }
            Answer::NoLeak => {
                let named = (self.why.object).and_then(|block| named_at(tracker, block.start));
                let reason = match named.is_some_and(|named| named.record.is_acknowledged()) {
                    true => "it was acknowledged by clear",
                    false => "it is declared to be no leak (gray)",
                };
                write!(out, "never reported: {reason}")?
            }
            Answer::Physical => {
                out.write_str("never reported: it is a block of physical memory")?
            }
            Answer::InRoot(root) => {
                out.write_str("never reported: it lies in a root, ")?;
                let start = self.why.object.map_or(0, |block| block.start);
                let start = start.max(root.start);
                tracker
                    .platform()
                    .name_root(*root, start, &mut Plain(out))?;
            }
            Answer::Reachable(reached) => reachable(reached, out)?,
            Answer::Suppressed => out.write_str("unreferenced, and a suppression hides it")?,
            Answer::Unreported(unreported) => {
                out.write_str("unreferenced now, and not in the last report: ")?;
                not_yet(*unreported, out)?;
            }
            Answer::Reported(rank) => self.reported(*rank, out)?,
        }
        match self.why.references {
            Some((needed, found)) => {
                write!(
                    out,
                    "; it needs {needed} references, and {found} were found"
                )
            }
            None => Ok(()),
        }
    }

    fn reported(&self, rank: Option<Rank>, out: &mut dyn Write) -> fmt::Result {
        out.write_str("unreferenced, and in the last report ")?;
        match rank {
            Some(Rank::Leader { owned_objects, .. }) => {
                out.write_str("as a leader")?;
                if owned_objects > 0 {
                    write!(out, " that owns {}", Count(owned_objects, "object"))?;
                }
            }
            Some(Rank::Owned { leader }) => {
                write!(out, "with its leader {leader:#018x}, which owns it")?;
            }
            None => out.write_str("(there was no memory to find its leader)")?,
        }
        match self.doubt {
            Some(doubt) => write!(out, "; a suspect only: {doubt}"),
            None => Ok(()),
        }
    }

    /// What to do next.
    pub(super) fn advice(&self, out: &mut dyn Write) -> fmt::Result {
        match &self.why.answer {
            Answer::Untracked(nothing) => out.write_str(self.of_untracked(nothing)),
            Answer::Ignored => out.write_str(
                "look for the call of `ignore`, or an allocation with min_count -1",
            ),
            Answer::NoLeak => out.write_str(
                "look for `not_leak`, `clear`, min_count 0, or a disabled scope (`disabled_begin`) in which it was allocated",
            ),
            Answer::Physical => out.write_str(
                "such a block is only scanned; to have it reported, tell of it by its virtual address (`alloc`)",
            ),
            Answer::InRoot(root) if root.kind == RootKind::Region => out.write_str(
                "if it is a block of an arena, take the arena out of the roots: `Detector::exclude`, or remove the region",
            ),
            Answer::InRoot(root) if matches!(root.kind, RootKind::Stack(_)) => {
                out.write_str("it is the stack of a task; it can be lost once that task has ended")
            }
            Answer::InRoot(_) => out.write_str(
                "if it is a block of an arena, take the arena out of the roots: `Detector::exclude`, or leave it out of `Platform::next_root`",
            ),
            Answer::Reachable(reached) => out.write_str(of_reachable(reached)),
            Answer::Suppressed => {
                out.write_str("`suppress` lists the patterns, and `unsuppress PATTERN` takes one back")
            }
            Answer::Unreported(_) => {
                out.write_str("`scan` checks now, whatever the age of an object")?;
                self.of_misses(out)
            }
            Answer::Reported(Some(Rank::Owned { .. })) => {
                out.write_str("look at its leader: this one was lost with it")?;
                self.of_misses(out)
            }
            Answer::Reported(_) if self.why.near_misses == 0 => out.write_str(
                "no word comes near it; if it is in use all the same, name what holds it as a root (`region_add`), or call `not_leak`",
            ),
            Answer::Reported(_) => {
                out.write_str("if nothing uses it, it is a leak")?;
                self.of_misses(out)
            }
        }
    }

    fn of_misses(&self, out: &mut dyn Write) -> fmt::Result {
        match self.why.near_misses {
            0 => Ok(()),
            1 => out.write_str("; if it is in use, the near miss may be what holds it"),
            _ => out.write_str("; if it is in use, one of the near misses may be what holds it"),
        }
    }

    fn of_untracked(&self, nothing: &Untracked) -> &'static str {
        if nothing.lies_in == LiesIn::NoMemory {
            return "check the number: it is no address, or it lies in the first page";
        }
        if nothing.unrecorded > 0 {
            return "give the detector more memory (a larger pool, `Platform::metadata_alloc`), then allocate it again";
        }
        if nothing.freed.is_some() {
            return match self.free_stacks {
                true => "what is free can't be lost",
                false => {
                    "what is free can't be lost; `kmemleak.free_stacks=on` shows who frees a block"
                }
            };
        }
        if nothing.end_of.is_some() {
            return "ask for that object; a pointer to its end does not keep it alive";
        }
        match nothing.lies_in {
            LiesIn::Detector => "the kernel keeps nothing there",
            _ => {
                "if a block is in use there, its allocator does not report it to the detector (`Tracked`, or `Detector::alloc`)"
            }
        }
    }
}

fn untracked<P: Platform>(
    tracker: &Tracker<P>,
    nothing: &Untracked,
    address: Hidden,
    out: &mut dyn Write,
) -> fmt::Result {
    out.write_str("no object there")?;
    match nothing.lies_in {
        LiesIn::NoMemory => out.write_str(", and there can be none")?,
        LiesIn::Unknown => {}
        LiesIn::Detector => out.write_str(", but memory of the detector itself")?,
        LiesIn::Excluded => out.write_str(", but memory that is excluded from the roots")?,
        LiesIn::Root(root) => {
            out.write_str(", but a root: ")?;
            tracker
                .platform()
                .name_root(root, address.get(), &mut Plain(out))?;
        }
    }
    if let Some(start) = nothing.freed {
        write!(out, "; the block at {start:#018x} was freed")?;
    }
    if let Some(start) = nothing.end_of {
        write!(out, "; the object {start:#018x} ends right before it")?;
    }
    match nothing.unrecorded {
        0 => Ok(()),
        missing => write!(
            out,
            "; {}, and it may be one of these",
            Doubt::Unrecorded(missing)
        ),
    }
}

fn reachable(reached: &Reached, out: &mut dyn Write) -> fmt::Result {
    out.write_str(match reached.held_by {
        Some(HeldBy::Variable) => "reachable: a word in a root leads to it",
        Some(HeldBy::NoLeak) => "reachable: an object that is declared to be no leak leads to it",
        Some(HeldBy::ArenaStart) => {
            "reachable: a word in a root leads to it, through the first block of its part of memory"
        }
        Some(HeldBy::FreeMemory) => {
            "held only by what looks left over: words in free memory, which lies in a root"
        }
        Some(HeldBy::Stack) => {
            "held only by words on stacks or in registers, which may be left over"
        }
        Some(HeldBy::Area) => {
            "alive without a pointer: references that its area does not need count for it"
        }
        None => "alive, but no path to it was found",
    })?;
    match (reached.interior_only, reached.offset) {
        (false, _) => Ok(()),
        (true, 0) => out.write_str("; each path to it has a pointer to the middle of a block"),
        (true, offset) => write!(
            out,
            "; all pointers go to the middle of a block, the last one to +{offset:#x}"
        ),
    }
}

fn not_yet(unreported: Unreported, out: &mut dyn Write) -> fmt::Result {
    out.write_str(match unreported {
        Unreported::NoVerdict => "there was no check, or none since the last clear",
        Unreported::Newer => "it was allocated after that check",
        Unreported::Young(min_age_us) => {
            return write!(
                out,
                "the background scan takes nothing younger than {} (set_min_age_us)",
                Age(min_age_us)
            );
        }
        Unreported::FirstTime => {
            "the background scan saw it unreferenced for the first time, and waits for the next scan"
        }
        Unreported::Changed => {
            "its contents have changed since the background scan saw it, so it may be in use"
        }
        Unreported::Unconfirmed => "the background scan suspects it, and has not confirmed that",
        Unreported::LostSince => "it was referenced at that check",
    })
}

fn of_reachable(reached: &Reached) -> &'static str {
    match reached.held_by {
        Some(HeldBy::ArenaStart) => {
            "if it should be lost, one of these words should be gone; if the first one is an allocator's own, which knows where its arena begins, `exclude` it"
        }
        Some(HeldBy::FreeMemory) => {
            "`exclude` the arena (`Detector::exclude`), or clear blocks when they are freed (`Tracked::wiping`)"
        }
        Some(HeldBy::Stack) => {
            "ask again when that task has gone on; `stack=off` takes the stacks out of the roots"
        }
        Some(HeldBy::Area) => "`holders` of its area shows the words (see `Detector::vmalloc`)",
        None => "ask again: there was no memory to find the path, or it has changed meanwhile",
        _ if reached.interior_only => {
            "look at the word: a number hits a middle more easily than a start; `interior` lists such objects"
        }
        _ => {
            "if it should be lost, one of these words should be gone; `holders` shows all that point to it"
        }
    }
}

/// One word for programs.
pub(super) fn miss_code(miss: NearMiss) -> &'static str {
    match miss {
        NearMiss::End => "end",
        NearMiss::EndAndStart => "end_and_start",
        NearMiss::Unaligned => "unaligned",
        NearMiss::Tagged => "tagged",
        NearMiss::Physical => "physical",
        NearMiss::PageTable => "page_table",
        NearMiss::PageNumber => "page_number",
        NearMiss::Unscanned => "unscanned",
    }
}

/// What the word is.
pub(super) fn miss_text(miss: NearMiss) -> &'static str {
    match miss {
        NearMiss::End => {
            "a pointer to its end (Arc::into_raw or a waker of a type without fields, an emptied buffer)"
        }
        NearMiss::EndAndStart => "a pointer to its end, where another object starts",
        NearMiss::Unaligned => "a pointer at an address that is no multiple of 8",
        NearMiss::Tagged => "a pointer with other upper bits",
        NearMiss::Physical => "its physical address",
        NearMiss::PageTable => "its physical address with other bits, as in a page table",
        NearMiss::PageNumber => "its page number",
        NearMiss::Unscanned => "a pointer that is not scanned",
    }
}

/// What to do if it is in use.
pub(super) fn miss_remedy(miss: NearMiss) -> &'static str {
    match miss {
        NearMiss::End => "keep a pointer to its start, or call `not_leak`",
        NearMiss::EndAndStart => "it most likely means that one; else call `not_leak`",
        NearMiss::Unaligned => {
            "store it aligned, or say so of its memory: `read_as` or `region_add_as`, with `Reading::Bytes`"
        }
        NearMiss::Tagged => "strip the bits in `ForeignWords::untag`, or call `not_leak`",
        NearMiss::Physical => {
            "say so of its memory: `read_as` or `region_add_as`, with `Reading::PHYSICAL`"
        }
        NearMiss::PageTable => {
            "say so of its memory: `read_as` or `region_add_as`, with `Reading::PAGE_TABLE`"
        }
        NearMiss::PageNumber => "call `not_leak`",
        NearMiss::Unscanned => {
            "scan it (`no_scan` or a scan area leaves it out, or its object is ignored), or call `not_leak`"
        }
    }
}
