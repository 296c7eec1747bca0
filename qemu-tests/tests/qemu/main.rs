//! Boots the kernel under QEMU, once for each test. `cargo test NAME` selects by name, `cargo test -- NAME NAME` by several. If no
//! name matches, nothing is printed. `cargo test -- soak --minutes 30` has the soaks run for so long.

mod ask;
mod boot;
mod commands;
mod ends;
mod hardening;
mod host_names;
mod idioms;
mod leaks;
mod minimal;
mod no_memory;
mod odd_machines;
mod poison;
mod questions;
mod readme;
mod reports;
mod scripts;
mod shell;
mod snapshots;
mod suppressions;
mod terminal;

use std::env;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use qemu_tests::guest;
use qemu_tests::machines::{self, Failure};
use qemu_tests::selection::Selection;

/// The most machines that run at once; each has CPUs of its own to emulate.
const MACHINES: usize = 2;

fn main() -> ExitCode {
    let (selection, arguments) = Selection::take(env::args_os());
    let mut arguments = Arguments::from_iter(arguments);
    arguments.test_threads = Some(arguments.test_threads.unwrap_or(MACHINES).min(MACHINES));
    match trials(selection.minutes) {
        Ok(mut trials) => {
            trials.retain(|trial| selection.has(trial.name()));
            if trials.is_empty() && !selection.is_all() && !arguments.list {
                return ExitCode::SUCCESS;
            }
            libtest_mimic::run(&arguments, trials).exit_code()
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn trials(minutes: u64) -> Result<Vec<Trial>, Failure> {
    machines::build()?;
    let mut trials = Vec::new();
    for test in guest::list()? {
        for cpus in test.smp.clone() {
            let test = test.clone();
            trials.push(trial(&test.name_with(cpus), move || {
                test.run(cpus, minutes)
            }));
        }
    }
    for (module, tests) in [
        ("boot", boot::TESTS),
        ("ends", ends::TESTS),
        ("hardening", hardening::TESTS),
        ("shell", shell::TESTS),
        ("terminal", terminal::TESTS),
        ("leaks", leaks::TESTS),
        ("scripts", scripts::TESTS),
        ("reports", reports::TESTS),
        ("questions", questions::TESTS),
        ("suppressions", suppressions::TESTS),
        ("host_names", host_names::TESTS),
        ("idioms", idioms::TESTS),
        ("commands", commands::TESTS),
        ("minimal", minimal::TESTS),
        ("no_memory", no_memory::TESTS),
        ("odd_machines", odd_machines::TESTS),
        ("poison", poison::TESTS),
        ("readme", readme::TESTS),
    ] {
        let tests = tests.iter();
        trials.extend(tests.map(|(name, test)| trial(&format!("{module}::{name}"), test)));
    }
    for (module, tests) in [
        ("leaks", leaks::ON_CPUS),
        ("scripts", scripts::ON_CPUS),
        ("commands", commands::ON_CPUS),
        ("snapshots", snapshots::ON_CPUS),
    ] {
        for (name, test) in tests {
            let name = |cpus| format!("{module}::{name}::smp{cpus}");
            trials.extend(leaks::CPUS.map(|cpus| trial(&name(cpus), move || test(cpus))));
        }
    }
    Ok(trials)
}

fn trial(name: &str, test: impl FnOnce() -> Result<(), Failure> + Send + 'static) -> Trial {
    Trial::test(name, || machines::told(test).map_err(Failed::from))
}

/// A table of tests: their names and what they do.
type Tests = &'static [(&'static str, fn() -> Result<(), Failure>)];

/// A table of tests that are told how many CPUs to have.
type TestsOnCpus = &'static [(&'static str, fn(u32) -> Result<(), Failure>)];

/// Makes a table of the functions that are named.
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        /// The tests of this module.
        pub const TESTS: crate::Tests = &[$((stringify!($name), $name)),+];
    };
}
use tests;
