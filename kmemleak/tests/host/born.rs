//! What is allocated while a pass goes on, and what passes leave at objects for the next one.

use std::sync::atomic::Ordering;

use kmemleak::{AllocOptions, How};
use kmemleak_emulated::{Freeze, Machine, Stop};

use crate::lab::Lab;
use crate::moments::{at, at_each_moment, at_one_of, lab, scan};

/// Bytes that a table of the index is for.
const TABLE: usize = 64 << 10;

/// It is no leak of the moment at which memory was frozen, also if marks are cleared later where it lies.
#[test]
fn what_is_allocated_before_its_table_is_cleared_is_no_leak_of_frozen_memory() {
    const TABLES: usize = 24;
    at_each_moment(|moment| {
        let lab = Lab::new();
        lab.machine.image.set_freeze(Freeze::Works);
        let arena = lab.machine.arena(TABLES * TABLE);
        for table in 0..TABLES {
            let start = arena + table * TABLE;
            lab.detector.alloc(start, 64, AllocOptions::new());
            lab.hold(table, start);
        }
        let new = arena + (TABLES - 1) * TABLE + 1024;
        let frozen = |machine: &Machine| machine.image.is_frozen();
        let done = at_one_of(&lab, frozen, moment, move |_, detector| {
            detector.alloc(new, 64, AllocOptions::new());
        });
        let summary = lab.detector.check_frozen().expect("on");
        assert_eq!((summary.how, lab.listed()), (How::Frozen, vec![]));
        lab.machine.at_relax(|_| ());
        if done.load(Ordering::Relaxed) {
            assert_eq!(lab.leaks(), [new], "moment {moment}");
        }
        done.load(Ordering::Relaxed)
    });
}

/// It was marked as new by the pass in which it was allocated, and by no later one.
#[test]
fn what_was_allocated_during_a_pass_is_as_others_for_the_next() {
    for next_is_a_scan in [true, false] {
        at_each_moment(|moment| {
            let lab = lab();
            let new = lab.machine.slab(64);
            let done = at(&lab, moment, move |_, detector| {
                detector.alloc(new, 64, AllocOptions::new());
            });
            assert_eq!(scan(&lab), []);
            lab.machine.at_relax(|_| ());
            let done = done.load(Ordering::Relaxed);
            if done && next_is_a_scan {
                assert_eq!(scan(&lab), [], "moment {moment}: it is remembered");
                assert_eq!(scan(&lab), [new], "moment {moment}");
            } else if done {
                assert_eq!(lab.leaks(), [new], "moment {moment}");
            }
            done
        });
    }
}

#[test]
fn a_check_counts_each_object_once_whatever_it_is() {
    for stop in [Stop::Works, Stop::Unsupported] {
        let lab = Lab::of(Machine::builder().cpus(3));
        lab.machine.set_stop(stop);
        for min_count in [-1, 0, 1, 2, 9] {
            lab.block_with(64, AllocOptions::new().min_count(min_count));
        }
        lab.detector.no_scan(lab.block(64));
        lab.detector
            .alloc(lab.machine.slab(60) + 3, 50, AllocOptions::new());
        // Its three copies are one object.
        lab.detector.alloc_percpu(lab.machine.percpu(64), 64);
        let summary = lab.detector.check().expect("on");
        assert_eq!((summary.tracked, lab.tracked()), (8, 8), "{stop:?}");
    }
}

/// Blocks that need two pointers, and get the one to their start early and the other one late: more than a queue without memory has
/// room for, in one chunk of the index.
#[test]
fn without_memory_for_a_queue_all_are_found_whose_start_was_pointed_to_early() {
    const BLOCKS: usize = 32;
    for stop in [Stop::Works, Stop::Unsupported] {
        let lab = Lab::of(Machine::builder().cpus(1));
        lab.machine.set_stop(stop);
        let arena = lab.machine.arena(4096);
        let middle = lab.block(8 * BLOCKS);
        for number in 0..BLOCKS {
            let block = arena + 16 * number;
            let twice = AllocOptions::new().min_count(2);
            lab.detector.alloc(block, 16, twice);
            lab.hold(number, block);
            lab.machine.write(middle + 8 * number, block);
        }
        lab.hold(BLOCKS, middle + 8);
        lab.detector.exhaust_metadata(true);
        assert_eq!(lab.leaks(), []);
        let mut interior = Vec::new();
        lab.detector
            .for_each_interior(&mut |object| interior.push(object.start))
            .expect("on");
        assert_eq!(interior, [middle], "{stop:?}");
    }
}

/// The roots are read in the stop, all else afterwards: together as much as in a stopped world.
#[test]
fn a_check_of_frozen_memory_tells_of_all_that_it_has_read() {
    let lab = Lab::new();
    lab.machine.image.set_freeze(Freeze::Works);
    let held = lab.block(64);
    lab.hold(0, held);
    lab.block(64);
    let frozen = lab.detector.check_frozen().expect("on");
    let stopped = lab.detector.check().expect("on");
    assert_eq!((frozen.how, stopped.how), (How::Frozen, How::Stopped));
    assert_eq!((frozen.words, frozen.hits), (stopped.words, stopped.hits));
    assert!(frozen.stacks && stopped.stacks);
}
