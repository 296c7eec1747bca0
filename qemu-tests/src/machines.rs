//! The machines that are booted, and how they are to end.

use std::time::Duration;

use boot::artifacts::{self, Package, Profile};
use boot::machine::{Accel, Machine};
use boot::outcome::{Ended, Outcome};
use boot::requirements;
use boot::session;

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
    Ok(session::run(machine, LIMIT)?)
}

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
