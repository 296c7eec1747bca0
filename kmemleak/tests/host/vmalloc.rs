//! Blocks that their own bookkeeping points to: an area, which is an object as well, counts for them.

use kmemleak::AllocOptions;
use kmemleak_emulated::Place;

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

/// An area that lies in a root, and its block.
fn with_area_in_root(min_count: i32) -> (Lab, usize, usize) {
    let lab = Lab::new();
    let region = lab.machine.address(Place::Region(0, 0));
    assert!(lab.detector.region_add(region, 512));
    // At no multiple of the word's size: it has seven whole words.
    let area = region + 68;
    let options = AllocOptions::new().min_count(min_count);
    lab.detector.alloc(area, 64, options);
    let block = lab.machine.vmalloc(PAGE);
    lab.machine.advance_us(1);
    lab.machine.write(region + 88, block);
    lab.detector.vmalloc(block, PAGE, area);
    (lab, block, area)
}

#[test]
fn an_area_in_a_root_passes_on_what_it_does_not_need() {
    let (lab, block, area) = with_area_in_root(1);
    assert_eq!(lab.leaks(), [block]);
    lab.hold(0, area + 8);
    assert_eq!(lab.leaks(), [block], "the first is its own");
    lab.hold(1, area);
    assert_eq!(lab.leaks(), []);
}

#[test]
fn a_gray_area_in_a_root_is_read_once() {
    let (lab, block, area) = with_area_in_root(0);
    assert_eq!(lab.leaks(), [block]);
    lab.hold(0, area);
    assert_eq!(lab.leaks(), []);
}

#[test]
fn an_areas_pointers_to_itself_count_for_nothing_in_a_root_either() {
    let (lab, block, area) = with_area_in_root(1);
    for word in [72, 80, 120] {
        lab.machine.write(area - 68 + word, area + 1);
    }
    assert_eq!(lab.leaks(), [block]);
    // These lie before the area and behind it, in part.
    for word in [64, 128] {
        lab.machine.write(area - 68 + word, area);
    }
    assert_eq!(lab.leaks(), []);
}

/// Only half of the area lies in the root: the words there are the root's, whatever else lies in a root.
#[test]
fn a_word_of_a_root_counts_for_an_area_that_reaches_beyond_the_root() {
    for other_area in [false, true] {
        let lab = Lab::new();
        let region = lab.machine.address(Place::Region(0, 0));
        assert!(lab.detector.region_add(region, 256));
        if other_area {
            let (other, block) = (region + 32, lab.machine.vmalloc(PAGE));
            lab.detector.alloc(other, 64, AllocOptions::new());
            lab.machine.write(other, block);
            lab.detector.vmalloc(block, PAGE, other);
            lab.hold(1, block);
        }
        let (area, block) = (region + 224, lab.machine.vmalloc(PAGE));
        lab.detector.alloc(area, 64, AllocOptions::new());
        lab.machine.write(area + 40, block);
        lab.detector.vmalloc(block, PAGE, area);
        lab.machine.advance_us(1);
        lab.machine.write(area + 8, area);
        assert_eq!(lab.leaks(), [block], "the word keeps the area alone");
        lab.hold(0, area + 8);
        assert_eq!(lab.leaks(), [], "another area in a root: {other_area}");
    }
}

/// Two words to the area and two to the block in the middle, which is the last one's area: whatever the order of the words.
#[test]
fn what_a_chain_passes_on_knows_no_order() {
    let orders = [
        [0, 0, 1, 1],
        [0, 1, 0, 1],
        [0, 1, 1, 0],
        [1, 0, 0, 1],
        [1, 0, 1, 0],
        [1, 1, 0, 0],
    ];
    for order in orders {
        let lab = Lab::new();
        let area = lab.block(64);
        let (middle, last) = (lab.machine.vmalloc(PAGE), lab.machine.vmalloc(PAGE));
        lab.machine.advance_us(1);
        lab.detector.vmalloc(middle, PAGE, area);
        lab.machine.advance_us(1);
        lab.detector.vmalloc(last, PAGE, middle);
        for (slot, to) in order.into_iter().enumerate() {
            lab.hold(slot, [area, middle][to]);
        }
        assert_eq!(lab.leaks(), [last], "{order:?}");
        lab.hold(9, last);
        assert_eq!(lab.leaks(), [], "{order:?}");
        // One less to the area: the middle block needs all there are.
        let slot = order.iter().position(|&to| to == 0).expect("two");
        lab.hold(slot, 0);
        assert_eq!(lab.leaks(), [last], "{order:?}");
    }
}

#[test]
fn blocks_that_describe_each_other_are_no_riddle() {
    let lab = Lab::new();
    let block = lab.machine.vmalloc(PAGE);
    lab.detector.vmalloc(block, PAGE, block);
    lab.machine.advance_us(1);
    lab.hold(0, block);
    assert_eq!(lab.leaks(), [block]);
    (1..5).for_each(|slot| lab.hold(slot, block));
    assert_eq!(lab.leaks(), []);
}

#[test]
fn an_area_that_only_its_middle_keeps_alive_is_told() {
    let (lab, block, area) = with_area(AllocOptions::new());
    let interior = || {
        let mut starts = Vec::new();
        lab.detector
            .for_each_interior(&mut |block| starts.push(block.start))
            .expect("it is on");
        starts.sort_unstable();
        starts
    };
    let mut both = vec![area, block];
    both.sort_unstable();
    lab.hold(0, area + 8);
    lab.hold(1, area + 16);
    assert_eq!((lab.leaks(), interior()), (vec![], both));
    lab.hold(2, area);
    // The area's own word points to the start of the block.
    assert_eq!((lab.leaks(), interior()), (vec![], vec![]));
}
