//! Checks of frozen memory: the verdict of the moment at which the world was stopped, whatever other code does afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kmemleak::{AllocOptions, Doubt, How, NotDone, Reading};
use kmemleak_emulated::{Freeze, Machine, Place, set_current};

use crate::lab::{Lab, Subject, many};

fn freezing() -> Lab {
    let lab = Lab::new();
    lab.machine.image.set_freeze(Freeze::Works);
    lab
}

/// What a check of frozen memory finds, in the order of allocation.
fn leaks(lab: &Lab) -> Vec<usize> {
    let summary = lab.detector.check_frozen().expect("the detector is on");
    assert_eq!((summary.how, summary.doubt()), (How::Frozen, None));
    assert!(!lab.machine.image.is_frozen());
    lab.listed()
}

/// Calls `action` at the first moment at which other code runs while memory is frozen; returns how often it was called.
fn while_frozen(
    lab: &Lab,
    mut action: impl FnMut(&Machine, &Subject) + Send + 'static,
) -> Arc<AtomicUsize> {
    let (detector, called) = (Arc::downgrade(&lab.detector), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&called);
    lab.machine.at_relax(move |machine| {
        if machine.image.is_frozen() && counter.fetch_add(1, Ordering::Relaxed) == 0 {
            action(machine, &detector.upgrade().expect("it checks"));
        }
    });
    called
}

/// A chain of blocks, of which `.bss` holds the first.
fn chain(lab: &Lab, size: usize, len: usize) -> Vec<usize> {
    let block = |_| match size {
        ..=8192 => lab.block(size),
        _ => {
            let start = lab.machine.vmalloc(size);
            lab.machine.advance_us(1);
            lab.detector.alloc(start, size, AllocOptions::new());
            start
        }
    };
    let blocks: Vec<usize> = (0..len).map(block).collect();
    lab.hold(0, blocks[0]);
    for pair in blocks.windows(2) {
        lab.machine.write(pair[0], pair[1]);
    }
    blocks
}

fn free(machine: &Machine, detector: &Subject, block: usize) {
    // Code that has a pointer to a block reads it before it frees it, and may clear it.
    machine.write(block, 0);
    detector.free(block);
    machine.free(block);
}

#[test]
fn the_verdict_is_that_of_a_stopped_world() {
    let lab = freezing();
    let blocks = chain(&lab, 64, 4);
    let lost = lab.block(64);
    assert_eq!(leaks(&lab), [lost]);
    lab.machine.write(blocks[1], 0);
    assert_eq!(leaks(&lab), [blocks[2], blocks[3], lost]);
    assert_eq!(lab.leaks(), [blocks[2], blocks[3], lost]);
    assert!(lab.say("scan").contains("2 leaders"));
    assert!(lab.say("scan --json").contains("\"how\":\"frozen\""));
}

#[test]
fn a_pointer_that_moves_while_memory_is_frozen_is_where_it_was() {
    let lab = freezing();
    let blocks = chain(&lab, 64, 3);
    // From the middle of the chain to a stack that has been read.
    let (holder, held) = (blocks[1], blocks[2]);
    let called = while_frozen(&lab, move |machine, _| {
        machine.write(holder, 0);
        machine.store(Place::Stack(0), held);
    });
    assert_eq!(leaks(&lab), []);
    assert!(called.load(Ordering::Relaxed) > 0);
    assert_eq!(lab.leaks(), []);
}

#[test]
fn what_is_freed_meanwhile_keeps_alive_what_it_held() {
    for size in [64, 4096, 3 * 4096] {
        let lab = freezing();
        let blocks = chain(&lab, size, 3);
        let lost = lab.block(64);
        let (first, second, third) = (blocks[0], blocks[1], blocks[2]);
        lab.machine.write(second, 0);
        let last = second + size - 8;
        lab.machine.write(last, third);
        let called = while_frozen(&lab, move |machine, detector| {
            machine.store(Place::Stack(0), third);
            machine.write(last, 0);
            free(machine, detector, second);
            free(machine, detector, first);
        });
        assert_eq!(leaks(&lab), [lost], "{size} bytes");
        assert!(called.load(Ordering::Relaxed) > 0);
    }
}

/// It was scanned when memory was frozen: so nothing is a leak of that moment that it held.
#[test]
fn what_is_scanned_no_more_keeps_alive_what_it_held() {
    let ways: [fn(&Subject, usize); 4] = [
        |detector, block| detector.no_scan(block),
        |detector, block| detector.ignore(block),
        |detector, block| detector.scan_area(block + 8, 8),
        |detector, block| detector.read_as(block, Reading::PAGE_TABLE),
    ];
    for (way, change) in ways.into_iter().enumerate() {
        let lab = freezing();
        let blocks = chain(&lab, 64, 3);
        let (lost, changed) = (lab.block(64), blocks[1]);
        let called = while_frozen(&lab, move |_, detector| change(detector, changed));
        assert_eq!(leaks(&lab), [lost], "way {way}");
        assert!(called.load(Ordering::Relaxed) > 0);
    }
}

/// At each moment at which other code may run, in turn.
#[test]
fn a_list_may_be_taken_apart_at_any_moment() {
    for moment in 0..many(200) {
        let lab = freezing();
        let blocks = chain(&lab, 8192, 12);
        let lost = lab.block(64);
        let counter = Arc::new(AtomicUsize::new(0));
        let (seen, detector) = (Arc::clone(&counter), Arc::downgrade(&lab.detector));
        let mut next = blocks[0];
        lab.machine.at_relax(move |machine| {
            if machine.image.is_frozen()
                && counter.fetch_add(1, Ordering::Relaxed) >= moment
                && next != 0
            {
                let detector = detector.upgrade().expect("it checks");
                let block = next;
                next = machine.read(block);
                machine.store(Place::Stack(0), next);
                free(machine, &detector, block);
                // What takes its place is new.
                let new = machine.slab(8192);
                detector.alloc(new, 8192, AllocOptions::new());
            }
        });
        assert_eq!(leaks(&lab), [lost], "moment {moment}");
        if seen.load(Ordering::Relaxed) < moment {
            return;
        }
    }
    panic!("the pass has more moments than were tried");
}

#[test]
fn a_block_that_needs_two_references_is_counted_once_for_each() {
    // Of a block that is freed while it is read, some words are read by the marker, and the others by its free: none by both.
    for moment in 0..many(200) {
        let lab = freezing();
        // So large that other code runs while it is read.
        let holder = chain(&lab, 16 * 4096, 1)[0];
        let two = lab.block_with(64, AllocOptions::new().min_count(2));
        lab.machine.write(holder + 8 * 4096, two);
        let counter = Arc::new(AtomicUsize::new(0));
        let (seen, detector) = (Arc::clone(&counter), Arc::downgrade(&lab.detector));
        lab.machine.at_relax(move |machine| {
            if machine.image.is_frozen() && counter.fetch_add(1, Ordering::Relaxed) == moment {
                free(machine, &detector.upgrade().expect("it checks"), holder);
            }
        });
        assert_eq!(leaks(&lab), [two], "moment {moment}");
        if seen.load(Ordering::Relaxed) < moment {
            return;
        }
    }
    panic!("the pass has more moments than were tried");
}

#[test]
fn what_is_allocated_meanwhile_is_no_leak() {
    let lab = freezing();
    chain(&lab, 64, 3);
    let called = while_frozen(&lab, |machine, detector| {
        detector.alloc(machine.slab(64), 64, AllocOptions::new());
    });
    assert_eq!(leaks(&lab), []);
    assert!(called.load(Ordering::Relaxed) > 0);
    // The next one finds it.
    lab.machine.at_relax(|_| {});
    assert_eq!(leaks(&lab).len(), 1);
    assert_eq!(lab.leaks().len(), 1);
}

#[test]
fn a_pass_beside_other_code_does_not_take_what_was_read_for_new() {
    // On a clock that stands still.
    let lab = freezing();
    let blocks = chain(&lab, 64, 2);
    assert_eq!(leaks(&lab), []);
    lab.hold(0, 0);
    lab.detector.set_min_age_us(0);
    for _ in 0..2 {
        lab.detector.scan().expect("on");
    }
    assert_eq!(lab.listed(), blocks);
}

#[test]
fn a_moved_block_and_its_contents_stay() {
    let lab = freezing();
    let blocks = chain(&lab, 64, 3);
    let middle = blocks[1];
    let called = while_frozen(&lab, move |machine, detector| {
        let place = machine.slab(128);
        machine.write(place, machine.read(middle));
        machine.store(Place::Stack(0), place);
        detector.free(middle);
        detector.alloc(place, 128, AllocOptions::new());
        machine.write(middle, 0);
        machine.free(middle);
    });
    assert_eq!(leaks(&lab), []);
    assert!(called.load(Ordering::Relaxed) > 0);
    assert_eq!(lab.tracked(), 3);
}

#[test]
fn copies_of_a_percpu_block_are_read_by_its_free() {
    let lab = freezing();
    let (handle, held) = (lab.machine.percpu(64), lab.block(64));
    lab.detector.alloc_percpu(handle, 64);
    lab.hold(0, handle);
    let copy = lab.machine.percpu_copy(handle, 1).expect("two CPUs");
    lab.machine.write(copy + 8, held);
    let called = while_frozen(&lab, move |machine, detector| {
        machine.write(copy + 8, 0);
        machine.store(Place::Stack(0), held);
        detector.free_percpu(handle);
        machine.free(handle);
    });
    assert_eq!(leaks(&lab), []);
    assert!(called.load(Ordering::Relaxed) > 0);
}

#[test]
fn a_free_that_cannot_be_read_leads_to_a_check_in_a_stopped_world() {
    let lab = freezing();
    let blocks = chain(&lab, 64, 3);
    lab.detector.scan_area(blocks[1], 16);
    let (second, third) = (blocks[1], blocks[2]);
    let called = while_frozen(&lab, move |machine, detector| {
        machine.store(Place::Stack(0), third);
        free(machine, detector, second);
    });
    let summary = lab.detector.check_frozen().expect("on");
    assert_eq!((summary.how, summary.objects), (How::Stopped, 0));
    assert!(called.load(Ordering::Relaxed) > 0 && !lab.machine.image.is_frozen());
}

/// The words of roots were read when memory was frozen. So a block that has become a root since was not read there.
#[test]
fn a_root_that_comes_or_goes_leads_to_a_check_in_a_stopped_world() {
    type Change = fn(&Subject, usize);
    let comes: [Change; 2] = [
        |detector, start| assert!(detector.region_add(start, 64)),
        |detector, start| assert!(detector.exclude(start, 64)),
    ];
    for change in comes {
        let lab = freezing();
        let blocks = chain(&lab, 64, 3);
        let first = blocks[0];
        let called = while_frozen(&lab, move |_, detector| change(detector, first));
        let summary = lab.detector.check_frozen().expect("on");
        assert_eq!((summary.how, lab.listed()), (How::Stopped, vec![]));
        assert!(called.load(Ordering::Relaxed) > 0);
    }
    // The block in the region has a pointer before the region goes.
    let lab = freezing();
    let block = lab.block(64);
    assert!(lab.detector.region_add(block, 64));
    let called = while_frozen(&lab, move |machine, detector| {
        machine.store(Place::Stack(0), block);
        detector.region_remove(block);
    });
    let summary = lab.detector.check_frozen().expect("on");
    assert_eq!((summary.how, lab.listed()), (How::Stopped, vec![]));
    assert!(called.load(Ordering::Relaxed) > 0);
}

#[test]
fn a_lost_image_leads_to_a_check_in_a_stopped_world() {
    for reads in 0..4 {
        let lab = freezing();
        chain(&lab, 64, 8);
        let lost = lab.block(64);
        lab.machine.image.set_freeze(Freeze::Loses(reads));
        let summary = lab.detector.check_frozen().expect("on");
        assert_eq!((summary.how, summary.objects), (How::Stopped, 1));
        assert!(!lab.machine.image.is_frozen());
        assert_eq!(lab.listed(), [lost]);
    }
}

#[test]
fn without_metadata_for_what_the_roots_hold_the_world_is_stopped() {
    let lab = freezing();
    let blocks = chain(&lab, 64, 3);
    (0..60).for_each(|index| lab.hold(index, blocks[0]));
    lab.detector.exhaust_metadata(true);
    lab.machine.set_metadata_budget(0);
    let summary = lab.detector.check_frozen().expect("on");
    assert!(matches!(summary.doubt(), None | Some(Doubt::Unrecorded(_))));
    assert!(!lab.machine.image.is_frozen());
    assert_eq!(summary.listed(), 0);
}

#[test]
fn it_can_be_asked_to_stop() {
    let lab = freezing();
    chain(&lab, 64, 3);
    let lost = lab.block(64);
    assert_eq!(leaks(&lab), [lost]);
    while_frozen(&lab, |machine, _| machine.ask_to_stop());
    assert_eq!(lab.detector.check_frozen().err(), Some(NotDone::Stopped));
    assert!(!lab.machine.image.is_frozen());
    assert_eq!(lab.listed(), [lost]);
    lab.machine.ask_no_more();
    assert_eq!(leaks(&lab), [lost]);
}

#[test]
fn other_readings_are_read_as_they_are() {
    let lab = freezing();
    let packed = lab.block(64);
    lab.detector.read_as(packed, Reading::Bytes);
    lab.hold(0, packed);
    let held = lab.block(64);
    // A pointer across two words.
    lab.machine.write(packed, held << 24);
    lab.machine.write(packed + 8, held >> 40);
    assert_eq!(leaks(&lab), []);
    lab.machine.write(packed + 8, 0);
    assert_eq!(leaks(&lab), [held]);
    lab.detector.free(held);
    // Of a block of several pieces, across two of these; and a table of physical addresses.
    let (large, table) = (lab.block(1024), lab.block(4096));
    lab.detector.read_as(large, Reading::Bytes);
    lab.detector.read_as(table, Reading::PAGE_TABLE);
    lab.machine.write(packed, large);
    lab.machine.write(large, table);
    let (first, page) = (lab.block(64), lab.machine.pages(4096));
    lab.detector.alloc(page, 4096, AllocOptions::new());
    lab.machine.write(large + 504, first << 40);
    lab.machine.write(large + 512, first >> 24);
    lab.machine
        .write(table + 4088, page | 0x8000_0000_0000_0063);
    assert_eq!(leaks(&lab), []);
    lab.machine.write(large + 512, 0);
    assert_eq!(leaks(&lab), [first]);
    lab.machine.write(table + 4088, 0);
    // The host decides which of them has the lower address.
    assert_eq!(leaks(&lab), [first.min(page), first.max(page)]);
}

/// Ends the threads, also when a check has failed.
struct Over<'o>(&'o AtomicUsize);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(1, Ordering::Relaxed);
    }
}

/// Threads move pointers from block to block, and replace the blocks that hold them, while checks of frozen memory run.
#[test]
fn pointers_that_move_all_the_time_are_never_lost() {
    const HOLDERS: usize = 32;
    let lab = Lab::of(Machine::builder().cpus(3));
    lab.machine.image.set_freeze(Freeze::Works);
    let tables: Vec<usize> = (0..2).map(|_| lab.block(HOLDERS * 8)).collect();
    let lost = lab.block(64);
    let over = AtomicUsize::new(0);
    for (cpu, &table) in tables.iter().enumerate() {
        lab.hold(cpu, table);
        for index in 0..HOLDERS {
            let (holder, held) = (lab.block(64), lab.block(64));
            lab.machine.write(table + index * 8, holder);
            lab.machine.write(holder, held);
        }
    }
    std::thread::scope(|scope| {
        for (cpu, &table) in tables.iter().enumerate() {
            let (machine, detector, over) = (&lab.machine, &lab.detector, &over);
            scope.spawn(move || {
                set_current(kmemleak::Context {
                    task: 10 + cpu as u32,
                    cpu: cpu as u32 + 1,
                    level: kmemleak::Level::Task,
                });
                let mut turn = cpu;
                while over.load(Ordering::Relaxed) == 0 {
                    turn = turn.wrapping_mul(5).wrapping_add(7);
                    let (from, to) = (turn % HOLDERS, (turn / 7) % HOLDERS);
                    let _running = machine.running();
                    let from_holder = machine.read(table + from * 8);
                    let to_holder = machine.read(table + to * 8);
                    let (one, other) = (machine.read(from_holder), machine.read(to_holder));
                    machine.write(from_holder, 0);
                    machine.write(to_holder, 0);
                    machine.write(to_holder, one);
                    if from != to {
                        machine.write(from_holder, other);
                    }
                    // A new block takes the place of the holder.
                    let new = machine.slab(64);
                    detector.alloc(new, 64, AllocOptions::new());
                    machine.write(new, machine.read(from_holder));
                    machine.write(table + from * 8, new);
                    free(machine, detector, from_holder);
                }
            });
        }
        let _over = Over(&over);
        for round in 0..many(50) {
            let summary = lab.detector.check_frozen().expect("on");
            assert_eq!(
                (summary.how, summary.listed()),
                (How::Frozen, 1),
                "round {round}"
            );
            assert_eq!(lab.listed(), [lost]);
        }
    });
}
