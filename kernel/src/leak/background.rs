//! The task that looks for leaks in the background and prints the detector's warnings.
//!
//! # Locks
//!
//! A mutex, which may sleep, over the printing of warnings.

use kmemleak::NextStep;

use super::hooks::KMEMLEAK;
use crate::edited::Announcement;
use crate::symbols;
use crate::task::{self, Mutex, MutexGuard, Priority};

/// Starts the task.
pub fn start() {
    let started = task::spawn("kmemleak", Priority::Low, || {
        loop {
            let us = step();
            // Stale addresses of the work must not stay on the stack while the task waits.
            task::clear_dead_stack();
            task::sleep_us(us);
        }
    });
    if let Err(error) = started {
        crate::println!("kmemleak: no background scan: {error}");
    }
}

/// Scans if it is time, prints what there is to print, and returns how many microseconds to wait.
#[inline(never)]
fn step() -> u64 {
    // Printed line by line: a report may be larger than memory allows.
    let mut out = Announcement::new();
    let next = KMEMLEAK.background_step(&mut out);
    if let Some(_free) = WARNINGS.try_lock() {
        KMEMLEAK.drain_warnings(&mut out);
    }
    // Nothing can be done about output that the console does not take.
    let _ = symbols::tell_missing(&mut out);
    drop(out);
    match next {
        NextStep::Wait { us } => us.min(WARNINGS_EVERY_US),
        NextStep::Stopped => WARNINGS_EVERY_US,
    }
}

/// Held while the detector's warnings are printed.
static WARNINGS: Mutex<()> = Mutex::new(());

/// Keeps the background task from printing warnings while the caller holds the guard. Task context.
pub fn hold_warnings() -> MutexGuard<'static, ()> {
    WARNINGS.lock()
}

/// Longest time between two looks for warnings of the detector, in microseconds.
const WARNINGS_EVERY_US: u64 = 1_000_000;
