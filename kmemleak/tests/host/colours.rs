//! White, gray and black: how many references an object needs.

use kmemleak::AllocOptions;
use kmemleak_emulated::Place;

use crate::lab::{Lab, many};

#[test]
fn nothing_points_at_it() {
    let lab = Lab::new();
    let lost = lab.block(64);
    assert_eq!(lab.leaks(), [lost]);
}

#[test]
fn a_root_points_at_it() {
    let lab = Lab::new();
    lab.hold(0, lab.block(64));
    assert_eq!(lab.leaks(), []);
}

#[test]
fn a_live_object_points_at_it() {
    let lab = Lab::new();
    let (owner, owned) = (lab.block(64), lab.block(64));
    lab.machine.write(owner + 56, owned);
    lab.hold(0, owner);
    assert_eq!(lab.leaks(), []);
    lab.hold(0, 0);
    assert_eq!(lab.leaks(), [owner, owned]);
}

#[test]
fn a_cycle_keeps_nothing_alive() {
    let lab = Lab::new();
    let (one, other) = (lab.block(16), lab.block(16));
    lab.machine.write(one, other);
    lab.machine.write(other + 8, one);
    assert_eq!(lab.leaks(), [one, other]);
}

#[test]
fn two_references_wanted_two_found() {
    let lab = Lab::new();
    let block = lab.block_with(64, AllocOptions::new().min_count(2));
    lab.hold(0, block);
    assert_eq!(lab.leaks(), [block]);
    lab.machine.store(Place::Data(0), block);
    assert_eq!(lab.leaks(), []);
}

#[test]
fn references_from_a_suspect_do_not_count() {
    let lab = Lab::new();
    let owner = lab.block(64);
    let block = lab.block_with(64, AllocOptions::new().min_count(2));
    lab.machine.write(owner, block);
    lab.hold(0, block);
    assert_eq!(lab.leaks(), [owner, block]);
    lab.hold(1, owner);
    assert_eq!(lab.leaks(), []);
}

#[test]
fn min_count_0_is_gray() {
    let lab = Lab::new();
    let (gray, owned) = (
        lab.block_with(64, AllocOptions::new().min_count(0)),
        lab.block(64),
    );
    lab.machine.write(gray, owned);
    assert_eq!(lab.leaks(), []);
}

#[test]
fn min_count_minus_1_is_black() {
    let lab = Lab::new();
    let (black, owned) = (
        lab.block_with(64, AllocOptions::new().min_count(-1)),
        lab.block(64),
    );
    lab.machine.write(black, owned);
    assert_eq!(lab.leaks(), [owned]);
}

#[test]
fn not_leak_makes_gray_and_ignore_black() {
    let lab = Lab::new();
    let (block, owned) = (lab.block(64), lab.block(64));
    lab.machine.write(block, owned);
    lab.detector.not_leak(block);
    assert_eq!(lab.leaks(), []);
    lab.detector.ignore(block);
    assert_eq!(lab.leaks(), [owned]);
    lab.detector.not_leak(block);
    assert_eq!(lab.leaks(), []);
}

#[test]
fn a_freed_block_is_no_object() {
    let lab = Lab::new();
    let (owner, owned) = (lab.block(64), lab.block(64));
    lab.machine.write(owner, owned);
    lab.hold(0, owner);
    lab.free(owner);
    assert_eq!((lab.leaks(), lab.tracked()), (vec![owned], 1));
}

#[test]
fn a_chain_as_long_as_it_gets() {
    let lab = Lab::new();
    let chain: Vec<usize> = (0..many(10_000)).map(|_| lab.block(16)).collect();
    for pair in chain.windows(2) {
        lab.machine.write(pair[0] + 8, pair[1]);
    }
    lab.hold(0, chain[0]);
    assert_eq!(lab.leaks(), []);
    let half = chain.len() / 2;
    lab.machine.write(chain[half - 1] + 8, 0);
    assert_eq!(lab.leaks(), chain[half..]);
}

#[test]
fn the_verdict_is_in_the_order_of_allocation() {
    let lab = Lab::new();
    let mut blocks: Vec<usize> = (0..100).map(|_| lab.block(32)).collect();
    let old = blocks.remove(10);
    lab.free(old);
    blocks.push(lab.block(32));
    assert_eq!(blocks.last(), Some(&old), "the place is used again");
    assert_eq!(lab.leaks(), blocks);
}
