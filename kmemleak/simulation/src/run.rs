//! A run, from its seed.

use std::env;
use std::mem::ManuallyDrop;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Schedule, Scheduler, Task, TaskId};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

use crate::actor;
use crate::oracle::random::Random;
use crate::schedule::{self, Between, Fault};
use crate::subject::{Subject, set_subject};
use crate::tasks;
use crate::world::between;
use crate::world::failures::Failures;
use crate::world::platform::Kernel;
use crate::world::stacks::Stacks;
use crate::world::stop::StopKind;
use crate::world::{self, ARENA, Log, Setting};

/// Bytes of a thread's stack: code that is not optimised takes much.
const STACK: usize = 1 << 20;
/// Moments that are used in a run at most. After [`schedule::MANY`] nothing new is begun: a run that goes on all the same hangs.
const MOST_STEPS: usize = 40_000_000;

/// The corners of the address space about which blocks lie.
const CORNERS: [usize; 12] = [
    // The first address of a block.
    0x1000,
    // 64 KiB, 32 MiB, 512 GiB in either half.
    0x7_0001_0000,
    0x7_0600_0000,
    0x380_0000_0000,
    // The ends of the halves.
    0x8000_0000_0000,
    0xffff_8000_0000_0000,
    0xffff_8880_0001_0000,
    0xffff_8880_0600_0000,
    0xffff_9000_0000_0000,
    // The last address of a block, and the last byte.
    0xffff_ffff_ffff_f000,
    0,
    0xffff_ffff_ffff_0000,
];

/// The kernel of a seed.
fn setting(seed: u64, random: &mut Random) -> Setting {
    let cpus = random.between(1, 4) as u32;
    let mut corners: Vec<usize> = (0..random.between(1, 3))
        .map(|_| CORNERS[random.below(CORNERS.len())])
        .collect();
    corners.dedup();
    let arenas = corners.iter().map(|corner| match *corner {
        // As far up as a region may reach, and as far down.
        0 => 0_usize.wrapping_sub(0x3000),
        0x1000 => 0x1000,
        0x8000_0000_0000 => 0x8000_0000_0000 - ARENA,
        corner if corner.trailing_zeros() >= 47 && corner >> 63 == 1 => corner,
        corner => corner - 0xc00,
    });
    let arenas = arenas.collect();
    // What changes places seldom gets far.
    let (pace, operations) =
        [(0, 40), (3, 80), (30, 300), (300, 1500), (3000, 4000)][random.below(5)];
    Setting {
        cpus,
        tasks: cpus as usize + random.below(3),
        operations: random.between(operations / 4, operations),
        pace,
        interrupts: [10, 30, 200, usize::MAX][random.below(4)],
        stop: match random.below(6) {
            0 => StopKind::Unsupported,
            1 => StopKind::Fails(random.between(1, 4)),
            _ => StopKind::Works,
        },
        origin_us: [0, 1, 5_000_000, 1 << 50, u64::MAX / 2, u64::MAX - (1 << 40)][random.below(6)],
        corners,
        arenas,
        failures: Failures::of(seed),
        stacks: Stacks::of(seed),
    }
}

/// Runs what a seed says; what happened, or why it is wrong.
pub fn run(seed: u64) -> Result<Log, String> {
    run_with(seed, Fault::None)
}

/// Runs what a seed says in a world that is wrong itself: for tests of the simulation.
pub fn run_with(seed: u64, fault: Fault) -> Result<Log, String> {
    be_quiet();
    schedule::set_fault(fault);
    let result = run_quietly(seed);
    schedule::set_fault(Fault::None);
    result
}

fn run_quietly(seed: u64) -> Result<Log, String> {
    let mut random = Random::new(seed);
    let setting = setting(seed, &mut random);
    let scheduler: Box<dyn Scheduler + Send> = match random.below(3) {
        // Its first execution finds out how long one is.
        0 if setting.tasks > 1 => Box::new(PctScheduler::new_from_seed(
            random.number(),
            random.between(2, 8),
            2,
        )),
        _ => Box::new(Quiet(ManuallyDrop::new(RandomScheduler::new_from_seed(
            random.number(),
            1,
        )))),
    };
    let random = random.number();
    let mut config = Config::new();
    config.stack_size = STACK;
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(MOST_STEPS);
    config.silence_warnings = true;
    let result = panic::catch_unwind(AssertUnwindSafe(|| {
        Runner::new(scheduler, config).run(move || execute(setting.clone(), random));
    }));
    schedule::set_between(None);
    let world = world::end();
    match result {
        Ok(()) => Ok(world.map(|world| world.log).unwrap_or_default()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            let text = text.unwrap_or_else(|| "it panicked".into());
            Err(text)
        }
    }
}

fn execute(setting: Setting, random: u64) {
    let (tasks, operations) = (setting.tasks, setting.operations);
    drop(world::end());
    world::create(setting, Random::new(random), actor::handle_interrupt);
    let detector: Box<Subject> = Box::new(Subject::new(Kernel));
    detector.set_min_age_us(0);
    let detector = Box::into_raw(detector);
    // SAFETY: it is freed below, when no task is left.
    set_subject(Some(unsafe { &*detector }));
    schedule::set_between(Some(Between {
        gap: world::gap,
        come: between::interruptible,
    }));
    let others: Vec<_> = (1..tasks)
        .map(|task| {
            schedule::switch(|| {
                shuttle::thread::spawn(move || {
                    schedule::become_task(task);
                    tasks::live(operations);
                })
            })
        })
        .collect();
    tasks::live(operations);
    for other in others {
        schedule::switch(|| other.join()).expect("it panics where it fails");
    }
    schedule::set_between(None);
    set_subject(None);
    // SAFETY: it came from a box, and nobody has it any more.
    drop(unsafe { Box::from_raw(detector) });
}

/// Shuttle's random scheduler, without its word on how to repeat a run that fails.
struct Quiet(ManuallyDrop<RandomScheduler>);

impl Scheduler for Quiet {
    fn new_execution(&mut self) -> Option<Schedule> {
        self.0.new_execution()
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        self.0.next_task(runnable, current, is_yielding)
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// Failures are reported by who runs a seed: nothing is printed where they happen.
fn be_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Shuttle's own hook comes with the first run.
        let mut config = Config::new();
        config.failure_persistence = FailurePersistence::None;
        Runner::new(RandomScheduler::new_from_seed(0, 1), config).run(|| {});
        let _ = panic::take_hook();
        panic::set_hook(Box::new(|info| {
            if env::var("KMEMLEAK_BACKTRACE").is_ok() {
                eprintln!("{info}\n{}", std::backtrace::Backtrace::force_capture());
            }
        }));
    });
}
