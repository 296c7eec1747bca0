//! Names of tasks: there are numbers for some two thousand, and each goes to another name when no object has it.

use kmemleak::{AllocOptions, Context, Level};
use kmemleak_emulated::{comm_asked, set_comm, set_current};

use crate::lab::Lab;

/// More names than there are numbers.
const TOO_MANY: u32 = 2100;

/// From here on the calling thread is another task, on CPU 0.
fn become_task(task: u32, comm: &str) {
    become_task_on(0, task, comm);
}

fn become_task_on(cpu: u32, task: u32, comm: &str) {
    set_current(Context {
        task,
        cpu,
        level: Level::Task,
    });
    set_comm(comm);
}

/// Tasks that come, allocate, free, and go.
fn come_and_go(lab: &Lab, tasks: core::ops::Range<u32>) {
    for task in tasks {
        become_task(task, &format!("short-{task}"));
        let block = lab.block(64);
        lab.free(block);
    }
}

/// What the detector says of the object at an address.
fn said_of(lab: &Lab, block: usize) -> String {
    lab.say(&format!("dump {block:#x}"))
}

#[test]
fn a_name_that_cannot_be_kept_is_asked_for_once() {
    let lab = Lab::new();
    for task in 0..TOO_MANY {
        become_task(task, &format!("worker-{task}"));
        lab.block(64);
    }
    let last = lab.block(64);
    assert!(
        said_of(&lab, last).contains("comm \"?\""),
        "it has no name: {}",
        said_of(&lab, last)
    );
    let before = comm_asked();
    for _ in 0..1000 {
        lab.block(64);
    }
    assert_eq!(comm_asked(), before);
}

/// How often names are asked for while these tasks take turns on CPU 0, each with one allocation.
fn asked_in_turns(lab: &Lab, tasks: core::ops::Range<u32>, turns: u32) -> usize {
    let before = comm_asked();
    for _ in 0..turns {
        for task in tasks.clone() {
            become_task(task, &format!("turn-{task}"));
            let block = lab.block(64);
            lab.free(block);
        }
    }
    comm_asked() - before
}

#[test]
fn tasks_that_take_turns_are_known_with_a_name_and_without() {
    let lab = Lab::new();
    let with_names = asked_in_turns(&lab, 10_000..10_004, 1000);
    for task in 0..TOO_MANY {
        become_task(task, &format!("worker-{task}"));
        lab.block(64);
    }
    let without_names = asked_in_turns(&lab, 20_000..20_004, 1000);
    become_task(20_001, "turn-20001");
    assert!(said_of(&lab, lab.block(64)).contains("comm \"?\""));
    // A few times in a thousand, since it may have changed.
    for asked in [with_names, without_names] {
        assert!((4..100).contains(&asked), "asked {asked} times");
    }
}

#[test]
fn a_task_that_is_renamed_has_its_new_name_after_some_turns() {
    let lab = Lab::new();
    let mut named_after = None;
    for turn in 0..1000 {
        become_task(2, "other");
        lab.block(64);
        become_task(1, if turn == 0 { "before" } else { "after" });
        let block = lab.block(64);
        if said_of(&lab, block).contains("comm \"after\"") {
            named_after.get_or_insert(turn);
        } else {
            assert_eq!(named_after, None, "it goes back to its old name");
        }
    }
    assert!(
        named_after.is_some_and(|turns| turns <= 300),
        "{named_after:?}"
    );
}

#[test]
fn a_task_without_a_name_gets_one_when_names_are_free_again() {
    let lab = Lab::new();
    let mut blocks = Vec::new();
    for task in 0..TOO_MANY {
        become_task(task, &format!("worker-{task}"));
        blocks.push(lab.block(64));
    }
    asked_in_turns(&lab, 20_000..20_002, 100);
    blocks.drain(..).for_each(|block| lab.free(block));
    // Two tasks are enough to find that out.
    asked_in_turns(&lab, 20_000..20_002, 200_000);
    become_task(20_001, "turn-20001");
    assert!(said_of(&lab, lab.block(64)).contains("comm \"turn-20001\""));
}

#[test]
fn a_name_is_kept_after_thousands_of_tasks_have_come_and_gone() {
    let lab = Lab::new();
    come_and_go(&lab, 1..5001);
    become_task(5001, "the-5001st");
    let lost = lab.block(64);
    assert_eq!(lab.leaks(), [lost]);
    let report = lab.report();
    assert!(report.contains("comm \"the-5001st\", pid 5001"), "{report}");
}

#[test]
fn what_lives_keeps_its_name() {
    let lab = Lab::new();
    let mut old = Vec::new();
    for task in 0..1000 {
        become_task(task, &format!("long-{task}"));
        // One in the notes, far away, or a part of what it was.
        let block = match task % 3 {
            0 => lab.block(64),
            1 => {
                let block = lab.machine.slab(64) + 4;
                lab.detector.alloc(block, 16, AllocOptions::new());
                block
            }
            _ => {
                let block = lab.block(1024);
                lab.detector.free_part(block + 256, 512);
                block + 768
            }
        };
        old.push((block, task));
        come_and_go(&lab, 10_000 + task * 10..10_000 + task * 10 + 10);
    }
    for (block, task) in old {
        let said = said_of(&lab, block);
        assert!(said.contains(&format!("comm \"long-{task}\",")), "{said}");
    }
}

#[test]
fn names_are_found_again_where_there_are_too_many_records_for_one_step() {
    let lab = Lab::new();
    become_task(1, "many");
    (0..20_000).for_each(|_| {
        lab.block(64);
    });
    come_and_go(&lab, 10..6000);
    become_task(7000, "late");
    lab.detector.check().expect("on");
    let block = lab.block(64);
    assert!(said_of(&lab, block).contains("comm \"late\","));
}

#[test]
fn what_is_gone_is_never_given_another_name() {
    let lab = Lab::new();
    become_task(1, "leaky");
    let lost = lab.block(64);
    assert_eq!(lab.leaks(), [lost]);
    assert!(lab.say("report --all --full").contains("comm \"leaky\""));
    lab.free(lost);
    come_and_go(&lab, 10..5000);
    let report = lab.say("report --all --full");
    assert!(report.contains(&format!("{lost:#018x}")), "{report}");
    for other in report.split("comm \"").skip(1) {
        assert!(
            other.starts_with("?\"") || other.starts_with("leaky\""),
            "{report}"
        );
    }
}

#[test]
fn each_cpu_remembers_a_task_however_many_there_are() {
    let lab = Lab::new();
    let cpus = [0, 1, 63, 64, 65, 128, 4095];
    let mut blocks = Vec::new();
    for round in 0..3 {
        for cpu in cpus {
            become_task_on(cpu, 100 + cpu, &format!("on-{cpu}"));
            let before = comm_asked();
            blocks.push((lab.block(64), cpu));
            let expected = usize::from(round == 0);
            assert_eq!(comm_asked() - before, expected, "on CPU {cpu}");
        }
    }
    for (block, cpu) in blocks {
        assert!(said_of(&lab, block).contains(&format!("comm \"on-{cpu}\",")));
    }
}

#[test]
fn a_cpu_beyond_all_numbers_has_tasks_without_names() {
    let lab = Lab::new();
    become_task_on(4096, 1, "far");
    let block = lab.block(64);
    assert!(said_of(&lab, block).contains("comm \"?\""));
    assert_eq!(lab.leaks(), [block]);
}
