//! Ranges of memory that the kernel names: regions that are roots, and memory that is excluded from roots.
//!
//! A range that was added several times has to be removed as often. It is removed by its start; of several ranges with one
//! start, the one that was added last is removed first. What counts is the union, which is found in the
//! order of addresses ([`Ranges::first_from`], [`Ranges::end_from`]): a byte in several ranges is in it once, and ranges that touch
//! are merged. Or the ranges are visited one at a time ([`Ranges::next_single_from`]).
//!
//! There may be many: each step takes no more than an address has bits ([`range_tree`](crate::metadata::range_tree)), so that a caller can
//! turn interrupts on in between. Only where ranges that are visited one at a time overlap, those that do are looked at together.
//!
//! # Locks
//!
//! One for each set, taken with interrupts off. The locks of metadata memory are taken under it.

use core::ops::Range;
use core::sync::atomic::Ordering;

use crate::atomic::{AtomicUsize, Lock};
use crate::metadata::MetaAlloc;
use crate::metadata::kept::Kept;
use crate::metadata::page::NoMemory;
use crate::metadata::range_tree::RangeTree;
use crate::platform::address::end_of;

/// A set of ranges.
pub(crate) struct Ranges<H = ()> {
    tree: Lock<RangeTree<H>>,
    /// How often ranges were added that are there; if never, the lock is not taken. Changed under the lock. A task sees what it
    /// has added itself; a look-up that misses a range which another CPU adds at that moment counts as done before. Stored with
    /// Release and loaded with Acquire: who finds no range any more finds `changed` as wide as it became.
    len: AtomicUsize,
    /// Round all that was added or removed since [`forget_changes`](Self::forget_changes). It widens under the lock, before others can
    /// see the change.
    changed: Hull,
}

/// A range that is treated in its own way, or what other ranges leave of it.
pub(crate) struct Single<H> {
    /// Where the whole range starts.
    pub(crate) start: usize,
    pub(crate) range: Range<usize>,
    pub(crate) how: H,
}

impl<H: Copy + PartialEq> Ranges<H> {
    pub(crate) const fn new() -> Self {
        Self {
            tree: Lock::new(RangeTree::new()),
            len: AtomicUsize::new(0),
            changed: Hull::new(),
        }
    }

    /// Adds a range, or counts it once more if it is the last one that was added with its start.
    pub(crate) fn add(&self, start: usize, len: usize, how: H, meta: &MetaAlloc<'_>) -> Kept {
        self.add_after(start, len, how, (1, 0), meta)
    }

    /// Adds a range with a stamp, or counts it once more if it is the last one that was added with its start, after the other stamp.
    pub(crate) fn add_after(
        &self,
        start: usize,
        len: usize,
        how: H,
        stamps: (u64, u64),
        meta: &MetaAlloc<'_>,
    ) -> Kept {
        let mut tree = self.tree.lock();
        self.changed.add(&(start..end_of(start, len)));
        match tree.add((start, len), how, stamps, meta) {
            Ok(()) => {
                self.len.fetch_add(1, Ordering::Release);
                Kept::Yes
            }
            Err(NoMemory) => Kept::NoMemory,
        }
    }

    /// Takes back the range that was added last of those that start here, and returns it. `None` if there is none.
    pub(crate) fn remove(&self, start: usize, meta: &MetaAlloc<'_>) -> Option<Range<usize>> {
        let mut tree = self.tree.lock();
        let range = start..end_of(start, tree.remove(start, meta)?);
        self.changed.add(&range);
        self.len.fetch_sub(1, Ordering::Release);
        Some(range)
    }

    /// The stamp of the range that was added last of those that start here; zero if there is none.
    pub(crate) fn stamp_of(&self, start: usize) -> u64 {
        let stamp = self.with_tree(|tree| Some(tree.get(start)?.stamp));
        stamp.unwrap_or(0)
    }

    /// Calls `look` with the tree, under the lock, unless it is empty.
    fn with_tree<R>(&self, look: impl FnOnce(&RangeTree<H>) -> Option<R>) -> Option<R> {
        match self.len.load(Ordering::Acquire) {
            0 => None,
            _ => look(&self.tree.lock()),
        }
    }

    /// Notes from here on what is added and removed.
    pub(crate) fn forget_changes(&self) {
        let _tree = self.tree.lock();
        self.changed.clear();
    }

    /// What lies round all that was added or removed since then, or is about to be.
    pub(crate) fn changed(&self) -> &Hull {
        &self.changed
    }

    /// Whether `range` overlaps a range of the set.
    pub(crate) fn meet(&self, range: &Range<usize>) -> bool {
        !range.is_empty() && self.end_from(range.end - 1) > range.end - 1
            || self
                .first_from(range.start)
                .is_some_and(|one| one.start < range.end)
    }

    /// The first range, without what lies below `from`. Others may go on where it ends.
    pub(crate) fn first_from(&self, from: usize) -> Option<Range<usize>> {
        self.with_tree(|tree| {
            let first = tree.first_beyond(from)?;
            Some(first.start().max(from)..first.top())
        })
    }

    /// The last end of the ranges that begin at `end` or before; `end` itself if none reaches beyond.
    pub(crate) fn end_from(&self, end: usize) -> usize {
        let last = self.with_tree(|tree| Some(tree.last_end(end)));
        last.unwrap_or(0).max(end)
    }

    /// Shows what the set has to say of an address: how far ranges reach that it lies in; if it lies in none, the next one.
    pub(crate) fn around(&self, at: usize, look: RangeVisitor<'_>) {
        let found = self.with_tree(|tree| match tree.last_end(at) {
            end if end > at => Some(at..end),
            _ => tree.first_beyond(at).map(|next| next.start()..next.top()),
        });
        found.into_iter().for_each(look);
    }

    /// The first range, without what lies below `from`. Where ranges overlap, the one that was added last counts.
    pub(crate) fn next_single_from(&self, from: usize) -> Option<Single<H>> {
        self.with_tree(|tree| {
            let start = tree.first_beyond(from)?.start().max(from);
            let one = tree.newest_at(start)?;
            let mut end = one.end();
            // Up to one that was added later.
            let mut at = start;
            while let Some(next) = tree.next_start(at)
                && next.start() < end
            {
                at = next.start();
                if (next.all()).any(|other| other.stamp > one.stamp && other.len() > 0) {
                    end = at;
                }
            }
            Some(Single {
                start: one.start(),
                range: start..end,
                how: one.how,
            })
        })
    }

    /// Forgets everything; the memory is given back by its owner.
    pub(crate) fn empty(&self) {
        self.tree.lock().empty();
        self.len.store(0, Ordering::Relaxed);
    }
}

/// A function that is called with one range after another.
pub(crate) type RangeVisitor<'l> = &'l mut dyn FnMut(Range<usize>);

/// The first part of `range` that lies in none of some others; empty if there is no such part. `others` is called with one address after
/// another, and shows at least how far a range reaches that the address lies in, or the next one.
pub(crate) fn first_outside(
    range: Range<usize>,
    others: &mut dyn FnMut(usize, RangeVisitor<'_>),
) -> Range<usize> {
    let mut start = range.start;
    while start < range.end {
        let (mut from, mut end) = (start, range.end);
        others(start, &mut |other| {
            if other.start > from {
                end = end.min(other.start);
            } else {
                from = from.max(other.end);
            }
        });
        if from == start {
            return start..end;
        }
        start = from;
    }
    range.end..range.end
}

/// The smallest range that contains some ranges.
///
/// Relaxed: it widens in one phase of a pass and is read in later ones, with a barrier between; or it widens under a lock, which orders it
/// with what else is read under that lock.
pub(crate) struct Hull {
    /// The start, inverted: zero for a hull of nothing.
    inverted_start: AtomicUsize,
    end: AtomicUsize,
}

impl Hull {
    pub(crate) const fn new() -> Self {
        Self {
            inverted_start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
        }
    }

    pub(crate) fn clear(&self) {
        self.inverted_start.store(0, Ordering::Relaxed);
        self.end.store(0, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, range: &Range<usize>) {
        self.inverted_start
            .fetch_max(!range.start, Ordering::Relaxed);
        self.end.fetch_max(range.end, Ordering::Relaxed);
    }

    /// The range; an empty one for a hull of nothing.
    pub(crate) fn range(&self) -> Range<usize> {
        let end = self.end.load(Ordering::Relaxed);
        (!self.inverted_start.load(Ordering::Relaxed)).min(end)..end
    }

    pub(crate) fn meets(&self, range: &Range<usize>) -> bool {
        let all = self.range();
        all.start.max(range.start) < all.end.min(range.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outside(range: Range<usize>, others: &[Range<usize>]) -> Range<usize> {
        first_outside(range, &mut |_, look| others.iter().cloned().for_each(look))
    }

    #[test]
    fn the_first_part_outside() {
        assert_eq!(outside(10..20, &[]), 10..20);
        assert_eq!(outside(10..20, &[0..10, 20..30]), 10..20);
        assert_eq!(outside(10..20, &[15..16, 12..13]), 10..12);
        assert_eq!(outside(10..20, &[5..12, 3..7]), 12..20);
        assert_eq!(outside(10..20, &[14..16, 12..14, 0..12, 18..19]), 16..18);
        assert!(outside(10..20, &[15..20, 0..16]).is_empty());
        assert!(outside(10..10, &[]).is_empty());
    }
}
