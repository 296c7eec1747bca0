//! The runner of leak scripts: one line a file, a sum, and exit code 1 if any failed.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use leak_script::host::{self, Outcome};

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

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.qemu {
        eprintln!("leak-script: there is no runner for QEMU yet");
        return ExitCode::FAILURE;
    }
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for file in &arguments.files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) => {
                println!("FAILED {name}: {error}");
                failed += 1;
                continue;
            }
        };
        match host::run(&text, arguments.smp.max(1)) {
            Outcome::Passed => {
                println!("ok {name}");
                passed += 1;
            }
            Outcome::Skipped => {
                println!("skipped {name}");
                skipped += 1;
            }
            Outcome::Failed(failure) => {
                println!("FAILED {name}: {failure}");
                failed += 1;
            }
        }
    }
    let more = if skipped > 0 {
        format!(", {skipped} skipped")
    } else {
        String::new()
    };
    println!("{passed} passed, {failed} failed{more}");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
