//! The detector of this process: two statics, and a report.

use std::alloc::System;
use std::fmt;

use kmemleak::{Detector, Tracked, Which};

use crate::host::{self, Host};

static KMEMLEAK: Detector<Host> = Detector::new(Host);
#[global_allocator]
static HEAP: Tracked<System, Host> = Tracked::new(System, &KMEMLEAK);

/// The exit code of a process that has leaks: that of LeakSanitizer.
const HAS_LEAKS: i32 = 23;

/// Has the process checked when it exits. To be called before all else.
pub fn start() {
    host::start(report);
}

/// Runs a command of the detector's.
pub fn command(line: &str) {
    let _ = KMEMLEAK.command(line, &mut StandardError);
}

/// Checks and reports; as often as the second argument says, if there is one, as long as the verdict stays the same.
extern "C" fn report() {
    let times: u32 = std::env::args()
        .nth(2)
        .map_or(1, |times| times.parse().unwrap_or(1));
    let check = || {
        KMEMLEAK
            .check()
            .map(|summary| (summary.listed(), summary.doubt()))
    };
    let first = check();
    let same = (1..times).all(|_| check() == first);
    let _ = KMEMLEAK.report_in_full(Which::Leaders, &mut StandardError);
    if !same || first != Ok((0, None)) {
        // SAFETY: it ends the process.
        unsafe { libc::_exit(HAS_LEAKS) };
    }
}

/// Writes without memory and locks, which an exiting process may not have any more.
struct StandardError;

impl fmt::Write for StandardError {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: the text.
        let written = unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
        if written < 0 { Err(fmt::Error) } else { Ok(()) }
    }
}
