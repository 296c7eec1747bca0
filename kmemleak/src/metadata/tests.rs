//! Tests of pages and pieces alone, from a bootstrap pool.

extern crate std;

use super::kept::Kept;
use super::list::{List, MetaBox};
use super::page::{NoMemory, PageSource};
use super::page_vec::PageVec;
use super::piece_vec::PieceVec;
use super::pool::BootstrapPool;
use super::ranges::{Ranges, first_outside};
use super::{Class, Memory, MetaAlloc};
use crate::platform::{IrqState, METADATA_PAGE, Platform, Root, RootCursor};
use core::ops::Range;
use std::vec::Vec;

struct NoPlatform;

// SAFETY: there are no roots, no interrupts, and no blocks.
unsafe impl Platform for NoPlatform {
    fn now_us(&self) -> u64 {
        0
    }
    fn irq_save(&self) -> IrqState {
        IrqState(0)
    }
    fn irq_restore(&self, _: IrqState) {}
    fn next_root(&self, _: &mut RootCursor) -> Option<Root> {
        None
    }
}

/// Runs a test with a pool of pages, and checks that all pieces were given back.
pub(crate) fn with_meta<const PAGES: usize>(
    pool: &'static BootstrapPool<PAGES>,
    test: impl FnOnce(&MetaAlloc<'_>),
) {
    let mut memory = Memory::new();
    memory.set_pool(pool.erased());
    test(&MetaAlloc {
        platform: &NoPlatform,
        memory: &memory,
        cpu: 0,
    });
    assert_eq!(memory.piece_bytes(), 0);
}

#[test]
fn pages_are_zero_and_run_out() {
    static POOL: BootstrapPool<3> = BootstrapPool::new();
    with_meta(&POOL, |meta| {
        for _ in 0..3 {
            let page = meta.page().expect("there is one").start();
            // SAFETY: a page of this test's alone.
            let bytes = unsafe { page.cast::<[u8; METADATA_PAGE]>().as_mut() };
            assert!(bytes.iter().all(|&byte| byte == 0));
            bytes.fill(0xff);
        }
        assert_eq!(meta.page().err(), Some(NoMemory));
        assert_eq!(meta.memory.bytes(), 3 * METADATA_PAGE);
    });
}

#[test]
fn a_piece_is_taken_again_by_its_class() {
    static POOL: BootstrapPool<9> = BootstrapPool::new();
    with_meta(&POOL, |meta| {
        let all = || core::iter::from_fn(|| meta.take(Class::LARGEST).ok());
        let pieces: Vec<_> = all().collect();
        assert_eq!(pieces.len(), 9 * (METADATA_PAGE / Class::LARGEST.bytes()));
        // What was left of the pages is cut into smaller ones.
        let note = meta.take(Class::NOTE).expect("there is room");
        let count = pieces.len();
        pieces.into_iter().for_each(|piece| meta.give(piece));
        meta.give(note);
        let pieces: Vec<_> = all().collect();
        assert_eq!(pieces.len(), count);
        pieces.into_iter().for_each(|piece| meta.give(piece));
    });
}

#[test]
fn refused_requests_are_counted() {
    static POOL: BootstrapPool<9> = BootstrapPool::new();
    with_meta(&POOL, |meta| {
        meta.memory.refuse(1..2);
        let boxes = [0, 1, 2].map(|value| MetaBox::new(value, meta));
        assert_eq!(meta.memory.requests(), 3);
        meta.memory.refuse_nothing();
        let values = boxes.map(|value| value.ok().map(|value| value.give_back(meta)));
        assert_eq!(values, [Some(0), None, Some(2)]);
    });
}

#[test]
fn a_list_keeps_its_order() {
    static POOL: BootstrapPool<9> = BootstrapPool::new();
    with_meta(&POOL, |meta| {
        let boxed = |value: usize| MetaBox::new(value, meta).expect("there is room");
        let mut list = List::new();
        (0..5).for_each(|value| list.push(boxed(value)));
        (5..8).for_each(|value| list.push_last(boxed(value)));
        let values = |list: &List<usize>| list.iter().copied().collect::<Vec<_>>();
        assert_eq!(values(&list), [4, 3, 2, 1, 0, 5, 6, 7]);
        for value in [4, 0, 7] {
            let taken = list.take_first(|&other| other == value);
            assert_eq!(taken.map(|taken| taken.give_back(meta)), Some(value));
        }
        assert!(list.take_first(|&value| value == 7).is_none());
        *list.find_mut(|&value| value == 5).expect("it is there") = 50;
        assert_eq!(values(&list), [3, 2, 1, 50, 6]);
        list.clear(meta);
        assert!(list.is_empty());
    });
}

#[test]
fn rows_that_are_appended_together_lie_together() {
    static POOL: BootstrapPool<9> = BootstrapPool::new();
    with_meta(&POOL, |meta| {
        let mut bytes = PieceVec::new();
        for _ in 0..1000 {
            bytes.push_all(b"abcde", meta).expect("there is room");
        }
        assert_eq!(bytes.iter().count(), 5000);
        assert!(bytes.parts().all(|part| part.len().is_multiple_of(5)));
        assert!(bytes.iter().eq(b"abcde".iter().cycle().take(5000)));
        assert_eq!(bytes.push_all(&[0; METADATA_PAGE], meta), Err(NoMemory));
        bytes.clear(meta);
        assert_eq!(bytes.iter().count(), 0);
        let mut rows = PieceVec::new();
        (0..300).for_each(|row| rows.push((row, !row), meta).expect("there is room"));
        assert!(rows.iter().copied().eq((0..300).map(|row| (row, !row))));
        rows.clear(meta);
    });
}

#[test]
fn rows_are_what_they_were_written() {
    static POOL: BootstrapPool<20> = BootstrapPool::new();
    with_meta(&POOL, |meta| {
        let mut rows = PageVec::<[u32; 7]>::new();
        for number in 0..1000 {
            assert_eq!(rows.push([number; 7], meta), Ok(number as usize));
        }
        *rows.get_mut(146).expect("it is there") = [1; 7];
        for number in 0..1000 {
            let expected = if number == 146 { 1 } else { number };
            assert_eq!(rows.get(number as usize), Some(&[expected; 7]));
        }
        assert_eq!((rows.get(1000), rows.get(usize::MAX)), (None, None));
        rows.swap(0, 999);
        rows.swap(5, 5);
        let ends = (rows.get(0), rows.get(999));
        assert_eq!(ends, (Some(&[999; 7]), Some(&[0; 7])));
        rows.empty();
        assert_eq!(rows.get(0), None);
    });
}

#[test]
fn without_memory_there_are_fewer_rows() {
    static POOL: BootstrapPool<2> = BootstrapPool::new();
    with_meta(&POOL, |meta| {
        let mut rows = PageVec::<u64>::new();
        assert_eq!(rows.extend(1025, meta), Err(NoMemory));
        let ends = (rows.len(), rows.get(1023), rows.get(1024));
        assert_eq!(ends, (1024, Some(&0), None));
        assert_eq!(rows.push(1, meta), Err(NoMemory));
        rows.clear();
        assert_eq!(rows.push(2, meta), Ok(0));
        assert_eq!((rows.get(0), rows.get(1)), (Some(&2), None));
    });
}

/// Xorshift64 (Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    /// An address near one of a few that lie far apart.
    fn address(&mut self) -> usize {
        [0, 1 << 40, usize::MAX - 200][self.below(3)] + self.below(100)
    }
}

/// Ranges in the order in which they were added, which are searched from one end to the other: start, length, and how it is treated.
#[derive(Default)]
struct Searched(Vec<(usize, usize, u8)>);

impl Searched {
    /// Those that hold bytes, the one that was added last first.
    fn newest_first(&self) -> impl Iterator<Item = (Range<usize>, u8)> {
        let ranges = self.0.iter().rev();
        ranges
            .filter(|one| one.1 > 0)
            .map(|one| (one.0..one.0 + one.1, one.2))
    }

    /// The last one with its start that is the same is counted once more, where it is.
    fn add(&mut self, new: (usize, usize, u8)) {
        let last = self.0.iter().rposition(|one| one.0 == new.0);
        let place = match last {
            Some(last) if self.0[last] == new => last,
            _ => self.0.len(),
        };
        self.0.insert(place, new);
    }

    fn remove(&mut self, start: usize) -> Option<Range<usize>> {
        let index = self.0.iter().rposition(|one| one.0 == start)?;
        let (start, len, _) = self.0.remove(index);
        Some(start..start + len)
    }

    fn first_start_from(&self, from: usize) -> Option<usize> {
        let after = self.newest_first().filter(|(one, _)| one.end > from);
        after.map(|(one, _)| one.start.max(from)).min()
    }

    /// The last end of ranges that touch `end`, or that touch one of these.
    fn end_of_union(&self, mut end: usize) -> usize {
        while let Some((next, _)) = self
            .newest_first()
            .find(|(one, _)| one.start <= end && one.end > end)
        {
            end = next.end;
        }
        end
    }

    /// The first part of what lies at `from` or after: in what whole range it is, and how that is treated.
    fn single_from(&self, from: usize) -> Option<(usize, Range<usize>, u8)> {
        let start = self.first_start_from(from)?;
        let mut limit = usize::MAX;
        for (one, how) in self.newest_first().filter(|(one, _)| one.end > from) {
            if one.start <= start {
                return Some((one.start, start..one.end.min(limit), how));
            }
            limit = limit.min(one.start);
        }
        None
    }
}

#[test]
fn ranges_are_found_as_by_a_search_through_all() {
    static POOL: BootstrapPool<64> = BootstrapPool::new();
    with_meta(&POOL, |meta| {
        for seed in 1..6 {
            let mut random = Random(seed);
            let (ranges, mut searched) = (Ranges::<u8>::new(), Searched::default());
            for stamp in 1..1500 {
                let start = random.address();
                // More and fewer by turns.
                if random.below(100) < [65, 35][searched.0.len() / 40 % 2] {
                    let len = [0, 1, 3, 20, 60][random.below(5)].min(usize::MAX - start);
                    let how = random.below(2) as u8;
                    let added = ranges.add_after(start, len, how, (stamp, 0), meta);
                    assert_eq!(added, Kept::Yes);
                    searched.add((start, len, how));
                } else {
                    assert_eq!(ranges.remove(start, meta), searched.remove(start));
                }
                compare(&ranges, &searched, &mut random);
            }
            for (start, ..) in core::mem::take(&mut searched.0) {
                assert!(ranges.remove(start, meta).is_some());
            }
            assert!(ranges.first_from(0).is_none());
        }
    });
}

fn compare(ranges: &Ranges<u8>, searched: &Searched, random: &mut Random) {
    let from = random.address();
    let first = ranges.first_from(from);
    assert_eq!(
        first.as_ref().map(|one| one.start),
        searched.first_start_from(from)
    );
    if let Some(first) = first {
        let mut end = first.end;
        while ranges.end_from(end) > end {
            end = ranges.end_from(end);
        }
        assert_eq!(end, searched.end_of_union(first.start));
    }
    let single = ranges.next_single_from(from);
    let single = single.map(|one| (one.start, one.range, one.how));
    assert_eq!(single, searched.single_from(from));
    let range = from..from.saturating_add(random.below(80));
    let overlap = |one: &Range<usize>| one.start.max(range.start) < one.end.min(range.end);
    let meets = searched.newest_first().any(|(one, _)| overlap(&one));
    assert_eq!(ranges.meet(&range), meets, "{range:?}");
    let outside = first_outside(range.clone(), &mut |at, look| ranges.around(at, look));
    let expected = first_outside(range, &mut |_, look| {
        searched.newest_first().for_each(|(one, _)| look(one));
    });
    assert_eq!(outside, expected);
}
