//! Counts that do not match the references that are found.

use kmemleak::{AllocOptions, Miscount, Miscounted, NotCompared, NotDone};
use kmemleak_emulated::{Place, Stop};

use crate::lab::Lab;

/// A function that allocates an `Arc` of this.
const ARC: &str = "<alloc::boxed::Box<alloc::sync::ArcInner<kernel::Task>>>::new";
const RC: &str = "<alloc::boxed::Box<alloc::rc::RcInner<kernel::Task>>>::new";

/// An `Arc` with these counts.
fn counted(lab: &Lab, strong: usize, weak: usize) -> usize {
    of_type(lab, ARC, strong, weak)
}

fn of_type(lab: &Lab, function: &str, strong: usize, weak: usize) -> usize {
    lab.machine.call_from(&[function, "main"]);
    let start = lab.block(48);
    lab.machine.call_from(&["other"]);
    lab.machine.write(start, strong);
    lab.machine.write(start + 8, weak);
    start
}

fn wrong(lab: &Lab) -> Vec<Miscount> {
    let mut found = Vec::new();
    let sums = lab
        .detector
        .for_each_miscount(&mut |miscount| found.push(miscount))
        .expect("nothing is missing");
    let of = |wrong| found.iter().filter(|one| one.wrong == wrong).count();
    assert_eq!(sums.below_zero, of(Miscounted::BelowZero));
    assert_eq!(sums.too_low, of(Miscounted::TooLow));
    assert_eq!(sums.too_high, of(Miscounted::TooHigh));
    found
}

/// What is wrong with the block, and by how much.
fn told(lab: &Lab) -> Vec<(usize, Miscounted, i64)> {
    let found = wrong(lab).into_iter();
    found
        .map(|one| (one.start, one.wrong, one.difference))
        .collect()
}

#[test]
fn a_forgotten_clone_is_one_too_many() {
    let lab = Lab::new();
    let (arc, other) = (counted(&lab, 2, 1), counted(&lab, 1, 1));
    lab.hold(0, arc);
    lab.hold(1, other);
    let found = wrong(&lab);
    let expected = Miscount {
        start: arc,
        size: 48,
        birth_us: found[0].birth_us,
        wrong: Miscounted::TooHigh,
        references: 2,
        words: 1,
        difference: 1,
    };
    assert_eq!(found, [expected]);
    // It is reachable: no check finds it.
    assert!(lab.leaks().is_empty());
    lab.machine.write(arc, 1);
    assert!(told(&lab).is_empty());
}

/// Words wherever references may be: to the start, to the value and to its middle, in roots and in objects, scanned or not.
#[test]
fn each_word_into_the_block_may_be_a_reference() {
    let lab = Lab::new();
    let arc = counted(&lab, 7, 1);
    lab.hold(0, arc);
    lab.machine.store(Place::Data(0), arc + 16);
    lab.machine.store(Place::PerCpu(0, 0), arc + 47);
    lab.machine.store(Place::Page(0), arc);
    let (scanned, unscanned) = (lab.block(64), lab.block(64));
    lab.hold(1, scanned);
    lab.hold(2, unscanned);
    lab.detector.no_scan(unscanned);
    lab.machine.write(scanned + 8, arc);
    lab.machine.write(unscanned + 16, arc + 16);
    // The block itself may hold one.
    lab.machine.write(arc + 24, arc);
    assert!(told(&lab).is_empty());
    for place in [
        lab.machine.address(Place::Bss(0)),
        lab.machine.address(Place::Data(0)),
        lab.machine.address(Place::PerCpu(0, 0)),
        lab.machine.address(Place::Page(0)),
        scanned + 8,
        unscanned + 16,
        arc + 24,
    ] {
        let before = lab.machine.read(place);
        lab.machine.write(place, arc + 48);
        assert_eq!(told(&lab), [(arc, Miscounted::TooHigh, 1)], "{place:#x}");
        lab.machine.write(place, before);
    }
    // A lost object holds its references as well.
    lab.hold(1, 0);
    assert!(told(&lab).is_empty());
}

#[test]
fn what_a_stack_may_hold_is_not_judged() {
    let lab = Lab::new();
    let region = lab.machine.address(Place::Region(0, 0));
    assert!(lab.detector.region_add(region, 64));
    for place in [Place::Stack(3), Place::Register(1), Place::Region(0, 2)] {
        let arc = counted(&lab, 3, 1);
        lab.hold(0, arc);
        lab.machine.store(place, arc + 40);
        let mut found = 0;
        let sums = lab.detector.for_each_miscount(&mut |_| found += 1);
        let sums = sums.expect("nothing is missing");
        assert_eq!((found, sums.on_stacks, sums.blocks), (0, 1, 1), "{place}");
        lab.machine.store(place, 0);
        assert_eq!(told(&lab), [(arc, Miscounted::TooHigh, 2)], "{place}");
        lab.free(arc);
    }
}

/// The words below a task's stack pointer are left over from calls that have returned.
#[test]
fn the_unused_part_of_a_stack_holds_nothing() {
    let lab = Lab::new();
    let arc = counted(&lab, 2, 1);
    lab.hold(0, arc);
    let stack = lab.machine.address(Place::Dead(0));
    let size = 2 * (lab.machine.address(Place::Stack(0)) - stack);
    lab.detector
        .alloc(stack, size, AllocOptions::new().min_count(0));
    lab.detector.no_scan(stack);
    lab.machine.store(Place::Dead(5), arc);
    assert_eq!(told(&lab), [(arc, Miscounted::TooHigh, 1)]);
}

#[test]
fn words_in_roots_count_once() {
    let lab = Lab::new();
    let arc = counted(&lab, 2, 1);
    let variable = lab.machine.address(Place::Data(0));
    lab.detector.alloc(variable, 64, AllocOptions::new());
    lab.machine.store(Place::Data(2), arc);
    assert_eq!(told(&lab), [(arc, Miscounted::TooHigh, 1)]);
    // Of one that lies there in part, each word counts once as well.
    lab.machine.write(arc, 3);
    lab.detector.free(variable);
    lab.detector.alloc(variable - 64, 128, AllocOptions::new());
    assert_eq!(told(&lab), [(arc, Miscounted::TooHigh, 2)]);
}

#[test]
fn a_count_below_zero_comes_first() {
    let lab = Lab::new();
    let (high, dropped, low) = (
        counted(&lab, 5, 1),
        counted(&lab, usize::MAX, 2),
        counted(&lab, 1, 2),
    );
    lab.hold(0, high);
    lab.hold(1, dropped);
    // A strong reference, a weak one, and two words more; pointers to the value say nothing.
    (2..6).for_each(|word| lab.hold(word, low));
    (6..9).for_each(|word| lab.hold(word, low + 16));
    assert_eq!(
        told(&lab),
        [
            (dropped, Miscounted::BelowZero, -2),
            (low, Miscounted::TooLow, -2),
            (high, Miscounted::TooHigh, 4),
        ]
    );
}

#[test]
fn weak_references_explain_words() {
    let lab = Lab::new();
    for (strong, weak, words, low) in [
        (1, 1, 1, false),
        (1, 1, 2, true),
        (1, 3, 3, false),
        (1, 3, 4, true),
        // The value is dropped.
        (0, 2, 2, false),
        (0, 2, 3, true),
        // `Arc::get_mut` has locked the weak count.
        (1, usize::MAX, 9, false),
    ] {
        let arc = of_type(&lab, RC, strong, weak);
        (0..words).for_each(|word| lab.hold(word, arc));
        let expected = if low { vec![arc] } else { vec![] };
        let found: Vec<_> = told(&lab).iter().map(|one| one.0).collect();
        assert_eq!(found, expected, "{strong} {weak} {words}");
        lab.free(arc);
        (0..words).for_each(|word| lab.hold(word, 0));
    }
}

#[test]
fn blocks_of_other_types_and_colours_are_left_out() {
    let lab = Lab::new();
    of_type(&lab, "<alloc::boxed::Box<kernel::Task>>::new", 9, 1);
    of_type(&lab, "main", 9, 1);
    let gray = counted(&lab, 9, 1);
    lab.detector.not_leak(gray);
    let black = counted(&lab, 9, 1);
    lab.detector.ignore(black);
    // The raw pointer of an empty value lies behind the block.
    lab.machine.call_from(&[ARC]);
    let empty = lab.block(16);
    lab.machine.write(empty, 9);
    let sums = lab.detector.for_each_miscount(&mut |one| panic!("{one:?}"));
    assert_eq!(sums.expect("nothing is missing").blocks, 0);
}

/// What changes between the two stops is not told.
#[test]
fn a_difference_has_to_stand_still() {
    let lab = Lab::new();
    let arc = counted(&lab, 2, 1);
    lab.hold(0, arc);
    lab.machine.at_relax(move |machine| machine.write(arc, 3));
    assert!(told(&lab).is_empty());
    assert_eq!(told(&lab), [(arc, Miscounted::TooHigh, 2)]);
    // The new reference is stored.
    lab.machine.at_relax(move |machine| {
        machine.store(Place::Bss(1), arc);
        machine.store(Place::Bss(2), arc);
    });
    assert!(told(&lab).is_empty());
}

#[test]
fn a_kernel_names_its_own_types() {
    let lab = Lab::new();
    let own = of_type(
        &lab,
        "<alloc::boxed::Box<emulated::Half<20, -1>>>::new",
        0,
        0,
    );
    lab.machine.write(own + 16, 2 << 32 | 7);
    lab.hold(0, own);
    assert_eq!(told(&lab), [(own, Miscounted::TooHigh, 2)]);
    lab.machine.write(own + 16, 7);
    assert!(told(&lab).is_empty());
    // It has no weak count: more words say nothing.
    lab.hold(1, own);
    assert!(told(&lab).is_empty());
    lab.machine.write(own + 16, (u32::MAX as usize - 1) << 32);
    assert_eq!(told(&lab), [(own, Miscounted::BelowZero, -3)]);
}

#[test]
fn nothing_is_judged_where_references_may_be_missing() {
    let refusal = |lab: &Lab| lab.detector.for_each_miscount(&mut |_| panic!());
    let lab = Lab::new();
    let arc = counted(&lab, 2, 1);
    lab.hold(0, arc);
    lab.say("stack=off");
    assert_eq!(refusal(&lab), Err(NotCompared::NoStacks));
    lab.say("stack=on");
    lab.machine.set_stop(Stop::Unsupported);
    assert!(matches!(refusal(&lab), Err(NotCompared::Unstopped(_))));
    lab.machine.set_stop(Stop::Works);
    lab.detector.exhaust_metadata(true);
    lab.block(64);
    lab.detector.exhaust_metadata(false);
    assert!(matches!(refusal(&lab), Err(NotCompared::Unrecorded(1..))));
    lab.say("off");
    assert_eq!(refusal(&lab), Err(NotCompared::NotDone(NotDone::Off)));
}

#[test]
fn want_of_memory_is_told() {
    let lab = Lab::new();
    (0..2000).for_each(|_| {
        let arc = lab.block_with(48, AllocOptions::new());
        lab.machine.write(arc, 1);
    });
    lab.machine.call_from(&[ARC]);
    (0..500).for_each(|_| _ = lab.block(48));
    lab.machine.set_metadata_budget(0);
    lab.detector.exhaust_metadata(true);
    let refused = lab.detector.for_each_miscount(&mut |_| panic!());
    assert_eq!(refused, Err(NotCompared::NotDone(NotDone::NoMemory)));
}
