//! Blocks that their own bookkeeping points to: an area, which is an object as well, counts for them.

use kmemleak::AllocOptions;

use crate::lab::Lab;

const PAGE: usize = 4096;

/// A block, and the area that points to it, which nothing points to yet.
fn with_area(options: AllocOptions) -> (Lab, usize, usize) {
    let lab = Lab::new();
    let area = lab.block_with(64, options);
    let block = lab.machine.vmalloc(2 * PAGE);
    lab.machine.advance_us(1);
    lab.machine.write(area + 16, block);
    lab.detector.vmalloc(block, 2 * PAGE, area);
    assert_eq!(lab.warnings(), "");
    (lab, block, area)
}

#[test]
fn without_a_pointer_to_either_both_are_lost() {
    let (lab, block, area) = with_area(AllocOptions::new());
    assert_eq!(lab.leaks(), [area, block]);
}

#[test]
fn the_area_alone_does_not_keep_it() {
    let (lab, block, area) = with_area(AllocOptions::new());
    lab.hold(0, area);
    assert_eq!(lab.leaks(), [block]);
}

#[test]
fn a_pointer_to_the_block_beside_the_areas_own() {
    let (lab, block, area) = with_area(AllocOptions::new());
    lab.hold(0, area);
    lab.hold(1, block + PAGE + 8);
    assert_eq!(lab.leaks(), []);
}

#[test]
fn a_pointer_to_the_block_alone_is_one_too_few() {
    let (lab, block, area) = with_area(AllocOptions::new());
    lab.hold(1, block);
    assert_eq!(lab.leaks(), [area, block]);
}

#[test]
fn a_second_pointer_to_the_area_instead() {
    let (lab, ..) = with_area(AllocOptions::new());
    let (other, block, area) = with_area(AllocOptions::new());
    other.hold(0, area);
    other.hold(1, area + 40);
    assert_eq!(other.leaks(), []);
    other.hold(1, 0);
    assert_eq!(other.leaks(), [block]);
    drop(lab);
}

#[test]
fn the_block_is_scanned_then() {
    let (lab, block, area) = with_area(AllocOptions::new());
    let owned = lab.block(32);
    lab.machine.write(block + PAGE, owned);
    lab.hold(0, area);
    assert_eq!(lab.leaks(), [block, owned]);
    lab.hold(1, area);
    assert_eq!(lab.leaks(), []);
}

#[test]
fn the_areas_pointer_to_itself_is_no_second_one() {
    let (lab, block, area) = with_area(AllocOptions::new());
    lab.machine.write(area + 32, area);
    lab.machine.write(area + 40, area + 32);
    lab.hold(0, area);
    assert_eq!(lab.leaks(), [block]);
}

#[test]
fn an_area_that_is_a_root_leaves_its_first_pointer_to_the_block() {
    let (lab, block, area) = with_area(AllocOptions::new().min_count(0));
    assert_eq!(lab.leaks(), [block]);
    lab.hold(0, area);
    assert_eq!(lab.leaks(), []);
}

#[test]
fn a_black_area_passes_nothing_on() {
    let (lab, block, area) = with_area(AllocOptions::new().min_count(-1));
    lab.hold(0, area);
    lab.hold(1, area);
    lab.hold(2, area);
    assert_eq!(lab.leaks(), [block]);
}

#[test]
fn an_area_that_is_freed_counts_no_more() {
    let (lab, block, area) = with_area(AllocOptions::new());
    lab.free(area);
    let again = lab.block(64);
    assert_eq!(again, area, "the place is used again");
    (0..3).for_each(|index| lab.hold(index, again));
    assert_eq!(lab.leaks(), [block]);
}

#[test]
fn an_area_that_is_not_known_is_told() {
    let lab = Lab::new();
    let block = lab.machine.vmalloc(PAGE);
    lab.detector.vmalloc(block, PAGE, lab.machine.slab(64));
    assert!(lab.warnings().contains("unknown object"));
    lab.hold(0, block);
    assert_eq!(lab.leaks(), [block]);
    lab.hold(1, block);
    assert_eq!(lab.leaks(), []);
}

#[test]
fn an_area_that_needs_two_pointers_passes_on_the_third() {
    let (lab, block, area) = with_area(AllocOptions::new().min_count(2));
    lab.hold(0, area);
    assert_eq!(lab.leaks(), [area, block]);
    lab.hold(1, area);
    assert_eq!(lab.leaks(), [block]);
    lab.hold(2, area);
    assert_eq!(lab.leaks(), []);
}
