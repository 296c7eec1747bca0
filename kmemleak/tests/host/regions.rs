//! Regions that are registered as roots.

use kmemleak_emulated::{Place, WORDS};

use crate::lab::Lab;

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
        let detector = std::sync::Arc::downgrade(&lab.detector);
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
