//! The index: from the hash of a call stack to its entry, however many there are.
//!
//! It is a trie over the bits of the hash (a hash trie, as in Bagwell 2001, that only grows): the first ones choose one of the
//! root's slots, each further four choose a slot of a *fork*. A slot leads to nothing, to an entry, or to a fork. Where a second
//! entry comes to a slot, a fork takes the slot's place, and the first entry moves one level down. So no table is ever copied, and
//! nobody waits: the way to one of a million call stacks has three forks.
//!
//! # Invariants
//!
//! - A slot changes by compare-and-swap alone: from nothing to an entry, from an entry to a newer one of the same hash, or from an
//!   entry to a fork that leads to it. It never changes back. So a CPU that saw a slot and could not change it looks at
//!   that slot again, and at no other.
//! - Entries with the same hash (all 32 bits of it that are stored) are chained: a newer one names the next. Others never share a slot.
//! - A fork lies in the pages of entries, and is written before its slot names it. No number of an entry lies in it, so none of its
//!   words says that it is an entry's own number.

use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;

use crate::atomic::AtomicU32;
use crate::metadata::page::Page;
use crate::sizes::DEPOT_BUCKETS;
use crate::stacks::depot::entry::{Entries, PAGE_UNITS, UNIT};

/// Bits of a hash that choose a slot of a fork.
const DIGIT: u32 = 4;

/// Slots of a fork.
const SLOTS: usize = 1 << DIGIT;

/// Units that a fork takes: its slots have 4 bytes.
pub(super) const FORK_UNITS: u32 = (SLOTS / 2) as u32;

/// Of a slot: it leads to a fork.
const FORK: u32 = 1 << 31;

/// What a slot leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Branch {
    Nothing,
    /// The entry with this number.
    Entry(u32),
    /// The fork that begins with this unit.
    Fork(u32),
}

impl Branch {
    pub(super) const fn from_slot(slot: u32) -> Self {
        match slot {
            0 => Self::Nothing,
            number if number & FORK == 0 => Self::Entry(number),
            fork => Self::Fork(fork & !FORK),
        }
    }

    pub(super) const fn slot(self) -> u32 {
        match self {
            Self::Nothing => 0,
            Self::Entry(number) => number,
            Self::Fork(unit) => unit | FORK,
        }
    }
}

/// The hash of a call stack, as the way to its entry.
#[derive(Clone, Copy)]
pub(super) struct Route {
    hash: u64,
    /// How many bits have been used in forks.
    used: u32,
}

impl Route {
    /// The way of a hash, all bits of which are well mixed.
    pub(super) const fn new(hash: u64) -> Self {
        Self { hash, used: 0 }
    }

    /// The bits that an entry stores. All choices in forks are made by them.
    pub(super) const fn stored(self) -> u32 {
        self.hash as u32
    }

    /// The number of the root's slot.
    pub(super) const fn root(self) -> usize {
        (self.hash >> 32) as usize % DEPOT_BUCKETS
    }

    /// The slot of the next fork for a hash that went the same way up to here; `None` after all bits.
    const fn digit_of(self, stored: u32) -> Option<usize> {
        match stored.checked_shr(self.used) {
            Some(rest) => Some(rest as usize % SLOTS),
            None => None,
        }
    }

    /// Steps down into a fork: its slot.
    pub(super) fn step<'a>(&mut self, fork: Fork) -> Option<&'a AtomicU32> {
        let slot = fork.slot(self.digit_of(self.stored())?);
        self.used += DIGIT;
        Some(slot)
    }

    /// Writes a fork that nobody sees yet, to take the place of a slot that leads to an entry with this hash. `None` after all bits.
    pub(super) fn write_fork(self, fork: Fork, entry: u32, stored: u32) -> Option<()> {
        let digit = self.digit_of(stored)?;
        // The room may have been written to before.
        (0..SLOTS).for_each(|slot| fork.slot(slot).store(0, Relaxed));
        fork.slot(digit).store(Branch::Entry(entry).slot(), Relaxed);
        Some(())
    }
}

/// The slots of a fork.
#[derive(Clone, Copy)]
pub(super) struct Fork(NonNull<u8>);

impl Fork {
    /// The fork that begins with this unit of a page. `None` where none can begin.
    pub(super) fn at(page: Page<Entries>, unit: u32) -> Option<Self> {
        if unit + FORK_UNITS > PAGE_UNITS {
            return None;
        }
        // SAFETY: inside the page, as was just seen.
        Some(Self(unsafe { page.start().add(unit as usize * UNIT) }))
    }

    /// A slot, by its number modulo the slots of a fork.
    fn slot<'a>(self, number: usize) -> &'a AtomicU32 {
        let place = self.0.as_ptr().cast::<u32>().wrapping_add(number % SLOTS);
        // SAFETY: a word of the page, used as an atomic of this size alone. Pages outlive their use.
        unsafe { AtomicU32::from_ptr(place) }
    }
}
