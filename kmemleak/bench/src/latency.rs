//! `latency`: how long single pairs take while a scan goes on beside them, beside a neighbour that does nothing, and alone.
//!
//! One thread allocates and frees tracked blocks of 64 bytes and takes the time of each pair; another one scans, pass
//! after pass. The machine can't stop its world here: all scanning goes on while other code runs.
//!
//! Whatever runs on another CPU makes a pair slower: the two share caches and clock, and the host interrupts both. So a scan is held
//! against a neutral neighbour, a loop that touches no memory: `p99_to_spin` is how many times the 99th percentile grew from the
//! neighbour of the same round to the scan.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use kmemleak_emulated::Stop;

use crate::chain;
use crate::clock::{Clock, counts};
use crate::pairs::{Hooks, SIZE, Tracked};
use crate::plain::Plain;
use crate::workload::Fill;
use crate::world::{Measuree, World, Wrong, become_cpu};

/// Pairs of one figure, at least.
const PAIRS: usize = 200_000;
/// Pairs of one figure at most, where no pass ends meanwhile.
const MAX_PAIRS: usize = 20_000_000;

/// Functions that lead to a pair.
const FRAMES: u32 = 16;

/// What another thread does meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Neighbour {
    None,
    /// A loop that touches no memory.
    Spin,
    /// A scan that goes on while other code runs.
    Scan,
}

impl Neighbour {
    const ALL: [Self; 3] = [Self::None, Self::Spin, Self::Scan];

    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Spin => "spin",
            Self::Scan => "scan",
        }
    }

    /// Does it once.
    fn work(self, detector: &Measuree) {
        match self {
            Self::None => {}
            Self::Spin => (0..SPINS).for_each(|turn| _ = std::hint::black_box(turn)),
            Self::Scan => background_pass(detector),
        }
    }
}

/// Turns of the loop of a neighbour: some milliseconds.
const SPINS: u32 = 10_000_000;

/// One pass of the scan that goes on while other code runs.
fn background_pass(detector: &Measuree) {
    let _ = detector.scan();
}

/// The subcommand.
pub fn run(live: u32, repeat: u32) -> Result<(), Wrong> {
    let world = World::new(live, Fill::Random, 2)?;
    world.machine.set_stop(Stop::Unsupported);
    let clock = Clock::new();
    for _ in 0..repeat {
        let mut beside_spin = None;
        for neighbour in Neighbour::ALL {
            let mut pairs = measure(&world, neighbour);
            pairs.sort_unstable();
            let ns = |place: usize| clock.ns(pairs[place].into());
            let p99 = ns(pairs.len() * 99 / 100);
            print!(
                "{{\"beside\":\"{}\",\"pairs\":{},\"p50_ns\":{},\"p99_ns\":{p99},\"p999_ns\":{},\"max_ns\":{}",
                neighbour.name(),
                pairs.len(),
                ns(pairs.len() / 2),
                ns(pairs.len() * 999 / 1000),
                ns(pairs.len() - 1)
            );
            match (neighbour, beside_spin) {
                (Neighbour::Scan, Some(spin)) => {
                    println!(",\"p99_to_spin\":{:.2}}}", p99 as f64 / spin as f64);
                }
                _ => println!("}}"),
            }
            if neighbour == Neighbour::Spin {
                beside_spin = Some(p99.max(1));
            }
        }
    }
    Ok(())
}

/// The clock's counts of single pairs.
fn measure(world: &World, neighbour: Neighbour) -> Vec<u32> {
    let (done, passes) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        if neighbour != Neighbour::None {
            scope.spawn(|| {
                become_cpu(1);
                while !done.load(Ordering::Relaxed) {
                    neighbour.work(world.detector);
                    passes.fetch_add(1, Ordering::Relaxed);
                }
            });
            // Until it has begun.
            while passes.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
        }
        let first = passes.load(Ordering::Relaxed);
        let enough = &|pairs: usize| {
            let passed = neighbour == Neighbour::None || passes.load(Ordering::Relaxed) > first;
            pairs >= PAIRS && (passed || pairs >= MAX_PAIRS)
        };
        let mut pairs = Vec::with_capacity(PAIRS);
        chain::run_below(FRAMES, &mut || pairs_until(world, enough, &mut pairs));
        done.store(true, Ordering::Relaxed);
        pairs
    })
}

fn pairs_until(world: &World, enough: impl Fn(usize) -> bool, times: &mut Vec<u32>) {
    let mut plain = Plain::new(&world.machine);
    let hooks = Tracked(world.detector);
    while !enough(times.len()) {
        let began = counts();
        let block = plain.alloc(SIZE);
        hooks.alloc(block);
        // SAFETY: a block of the machine's memory.
        unsafe { world.machine.write_unchecked(block, times.len()) };
        hooks.free(block);
        // SAFETY: it was handed out above.
        unsafe { plain.free(block, SIZE) };
        let passed = counts().saturating_sub(began);
        times.push(u32::try_from(passed).unwrap_or(u32::MAX));
    }
}
