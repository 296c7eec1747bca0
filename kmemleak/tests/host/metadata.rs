//! Running out of metadata: counted, told in each verdict, survived.

use kmemleak::{AllocOptions, Detector};
use kmemleak_emulated::{Emulated, Machine};

use crate::lab::{Lab, many};

/// A lab whose bootstrap pool is all the metadata there is, and more blocks than it can record.
fn starved() -> (Lab, Vec<usize>) {
    let lab = Lab::new();
    lab.machine.set_metadata_budget(0);
    let blocks = (0..many(10_000)).map(|_| lab.block(16)).collect();
    (lab, blocks)
}

/// How many blocks are unrecorded, by the status.
fn unrecorded(lab: &Lab) -> usize {
    let line = lab.status("unrecorded");
    let figure = line.split(' ').next().expect("a figure");
    figure.parse().expect("a number")
}

#[test]
fn each_block_is_recorded_or_counted() {
    let (lab, blocks) = starved();
    assert!(lab.tracked() > 0, "the bootstrap pool holds some");
    assert!(unrecorded(&lab) > 0 && lab.machine.metadata_refused() > 0);
    assert_eq!(lab.tracked() + unrecorded(&lab), blocks.len());
    assert_eq!(lab.machine.metadata_pages(), 0);
    assert!(lab.detector.is_on());
}

#[test]
fn the_verdict_says_so() {
    let (lab, _) = starved();
    let summary = lab.detector.check().expect("on");
    assert_eq!(summary.unrecorded as usize, unrecorded(&lab));
    assert!(lab.report().contains("unrecorded for want of memory"));
    assert!(lab.status("state").contains("incomplete"));
}

#[test]
fn frees_of_unrecorded_blocks_are_silent() {
    let (lab, blocks) = starved();
    blocks.into_iter().for_each(|block| lab.free(block));
    assert_eq!((lab.tracked(), lab.warnings()), (0, String::new()));
}

#[test]
fn it_goes_on_when_there_is_memory_again() {
    let (lab, _) = starved();
    lab.machine.set_metadata_budget(usize::MAX);
    let block = lab.block(64);
    assert_eq!(lab.leaks().last(), Some(&block));
}

#[test]
fn clear_acknowledges_and_the_total_stays() {
    let (lab, _) = starved();
    let total = unrecorded(&lab);
    lab.detector.check();
    lab.say("clear");
    assert_eq!(lab.status("unrecorded"), format!("0 (ever: {total})"));
    assert_eq!(lab.status("state"), "on");
}

#[test]
fn every_budget_is_survived() {
    for budget in 0..12 {
        let lab = Lab::of(Machine::builder().cpus(3));
        lab.machine.set_metadata_budget(budget);
        for index in 0..400 {
            lab.machine.call_from(&[&format!("place_{index}")]);
            let block = lab.block(64);
            lab.detector.scan_area(block, 8);
            lab.detector.alloc_percpu(lab.machine.percpu(16), 16);
        }
        assert_eq!(lab.tracked() + unrecorded(&lab), 800, "budget {budget}");
        assert_eq!(lab.leaks().len(), lab.tracked());
    }
}

#[test]
fn a_detector_without_a_bootstrap_pool_takes_all_from_the_platform() {
    let machine = Machine::new();
    let detector: Detector<_, 0> = Detector::new(Emulated::of(&machine));
    detector.alloc(machine.slab(64), 64, AllocOptions::new());
    assert_eq!(detector.tracking().objects, 1);
    assert!(machine.metadata_pages() > 0);
}

#[test]
fn what_is_used_again_takes_no_more_memory() {
    let lab = Lab::new();
    let fill = || -> Vec<usize> { (0..many(2000)).map(|_| lab.block(32)).collect() };
    fill().into_iter().for_each(|block| lab.free(block));
    let pages = lab.machine.metadata_pages();
    for _ in 0..20 {
        fill().into_iter().for_each(|block| lab.free(block));
    }
    assert_eq!(lab.machine.metadata_pages(), pages);
}
