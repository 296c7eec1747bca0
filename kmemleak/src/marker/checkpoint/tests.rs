//! How often a pass comes to a checkpoint, and lets other code run: by work, not by time.

extern crate std;

use std::vec::Vec;

use super::{Deadline, EVERY, LOOK, TURN, WORDS_A_US};
use crate::AllocOptions;
use crate::marker::tests::noting::{Bench, memory, stopped};
use crate::metadata::WORD;
use crate::objects::access::Locked;

/// Objects of a word, each of which a table points to, which a root holds.
fn crowd(objects: usize) -> Bench {
    let (root, root_start) = memory(1);
    let (table, table_start) = memory(objects);
    let (_, start) = memory(objects);
    root[0] = table_start;
    let bench = Bench::with_root(root_start..root_start + WORD);
    let options = AllocOptions::new();
    bench.tracker.alloc(table_start, objects * WORD, options);
    for (index, word) in table.iter_mut().enumerate() {
        *word = start + index * WORD;
        bench.tracker.alloc(*word, WORD, options);
    }
    bench
}

/// One object of so many words, which a root holds.
fn giant(words: usize) -> Bench {
    let (root, root_start) = memory(1);
    let (_, start) = memory(words);
    root[0] = start;
    let bench = Bench::with_root(root_start..root_start + WORD);
    bench
        .tracker
        .alloc(start, words * WORD, AllocOptions::new());
    bench
}

/// Enough for many checkpoints.
const OBJECTS: usize = 20_000;
/// Barriers of a pass, each of which is a checkpoint as well, at most.
const BARRIERS: usize = 16;

#[test]
fn a_stop_may_take_all_of_its_time_and_no_more() {
    let deadline = |done| Deadline {
        start_us: 5,
        max_us: 10,
        done,
    };
    assert!(!deadline(u64::MAX).is_over(15), "the clock says it");
    assert!(deadline(0).is_over(16));
    // If the clock stands still, work does.
    assert!(!deadline(11 * WORDS_A_US - 1).is_over(5));
    assert!(deadline(11 * WORDS_A_US).is_over(5));
    assert!(deadline(1000 * WORDS_A_US).is_over(5));
}

#[test]
fn how_many_objects_there_are_is_told_as_soon_as_all_have_been_seen() {
    let progress = crowd(OBJECTS).pass(stopped(), OBJECTS).progress;
    let unknown = progress.iter().take_while(|one| one.of.is_none()).count();
    assert!(unknown > 0, "marks are cleared first");
    let known = &progress[unknown..];
    assert!(!known.is_empty());
    let all = 1 + OBJECTS as u64;
    assert!(known.iter().all(|one| one.of == Some(all)), "{known:?}");
}

#[test]
fn each_checkpoint_tells_of_the_objects_that_were_scanned_since_the_one_before() {
    for progress in [
        crowd(OBJECTS).pass(stopped(), OBJECTS).progress,
        crowd(OBJECTS).pass(Locked, OBJECTS).progress,
    ] {
        let scanned: Vec<u64> = progress.iter().map(|one| one.objects).collect();
        // They are counted a segment of the queue at a time.
        let most = EVERY / LOOK + 512;
        for pair in scanned.windows(2) {
            assert!((pair[0]..=pair[0] + most).contains(&pair[1]), "{scanned:?}");
        }
        let last = scanned.last().copied().unwrap_or(0) as usize;
        assert!((OBJECTS - 512..=OBJECTS + 1).contains(&last), "{last}");
    }
}

/// A checkpoint costs a look at a clock, and a word that all CPUs write to.
#[test]
fn checkpoints_are_as_far_apart_as_is_said() {
    const WORDS: usize = 1 << 20;
    let checkpoints = giant(WORDS).pass(stopped(), 1).progress.len();
    let expected = WORDS / EVERY as usize;
    assert!((expected / 2..expected + BARRIERS).contains(&checkpoints));
    let checkpoints = crowd(OBJECTS).pass(stopped(), OBJECTS).progress.len();
    // Tables of the index are looked at as well.
    let looks = 2 * OBJECTS * LOOK as usize / EVERY as usize;
    assert!((looks / 2..looks + BARRIERS).contains(&checkpoints));
}

/// Between two turns of other code there is so much work, or a little more: of a large object, and of many small ones.
#[test]
fn other_code_is_let_run_as_often_as_is_said() {
    const WORDS: usize = 1 << 20;
    let turn = TURN as usize;
    let relaxed = giant(WORDS).pass(Locked, 1).relaxed;
    let expected = WORDS / turn;
    assert!(
        (expected / 2..2 * expected).contains(&relaxed),
        "{relaxed} times in {WORDS} words"
    );
    let relaxed = crowd(OBJECTS).pass(Locked, OBJECTS).relaxed;
    // Each is looked at when it is scanned, and counted when a segment of the queue is over.
    let expected = 2 * OBJECTS * LOOK as usize / turn;
    assert!(
        (expected / 2..2 * expected).contains(&relaxed),
        "{relaxed} times for {OBJECTS} objects"
    );
}
