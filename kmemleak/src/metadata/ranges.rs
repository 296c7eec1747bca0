//! Ranges of memory that the kernel names: regions that are roots, and memory that is excluded from roots.
//!
//! A range that was added several times has to be removed as often. It is removed by its start; of several ranges with one
//! start, the one that was added last is removed first. What counts is the union, which is found in the
//! order of addresses ([`Ranges::first_from`], [`Ranges::end_from`]): a byte in several ranges is in it once, and ranges that touch
//! are merged. Each step looks at each range once, so that a caller can turn interrupts on in between.
//!
//! A range may say *how* its memory is to be treated. Then the union is that of all ranges that say the same, or the ranges are
//! visited one at a time ([`Ranges::next_single_from`]).
//!
//! # Locks
//!
//! The lock of the list in which a set is kept: see [`crate::metadata::keyed_list`].

use core::ops::Range;
use core::sync::atomic::Ordering;

use crate::atomic::AtomicUsize;
use crate::metadata::MetaAlloc;
use crate::metadata::kept::Kept;
use crate::metadata::keyed_list::KeyedList;
use crate::platform::address::end_of;

/// A set of a few ranges.
pub(crate) struct Ranges<H = ()> {
    /// Their lengths, and how they are treated, by their starts.
    list: KeyedList<(usize, H)>,
}

/// A range that is treated in its own way, or what other ranges leave of it.
pub(crate) struct Single<H> {
    /// Where the whole range starts.
    pub(crate) start: usize,
    pub(crate) range: Range<usize>,
    pub(crate) how: H,
}

fn range_of<H>((start, (len, _)): (usize, (usize, H))) -> Range<usize> {
    start..end_of(start, len)
}

impl<H: Copy + PartialEq> Ranges<H> {
    pub(crate) const fn new() -> Self {
        Self {
            list: KeyedList::new(),
        }
    }

    /// Adds a range, or counts it once more if it is the last one that was added with its start.
    pub(crate) fn add(&self, start: usize, len: usize, how: H, meta: &MetaAlloc<'_>) -> Kept {
        self.list.add(start, (len, how), meta)
    }

    /// Takes back the range that was added last of those that start here, and returns it. `None` if there is none.
    pub(crate) fn remove(&self, start: usize, meta: &MetaAlloc<'_>) -> Option<Range<usize>> {
        let value = self.list.remove(start, meta)?;
        Some(range_of((start, value)))
    }

    /// Shows each of the ranges that are treated as `wanted`, in no order.
    pub(crate) fn each(&self, wanted: impl Fn(H) -> bool, look: RangeVisitor<'_>) {
        self.list.with_all(|all| {
            let some = all.each().filter(|(_, (_, how))| wanted(*how));
            some.map(range_of).for_each(look);
        });
    }

    /// Whether `range` overlaps a range of the set.
    pub(crate) fn meet(&self, range: &Range<usize>) -> bool {
        let meets = |one: Range<usize>| one.start.max(range.start) < one.end.min(range.end);
        self.list
            .with_all(|all| all.each().map(range_of).any(meets))
    }

    /// The first range of those that are treated as `wanted`, without what lies below `from`. Others may go on where it ends.
    pub(crate) fn first_from(
        &self,
        from: usize,
        wanted: impl Fn(H) -> bool,
    ) -> Option<Range<usize>> {
        self.list.with_all(|all| {
            let some = all.each().filter(|(_, (_, how))| wanted(*how));
            some.map(range_of)
                .filter(|one| one.end > from && !one.is_empty())
                .map(|one| one.start.max(from)..one.end)
                .min_by_key(|one| one.start)
        })
    }

    /// The last end of the ranges that are treated as `wanted` and begin at `end` or before; `end` itself if none reaches beyond.
    pub(crate) fn end_from(&self, end: usize, wanted: impl Fn(H) -> bool) -> usize {
        self.list.with_all(|all| {
            let some = all.each().filter(|(_, (_, how))| wanted(*how));
            let mut last = end;
            for one in some.map(range_of) {
                if one.start <= last && one.end > last {
                    last = one.end;
                }
            }
            last
        })
    }

    /// The first range that is treated as `wanted`, without what lies below `from`. Where such ranges overlap, the one that was
    /// added last counts.
    pub(crate) fn next_single_from(
        &self,
        from: usize,
        wanted: impl Fn(H) -> bool,
    ) -> Option<Single<H>> {
        self.list.with_all(|all| {
            let after = || {
                let some = all.each().filter(|(_, (_, how))| wanted(*how));
                some.map(|one| (range_of(one), one.1.1))
                    .filter(|(range, _)| range.end > from && !range.is_empty())
            };
            let start = after().map(|(range, _)| range.start.max(from)).min()?;
            // Those that were added later come first.
            let mut newer = usize::MAX;
            for (range, how) in after() {
                if range.start <= start {
                    return Some(Single {
                        start: range.start,
                        range: start..range.end.min(newer),
                        how,
                    });
                }
                newer = newer.min(range.start);
            }
            None
        })
    }

    /// Forgets everything; the memory is given back by its owner.
    pub(crate) fn empty(&self) {
        self.list.empty();
    }
}

/// A function that is called with one range after another.
pub(crate) type RangeVisitor<'l> = &'l mut dyn FnMut(Range<usize>);

/// The first part of `range` that lies in none of the ranges that `others` shows; empty if there is no such part. `others`
/// is called over and over.
pub(crate) fn first_outside(
    range: Range<usize>,
    others: &mut dyn FnMut(RangeVisitor<'_>),
) -> Range<usize> {
    let mut start = range.start;
    while start < range.end {
        let (mut from, mut end) = (start, range.end);
        others(&mut |other| {
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
/// Relaxed: it widens in one phase of a pass and is read in later ones, with a barrier between.
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
        first_outside(range, &mut |look| others.iter().cloned().for_each(look))
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
