//! `names`: what a pair costs when several tasks take turns on a CPU, after so many other tasks have left a block each.
//!
//! A record has room for the number of one name of two thousand. If more names are in use, the tasks that take turns have
//! none.

use std::time::Instant;

use kmemleak_emulated::{Machine, set_comm};

use crate::pairs::{Hooks, SIZE, Tracked, Untracked};
use crate::plain::Plain;
use crate::workload::{Fill, MIN_OBJECTS};
use crate::world::{World, Wrong, become_task};

/// Pairs of one figure.
const PAIRS: u32 = 200_000;
/// Tasks that take turns: each makes one pair, then the next one does.
const TURNS: [&str; 5] = ["one", "two", "three", "four", "five"];
/// More tasks than this make no difference.
pub const MAX_TASKS: i64 = 100_000;

/// The subcommand.
pub fn run(tasks: u32, repeat: u32) -> Result<(), Wrong> {
    let world = World::new(MIN_OBJECTS, Fill::Random, 1)?;
    let (machine, detector) = (&world.machine, Tracked(world.detector));
    let mut plain = Plain::new(machine);
    for task in 0..tasks {
        become_named(TURNS.len() as u32 + task, &format!("task-{task}"));
        detector.alloc(plain.alloc(SIZE));
    }
    let print = |tracked: bool, ns: f64| {
        println!("{{\"tasks\":{tasks},\"tracked\":{tracked},\"ns_per_pair\":{ns:.2}}}");
    };
    for _ in 0..repeat {
        print(
            false,
            time(|| names_untracked(machine, &mut plain, Untracked)),
        );
        print(true, time(|| names_tracked(machine, &mut plain, detector)));
    }
    Ok(())
}

/// Makes the calling thread this task on CPU 0.
fn become_named(task: u32, name: &str) {
    become_task(task);
    set_comm(name);
}

/// Nanoseconds of a pair.
fn time(pairs: impl FnOnce()) -> f64 {
    let began = Instant::now();
    pairs();
    began.elapsed().as_nanos() as f64 / f64::from(PAIRS)
}

// For valgrind to count in: one function for each figure.

#[inline(never)]
fn names_untracked(machine: &Machine, plain: &mut Plain<'_>, hooks: Untracked) {
    in_turns(machine, plain, hooks);
}

#[inline(never)]
fn names_tracked(machine: &Machine, plain: &mut Plain<'_>, hooks: Tracked<'_>) {
    in_turns(machine, plain, hooks);
}

#[inline(always)]
fn in_turns<H: Hooks>(machine: &Machine, plain: &mut Plain<'_>, hooks: H) {
    for number in 0..PAIRS {
        let task = number % TURNS.len() as u32;
        become_named(task, TURNS[task as usize]);
        let block = plain.alloc(SIZE);
        hooks.alloc(block);
        // SAFETY: a block of the machine's memory.
        unsafe { machine.write_unchecked(block, number as usize) };
        hooks.free(block);
        // SAFETY: it was handed out above.
        unsafe { plain.free(block, SIZE) };
    }
}
