//! Objects that change between being queued and being read, and what a window reads.

extern crate std;

use std::vec::Vec;

use super::{Guarded, WORDS};
use crate::marker::encoded::BlockPart;
use crate::marker::queue::Entry;
use crate::marker::tests::noting::{Bench, Noted, memory};
use crate::metadata::WORD;
use crate::metadata::work_tests::done;
use crate::objects::access::Locked;
use crate::objects::record::flag;
use crate::{AllocOptions, Reading};

const PAGE: usize = 4096;

/// The words that were read of blocks that were queued as plain ones of this size, the pieces of blocks that were passed over,
/// the candidates, and what the machine has noted.
fn scanned(bench: &Bench, starts: &[usize], size: usize) -> (u64, u64, u64, Noted) {
    let words = (size / WORD) as u32;
    let entries: Vec<Entry> = (starts.iter())
        .map(|&start| Entry::of_words(start, words))
        .collect();
    let mut seen = (0, 0, 0);
    let noted = bench.mark(Locked, starts.len(), |marker| {
        marker
            .scan_together(&entries)
            .expect("nobody asks it to stop");
        marker.flush();
        seen = (marker.words, marker.unread, marker.candidates);
    });
    (seen.0, seen.1, seen.2, noted)
}

/// Blocks of this size, one behind the other from an address on.
fn row(bench: &Bench, start: usize, size: usize, count: usize) -> Vec<usize> {
    let starts = (0..count).map(|number| start + number * size);
    let starts: Vec<usize> = starts.collect();
    for &start in &starts {
        bench.tracker.alloc(start, size, AllocOptions::new());
    }
    starts
}

#[test]
fn a_block_that_is_gone_is_not_read() {
    for freed in 0..8 {
        let (bench, (_, start)) = (Bench::new(), memory(64));
        let starts = row(&bench, start, 64, 8);
        bench.tracker.free(starts[freed]);
        let (words, unread, _, noted) = scanned(&bench, &starts, 64);
        assert_eq!((words, unread), (7 * 8, 0));
        let gone = starts[freed]..starts[freed] + 64;
        assert!(noted.asked.iter().all(|asked| !gone.contains(&asked.start)));
    }
}

#[test]
fn of_what_has_taken_its_place_no_more_is_read_than_there_is() {
    for (size, now) in [(64, 32), (64, 60), (64, 4), (8, 4), (8, 7), (64, 80)] {
        // Alone, and beside one of another size.
        for other in [0, 24] {
            let (bench, (_, start)) = (Bench::new(), memory(64));
            if other > 0 {
                row(&bench, start + 128, other, 1);
            }
            row(&bench, start, size, 1);
            bench.tracker.free(start);
            row(&bench, start, now, 1);
            let (words, unread, _, noted) = scanned(&bench, &[start], size);
            // Of a larger one, those words that the queue knows of.
            let expected = now.min(size) / WORD;
            assert_eq!((words as usize, unread), (expected, 0), "{size} {now}");
            assert!(noted.asked.iter().all(|asked| asked.end <= start + now));
        }
    }
}

#[test]
fn what_is_said_of_a_block_that_is_queued_holds() {
    for with_another in [false, true] {
        let (bench, (_, start)) = (Bench::new(), memory(64));
        if with_another {
            row(&bench, start + 128, 24, 1);
        }
        row(&bench, start, 64, 1);
        bench.tracker.scan_area(start, 16);
        assert_eq!(scanned(&bench, &[start], 64).0, 2);
        bench.tracker.no_scan(start);
        assert_eq!(scanned(&bench, &[start], 64).0, 0);
    }
}

/// So a window costs less than what it reads. Where all blocks of a chunk have one size, their records are not looked at.
#[test]
fn small_blocks_are_read_in_one_window() {
    let (bench, (_, start)) = (Bench::new(), memory(64));
    let starts = row(&bench, start, 64, 8);
    let before = done();
    let (words, _, _, noted) = scanned(&bench, &starts, 64);
    assert_eq!((words, noted.windows.len()), (64, 1));
    assert_eq!(done() - before, 8, "the entry of its chunk for each");
    // In a chunk of blocks of several sizes.
    let (bench, (_, start)) = (Bench::new(), memory(64));
    row(&bench, start, 24, 1);
    let starts = row(&bench, start + 64, 64, 7);
    let (words, _, _, noted) = scanned(&bench, &starts, 64);
    assert_eq!((words, noted.windows.len()), (56, 1));
}

#[test]
fn a_window_ends_when_it_has_read_some_blocks() {
    const BLOCK: usize = 100;
    let (bench, (_, start)) = (Bench::new(), memory(2 * PAGE / WORD));
    // None lies in two pages.
    let mut starts = row(&bench, start, BLOCK * WORD, 5);
    starts.extend(row(&bench, start + PAGE, BLOCK * WORD, 3));
    let (words, _, _, noted) = scanned(&bench, &starts, BLOCK * WORD);
    assert_eq!(words as usize, starts.len() * BLOCK);
    let most = noted.windows.iter().max().copied().unwrap_or(0) / WORD;
    assert!(most <= WORDS as usize + BLOCK, "{most} words in a window");
    assert!(most >= WORDS as usize, "{most} words in a window");
}

/// A window is over when enough candidates wait; the next one goes on behind them.
#[test]
fn a_block_full_of_pointers_is_read_to_its_end() {
    for size in [1024, 4096, 8192] {
        let (bench, (words, start)) = (Bench::new(), memory(2048));
        words.fill(start);
        row(&bench, start, size, 1);
        let (words, unread, candidates, _) = scanned(&bench, &[start], size);
        let all = (size / WORD) as u64;
        assert_eq!((words, unread, candidates), (all, 0, all), "{size}");
    }
}

/// A plain block, and one of which all is read but the first and the last word.
const KINDS: [bool; 2] = [true, false];

/// A block with a size of some pages, of which the machine does not vouch for some bytes: words that are read, and unread pieces.
fn read_around(plain: bool, pages: usize, unreadable: &[core::ops::Range<usize>]) -> (u64, u64) {
    let (bench, (_, start)) = (Bench::new(), memory(pages * PAGE / WORD));
    row(&bench, start, pages * PAGE, 1);
    if !plain {
        (bench.tracker).scan_area(start + WORD, pages * PAGE - 2 * WORD);
    }
    for range in unreadable {
        bench.make_unreadable(start + range.start..start + range.end);
    }
    let (words, unread, _, _) = scanned(&bench, &[start], pages * PAGE);
    (words, unread)
}

#[test]
fn a_piece_of_a_block_is_read_if_all_of_it_may_be() {
    let last = PAGE - 2 * WORD..PAGE - 2 * WORD + 1;
    for plain in KINDS {
        let read = read_around(plain, 1, core::slice::from_ref(&last));
        assert_eq!(read, (0, 1));
    }
}

#[test]
fn pages_that_may_not_be_read_are_passed_over_and_no_others() {
    let page = PAGE as u64 / WORD as u64;
    for plain in KINDS {
        let edge = if plain { 0 } else { 1 };
        let unreadable = [0..2 * PAGE, 3 * PAGE..5 * PAGE, 6 * PAGE..7 * PAGE];
        assert_eq!(read_around(plain, 8, &unreadable), (3 * page - edge, 5));
        let all = 0..9 * PAGE;
        assert_eq!(read_around(plain, 9, core::slice::from_ref(&all)), (0, 9));
        // More than are passed over in one window.
        let unreadable = 0..150 * PAGE;
        let read = read_around(plain, 151, core::slice::from_ref(&unreadable));
        assert_eq!(read, (page - edge, 150));
    }
}

#[test]
fn each_piece_of_an_odd_block_that_may_not_be_read_is_counted() {
    let (bench, (_, start)) = (Bench::new(), memory(64));
    row(&bench, start, 64, 1);
    bench.tracker.read_as(start, Reading::Bytes);
    bench.make_unreadable(start..start + 64);
    let (words, unread, _, _) = scanned(&bench, &[start], 64);
    // Sixteen bytes a piece.
    assert_eq!((words, unread), (0, 4));
}

/// What was known of a block is followed as long as it is there, or another one that can be read in the same way.
#[test]
fn pieces_end_where_the_block_is_freed_or_another_one_is_there() {
    let pieces = |now: &dyn Fn(&Bench, usize)| {
        let (bench, (_, start)) = (Bench::new(), memory(64));
        row(&bench, start, 64, 1);
        let known = Guarded {
            start,
            size: 64,
            kind: 0,
        };
        now(&bench, start);
        let mut pieces = 0;
        bench.mark(Locked, 1, |marker| {
            let all = BlockPart::plain(start, 64);
            let done = marker.each_piece(known, all, &mut |_, piece| {
                pieces += 1;
                piece.end()
            });
            done.expect("nobody asks it to stop");
        });
        pieces
    };
    assert_eq!(pieces(&|_, _| ()), 1);
    assert_eq!(pieces(&|bench, start| bench.tracker.free(start)), 0);
    let replaced_by = |size: usize| {
        pieces(&move |bench, start| {
            bench.tracker.free(start);
            bench.tracker.alloc(start, size, AllocOptions::new());
        })
    };
    assert_eq!(
        (replaced_by(56), replaced_by(64), replaced_by(72)),
        (0, 1, 1)
    );
    // Its memory lies elsewhere.
    let percpu = pieces(&|bench, start| {
        bench.tracker.free(start);
        bench.tracker.alloc_percpu(start, 64);
        let found = (bench.tracker.registry())
            .starting_at(Locked, start, |object| object.record.has(flag::PERCPU));
        assert_eq!(found, Some(true));
    });
    assert_eq!(percpu, 0);
}
