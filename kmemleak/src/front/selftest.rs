//! The self-test: it plants a leak, and a check must find exactly that.
//!
//! Four blocks are cut from a piece of the detector's own metadata, which is no root and no object, and are recorded as those of a
//! [`Tracked`](crate::Tracked) are, for which no platform has to vouch: one that is declared to be no leak, one that it points to,
//! one that nothing points to, and one that the third points to. A check must report the third as a leader that owns the fourth,
//! and neither of the first two. Then all are freed, and a second check must report none of them.
//!
//! All of it runs on a stack that is no root ([`Platform::on_unscanned_stack`]): so the blocks' addresses there are no
//! references.
//!
//! If it fails because a planted leak was not reported, the path to that block says which word keeps it alive. It is looked for
//! before the blocks are freed, and the result says what to do about the word.

use core::fmt::{self, Display, Formatter, Write};
use core::sync::atomic::Ordering;

use crate::atomic::AtomicUsize;
use crate::checker::claim::{Claim, NotDone};
use crate::checker::references::{NoAnswer, Slot, SlotPlace};
use crate::front::outcome::{Answered, CommandError};
use crate::front::report::{self, Format};
use crate::marker::GivenUp;
use crate::metadata::WORD;
use crate::metadata::hidden::Hidden;
use crate::metadata::list::MetaBox;
use crate::objects::access::Locked;
use crate::platform::{Platform, Root, RootKind};
use crate::tracker::Tracker;
use crate::verdict::iter::Rank;

/// Bytes of a block, and where the blocks are.
const BLOCK: usize = 64;
const HOLDER: usize = 0;
const KEPT: usize = 2 * BLOCK;
const LOST: usize = 4 * BLOCK;
const OWNED: usize = 6 * BLOCK;
const BLOCKS: [usize; 4] = [HOLDER, KEPT, LOST, OWNED];

/// The memory of the blocks.
type Planted = [AtomicUsize; (OWNED + BLOCK) / WORD];

/// The result of a self-test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The planted leak was found, and nothing else.
    Right,
    NoMemory,
    /// What the task allocates is no leak.
    Disabled,
    /// A suppression hides what was planted.
    Suppressed,
    /// The number of blocks that were reported; it should be two. With what holds a block that was not, if that was found.
    Reported(usize, Option<Held>),
    /// The two were reported, but not one as the leader of the other.
    WrongLeader,
    /// The number of blocks that were reported after all were freed.
    Remained(usize),
}

/// What holds a planted leak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    /// The word that the path begins with.
    first: Slot,
    /// Whether it lies on the stack of this task.
    on_own_stack: bool,
}

/// How far from a variable of the self-test its stack is taken to reach, where the platform does not say where it lies.
const STACK_REACH: usize = 16 << 10;

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Right => f.write_str(
                "passed: a planted leak and what it owned were found, and nothing is left of them",
            ),
            Self::NoMemory => f.write_str("not done: no memory for the planted blocks"),
            Self::Disabled => f.write_str("not done: what this task allocates is no leak"),
            Self::Suppressed => f.write_str("not done: a suppression hides what it plants"),
            Self::Reported(count, _) => {
                write!(
                    f,
                    "FAILED: {count} of 4 planted blocks were reported, not 2"
                )
            }
            Self::WrongLeader => f.write_str(
                "FAILED: the planted leak was not reported as the leader of the block that it owns",
            ),
            Self::Remained(count) => {
                write!(
                    f,
                    "FAILED: {count} planted blocks were reported when they were gone"
                )
            }
        }
    }
}

/// Runs the self-test, and writes the result.
pub(super) fn write_selftest<P: Platform>(
    claim: &mut Claim<'_, P>,
    format: Format,
    out: &mut dyn Write,
) -> Answered {
    let seen = self_test(claim);
    let _outside = claim.outside();
    let Ok(outcome) = seen else {
        return report::refuse(format, &NotDone::Stopped, out);
    };
    match format {
        Format::Text => write_text(claim.tracker(), &outcome, out)?,
        Format::Json => {
            let code = outcome.code();
            report::write_selftest_json(claim.tracker(), code, &outcome, outcome.advice(), out)?;
        }
    }
    match outcome {
        Outcome::Right => Ok(()),
        _ => Err(CommandError::NotDone),
    }
}

impl Outcome {
    const fn code(&self) -> &'static str {
        match self {
            Self::Right => "passed",
            Self::NoMemory => "no_memory",
            Self::Disabled => "disabled",
            Self::Suppressed => "suppressed",
            Self::Reported(..) => "reported",
            Self::WrongLeader => "wrong_leader",
            Self::Remained(_) => "remained",
        }
    }

    /// What holds a planted leak that was not reported; and what to do about that. `None` if nothing is to be done.
    fn advice(&self) -> Option<(Option<Slot>, &'static str)> {
        let Self::Reported(..2, held) = self else {
            return None;
        };
        let Some(held) = held else {
            return Some((
                None,
                "nothing holds them any more: a word on the stack, or in a register, of the check itself held them; implement Platform::on_unscanned_stack",
            ));
        };
        let advice = match held.first.place {
            SlotPlace::Root(_) if held.on_own_stack => {
                "it lies on the stack of the task that checks: implement Platform::on_unscanned_stack, or Platform::stack_bounds"
            }
            SlotPlace::Root(Root {
                kind: RootKind::Stack(_) | RootKind::Registers(_),
                ..
            }) => {
                "it lies on another task's stack, or in a register: name only the live part of stacks in Platform::next_root"
            }
            SlotPlace::Root(_) => {
                "if it lies in memory that holds no variables (an arena, a page for metadata), leave that out of Platform::next_root, or exclude it (Detector::exclude)"
            }
            SlotPlace::Object { .. } => {
                "it lies in a block that is alive: memory for metadata must not come from tracked blocks (Platform::metadata_alloc)"
            }
        };
        Some((Some(held.first), advice))
    }
}

fn write_text<P: Platform>(
    tracker: &Tracker<P>,
    outcome: &Outcome,
    out: &mut dyn Write,
) -> fmt::Result {
    writeln!(out, "kmemleak: selftest {outcome}")?;
    let Some((held_by, advice)) = outcome.advice() else {
        return Ok(());
    };
    if let Some(slot) = held_by {
        writeln!(out, "kmemleak: a planted leak is held by this word:")?;
        report::write_slot(tracker, slot, out)?;
    }
    writeln!(out, "kmemleak: {advice}")
}

fn self_test<P: Platform>(claim: &mut Claim<'_, P>) -> Result<Outcome, GivenUp> {
    claim.take_suppressions();
    if claim.tracker().is_disabled() {
        return Ok(Outcome::Disabled);
    }
    claim.on_unscanned_stack(|claim| {
        let blank: Planted = [const { AtomicUsize::new(0) }; _];
        let piece = claim
            .tracker()
            .without_interrupts(|meta| MetaBox::new(blank, meta));
        let Ok(piece) = piece else {
            return Ok(Outcome::NoMemory);
        };
        let seen = test_with(claim, &piece);
        claim
            .tracker()
            .without_interrupts(|meta| piece.give_back(meta));
        seen
    })
}

fn test_with<P: Platform>(claim: &mut Claim<'_, P>, memory: &Planted) -> Result<Outcome, GivenUp> {
    let tracker = claim.tracker();
    let start = memory.as_ptr().expose_provenance();
    let store = |offset: usize, word: usize| {
        memory[offset / WORD].store(word, Ordering::Relaxed);
    };
    for offset in BLOCKS {
        // SAFETY: a part of `memory`, which is there until all blocks have been freed below.
        unsafe { tracker.alloc_vouched(start + offset, BLOCK) };
    }
    store(HOLDER, start + KEPT);
    store(LOST, start + OWNED);
    let recorded = |&offset: &usize| {
        tracker.without_interrupts(|_| {
            let registry = tracker.registry();
            registry
                .starting_at(Locked, start + offset, |_| ())
                .is_some()
        })
    };
    let unrecorded = BLOCKS.len() - BLOCKS.iter().filter(|block| recorded(block)).count();
    let seen = if unrecorded == 0 {
        tracker.not_leak(start + HOLDER);
        see(claim, start)
    } else {
        Ok(Outcome::NoMemory)
    };
    // Blocks that were not recorded are unknown: nothing is warned of then.
    for offset in BLOCKS {
        tracker.free(start + offset);
    }
    // And nothing that was not recorded remains to be reported.
    tracker.uncount_unrecorded(unrecorded as u64);
    let seen = seen?;
    if seen == Outcome::NoMemory {
        return Ok(seen);
    }
    // After any result, no verdict remains that names the blocks, unless this check is given up: they are gone from its list then, as
    // all that was freed since.
    claim.check_here()?;
    if seen != Outcome::Right {
        return Ok(seen);
    }
    let (remained, _) = planted(claim, start);
    Ok(match remained {
        0 => Outcome::Right,
        count => Outcome::Remained(count),
    })
}

fn see<P: Platform>(claim: &mut Claim<'_, P>, start: usize) -> Result<Outcome, GivenUp> {
    claim.check_here()?;
    let (reported, right) = planted(claim, start);
    Ok(match (reported, right) {
        (2, true) => Outcome::Right,
        (2, false) => Outcome::WrongLeader,
        _ if hides_planted(claim, start) => Outcome::Suppressed,
        (count @ ..2, _) => Outcome::Reported(count, what_holds(claim, start)?),
        (count, _) => Outcome::Reported(count, None),
    })
}

/// The word that keeps one of the planted leaks alive.
fn what_holds<P: Platform>(
    claim: &mut Claim<'_, P>,
    start: usize,
) -> Result<Option<Held>, GivenUp> {
    let (here, task) = (0_usize, claim.tracker().platform().context().task);
    let here = core::ptr::from_ref(&here).addr();
    for offset in [LOST, OWNED] {
        let mut first = None;
        let mut look = |slot: Slot| {
            first.get_or_insert(slot);
        };
        if claim.find_path(Hidden::new(start + offset), &mut look) == Err(NoAnswer::Stopped) {
            return Err(GivenUp);
        }
        if let Some(first) = first {
            let on_own_stack = match first.place {
                SlotPlace::Root(root) if root.kind == RootKind::Stack(task) => true,
                SlotPlace::Root(_) => first.address.abs_diff(here) < STACK_REACH,
                SlotPlace::Object { .. } => false,
            };
            return Ok(Some(Held {
                first,
                on_own_stack,
            }));
        }
    }
    Ok(None)
}

fn hides_planted<P: Platform>(claim: &Claim<'_, P>, start: usize) -> bool {
    let mut hides = false;
    claim
        .verdict()
        .list
        .each_suppressed(&mut |named| hides |= named.start.wrapping_sub(start) <= OWNED);
    hides
}

/// How many of the planted blocks are reported, and whether those are the right ones, of the right ranks.
fn planted<P: Platform>(claim: &Claim<'_, P>, start: usize) -> (usize, bool) {
    let list = &claim.verdict().list;
    let (mut count, mut right) = (0, true);
    list.each(claim.tracker(), &mut |named, index| {
        let offset = named.start.wrapping_sub(start);
        if offset > OWNED {
            return;
        }
        count += 1;
        right &= match index.map(|index| list.rank(index)) {
            Some(Rank::Leader { owned_objects, .. }) => offset == LOST && owned_objects == 1,
            Some(Rank::Owned { leader }) => offset == OWNED && leader == start + LOST,
            // There was no memory to find the ranks.
            None => offset == LOST || offset == OWNED,
        };
    });
    (count, right)
}
