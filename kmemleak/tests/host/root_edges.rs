//! Objects that lie in roots in part, at their edges, or by an address that is another's: each word is read once, and nothing is alive
//! for where it lies that is not there.

use kmemleak::{AllocOptions, Reading};

use crate::lab::Lab;
use crate::readings::holders;
use crate::sparse::{BLOCKS, SparseLab};

const PAGE: usize = 4096;
const WORD: usize = 8;
/// Where regions lie.
const REGION: usize = BLOCKS + (1 << 30);

/// A block that needs two references.
fn needy(lab: &SparseLab) -> usize {
    let needy = BLOCKS + 16 * PAGE;
    lab.detector
        .alloc(needy, 64, AllocOptions::new().min_count(2));
    needy
}

#[test]
fn words_of_a_percpu_block_that_a_region_has_count_once() {
    let lab = SparseLab::new();
    lab.detector.alloc_percpu(BLOCKS, 64);
    lab.hold(0, BLOCKS);
    let needy = needy(&lab);
    for copy in [BLOCKS, BLOCKS + PAGE] {
        lab.platform().write(copy + 16, needy);
        assert!(lab.detector.region_add(copy, 64));
        assert_eq!(lab.leaks(), [needy], "{copy:#x}");
        lab.detector.region_remove(copy);
        lab.platform().write(copy + 16, 0);
    }
}

/// A pointer to a copy counts for the block, though the copy lies in two regions together.
#[test]
fn a_copy_in_two_regions_is_no_object_of_its_own() {
    let lab = SparseLab::new();
    lab.detector.alloc_percpu(BLOCKS, 64);
    let copy = BLOCKS + PAGE;
    assert!(lab.detector.region_add(copy, 32));
    assert!(lab.detector.region_add_as(copy + 32, 32, Reading::Bytes));
    assert_eq!(lab.leaks(), [BLOCKS]);
    lab.hold(0, copy);
    assert_eq!(lab.leaks(), []);
}

/// Its address is that of other memory, which two regions have.
#[test]
fn physical_memory_does_not_lie_in_a_region_with_the_same_number() {
    const PHYSICAL: usize = 0x10_0000;
    let lab = SparseLab::new();
    lab.platform()
        .physical_offset
        .store(BLOCKS, std::sync::atomic::Ordering::Relaxed);
    lab.detector.alloc_phys(PHYSICAL, 64);
    let held = BLOCKS + 16 * PAGE;
    lab.alloc(held, 64);
    lab.platform().write(BLOCKS + PHYSICAL + 8, held);
    assert_eq!(lab.leaks(), []);
    assert!(lab.detector.region_add(PHYSICAL, 32));
    assert!(
        lab.detector
            .region_add_as(PHYSICAL + 32, 32, Reading::Bytes)
    );
    assert_eq!(lab.leaks(), []);
}

/// Over its end, and over its beginning.
#[test]
fn words_of_a_block_that_a_region_has_in_part_count_once() {
    for (start, len, word) in [(64, 128, 72), (64, 64, 120), (0, 64, 8)] {
        let lab = SparseLab::new();
        let needy = needy(&lab);
        lab.alloc(REGION, 128);
        lab.hold(0, REGION);
        lab.platform().write(REGION + word, needy);
        assert!(lab.detector.region_add(REGION + start, len));
        assert_eq!(lab.leaks(), [needy], "{start}+{len}");
    }
}

#[test]
fn a_block_that_is_a_region_is_led_to_once() {
    let lab = SparseLab::new();
    for start in [REGION, REGION + PAGE] {
        lab.alloc(start, 64);
        assert!(lab.detector.region_add(start, 64));
    }
    let snapshot = lab.say("snapshot");
    assert!(snapshot.contains("\"roots\":2,"), "{snapshot}");
}

/// An area in a root with the block that it describes, between blocks that lie in regions in part.
fn area_in_root(size: usize) -> (SparseLab, usize, usize) {
    let lab = SparseLab::new();
    for (word, start) in [(2, REGION - PAGE), (3, REGION + PAGE)] {
        lab.alloc(start, 64);
        lab.hold(word, start);
        assert!(lab.detector.region_add(start + 32, 8));
    }
    let (area, block) = (REGION + 64, BLOCKS);
    lab.alloc(area, size);
    assert!(lab.detector.region_add(REGION, 512));
    lab.detector.vmalloc(block, PAGE, area);
    lab.hold(1, block);
    (lab, block, area)
}

#[test]
fn the_pointers_of_an_area_in_a_root_to_itself_do_not_count() {
    let (lab, block, area) = area_in_root(64);
    lab.platform().write(area + 16, area);
    lab.platform().write(area + 24, area + 8);
    assert_eq!(lab.leaks(), [block]);
    lab.hold(0, area);
    assert_eq!(lab.leaks(), [block], "the area needs this one");
    lab.platform().write(REGION, area);
    assert_eq!(lab.leaks(), []);
}

#[test]
fn an_area_without_a_whole_word_is_passed_in_a_root() {
    for size in [1, 4, 7] {
        let (lab, block, area) = area_in_root(size);
        // Not the area's word, though the area is in it.
        lab.platform().write(area, area);
        assert_eq!(lab.leaks(), [block], "the area needs this one");
        lab.platform().write(area + WORD, area);
        assert_eq!(lab.leaks(), [], "{size} bytes");
    }
}

/// Blocks right before and behind a task's stack are none of it: what they hold is told.
#[test]
fn a_block_beside_a_stack_is_a_holder() {
    let lab = Lab::new();
    let arena = lab.machine.arena(4 * PAGE);
    let stack = arena + PAGE;
    lab.machine.tasks.add_stack(9, stack, PAGE);
    let held = lab.block(64);
    let beside = [stack - 64, stack + PAGE];
    for start in beside {
        lab.detector.alloc(start, 64, AllocOptions::new());
        lab.machine.write(start + 8, held);
    }
    let mut slots = holders(&lab, held);
    slots.sort_unstable();
    assert_eq!(slots, beside.map(|start| start + 8));
}
