//! Tables with a row for each call stack: a hash table in pages of metadata.

use crate::metadata::MetaAlloc;
use crate::metadata::page_vec::{PageVec, Paged};
use crate::stacks::depot::Trace;

/// Chains of rows: a power of two.
const BUCKETS: usize = 2048;

/// A table with rows of `WORDS` words, of which the first is the table's own. Used by one at a time.
pub(crate) struct StackTable<const WORDS: usize> {
    /// The first word: the call stack; in the upper half the next row of the chain, by its number plus one.
    pub(crate) rows: Paged<WORDS>,
    /// The first row of each chain, by its number plus one.
    buckets: PageVec<u32>,
}

impl<const WORDS: usize> StackTable<WORDS> {
    pub(crate) const fn new() -> Self {
        Self {
            rows: Paged::new(),
            buckets: PageVec::new(),
        }
    }

    /// The call stack of a row.
    pub(crate) fn trace(&self, row: usize) -> Trace {
        Trace(self.rows.low(row, 0))
    }

    /// The row of a call stack.
    pub(crate) fn find(&self, trace: Trace) -> Option<usize> {
        let mut next = *self.buckets.get(bucket_of(trace))?;
        while let Some(row) = next.checked_sub(1) {
            let row = row as usize;
            if self.trace(row) == trace {
                return Some(row);
            }
            next = self.rows.high(row, 0);
        }
        None
    }

    /// The row of a call stack, new and all zero if there was none. `None` where there is no memory.
    pub(crate) fn find_or_add(&mut self, trace: Trace, meta: &MetaAlloc<'_>) -> Option<usize> {
        if let Some(row) = self.find(trace) {
            return Some(row);
        }
        self.buckets.extend(BUCKETS, meta).ok()?;
        let first = self.buckets.get_mut(bucket_of(trace))?;
        let mut words = [0; WORDS];
        words[0] = u64::from(trace.0) | u64::from(*first) << 32;
        let row = self.rows.push(words, meta)?;
        *first = row as u32 + 1;
        Some(row)
    }

    /// Puts the numbers of the rows into a word of theirs, in the order of a weight: the largest first, of equal ones the
    /// row that was added first.
    pub(crate) fn order_by<K: Ord>(&self, word: usize, weight: impl Fn(usize) -> K) {
        let rows = &self.rows;
        let weight = |place| {
            let row = rows.get(place, word) as usize;
            (weight(row), core::cmp::Reverse(row))
        };
        (0..rows.len()).for_each(|place| rows.set(place, word, place as u64));
        heapsort(
            rows.len(),
            &|one, other| weight(one) < weight(other),
            &mut |one, other| {
                let (a, b) = (rows.get(one, word), rows.get(other, word));
                rows.set(one, word, b);
                rows.set(other, word, a);
            },
        );
    }

    /// Drops all rows; the memory stays. Takes as long as there are rows.
    pub(crate) fn clear(&mut self) {
        for row in 0..self.rows.len() {
            if let Some(first) = self.buckets.get_mut(bucket_of(self.trace(row))) {
                *first = 0;
            }
        }
        self.rows.clear();
    }

    /// Forgets everything; the memory is given back by its owner.
    pub(crate) fn empty(&mut self) {
        self.rows.empty();
        self.buckets.empty();
    }
}

fn bucket_of(trace: Trace) -> usize {
    // Multiplied by 2^32 divided by the golden ratio, of which the upper bits are well mixed.
    (trace.0.wrapping_mul(0x9e37_79b9) >> (u32::BITS - BUCKETS.ilog2())) as usize
}

/// Sorts what lies in `len` places, by a comparison of two and an exchange of two. (Heapsort, Williams 1964: no
/// recursion, no memory.)
fn heapsort(len: usize, after: &dyn Fn(usize, usize) -> bool, swap: &mut dyn FnMut(usize, usize)) {
    let sift = |mut root: usize, end: usize, swap: &mut dyn FnMut(usize, usize)| {
        loop {
            let left = 2 * root + 1;
            if left >= end {
                return;
            }
            let right = left + 1;
            let last = if right < end && after(right, left) {
                right
            } else {
                left
            };
            if !after(last, root) {
                return;
            }
            swap(last, root);
            root = last;
        }
    };
    for root in (0..len / 2).rev() {
        sift(root, len, swap);
    }
    for end in (1..len).rev() {
        swap(0, end);
        sift(0, end, swap);
    }
}
