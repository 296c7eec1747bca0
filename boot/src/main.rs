//! `cargo run`: builds the kernel and its loader, runs them under QEMU with the serial line on the
//! terminal, and ends with the guest's verdict.

mod console;
mod files;
mod listener;
mod options;
mod screen;
mod typed;

use std::error::Error;
use std::fmt::Display;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};

use boot::artifacts::{self, Package, Profile};
use boot::leaks::Verdict;
use boot::machine::{self, Console, Debugger, DebuggerPort, Machine, Owner, ResetLog};
use boot::outcome::Outcome;
use boot::requirements;

use crate::console::{Plan, Run};
use crate::options::Options;

/// Exit codes besides success and clap's 2 for wrong usage; `--help` lists them.
const FAILED: u8 = 1;
const WRONG_FILE: u8 = 2;
const QEMU_ERROR: u8 = 3;
const TRIPLE_FAULT: u8 = 4;
const NO_VERDICT: u8 = 5;
const LEAKS: u8 = 6;
const NOT_UNDERSTOOD: u8 = 7;
const UNCERTAIN: u8 = 8;
const TIMED_OUT: u8 = 9;

/// What the guest's shell is told where nobody can look at what went wrong and type something else.
const STOP_AT_ERRORS: &str = "shell.errors=stop";

fn main() -> ExitCode {
    match run(Options::of_command_line()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("boot: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(options: Options) -> Result<ExitCode, Box<dyn Error>> {
    let typed = match options.typed() {
        Ok(typed) => typed,
        Err(error) => return Ok(wrong_file(&error)),
    };
    if let Err(error) = options.files.check() {
        return Ok(wrong_file(&error));
    }
    let kind = console::kind(options.is_headless());
    if kind == Console::Terminal && options.files.any() {
        return Ok(wrong_file(&files::NO_TERMINAL));
    }
    requirements::check()?;
    let kernel = build(&options)?;
    let debugger = match options.gdb {
        true => Debugger::Wait(DebuggerPort::take()?),
        false => Debugger::None,
    };
    if let Debugger::Wait(port) = &debugger {
        let owner = match options.kernel() {
            Some(_) => Owner::Others,
            None => Owner::Us,
        };
        let command = machine::debugger_command(&kernel, owner, port.number());
        let command = machine::typed(&command);
        eprintln!("boot: waiting for a debugger; attach it in another terminal: {command}");
    }
    let machine = machine(&options, kind, kernel, debugger);
    if !options.is_headless() {
        eprintln!("boot: {}", console::how_to_leave(kind));
    }

    let log = ResetLog::new();
    let mut qemu = machine.command(kind, &log)?;
    if options.verbose {
        eprintln!("boot: running {}", machine::typed(&qemu));
    }
    let plan = Plan {
        kind,
        typed,
        limit: options.limit(),
        watch: options.fail_on_leak,
        files: options.files.clone(),
    };
    let mut run = console::attach(&mut qemu, plan)?;
    let outcome = run
        .status
        .map_or(Outcome::TimedOut, |status| Outcome::of(status, &log));
    let verdict = verdict_of_guest(outcome, kind);
    let goes_on = outcome == Outcome::NotUnderstood && options.keep_going;
    run.gathered.ended_early = verdict.filter(|_| !goes_on).map(|_| outcome.to_string());
    let written = options.files.write(&run.gathered);
    if let Some(code) = verdict {
        tell_outcome(outcome, run.status);
        if outcome == Outcome::QemuError {
            eprintln!("boot: its command was {}", machine::typed(&qemu));
        }
        if let Err(error) = written {
            eprintln!("boot: {error}");
        }
        return Ok(ExitCode::from(code));
    }
    if let Err(error) = written {
        return Ok(wrong_file(&error));
    }
    Ok(match options.fail_on_leak {
        true => leak_verdict(&run),
        false => ExitCode::SUCCESS,
    })
}

fn wrong_file(error: &dyn Display) -> ExitCode {
    eprintln!("boot: {error}");
    ExitCode::from(WRONG_FILE)
}

/// The exit code, if the guest did not do what was asked of it.
fn verdict_of_guest(outcome: Outcome, kind: Console) -> Option<u8> {
    match (outcome, kind) {
        (Outcome::Passed, _) => None,
        // On a terminal Ctrl-A X is a usual way to leave, and the user sees which line was mistyped.
        (Outcome::NoVerdict | Outcome::NotUnderstood, Console::Terminal) => None,
        // Whatever the last check says, not all that was asked for has been done.
        (Outcome::NotUnderstood, Console::Streams) => Some(NOT_UNDERSTOOD),
        (Outcome::Failed, _) => Some(FAILED),
        (Outcome::QemuError, _) => Some(QEMU_ERROR),
        (Outcome::TripleFault, _) => Some(TRIPLE_FAULT),
        (Outcome::NoVerdict, Console::Streams) => Some(NO_VERDICT),
        (Outcome::TimedOut, _) => Some(TIMED_OUT),
    }
}

fn tell_outcome(outcome: Outcome, status: Option<ExitStatus>) {
    match status {
        Some(status) => eprintln!("boot: {outcome} (QEMU: {status})"),
        None => eprintln!("boot: {outcome}"),
    }
}

/// The machine that is asked for.
fn machine(options: &Options, kind: Console, kernel: PathBuf, debugger: Debugger) -> Machine {
    Machine {
        loader: Package::Loader.binary(Profile::Release),
        kernel: Some(kernel),
        cpus: options.smp,
        memory: options.memory.clone(),
        append: append(options, kind),
        accel: options.accel.into(),
        debugger,
        extra: options.qemu_args.clone(),
    }
}

/// The kernel's command line. What the user says comes last, where it counts.
fn append(options: &Options, kind: Console) -> String {
    // Another kernel may not know our parameters, or mean something else by them.
    let ours = match options.kernel() {
        Some(_) => String::new(),
        None => screen::parameters(screen::Screen::of(kind).as_ref(), options.color),
    };
    let stops = options.kernel().is_none() && kind == Console::Streams && !options.keep_going;
    let errors = if stops { STOP_AT_ERRORS } else { "" };
    let words = [errors, ours.as_str(), options.append.as_str()];
    let words = words.iter().filter(|words| !words.is_empty());
    words.copied().collect::<Vec<_>>().join(" ")
}

/// Builds what is to run, and returns the kernel's file.
fn build(options: &Options) -> Result<PathBuf, artifacts::BuildError> {
    let profile = match (options.kernel(), options.debug_build, options.gdb) {
        (Some(kernel), ..) => {
            artifacts::build(&[Package::Loader], Profile::Release)?;
            return Ok(kernel.into());
        }
        (None, false, false) => Profile::Release,
        (None, true, _) => Profile::Debug,
        (None, false, true) => Profile::Gdb,
    };
    match profile {
        Profile::Release => artifacts::build(&[Package::Loader, Package::Kernel], profile)?,
        Profile::Debug | Profile::Gdb => {
            artifacts::build(&[Package::Loader], Profile::Release)?;
            artifacts::build(&[Package::Kernel], profile)?;
        }
    }
    Ok(Package::Kernel.binary(profile))
}

fn leak_verdict(run: &Run) -> ExitCode {
    let (code, what) = match run.verdict {
        Some(Verdict::Clean) => return ExitCode::SUCCESS,
        Some(Verdict::Leaks) => (LEAKS, "the last check found leaks"),
        Some(Verdict::Uncertain) => (
            UNCERTAIN,
            "the last check is not certain: there are suspects, or not all blocks were recorded",
        ),
        None => (LEAKS, "there was no check for leaks"),
    };
    eprintln!("boot: {what}");
    ExitCode::from(code)
}
