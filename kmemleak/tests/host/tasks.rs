//! Which tasks can never run again, and what only they retain.

use kmemleak::{AllocOptions, Comm, Doubt, NoTasks, NotDone, StopError, TaskState, Wait, WaitsOn};
use kmemleak_emulated::{Place, Stop};

use crate::lab::{Lab, many};

/// Words of a stack.
const STACK: usize = 8;
const WORD: usize = 8;

/// What is asked of a lost task: its number, and the objects and bytes that only it retains.
pub type Lost = (u32, usize, usize);

impl Lab {
    /// A task that waits, with a live stack in memory that is no block; where that begins.
    pub fn waiting(&self, task: u32, on: WaitsOn) -> usize {
        self.machine.tasks.name_waiting(task, on);
        self.one_more_stack(task)
    }

    /// One more live stack of a task; where it begins.
    pub fn one_more_stack(&self, task: u32) -> usize {
        let stack = self.machine.slab(STACK * WORD);
        self.machine.tasks.add_stack(task, stack, STACK * WORD);
        stack
    }

    /// The lost tasks.
    pub fn lost(&self) -> Vec<Lost> {
        let mut lost = Vec::new();
        let summary = self
            .detector
            .for_each_lost_task(&mut |one| lost.push((one.task, one.objects, one.bytes)))
            .expect("on, and stopped");
        assert!(summary.complete && summary.doubt.is_none());
        assert_eq!(summary.lost, lost.len());
        lost
    }

    /// Their numbers.
    pub fn lost_numbers(&self) -> Vec<u32> {
        self.lost().into_iter().map(|(task, ..)| task).collect()
    }
}

pub fn at(address: usize) -> WaitsOn {
    WaitsOn::Address(address)
}

#[test]
fn nothing_is_lost_where_no_task_is_named() {
    let lab = Lab::new();
    lab.block(16);
    assert_eq!(lab.lost(), []);
}

#[test]
fn what_lies_in_no_block_can_be_reached_by_anybody() {
    let lab = Lab::new();
    for (task, place) in (10..).zip([Place::Bss(3), Place::Region(0, 1), Place::Dead(0)]) {
        lab.waiting(task, at(lab.machine.address(place)));
    }
    assert_eq!(lab.lost(), []);
}

#[test]
fn a_task_is_lost_with_the_last_pointer_to_what_it_waits_for() {
    let lab = Lab::new();
    let queue = lab.block(48);
    let stack = lab.waiting(10, at(queue + 8));
    lab.machine.write(stack, queue);
    lab.hold(0, queue);
    assert_eq!(lab.lost(), []);
    lab.hold(0, 0);
    assert_eq!(lab.lost(), [(10, 1, 48)]);
    // An interior pointer is enough, as everywhere.
    lab.hold(0, queue + 40);
    assert_eq!(lab.lost(), []);
}

#[test]
fn the_verdict_of_a_check_stays_as_it_is() {
    let lab = Lab::new();
    let (queue, inner, leak) = (lab.block(48), lab.block(64), lab.block(80));
    lab.hold(0, inner + 8);
    let stack = lab.waiting(10, at(queue));
    lab.machine.write(stack, queue);
    // Of what only the lost task holds, too, it is known how.
    let held = lab.block(96);
    lab.machine.write(stack + WORD, held + 8);
    assert_eq!(lab.leaks(), [leak], "all stacks are roots of a check");
    let (report, interior) = (lab.report(), lab.say("interior --full"));
    for block in [inner, held] {
        assert!(interior.contains(&format!("{block:#018x}")), "{interior}");
    }
    let dump = lab.say(&format!("dump {queue:#x}"));
    assert_eq!(lab.lost(), [(10, 2, 48 + 96)]);
    assert_eq!(
        (lab.report(), lab.say("interior --full")),
        (report, interior)
    );
    assert_eq!(
        lab.say(&format!("dump {queue:#x}")),
        dump,
        "no flag is left"
    );
    assert_eq!(lab.leaks(), [leak]);
}

#[test]
fn gray_and_black_objects_are_alive_for_tasks_as_well() {
    let lab = Lab::new();
    let gray = lab.block_with(16, AllocOptions::new().min_count(0));
    let black = lab.block_with(16, AllocOptions::new().min_count(-1));
    let held = lab.block(16);
    lab.machine.write(gray, held);
    lab.waiting(10, at(gray));
    lab.waiting(11, at(black));
    lab.waiting(12, at(held));
    assert_eq!(lab.lost(), []);
    lab.machine.write(gray, 0);
    lab.machine.write(black, held);
    assert_eq!(lab.lost_numbers(), [12], "a black object is not scanned");
}

#[test]
fn two_that_wait_for_each_other_are_lost() {
    let lab = Lab::new();
    let (one, other, shared, own) = (lab.block(40), lab.block(56), lab.block(72), lab.block(88));
    let first = lab.waiting(10, at(other));
    let second = lab.waiting(11, at(one));
    for (at, word) in [one, other, shared].into_iter().enumerate() {
        lab.machine.write(first + at * WORD, word);
        lab.machine.write(second + at * WORD, word);
    }
    lab.machine.write(second + 5 * WORD, own);
    assert_eq!(lab.lost(), [(10, 0, 0), (11, 1, 88)]);
    let summary = lab.detector.for_each_lost_task(&mut |_| ()).expect("on");
    assert_eq!((summary.named, summary.waiting, summary.lost), (2, 2, 2));
    assert_eq!((summary.objects, summary.bytes), (4, 40 + 56 + 72 + 88));
    // Whoever reaches one of them can wake one, and that wakes the other.
    lab.hold(0, one);
    assert_eq!(lab.lost(), []);
}

#[test]
fn who_waits_for_the_end_of_a_task_waits_for_what_that_waits_for() {
    let lab = Lab::new();
    let queue = lab.block(48);
    lab.waiting(10, WaitsOn::Task(11));
    lab.waiting(11, WaitsOn::Task(12));
    lab.waiting(12, at(queue));
    lab.waiting(13, WaitsOn::Task(99));
    lab.waiting(14, WaitsOn::Task(14));
    assert_eq!(lab.lost_numbers(), [10, 11, 12, 14]);
    lab.hold(0, queue);
    assert_eq!(lab.lost_numbers(), [14], "only itself");
}

/// A chain of tasks: the stack of each holds what the next one waits for. What the first one waits for, and the searches it takes.
fn chain(lab: &Lab, tasks: u32, order: impl Iterator<Item = u32>) -> usize {
    let queues: Vec<usize> = (0..=tasks).map(|_| lab.block(32)).collect();
    for task in order {
        let stack = lab.waiting(100 + task, at(queues[task as usize]));
        lab.machine.write(stack, queues[task as usize + 1]);
    }
    queues[0]
}

#[test]
fn a_long_chain_takes_work_in_proportion_to_its_length() {
    let searches = |tasks: u32, turned: bool| {
        let lab = Lab::new();
        let first = match turned {
            true => chain(&lab, tasks, (0..tasks).rev()),
            false => chain(&lab, tasks, 0..tasks),
        };
        assert_eq!(lab.lost().len(), tasks as usize);
        lab.hold(0, first);
        let summary = lab.detector.for_each_lost_task(&mut |_| ()).expect("on");
        assert_eq!((summary.waiting, summary.lost), (tasks as usize, 0));
        summary.searches
    };
    let few = many(1000) as u32;
    for turned in [false, true] {
        let (short, long) = (searches(few, turned), searches(2 * few, turned));
        assert!(long <= 2 * short + 100, "{short} searches, then {long}");
        assert!(short <= 30 * u64::from(few), "{short} searches for {few}");
    }
}

#[test]
fn each_stack_and_each_object_is_read_once() {
    // So an object that needs two pointers is not held by one that is read twice.
    let lab = Lab::new();
    let (queue, next) = (lab.block(32), lab.block(32));
    let twice = lab.block_with(32, AllocOptions::new().min_count(2));
    let stack = lab.waiting(10, at(queue));
    lab.machine.write(stack, next);
    lab.machine.write(stack + WORD, twice);
    lab.hold(0, queue);
    lab.waiting(11, at(next));
    lab.waiting(12, at(twice));
    assert_eq!(lab.lost_numbers(), [12]);
    lab.machine.write(next, twice);
    assert_eq!(lab.lost(), []);
}

/// A task that waits, whose stack is a block that is not scanned; the block.
fn on_tracked_stack(lab: &Lab, task: u32, wait: impl FnOnce(usize) -> WaitsOn) -> usize {
    let block = lab.machine.vmalloc(4096);
    lab.detector.alloc(block, 4096, AllocOptions::new());
    lab.detector.no_scan(block);
    lab.machine.tasks.add_stack(task, block + 2048, 2048);
    let control = lab.block(64);
    // Words of a control block: the stack, and where the stack pointer was saved.
    lab.machine.write(control, block);
    lab.machine.write(control + 8, block + 2048);
    // In the list of all tasks.
    lab.hold(task as usize, control);
    lab.machine.tasks.name(TaskState {
        task,
        comm: Comm::new("own"),
        block: Some(control),
        frame_pointer: None,
        wait: Some(Wait {
            on: wait(block),
            what: "completion",
            since_us: 0,
        }),
    });
    block
}

#[test]
fn what_lies_on_its_own_stack_must_be_reached_from_elsewhere() {
    let lab = Lab::new();
    let stack = on_tracked_stack(&lab, 10, |stack| at(stack + 3000));
    lab.machine.write(stack + 2104, stack + 3000);
    assert_eq!(
        lab.lost(),
        [(10, 2, 4096 + 64)],
        "its own pointer counts for nothing"
    );
    // Who is to complete it points there.
    let request = lab.block(24);
    lab.machine.write(request, stack + 3000);
    lab.hold(0, request);
    assert_eq!(lab.lost(), []);
}

#[test]
fn what_lies_on_the_stack_of_another_task_is_reached_when_that_goes_on() {
    let lab = Lab::new();
    let queue = lab.block(48);
    let stack = on_tracked_stack(&lab, 10, |_| at(queue));
    lab.waiting(11, at(stack + 3000));
    assert_eq!(lab.lost_numbers(), [10, 11]);
    lab.hold(0, queue);
    assert_eq!(lab.lost(), []);
}

#[test]
fn what_lies_on_the_stack_of_a_task_that_can_run_is_reached() {
    let lab = Lab::new();
    let block = lab.machine.vmalloc(4096);
    lab.detector.alloc(block, 4096, AllocOptions::new());
    lab.detector.no_scan(block);
    lab.machine.tasks.add_stack(10, block + 2048, 2048);
    lab.waiting(11, at(block + 3000));
    assert_eq!(lab.lost(), []);
}

/// A future in a block of its own, that its executor's list holds.
fn future(lab: &Lab, task: u32, list: usize, slot: usize) -> usize {
    let block = lab.block(96);
    lab.machine.write(list + slot * WORD, block);
    lab.machine.tasks.name(TaskState {
        task,
        comm: Comm::new("future"),
        block: Some(block),
        frame_pointer: None,
        wait: Some(Wait {
            on: at(block),
            what: "waker",
            since_us: 0,
        }),
    });
    block
}

#[test]
fn a_future_is_lost_when_nobody_holds_its_waker() {
    let lab = Lab::new();
    let list = lab.block(64);
    lab.hold(0, list);
    let (one, other) = (future(&lab, 10, list, 0), future(&lab, 11, list, 1));
    let buffer = lab.block(1000);
    lab.machine.write(one + 16, buffer);
    assert_eq!(lab.lost(), [], "a list that is not named wakes them");
    lab.machine.tasks.name_list(list..list + 64);
    assert_eq!(lab.lost(), [(10, 2, 1096), (11, 1, 96)]);
    // One holds the other's waker: if somebody wakes the first, it can wake the second.
    lab.machine.write(one + 24, other);
    assert_eq!(lab.lost_numbers(), [10, 11]);
    lab.hold(1, one);
    assert_eq!(lab.lost(), []);
    lab.machine.write(one + 24, 0);
    assert_eq!(lab.lost_numbers(), [11]);
}

#[test]
fn a_list_in_a_root_wakes_nobody() {
    let lab = Lab::new();
    let block = lab.block(64);
    lab.hold(5, block);
    lab.waiting(10, at(block));
    assert_eq!(lab.lost(), []);
    let word = lab.machine.address(Place::Bss(5));
    lab.machine.tasks.name_list(word..word + WORD);
    assert_eq!(lab.lost_numbers(), [10]);
    lab.hold(6, block);
    assert_eq!(lab.lost(), [], "the words beside it count");
}

#[test]
fn what_a_tasks_own_block_holds_is_its_own() {
    let lab = Lab::new();
    let list = lab.block(64);
    lab.hold(0, list);
    let (queue, control) = (lab.block(48), lab.block(40));
    // The list of all tasks leads to the control block, and that to what it waits for.
    lab.machine.write(list, control);
    lab.machine.write(control, queue);
    lab.waiting(10, at(queue));
    assert_eq!(lab.lost(), [], "no block is known to be its own");
    let named = |wait| TaskState {
        task: 10,
        comm: Comm::new("own"),
        block: Some(control + 8),
        frame_pointer: None,
        wait,
    };
    let wait = Wait {
        on: at(queue),
        what: "mutex",
        since_us: 0,
    };
    lab.machine.tasks.name(named(Some(wait)));
    assert_eq!(lab.lost(), [(10, 2, 88)]);
    lab.machine.tasks.name(named(None));
    assert_eq!(lab.lost(), [], "it is ready, or sleeps");
}

#[test]
fn an_own_block_that_was_passed_over_is_followed_when_its_task_goes_on() {
    let lab = Lab::new();
    let (control, queue, next) = (lab.block(40), lab.block(48), lab.block(56));
    lab.hold(0, control);
    lab.machine.write(control, next);
    // The marker comes to the control block long before it comes to the queue.
    let way: Vec<usize> = (0..50).map(|_| lab.block(24)).collect();
    lab.hold(1, way[0]);
    way.windows(2)
        .for_each(|pair| lab.machine.write(pair[0], pair[1]));
    lab.machine.write(way[49], queue);
    lab.machine.tasks.name(TaskState {
        task: 10,
        comm: Comm::new("own"),
        block: Some(control),
        frame_pointer: None,
        wait: Some(Wait {
            on: at(queue),
            what: "mutex",
            since_us: 0,
        }),
    });
    lab.waiting(11, at(next));
    assert_eq!(lab.lost(), []);
    lab.machine.write(way[20], 0);
    assert_eq!(lab.lost_numbers(), [10, 11]);
}

#[test]
fn percpu_blocks_and_areas_can_be_waited_for() {
    let lab = Lab::new();
    let handle = lab.machine.percpu(64);
    lab.detector.alloc_percpu(handle, 64);
    let copy = lab.machine.percpu_copy(handle, 1).expect("two CPUs");
    lab.waiting(10, at(copy + 8));
    assert_eq!(lab.lost_numbers(), [10]);
    lab.hold(0, handle);
    assert_eq!(lab.lost(), []);
    lab.hold(0, copy + 16);
    assert_eq!(lab.lost(), []);
    let area = lab.block(64);
    let buffer = lab.machine.vmalloc(8192);
    lab.detector.vmalloc(buffer, 8192, area);
    lab.waiting(11, at(area));
    lab.waiting(12, at(buffer));
    assert_eq!(lab.lost_numbers(), [11, 12]);
    lab.hold(1, area);
    let lost = lab.lost_numbers();
    assert!(!lost.contains(&11), "{lost:?}");
}

#[test]
fn a_lost_task_tells_where_it_waits_and_since_when() {
    let lab = Lab::new();
    let queue = lab.block(48);
    lab.machine.advance_us(5_000_000);
    let stack = lab.machine.slab(STACK * WORD);
    lab.machine.tasks.add_stack(10, stack, STACK * WORD);
    for (word, value) in [(1, stack + 4 * WORD), (2, 0x1111), (4, 0), (5, 0x2222)] {
        lab.machine.write(stack + word * WORD, value);
    }
    lab.machine.tasks.name(TaskState {
        task: 10,
        comm: Comm::new("consumer"),
        block: None,
        frame_pointer: Some(stack + WORD),
        wait: Some(Wait {
            on: at(queue + 16),
            what: "channel",
            since_us: 2_000_000,
        }),
    });
    let mut seen = 0;
    lab.detector
        .for_each_lost_task(&mut |one| {
            seen += 1;
            assert_eq!((one.task, one.comm), (10, Comm::new("consumer")));
            assert_eq!((one.on, one.what), (at(queue + 16), "channel"));
            assert_eq!(one.object, Some((queue, 48)));
            assert_eq!(one.since_us, 2_000_000);
            assert!(one.waited_us >= 3_000_000);
            assert_eq!(one.call_stack, [0x1111, 0x2222]);
        })
        .expect("on");
    assert_eq!(seen, 1);
}

#[test]
fn it_is_said_why_there_is_no_answer() {
    let lab = Lab::new();
    lab.machine.set_stop(Stop::Missing(1));
    let asked = |lab: &Lab| lab.detector.for_each_lost_task(&mut |_| ()).err();
    assert_eq!(asked(&lab), Some(NoTasks::Unstopped(StopError::Missing(1))));
    lab.machine.set_stop(Stop::Works);
    assert_eq!(asked(&lab), None);
    lab.say("off");
    assert_eq!(asked(&lab), Some(NoTasks::NotDone(NotDone::Off)));
}

#[test]
fn stacks_count_even_if_they_are_no_roots_of_checks() {
    let lab = Lab::new();
    let queue = lab.block(48);
    lab.machine.store(Place::Stack(0), queue);
    lab.waiting(10, at(queue));
    lab.say("stack=off");
    assert_eq!(lab.lost(), []);
}

#[test]
fn want_of_memory_loses_no_task() {
    let lab = Lab::new();
    let queues: Vec<usize> = (0..many(500)).map(|_| lab.block(32)).collect();
    for (task, &queue) in (100..).zip(&queues) {
        lab.waiting(task, at(queue));
        lab.machine
            .write(lab.waiting(100_000 + task, at(queue)), queue);
    }
    for granted in (0..64).step_by(5) {
        lab.detector.refuse_metadata(granted..u64::MAX);
        let mut lost = 0;
        let summary = lab
            .detector
            .for_each_lost_task(&mut |_| lost += 1)
            .expect("on");
        assert_eq!(summary.lost, lost);
        assert!(lost <= 2 * queues.len());
        assert!(lost == 2 * queues.len() || !summary.complete, "{granted}");
    }
    lab.detector.refuse_metadata(0..0);
    assert_eq!(lab.lost().len(), 2 * queues.len());
}

#[test]
fn what_was_not_recorded_makes_it_doubtful() {
    let lab = Lab::new();
    let queue = lab.block(48);
    lab.waiting(10, at(queue));
    lab.detector.exhaust_metadata(true);
    lab.machine.set_metadata_budget(0);
    (0..200).for_each(|_| _ = lab.block(4096));
    let summary = lab.detector.for_each_lost_task(&mut |_| ()).expect("on");
    assert!(matches!(summary.doubt, Some(Doubt::Unrecorded(1..))));
}

#[test]
fn a_question_that_is_given_up_leaves_nothing() {
    let lab = Lab::new();
    let queue = lab.block(48);
    lab.waiting(10, at(queue));
    let dump = lab.say(&format!("dump {queue:#x}"));
    for point in 1..40 {
        lab.machine.checkpoints.stop_at(point);
        let asked = lab.detector.for_each_lost_task(&mut |_| ());
        assert!(matches!(
            asked,
            Ok(_) | Err(NoTasks::NotDone(NotDone::Stopped))
        ));
        assert_eq!(lab.say(&format!("dump {queue:#x}")), dump, "{point}");
    }
    lab.machine.checkpoints.go_on();
    assert_eq!(lab.lost_numbers(), [10]);
}

#[test]
fn the_command_says_what_was_found() {
    let lab = Lab::new();
    lab.machine.call_from(&["driver_probe"]);
    let queue = lab.block(48);
    let stack = lab.waiting(10, at(queue + 8));
    lab.machine.write(stack, queue);
    let text = lab.say("tasks");
    for part in [
        "task 10, comm \"waits\", can never run again:",
        &format!(
            "waits for wait queue at {:#018x}, in object {queue:#018x} (size 48)",
            queue + 8
        ),
        "only it retains 1 object (48 bytes)",
        "kmemleak: 1 of 1 waiting task can never run again; only these retain 1 object (48 bytes)",
    ] {
        assert!(text.contains(part), "{part}\nin\n{text}");
    }
    lab.hold(0, queue);
    assert_eq!(
        lab.say("tasks"),
        "kmemleak: 0 of 1 waiting task can never run again\n"
    );
}
