//! Which words of an object are read: scan areas and no_scan.

use kmemleak::AllocOptions;

use crate::lab::Lab;

/// An owner of 64 bytes that a root holds, each word of which points at a block of its own.
fn fan(lab: &Lab) -> (usize, Vec<usize>) {
    let owner = lab.block(64);
    lab.hold(0, owner);
    let owned: Vec<usize> = (0..8).map(|_| lab.block(16)).collect();
    for (index, &block) in owned.iter().enumerate() {
        lab.machine.write(owner + index * 8, block);
    }
    (owner, owned)
}

#[test]
fn all_of_them_at_first() {
    let lab = Lab::new();
    fan(&lab);
    assert_eq!(lab.leaks(), []);
}

#[test]
fn none_after_no_scan() {
    let lab = Lab::new();
    let (owner, owned) = fan(&lab);
    lab.detector.no_scan(owner);
    assert_eq!(lab.leaks(), owned);
}

#[test]
fn no_scan_is_reported_all_the_same() {
    let lab = Lab::new();
    let (owner, owned) = fan(&lab);
    lab.detector.no_scan(owner);
    lab.hold(0, 0);
    assert_eq!(lab.leaks(), [&[owner], &owned[..]].concat());
}

#[test]
fn those_of_an_area() {
    let lab = Lab::new();
    let (owner, owned) = fan(&lab);
    lab.detector.scan_area(owner + 16, 24);
    assert_eq!(lab.leaks(), [&owned[..2], &owned[5..]].concat());
}

#[test]
fn areas_add_up() {
    let lab = Lab::new();
    let (owner, owned) = fan(&lab);
    lab.detector.scan_area(owner, 8);
    lab.detector.scan_area(owner + 56, 8);
    assert_eq!(lab.leaks(), owned[1..7]);
}

#[test]
fn an_area_holds_whole_words_alone() {
    let lab = Lab::new();
    let (owner, owned) = fan(&lab);
    lab.detector.scan_area(owner + 4, 16);
    assert_eq!(lab.leaks(), [&owned[..1], &owned[2..]].concat());
}

#[test]
fn an_area_up_to_the_end_is_taken() {
    let lab = Lab::new();
    let (owner, owned) = fan(&lab);
    lab.detector.scan_area(owner + 8, 56);
    assert_eq!(lab.warnings(), "");
    assert_eq!(lab.leaks(), owned[..1]);
}

#[test]
fn an_area_past_the_end_is_refused() {
    for len in [57, 1 << 40, usize::MAX] {
        let lab = Lab::new();
        let (owner, _) = fan(&lab);
        lab.detector.scan_area(owner + 8, len);
        assert!(lab.warnings().contains("scan area larger than object"));
        assert_eq!(lab.leaks(), [], "all is scanned as before");
    }
}

#[test]
fn areas_go_with_their_object() {
    let lab = Lab::new();
    let (owner, _) = fan(&lab);
    lab.detector.scan_area(owner, 8);
    lab.free(owner);
    let (again, _) = fan(&lab);
    assert_eq!(again, owner, "the place is used again");
    let lost = lab.leaks();
    assert_eq!(lost.len(), 8, "those of the first fan: {lost:x?}");
}

#[test]
fn no_scan_wins_over_areas() {
    let lab = Lab::new();
    let (owner, owned) = fan(&lab);
    lab.detector.scan_area(owner, 8);
    lab.detector.no_scan(owner);
    assert_eq!(lab.leaks(), owned);
}

#[test]
fn a_word_in_two_areas_counts_once() {
    let lab = Lab::new();
    let owner = lab.block(64);
    let block = lab.block_with(16, AllocOptions::new().min_count(2));
    lab.hold(0, owner);
    lab.machine.write(owner + 8, block);
    lab.detector.scan_area(owner, 16);
    lab.detector.scan_area(owner + 8, 16);
    assert_eq!(lab.leaks(), [block]);
}

#[test]
fn each_word_of_a_large_block_at_an_odd_address_is_read() {
    let lab = Lab::new();
    let arena = lab.machine.arena(64 * 1024);
    let large = arena + 21;
    lab.detector.alloc(large, 0x4000, AllocOptions::new());
    lab.hold(0, large);
    // A word of each page that a piece of a page, counted from the block's start, would cut in two.
    let held: Vec<_> = (1..4)
        .map(|page| (arena + page * 4096 + 16, lab.block(16)))
        .collect();
    for &(word, block) in &held {
        lab.machine.write(word, block);
    }
    for _ in 0..3 {
        lab.machine.advance_us(10_000_000);
        assert_eq!(lab.detector.scan().expect("on").objects, 0);
    }
}

/// Blocks of these sizes, one behind the other from a multiple of 512 bytes on, all held; the last word of each points to a block
/// of its own.
fn row(lab: &Lab, sizes: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let mut at = lab.machine.arena(1024).next_multiple_of(512);
    let mut blocks = Vec::new();
    let mut owned = Vec::new();
    for (index, &size) in sizes.iter().enumerate() {
        lab.detector.alloc(at, size, AllocOptions::new());
        lab.hold(index, at);
        owned.push(lab.block(16));
        lab.machine.write(at + size - 8, owned[index]);
        blocks.push(at);
        at += size;
    }
    (blocks, owned)
}

#[test]
fn neighbours_of_other_sizes_are_read_to_their_ends() {
    for sizes in [[64, 64, 64], [64, 128, 64], [128, 64, 128], [64, 8, 128]] {
        let lab = Lab::new();
        row(&lab, &sizes);
        assert_eq!(lab.leaks(), [], "{sizes:?}");
    }
}

#[test]
fn neighbours_are_read_no_further() {
    let lab = Lab::new();
    let (blocks, owned) = row(&lab, &[128, 64, 64]);
    // The last word of the third block lies within 128 bytes of the second one's start.
    lab.detector.free(blocks[2]);
    assert_eq!(lab.leaks(), owned[2..]);
}

#[test]
fn what_is_left_beside_others_of_the_former_size_is_read_to_its_new_end() {
    let lab = Lab::new();
    let (blocks, owned) = row(&lab, &[64, 64, 64]);
    lab.detector.free_part(blocks[1] + 32, 32);
    assert_eq!(lab.leaks(), owned[1..2]);
}

#[test]
fn a_chunk_that_was_empty_has_another_size() {
    let lab = Lab::new();
    let (blocks, _) = row(&lab, &[64, 64]);
    for &block in &blocks {
        lab.detector.free(block);
    }
    lab.detector.alloc(blocks[0], 128, AllocOptions::new());
    assert_eq!(
        lab.leaks(),
        [],
        "the last words of both are words of the new one"
    );
}
