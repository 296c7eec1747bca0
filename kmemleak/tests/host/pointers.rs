//! What is a pointer to an object, and what is none.

use crate::lab::Lab;

/// Whether a block of `size` bytes is alive if a root holds the word that `word` makes of its address.
fn keeps(size: usize, word: impl Fn(usize) -> usize) -> bool {
    let lab = Lab::new();
    let block = lab.block(size);
    lab.hold(0, word(block));
    lab.leaks().is_empty()
}

#[test]
fn any_byte_of_it() {
    assert!(keeps(100, |block| block));
    assert!(keeps(100, |block| block + 1));
    assert!(keeps(100, |block| block + 99));
    assert!(keeps(1, |block| block));
}

#[test]
fn not_the_byte_before_or_behind() {
    assert!(!keeps(100, |block| block - 1));
    assert!(!keeps(100, |block| block + 100));
    assert!(!keeps(1, |block| block + 1));
}

#[test]
fn not_its_address_in_disguise() {
    assert!(!keeps(64, |block| !block));
    assert!(!keeps(64, |block| block >> 4));
    assert!(!keeps(64, |block| block | 1 << 63));
    assert!(!keeps(64, |_| 0));
    assert!(!keeps(64, |_| usize::MAX));
}

#[test]
fn not_half_in_one_word_and_half_in_the_next() {
    let lab = Lab::new();
    let block = lab.block(64);
    lab.hold(0, block << 32);
    lab.hold(1, block >> 32);
    assert_eq!(lab.leaks(), [block]);
}

#[test]
fn not_one_in_itself() {
    let lab = Lab::new();
    let block = lab.block(64);
    (0..64)
        .step_by(8)
        .for_each(|offset| lab.machine.write(block + offset, block + offset));
    assert_eq!(lab.leaks(), [block]);
}

#[test]
fn not_one_in_itself_while_it_is_alive_for_another_reason() {
    let lab = Lab::new();
    let block = lab.block_with(64, kmemleak::AllocOptions::new().min_count(2));
    lab.machine.write(block, block);
    lab.hold(0, block);
    assert_eq!(lab.leaks(), [block]);
}

#[test]
fn not_one_in_the_slack_behind_an_object() {
    let lab = Lab::new();
    let (owner, owned) = (lab.block(12), lab.block(64));
    lab.hold(0, owner);
    lab.machine.write(owner + 8, owned);
    assert_eq!(lab.leaks(), [owned], "half of the word is not the owner's");
}

#[test]
fn a_large_object_is_found_by_any_of_its_pages() {
    let lab = Lab::new();
    let (start, size) = (lab.machine.vmalloc(5 << 20), 5 << 20);
    lab.detector
        .alloc(start, size, kmemleak::AllocOptions::new());
    for offset in [0, 4096, 2 << 20, (3 << 20) + 12_345, size - 1] {
        lab.hold(0, start + offset);
        assert_eq!(lab.leaks(), [], "offset {offset:#x}");
    }
    lab.hold(0, start + size);
    assert_eq!(lab.leaks(), [start]);
}

#[test]
fn neighbours_are_told_apart_to_the_byte() {
    let lab = Lab::new();
    let arena = lab.machine.arena(4096);
    let blocks: Vec<usize> = (0..64).map(|index| arena + index).collect();
    for &block in &blocks {
        lab.detector.alloc(block, 1, kmemleak::AllocOptions::new());
    }
    lab.hold(0, blocks[17]);
    let mut others = blocks.clone();
    others.remove(17);
    assert_eq!(lab.leaks(), others);
}
