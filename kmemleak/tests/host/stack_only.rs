//! What only words of stacks keep alive. Random graphs are in `graph`.

use kmemleak::{AllocOptions, NoStackOnly, NotDone, StackOnly, StopError};
use kmemleak_emulated::{Machine, Place, Stop};

use crate::lab::Lab;

const WORD: usize = 8;

/// The objects that a word of a stack points to and nothing else holds, with where that word lies; and how many objects hang from them.
fn stack_only(lab: &Lab) -> (Vec<(usize, usize)>, usize) {
    let mut found = Vec::new();
    let sums = lab
        .detector
        .for_each_stack_only(&mut |object: StackOnly| {
            found.push((object.start, object.held_by.address));
        })
        .expect("on, and stopped");
    assert!(sums.complete && sums.doubt.is_none());
    assert_eq!(sums.objects, found.len());
    (found, sums.behind_objects)
}

fn refusal(lab: &Lab) -> Option<NoStackOnly> {
    lab.detector.for_each_stack_only(&mut |_| ()).err()
}

#[test]
fn what_something_else_holds_is_not_listed() {
    for cpus in [1, 3] {
        let lab = Lab::of(Machine::builder().cpus(cpus));
        let (lost, local, shared, owner, owned) = (
            lab.block(16),
            lab.block(16),
            lab.block(16),
            lab.block(16),
            lab.block(16),
        );
        let at = |place| lab.machine.address(place);
        for (word, block) in [local, shared, owned].into_iter().enumerate() {
            lab.machine.store(Place::Stack(word), block);
        }
        lab.hold(0, shared);
        lab.hold(1, owner);
        lab.machine.write(owner, owned);
        let only = (vec![(local, at(Place::Stack(0)))], 0);
        assert_eq!(stack_only(&lab), only);
        assert_eq!(lab.leaks(), [lost], "a check takes stacks for roots");
        // The last that held it goes, and only the stack is left.
        lab.hold(1, 0);
        let both = vec![(local, at(Place::Stack(0))), (owned, at(Place::Stack(2)))];
        assert_eq!(stack_only(&lab), (both, 0));
        // A register's word is a stack's newest one, and a pointer to the middle holds as well.
        lab.machine.store(Place::Stack(0), 0);
        lab.machine.store(Place::Stack(2), 0);
        lab.machine.store(Place::Register(1), local + 9);
        let newest = vec![(local, at(Place::Register(1)))];
        assert_eq!(stack_only(&lab), (newest, 0));
    }
}

#[test]
fn what_hangs_from_there_is_counted() {
    let lab = Lab::new();
    let chain: Vec<usize> = (0..6).map(|_| lab.block(32)).collect();
    for pair in chain.windows(2) {
        lab.machine.write(pair[0], pair[1]);
    }
    lab.machine.write(chain[5], chain[0]);
    lab.machine.store(Place::Stack(3), chain[2]);
    let word = lab.machine.address(Place::Stack(3));
    assert_eq!(stack_only(&lab), (vec![(chain[2], word)], 5));
    lab.machine.store(Place::Stack(4), chain[0]);
    let other = lab.machine.address(Place::Stack(4));
    assert_eq!(
        stack_only(&lab),
        (vec![(chain[0], other), (chain[2], word)], 4)
    );
    lab.hold(0, chain[4]);
    assert_eq!(stack_only(&lab), (vec![], 0));
}

/// Words that are not enough hold nothing; of several words the lowest is told.
#[test]
fn references_that_an_object_needs_are_counted() {
    let lab = Lab::new();
    let twice = lab.block_with(64, AllocOptions::new().min_count(2));
    lab.machine.store(Place::Stack(5), twice);
    assert_eq!(stack_only(&lab), (vec![], 0));
    assert_eq!(lab.leaks(), [twice]);
    lab.hold(0, twice);
    let word = |at| lab.machine.address(Place::Stack(at));
    assert_eq!(stack_only(&lab), (vec![(twice, word(5))], 0));
    lab.hold(0, 0);
    lab.machine.store(Place::Stack(2), twice);
    assert_eq!(stack_only(&lab), (vec![(twice, word(2))], 0));
    lab.hold(0, twice);
    lab.hold(1, twice);
    assert_eq!(stack_only(&lab), (vec![], 0));
}

/// The words of a stack count as a stack's although the block that it lies in is read as others are.
#[test]
fn a_stack_in_a_block_is_a_stack() {
    let lab = Lab::new();
    let memory = lab.block(16 * WORD);
    lab.hold(0, memory);
    lab.machine.tasks.add_stack(7, memory + 8 * WORD, 8 * WORD);
    let (below, local) = (lab.block(16), lab.block(16));
    lab.machine.write(memory + WORD, below);
    lab.machine.write(memory + 9 * WORD, local);
    assert_eq!(
        stack_only(&lab),
        (vec![(local, memory + 9 * WORD)], 0),
        "below the stack pointer is a block's memory as any other"
    );
    assert_eq!(lab.leaks(), []);
}

#[test]
fn it_is_asked_also_where_stacks_are_no_roots() {
    let lab = Lab::new();
    let local = lab.block(16);
    lab.machine.store(Place::Stack(0), local);
    lab.say("stack=off");
    assert_eq!(lab.leaks(), [local]);
    assert_eq!(stack_only(&lab).0.len(), 1);
    assert_eq!(lab.listed(), [local]);
}

#[test]
fn the_world_must_stand_still() {
    let lab = Lab::new();
    lab.machine.store(Place::Stack(0), lab.block(16));
    lab.machine.set_stop(Stop::Missing(1));
    let unstopped = NoStackOnly::Unstopped(StopError::Missing(1));
    assert_eq!(refusal(&lab), Some(unstopped));
    lab.machine.set_stop(Stop::Works);
    lab.machine.checkpoints.stop_at(2);
    assert_eq!(refusal(&lab), Some(NotDone::Stopped.into()));
    lab.machine.checkpoints.go_on();
    assert_eq!(stack_only(&lab).0.len(), 1);
    lab.say("off");
    assert_eq!(refusal(&lab), Some(NotDone::Off.into()));
}
