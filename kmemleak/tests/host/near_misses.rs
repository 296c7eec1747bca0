//! Words that are almost pointers: what `why` finds of an unreferenced object, and that nothing else counts as one.

use std::sync::atomic::Ordering;

use kmemleak::{AllocOptions, Clue, NearMiss, SlotPlace, StopError};
use kmemleak_emulated::{Place, Stop};

use crate::lab::Lab;
use crate::sparse::{BLOCKS, ROOT, SparseLab};

const PAGE: usize = 4096;
const OFFSET: usize = 0xffff_8880_0000_0000;
/// The object that is asked about: a page.
const LOST: usize = BLOCKS + PAGE;
const PHYSICAL: usize = LOST - OFFSET;

fn lab() -> SparseLab {
    let lab = SparseLab::new();
    lab.platform()
        .physical_offset
        .store(OFFSET, Ordering::Relaxed);
    lab.alloc(LOST, PAGE);
    lab
}

fn near_misses(lab: &SparseLab, address: usize) -> Vec<(usize, NearMiss)> {
    let mut found = Vec::new();
    let mut look = |clue: Clue<'_>| {
        if let Clue::NearMiss(slot, miss) = clue {
            found.push((slot.address, miss));
        }
    };
    let why = lab.detector.why(address, &mut look).expect("an answer");
    assert_eq!(found.len(), why.near_misses.min(8));
    found
}

#[test]
fn each_kind_in_a_root() {
    for (word, miss) in [
        (LOST + PAGE, NearMiss::End),
        (LOST ^ (0xab << 48), NearMiss::Tagged),
        ((LOST + 8) & !(0xffff << 48), NearMiss::Tagged),
        (PHYSICAL, NearMiss::Physical),
        (PHYSICAL + 100, NearMiss::Physical),
        (PHYSICAL | (1 << 63) | (1 << 55), NearMiss::PageTable),
        (PHYSICAL >> 12, NearMiss::PageNumber),
    ] {
        let lab = lab();
        lab.hold(7, word);
        assert_eq!(lab.leaks(), [LOST]);
        assert_eq!(near_misses(&lab, LOST), [(ROOT + 56, miss)], "{word:#x}");
        let said = lab.say(&format!("why {LOST:x}"));
        assert!(said.contains("near miss: "), "{said}");
        assert!(
            said.contains("the near miss may be what holds it\n"),
            "{said}"
        );
    }
    for (word, why) in [
        (LOST + PAGE + 8, "beyond the end"),
        (LOST - 8, "before the start"),
        (PHYSICAL - 8, "a physical address before it"),
        ((PHYSICAL >> 12) + 1, "the next page's number"),
        ((PHYSICAL + PAGE) | (1 << 63), "an entry of the next page"),
        (!LOST, "its inverse"),
    ] {
        let lab = lab();
        lab.hold(7, word);
        assert_eq!(near_misses(&lab, LOST), [], "{why}");
    }
}

#[test]
fn at_any_byte() {
    for shift in 1..8 {
        let lab = lab();
        lab.hold(3, LOST << (8 * shift));
        lab.hold(4, LOST >> (64 - 8 * shift));
        assert_eq!(lab.leaks(), [LOST]);
        let slot = ROOT + 24 + shift;
        assert_eq!(near_misses(&lab, LOST), [(slot, NearMiss::Unaligned)]);
    }
    // Over the border between two pages of an object.
    let lab = lab();
    lab.alloc(BLOCKS + (1 << 20), 2 * PAGE);
    lab.hold(0, BLOCKS + (1 << 20));
    let border = BLOCKS + (1 << 20) + PAGE;
    lab.platform().write(border - 8, LOST << 24);
    lab.platform().write(border, LOST >> 40);
    assert_eq!(near_misses(&lab, LOST), [(border - 5, NearMiss::Unaligned)]);
}

#[test]
fn in_objects_that_are_alive() {
    let lab = lab();
    let (alive, dead) = (BLOCKS + (1 << 20), BLOCKS + (2 << 20));
    lab.alloc(alive, 64);
    lab.alloc(dead, 64);
    lab.hold(0, alive);
    lab.platform().write(alive + 16, LOST + PAGE);
    lab.platform().write(dead + 16, LOST + PAGE);
    // Its own words are none.
    lab.platform().write(LOST, LOST + PAGE);
    let mut places = Vec::new();
    let mut look = |clue: Clue<'_>| {
        if let Clue::NearMiss(slot, _) = clue {
            places.push(slot.place);
        }
    };
    lab.detector.why(LOST, &mut look).expect("an answer");
    assert_eq!(
        places,
        [SlotPlace::Object {
            start: alive,
            size: 64
        }]
    );
}

#[test]
fn what_is_not_scanned() {
    let lab = lab();
    let holders: Vec<usize> = (1..=3).map(|number| BLOCKS + (number << 20)).collect();
    for (number, &holder) in holders.iter().enumerate() {
        lab.alloc(holder, 64);
        lab.hold(number, holder);
        lab.platform().write(holder + 32, LOST + 8);
    }
    lab.detector.no_scan(holders[0]);
    lab.detector.ignore(holders[1]);
    lab.detector.scan_area(holders[2], 16);
    assert_eq!(lab.leaks(), [LOST]);
    let expected: Vec<_> = holders
        .iter()
        .map(|holder| (holder + 32, NearMiss::Unscanned))
        .collect();
    assert_eq!(near_misses(&lab, LOST), expected);
    lab.detector.scan_area(holders[2] + 32, 16);
    assert_eq!(lab.leaks(), []);
    assert_eq!(near_misses(&lab, LOST), [], "it is alive");
}

#[test]
fn an_end_where_another_object_starts() {
    let lab = lab();
    lab.alloc(LOST + PAGE, 64);
    lab.hold(0, LOST + PAGE);
    assert_eq!(near_misses(&lab, LOST), [(ROOT, NearMiss::EndAndStart)]);
}

#[test]
fn references_that_are_too_few_are_none() {
    let lab = lab();
    let twice = AllocOptions::new().min_count(2);
    lab.detector.alloc(BLOCKS, 64, twice);
    lab.hold(0, BLOCKS);
    assert_eq!(near_misses(&lab, BLOCKS), []);
}

#[test]
fn many_are_counted() {
    let lab = lab();
    (0..20).for_each(|word| lab.hold(word, LOST + PAGE));
    let why = lab.detector.why(LOST, &mut |_| ()).expect("an answer");
    assert_eq!(why.near_misses, 20);
    assert_eq!(near_misses(&lab, LOST).len(), 8);
    assert!(
        lab.say(&format!("why {LOST:x}"))
            .contains("  and 12 more like these\n")
    );
}

#[test]
fn while_other_code_runs() {
    let lab = Lab::new();
    let (holder, lost) = (lab.block(64), lab.block(64));
    lab.hold(0, holder);
    lab.hold(1, lost ^ (0xab << 48));
    lab.machine.write(holder + 8, lost << 24);
    lab.machine.write(holder + 16, lost >> 40);
    lab.machine.set_stop(Stop::Unsupported);
    let mut found = Vec::new();
    let mut look = |clue: Clue<'_>| {
        if let Clue::NearMiss(slot, miss) = clue {
            found.push((slot.address, miss));
        }
    };
    let why = lab.detector.why(lost, &mut look).expect("an answer");
    assert_eq!(why.beside, Some(StopError::Unsupported));
    let root = lab.machine.address(Place::Bss(1));
    assert_eq!(
        found,
        [(root, NearMiss::Tagged), (holder + 11, NearMiss::Unaligned)]
    );
}
