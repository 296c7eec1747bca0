//! Answers to the question why an address is, or is not, reported as a leak.

use crate::checker::references::Slot;
pub use crate::marker::places::LiesIn;
use crate::platform::{Root, StopError};
use crate::verdict::iter::{Block, Rank};
use crate::verdict::suppress::Suppression;

/// Why an address is, or is not, reported as a leak: the answer of [`Detector::why`](crate::Detector::why).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Why {
    /// The tracked object that the address lies in.
    pub object: Option<Block>,
    /// The answer.
    pub answer: Answer,
    /// How many references the object needs, and how many were found; `None` unless it needs several.
    pub references: Option<(u32, u32)>,
    /// How many words in memory are almost pointers to the object. They are only looked for if it is unreferenced.
    pub near_misses: usize,
    /// Why the world was not stopped. If it was not, other code ran meanwhile, and may have changed the answer.
    pub beside: Option<StopError>,
}

/// What is true of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// No tracked object is there.
    Untracked(Untracked),
    /// The object is ignored (black): neither scanned nor reported.
    Ignored,
    /// The object is declared to be no leak (gray): with a `min_count` of 0, by `not_leak` or `clear`, or because it was
    /// allocated in a disabled scope.
    NoLeak,
    /// The object is a block of physical memory, which is never reported.
    Physical,
    /// The object lies in a root, and so counts as alive.
    InRoot(Root),
    /// The object is alive.
    Reachable(Reached),
    /// The object is unreferenced, and a suppression hides it.
    Suppressed,
    /// The object is unreferenced now, and the last verdict does not list it.
    Unreported(Unreported),
    /// The object is unreferenced, and the last verdict lists it; with its rank, unless there was no memory to find that out.
    Reported(Option<Rank>),
}

/// An address without a tracked object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Untracked {
    /// What lies there.
    pub lies_in: LiesIn,
    /// The start of the block that was freed there, if it is remembered. (Its size is not, so it may have ended before the
    /// address.)
    pub freed: Option<usize>,
    /// The start of the object that ends right before the address.
    pub end_of: Option<usize>,
    /// How many blocks, or statements about blocks, went unrecorded for lack of memory: it may be one of these.
    pub unrecorded: u64,
}

/// How an object is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The best that is at the beginning of a way to it; `None` where there was no memory to find a way, or other code ran
    /// meanwhile.
    pub held_by: Option<HeldBy>,
    /// How far from its start the last pointer of the way points to.
    pub offset: usize,
    /// Whether no chain of pointers to starts alone leads to it.
    pub interior_only: bool,
}

/// What is at the beginning of the ways to an object: of several kinds the first in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldBy {
    /// A word in a root that looks like a variable.
    Variable,
    /// An object that is declared to be no leak.
    NoLeak,
    /// A word in a root that points to the first block of an arena: it may be an allocator's own, which is in use as long as the
    /// allocator is.
    ArenaStart,
    /// A word in a root, between the blocks of an arena or where a block was freed: left over.
    FreeMemory,
    /// A word on a task's stack or in a register: perhaps left over.
    Stack,
    /// No word alone: pointers to an [area](crate::Detector::vmalloc) that this does not need count for its block.
    Area,
}

/// Why the last verdict does not list an object that is unreferenced now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreported {
    /// There was no check, or none since the last `clear`.
    NoVerdict,
    /// The object was allocated after the last verdict.
    Newer,
    /// The object was younger than the background scan's minimum age, which is this number of microseconds.
    Young(u64),
    /// The background scan found it unreferenced for the first time.
    FirstTime,
    /// The contents have changed since the background scan saw it.
    Changed,
    /// The background scan suspects it, and has not confirmed that.
    Unconfirmed,
    /// It was referenced at the last verdict.
    LostSince,
}

/// What an answer rests on, or what may help.
#[derive(Clone, Copy, Debug)]
pub enum Clue<'a> {
    /// A word of the way from a root to the object, in order.
    Step(Slot),
    /// A word that is almost a pointer to the object.
    NearMiss(Slot, NearMiss),
    /// The suppression that matches the call stack of the object. There is none if the object is hidden because a suppressed one
    /// leads to it.
    Suppression(Suppression<'a>),
    /// The call stack that allocated the block that was freed there, innermost first.
    AllocatedBy(&'a [usize]),
    /// The call stack that freed it, if such are kept (`kmemleak.free_stacks`).
    FreedBy(&'a [usize]),
}

/// How a word fails to be a pointer to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NearMiss {
    /// It points to the byte after the object's last.
    End,
    /// It points to the byte after the object's last, where another object starts.
    EndAndStart,
    /// It lies at no multiple of the word's size.
    Unaligned,
    /// Its upper 16 bits are not those of an address.
    Tagged,
    /// It is a physical address of the object.
    Physical,
    /// It is the physical address of a page of the object, with other bits as in page tables.
    PageTable,
    /// It is the number of a page frame of the object.
    PageNumber,
    /// It is a pointer, but is not scanned.
    Unscanned,
}
