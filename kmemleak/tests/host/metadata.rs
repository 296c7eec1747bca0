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
    let missing = format!(
        "{} records are missing for lack of memory",
        summary.unrecorded
    );
    assert!(lab.report().contains(&missing));
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
    lab.detector.check().expect("on");
    lab.say("clear");
    assert_eq!(lab.status("unrecorded"), format!("0 (ever: {total})"));
    assert_eq!(lab.status("state"), "enabled");
}

#[test]
fn every_budget_is_survived() {
    for budget in 0..12 {
        let lab = Lab::of(Machine::builder().cpus(3));
        lab.machine.set_metadata_budget(budget);
        for index in 0..400 {
            lab.machine.call_from(&[&format!("place_{index}")]);
            lab.block(64);
            lab.detector.alloc_percpu(lab.machine.percpu(16), 16);
        }
        assert_eq!(lab.tracked() + unrecorded(&lab), 800, "budget {budget}");
        assert_eq!(lab.leaks().len(), lab.tracked());
    }
}

#[test]
fn a_detector_without_a_bootstrap_pool_takes_all_from_the_platform() {
    let machine = Machine::new();
    let detector: Detector<_> = Detector::new(Emulated::of(&machine));
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

#[test]
fn exhaustion_by_hand_and_recovery() {
    let lab = Lab::new();
    let before = lab.block(16);
    lab.detector.exhaust_metadata(true);
    // There is room for these in the index of their neighbour.
    let missed = [lab.block(16), lab.block(16)];
    assert_eq!((lab.tracked(), unrecorded(&lab)), (1, 2));
    lab.detector.free(missed[0]);
    assert_eq!(lab.warnings(), "");
    lab.detector.exhaust_metadata(false);
    let after = lab.block(16);
    assert_eq!(lab.leaks(), [before, after]);
    assert_eq!(lab.detector.check().expect("on").unrecorded, 2);
}

/// Blocks that are lost, and no memory left for a list of them.
fn unlisted(lab: &Lab) -> Vec<usize> {
    let lost: Vec<usize> = (0..many(2000)).map(|_| lab.block(16)).collect();
    lab.detector.exhaust_metadata(true);
    lost
}

#[test]
fn a_verdict_without_memory_for_its_list_is_complete() {
    let lab = Lab::new();
    let mut lost = unlisted(&lab);
    let summary = lab.detector.check().expect("on");
    assert_eq!(
        (summary.objects, summary.bytes),
        (lost.len(), lost.len() * 16)
    );
    let mut listed = lab.listed();
    lost.sort_unstable();
    listed.sort_unstable();
    assert_eq!(listed, lost);
    let report = lab.report();
    assert!(report.contains("no memory to tell leaders from what they own"));
    assert_eq!(report.matches("unreferenced object 0x").count(), lost.len());
    // What is freed is left out, what is referenced again is gone from the next one.
    lab.free(lost[0]);
    lab.hold(0, lost[1]);
    assert_eq!(lab.listed().len(), lost.len() - 1);
    assert_eq!(lab.detector.check().expect("on").objects, lost.len() - 2);
    assert!(
        lab.say("clear")
            .contains(&format!(" {} reported", lost.len() - 2))
    );
    assert_eq!(lab.leaks(), []);
}

#[test]
fn without_memory_for_queues_all_is_marked_and_scanned() {
    for workers in [1, 3] {
        let lab = Lab::of(Machine::builder().cpus(workers));
        lab.detector.set_min_age_us(0);
        let blocks: Vec<usize> = (0..many(1000)).map(|_| lab.block(64)).collect();
        // A tree, each of whose nodes points to eight others, at the start or in the middle.
        for (index, &block) in blocks.iter().enumerate() {
            for child in 0..8 {
                if let Some(&below) = blocks.get(8 * index + child + 1) {
                    lab.machine.write(block + child * 8, below + child % 2 * 24);
                }
            }
        }
        lab.hold(0, blocks[0]);
        lab.detector.exhaust_metadata(true);
        assert_eq!(lab.leaks(), [], "{workers} workers");
        for _ in 0..2 {
            lab.machine.advance_us(1);
            lab.detector.scan().expect("on");
            assert_eq!(lab.listed(), []);
        }
        lab.hold(0, blocks[1]);
        let lost = lab.leaks();
        assert!(lost.contains(&blocks[0]) && !lost.contains(&blocks[1]));
    }
}

#[test]
fn passes_without_memory_for_their_list_go_on_until_they_agree() {
    let lab = Lab::new();
    lab.machine.set_stop(kmemleak_emulated::Stop::Unsupported);
    let lost = unlisted(&lab);
    lab.hold(0, lost[0]);
    assert_eq!(lab.leaks().len(), lost.len() - 1);
}
