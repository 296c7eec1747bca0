//! Tests of pages and pieces alone, from a bootstrap pool.

extern crate std;

use super::list::{List, MetaBox};
use super::page::{NoMemory, PageSource};
use super::page_vec::PageVec;
use super::piece_vec::PieceVec;
use super::pool::BootstrapPool;
use super::{Class, Memory, MetaAlloc};
use crate::platform::{IrqState, METADATA_PAGE, Platform, Root, RootCursor};
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
fn with_meta<const PAGES: usize>(
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
