//! Roots: which memory is scanned without being an object.

use kmemleak::AllocOptions;
use kmemleak_emulated::{Machine, Place};

use crate::lab::Lab;

#[test]
fn of_every_kind() {
    let places = [
        Place::Data(0),
        Place::Data(63),
        Place::Bss(63),
        Place::PerCpu(0, 0),
        Place::PerCpu(1, 63),
        Place::Page(0),
        Place::Page(63),
        Place::Stack(0),
        Place::Stack(63),
        Place::Register(63),
    ];
    for place in places {
        let lab = Lab::new();
        let block = lab.block(64);
        lab.machine.store(place, block);
        assert_eq!(lab.leaks(), [], "{place:?}");
    }
}

#[test]
fn not_the_dead_part_of_a_stack() {
    let lab = Lab::new();
    let block = lab.block(64);
    lab.machine.store(Place::Dead(63), block);
    assert_eq!(lab.leaks(), [block]);
}

#[test]
fn a_region_while_it_is_one() {
    let lab = Lab::new();
    let block = lab.block(64);
    lab.machine.store(Place::Region(2, 5), block);
    assert_eq!(lab.leaks(), [block]);
    let start = lab.machine.address(Place::Region(2, 0));
    lab.machine.add_root(start, 512);
    assert_eq!(lab.leaks(), []);
    assert!(lab.machine.remove_root(start));
    assert_eq!(lab.leaks(), [block]);
}

#[test]
fn whole_words_of_a_crooked_region() {
    let lab = Lab::new();
    let block = lab.block(64);
    let start = lab.machine.address(Place::Region(0, 0));
    lab.machine.store(Place::Region(0, 0), block);
    lab.machine.add_root(start + 1, 511);
    assert_eq!(lab.leaks(), [block], "the first word is not whole");
    lab.machine.store(Place::Region(0, 1), block);
    assert_eq!(lab.leaks(), []);
}

#[test]
fn what_can_not_be_read_is_passed_over() {
    let lab = Lab::new();
    let (owner, owned) = (lab.block(64), lab.block(64));
    lab.hold(0, owner);
    lab.machine.write(owner, owned);
    assert_eq!(lab.leaks(), []);
    lab.machine.make_unreadable(owner, 64);
    assert_eq!(lab.leaks(), [owned]);
    lab.machine.make_unreadable(owned, 64);
    assert!(!lab.report().contains("hex dump"));
}

#[test]
fn an_object_inside_a_root_is_alive_and_its_words_count_once() {
    let lab = Lab::new();
    let arena = lab.machine.arena(4096);
    lab.machine.add_root(arena, 4096);
    lab.detector.alloc(arena + 64, 64, AllocOptions::new());
    let twice = lab.block_with(64, AllocOptions::new().min_count(2));
    lab.machine.write(arena + 72, twice);
    assert_eq!(lab.leaks(), [twice]);
    lab.machine.write(arena + 256, twice);
    assert_eq!(lab.leaks(), []);
}

/// An arena among the kernel's variables hides all leaks, so the report says what to do.
#[test]
fn a_heap_among_the_variables_is_told() {
    let lab = Lab::new();
    let variables = lab.machine.address(Place::Bss(0));
    let told = |lab: &Lab| {
        let report = lab.report();
        let line = report.lines().find(|line| line.contains("in sections"));
        line.map(str::to_owned)
    };
    let gray = AllocOptions::new().min_count(0);
    lab.detector.alloc(variables + 64, 32, gray);
    let black = AllocOptions::new().min_count(-1);
    lab.detector.alloc(variables + 96, 32, black);
    assert_eq!((lab.leaks(), told(&lab)), (vec![], None), "never a leak");
    lab.detector.alloc(variables + 128, 32, AllocOptions::new());
    assert_eq!(lab.leaks(), []);
    let line = "kmemleak: 1 object in sections that are roots, so never leaks: \
                is a heap's arena a variable? Detector::exclude takes it out";
    assert_eq!(told(&lab).as_deref(), Some(line));
    assert!(lab.detector.exclude(variables + 64, 256));
    assert_eq!((lab.leaks(), told(&lab)), (vec![variables + 128], None));
}

/// A stack that is both a block and a region is as it should be.
#[test]
fn a_block_that_is_a_region_is_not_told() {
    let lab = Lab::new();
    let stack = lab.block(128);
    lab.machine.add_root(stack, 128);
    assert_eq!(lab.leaks(), []);
    assert!(!lab.report().contains("in sections"));
}

#[test]
fn the_detector_itself_is_none() {
    let lab = Lab::new();
    let blocks: Vec<usize> = (0..100).map(|_| lab.block(64)).collect();
    lab.leaks();
    let start = std::sync::Arc::as_ptr(&lab.detector).addr();
    let len = size_of_val(&*lab.detector);
    lab.machine.add_root(start, len);
    assert_eq!(lab.leaks(), blocks);
}

#[test]
fn a_per_cpu_area_for_each_cpu() {
    let lab = Lab::of(Machine::builder().cpus(8));
    let blocks: Vec<usize> = (0..8).map(|_| lab.block(64)).collect();
    for (cpu, &block) in blocks.iter().enumerate() {
        lab.machine.store(Place::PerCpu(cpu as u32, 1), block);
    }
    assert_eq!(lab.leaks(), []);
    lab.machine.store(Place::PerCpu(7, 1), 0);
    assert_eq!(lab.leaks(), blocks[7..]);
}
