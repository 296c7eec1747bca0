//! What is allocated while a pass goes on, and what passes leave at objects for the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kmemleak::{AllocOptions, How};
use kmemleak_emulated::{Freeze, Machine, Stop};

use crate::lab::Lab;

/// Bytes that a table of the index is for.
const TABLE: usize = 64 << 10;

/// A lab whose scans report whatever its age.
fn lab() -> Lab {
    let lab = Lab::new();
    lab.detector.set_min_age_us(0);
    lab
}

/// What one pass reports.
fn scan(lab: &Lab) -> Vec<usize> {
    lab.machine.advance_us(1);
    lab.detector.scan().expect("on");
    lab.listed()
}

/// At the moment with this number at which other code may run, and for which `counts` is true, this block is allocated. Whether it was.
fn alloc_when(
    lab: &Lab,
    counts: impl Fn(&Machine) -> bool + Send + 'static,
    moment: usize,
    block: usize,
) -> Arc<AtomicBool> {
    let done = Arc::new(AtomicBool::new(false));
    let (told, detector) = (Arc::clone(&done), Arc::downgrade(&lab.detector));
    let passed = AtomicUsize::new(0);
    lab.machine.at_relax(move |machine| {
        if counts(machine) && passed.fetch_add(1, Ordering::Relaxed) == moment {
            machine.advance_us(1);
            let detector = detector.upgrade().expect("it scans");
            detector.alloc(block, 64, AllocOptions::new());
            told.store(true, Ordering::Relaxed);
        }
    });
    done
}

/// At the moment with this number this block is allocated.
fn alloc_at(lab: &Lab, moment: usize, block: usize) -> Arc<AtomicBool> {
    alloc_when(lab, |_| true, moment, block)
}

/// Does something at each moment of a pass, in labs of their own, until a pass has fewer moments.
fn at_each_moment(test: impl Fn(usize) -> bool) {
    let moments = (0..).take_while(|&moment| test(moment)).count();
    assert!(moments > 3, "{moments} moments only");
}

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
        let done = alloc_when(&lab, |machine| machine.image.is_frozen(), moment, new);
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
    at_each_moment(|moment| {
        let lab = lab();
        let new = lab.machine.slab(64);
        let done = alloc_at(&lab, moment, new);
        assert_eq!(scan(&lab), []);
        lab.machine.at_relax(|_| ());
        if done.load(Ordering::Relaxed) {
            assert_eq!(scan(&lab), [], "moment {moment}: it is remembered");
            assert_eq!(scan(&lab), [new], "moment {moment}");
        }
        done.load(Ordering::Relaxed)
    });
    at_each_moment(|moment| {
        let lab = lab();
        let new = lab.machine.slab(64);
        let done = alloc_at(&lab, moment, new);
        assert_eq!(scan(&lab), []);
        lab.machine.at_relax(|_| ());
        if done.load(Ordering::Relaxed) {
            assert_eq!(lab.leaks(), [new], "moment {moment}");
        }
        done.load(Ordering::Relaxed)
    });
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
