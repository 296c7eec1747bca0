//! Warnings: what callers of the callbacks did wrong.
//!
//! A callback can't print. It counts, and puts what it saw into a fixed ring, from which a task writes it to the log. A warning
//! of the same kind from the same call stack is written once; it is counted every time.

use core::fmt;

use crate::metadata::MetaAlloc;
use crate::metadata::hidden::Hidden;
use crate::platform::Platform;
use crate::platform::address::{Address, Extent};
use crate::stacks::depot::{Frames, StackId};
use crate::tracker::Tracker;

/// Warnings that wait for the task.
const RING: usize = 32;

/// What was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    /// A free of an address where no tracked block starts.
    UnknownFree,
    /// A free that the allocator has refused.
    RefusedFree,
    /// Another callback for an address where no tracked block starts.
    UnknownObject,
    /// A new block lies where a block is recorded that was never freed.
    Overlap,
    /// A scan area goes past its block's end.
    AreaTooLarge,
    /// A block would reach beyond the half of the address space that it starts in.
    BadSize,
    /// More references are wanted than can be counted, or a negative number of them.
    BadMinCount,
    /// A region is removed that was not registered.
    UnknownRegion,
    /// A disabled scope ends that was never begun.
    NotDisabled,
    /// No block can start at the number.
    NoBlock,
    /// A region is added that is not memory.
    NoRegion,
    /// A block or a region is to be read at each byte, and is too large for that.
    TooLargeForBytes,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownFree => "free of an unknown object",
            Self::RefusedFree => "free refused by the allocator",
            Self::UnknownObject => "unknown object",
            Self::Overlap => "new object overlaps one whose free was missed",
            Self::AreaTooLarge => "scan area larger than object",
            Self::BadSize => "object reaches beyond its half of the address space",
            Self::BadMinCount => "min_count is not within -1 and 255",
            Self::UnknownRegion => "region removed that is not registered",
            Self::NotDisabled => "end of a disabled scope that has not begun",
            Self::NoBlock => "no object can be at this number",
            Self::NoRegion => "no region can be at this number",
            Self::TooLargeForBytes => "more than 4096 bytes are to be read as bytes",
        })
    }
}

/// One warning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Warning {
    pub(crate) kind: Kind,
    pub(crate) address: Hidden,
    /// The call stack that led to the callback.
    caller: StackId,
    /// The call stack that allocated the block there last, if it is remembered.
    allocated: StackId,
    /// The call stack that freed it, if such are kept.
    freed: StackId,
}

impl Warning {
    /// A place of the ring that was never used: zero bits.
    const BLANK: Self = Self {
        kind: Kind::UnknownFree,
        address: Hidden::NONE,
        caller: StackId::NONE,
        allocated: StackId::NONE,
        freed: StackId::NONE,
    };
}

pub(crate) struct Warnings {
    /// Those that wait: `len` from `first` on. The others are blank or old.
    ring: [Warning; RING],
    first: usize,
    len: usize,
    /// Warnings that found the ring full.
    lost: u64,
    /// All warnings there ever were.
    count: u64,
}

impl Warnings {
    pub(crate) const fn new() -> Self {
        Self {
            ring: [Warning::BLANK; RING],
            first: 0,
            len: 0,
            lost: 0,
            count: 0,
        }
    }

    fn note(&mut self) {
        self.count += 1;
    }

    fn push(&mut self, warning: Warning) {
        if self.len == RING {
            self.lost += 1;
            return;
        }
        self.ring[(self.first + self.len) % RING] = warning;
        self.len += 1;
    }

    /// Takes the oldest warning, and how many were lost before it.
    fn pop(&mut self) -> Option<Warning> {
        self.len = self.len.checked_sub(1)?;
        let warning = self.ring[self.first];
        self.first = (self.first + 1) % RING;
        Some(warning)
    }

    /// How many warnings found no room since this was last asked.
    fn take_lost(&mut self) -> u64 {
        core::mem::take(&mut self.lost)
    }
}

impl<P: Platform> Tracker<P> {
    #[cold]
    pub(crate) fn warn_unknown(&self, kind: Kind, number: usize, meta: &MetaAlloc<'_>) {
        // The block may be one for which there was no record, if a block can be there.
        let may_be = Address::new(number).is_some_and(|address| !address.is_in_first_page());
        if !may_be || !self.is_incomplete() {
            let last = self.registry.last_stack_ids(number);
            self.warn(kind, number, last, meta);
        }
    }

    /// Warns of a block that is refused: no block can be where it is said to be.
    #[cold]
    #[inline(never)]
    pub(crate) fn warn_no_block(&self, start: usize, meta: &MetaAlloc<'_>) {
        // If a block of one byte could be there, the size is wrong.
        let kind = match Extent::block(&self.platform, start, 1) {
            Some(_) => Kind::BadSize,
            None => Kind::NoBlock,
        };
        self.warn(kind, start, (StackId::NONE, StackId::NONE), meta);
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn warn(
        &self,
        kind: Kind,
        address: usize,
        last: (StackId, StackId),
        meta: &MetaAlloc<'_>,
    ) {
        let frames = self.frames();
        let caller = self.depot.store(frames.as_slice(), meta);
        let new = self.depot.mark(caller, kind as u32);
        let mut warnings = self.warnings.lock();
        warnings.note();
        if new {
            warnings.push(Warning {
                kind,
                address: Hidden::new(address),
                caller,
                allocated: last.0,
                freed: last.1,
            });
        }
    }

    /// Takes the oldest warning, with the call stacks that it names: of the caller, of the last allocation of the block there,
    /// and of its free.
    pub(crate) fn next_warning(&self) -> Option<(Warning, [Frames; 3])> {
        // The call stacks are read in one go: the metadata may be given back meanwhile.
        self.look(|_| {
            let warning = self.warnings.lock().pop()?;
            let stack_ids = [warning.caller, warning.allocated, warning.freed];
            Some((warning, stack_ids.map(|stack_id| self.depot.get(stack_id))))
        })?
    }

    /// Takes the number of the warnings that found no room.
    pub(crate) fn take_lost_warnings(&self) -> u64 {
        self.without_interrupts(|_| self.warnings.lock().take_lost())
    }

    /// How many warnings there were, written or not.
    pub(crate) fn count_warnings(&self) -> u64 {
        self.without_interrupts(|_| self.warnings.lock().count)
    }
}
