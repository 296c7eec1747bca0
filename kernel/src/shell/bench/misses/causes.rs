//! By which word a missed block is held.
//!
//! The detector's answer to `why` has the words of a way from a root to the block. On it, the first word that leads to
//! a lost block is the cause: before it, all is in use; behind it, all was lost. That word's place says what it is:
//!
//! - in a block that the load fills with numbers alone: a *number* that happens to look like a pointer. The load knows these blocks;
//! - else, where only pointers into the middle lead to the block: *interior*. The planters make none, so it is a coincidence, or a pointer that
//!   compiled code made on its way through the block;
//! - on a stack, in a register, in another root, in a block in use: a pointer that was left there. A number in one of these places can't be
//!   told from a pointer, and counts as one.
//!
//! Where none is found, the word was there for a moment only: code that ran during the check has overwritten it since.

use core::hint::black_box;

use super::planted::Lost;
use super::worker;
use crate::leak::{Answer, Clue, KMEMLEAK, RootKind, Slot, SlotPlace};

/// What holds a missed block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Cause {
    /// A word that was left on a task's stack.
    Stack,
    /// A register.
    Register,
    /// A word that was left in a block in use.
    LiveBlock,
    /// A word of a static variable, a per-CPU area, a region.
    Root,
    /// A word that points into the middle.
    Interior,
    /// A number.
    Number,
    /// A word that was overwritten between the check and the question.
    Passing,
    /// There was no answer.
    Unknown,
}

/// All causes, in the order of their numbers.
pub const CAUSES: [Cause; 8] = [
    Cause::Stack,
    Cause::Register,
    Cause::LiveBlock,
    Cause::Root,
    Cause::Interior,
    Cause::Number,
    Cause::Passing,
    Cause::Unknown,
];

impl Cause {
    /// As figures name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stack => "stack",
            Self::Register => "register",
            Self::LiveBlock => "live_block",
            Self::Root => "root",
            Self::Interior => "interior",
            Self::Number => "number",
            Self::Passing => "passing",
            Self::Unknown => "unknown",
        }
    }
}

/// How often the question is asked if a CPU comes too late to its stop.
const QUESTIONS: usize = 30;

/// Asks what holds the block of this inverted address. `lost` are all lost blocks, sorted. The workers pause.
pub fn of(inverted: usize, lost: &[Lost]) -> Cause {
    for _ in 0..QUESTIONS {
        if let Some(cause) = ask(inverted, lost) {
            return cause;
        }
    }
    Cause::Unknown
}

/// A function of its own, so that the address is in no frame that lasts.
#[inline(never)]
fn ask(inverted: usize, lost: &[Lost]) -> Option<Cause> {
    let is_lost = |start: usize| {
        let found = lost.binary_search_by_key(&!start, |block| block.inverted);
        found.is_ok()
    };
    // The last word, and the first that leads to a lost block.
    let (mut last, mut culprit): (Option<Slot>, Option<Slot>) = (None, None);
    let answer = KMEMLEAK.why(!black_box(inverted), &mut |clue| {
        let Clue::Step(slot) = clue else { return };
        if let SlotPlace::Object { start, .. } = slot.place
            && culprit.is_none()
            && is_lost(start)
        {
            culprit = last;
        }
        last = Some(slot);
    });
    let why = answer.ok().filter(|why| why.beside.is_none())?;
    Some(match why.answer {
        Answer::Reachable(reached) => match culprit.or(last) {
            Some(slot) => by_place(slot.place, reached.interior_only),
            None => Cause::Unknown,
        },
        Answer::Unreported(_) | Answer::Reported(_) => Cause::Passing,
        _ => Cause::Unknown,
    })
}

fn by_place(place: SlotPlace, interior_only: bool) -> Cause {
    match place {
        SlotPlace::Object { start, .. } if worker::holds_numbers(start) => Cause::Number,
        _ if interior_only => Cause::Interior,
        SlotPlace::Object { .. } => Cause::LiveBlock,
        SlotPlace::Root(root) => match root.kind {
            RootKind::Stack(_) => Cause::Stack,
            RootKind::Registers(_) => Cause::Register,
            _ => Cause::Root,
        },
    }
}
