//! Scripts in the kernel: the test kernel under QEMU, one boot for as many as it takes.
//!
//! The texts go in as one file of QEMU's firmware configuration device; what comes out is [`lines`]. A machine ends after a
//! script that turned the detector off, and with one that brings it down or never answers. The scripts that it has not begun then
//! go to the next machine.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use boot::artifacts::{self, Package, Profile};
use boot::machine::{Accel, Machine};
use boot::outcome::{Ended, Outcome as Verdict};
use boot::patience::Patience;
use boot::requirements::{self, QEMU};
use boot::session::Session;

use crate::lines::{self, Line};
use crate::{Outcome, Report};

/// The file's name in the guest.
const FILE: &str = "opt/leak-scripts";

/// How long a script may take, and a boot; the host may be loaded.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Builds what is booted, and runs these scripts, each with its file's number, on machines of `cpus` CPUs.
pub fn run(
    scripts: &[(usize, String)],
    cpus: u32,
    report: &mut Report<'_>,
) -> Result<(), Box<dyn Error>> {
    if scripts.is_empty() {
        return Ok(());
    }
    requirements::check()?;
    artifacts::build(&[Package::Loader], Profile::Release)?;
    artifacts::build(&[Package::Guest], Profile::Release)?;
    let mut rest = scripts;
    while !rest.is_empty() {
        let done = boot(rest, cpus, report)?;
        rest = &rest[done..];
    }
    Ok(())
}

/// Boots a machine for these scripts, and returns how many of them are done: at least one.
fn boot(
    scripts: &[(usize, String)],
    cpus: u32,
    report: &mut Report<'_>,
) -> Result<usize, Box<dyn Error>> {
    let parcel = Parcel::pack(scripts)?;
    let session = Session::start(&machine(&parcel, cpus));
    let mut session = session.map_err(|error| format!("{QEMU}: {error}"))?;
    let mut patience = Patience::new(LIMIT);
    let mut begun = false;
    let mut done = 0;
    while let Some(&(file, _)) = scripts.get(done) {
        let line = match session.wait_for("\n", patience.left()) {
            Ok(line) => line,
            Err(unexpected) => {
                let ended = unexpected.ended;
                // A machine that ends between two scripts is no failure; but one that does none would be booted again and again.
                if begun || done == 0 {
                    report.add(file, Outcome::Failed(what_was_seen(&ended)));
                    done += 1;
                }
                return Ok(done);
            }
        };
        match Line::read(line.trim_end(), done) {
            Some(Line::Begins) => begun = true,
            Some(Line::Ends(outcome)) => {
                report.add(file, outcome);
                done += 1;
                begun = false;
            }
            // The line is the kernel's, not the runner's.
            None => continue,
        }
        patience = Patience::new(LIMIT);
    }
    Ok(done)
}

fn machine(parcel: &Parcel, cpus: u32) -> Machine {
    let loader = Package::Loader.binary(Profile::Release);
    let kernel = Package::Guest.binary(Profile::Release);
    Machine {
        cpus,
        append: "scripts kmemleak.scan=0".into(),
        // Emulated everywhere, so that a script runs alike everywhere.
        accel: Accel::Tcg,
        extra: vec!["-fw_cfg".into(), parcel.option()],
        ..Machine::new(loader, kernel)
    }
}

/// How a machine that should have gone on ended, in one line.
fn what_was_seen(ended: &Ended) -> String {
    if ended.outcome == Verdict::TimedOut {
        return format!("no answer in {} s", LIMIT.as_secs());
    }
    let lines: Vec<&str> = ended.serial.lines().map(str::trim_end).collect();
    // A kernel that ends itself says why, in front of registers and call stack.
    let why = lines.iter().position(|line| line.starts_with("[cpu "));
    let seen = match why {
        Some(first) => {
            let rest = lines[first..].iter();
            let why = rest.take_while(|line| !line.starts_with("  rip") && **line != "backtrace:");
            why.copied().collect::<Vec<_>>().join(" ")
        }
        None => {
            let last = lines.iter().rfind(|line| !line.is_empty());
            last.map_or_else(|| ended.qemu.trim().into(), ToString::to_string)
        }
    };
    format!("{}: {seen}", ended.outcome)
}

/// The texts in a file, which is gone when this is dropped.
struct Parcel(PathBuf);

impl Parcel {
    fn pack(scripts: &[(usize, String)]) -> Result<Self, Box<dyn Error>> {
        let bytes = lines::pack(scripts)?;
        let name = format!("leak-scripts-{}", process::id());
        let parcel = Self(env::temp_dir().join(name));
        let written = fs::write(&parcel.0, bytes);
        written.map_err(|error| format!("{}: {error}", parcel.0.display()))?;
        Ok(parcel)
    }

    /// QEMU's option for it. It parts options by commas, and takes two of them for one.
    fn option(&self) -> OsString {
        let path = Path::display(&self.0).to_string().replace(',', ",,");
        format!("name={FILE},file={path}").into()
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        // A file that can't be removed stays in the temporary directory.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_machine_is_a_line() {
        let seen = |outcome, serial: &str| {
            what_was_seen(&Ended {
                outcome,
                command: String::new(),
                serial: serial.into(),
                qemu: "no such option\n".into(),
            })
        };
        let panic = "leak-script 0 begins\n\n[cpu 0, task 5 \"scripts\"] panicked at a.rs:1:\nso\nbacktrace:\n  f+0x1/0x2\n";
        assert_eq!(
            seen(Verdict::Failed, panic),
            "the guest failed: [cpu 0, task 5 \"scripts\"] panicked at a.rs:1: so"
        );
        let fault = "[cpu 1] page fault at address 0x0\n  rip 0x1  rsp 0x2\nbacktrace:\n";
        assert_eq!(
            seen(Verdict::Failed, fault),
            "the guest failed: [cpu 1] page fault at address 0x0"
        );
        assert_eq!(
            seen(Verdict::TripleFault, "leak-script 0 begins\n\n"),
            "triple fault: leak-script 0 begins"
        );
        assert_eq!(
            seen(Verdict::QemuError, ""),
            "QEMU itself failed: no such option"
        );
        assert_eq!(seen(Verdict::TimedOut, "anything"), "no answer in 120 s");
    }
}
