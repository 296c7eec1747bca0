//! The end of the machine, and what its exit code says of the commands.

use core::sync::atomic::{AtomicBool, Ordering};

use crate::arch::exit::{ExitCode, exit};
use crate::{cmdline, println};

/// The boot parameter that says what a failed command means: `stop` or `continue`, which is the default.
const PARAMETER: &str = "shell.errors";

/// Whether all lines so far were commands with arguments that they take, and were done.
static ALL_DONE: AtomicBool = AtomicBool::new(true);

/// Complains of a value that the parameter does not take.
pub fn check_parameter() {
    if let Some(value) = cmdline::value(PARAMETER)
        && !matches!(value, "stop" | "continue")
    {
        println!("{PARAMETER}: invalid value `{value}`: expected stop or continue");
    }
}

/// A line was not understood, or its command failed. Ends the machine if the boot parameter asks for that.
pub fn not_done() {
    ALL_DONE.store(false, Ordering::Relaxed);
    if cmdline::value(PARAMETER) == Some("stop") {
        println!(
            "shell: stopped at a command that was not understood, or failed ({PARAMETER}=stop)"
        );
        end()
    }
}

/// Ends the machine, with success if all was done.
pub fn end() -> ! {
    exit(match ALL_DONE.load(Ordering::Relaxed) {
        true => ExitCode::Success,
        false => ExitCode::NotUnderstood,
    })
}
