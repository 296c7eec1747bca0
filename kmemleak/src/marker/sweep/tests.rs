//! How a sweep reads what is in use: as stretches of memory, without a look at what is known of each object.

extern crate std;

use std::vec::Vec;

use super::{STRETCH, are_close};
use crate::AllocOptions;
use crate::marker::tests::noting::{Bench, memory, stopped};
use crate::metadata::WORD;
use crate::metadata::work_tests::done;

/// A chunk's starts: of so many objects, so many words apart, if they lie in the chunk.
fn row(first: u32, apart: u32, count: u32) -> u64 {
    let granules = (0..count).map(|number| first + number * apart);
    granules
        .filter(|&granule| granule < u64::BITS)
        .fold(0, |starts, granule| starts | 1 << granule)
}

#[test]
fn objects_are_close_if_there_is_no_gap_between_them() {
    for words in 1..u64::BITS {
        for (first, count) in
            (0..u64::BITS).flat_map(|first| [1, 2, 5, 64].map(|count| (first, count)))
        {
            let starts = row(first, words, count);
            assert!(are_close(starts, words), "{starts:#x} {words}");
            assert!(
                !are_close(starts, 0),
                "it is not known how many words they have"
            );
            // Another one behind a gap.
            let end = u64::BITS - starts.leading_zeros() - 1 + words;
            for behind in end + 1..u64::BITS {
                let starts = starts | 1 << behind;
                assert!(!are_close(starts, words), "{starts:#x} {words}");
            }
        }
    }
    assert!(are_close(row(63, 64, 1), 64), "one fills a chunk");
}

/// The memory of blocks that lie one behind the other: small ones, and behind them one that fills a stretch.
#[test]
fn what_lies_side_by_side_is_read_as_one_stretch() {
    const SMALL: usize = STRETCH / 2 / 64;
    // Entries of two tables of the index, each of which is looked at twice.
    const ENTRIES: usize = 2 * 2 * STRETCH / 512;
    let (memory_words, at) = memory(4 * STRETCH / WORD);
    let start = at.next_multiple_of(STRETCH);
    let table_start = start + 2 * STRETCH;
    let (root, root_start) = memory(1);
    let table = &mut memory_words[(table_start - at) / WORD..][..SMALL + 1];
    root[0] = table_start;
    let bench = Bench::with_root(root_start..root_start + WORD);
    let options = AllocOptions::new();
    bench
        .tracker
        .alloc(table_start, table.len() * WORD, options);
    for (number, word) in table.iter_mut().enumerate() {
        *word = start + 64 * number;
        let size = if number < SMALL { 64 } else { STRETCH };
        bench.tracker.alloc(*word, size, options);
    }
    let end = start + STRETCH / 2 + STRETCH;
    bench.mark(stopped(), SMALL, |marker| {
        marker.run().expect("nobody asks it to stop");
    });
    let (before, mut read) = (done(), 0);
    let noted = bench.mark(stopped(), SMALL, |marker| {
        marker.sweep().expect("nobody asks it to stop");
        read = marker.shared.figures().words as usize;
    });
    let asked: Vec<_> = noted
        .asked
        .into_iter()
        .filter(|asked| asked.start != table_start)
        .collect();
    assert_eq!(asked, core::slice::from_ref(&(start..end)));
    assert_eq!(read, 1 + table.len() + (end - start) / WORD);
    let looks = done() - before;
    assert!(
        looks < ENTRIES + 16,
        "{looks}: no record but that of the large one"
    );
}
