//! `pairs`: what it costs to have a block tracked from its allocation to its end.
//!
//! Blocks of 64 bytes from a [plain allocator](crate::plain), written to once, freed; *hot*: one at a time, *batch*: a
//! thousand, then their ends. The same is done with the detector's hooks and without, in turn. The figure is that of the
//! slowest thread.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use kmemleak::AllocOptions;
use kmemleak_emulated::Machine;

use crate::chain;
use crate::plain::Plain;
use crate::workload::Fill;
use crate::world::{Measuree, World, Wrong, become_cpu};

/// Pairs of one figure.
const PAIRS: usize = 200_000;
/// Bytes of a block.
pub const SIZE: usize = 64;
/// Blocks of a batch.
const BATCH: usize = 1000;

/// What is done beside allocating and freeing.
pub trait Hooks: Copy + Sync {
    fn alloc(self, start: usize);
    fn free(self, start: usize);
}

/// Tells a detector of each block.
#[derive(Clone, Copy)]
pub struct Tracked<'a>(pub &'a Measuree);

impl Hooks for Tracked<'_> {
    #[inline(always)]
    fn alloc(self, start: usize) {
        self.0.alloc(start, SIZE, AllocOptions::new());
    }

    #[inline(always)]
    fn free(self, start: usize) {
        self.0.free(start);
    }
}

/// Does nothing.
#[derive(Clone, Copy)]
pub struct Untracked;

impl Hooks for Untracked {
    #[inline(always)]
    fn alloc(self, _: usize) {}

    #[inline(always)]
    fn free(self, _: usize) {}
}

/// One thread's loop.
type Loop<H> = fn(&Machine, &mut Plain<'_>, H);

/// The subcommand.
pub fn run(live: u32, threads: u32, frames: u32, repeat: u32) -> Result<(), Wrong> {
    let world = World::new(live, Fill::Random, threads)?;
    let machine = &world.machine;
    let detector = Tracked(world.detector);
    let print = |tracked: bool, pattern: &str, ns_per_pair: f64| {
        println!(
            "{{\"threads\":{threads},\"frames\":{frames},\"tracked\":{tracked},\
             \"pattern\":\"{pattern}\",\"ns_per_pair\":{ns_per_pair:.2}}}"
        );
    };
    for _ in 0..repeat {
        let ns = measure(machine, threads, frames, Untracked, hot_untracked);
        print(false, "hot", ns);
        let ns = measure(machine, threads, frames, detector, hot_tracked);
        print(true, "hot", ns);
        let ns = measure(machine, threads, frames, Untracked, batch_untracked);
        print(false, "batch", ns);
        let ns = measure(machine, threads, frames, detector, batch_tracked);
        print(true, "batch", ns);
    }
    if world.detector.tracking().objects != world.workload.objects() {
        return Err("not all blocks that were freed are forgotten".into());
    }
    Ok(())
}

/// Nanoseconds of a pair, in the slowest of the threads.
fn measure<H: Hooks + Send>(
    machine: &Machine,
    threads: u32,
    frames: u32,
    hooks: H,
    pairs: Loop<H>,
) -> f64 {
    let start = Barrier::new(threads as usize);
    let thread = |cpu| {
        become_cpu(cpu);
        let mut plain = Plain::new(machine);
        let mut ns = 0.0;
        chain::run_below(frames, &mut || {
            start.wait();
            let began = Instant::now();
            pairs(machine, &mut plain, hooks);
            ns = began.elapsed().as_nanos() as f64 / PAIRS as f64;
        });
        ns
    };
    thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|cpu| scope.spawn(move || thread(cpu)))
            .collect();
        let times = handles
            .into_iter()
            .map(|handle| handle.join().expect("no panic"));
        times.fold(0.0, f64::max)
    })
}

// For valgrind to count in: one function for each figure.

#[inline(never)]
fn hot_untracked(machine: &Machine, plain: &mut Plain<'_>, hooks: Untracked) {
    hot(machine, plain, hooks);
}

#[inline(never)]
fn hot_tracked(machine: &Machine, plain: &mut Plain<'_>, hooks: Tracked<'_>) {
    hot(machine, plain, hooks);
}

#[inline(never)]
fn batch_untracked(machine: &Machine, plain: &mut Plain<'_>, hooks: Untracked) {
    batch(machine, plain, hooks);
}

#[inline(never)]
fn batch_tracked(machine: &Machine, plain: &mut Plain<'_>, hooks: Tracked<'_>) {
    batch(machine, plain, hooks);
}

#[inline(always)]
fn hot<H: Hooks>(machine: &Machine, plain: &mut Plain<'_>, hooks: H) {
    for pair in 0..PAIRS {
        let block = plain.alloc(SIZE);
        hooks.alloc(block);
        // SAFETY: a block of the machine's memory.
        unsafe { machine.write_unchecked(block, pair) };
        hooks.free(block);
        // SAFETY: it was handed out above.
        unsafe { plain.free(block, SIZE) };
    }
}

#[inline(always)]
fn batch<H: Hooks>(machine: &Machine, plain: &mut Plain<'_>, hooks: H) {
    let mut blocks = [0; BATCH];
    for _ in 0..PAIRS / BATCH {
        for (number, block) in blocks.iter_mut().enumerate() {
            *block = plain.alloc(SIZE);
            hooks.alloc(*block);
            // SAFETY: a block of the machine's memory.
            unsafe { machine.write_unchecked(*block, number) };
        }
        for &block in &blocks {
            hooks.free(block);
            // SAFETY: it was handed out above.
            unsafe { plain.free(block, SIZE) };
        }
    }
}
