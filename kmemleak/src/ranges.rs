//! Ranges of memory that are named from outside: the regions that are roots, and what no root has.
//!
//! A range is added as often as somebody names it, and removed as often: its start names it, and the one that was added last
//! goes first. What counts is the union, which [`Ranges::next_from`] shows in the order of addresses: a byte in
//! several of them is in it once, and ranges that touch are one.
//!
//! # Locks
//!
//! One for each set, with interrupts off; nothing but memory is asked for under it.

use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

use spin::mutex::SpinMutex;

use crate::hidden::Hidden;
use crate::kept::Kept;
use crate::memory::{Class, Piece, Source};

const START: usize = 2;
const LEN: usize = 3;
const COUNT: usize = 4;

/// A set of ranges, in metadata; for what there are few of.
pub(crate) struct Ranges {
    /// The one that was added last.
    first: SpinMutex<Hidden>,
    /// Relaxed: changed under the lock. Without it, zero spares the lock: of what is being added at this moment, whoever asks
    /// has come before.
    len: AtomicUsize,
}

fn start_of(piece: Piece) -> usize {
    Hidden::from_bits(piece.get(START)).get()
}

fn range_of(piece: Piece) -> Range<usize> {
    let start = start_of(piece);
    start..start.saturating_add(piece.get(LEN) as usize)
}

impl Ranges {
    pub(crate) const fn new() -> Self {
        Self {
            first: SpinMutex::new(Hidden::NONE),
            len: AtomicUsize::new(0),
        }
    }

    /// Adds a range, or counts it once more if it is the last that was added of its start. False where there is no memory.
    pub(crate) fn add(&self, start: usize, len: usize, source: &Source<'_>) -> Kept {
        let mut first = self.first.lock();
        let last = pieces(*first).find(|&piece| start_of(piece) == start);
        if let Some(same) = last.filter(|last| last.get(LEN) == len as u64) {
            same.set(COUNT, same.get(COUNT) + 1);
            return Kept::Yes;
        }
        let Some(piece) = source.take(Class::NOTE).map(Piece) else {
            return Kept::NoMemory;
        };
        piece.set(START, Hidden::new(start).bits());
        piece.set(LEN, len as u64);
        piece.set(COUNT, 1);
        piece.set_next(*first);
        *first = piece.hidden();
        self.len.fetch_add(1, Ordering::Relaxed);
        Kept::Yes
    }

    /// Takes back the range that was added last of those that start here. False if there is none.
    pub(crate) fn remove(&self, start: usize, source: &Source<'_>) -> bool {
        let mut first = self.first.lock();
        let Some(piece) = pieces(*first).find(|&piece| start_of(piece) == start) else {
            return false;
        };
        let count = piece.get(COUNT);
        if count > 1 {
            piece.set(COUNT, count - 1);
            return true;
        }
        let after = piece.link();
        match pieces(*first).find(|before| before.next() == Some(piece)) {
            Some(before) => before.set_next(after),
            None => *first = after,
        }
        self.len.fetch_sub(1, Ordering::Relaxed);
        source.give(Class::NOTE, piece.0);
        true
    }

    fn is_empty(&self) -> bool {
        self.len.load(Ordering::Relaxed) == 0
    }

    /// Shows each range, in no order.
    pub(crate) fn each(&self, look: Look<'_>) {
        if self.is_empty() {
            return;
        }
        pieces(*self.first.lock()).map(range_of).for_each(look);
    }

    /// Whether a range has a byte in common with one of these.
    pub(crate) fn meet(&self, range: &Range<usize>) -> bool {
        let mut meet = false;
        self.each(&mut |one| {
            meet |= one.start.max(range.start) < one.end.min(range.end);
        });
        meet
    }

    /// The first range of the union, as long as it is, of what lies at `from` or after.
    pub(crate) fn next_from(&self, from: usize) -> Option<Range<usize>> {
        if self.is_empty() {
            return None;
        }
        let first = self.first.lock();
        let after = || pieces(*first).map(range_of).filter(|one| one.end > from);
        let start = after()
            .filter(|one| !one.is_empty())
            .map(|one| one.start.max(from))
            .min()?;
        let mut end = start;
        while let Some(longer) = after().find(|one| one.start <= end && one.end > end) {
            end = longer.end;
        }
        Some(start..end)
    }

    /// Forgets everything; the memory is given back by its owner.
    pub(crate) fn empty(&self) {
        *self.first.lock() = Hidden::NONE;
        self.len.store(0, Ordering::Relaxed);
    }
}

fn pieces(first: Hidden) -> impl Iterator<Item = Piece> {
    core::iter::successors(Piece::at(first), |piece| piece.next())
}

/// Takes one range after another.
pub(crate) type Look<'l> = &'l mut dyn FnMut(Range<usize>);

/// The first part of `range` that lies in none of some others, which are shown over and over; empty if there is none.
pub(crate) fn first_outside(range: Range<usize>, others: &mut dyn FnMut(Look<'_>)) -> Range<usize> {
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

/// Something between a lowest and a highest address.
/// Relaxed: it widens in one phase of a pass and is asked in later ones, with a barrier between.
pub(crate) struct Hull {
    start: AtomicUsize,
    end: AtomicUsize,
}

impl Hull {
    pub(crate) const fn new() -> Self {
        Self {
            start: AtomicUsize::new(usize::MAX),
            end: AtomicUsize::new(0),
        }
    }

    pub(crate) fn clear(&self) {
        self.start.store(usize::MAX, Ordering::Relaxed);
        self.end.store(0, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, range: &Range<usize>) {
        self.start.fetch_min(range.start, Ordering::Relaxed);
        self.end.fetch_max(range.end, Ordering::Relaxed);
    }

    pub(crate) fn meets(&self, range: &Range<usize>) -> bool {
        let start = self.start.load(Ordering::Relaxed);
        start.max(range.start) < self.end.load(Ordering::Relaxed).min(range.end)
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
