//! Tasks that go on when what they wait for is found: what of theirs is read then, and how often.

use kmemleak::{AllocOptions, Comm, TaskState, Wait, WaitsOn};
use kmemleak_emulated::{Machine, Place};

use crate::lab::{Lab, many};
use crate::tasks::at;

const WORD: usize = 8;

/// A task that waits and has a block of its own, and no stack.
fn with_block(lab: &Lab, task: u32, on: WaitsOn, block: usize) {
    lab.machine.tasks.name(TaskState {
        task,
        comm: Comm::new("own"),
        block: Some(block),
        frame_pointer: None,
        wait: Some(Wait {
            on,
            what: "completion",
            since_us: 0,
        }),
    });
}

#[test]
fn on_as_many_cpus_as_there_are() {
    for cpus in 1..=4 {
        let lab = Lab::of(Machine::builder().cpus(cpus));
        let (queue, next) = (lab.block(48), lab.block(48));
        lab.machine.write(lab.waiting(10, at(queue)), next);
        lab.waiting(11, at(next));
        assert_eq!(lab.lost(), [(10, 1, 48), (11, 0, 0)], "{cpus} CPUs");
        lab.hold(0, queue);
        assert_eq!(lab.lost(), [], "{cpus} CPUs");
        // By what is never scanned, and by what only the own block of a task holds that can run.
        lab.hold(0, 0);
        let black = lab.block_with(16, AllocOptions::new().min_count(-1));
        let stack = lab.waiting(12, at(black));
        lab.machine.write(stack, queue);
        assert_eq!(lab.lost(), [], "{cpus} CPUs");
        lab.machine.write(stack, 0);
        assert_eq!(lab.lost_numbers(), [10, 11], "{cpus} CPUs");
        let control = lab.block(40);
        lab.machine.write(control, queue);
        lab.machine.tasks.name(TaskState {
            task: 13,
            comm: Comm::new("ready"),
            block: Some(control),
            frame_pointer: None,
            wait: None,
        });
        assert_eq!(lab.lost(), [], "{cpus} CPUs");
    }
}

#[test]
fn the_first_numbers_are_those_of_tasks_as_well() {
    let lab = Lab::new();
    let queue = lab.block(48);
    for task in [0, 1] {
        lab.machine.write(lab.waiting(task, at(queue)), queue);
    }
    lab.waiting(2, WaitsOn::Task(0));
    lab.waiting(3, WaitsOn::Task(1));
    assert_eq!(
        lab.lost_numbers(),
        [0, 1, 2, 3],
        "their own stacks don't count"
    );
    lab.hold(0, queue);
    assert_eq!(lab.lost_numbers(), []);
}

#[test]
fn each_of_its_stacks_is_read() {
    for which in 0..3 {
        let lab = Lab::new();
        let (queue, next) = (lab.block(48), lab.block(56));
        lab.machine.tasks.name_waiting(10, at(queue));
        let stacks = [10; 3].map(|task| lab.one_more_stack(task));
        lab.waiting(11, at(next));
        lab.machine.write(stacks[which] + WORD, next);
        assert_eq!(lab.lost_numbers(), [10, 11]);
        lab.hold(0, queue);
        assert_eq!(lab.lost_numbers(), [], "stack {which}");
    }
}

/// The figure by which it is seen that the question does not become slow.
#[test]
fn each_step_is_a_search_that_is_counted() {
    let lab = Lab::new();
    let tasks = many(100) as u32;
    for task in 0..tasks {
        let queue = lab.block(32);
        lab.hold(task as usize % 64, queue);
        lab.waiting(100 + task, at(queue));
    }
    let summary = lab.detector.for_each_lost_task(&mut |_| ()).expect("on");
    // One for each stack, one for each object that somebody waits for, one for each task that goes on.
    let held = tasks.min(64);
    let least = u64::from(tasks + 2 * held);
    assert!(summary.searches >= least, "{} of {least}", summary.searches);
}

#[test]
fn what_waits_for_anybody_has_its_own_block_in_use() {
    let lab = Lab::new();
    let (control, queue) = (lab.block(40), lab.block(48));
    lab.machine.write(control, queue);
    let static_queue = lab.machine.address(Place::Bss(9));
    with_block(&lab, 10, at(static_queue), control);
    lab.waiting(11, at(queue));
    assert_eq!(lab.lost_numbers(), []);
    lab.machine.write(control, 0);
    assert_eq!(lab.lost_numbers(), [11]);
}

/// An object that needs two pointers is not held by one that is read twice.
#[test]
fn an_own_block_is_read_once_whoever_comes_to_it_first() {
    for listed in [false, true] {
        let lab = Lab::new();
        let (control, queue) = (lab.block(40), lab.block(48));
        let twice = lab.block_with(32, AllocOptions::new().min_count(2));
        lab.machine.write(control, twice);
        with_block(&lab, 10, at(queue), control);
        lab.waiting(11, at(twice));
        lab.hold(0, queue);
        if listed {
            // The marker comes to the control block when the task goes on already.
            let way: Vec<usize> = (0..50).map(|_| lab.block(24)).collect();
            lab.hold(1, way[0]);
            way.windows(2)
                .for_each(|pair| lab.machine.write(pair[0], pair[1]));
            lab.machine.write(way[49], control);
        }
        assert_eq!(lab.lost_numbers(), [11], "in a list: {listed}");
        lab.machine.write(control + 8, twice);
        assert_eq!(lab.lost_numbers(), [], "in a list: {listed}");
    }
}

#[test]
fn a_list_of_tasks_retains_nothing_for_a_lost_one() {
    let lab = Lab::new();
    let (queue, list, other) = (lab.block(48), lab.block(64), lab.block(80));
    let stack = lab.waiting(10, at(queue));
    lab.machine.write(stack, queue);
    lab.machine.write(stack + WORD, list);
    lab.machine.write(list, other);
    assert_eq!(lab.lost(), [(10, 3, 48 + 64 + 80)]);
    lab.machine.tasks.name_list(list..list + 64);
    assert_eq!(lab.lost(), [(10, 2, 48 + 64)], "the list, and no more");
}

/// Each request for memory of the detector's own fails in turn.
#[test]
fn a_list_for_which_there_is_no_memory_makes_the_answer_incomplete() {
    for in_block in [false, true] {
        for request in 0.. {
            let lab = Lab::new();
            let (list, queue) = match in_block {
                true => (lab.block(64), lab.block(48)),
                false => (lab.machine.address(Place::Bss(5)), lab.block(48)),
            };
            lab.hold(6, list);
            lab.machine.write(list, queue);
            lab.machine.tasks.name_list(list..list + WORD);
            lab.waiting(10, at(queue));
            lab.detector.refuse_metadata(request..request + 1);
            let mut lost = Vec::new();
            let summary = lab
                .detector
                .for_each_lost_task(&mut |one| lost.push(one.task))
                .expect("on");
            assert!(
                lost == [10] || !summary.complete,
                "{in_block}, request {request}: {lost:?}"
            );
            if request >= lab.detector.metadata_requests() {
                assert!(request > 0 && lost == [10] && summary.complete);
                break;
            }
        }
    }
}
