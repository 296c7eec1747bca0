//! Blocks that need several references: few, which a record counts, and many, which a note does.

use std::sync::atomic::Ordering;

use kmemleak::AllocOptions;
use kmemleak_emulated::Machine;

use crate::lab::Lab;
use crate::sparse::{BLOCKS, SparseLab};

/// `count` words of the root point to a block, and no others.
fn hold(lab: &SparseLab, count: usize) {
    (0..300).for_each(|word| lab.hold(word, if word < count { BLOCKS } else { 0 }));
}

fn needing(min_count: i32) -> SparseLab {
    let lab = SparseLab::new();
    let options = AllocOptions::new().min_count(min_count);
    lab.detector.alloc(BLOCKS, 64, options);
    lab
}

#[test]
fn as_many_as_are_needed_and_no_fewer() {
    for needed in (1..=17).chain([100, 254, 255]) {
        let lab = needing(needed);
        // Back and forth: nothing of a pass is left in the next.
        for _ in 0..2 {
            hold(&lab, needed as usize - 1);
            assert_eq!(lab.leaks(), [BLOCKS], "{needed} needed");
            hold(&lab, needed as usize);
            assert_eq!(lab.leaks(), [], "{needed} needed");
        }
        assert_eq!(lab.warnings(), "");
    }
}

#[test]
fn scans_count_as_checks_do() {
    for needed in [3, 4, 5, 200] {
        let lab = needing(needed);
        lab.detector.set_min_age_us(0);
        for (held, lost) in [(needed - 1, &[BLOCKS][..]), (needed, &[])] {
            hold(&lab, held as usize);
            for _ in 0..2 {
                lab.platform().now_us.fetch_add(1, Ordering::Relaxed);
                lab.detector.scan().expect("on");
            }
            assert_eq!(lab.listed(), lost, "{held} of {needed}");
        }
    }
}

#[test]
fn several_workers_count_together() {
    let lab = Lab::of(Machine::builder().cpus(4));
    let needed = 40;
    let block = lab.block_with(64, AllocOptions::new().min_count(needed));
    // Held by blocks that each worker may come to.
    for index in 0..needed as usize {
        let holder = lab.block_with(64, AllocOptions::new().min_count(0));
        lab.machine.write(holder, block + index % 8);
        let lost = if index + 1 < needed as usize { 1 } else { 0 };
        assert_eq!(lab.leaks().len(), lost, "{} of {needed}", index + 1);
    }
}

#[test]
fn a_number_that_is_none_is_refused_and_told() {
    for number in [256, 257, 1000, i32::MAX, -2, i32::MIN] {
        let lab = needing(number);
        assert!(lab.warnings().contains("min_count"), "{number}");
        // As if nothing had been said.
        assert_eq!(lab.leaks(), [BLOCKS]);
        hold(&lab, 1);
        assert_eq!(lab.leaks(), []);
        assert!(
            lab.say(&format!("dump {BLOCKS:x}"))
                .contains("min_count 1\n")
        );
    }
}

#[test]
fn what_is_said_later_holds() {
    for needed in [2, 4, 5, 255] {
        let lab = needing(needed);
        lab.detector.not_leak(BLOCKS);
        assert_eq!(lab.leaks(), []);
        let lab = needing(needed);
        lab.detector.ignore(BLOCKS);
        assert_eq!(lab.leaks(), []);
        // The next one there needs one.
        lab.detector.free(BLOCKS);
        lab.detector.alloc(BLOCKS, 64, AllocOptions::new());
        assert_eq!(lab.leaks(), [BLOCKS]);
        hold(&lab, 1);
        assert_eq!(lab.leaks(), []);
    }
}

#[test]
fn in_a_disabled_scope_it_is_gray() {
    let lab = SparseLab::new();
    lab.detector.disabled_begin();
    lab.detector
        .alloc(BLOCKS, 64, AllocOptions::new().min_count(99));
    lab.detector.disabled_end();
    assert_eq!(lab.leaks(), []);
}

#[test]
fn what_is_needed_and_found_is_shown() {
    let lab = needing(77);
    hold(&lab, 31);
    assert_eq!(lab.leaks(), [BLOCKS]);
    let dump = lab.say(&format!("dump {BLOCKS:x}"));
    assert!(dump.contains("min_count 77, count 31\n"), "{dump}");
}
