//! `cargo run`: builds the kernel and its loader, runs them under QEMU with the serial line on the
//! terminal, and ends with the guest's verdict.

mod console;
mod options;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use boot::artifacts::{self, Package, Profile};
use boot::leaks::{LeakWatch, Verdict};
use boot::machine::{self, Console, DEBUGGER, Debugger, Machine, ResetLog};
use boot::outcome::Outcome;
use boot::requirements;
use clap::Parser;

use crate::options::Options;

/// Exit codes besides success and clap's 2 for wrong usage; `--help` lists them.
const FAILED: u8 = 1;
const QEMU_ERROR: u8 = 3;
const TRIPLE_FAULT: u8 = 4;
const NO_VERDICT: u8 = 5;
const LEAKS: u8 = 6;
const NOT_UNDERSTOOD: u8 = 7;
const UNCERTAIN: u8 = 8;

fn main() -> ExitCode {
    let options = Options::parse();
    match run(options) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("boot: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(options: Options) -> Result<ExitCode, Box<dyn Error>> {
    requirements::check()?;
    let kernel = build(&options)?;
    let machine = Machine {
        loader: Package::Loader.binary(Profile::Release),
        kernel: Some(kernel.clone()),
        cpus: options.smp,
        memory: options.memory,
        append: options.append,
        accel: options.accel.into(),
        debugger: if options.gdb {
            Debugger::Wait
        } else {
            Debugger::None
        },
        extra: options.qemu_args,
    };
    if machine.debugger == Debugger::Wait {
        let kernel = kernel.display();
        eprintln!("boot: waiting for a debugger: gdb {kernel} -ex 'target remote {DEBUGGER}'");
    }
    let kind = console::kind(options.headless);
    if !options.headless {
        eprintln!("boot: {}", console::how_to_leave(kind));
    }

    let log = ResetLog::new();
    let mut qemu = machine.command(kind, &log);
    let mut leaks = options.fail_on_leak.then(LeakWatch::default);
    let status = console::attach(&mut qemu, kind, leaks.as_mut())?;
    let outcome = Outcome::of(status, &log);
    let verdict = match (outcome, kind) {
        (Outcome::Passed, _) => None,
        // On a terminal Ctrl-A X is a usual way to leave, and the user sees which line was mistyped.
        (Outcome::NoVerdict | Outcome::NotUnderstood, Console::Terminal) => None,
        // Whatever the last check says, not all that was asked for has been done.
        (Outcome::NotUnderstood, Console::Streams) => Some(NOT_UNDERSTOOD),
        (Outcome::Failed, _) => Some(FAILED),
        (Outcome::QemuError, _) => Some(QEMU_ERROR),
        (Outcome::TripleFault, _) => Some(TRIPLE_FAULT),
        (Outcome::NoVerdict | Outcome::TimedOut, _) => Some(NO_VERDICT),
    };
    if let Some(code) = verdict {
        eprintln!("boot: {outcome} (QEMU: {status})");
        if outcome == Outcome::QemuError {
            eprintln!("boot: its command was {}", machine::typed(&qemu));
        }
        return Ok(ExitCode::from(code));
    }
    Ok(leaks.map_or(ExitCode::SUCCESS, leak_verdict))
}

/// Builds what is to run, and returns the kernel's file.
fn build(options: &Options) -> Result<PathBuf, artifacts::BuildError> {
    match (options.kernel(), options.debug_build) {
        (Some(kernel), _) => {
            artifacts::build(&[Package::Loader], Profile::Release)?;
            Ok(kernel.into())
        }
        (None, true) => {
            artifacts::build(&[Package::Loader], Profile::Release)?;
            artifacts::build(&[Package::Kernel], Profile::Debug)?;
            Ok(Package::Kernel.binary(Profile::Debug))
        }
        (None, false) => {
            artifacts::build(&[Package::Loader, Package::Kernel], Profile::Release)?;
            Ok(Package::Kernel.binary(Profile::Release))
        }
    }
}

fn leak_verdict(leaks: LeakWatch) -> ExitCode {
    let (code, what) = match leaks.last() {
        Some(Verdict::Clean) => return ExitCode::SUCCESS,
        Some(Verdict::Leaks) => (LEAKS, "the last check found leaks"),
        Some(Verdict::Uncertain) => (
            UNCERTAIN,
            "the last check is not certain: there are suspects, or not all was recorded",
        ),
        None => (LEAKS, "there was no check for leaks"),
    };
    eprintln!("boot: {what}");
    ExitCode::from(code)
}
