//! The runner of leak scripts: one line a file, a sum, and exit code 1 if any failed.

mod lines;
mod process;
mod qemu;

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use leak_script::museum;

/// Runs leak scripts.
#[derive(Parser)]
struct Arguments {
    /// In the kernel, under QEMU, rather than on the host.
    #[arg(long)]
    qemu: bool,
    /// Processors of the machine.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    smp: u32,
    /// Print the museum's table of these exhibits.
    #[arg(long, conflicts_with = "qemu")]
    table: bool,
    /// Run what comes by the standard input: the process that runs scripts on the host.
    #[arg(long, hide = true)]
    serve: bool,
    /// The scripts.
    #[arg(required_unless_present = "serve")]
    files: Vec<PathBuf>,
}

/// What became of a file.
enum Outcome {
    Passed,
    Skipped,
    /// Why it failed.
    Failed(String),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.serve {
        return match process::serve(arguments.smp) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    if arguments.table {
        return print_table(&arguments.files);
    }
    let sum = run(&arguments);
    println!("{sum}");
    match sum.failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Prints a line for each exhibit, and what is wrong with those that have none.
fn print_table(files: &[PathBuf]) -> ExitCode {
    println!("{}", museum::HEAD);
    let mut code = ExitCode::SUCCESS;
    for file in files {
        let name = name(file);
        match read(file).and_then(|text| museum::row(&name, &text)) {
            Ok(row) => println!("{row}"),
            Err(why) => {
                eprintln!("FAILED {name}: {why}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// What a file's script is called.
fn name(file: &Path) -> Cow<'_, str> {
    file.file_stem().unwrap_or_default().to_string_lossy()
}

/// Runs all files, and reports on them.
fn run(arguments: &Arguments) -> Sum {
    let mut report = Report::new(&arguments.files);
    let mut scripts = Vec::new();
    for (index, file) in arguments.files.iter().enumerate() {
        match read(file) {
            Ok(text) => scripts.push((index, text)),
            Err(why) => report.add(index, Outcome::Failed(why)),
        }
    }
    let all_were_run = match arguments.qemu {
        true => qemu::run(&scripts, arguments.smp, &mut report),
        false => process::run(&scripts, arguments.smp, &mut report).map_err(Into::into),
    };
    if let Err(error) = all_were_run {
        report.give_up(&error.to_string());
    }
    report.sum
}

/// The text of a file, or why there is none.
fn read(file: &Path) -> Result<String, String> {
    let bytes = fs::read(file).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| {
        let text = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = text.iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("line {line}: no UTF-8")
    })
}

/// What became of each file, printed in the order in which they were named, as soon as it is known.
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
            let name = name(&self.files[self.told]);
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

    /// Nothing can be run any more: all files without an outcome have failed.
    fn give_up(&mut self, why: &str) {
        for index in 0..self.files.len() {
            if self.outcomes[index].is_none() {
                self.add(index, Outcome::Failed(why.into()));
            }
        }
    }
}

/// How many files passed, failed, and were skipped.
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
