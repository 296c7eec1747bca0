//! What a pass counts of its work, and how often it lets others have their way meanwhile: by the work, not by the words alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kmemleak::{AllocOptions, Miscounted};
use kmemleak_emulated::{Machine, Place, Stop};

use crate::interior::interior;
use crate::lab::Lab;

const WORD: usize = 8;
const PAGE: usize = 4096;

/// A machine of one CPU with so many blocks of a word, all of which one block points to.
fn with_small(blocks: usize) -> Lab {
    let lab = Lab::of(Machine::builder().cpus(1));
    let small = lab.machine.arena((blocks * WORD).next_multiple_of(PAGE));
    let table = lab.machine.vmalloc(blocks * WORD);
    lab.detector
        .alloc(table, blocks * WORD, AllocOptions::new());
    lab.hold(0, table);
    for index in 0..blocks {
        let start = small + index * WORD;
        lab.detector.alloc(start, WORD, AllocOptions::new());
        lab.machine.write(table + index * WORD, start);
    }
    lab.machine.advance_us(1);
    lab
}

/// With many small objects, something happens more often than with few: at least once in so many words of work.
fn happens_each(every: usize, happened: impl Fn(Lab) -> usize) {
    const FEW: usize = 500;
    const MANY: usize = 4500;
    /// A look at an object is worth so many words.
    const LOOK: usize = 16;
    let more = happened(with_small(MANY)) - happened(with_small(FEW));
    let least = (MANY - FEW) * LOOK / every;
    assert!(more >= least, "{more}");
}

#[test]
fn a_check_asks_whether_to_go_on_however_small_objects_are() {
    happens_each(16 << 10, |lab| {
        assert_eq!(lab.leaks(), []);
        lab.machine.checkpoints.count()
    });
}

#[test]
fn a_scan_lets_others_run_however_small_objects_are() {
    happens_each(2 << 10, |lab| {
        let before = lab.machine.relaxed();
        lab.detector.scan().expect("on");
        lab.machine.relaxed() - before
    });
}

/// However often a window ends since as many pointers wait as are looked at together.
#[test]
fn each_word_that_a_scan_reads_is_counted_once() {
    let words = |pointers: bool| {
        let lab = Lab::new();
        let (table, block) = (lab.block(PAGE), lab.block(64));
        lab.hold(0, table);
        lab.hold(1, block);
        if pointers {
            (0..PAGE / WORD).for_each(|word| lab.machine.write(table + word * WORD, block));
        }
        lab.detector.scan().expect("on").words
    };
    assert_eq!(words(true), words(false));
}

/// What a block holds is kept as 32 bits, in which each bit of each word counts.
#[test]
fn a_block_that_changes_is_in_use() {
    let high = 1 << 63;
    for (before, after) in [
        (0, high),
        (1, 1 | 1 << 32),
        // Small numbers, whose sums have some bits in both halves.
        (0, 5),
        (1, 3),
        (759, 1015),
    ] {
        for size in [8, 64] {
            let lab = Lab::new();
            lab.machine.set_stop(Stop::Unsupported);
            lab.detector.set_min_age_us(0);
            let block = lab.block(size);
            lab.machine.write(block + size - WORD, before);
            lab.machine.advance_us(1);
            lab.detector.scan().expect("on");
            lab.machine.write(block + size - WORD, after);
            lab.detector.scan().expect("on");
            assert_eq!(lab.listed(), [], "{before:#x}, {after:#x}");
            lab.detector.scan().expect("on");
            assert_eq!(lab.listed(), [block], "it stands still");
        }
    }
}

/// How often the world is stopped while something is done.
fn stops(lab: &Lab, work: impl FnOnce()) -> usize {
    let stops = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&stops);
    lab.machine
        .at_stop(move |_| _ = counter.fetch_add(1, Ordering::Relaxed));
    work();
    lab.machine.at_stop(|_| {});
    stops.load(Ordering::Relaxed)
}

#[test]
fn a_question_about_the_flags_of_a_pass_makes_none_of_its_own() {
    for cpus in [1, 2] {
        let lab = Lab::of(Machine::builder().cpus(cpus));
        let block = lab.block(64);
        lab.hold(0, block + 8);
        assert_eq!(stops(&lab, || assert_eq!(lab.leaks(), [])), 1);
        let asked = stops(&lab, || assert_eq!(interior(&lab), [block]));
        assert_eq!(asked, 0, "{cpus} CPUs");
    }
}

#[test]
fn what_a_stack_holds_is_not_held_by_its_middle_alone() {
    for cpus in [1, 2] {
        let lab = Lab::of(Machine::builder().cpus(cpus));
        let block = lab.block(64);
        lab.hold(0, block + 8);
        lab.machine.store(Place::Stack(0), block);
        assert_eq!((lab.leaks(), interior(&lab)), (vec![], vec![]));
        // This question takes the stacks last.
        let found = lab.detector.for_each_stack_only(&mut |_| {});
        assert_eq!(found.expect("on").objects, 0);
        assert_eq!(interior(&lab), [], "{cpus} CPUs");
    }
}

#[test]
fn counts_in_memory_that_nobody_vouches_for_are_not_read() {
    let lab = Lab::new();
    lab.machine
        .call_from(&["<alloc::boxed::Box<alloc::sync::ArcInner<kernel::Task>>>::new"]);
    let counted = [lab.block(48), lab.block(48)];
    for (index, start) in counted.into_iter().enumerate() {
        lab.machine.write(start, 7);
        lab.machine.write(start + WORD, 1);
        lab.hold(index, start);
    }
    let told = || {
        let mut found = Vec::new();
        let mut look = |one: kmemleak::Miscount| found.push((one.start, one.wrong));
        let sums = lab.detector.for_each_miscount(&mut look);
        sums.expect("nothing is missing");
        found.sort_unstable_by_key(|&(start, _)| start);
        found
    };
    let both = counted.map(|start| (start, Miscounted::TooHigh));
    assert_eq!(told(), both);
    lab.machine.make_unreadable(counted[0] + WORD, WORD);
    assert_eq!(told(), both[1..]);
}

/// Where other code runs, it may be about to use them.
#[test]
fn records_of_memory_without_blocks_are_given_back_in_a_stop_and_not_before() {
    let lab = Lab::new();
    let blocks: Vec<usize> = (0..2000).map(|_| lab.block(16)).collect();
    blocks.iter().for_each(|&block| lab.free(block));
    let records = || lab.detector.metadata().objects;
    let before = records();
    lab.machine.set_stop(Stop::Unsupported);
    lab.detector.scan().expect("on");
    assert_eq!(records(), before);
    lab.machine.set_stop(Stop::Works);
    assert_eq!(lab.leaks(), []);
    assert!(records() < before, "{} and {before}", records());
}
