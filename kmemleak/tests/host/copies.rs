//! Copies of per-CPU blocks wherever the platform says, and what an address in one of them means.

use std::sync::atomic::Ordering;

use crate::sparse::{BLOCKS, SparseLab};

/// How far apart copies lie, unless a test says otherwise.
const DISTANCE: usize = 4096;

fn far_apart(distance: usize) -> SparseLab {
    let lab = SparseLab::new();
    lab.platform()
        .copy_distance
        .store(distance, Ordering::Relaxed);
    lab
}

#[test]
fn all_copies_are_read() {
    let lab = far_apart(0x1_0000);
    lab.platform().cpus.store(3, Ordering::Relaxed);
    lab.detector.alloc_percpu(BLOCKS, 16);
    lab.hold(0, BLOCKS + 0x2_0000);
    lab.alloc(BLOCKS + 0x8000, 64);
    lab.platform().write(BLOCKS + 0x1_0008, BLOCKS + 0x8000);
    assert_eq!(lab.leaks(), []);
    lab.detector.free_percpu(BLOCKS);
    lab.detector.free_percpu(BLOCKS);
    assert!(lab.warnings().contains("free of an unknown object"));
    assert!(lab.say("dump ffff888000110008").contains("no object"));
}

#[test]
fn a_freed_block_is_gone_with_its_copies_and_with_nothing_else() {
    // Starts and distances at all places of a granule.
    for handle in BLOCKS..BLOCKS + 9 {
        for distance in [64, 511, 512, 4095, 4096, 4099, 0x1_0000] {
            let lab = far_apart(distance);
            let copies = [handle, handle + distance];
            // What shares a granule with a copy, before it and after it.
            let mut neighbours = 0;
            for copy in copies {
                for neighbour in [copy - 4, copy + 4] {
                    lab.alloc(neighbour, 4);
                    neighbours += 1;
                }
            }
            lab.detector.alloc_percpu(handle, 4);
            assert_eq!(lab.tracked().0, neighbours + 1);
            lab.detector.free_percpu(handle);
            assert_eq!(lab.tracked().0, neighbours, "{handle:#x} {distance}");
            assert_eq!(lab.leaks().len(), neighbours, "{handle:#x} {distance}");
            // Its memory is used for something else, and then again for the same.
            copies.iter().for_each(|&copy| lab.alloc(copy, 4));
            copies.iter().for_each(|&copy| lab.detector.free(copy));
            lab.detector.alloc_percpu(handle, 4);
            lab.detector.free_percpu(handle);
            assert_eq!(lab.warnings(), "", "{handle:#x} {distance}");
            assert_eq!(lab.tracked().0, neighbours);
        }
    }
}

#[test]
fn one_whose_free_was_missed_is_allocated_again() {
    for handle in BLOCKS..BLOCKS + 8 {
        let lab = far_apart(DISTANCE);
        for round in 0..3 {
            lab.detector.alloc_percpu(handle, 20);
            assert_eq!(lab.tracked(), (1, 20));
            assert_eq!(lab.status("missed frees"), round.to_string());
        }
        lab.detector.free_percpu(handle);
        assert_eq!(lab.tracked(), (0, 0));
        lab.alloc(handle + DISTANCE, 20);
        assert_eq!(lab.status("missed frees"), "2", "no copy is left");
    }
}

#[test]
fn copies_of_which_the_platform_knows_nothing_any_more_are_in_nobodys_way() {
    for handle in BLOCKS..BLOCKS + 8 {
        let lab = far_apart(DISTANCE);
        lab.detector.alloc_percpu(handle, 40);
        lab.platform()
            .copy_distance
            .store(2 * DISTANCE, Ordering::Relaxed);
        lab.detector.free_percpu(handle);
        assert_eq!((lab.tracked(), lab.warnings()), ((0, 0), String::new()));
        // A copy is left behind; it is no missed free.
        lab.alloc(handle + DISTANCE + 8, 40);
        assert_eq!((lab.tracked(), lab.warnings()), ((1, 40), String::new()));
        assert_eq!(lab.leaks(), [handle + DISTANCE + 8]);
    }
}

#[test]
fn copies_that_are_the_same_are_one() {
    let lab = far_apart(0);
    lab.platform().cpus.store(4, Ordering::Relaxed);
    lab.detector.alloc_percpu(BLOCKS, 64);
    assert_eq!((lab.tracked(), lab.warnings()), ((1, 64), String::new()));
    assert_eq!(lab.leaks(), [BLOCKS]);
    lab.detector.free_percpu(BLOCKS);
    assert_eq!((lab.tracked(), lab.warnings()), ((0, 0), String::new()));
}

#[test]
fn copies_that_overlap_one_another_are_refused() {
    for distance in [4, 8, 56] {
        for cpus in [2, 3, 16] {
            let lab = far_apart(distance);
            lab.platform().cpus.store(cpus, Ordering::Relaxed);
            lab.detector.alloc_percpu(BLOCKS, 64);
            assert_eq!(lab.tracked(), (0, 0), "{distance} {cpus}");
            assert!(
                lab.say(&format!("dump {:x}", BLOCKS + distance))
                    .contains("no object")
            );
            assert_eq!(lab.status("missed frees"), "0");
        }
    }
}

#[test]
fn copies_where_no_block_can_be_are_refused() {
    let hole = 1 << 47;
    for copy in [0, 8, hole, hole - 8, usize::MAX - 3, usize::MAX - 40] {
        let lab = far_apart(usize::wrapping_sub(copy, BLOCKS));
        lab.detector.alloc_percpu(BLOCKS, 64);
        let told = lab.warnings();
        assert!(told.contains(&format!("{copy:#018x}")), "{copy:#x}: {told}");
        assert_eq!(lab.tracked(), (0, 0), "{copy:#x}");
        assert_eq!(lab.leaks(), []);
        assert_eq!(lab.platform().foreign_reads(&[]), []);
    }
}

/// What the platform says later is held against the same rule.
#[test]
fn copies_that_are_nowhere_any_more_are_not_read() {
    let lab = far_apart(DISTANCE);
    lab.detector.alloc_percpu(BLOCKS, 64);
    lab.platform()
        .copy_distance
        .store(0_usize.wrapping_sub(BLOCKS), Ordering::Relaxed);
    assert_eq!(lab.leaks(), [BLOCKS]);
    lab.scan();
    for question in ["dump", "holders", "path"] {
        lab.say(&format!("{question} {BLOCKS:x}"));
    }
    assert_eq!(lab.platform().foreign_reads(&[(BLOCKS, 64)]), []);
}

#[test]
fn an_area_of_a_copy_is_one_of_the_block() {
    for copy in [BLOCKS, BLOCKS + DISTANCE] {
        let lab = far_apart(DISTANCE);
        lab.detector.alloc_percpu(BLOCKS, 64);
        lab.hold(0, BLOCKS);
        let owned = [BLOCKS + 0x8000, BLOCKS + 0x9000];
        owned.iter().for_each(|&block| lab.alloc(block, 64));
        lab.platform().write(BLOCKS + 16, owned[0]);
        lab.platform().write(BLOCKS + DISTANCE + 24, owned[1]);
        lab.detector.scan_area(copy + 16, 8);
        assert_eq!(lab.leaks(), [owned[1]], "{copy:#x}");
        lab.detector.scan_area(copy + 60, 8);
        assert!(lab.warnings().contains("scan area larger than object"));
        // The block's notes go with it.
        let bytes = lab.detector.metadata().objects;
        for _ in 0..100 {
            lab.detector.free_percpu(BLOCKS);
            lab.detector.alloc_percpu(BLOCKS, 64);
            lab.detector.scan_area(copy + 16, 8);
        }
        assert!(lab.detector.metadata().objects <= bytes);
    }
}

#[test]
fn a_colour_of_a_copy_is_one_of_the_block() {
    let lab = far_apart(DISTANCE);
    lab.detector.alloc_percpu(BLOCKS, 64);
    lab.alloc(BLOCKS + 0x8000, 64);
    lab.platform().write(BLOCKS, BLOCKS + 0x8000);
    let copy = BLOCKS + DISTANCE;
    lab.detector.not_leak(copy);
    assert_eq!(lab.leaks(), []);
    lab.detector.no_scan(copy);
    assert_eq!(lab.leaks(), [BLOCKS + 0x8000]);
    lab.detector.free_percpu(BLOCKS);
    lab.detector.alloc_percpu(BLOCKS, 64);
    lab.detector.ignore(copy);
    assert_eq!(lab.leaks(), [BLOCKS + 0x8000]);
    assert_eq!(lab.warnings(), "");
    // As with a block, its start has to be named.
    lab.detector.not_leak(copy + 8);
    assert!(lab.warnings().contains("unknown object"));
}

#[test]
fn a_transient_leak_of_a_copy_is_one_of_the_block() {
    let lab = far_apart(DISTANCE);
    lab.detector.alloc_percpu(BLOCKS, 64);
    lab.platform()
        .now_us
        .fetch_add(10_000_000, Ordering::Relaxed);
    assert_eq!(lab.scan(), []);
    lab.detector.transient_leak(BLOCKS + DISTANCE);
    assert_eq!((lab.scan(), lab.warnings()), (vec![], String::new()));
    assert_eq!(lab.scan(), [BLOCKS]);
}

#[test]
fn a_trace_of_a_copy_is_one_of_the_block() {
    let lab = far_apart(DISTANCE);
    lab.detector.alloc_percpu(BLOCKS, 64);
    lab.platform().call_from(&[0x7777]);
    lab.detector.update_trace(BLOCKS + DISTANCE + 8);
    lab.leaks();
    let report = lab.say("report");
    assert!(report.contains("7777"), "{report}");
    assert_eq!(lab.warnings(), "");
}

#[test]
fn a_copy_is_no_block_to_be_freed() {
    for handle in BLOCKS..BLOCKS + 8 {
        let lab = far_apart(DISTANCE);
        lab.detector.alloc_percpu(handle, 64);
        let copy = handle + DISTANCE;
        lab.detector.free(copy);
        assert!(lab.warnings().contains("free of an unknown object"));
        lab.platform().call_from(&[1]);
        lab.detector.free_percpu(copy);
        assert!(lab.warnings().contains("free of an unknown object"));
        assert_eq!(lab.tracked(), (1, 64));
        lab.hold(0, copy + 63);
        assert_eq!(lab.leaks(), [], "the copy is still one");
    }
}

#[test]
fn a_copy_whose_block_is_gone_is_unknown() {
    let lab = far_apart(DISTANCE);
    lab.detector.alloc_percpu(BLOCKS, 64);
    lab.platform()
        .copy_distance
        .store(2 * DISTANCE, Ordering::Relaxed);
    lab.detector.free_percpu(BLOCKS);
    // Another block has the handle now: it is none of its copies.
    lab.alloc(BLOCKS, 64);
    let copy = BLOCKS + DISTANCE;
    lab.detector.ignore(copy);
    assert!(lab.warnings().contains("unknown object"));
    lab.platform().call_from(&[1]);
    lab.detector.update_trace(copy + 8);
    assert!(lab.warnings().contains("unknown object"));
    assert_eq!(lab.leaks(), [BLOCKS]);
    assert!(lab.say(&format!("dump {copy:x}")).contains("no object"));
}

#[test]
fn a_warning_names_who_had_that_very_address() {
    const MINE: usize = 0xaaa1;
    const OTHER: usize = 0xbbb1;
    let lab = SparseLab::new();
    lab.say("free_stacks=on");
    let trace_of = |address: usize, caller: usize| {
        lab.platform().call_from(&[caller]);
        lab.detector.free(address);
        lab.warnings()
    };
    // Blocks of 64 bytes: a record is for eight places where one may start.
    lab.platform().call_from(&[MINE]);
    lab.alloc(BLOCKS, 64);
    lab.detector.free(BLOCKS);
    for near in [1, 4, 8, 56, 63, 64, 512, 4096] {
        let told = trace_of(BLOCKS + near, OTHER + near);
        assert!(told.contains("unknown object"), "{told}");
        assert!(!told.contains("aaa1"), "{near}: {told}");
    }
    let told = trace_of(BLOCKS, OTHER);
    assert!(
        told.contains("allocated last from") && told.contains("aaa1"),
        "{told}"
    );
    // The same place of another chunk, and a place that was a live block's.
    lab.alloc(BLOCKS + 8, 56);
    let told = trace_of(BLOCKS, OTHER + 1000);
    assert!(!told.contains("aaa1"), "another one has the record: {told}");
}
