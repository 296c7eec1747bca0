//! A soak: one storm after the other, while all that can be asked of the detector is asked at odd moments.
//!
//! The command line's `soak.minutes=N` says for how long; without it there is one storm. Beside each storm there are two tasks: one
//! checks and scans, the other asks, suppresses and marks. What a check is certain of must be what was lost on purpose, at the
//! end of a storm all of it, and each block must be accounted for: what was allocated, less what was freed, is what is lost. All else ends
//! the machine. Now and then, and at the end, the balance is printed.
//!
//! The kernel's own background scan is off: its verdict, which may be one of suspects, could take the place of a check's before the
//! findings of that are read.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

use kernel::arch::percpu::running;
use kernel::dev::time;
use kernel::leak::{KMEMLEAK, window};
use kernel::mm::{self, Wipe};
use kernel::task::{self, Mutex, Priority};
use kernel::{cmdline, println};
use kmemleak::{How, Summary};

use crate::guest_test;
use crate::leak_support::{Secret, apart, check, is_given_up, unreferenced};
use crate::storm::{self, Dice};

/// How often the balance is printed, in storms.
const PRINTED_EVERY: usize = 50;

/// What was done beside the storms, and seen.
struct Acts {
    /// Checks that are certain of what they found, and what they found, all together.
    checks: usize,
    listed: usize,
    /// Passes of the background scan, confirmed or not.
    scans: usize,
    questions: usize,
    /// Stops that were given up: a CPU came too late.
    late: usize,
    /// Stops for confirming suspects that were over before all was read.
    overran: usize,
    longest_stop_us: u64,
}

static ACTS: Mutex<Acts> = Mutex::new(Acts {
    checks: 0,
    listed: 0,
    scans: 0,
    questions: 0,
    late: 0,
    overran: 0,
    longest_stop_us: 0,
});

/// What the storms did.
#[derive(Default)]
struct Balance {
    storms: usize,
    planted: usize,
    found: usize,
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let acts = ACTS.lock();
        let (allocated, freed) = storm::allocated_and_freed();
        writeln!(
            f,
            "soak: {} storms on {} CPUs, {} checks, {} scans, {} questions",
            self.storms,
            running(),
            acts.checks,
            acts.scans,
            acts.questions
        )?;
        writeln!(
            f,
            "soak: {allocated} blocks allocated, {freed} freed, {} live",
            allocated - freed
        )?;
        writeln!(
            f,
            "soak: {} lost on purpose, {} found; checks in storms listed {}, none false",
            self.planted, self.found, acts.listed
        )?;
        write!(
            f,
            "soak: {} stops given up, {} overran, the longest took {} us",
            acts.late, acts.overran, acts.longest_stop_us
        )
    }
}

/// Output that is thrown away, once it has been seen to be text.
struct Sink(usize);

impl fmt::Write for Sink {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

/// Commands that make no verdict. Suppressions hide some of what is lost from checks; all are lifted for the last one.
const QUESTIONS: [&str; 19] = [
    "status",
    "report",
    "report --full",
    "report --json",
    "sites",
    "sites --json",
    "objects --json",
    "interior",
    "stack-only",
    "snapshot",
    "dump #1",
    "why #1",
    "holders #1",
    "path #2",
    "suppress no::such_function*",
    "unsuppress no::such_function*",
    "suppress storm::lose:max=40",
    "show #1",
    "unsuppress *",
];

/// Makes checks and scans until the storm is over. Nothing else makes verdicts, so what is listed after a check is what it found.
fn check_beside(mut dice: Dice) {
    while !storm::is_over() {
        let kind = dice.roll(8);
        // In a task that ends: what it has worked with must not be left on this stack.
        apart(move || match kind {
            0 | 1 => look_at(KMEMLEAK.check()),
            2 | 3 => look_at(KMEMLEAK.check_frozen()),
            4 => {
                ACTS.lock().scans += 1;
                look_at(KMEMLEAK.scan_and_confirm());
            }
            5 => {
                KMEMLEAK.scan().expect("the detector is on");
                ACTS.lock().scans += 1;
            }
            // These check as well.
            kind => ask(["mark", "new"][kind % 2]),
        });
        pause(&mut dice);
    }
}

/// Asks until the storm is over.
fn ask_beside(mut dice: Dice) {
    while !storm::is_over() {
        let question = QUESTIONS[dice.roll(QUESTIONS.len())];
        apart(move || ask(question));
        pause(&mut dice);
    }
}

fn ask(question: &str) {
    // Whether there is an answer depends on the moment.
    let _ = KMEMLEAK.command(question, &mut Sink(0));
    ACTS.lock().questions += 1;
}

/// Lets the storm go on for a while, or not.
fn pause(dice: &mut Dice) {
    match dice.roll(4) {
        0 => {}
        1 => task::sleep_us(dice.roll(3000) as u64),
        _ => storm::let_the_world_go_on(),
    }
}

/// Looks at what a check has found: of what is certain, nothing may be in use.
fn look_at<E: fmt::Debug>(summary: Result<Summary, E>) {
    let summary = summary.expect("the detector is on");
    let is_certain = matches!(summary.how, How::Stopped | How::Frozen | How::Confirmed);
    // What was lost before it was found is noted by now.
    let (found, planted) = match is_certain {
        true => (unreferenced(), storm::planted()),
        false => Default::default(),
    };
    let false_one = found
        .iter()
        .find(|lost| planted.binary_search(lost).is_err());
    assert!(
        false_one.is_none(),
        "{:?}: {false_one:x?} is in use",
        summary.how
    );
    let mut acts = ACTS.lock();
    acts.longest_stop_us = acts.longest_stop_us.max(summary.stopped_us);
    acts.checks += usize::from(is_certain);
    acts.listed += found.len();
    acts.late += usize::from(is_given_up(&summary));
    acts.overran += usize::from(!is_certain && summary.stopped_us > 0);
}

impl Balance {
    /// One storm, and what is done beside it.
    fn storm(&mut self, seed: u64) {
        let mut dice = Dice(seed);
        mm::set_wipe(match dice.roll(3) {
            0 => Wipe::OnFree,
            _ => Wipe::Never,
        });
        let before = KMEMLEAK.tracking().objects;
        let workers = storm::start(seed);
        let beside =
            [("checks", check_beside as fn(Dice)), ("asks", ask_beside)].map(|(name, act)| {
                let dice = Dice(seed ^ name.len() as u64);
                task::spawn(name, Priority::Normal, move || act(dice)).expect("memory for a task")
            });
        beside.into_iter().for_each(task::JoinHandle::join);
        storm::end(workers);
        // Marks and suppressions take no block of the kernel's, but what is suppressed is not found.
        KMEMLEAK.unsuppress_all().expect("nobody else asks");
        // In a task that ends, as before.
        apart(compare);
        let lost = FOUND.swap(0, Ordering::AcqRel);
        let after = KMEMLEAK.tracking().objects;
        assert_eq!(
            after - before,
            lost,
            "storm {}: objects unaccounted for",
            self.storms
        );
        let (allocated, freed) = storm::allocated_and_freed();
        assert_eq!(
            allocated - freed,
            lost,
            "storm {}: live blocks",
            self.storms
        );
        self.planted += storm::planted().len();
        self.found += lost;
        storm::give_back_planted();
        mm::check_invariants();
        assert_eq!(KMEMLEAK.tracking().objects, before);
        self.storms += 1;
    }
}

/// What a storm has lost, and a check found.
static FOUND: AtomicUsize = AtomicUsize::new(0);

/// What a check finds must be what was lost. Where something is missing, the detector
/// is asked why.
fn compare() {
    let mut found: Vec<Secret> = check();
    found.sort_unstable();
    let planted = storm::planted();
    let missing = |of: &[Secret], in_: &[Secret]| {
        let missing = of.iter().find(|one| in_.binary_search(one).is_err());
        missing.copied()
    };
    if let Some(lost) = missing(&planted, &found) {
        let mut why = String::new();
        let _ = KMEMLEAK.command(&format!("why {:x}", lost.show()), &mut why);
        panic!("{lost:x?} was lost and not found:\n{why}");
    }
    assert_eq!(missing(&found, &planted), None, "is in use");
    assert_eq!(found.len(), planted.len(), "one was found twice");
    FOUND.store(found.len(), Ordering::Release);
}

guest_test! {
    /// Storms, one after the other, beside everything else that the detector does.
    fn soak() smp [1, 2, 4] {
        assert_eq!(check(), [], "before");
        drop(storm::planted());
        KMEMLEAK.command("scan=0", &mut Sink(0)).expect("it is a command");
        let minutes: u64 = cmdline::value("soak.minutes").map_or(0, |text| text.parse().expect("a number"));
        let end_us = time::now_us() + minutes * 60_000_000;
        let mut balance = Balance::default();
        let ((), longest) = window::longest(|| loop {
            balance.storm(0x9e37_79b9_7f4a_7c15 ^ (balance.storms as u64) << 20);
            if time::now_us() >= end_us {
                return;
            }
            if balance.storms.is_multiple_of(PRINTED_EVERY) {
                println!("{balance}");
            }
        });
        println!("{balance}");
        println!("soak: interrupts off for {} us at most, {} times", time::us(longest.tsc), longest.windows);
    }
}
