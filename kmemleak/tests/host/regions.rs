//! Regions that are registered as roots.

use std::ops::Range;
use std::sync::Arc;

use kmemleak::Reading;
use kmemleak_emulated::{Place, WORDS};

use crate::lab::{Lab, Subject};
use crate::readings::holders;

const WORD: usize = 8;

fn add(lab: &Lab, region: usize) {
    let start = lab.machine.address(Place::Region(region, 0));
    assert!(lab.detector.region_add(start, WORDS * WORD));
}

fn remove(lab: &Lab, region: usize) {
    let start = lab.machine.address(Place::Region(region, 0));
    lab.detector.region_remove(start);
}

#[test]
fn is_a_root_while_it_is_registered() {
    let lab = Lab::new();
    let block = lab.block(64);
    lab.machine.store(Place::Region(1, 63), block);
    assert_eq!(lab.leaks(), [block]);
    add(&lab, 1);
    assert_eq!(lab.leaks(), []);
    remove(&lab, 1);
    assert_eq!(lab.leaks(), [block]);
    assert_eq!(lab.warnings(), "");
}

#[test]
fn added_twice_it_is_removed_twice() {
    let lab = Lab::new();
    let block = lab.block_with(64, kmemleak::AllocOptions::new().min_count(2));
    lab.machine.store(Place::Region(0, 5), block);
    add(&lab, 0);
    add(&lab, 0);
    assert_eq!(lab.leaks(), [block], "a word counts once");
    lab.machine.store(Place::Region(0, 6), block);
    remove(&lab, 0);
    assert_eq!(lab.leaks(), []);
    remove(&lab, 0);
    assert_eq!((lab.leaks(), lab.warnings()), (vec![block], String::new()));
    remove(&lab, 0);
    assert!(lab.warnings().contains("region"));
}

#[test]
fn of_no_known_start_can_not_be_removed() {
    let lab = Lab::new();
    add(&lab, 2);
    let inside = lab.machine.address(Place::Region(2, 1));
    lab.machine.call_from(&["careless"]);
    lab.detector.region_remove(inside);
    let told = lab.warnings();
    assert!(
        told.contains("region removed that is not registered") && told.contains("careless"),
        "{told}"
    );
    assert_eq!(lab.status("warnings"), "1");
}

#[test]
fn an_object_inside_one_is_alive_and_its_words_count_once() {
    let lab = Lab::new();
    let start = lab.machine.address(Place::Region(3, 8));
    let inside = kmemleak::AllocOptions::new();
    lab.detector.alloc(start, 64, inside);
    let twice = lab.block_with(16, inside.min_count(2));
    lab.machine.write(start + 8, twice);
    lab.machine.advance_us(1);
    assert_eq!(lab.leaks(), [start, twice]);
    add(&lab, 3);
    assert_eq!(lab.leaks(), [twice]);
}

#[test]
fn a_gray_object_inside_one_is_no_second_reader_of_its_words() {
    let lab = Lab::new();
    let start = lab.machine.address(Place::Region(3, 8));
    let options = kmemleak::AllocOptions::new();
    lab.detector.alloc(start, 64, options.min_count(0));
    let twice = lab.block_with(16, options.min_count(2));
    lab.machine.write(start + 8, twice);
    assert_eq!(lab.leaks(), [twice]);
    add(&lab, 3);
    assert_eq!(lab.leaks(), [twice]);
    remove(&lab, 3);
    let once = lab.block(16);
    lab.machine.write(start + 16, once);
    assert_eq!(lab.leaks(), [twice]);
}

#[test]
fn one_that_is_removed_while_a_scan_goes_on_takes_no_other_with_it() {
    // Whenever it happens: the blocks that the other regions hold are not lost, though they once were.
    for moment in 0..40 {
        let lab = Lab::new();
        lab.detector.set_min_age_us(0);
        let blocks = [lab.block(64), lab.block(64), lab.block(64)];
        lab.machine.advance_us(1);
        lab.detector.scan().expect("on");
        for (region, block) in blocks.into_iter().enumerate() {
            lab.machine.store(Place::Region(region, 0), block);
            add(&lab, region);
        }
        let detector = Arc::downgrade(&lab.detector);
        let mut left = moment;
        lab.machine.at_relax(move |machine| {
            if left == 0 {
                let detector = detector.upgrade().expect("it scans");
                detector.region_remove(machine.address(Place::Region(2, 0)));
            }
            left -= 1_i32;
        });
        lab.machine.advance_us(1);
        lab.detector.scan().expect("on");
        let lost = lab.listed();
        assert!(
            lost.iter().all(|block| *block == blocks[2]),
            "moment {moment}: {lost:x?} of {blocks:x?}"
        );
    }
}

/// A root so large that other code runs while it is read.
static LARGE: [usize; 6000] = [0; 6000];

/// What happens to the region at a moment of a scan.
#[derive(Clone, Copy, Debug)]
enum Change {
    Comes,
    Goes,
}

/// How the words under it are held.
#[derive(Clone, Copy, Debug)]
enum Held {
    /// In a block that a root points to.
    ByItsStart,
    /// Which is scanned late, since a root points to its middle.
    ByItsMiddle,
    /// In a root of the platform's.
    InARoot,
}

#[test]
fn one_that_comes_or_goes_while_a_scan_goes_on_hides_no_word_under_it() {
    for held in [Held::ByItsStart, Held::ByItsMiddle, Held::InARoot] {
        for reading in [Reading::Words, Reading::Bytes] {
            for change in [Change::Comes, Change::Goes] {
                // Over all of it, or over its end.
                for part in [0..64, 40..64] {
                    for moment in 0..20 {
                        let lost = lost_under(part.clone(), (held, reading, change), moment);
                        assert_eq!(lost, [], "{held:?} {reading:?} {change:?} at {moment}");
                    }
                }
            }
        }
    }
}

/// What a scan lists of blocks to which words point over some of which a region comes or goes meanwhile.
fn lost_under(
    part: Range<usize>,
    (held, reading, change): (Held, Reading, Change),
    moment: i32,
) -> Vec<usize> {
    let lab = Lab::new();
    lab.detector.set_min_age_us(0);
    let holder = match held {
        Held::ByItsStart | Held::ByItsMiddle => lab.block(64),
        Held::InARoot => lab.machine.address(Place::Region(0, 0)),
    };
    let others: Vec<usize> = (0..8).map(|_| lab.block(16)).collect();
    lab.machine.advance_us(1);
    lab.detector.scan().expect("on");
    for (index, &block) in others.iter().enumerate() {
        lab.machine.write(holder + index * WORD, block);
    }
    match held {
        Held::ByItsStart => lab.hold(0, holder),
        Held::ByItsMiddle => lab.hold(0, holder + 8),
        Held::InARoot => {
            lab.machine.add_root(holder, 64);
            lab.machine
                .add_root((&raw const LARGE).addr(), size_of_val(&LARGE));
        }
    }
    // This one stays.
    assert!(lab.detector.region_add(holder, 32));
    let (start, len) = (holder + part.start, part.len());
    let add = move |detector: &Subject| assert!(detector.region_add_as(start, len, reading));
    if matches!(change, Change::Goes) {
        add(&lab.detector);
    }
    let detector = Arc::downgrade(&lab.detector);
    let mut left = moment;
    lab.machine.at_relax(move |_| {
        let detector = detector.upgrade().expect("it scans");
        match (left, change) {
            (0, Change::Comes) => add(&detector),
            (0, Change::Goes) => detector.region_remove(start),
            _ => {}
        }
        left -= 1;
    });
    lab.machine.advance_us(1);
    lab.detector.scan().expect("on");
    lab.listed()
}

/// Blocks that need so many references each, and a word to each of them in the region's first words, 32 bytes apart.
fn pointed_to(lab: &Lab, region: usize, min_counts: &[i32]) -> Vec<usize> {
    let blocks = min_counts.iter().map(|&min_count| {
        let options = kmemleak::AllocOptions::new();
        lab.block_with(16, options.min_count(min_count))
    });
    let blocks: Vec<usize> = blocks.collect();
    for (index, &block) in blocks.iter().enumerate() {
        let start = lab.machine.address(Place::Region(region, 0));
        lab.machine.write(start + 32 * index, block);
    }
    blocks
}

#[test]
fn of_the_same_start_are_all_roots_whatever_their_length() {
    let lab = Lab::new();
    let start = lab.machine.address(Place::Region(0, 0));
    let blocks = pointed_to(&lab, 0, &[1; 4]);
    for (len, lost) in [(8, 1..), (104, 4..), (40, 4..)] {
        assert!(lab.detector.region_add(start, len));
        assert_eq!(lab.leaks(), blocks[lost], "after {len}");
    }
    // The last one goes first.
    for lost in [4.., 1.., 0..] {
        lab.detector.region_remove(start);
        assert_eq!(lab.leaks(), blocks[lost.clone()], "{lost:?} are lost");
    }
    assert_eq!(lab.warnings(), "");
    lab.detector.region_remove(start);
    assert!(lab.warnings().contains("region"));
}

#[test]
fn a_word_in_several_counts_once() {
    let lab = Lab::new();
    let start = lab.machine.address(Place::Region(0, 0));
    let blocks = pointed_to(&lab, 0, &[2; 4]);
    let regions = [(0, 64), (32, 64), (48, 32), (0, 128), (60, 8), (96, 0)];
    for (offset, len) in regions {
        assert!(lab.detector.region_add(start + offset, len));
        assert_eq!(lab.leaks(), blocks, "with {offset}+{len}");
    }
    for (offset, _) in regions.iter().rev() {
        lab.detector.region_remove(start + offset);
        assert_eq!(lab.leaks(), blocks, "without {offset}");
    }
    assert_eq!(lab.warnings(), "");
}

#[test]
fn a_word_across_two_that_touch_is_read() {
    let lab = Lab::new();
    let start = lab.machine.address(Place::Region(0, 0));
    let blocks = pointed_to(&lab, 0, &[1, 1]);
    assert!(lab.detector.region_add(start, 36));
    assert_eq!(lab.leaks(), blocks[1..]);
    assert!(lab.detector.region_add(start + 36, 4));
    assert_eq!(lab.leaks(), []);
}

#[test]
fn words_that_are_in_other_roots_count_once() {
    for stop in [
        kmemleak_emulated::Stop::Works,
        kmemleak_emulated::Stop::Unsupported,
    ] {
        let lab = Lab::new();
        lab.machine.set_stop(stop);
        let blocks = pointed_to(&lab, 0, &[2, 2, 1, 2, 1]);
        let start = lab.machine.address(Place::Region(0, 0));
        // Roots of the platform's, with a gap in which a block's word lies.
        lab.machine.add_root(start, 60);
        lab.machine.add_root(start + 96, 16);
        assert_eq!(lab.leaks(), blocks);
        assert!(lab.detector.region_add(start + 20, 140));
        assert_eq!(lab.leaks(), [blocks[0], blocks[1], blocks[3]], "{stop:?}");
        // One word more than each root has.
        lab.hold(0, blocks[0]);
        lab.hold(1, blocks[1]);
        lab.hold(2, blocks[3]);
        assert_eq!(lab.leaks(), [], "{stop:?}");
    }
}

#[test]
fn over_a_stack_they_count_once_and_stay_when_stacks_are_no_roots() {
    let lab = Lab::new();
    let options = kmemleak::AllocOptions::new();
    let (twice, once) = (lab.block_with(16, options.min_count(2)), lab.block(16));
    lab.machine.store(Place::Stack(3), twice);
    lab.machine.store(Place::Stack(5), once);
    let start = lab.machine.address(Place::Stack(2));
    assert!(lab.detector.region_add(start, 64));
    assert_eq!(lab.leaks(), [twice]);
    lab.say("stack=off");
    assert_eq!(lab.leaks(), [twice]);
    lab.detector.region_remove(start);
    assert_eq!(lab.leaks(), [twice, once]);
}

#[test]
fn what_a_block_has_in_one_is_read_there() {
    for stop in [
        kmemleak_emulated::Stop::Works,
        kmemleak_emulated::Stop::Unsupported,
    ] {
        let lab = Lab::new();
        lab.machine.set_stop(stop);
        let owner = lab.block(256);
        lab.machine.advance_us(1);
        let options = kmemleak::AllocOptions::new();
        let twice: Vec<usize> = (0..3)
            .map(|_| lab.block_with(16, options.min_count(2)))
            .collect();
        let once: Vec<usize> = (0..3).map(|_| lab.block(16)).collect();
        for (index, offset) in [0, 96, 248].into_iter().enumerate() {
            lab.machine.write(owner + offset, twice[index]);
            lab.machine.write(owner + offset.max(8) - 8, once[index]);
        }
        lab.hold(0, owner);
        // The whole words of the first are from 96 to 128; the second goes on behind the block.
        assert!(lab.detector.region_add(owner + 92, 41));
        assert!(lab.detector.region_add(owner + 240, 64));
        // The first word of the block is both: the last that was written.
        assert_eq!(lab.leaks(), twice, "{stop:?}");
        lab.hold(0, 0);
        let lost = [&[owner][..], &twice, &once[..2]].concat();
        assert_eq!(lab.leaks(), lost, "{stop:?}: the block itself is in none");
    }
}

#[test]
fn a_block_that_lies_in_two_together_is_alive() {
    let lab = Lab::new();
    let start = lab.machine.address(Place::Region(0, 0));
    let options = kmemleak::AllocOptions::new();
    let (region, both) = (start + 16, start + 128);
    lab.detector.alloc(region, 64, options);
    lab.detector.alloc(both, 64, options);
    let twice = lab.block_with(16, options.min_count(2));
    lab.machine.write(both + 24, twice);
    assert!(lab.detector.region_add(start, 32));
    lab.machine.advance_us(1);
    assert_eq!(lab.leaks(), [region, both, twice]);
    assert!(lab.detector.region_add(start + 32, 128));
    assert_eq!(lab.leaks(), [both, twice]);
    // The rest lies in a root of the platform's.
    lab.machine.add_root(start + 152, 100);
    assert_eq!(lab.leaks(), [twice]);
}

#[test]
fn holders_in_a_region_over_a_block_are_told_once() {
    let lab = Lab::new();
    let (owner, held) = (lab.block(64), lab.block(64));
    for offset in [0, 32] {
        lab.machine.write(owner + offset, held);
    }
    assert!(lab.detector.region_add(owner + 16, 40));
    let mut slots = holders(&lab, held);
    slots.sort_unstable();
    assert_eq!(slots, [owner, owner + 32]);
}
