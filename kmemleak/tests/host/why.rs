//! Why an address is, or is not, reported: each answer.

use std::sync::atomic::Ordering;

use kmemleak::{
    AllocOptions, Answer, Clue, HeldBy, LiesIn, NoAnswer, NotDone, Rank, Reached, Root, RootKind,
    Slot, SlotPlace, StopError, Unreported, Untracked, Why,
};
use kmemleak_emulated::{Machine, Place, Stop};

use crate::lab::Lab;
use crate::sparse::{BLOCKS, ROOT, SparseLab};

fn why(lab: &Lab, address: usize) -> Why {
    lab.detector.why(address, &mut |_| ()).expect("an answer")
}

fn answer(lab: &Lab, address: usize) -> Answer {
    why(lab, address).answer
}

fn sparse_answer(lab: &SparseLab, address: usize) -> Answer {
    let why = lab.detector.why(address, &mut |_| ());
    why.expect("an answer").answer
}

/// The words of the way.
fn steps(lab: &Lab, address: usize) -> Vec<Slot> {
    let mut steps = Vec::new();
    let mut look = |clue: Clue<'_>| {
        if let Clue::Step(slot) = clue {
            steps.push(slot);
        }
    };
    lab.detector.why(address, &mut look).expect("an answer");
    steps
}

fn held_by(answer: Answer) -> Option<HeldBy> {
    match answer {
        Answer::Reachable(reached) => reached.held_by,
        other => panic!("{other:?}"),
    }
}

/// A machine with an arena that has a first block, of which these tests are not.
fn begun() -> Lab {
    let lab = Lab::new();
    let first = lab.block(64);
    lab.detector.not_leak(first);
    lab
}

fn nothing(answer: Answer) -> Untracked {
    match answer {
        Answer::Untracked(untracked) => untracked,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_never_reported() {
    let lab = Lab::new();
    let black = lab.block_with(64, AllocOptions::new().min_count(-1));
    let gray = lab.block(64);
    lab.detector.not_leak(gray);
    lab.detector.disabled_begin();
    let disabled = lab.block(64);
    lab.detector.disabled_end();
    let physical = lab.machine.arena(4096);
    lab.detector.alloc_phys(physical, 4096);
    assert_eq!(answer(&lab, black + 8), Answer::Ignored);
    assert_eq!(answer(&lab, gray), Answer::NoLeak);
    assert_eq!(answer(&lab, disabled), Answer::NoLeak);
    assert_eq!(answer(&lab, physical), Answer::Physical);
    let said = lab.say(&format!("why {black:x}"));
    assert_eq!(
        said,
        format!(
            "object {black:#018x} (size 64): never reported: it is ignored (black), so it is not scanned either\n\
             kmemleak: look for the call of `ignore`, or an allocation with min_count -1\n"
        )
    );
}

#[test]
fn what_lies_in_a_root() {
    let lab = Lab::new();
    let block = lab.block(64);
    lab.machine.add_root(block - 8, 80);
    let Answer::InRoot(root) = answer(&lab, block + 1) else {
        panic!("not in a root")
    };
    assert_eq!((root.start, root.len), (block - 8, 80));
    assert_eq!(lab.leaks(), [], "it is never reported");
    lab.machine.remove_root(block - 8);
    assert_ne!(answer(&lab, block), Answer::InRoot(root));
    lab.detector.region_add(block, 64);
    assert!(matches!(answer(&lab, block), Answer::InRoot(root) if root.kind == RootKind::Region));
    assert!(
        lab.say(&format!("why {block:x}"))
            .contains("remove the region")
    );
    lab.detector.exclude(block, 64);
    assert!(matches!(answer(&lab, block), Answer::Unreported(_)));
}

#[test]
fn what_is_reached() {
    let lab = begun();
    let (top, below) = (lab.block(64), lab.block(64));
    lab.hold(3, top);
    lab.machine.write(top + 16, below);
    let why = why(&lab, below + 5);
    let object = why.object.expect("an object");
    assert_eq!((object.start, object.size), (below, 64));
    assert_eq!(
        why.answer,
        Answer::Reachable(Reached {
            held_by: Some(HeldBy::Variable),
            offset: 0,
            interior_only: false,
        })
    );
    let words = steps(&lab, below);
    assert_eq!(words[0].address, lab.machine.address(Place::Bss(3)));
    assert_eq!(words[1].address, top + 16);
    assert_eq!(words.len(), 2);
    // What is asked does not change the verdict.
    lab.machine.write(top + 16, 0);
    assert_eq!(lab.leaks(), [below]);
    answer(&lab, top);
    assert_eq!(lab.listed(), [below]);
}

#[test]
fn by_an_object_that_is_no_leak() {
    let lab = Lab::new();
    let (gray, below) = (lab.block(64), lab.block(64));
    lab.detector.not_leak(gray);
    lab.machine.write(gray + 8, below);
    assert_eq!(held_by(answer(&lab, below)), Some(HeldBy::NoLeak));
    let [step] = steps(&lab, below)[..] else {
        panic!("one step")
    };
    assert_eq!(
        step.place,
        SlotPlace::Object {
            start: gray,
            size: 64
        }
    );
}

/// Also if the way from the variable is the longer one.
#[test]
fn by_a_variable_rather_than_by_an_object_that_is_no_leak() {
    let lab = begun();
    let (gray, between, below) = (lab.block(64), lab.block(64), lab.block(64));
    lab.detector.not_leak(gray);
    lab.machine.write(gray + 8, below);
    lab.hold(0, between);
    lab.machine.write(between, below);
    assert_eq!(held_by(answer(&lab, below)), Some(HeldBy::Variable));
    let variable = lab.machine.address(Place::Bss(0));
    let way: Vec<usize> = steps(&lab, below).iter().map(|step| step.address).collect();
    assert_eq!(way, [variable, between]);
    lab.hold(0, 0);
    assert_eq!(held_by(answer(&lab, below)), Some(HeldBy::NoLeak));
}

#[test]
fn by_the_middle_alone() {
    let lab = begun();
    let (top, below) = (lab.block(64), lab.block(64));
    lab.hold(0, top + 24);
    lab.machine.write(top, below);
    let reached = |offset, interior_only| {
        Answer::Reachable(Reached {
            held_by: Some(HeldBy::Variable),
            offset,
            interior_only,
        })
    };
    assert_eq!(answer(&lab, top), reached(24, true));
    assert_eq!(answer(&lab, below), reached(0, true));
    assert!(
        lab.say(&format!("why {top:x}"))
            .contains("the last one to +0x18\n")
    );
    lab.hold(0, top);
    assert_eq!(answer(&lab, top), reached(0, false));
}

#[test]
fn by_stacks_alone() {
    let lab = begun();
    let (top, below) = (lab.block(64), lab.block(64));
    lab.machine.store(Place::Stack(5), top);
    lab.machine.write(top, below);
    assert_eq!(held_by(answer(&lab, top)), Some(HeldBy::Stack));
    assert_eq!(
        held_by(answer(&lab, below)),
        Some(HeldBy::Stack),
        "by what such a word holds"
    );
    // The way by a variable is the longer one, and the better one.
    let middle = lab.block(64);
    lab.hold(0, middle);
    lab.machine.write(middle, below);
    assert_eq!(held_by(answer(&lab, below)), Some(HeldBy::Variable));
    assert_eq!(steps(&lab, below)[1].address, middle);
    assert_eq!(held_by(answer(&lab, top)), Some(HeldBy::Stack));
    lab.machine.store(Place::Stack(5), 0);
    lab.machine.store(Place::Register(1), top);
    assert_eq!(held_by(answer(&lab, top)), Some(HeldBy::Stack));
}

/// An arena that lies in a root, though its blocks do not.
#[test]
fn by_free_memory_alone() {
    let lab = SparseLab::new();
    const ARENA: usize = BLOCKS + (1 << 24);
    let root = Root {
        kind: RootKind::Section,
        start: ARENA,
        len: 4096,
    };
    lab.platform().roots.lock().expect("free").push(root);
    (0..4).for_each(|block| lab.alloc(ARENA + 64 * block, 64));
    lab.alloc(BLOCKS, 64);
    lab.detector.free(ARENA + 64);
    lab.platform().write(ARENA + 64 + 8, BLOCKS);
    assert_eq!(lab.leaks(), []);
    assert_eq!(
        held_by(sparse_answer(&lab, BLOCKS)),
        Some(HeldBy::FreeMemory)
    );
    assert!(
        lab.say(&format!("why {BLOCKS:x}"))
            .contains("`Tracked::wiping`")
    );
    // The last block of the arena is free as well: there is none above, but it is remembered.
    lab.platform().write(ARENA + 64 + 8, 0);
    lab.detector.free(ARENA + 192);
    lab.platform().write(ARENA + 192 + 8, BLOCKS);
    assert_eq!(
        held_by(sparse_answer(&lab, BLOCKS)),
        Some(HeldBy::FreeMemory)
    );
    // In a block that is in use.
    lab.platform().write(ARENA + 192 + 8, 0);
    lab.platform().write(ARENA + 8, BLOCKS);
    assert_eq!(held_by(sparse_answer(&lab, BLOCKS)), Some(HeldBy::Variable));
    // Far from it, the root is one of variables.
    lab.platform().write(ARENA + 8, 0);
    lab.platform().write(ARENA + 3072, BLOCKS);
    assert_eq!(held_by(sparse_answer(&lab, BLOCKS)), Some(HeldBy::Variable));
}

#[test]
fn by_the_start_of_an_arena_alone() {
    let lab = SparseLab::new();
    (0..3).for_each(|block| lab.alloc(BLOCKS + 64 * block, 64));
    lab.hold(0, BLOCKS);
    lab.hold(1, BLOCKS + 64);
    assert_eq!(
        held_by(sparse_answer(&lab, BLOCKS)),
        Some(HeldBy::ArenaStart)
    );
    assert_eq!(
        held_by(sparse_answer(&lab, BLOCKS + 64)),
        Some(HeldBy::Variable)
    );
    // And what only the first block leads to.
    lab.platform().write(BLOCKS, BLOCKS + 128);
    assert_eq!(
        held_by(sparse_answer(&lab, BLOCKS + 128)),
        Some(HeldBy::ArenaStart)
    );
    // Blocks are below it: it is not the first.
    lab.alloc(BLOCKS - 4096, 64);
    assert_eq!(held_by(sparse_answer(&lab, BLOCKS)), Some(HeldBy::Variable));
    lab.detector.exclude(ROOT, 8);
    assert!(matches!(sparse_answer(&lab, BLOCKS), Answer::Unreported(_)));
}

#[test]
fn by_what_its_area_does_not_need() {
    let lab = SparseLab::new();
    let (block, area) = (BLOCKS + 4096, BLOCKS);
    lab.alloc(area, 64);
    lab.detector.vmalloc(block, 4096, area);
    lab.hold(0, area);
    lab.hold(1, area);
    lab.platform().write(area + 8, block);
    assert_eq!(lab.leaks(), []);
    lab.platform().write(area + 8, 0);
    lab.hold(2, area);
    assert_eq!(lab.leaks(), []);
    assert_eq!(held_by(sparse_answer(&lab, block)), Some(HeldBy::Area));
}

#[test]
fn what_is_reported() {
    let lab = begun();
    let (leader, owned) = (lab.block(64), lab.block(32));
    lab.machine.write(leader, owned);
    assert_eq!(lab.leaks(), [leader, owned]);
    assert_eq!(
        answer(&lab, leader + 3),
        Answer::Reported(Some(Rank::Leader {
            owned_objects: 1,
            owned_bytes: 32
        }))
    );
    assert_eq!(
        answer(&lab, owned),
        Answer::Reported(Some(Rank::Owned { leader }))
    );
    assert!(
        lab.say(&format!("why {owned:x}"))
            .contains(&format!("its leader {leader:#018x}"))
    );
    // Referenced again.
    lab.hold(0, leader);
    assert_eq!(held_by(answer(&lab, leader)), Some(HeldBy::Variable));
    lab.hold(0, 0);
    // Another object in its place is not in that verdict.
    lab.free(leader);
    lab.machine.advance_us(1);
    lab.detector.alloc(leader, 64, AllocOptions::new());
    assert_eq!(answer(&lab, leader), Answer::Unreported(Unreported::Newer));
}

#[test]
fn what_needs_more_references() {
    let lab = Lab::new();
    let block = lab.block_with(64, AllocOptions::new().min_count(3));
    lab.hold(0, block);
    lab.hold(1, block);
    assert_eq!(lab.leaks(), [block]);
    assert_eq!(why(&lab, block).references, Some((3, 2)));
    assert!(
        lab.say(&format!("why {block:x}"))
            .contains("needs 3 references, and 2 were found")
    );
}

#[test]
fn what_is_suppressed() {
    let lab = Lab::new();
    lab.machine.call_from(&["driver::probe"]);
    let hidden = lab.block(64);
    lab.machine.call_from(&["main"]);
    let below = lab.block(64);
    lab.machine.write(hidden, below);
    lab.detector.suppress("probe").expect("room");
    // Before there is a verdict as after it.
    for _ in 0..2 {
        let mut patterns = Vec::new();
        let mut look = |clue: Clue<'_>| {
            if let Clue::Suppression(one) = clue {
                patterns.push(one.pattern.to_string());
            }
        };
        let found = lab.detector.why(hidden, &mut look).expect("an answer");
        assert_eq!(found.answer, Answer::Suppressed);
        assert_eq!(patterns, ["probe"]);
        assert_eq!(lab.leaks(), []);
    }
    assert_eq!(answer(&lab, below), Answer::Suppressed);
    let said = lab.say(&format!("why {below:x}"));
    assert!(said.contains("a suppressed object leads to it"), "{said}");
    assert!(lab.say(&format!("why {hidden:x}")).contains("by \"probe\""));
    // Over its ceiling it hides nothing.
    lab.detector.suppress("probe:max=0").expect("room");
    assert_eq!(lab.leaks(), [hidden, below]);
    assert!(matches!(answer(&lab, hidden), Answer::Reported(_)));
    lab.machine.call_from(&["driver::probe"]);
    lab.machine.advance_us(1);
    let newer = lab.block(64);
    assert_eq!(answer(&lab, newer), Answer::Unreported(Unreported::Newer));
}

#[test]
fn what_is_not_in_the_last_report() {
    let lab = Lab::new();
    let unreported = |block| match answer(&lab, block) {
        Answer::Unreported(unreported) => unreported,
        other => panic!("{other:?}"),
    };
    let block = lab.block(64);
    assert_eq!(unreported(block), Unreported::NoVerdict);
    lab.hold(0, block);
    assert_eq!(lab.leaks(), []);
    lab.hold(0, 0);
    assert_eq!(unreported(block), Unreported::LostSince);
    lab.machine.advance_us(1);
    let newer = lab.block(64);
    assert_eq!(unreported(newer), Unreported::Newer);
    let scan = |us| {
        lab.machine.advance_us(us);
        lab.detector.scan().expect("on");
    };
    scan(1);
    assert_eq!(unreported(block), Unreported::Young(5_000_000));
    scan(5_000_000);
    let young = lab.block(64);
    scan(5_000_000);
    assert_eq!(lab.listed(), [block, newer]);
    assert_eq!(unreported(young), Unreported::FirstTime);
    lab.machine.write(young, 77);
    assert_eq!(unreported(young), Unreported::Changed);
    let said = lab.say(&format!("why {young:x}"));
    assert!(said.contains("`scan` checks now"), "{said}");
}

/// What a scan before it saw counts for nothing at a check: neither how old a block was, nor that it was unreferenced.
#[test]
fn what_was_referenced_at_the_last_check_is_lost_since() {
    for stop in [Stop::Works, Stop::Unsupported] {
        let lab = Lab::new();
        lab.machine.set_stop(stop);
        let block = lab.block(64);
        for us in [1, 10_000_000] {
            // Young at first, then unreferenced for the first time at which its contents are these.
            lab.machine.advance_us(us);
            lab.machine.write(block, us as usize);
            lab.detector.scan().expect("on");
            assert_eq!(lab.listed(), []);
            lab.hold(0, block);
            assert_eq!(lab.leaks(), []);
            lab.hold(0, 0);
            let lost = Answer::Unreported(Unreported::LostSince);
            assert_eq!(answer(&lab, block), lost, "after {us} us, {stop:?}");
        }
    }
}

/// A check that was given up between two passes has suspects, and no verdict on them.
#[test]
fn what_is_suspected_and_not_confirmed() {
    let unconfirmed = (1..200).any(|steps| {
        let lab = Lab::new();
        let lost = lab.block(64);
        lab.hold(0, lost);
        assert_eq!(lab.leaks(), []);
        lab.hold(0, 0);
        lab.machine.set_stop(Stop::Unsupported);
        let mut left = steps;
        lab.machine.at_relax(move |machine| {
            left -= 1;
            if left == 0 {
                machine.ask_to_stop();
            }
        });
        let given_up = lab.detector.check() == Err(NotDone::Stopped);
        lab.machine.at_relax(|_| ());
        lab.machine.ask_no_more();
        lab.machine.set_stop(Stop::Works);
        given_up && answer(&lab, lost) == Answer::Unreported(Unreported::Unconfirmed)
    });
    assert!(unconfirmed, "no step was between two passes");
}

#[test]
fn where_nothing_is() {
    let lab = Lab::new();
    let block = lab.block(64);
    let at = |address| nothing(answer(&lab, address));
    let none = Untracked {
        lies_in: LiesIn::NoMemory,
        freed: None,
        end_of: None,
        unrecorded: 0,
    };
    for number in [0, 8, 1 << 47, usize::MAX >> 1] {
        assert_eq!(at(number), none);
    }
    let variable = lab.machine.address(Place::Data(4));
    let LiesIn::Root(root) = at(variable).lies_in else {
        panic!("it lies in a root")
    };
    assert!((root.start..root.start + root.len).contains(&variable));
    let said = lab.say(&format!("why {variable:x}"));
    assert!(said.contains("but a root: data 4\n"), "{said}");
    lab.detector.exclude(variable, 8);
    assert_eq!(at(variable).lies_in, LiesIn::Excluded);
    assert!(matches!(at(variable + 8).lies_in, LiesIn::Root(_)));
    let detector = core::ptr::from_ref(&*lab.detector).addr();
    assert_eq!(at(detector).lies_in, LiesIn::Detector);
    assert_eq!(at(block + 64).end_of, Some(block));
    assert_eq!(at(block + 65).lies_in, LiesIn::Unknown);
}

#[test]
fn where_a_block_was_freed() {
    let lab = Lab::new();
    lab.machine.call_from(&["maker"]);
    let block = lab.block(64);
    lab.machine.call_from(&["closer"]);
    lab.free(block);
    assert_eq!(nothing(answer(&lab, block + 8)).freed, Some(block));
    let said = lab.say(&format!("why {block:x}"));
    assert!(said.contains("was freed\n  allocated by (crc"), "{said}");
    assert!(said.contains("    maker\nkmemleak: "), "{said}");
    assert!(said.contains("kmemleak.free_stacks=on"), "{said}");
    lab.detector
        .boot_parameter("kmemleak.free_stacks=on")
        .expect("valid");
    lab.detector.alloc(block, 64, AllocOptions::new());
    lab.detector.free(block);
    // Asked twice: it is not forgotten because of the question.
    for _ in 0..2 {
        let said = lab.say(&format!("why {block:x}"));
        assert!(said.contains("  freed by (crc"), "{said}");
    }
}

#[test]
fn what_may_be_unrecorded() {
    let lab = Lab::new();
    lab.detector.exhaust_metadata(true);
    let block = lab.block(64);
    assert_eq!(nothing(answer(&lab, block)).unrecorded, 1);
    let said = lab.say(&format!("why {block:x}"));
    assert!(
        said.contains("1 record is missing for lack of memory, and it may be one of these"),
        "{said}"
    );
    assert!(said.contains("give the detector more memory"), "{said}");
    lab.detector.exhaust_metadata(false);
    // And what is listed is suspected only.
    let listed = lab.block(64);
    lab.leaks();
    assert!(
        lab.say(&format!("why {listed:x}"))
            .contains("a suspect only: 1 record")
    );
}

#[test]
fn copies_of_percpu_blocks() {
    let lab = Lab::of(Machine::builder().cpus(3));
    let handle = lab.machine.percpu(32);
    lab.detector.alloc_percpu(handle, 32);
    let copy = lab.machine.percpu_copy(handle, 2).expect("live");
    let found = why(&lab, copy + 8);
    assert_eq!(found.object.map(|object| object.start), Some(handle));
    lab.hold(0, copy);
    assert_eq!(held_by(answer(&lab, handle)), Some(HeldBy::Variable));
}

#[test]
fn where_the_world_can_not_be_stopped() {
    let lab = begun();
    let (held, lost) = (lab.block(64), lab.block(64));
    lab.hold(0, held);
    lab.machine.set_stop(Stop::Unsupported);
    let found = why(&lab, held);
    assert_eq!(found.beside, Some(StopError::Unsupported));
    assert_eq!(held_by(found.answer), Some(HeldBy::Variable));
    assert_eq!(
        answer(&lab, lost),
        Answer::Unreported(Unreported::NoVerdict)
    );
    assert!(lab.say(&format!("why {held:x}")).contains(
        "kmemleak: this platform cannot stop the world: other code ran meanwhile, so this may be out of date\n"
    ));
    lab.machine.ask_to_stop();
    let stopped = lab.detector.why(held, &mut |_| ());
    assert_eq!(stopped, Err(NoAnswer::Stopped));
}

#[test]
fn without_memory_for_the_way() {
    let lab = SparseLab::new();
    lab.alloc(BLOCKS, 64);
    lab.hold(0, BLOCKS);
    lab.leaks();
    lab.detector.exhaust_metadata(true);
    assert_eq!(held_by(sparse_answer(&lab, BLOCKS)), None);
    lab.detector.exhaust_metadata(false);
    assert_eq!(held_by(sparse_answer(&lab, BLOCKS)), Some(HeldBy::Variable));
    lab.platform().now_us.fetch_add(1, Ordering::Relaxed);
    lab.say("off");
    assert_eq!(lab.detector.why(BLOCKS, &mut |_| ()), Err(NoAnswer::Off));
}
