//! Clocks that begin anywhere, and uptimes of any length.

use std::sync::atomic::Ordering;

use kmemleak::{AllocOptions, NextStep};

use crate::sparse::{BLOCKS, SparseLab};

const SECOND_US: u64 = 1_000_000;
const CENTURY_US: u64 = 100 * 366 * 24 * 3600 * SECOND_US;
/// The boot, 1970, and where a clock may be by chance.
const BEGINS: [u64; 6] = [
    0,
    1_700_000_000 * SECOND_US,
    1 << 48,
    1 << 52,
    (1 << 63) - 5,
    u64::MAX - 2 * SECOND_US,
];

fn at(begin_us: u64) -> SparseLab {
    let lab = SparseLab::new();
    lab.platform().now_us.store(begin_us, Ordering::Relaxed);
    lab
}

fn pass(lab: &SparseLab, us: u64) {
    lab.platform().now_us.fetch_add(us, Ordering::Relaxed);
}

fn alloc(lab: &SparseLab, start: usize) {
    lab.detector.alloc(start, 64, AllocOptions::new());
}

/// What two scans find, the second of which may tell of it if it is old enough.
fn scanned_twice(lab: &SparseLab) -> Vec<usize> {
    for _ in 0..2 {
        pass(lab, 1000);
        lab.detector.scan().expect("on");
    }
    lab.listed()
}

#[test]
fn the_least_age_is_kept_whenever_a_block_was_allocated() {
    for begin in BEGINS {
        for uptime in [0, 4 * SECOND_US, 1 << 48, CENTURY_US] {
            let lab = at(begin);
            lab.detector.set_min_age_us(5 * SECOND_US);
            // The detector's first call.
            lab.detector.update_trace(BLOCKS);
            pass(&lab, uptime);
            alloc(&lab, BLOCKS);
            assert_eq!(scanned_twice(&lab), [], "from {begin}, up {uptime} us");
            pass(&lab, 5 * SECOND_US);
            assert_eq!(scanned_twice(&lab), [BLOCKS]);
        }
    }
}

#[test]
fn the_very_first_block_is_young_too() {
    for begin in BEGINS {
        let lab = at(begin);
        lab.detector.set_min_age_us(5 * SECOND_US);
        alloc(&lab, BLOCKS);
        assert_eq!(scanned_twice(&lab), [], "from {begin}");
        // Had it been older than the least age, but for what the clock has shown.
        lab.detector.set_min_age_us(10_000);
        assert_eq!(scanned_twice(&lab), []);
        pass(&lab, 10_000);
        assert_eq!(scanned_twice(&lab), [BLOCKS]);
    }
}

#[test]
fn a_century_lies_between_two_blocks_or_a_microsecond() {
    for begin in BEGINS {
        for between in [1, 1 << 32, 1 << 48, CENTURY_US] {
            let lab = at(begin);
            // By address they are the other way round.
            alloc(&lab, BLOCKS + 4096);
            pass(&lab, between);
            alloc(&lab, BLOCKS);
            assert_eq!(lab.leaks().len(), 2);
            let mut seen = Vec::new();
            lab.detector
                .for_each_unreferenced(&mut |one| seen.push((one.start, one.birth_us)))
                .expect("on");
            let births = [
                (BLOCKS + 4096, begin),
                (BLOCKS, begin.wrapping_add(between)),
            ];
            assert_eq!(
                seen, births,
                "the platform's time, in the order of allocation"
            );
        }
    }
}

#[test]
fn ages_are_told_as_they_are() {
    for begin in BEGINS {
        let lab = at(begin);
        alloc(&lab, BLOCKS);
        pass(&lab, 12_345_000);
        lab.leaks();
        let report = lab.say("report --full");
        assert!(report.contains("age 12.345s"), "from {begin}: {report}");
        let birth = format!("birth {begin} us");
        assert!(lab.say(&format!("dump {BLOCKS:x}")).contains(&birth));
        assert!(lab.say("status").contains("last check   0 s ago"));
    }
}

#[test]
fn the_first_background_scan_is_a_minute_after_the_first_call() {
    for begin in BEGINS {
        let lab = at(begin);
        alloc(&lab, BLOCKS);
        let mut log = String::new();
        let next = lab.detector.background_step(&mut log);
        let us = 60 * SECOND_US;
        assert_eq!(next, NextStep::Wait { us }, "from {begin}");
    }
}
