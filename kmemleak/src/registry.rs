//! The registry: from an address to the record of the block that holds it.
//!
//! A treap (Seidel and Aragon, "Randomized search trees", 1996): a search tree by address that is a heap by a
//! scrambled handle, so that it is balanced by chance and needs neither a balance word nor a parent link. All
//! operations go down one path, without recursion. It hands out handles, never references.
//!
//! # Invariants
//!
//! - The blocks of the tree's records don't overlap.
//! - A record is in the tree exactly while its flags say `ALLOCATED`.

use crate::record::{Handle, Record, Slots};

/// Where a subtree hangs.
#[derive(Clone, Copy)]
enum Hook {
    Root,
    Left(Handle),
    Right(Handle),
}

pub(crate) struct Registry {
    root: Handle,
    /// No block lies below or above: addresses outside are no candidates. Only ever widened.
    lowest: usize,
    highest: usize,
}

impl Registry {
    pub(crate) const fn new() -> Self {
        Self {
            root: Handle::NONE,
            lowest: usize::MAX,
            highest: 0,
        }
    }

    /// Whether an address may lie in a block at all.
    pub(crate) fn may_contain(&self, address: usize) -> bool {
        address >= self.lowest && address < self.highest
    }

    fn at(&self, slots: &Slots, hook: Hook) -> Handle {
        match hook {
            Hook::Root => self.root,
            Hook::Left(parent) => slots.get(parent).left,
            Hook::Right(parent) => slots.get(parent).right,
        }
    }

    fn hang(&mut self, slots: &mut Slots, hook: Hook, subtree: Handle) {
        match hook {
            Hook::Root => self.root = subtree,
            Hook::Left(parent) => slots.update(parent, |record| record.left = subtree),
            Hook::Right(parent) => slots.update(parent, |record| record.right = subtree),
        }
    }

    /// The last block that starts at `address` or before.
    pub(crate) fn at_or_before(&self, slots: &Slots, address: usize) -> Option<(Handle, Record)> {
        let mut best = None;
        let mut here = self.root;
        while let Some(handle) = here.some() {
            let record = slots.get(handle);
            if record.start() <= address {
                best = Some((handle, record));
                here = record.right;
            } else {
                here = record.left;
            }
        }
        best
    }

    /// The first block that starts at `address` or after.
    pub(crate) fn at_or_after(&self, slots: &Slots, address: usize) -> Option<(Handle, Record)> {
        let mut best = None;
        let mut here = self.root;
        while let Some(handle) = here.some() {
            let record = slots.get(handle);
            if record.start() >= address {
                best = Some((handle, record));
                here = record.left;
            } else {
                here = record.right;
            }
        }
        best
    }

    /// The block that starts at `address`.
    pub(crate) fn starting_at(&self, slots: &Slots, address: usize) -> Option<(Handle, Record)> {
        self.at_or_before(slots, address)
            .filter(|(_, record)| record.start() == address)
    }

    /// The block that `address` lies in. One past the end is not in it.
    pub(crate) fn containing(&self, slots: &Slots, address: usize) -> Option<(Handle, Record)> {
        self.at_or_before(slots, address)
            .filter(|(_, record)| address < record.end())
    }

    /// A block that has a byte in common with these.
    pub(crate) fn overlapping(&self, slots: &Slots, start: usize, end: usize) -> Option<Handle> {
        let (handle, record) = self.at_or_before(slots, end.checked_sub(1)?)?;
        (record.end() > start).then_some(handle)
    }

    /// Puts a record into the tree. Its block overlaps none that is there.
    pub(crate) fn insert(&mut self, slots: &mut Slots, new: Handle) {
        let record = slots.get(new);
        let (start, rank) = (record.start(), new.scrambled());
        // Down to where the new record's rank puts it.
        let mut hook = Hook::Root;
        let mut here = self.at(slots, hook);
        while here.is_some() && here.scrambled() >= rank {
            hook = if start < slots.get(here).start() {
                Hook::Left(here)
            } else {
                Hook::Right(here)
            };
            here = self.at(slots, hook);
        }
        self.hang(slots, hook, new);
        slots.update(new, |record| {
            (record.left, record.right) = (Handle::NONE, Handle::NONE)
        });
        // What hung there is split by address to its two sides.
        let (mut below, mut above) = (Hook::Left(new), Hook::Right(new));
        while let Some(handle) = here.some() {
            let record = slots.get(handle);
            if record.start() < start {
                self.hang(slots, below, handle);
                below = Hook::Right(handle);
                here = record.right;
            } else {
                self.hang(slots, above, handle);
                above = Hook::Left(handle);
                here = record.left;
            }
        }
        self.hang(slots, below, Handle::NONE);
        self.hang(slots, above, Handle::NONE);
        self.lowest = self.lowest.min(start);
        self.highest = self.highest.max(record.end());
    }

    /// Takes a record out of the tree; its slot stays.
    pub(crate) fn remove(&mut self, slots: &mut Slots, old: Handle) {
        let record = slots.get(old);
        let start = record.start();
        let mut hook = Hook::Root;
        loop {
            let here = self.at(slots, hook);
            if here == old {
                break;
            }
            debug_assert!(here.is_some(), "the record is not in the tree");
            hook = if start < slots.get(here).start() {
                Hook::Left(here)
            } else {
                Hook::Right(here)
            };
        }
        // Its two sides are merged in its place, the higher rank on top.
        let (mut left, mut right) = (record.left, record.right);
        while left.is_some() && right.is_some() {
            if left.scrambled() >= right.scrambled() {
                self.hang(slots, hook, left);
                hook = Hook::Right(left);
                left = slots.get(left).right;
            } else {
                self.hang(slots, hook, right);
                hook = Hook::Left(right);
                right = slots.get(right).left;
            }
        }
        self.hang(slots, hook, if left.is_some() { left } else { right });
    }

    /// Forgets everything.
    pub(crate) fn empty(&mut self) {
        *self = Self::new();
    }
}
