//! Scopes in which a task's allocations are no leaks.

use kmemleak::{Context, Level};
use kmemleak_emulated::set_current;

use crate::lab::Lab;

/// Runs `work` as this task, at this level.
fn run_as<R>(task: u32, level: Level, work: impl FnOnce() -> R) -> R {
    let context = |task, level| Context {
        task,
        cpu: 0,
        level,
    };
    set_current(context(task, level));
    let result = work();
    set_current(context(1, Level::Task));
    result
}

#[test]
fn blocks_of_the_scope_are_roots() {
    let lab = Lab::new();
    let owned = lab.block(64);
    lab.detector.disabled_begin();
    let root = lab.block(64);
    lab.detector.disabled_end();
    let after = lab.block(64);
    assert_eq!(lab.leaks(), [owned, after]);
    lab.machine.write(root, owned);
    assert_eq!(lab.leaks(), [after]);
}

#[test]
fn black_ones_stay_black() {
    let lab = Lab::new();
    lab.detector.disabled_begin();
    let black = lab.block_with(64, kmemleak::AllocOptions::new().min_count(-1));
    lab.detector.disabled_end();
    let owned = lab.block(64);
    lab.machine.write(black, owned);
    assert_eq!(lab.leaks(), [owned]);
}

#[test]
fn scopes_nest() {
    let lab = Lab::new();
    lab.detector.disabled_begin();
    lab.detector.disabled_begin();
    lab.detector.disabled_end();
    lab.block(64);
    lab.detector.disabled_end();
    let after = lab.block(64);
    assert_eq!(lab.leaks(), [after]);
    assert_eq!(lab.warnings(), "");
}

#[test]
fn other_tasks_and_interrupts_are_not_in_it() {
    let lab = Lab::new();
    lab.detector.disabled_begin();
    let other = run_as(2, Level::Task, || lab.block(64));
    let interrupt = run_as(1, Level::Interrupt, || lab.block(64));
    let own = lab.block(64);
    lab.detector.disabled_end();
    let lost = lab.leaks();
    assert_eq!(lost, [other, interrupt]);
    assert!(!lost.contains(&own));
}

#[test]
fn percpu_blocks_are_in_it() {
    let lab = Lab::new();
    lab.detector.disabled_begin();
    lab.detector.alloc_percpu(lab.machine.percpu(64), 64);
    lab.detector.disabled_end();
    assert_eq!(lab.leaks(), []);
}

#[test]
fn an_end_without_a_begin_is_told() {
    let lab = Lab::new();
    lab.detector.disabled_end();
    assert!(lab.warnings().contains("disabled scope"));
    lab.detector.disabled_begin();
    lab.machine.call_from(&["another_task"]);
    run_as(2, Level::Task, || lab.detector.disabled_end());
    assert!(lab.warnings().contains("another_task"));
    lab.block(64);
    assert_eq!(lab.leaks(), [], "the scope goes on");
}

#[test]
fn a_begin_that_found_no_memory_makes_no_noise() {
    let lab = Lab::new();
    lab.detector.exhaust_metadata(true);
    lab.detector.disabled_begin();
    lab.detector.disabled_end();
    assert_eq!(lab.warnings(), "");
    assert!(lab.status("state").contains("incomplete"));
}
