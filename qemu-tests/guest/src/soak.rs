//! A soak: one storm after the other, while everything that can be asked of the detector is asked at odd moments.
//!
//! The command line's `soak.minutes=N` says for how long; without it there is one storm. In the end the balance is printed: what came,
//! what went, what was lost and found. A false leak, one that was missed, or a block that is unaccounted for ends the machine.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

use kernel::dev::time;
use kernel::leak::{KMEMLEAK, window};
use kernel::mm::{self, Wipe};
use kernel::task::Mutex;
use kernel::{cmdline, println};
use kmemleak::{How, Summary};

use crate::guest_test;
use crate::leak_support::{Secret, apart, check, unreferenced};
use crate::storm::{self, Dice};

/// What was done beside the storms, and seen.
struct Acts {
    /// Checks that are certain of what they found.
    checks: usize,
    /// Passes of the background scan.
    scans: usize,
    questions: usize,
    /// Stops of the world that were given up.
    given_up: usize,
    longest_stop_us: u64,
}

static ACTS: Mutex<Acts> = Mutex::new(Acts {
    checks: 0,
    scans: 0,
    questions: 0,
    given_up: 0,
    longest_stop_us: 0,
});

/// What the storms did.
#[derive(Default)]
struct Balance {
    storms: usize,
    acts: u64,
    /// What was lost on purpose, all of which was found.
    found: usize,
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let acts = ACTS.lock();
        writeln!(
            f,
            "soak: {} storms, {} checks, {} scans, {} questions",
            self.storms, acts.checks, acts.scans, acts.questions
        )?;
        let allocated = storm::allocated();
        writeln!(
            f,
            "soak: {allocated} blocks allocated, {} freed, {} lost on purpose, all of them found, none false",
            allocated - self.found,
            self.found
        )?;
        write!(
            f,
            "soak: {} stops given up, the longest took {} us",
            acts.given_up, acts.longest_stop_us
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

/// Commands that change nothing of what is lost.
const QUESTIONS: [&str; 16] = [
    "status",
    "report",
    "report --full",
    "report --json",
    "sites",
    "sites --json",
    "objects --json",
    "interior",
    "snapshot",
    "mark",
    "new",
    "why #1",
    "holders #1",
    "path #2",
    "suppress no::such_function*",
    "unsuppress no::such_function*",
];

impl Acts {
    /// Does one of all things that can be done beside a storm.
    fn act(&mut self, dice: &mut Dice) {
        match dice.roll(8) {
            0 | 1 => self.check(KMEMLEAK.check()),
            2 | 3 => self.check(KMEMLEAK.check_frozen()),
            4 => self.check(KMEMLEAK.scan_and_confirm()),
            5 => {
                KMEMLEAK.scan().expect("the detector is on");
                self.scans += 1;
            }
            _ => {
                let question = QUESTIONS[dice.roll(QUESTIONS.len())];
                // Whether there is an answer depends on the moment.
                let _ = KMEMLEAK.command(question, &mut Sink(0));
                self.questions += 1;
            }
        }
    }

    /// Looks at what a check has found: of what is certain, nothing may be in use.
    fn check<E: fmt::Debug>(&mut self, summary: Result<Summary, E>) {
        let summary = summary.expect("the detector is on");
        self.longest_stop_us = self.longest_stop_us.max(summary.stopped_us);
        let is_certain = matches!(summary.how, How::Stopped | How::Frozen | How::Confirmed);
        if !is_certain {
            self.given_up += 1;
            return;
        }
        self.checks += 1;
        let (found, planted) = (unreferenced(), storm::planted());
        let false_one = found
            .iter()
            .find(|lost| planted.binary_search(lost).is_err());
        assert!(
            false_one.is_none(),
            "{:?}: {false_one:x?} is in use",
            summary.how
        );
    }
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
        let handles = storm::start(seed);
        while !storm::is_over() {
            let seed = seed ^ self.acts << 32;
            self.acts += 1;
            // In a task that ends: what it has worked with must not be left on this stack.
            apart(move || ACTS.lock().act(&mut Dice(seed)));
            storm::let_the_world_go_on();
        }
        storm::end(handles);
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
        let minutes: u64 = cmdline::value("soak.minutes").map_or(0, |text| text.parse().expect("a number"));
        let end_us = time::now_us() + minutes * 60_000_000;
        let mut balance = Balance::default();
        let ((), longest) = window::longest(|| loop {
            balance.storm(0x9e37_79b9_7f4a_7c15 ^ (balance.storms as u64) << 20);
            if time::now_us() >= end_us {
                return;
            }
            if balance.storms.is_multiple_of(50) {
                println!("{balance}");
            }
        });
        println!("{balance}");
        println!("soak: interrupts off for {} us at most, {} times", time::us(longest.tsc), longest.windows);
    }
}
