//! The simulation: seeds that once failed, the first ones or others for some seconds, and that it finds what is wrong.
//!
//! ```text
//! cargo test -p kmemleak-simulation                                    # the first seeds, the same in each run
//! cargo test --release -p kmemleak-simulation -- --seconds 3600        # as long as that
//! cargo test --release -p kmemleak-simulation -- --first 1000000       # other seeds
//! cargo test --release -p kmemleak-simulation -- --seed 1234           # that one again
//! ```

mod crash;

use std::env;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use kmemleak_simulation::run::{self, run_with};
use kmemleak_simulation::schedule::Fault;
use kmemleak_simulation::world::Log;
use libtest_mimic::{Arguments, Failed, Trial};

use crash::Running;

/// Seeds that have failed, with what was wrong.
const KEPT: [(u64, &str); 5] = [
    (
        210,
        "a stop that confirms added a block's size to its address, past the end of the address space",
    ),
    (
        221,
        "a check of a frozen block that ends with the address space never ended",
    ),
    (
        100_295,
        "a block that a region was registered over while memory was frozen was looked at as of later",
    ),
    (
        301_045,
        "a region was removed from over a block between two phases of a scan, and the block's words were read in neither",
    ),
    (
        501_281,
        "the oracle took it for an error that an area's pointer in a block that was freed meanwhile counted for what the area describes",
    ),
];

/// Seeds of a run that is not given a time: so that it has the same end on each machine.
const SEEDS: u64 = 200;

/// What this test takes besides what all tests take.
struct Wanted {
    /// How long; without it so many seeds as [`SEEDS`] says.
    seconds: Option<u64>,
    first: u64,
    seed: Option<u64>,
}

/// Runs a seed, whose number is told of if that ends the process.
fn run(seed: u64) -> Result<Log, String> {
    let _running = Running::new(seed);
    run::run(seed)
}

fn main() -> ExitCode {
    crash::watch();
    let mut wanted = Wanted {
        seconds: None,
        first: 0,
        seed: None,
    };
    let (mut others, mut words) = (Vec::new(), env::args());
    while let Some(word) = words.next() {
        let mut number = || {
            let number = words.next().and_then(|number| number.parse().ok());
            number.unwrap_or_else(|| panic!("{word}: a number must follow"))
        };
        match word.as_str() {
            "--seconds" => wanted.seconds = Some(number()),
            "--first" => wanted.first = number(),
            "--seed" => wanted.seed = Some(number()),
            // For a test of this program itself.
            "--crash" => {
                let _running = Running::new(number());
                std::process::abort();
            }
            _ => others.push(word),
        }
    }
    if let Some(seed) = wanted.seed {
        return match run(seed) {
            Ok(log) => {
                println!("seed {seed}: {log:?}");
                ExitCode::SUCCESS
            }
            Err(why) => {
                println!("seed {seed} fails: {why}");
                ExitCode::FAILURE
            }
        };
    }
    let tests = vec![
        Trial::test("seeds_that_once_failed", seeds_that_once_failed),
        Trial::test("a_crash_names_its_seed", a_crash_names_its_seed),
        Trial::test("a_seed_decides_everything", a_seed_decides_everything),
        Trial::test("what_is_wrong_is_found", what_is_wrong_is_found),
        Trial::test("new_seeds", move || new_seeds(&wanted)),
    ];
    let mut arguments = Arguments::from_iter(others);
    // New seeds run on all CPUs by themselves.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, tests).exit_code()
}

fn seeds_that_once_failed() -> Result<(), Failed> {
    for (seed, what) in KEPT {
        run(seed).map_err(|why| format!("seed {seed} ({what}): {why}"))?;
    }
    Ok(())
}

fn a_crash_names_its_seed() -> Result<(), Failed> {
    let mut command = Command::new(env::current_exe()?);
    let output = command.args(["--crash", "1234"]).output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    match told.contains("--seed 1234") && !output.status.success() {
        true => Ok(()),
        false => Err(format!("{}, and: {told}", output.status).into()),
    }
}

fn a_seed_decides_everything() -> Result<(), Failed> {
    for seed in 0..20 {
        let (once, again) = (run(seed)?, run(seed)?);
        if once != again {
            return Err(format!("seed {seed}: {once:?}, and again: {again:?}").into());
        }
    }
    Ok(())
}

/// In a world that is wrong itself some seed fails, and soon.
fn what_is_wrong_is_found() -> Result<(), Failed> {
    for fault in [
        Fault::LocksDoNotLock,
        Fault::InterruptsAreNeverOff,
        Fault::StopsDoNotWait,
        Fault::NobodyHearsOfWhatIsMissing,
        Fault::LostImagesAreMadeUp,
        Fault::NobodyEndsAPass,
        Fault::WhatIsUnmappedIsVouchedFor,
        Fault::EndedTasksAreVouchedFor,
    ] {
        let found = (0..200).find(|&seed| run_with(seed, fault).is_err());
        println!("{fault:?} is found by seed {found:?}");
        if found.is_none() {
            return Err(format!("{fault:?} is not found").into());
        }
    }
    Ok(())
}

/// One seed after the other, on all CPUs, until time is over, or a number of them.
fn new_seeds(wanted: &Wanted) -> Result<(), Failed> {
    let end = wanted
        .seconds
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let is_over = |seed: u64| match end {
        Some(end) => Instant::now() >= end,
        None => seed >= wanted.first + SEEDS,
    };
    let (next, failed) = (AtomicU64::new(wanted.first), Mutex::new(None));
    let total = Mutex::new(Log::default());
    let work = || {
        while failed.lock().expect("nobody panics").is_none() {
            let seed = next.fetch_add(1, Relaxed);
            if is_over(seed) {
                next.fetch_sub(1, Relaxed);
                return;
            }
            match run(seed) {
                Ok(log) => total.lock().expect("nobody panics").add(&log),
                Err(why) => *failed.lock().expect("nobody panics") = Some((seed, why)),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(work);
        }
    });
    let (seeds, total) = (next.into_inner() - wanted.first, total.into_inner()?);
    println!("{seeds} seeds from {} on: {total}", wanted.first);
    match failed.into_inner()? {
        None => Ok(()),
        Some((seed, why)) => Err(format!(
            "seed {seed} fails: {why}\n\
             again: cargo test --release -p kmemleak-simulation -- --seed {seed}\n\
             When it is mended, keep the seed in KEPT."
        )
        .into()),
    }
}
