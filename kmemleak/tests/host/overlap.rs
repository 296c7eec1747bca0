//! A new block where one is that was never freed: the newer one wins.

use kmemleak::AllocOptions;

use crate::lab::Lab;

/// A block at `old`, then one at `new` (offsets into an arena, and sizes): what is left.
fn after(old: (usize, usize), new: (usize, usize)) -> (Vec<(usize, usize)>, String) {
    let lab = Lab::new();
    let arena = lab.machine.arena(1 << 16);
    lab.detector
        .alloc(arena + old.0, old.1, AllocOptions::new());
    lab.machine.advance_us(1);
    lab.detector
        .alloc(arena + new.0, new.1, AllocOptions::new());
    lab.leaks();
    let mut left = Vec::new();
    lab.detector
        .for_each_unreferenced(&mut |object| left.push((object.start - arena, object.size)))
        .expect("asked from outside");
    (left, lab.status("missed frees"))
}

#[test]
fn at_the_same_place() {
    assert_eq!(after((64, 64), (64, 64)), (vec![(64, 64)], "1".into()));
}

#[test]
fn by_one_byte() {
    assert_eq!(after((64, 64), (127, 64)), (vec![(127, 64)], "1".into()));
    assert_eq!(after((64, 64), (1, 64)), (vec![(1, 64)], "1".into()));
}

#[test]
fn inside_and_around() {
    assert_eq!(after((64, 64), (80, 8)), (vec![(80, 8)], "1".into()));
    let around = (0, 32_768);
    assert_eq!(after((64, 64), around), (vec![around], "1".into()));
}

#[test]
fn side_by_side_is_no_overlap() {
    let both = vec![(64, 64), (128, 64)];
    assert_eq!(after((64, 64), (128, 64)), (both, "0".into()));
}

#[test]
fn each_of_many_is_forgotten_and_counted() {
    let lab = Lab::new();
    let arena = lab.machine.arena(1 << 20);
    for index in 0..1000 {
        lab.detector
            .alloc(arena + index * 100, 90, AllocOptions::new());
    }
    lab.detector.alloc(arena + 50, 90_000, AllocOptions::new());
    assert_eq!(lab.status("missed frees"), "901");
    assert_eq!(lab.tracked(), 1000 - 901 + 1);
}

#[test]
fn it_is_told_with_both_call_stacks() {
    let lab = Lab::new();
    lab.machine.call_from(&["old_owner"]);
    let block = lab.block(64);
    lab.machine.call_from(&["new_owner"]);
    lab.detector.alloc(block + 8, 8, AllocOptions::new());
    let told = lab.warnings();
    let (first, rest) = told.split_once('\n').expect("several lines");
    let head = "kmemleak: new object overlaps one whose free was missed";
    assert_eq!(first, format!("{head}: {:#018x}", block + 8));
    assert!(rest.contains("new_owner") && rest.contains("old_owner"));
}
