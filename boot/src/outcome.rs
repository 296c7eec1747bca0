//! How a machine ended.

use std::error::Error;
use std::fmt::{self, Display, Formatter};
use std::process::ExitStatus;

use crate::machine::ResetLog;

/// QEMU's exit code when the guest reports success: it writes 0x10 to the exit device.
const GUEST_SUCCESS: i32 = 33;
/// QEMU's exit code when the guest reports failure: it writes 0x11 to the exit device.
const GUEST_FAILURE: i32 = 35;
/// QEMU's exit code when the guest has succeeded but was told what it did not understand: it writes 0x12 to the exit device.
const GUEST_NOT_UNDERSTOOD: i32 = 37;

/// Lines of serial output that a report shows.
const TAIL_LINES: usize = 120;

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest reported success.
    Passed,
    /// The guest ended as it should, and reported that a command was not understood, or failed.
    NotUnderstood,
    /// The guest reported failure.
    Failed,
    /// QEMU itself failed.
    QemuError,
    /// A fault in the guest could not even be handled as a double fault.
    TripleFault,
    /// The guest ended with no verdict: it reset the machine, or QEMU was told to quit.
    NoVerdict,
    /// The guest was ended because its time was over.
    TimedOut,
}

impl Outcome {
    /// What QEMU's end means.
    pub fn of(status: ExitStatus, log: &ResetLog) -> Self {
        match status.code() {
            Some(GUEST_SUCCESS) => Self::Passed,
            Some(GUEST_FAILURE) => Self::Failed,
            Some(GUEST_NOT_UNDERSTOOD) => Self::NotUnderstood,
            Some(0) if log.has_triple_fault() => Self::TripleFault,
            Some(0) => Self::NoVerdict,
            _ => Self::QemuError,
        }
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "the guest passed",
            Self::NotUnderstood => "a command was not understood, or failed",
            Self::Failed => "the guest failed",
            Self::QemuError => "QEMU itself failed",
            Self::TripleFault => "triple fault",
            Self::NoVerdict => {
                "the machine was reset, or QEMU told to quit, before the guest's verdict"
            }
            Self::TimedOut => "timed out",
        })
    }
}

/// A machine that has ended: how, and what it had to say. Displays as a report.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How it ended.
    pub outcome: Outcome,
    /// QEMU's command line.
    pub command: String,
    /// What the guest wrote to the serial line, without carriage returns.
    pub serial: String,
    /// What QEMU had to say itself.
    pub qemu: String,
}

impl Display for Ended {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.outcome)?;
        write_report(&self.command, &self.qemu, &self.serial, f)
    }
}

/// Writes what a machine was and had to say.
pub(crate) fn write_report(
    command: &str,
    qemu: &str,
    serial: &str,
    f: &mut Formatter<'_>,
) -> fmt::Result {
    writeln!(f, "command: {command}")?;
    if !qemu.is_empty() {
        writeln!(f, "QEMU: {}", qemu.trim_end())?;
    }
    let lines: Vec<&str> = serial.lines().collect();
    let skipped = lines.len().saturating_sub(TAIL_LINES);
    match skipped {
        0 => writeln!(f, "serial output:")?,
        _ => writeln!(f, "serial output (without its first {skipped} lines):")?,
    }
    lines[skipped..]
        .iter()
        .try_for_each(|line| writeln!(f, "    {line}"))
}

impl Error for Ended {}
