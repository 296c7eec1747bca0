//! Several threads allocate and free while checks run.

use std::sync::atomic::{AtomicBool, Ordering};

use kmemleak::{AllocOptions, Context, Level};
use kmemleak_emulated::{CallStacks, Clock, Machine, Place, Stop, set_comm, set_current};

use crate::lab::{Lab, many};

const THREADS: usize = 4;
/// Changes that each thread makes.
const ROUNDS: usize = many(3000);

fn lab() -> Lab {
    let builder = Machine::builder().cpus(THREADS as u32);
    Lab::of(builder.clock(Clock::Real).call_stacks(CallStacks::Walked))
}

/// What one thread does: a list whose head is a word of its own per-CPU area; blocks are put in front of it and
/// taken from there. At any moment when the world is stopped all of the thread's blocks are in the list, and
/// one more is in the thread's "register".
fn mutate(lab: &Lab, thread: usize) {
    set_current(Context {
        task: 100 + thread as u32,
        cpu: thread as u32,
        level: Level::Task,
    });
    set_comm("mutator");
    let head = Place::PerCpu(thread as u32, 0);
    let mut depth = 0;
    for round in 0..ROUNDS {
        let _running = lab.machine.running();
        if depth == 0 || round % 7 < 4 {
            let size = 16 + round % 13 * 24;
            let block = lab.machine.slab(size);
            lab.detector.alloc(block, size, AllocOptions::new());
            lab.machine.write(block + 8, lab.machine.load(head));
            lab.machine.store(head, block);
            depth += 1;
        } else {
            let block = lab.machine.load(head);
            lab.machine.store(head, lab.machine.read(block + 8));
            lab.free(block);
            depth -= 1;
        }
    }
}

/// The threads run, `check` is called over and over meanwhile; then everything is as it must be.
fn storm(lab: &Lab, check: impl Fn() + Sync) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || mutate(lab, thread)))
            .collect();
        let checker = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                check();
            }
        });
        threads
            .into_iter()
            .for_each(|thread| thread.join().expect("no panic"));
        done.store(true, Ordering::Relaxed);
        checker.join().expect("no panic");
    });
    assert_eq!(lab.warnings(), "");
    assert_eq!(lab.leaks(), []);
    let live = lab.tracked();
    lab.machine.store(Place::Data(0), 0);
    (0..THREADS).for_each(|cpu| lab.machine.store(Place::PerCpu(cpu as u32, 0), 0));
    assert_eq!(lab.leaks().len(), live);
    assert!(live > 0);
}

#[test]
fn a_stopped_world_shows_no_leak_that_is_none() {
    let lab = lab();
    storm(&lab, || assert_eq!(lab.leaks(), []));
}

#[test]
fn passes_beside_it_end_and_never_name_what_stays() {
    let lab = lab();
    lab.machine.set_stop(Stop::Unsupported);
    let stays = lab.block(64);
    lab.machine.store(Place::Data(0), stays);
    storm(&lab, || {
        lab.detector.check().expect("on");
        assert!(!lab.listed().contains(&stays));
    });
}

#[test]
fn commands_from_several_threads_at_once() {
    let lab = lab();
    storm(&lab, || {
        std::thread::scope(|scope| {
            for word in ["scan", "status", "report", "scan=5"] {
                let lab = &lab;
                scope.spawn(move || assert!(!lab.say(word).is_empty()));
            }
        });
    });
}

#[test]
fn off_while_they_run() {
    let lab = lab();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let lab = &lab;
            scope.spawn(move || mutate(lab, thread));
        }
        lab.detector.check().expect("on");
        lab.say("off");
    });
    lab.say("clear");
    assert_eq!(lab.machine.metadata_pages(), 0);
    assert_eq!(lab.tracked(), 0);
    assert_eq!(lab.warnings(), "");
}

#[test]
fn off_and_clear_while_they_run() {
    let lab = lab();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let lab = &lab;
            scope.spawn(move || mutate(lab, thread));
        }
        lab.detector.check().expect("on");
        lab.say("off");
        lab.say("clear");
    });
    assert_eq!(lab.machine.metadata_pages(), 0);
    assert_eq!(lab.tracked(), 0);
}
