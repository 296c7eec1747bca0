//! The runner of leak scripts: one line a file, a sum, and exit code 1 if any failed.

mod qemu;

use std::error::Error;
use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use leak_script::host;

/// Runs leak scripts.
#[derive(Parser)]
struct Arguments {
    /// In the kernel, under QEMU, rather than on the host.
    #[arg(long)]
    qemu: bool,
    /// Processors of the machine.
    #[arg(long, default_value_t = 2)]
    smp: u32,
    /// The scripts.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// What became of a file.
enum Outcome {
    Passed,
    Skipped,
    /// Why it failed.
    Failed(String),
}

impl From<host::Outcome> for Outcome {
    fn from(outcome: host::Outcome) -> Self {
        match outcome {
            host::Outcome::Passed => Self::Passed,
            host::Outcome::Skipped => Self::Skipped,
            host::Outcome::Failed(failure) => Self::Failed(failure.to_string()),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(sum) => {
            println!("{sum}");
            match sum.failed {
                0 => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            eprintln!("leak-script: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs all files, and tells of them.
fn run(arguments: &Arguments) -> Result<Sum, Box<dyn Error>> {
    let cpus = arguments.smp.max(1);
    let mut report = Report::new(&arguments.files);
    let mut scripts = Vec::new();
    for (index, file) in arguments.files.iter().enumerate() {
        match std::fs::read_to_string(file) {
            Ok(text) => scripts.push((index, text)),
            Err(error) => report.add(index, Outcome::Failed(error.to_string())),
        }
    }
    if arguments.qemu {
        qemu::run(&scripts, cpus, &mut report)?;
    } else {
        for (index, text) in scripts {
            report.add(index, host::run(&text, cpus).into());
        }
    }
    Ok(report.sum)
}

/// What became of which file, told in the order in which they were named, as soon as that is known.
struct Report<'f> {
    files: &'f [PathBuf],
    outcomes: Vec<Option<Outcome>>,
    told: usize,
    sum: Sum,
}

impl<'f> Report<'f> {
    fn new(files: &'f [PathBuf]) -> Self {
        Self {
            files,
            outcomes: files.iter().map(|_| None).collect(),
            told: 0,
            sum: Sum::default(),
        }
    }

    fn add(&mut self, index: usize, outcome: Outcome) {
        self.outcomes[index] = Some(outcome);
        while let Some(Some(outcome)) = self.outcomes.get(self.told) {
            let name = self.files[self.told].file_stem().unwrap_or_default();
            let name = name.to_string_lossy();
            match outcome {
                Outcome::Passed => {
                    println!("ok {name}");
                    self.sum.passed += 1;
                }
                Outcome::Skipped => {
                    println!("skipped {name}");
                    self.sum.skipped += 1;
                }
                Outcome::Failed(why) => {
                    println!("FAILED {name}: {why}");
                    self.sum.failed += 1;
                }
            }
            self.told += 1;
        }
    }
}

/// How many files went which way.
#[derive(Default)]
struct Sum {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Display for Sum {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        match self.skipped {
            0 => Ok(()),
            skipped => write!(f, ", {skipped} skipped"),
        }
    }
}
