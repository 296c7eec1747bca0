//! The self-test: what it says where it can and can't be done, and that it leaves nothing behind.

use kmemleak::{AllocOptions, Detector};
use kmemleak_emulated::{Emulated, Machine, Stop};

use crate::lab::Lab;

const PASSED: &str = "kmemleak: selftest passed: a planted leak and what it owned were found, and nothing is left of them\n";

/// What is left when it is over must be what was before.
fn unchanged(lab: &Lab) -> String {
    let figures = |lab: &Lab| {
        let unrecorded = lab.status("unrecorded");
        (
            lab.detector.tracking(),
            lab.warnings(),
            unrecorded,
            lab.detector.metadata().objects,
        )
    };
    let before = figures(lab);
    let answer = lab.say("selftest");
    assert_eq!(figures(lab), before);
    answer
}

#[test]
fn passes_again_and_again() {
    for stop in [Stop::Works, Stop::Unsupported] {
        let lab = Lab::new();
        lab.machine.set_stop(stop);
        // The first one makes the tables that later ones use.
        assert_eq!(lab.say("selftest"), PASSED);
        let pages = lab.machine.metadata_pages();
        for _ in 0..20 {
            assert_eq!(unchanged(&lab), PASSED);
        }
        assert_eq!(lab.machine.metadata_pages(), pages);
        assert_eq!(lab.leaks(), []);
    }
}

#[test]
fn passes_beside_leaks_which_stay_new() {
    let lab = Lab::new();
    let (lost, held) = (lab.block(64), lab.block(64));
    lab.hold(0, held);
    assert_eq!(lab.say("selftest"), PASSED);
    assert_eq!(lab.listed(), [lost], "its check is one as any other");
    assert_eq!(lab.detector.check().expect("on").unreported_objects, 1);
}

#[test]
fn passes_with_the_bootstrap_pool_alone_and_without_it() {
    let lab = Lab::new();
    lab.machine.set_metadata_budget(0);
    assert_eq!(lab.say("selftest"), PASSED);
    let machine = Machine::new();
    let detector: Detector<_> = Detector::new(Emulated::of(&machine));
    let mut answer = String::new();
    detector.command("selftest", &mut answer).expect("text");
    assert_eq!(answer, PASSED);
}

#[test]
fn passes_with_any_memory_or_says_that_there_is_too_little() {
    let mut seen = [false; 2];
    for pages in 0..24 {
        let machine = Machine::new();
        machine.set_metadata_budget(pages);
        let detector: Detector<_> = Detector::new(Emulated::of(&machine));
        let mut answer = String::new();
        detector.command("selftest", &mut answer).expect("text");
        let short = answer == "kmemleak: selftest not done: no memory for it\n";
        assert!(short || answer == PASSED, "{pages}: {answer}");
        seen[usize::from(short)] = true;
        assert_eq!(detector.tracking().objects, 0);
        let mut status = String::new();
        detector.command("status", &mut status).expect("text");
        assert!(status.contains("\nunrecorded   0 (ever: 0)\n"), "{status}");
    }
    assert_eq!(seen, [true; 2]);
}

#[test]
fn without_memory_it_says_so() {
    let lab = Lab::new();
    lab.block(64);
    lab.detector.exhaust_metadata(true);
    assert_eq!(
        unchanged(&lab),
        "kmemleak: selftest not done: no memory for it\n"
    );
}

#[test]
fn where_what_it_plants_is_no_leak_it_says_so() {
    let lab = Lab::new();
    lab.detector.disabled_begin();
    assert_eq!(
        unchanged(&lab),
        "kmemleak: selftest not done: what this task allocates is no leak\n"
    );
    lab.detector.disabled_end();
    lab.detector.suppress("*").expect("room");
    lab.machine.call_from(&["command"]);
    assert_eq!(lab.leaks(), []);
    assert_eq!(
        unchanged(&lab),
        "kmemleak: selftest not done: a suppression hides what it plants\n"
    );
    lab.detector.unsuppress_all().expect("asked from outside");
    assert_eq!(unchanged(&lab), PASSED);
}

#[test]
fn a_root_over_all_of_memory_fails_it() {
    let lab = Lab::new();
    lab.machine.set_metadata_budget(usize::MAX);
    // All metadata that comes from now on is in the platform's pages: whoever makes them a root keeps leaks alive.
    lab.say("selftest");
    let lost = lab.block(64);
    let start = core::ptr::from_ref(&*lab.detector).addr();
    lab.machine.add_root(start, 64);
    assert_eq!(lab.leaks(), [lost]);
    assert_eq!(
        lab.say("selftest"),
        PASSED,
        "its own memory is left out of roots"
    );
}

#[test]
fn when_off() {
    let lab = Lab::new();
    lab.say("off");
    assert_eq!(
        lab.say("selftest"),
        "kmemleak: off, and can't be switched on again\n"
    );
    let lab = Lab::new();
    lab.machine.set_stop(Stop::Unsupported);
    lab.machine.ask_to_stop();
    assert_eq!(lab.say("selftest"), "kmemleak: asked to stop\n");
    assert_eq!(lab.tracked(), 0);
}

#[test]
fn beside_blocks_that_are_black_or_gray() {
    let lab = Lab::new();
    for min_count in [-1, 0, 2] {
        lab.block_with(64, AllocOptions::new().min_count(min_count));
    }
    assert_eq!(lab.say("selftest"), PASSED);
}
