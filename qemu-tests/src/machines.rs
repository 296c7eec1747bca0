//! The machines that are booted, and how they are to end.

use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use boot::artifacts::{self, Package, Profile};
use boot::machine::{Accel, Machine};
use boot::outcome::{Ended, Outcome};
use boot::requirements;
use boot::session::{self, Started};

/// How long a machine may take. A boot takes a tenth of a second; the host may be loaded.
pub const LIMIT: Duration = Duration::from_secs(60);

/// What went wrong, for the harness to print.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Builds all that is booted.
pub fn build() -> Result<(), Failure> {
    requirements::check()?;
    // One by one: built together, the kernel would get features that only the test kernel asks for.
    artifacts::build(&[Package::Loader, Package::Kernel], Profile::Release)?;
    artifacts::build(&[Package::Guest], Profile::Release)?;
    Ok(())
}

/// A machine with the kernel.
pub fn kernel() -> Machine {
    machine(Package::Kernel)
}

/// A machine with the test kernel, told what to do.
pub fn guest(command_line: &str) -> Machine {
    Machine {
        append: command_line.into(),
        ..machine(Package::Guest)
    }
}

fn machine(package: Package) -> Machine {
    let loader = Package::Loader.binary(Profile::Release);
    // Emulated everywhere, so that a test is the same test everywhere.
    Machine {
        accel: Accel::Tcg,
        ..Machine::new(loader, package.binary(Profile::Release))
    }
}

/// Runs the machine to its end.
pub fn run(machine: &Machine) -> Result<Ended, Failure> {
    run_longer(machine, Duration::ZERO)
}

/// Runs the machine to its end, which may take so much longer than others.
pub fn run_longer(machine: &Machine, longer: Duration) -> Result<Ended, Failure> {
    Ok(session::run(machine, LIMIT + longer)?)
}

/// Runs a test. Its failure, a panic as well, is told with QEMU's command line and the end of the serial output of the machine
/// that the test has started last.
pub fn told<T>(test: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    // Of the test before in this thread.
    Started::take_last();
    let result = panic::catch_unwind(AssertUnwindSafe(test)).unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<String>().map(String::as_str);
        let text = text.or(cause.downcast_ref::<&str>().copied());
        Err(format!("panicked: {}", text.unwrap_or("without a message")).into())
    });
    result.map_err(|error| match Started::take_last() {
        // Some have the report already.
        Some(started) if !error.to_string().contains(COMMAND) => {
            format!("{}\n{started}", error.to_string().trim_end()).into()
        }
        _ => error,
    })
}

/// How the line with QEMU's command begins in a machine's report.
const COMMAND: &str = "\ncommand: ";

/// The machine must have ended like that, and its output must have that text.
pub fn expect(ended: &Ended, outcome: Outcome, text: &str) -> Result<(), Failure> {
    if ended.outcome != outcome {
        return Err(format!("expected that {outcome}, but {ended}").into());
    }
    if !ended.serial.contains(text) {
        return Err(format!("{text:?} is missing from the output: {ended}").into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine without a kernel: QEMU ends at once, since it finds none.
    fn nothing() -> Machine {
        Machine::new("/nonexistent/loader".into(), "/nonexistent/kernel".into())
    }

    #[test]
    fn a_failure_is_told_with_the_machine() {
        let tests: [fn() -> Result<(), Failure>; 3] = [
            || {
                let _ended = run(&nothing())?;
                Err("not as expected".into())
            },
            || {
                let ended = run(&nothing())?;
                assert_eq!(ended.serial, "not as expected");
                Ok(())
            },
            || expect(&run(&nothing())?, Outcome::Passed, "not as expected"),
        ];
        for test in tests {
            let error = told(test).expect_err("it fails").to_string();
            assert_eq!(error.matches(COMMAND).count(), 1, "{error}");
            assert!(error.contains("-kernel /nonexistent/loader"), "{error}");
            assert!(error.contains("serial output"), "{error}");
        }
    }

    #[test]
    fn another_tests_machine_is_not_told() {
        run(&nothing()).expect("it runs, and ends");
        let error = told::<()>(|| Err("no machine".into())).expect_err("it fails");
        assert_eq!(error.to_string(), "no machine");
    }
}
