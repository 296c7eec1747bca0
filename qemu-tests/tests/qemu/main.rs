//! Boots the kernel under QEMU, once for each test. `cargo test NAME` selects by name.

mod boot;
mod shell;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use qemu_tests::guest;
use qemu_tests::machines::{self, Failure};

/// The most machines that run at once; each has CPUs of its own to emulate.
const MACHINES: usize = 2;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(arguments.test_threads.unwrap_or(MACHINES).min(MACHINES));
    match trials() {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn trials() -> Result<Vec<Trial>, Failure> {
    machines::build()?;
    let mut trials = Vec::new();
    for test in guest::list()? {
        for cpus in test.smp.clone() {
            let test = test.clone();
            trials.push(trial(&test.name_with(cpus), move || test.run(cpus)));
        }
    }
    trials.extend(
        boot::TESTS
            .iter()
            .map(|(name, test)| trial(&format!("boot::{name}"), test)),
    );
    trials.extend(
        shell::TESTS
            .iter()
            .map(|(name, test)| trial(&format!("shell::{name}"), test)),
    );
    Ok(trials)
}

fn trial(name: &str, test: impl FnOnce() -> Result<(), Failure> + Send + 'static) -> Trial {
    Trial::test(name, || test().map_err(Failed::from))
}

/// A table of tests: their names and what they do.
type Tests = &'static [(&'static str, fn() -> Result<(), Failure>)];

/// Makes a table of the functions that are named.
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        /// The tests of this module.
        pub const TESTS: crate::Tests = &[$((stringify!($name), $name)),+];
    };
}
use tests;
