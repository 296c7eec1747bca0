//! The task that looks for leaks in the background and prints the detector's warnings.
//!
//! # Locks
//!
//! A sleeping one over the printing of warnings.

use kmemleak::NextStep;

use super::hooks::KMEMLEAK;
use crate::task::{self, Mutex, MutexGuard, Priority};
use crate::{console, symbols};

/// Starts it.
pub fn start() {
    let started = task::spawn("kmemleak", Priority::Low, || {
        loop {
            let us = step();
            // The frames in which it waits are not to hold what it has worked with.
            task::clear_dead_stack();
            task::sleep_us(us);
        }
    });
    if let Err(error) = started {
        crate::println!("kmemleak: no background scan: {error}");
    }
}

/// Scans if it is time to, prints what there is to print, and tells how long to wait.
#[inline(never)]
fn step() -> u64 {
    // Line by line: a report has no bounds, and memory has.
    let mut out = console::Announcement::new();
    let next = KMEMLEAK.background_step(&mut out);
    if let Some(_free) = WARNINGS.try_lock() {
        KMEMLEAK.drain_warnings(&mut out);
    }
    // What the console does not take is lost anyway.
    let _ = symbols::tell_missing(&mut out);
    drop(out);
    match next {
        NextStep::Wait { us } => us.min(WARNINGS_EVERY_US),
        NextStep::Stopped => WARNINGS_EVERY_US,
    }
}

/// Who prints the detector's warnings.
static WARNINGS: Mutex<()> = Mutex::new(());

/// Leaves the detector's warnings to the caller for as long as it holds this. Task context.
pub fn hold_warnings() -> MutexGuard<'static, ()> {
    WARNINGS.lock()
}

/// How often the detector's warnings are looked for.
const WARNINGS_EVERY_US: u64 = 1_000_000;
