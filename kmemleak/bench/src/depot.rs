//! `depot`: what a pair costs whose call stack is one of many that are known.
//!
//! Each pair has a call stack of its own number: ten functions lead to it, each of which is one of four, as the digits of the
//! number say. First all call stacks are made known, then they come in an order that jumps about, so that hardly any of them is
//! one that was used recently. The same is done with the detector's hooks and without, in turn.

use std::hint::black_box;
use std::time::Instant;

use kmemleak_emulated::Machine;

use crate::pairs::{Hooks, SIZE, Tracked, Untracked};
use crate::plain::Plain;
use crate::workload::{Fill, MIN_OBJECTS};
use crate::world::{World, Wrong, become_cpu};

/// Pairs of one figure.
const PAIRS: u32 = 200_000;
/// Functions that lead to a pair.
const LEVELS: u32 = 10;
/// Different functions of a level.
const WAYS: u32 = 4;
/// Bytes that the depot takes for such a call stack, at least.
const MIN_ENTRY: usize = LEVELS as usize * size_of::<u32>();
/// As many call stacks as there are.
pub const MAX_STACKS: u32 = WAYS.pow(LEVELS);

/// The subcommand.
pub fn run(stacks: u32, repeat: u32) -> Result<(), Wrong> {
    let world = World::new(MIN_OBJECTS, Fill::Random, 1)?;
    let (machine, detector) = (&world.machine, Tracked(world.detector));
    become_cpu(0);
    let end = 0_usize;
    kmemleak_emulated::end_stack_at((&raw const end).addr());
    let mut plain = Plain::new(machine);
    (0..stacks).for_each(|number| pair(machine, &mut plain, detector, number));
    let depot_bytes = world.detector.metadata().call_stacks;
    if depot_bytes < stacks as usize * MIN_ENTRY {
        return Err("not each number has a call stack of its own".into());
    }
    let print = |tracked: bool, ns: f64| {
        println!(
            "{{\"stacks\":{stacks},\"depot_bytes\":{depot_bytes},\"tracked\":{tracked},\
             \"ns_per_pair\":{ns:.2}}}"
        );
    };
    for _ in 0..repeat {
        print(false, time(|| depot_untracked(machine, stacks)));
        print(true, time(|| depot_tracked(machine, detector, stacks)));
    }
    black_box(&end);
    Ok(())
}

/// Nanoseconds of a pair.
fn time(pairs: impl FnOnce()) -> f64 {
    let began = Instant::now();
    pairs();
    began.elapsed().as_nanos() as f64 / f64::from(PAIRS)
}

// For valgrind to count in: one function for each figure.

#[inline(never)]
fn depot_untracked(machine: &Machine, stacks: u32) {
    pairs(machine, Untracked, stacks);
}

#[inline(never)]
fn depot_tracked(machine: &Machine, detector: Tracked<'_>, stacks: u32) {
    pairs(machine, detector, stacks);
}

#[inline(always)]
fn pairs<H: Hooks>(machine: &Machine, hooks: H, stacks: u32) {
    let mut plain = Plain::new(machine);
    let mut number = 0_u32;
    for _ in 0..PAIRS {
        // The order of a linear congruential generator (Knuth's MMIX, its upper half).
        number = number.wrapping_mul(0x5851_f42d).wrapping_add(0x14057b7f);
        pair(machine, &mut plain, hooks, (number >> 8) % stacks);
    }
}

/// A pair with the call stack of this number.
#[inline(always)]
fn pair<H: Hooks>(machine: &Machine, plain: &mut Plain<'_>, hooks: H, number: u32) {
    descend(number, LEVELS, &mut || {
        let block = plain.alloc(SIZE);
        hooks.alloc(block);
        // SAFETY: a block of the machine's memory.
        unsafe { machine.write_unchecked(block, number as usize) };
        hooks.free(block);
        // SAFETY: it was handed out above.
        unsafe { plain.free(block, SIZE) };
    });
}

#[inline(always)]
fn descend(number: u32, levels: u32, work: &mut dyn FnMut()) {
    if levels == 0 {
        return work();
    }
    let way = [way::<0>, way::<1>, way::<2>, way::<3>][(number % WAYS) as usize];
    way(number / WAYS, levels - 1, work);
}

/// One of the functions of a level. What it does last tells it from the others, and makes that no call becomes a jump.
#[inline(never)]
fn way<const WAY: u32>(number: u32, levels: u32, work: &mut dyn FnMut()) {
    descend(number, levels, work);
    black_box(WAY);
}
