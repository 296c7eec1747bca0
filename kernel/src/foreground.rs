//! The command that runs in the foreground: how it is ended by Ctrl-C, and how it tells how far it has come.
//!
//! Long work asks [`go_on`] now and then: from the shell's task, from other tasks that work for the command, and from a stopped
//! world, on all CPUs at once. Most times that is a look at the clock. Once in [`POLL_US`] one of them looks at the serial line
//! itself, since in a stopped world no interrupt does. What else was typed stays for the shell.
//!
//! On a terminal Ctrl-C counts wherever it stands in what was typed and not read yet. On a plain line it counts only if nothing
//! stands before it: else it belongs to a later line of a script. While the ring of the serial line is full, what comes
//! after waits in the device, and is not seen.
//!
//! Beginning a second after the command's start, a terminal shows once a second how far it has come.
//!
//! # Locks
//!
//! The serial line's, which no stopped CPU holds.

use core::fmt::Display;
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::arch::percpu::task_id;
use crate::console;
use crate::dev::serial::{self, Typed};
use crate::dev::time;

/// How often the serial line is looked at: Ctrl-C ends a command within a tenth of a second.
const POLL_US: u64 = 10_000;

/// How often a terminal shows how far a command has come, and from when on.
const SHOW_US: u64 = 1_000_000;

/// No task.
const NOBODY: u32 = u32::MAX;

/// The task whose command runs. All of these are single words that order nothing: Relaxed.
static TASK: AtomicU32 = AtomicU32::new(NOBODY);
/// Whether that task has stopped the world, or is about to.
static STOPS_WORLD: AtomicBool = AtomicBool::new(false);
/// Whether Ctrl-C was typed.
static ENDING: AtomicBool = AtomicBool::new(false);
/// When the serial line is looked at next, and when the terminal shows something.
static NEXT_POLL_US: AtomicU64 = AtomicU64::new(0);
static NEXT_SHOW_US: AtomicU64 = AtomicU64::new(0);

/// A command runs in the calling task, as long as this lives.
#[derive(Debug)]
pub struct Foreground(());

impl Foreground {
    /// A command begins. One at a time. Task context.
    pub fn begin() -> Self {
        ENDING.store(false, Relaxed);
        NEXT_SHOW_US.store(time::now_us() + SHOW_US, Relaxed);
        TASK.store(task_id().unwrap_or(NOBODY), Relaxed);
        Self(())
    }

    /// Whether it was asked to end.
    pub fn is_ending(&self) -> bool {
        ENDING.load(Relaxed)
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        TASK.store(NOBODY, Relaxed);
        console::erase_progress();
    }
}

/// Whether to go on with what the command does: `Break` once Ctrl-C was typed. Any context that may write to the console.
pub fn go_on() -> ControlFlow<()> {
    let now_us = time::now_us();
    if is_time(&NEXT_POLL_US, now_us, POLL_US) {
        let wanted = match console::terminal() {
            Some(_) => Typed::Anywhere,
            None => Typed::Next,
        };
        if serial::take_interrupt(wanted) {
            ENDING.store(true, Relaxed);
        }
    }
    match ENDING.load(Relaxed) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

/// Like [`go_on`], for work that may be the command's or another task's: another task's work is never ended. `progress` says how
/// far it has come.
pub fn checkpoint(progress: &dyn Display) -> ControlFlow<()> {
    match is_at_work() {
        true => go_on_from(progress),
        false => ControlFlow::Continue(()),
    }
}

/// Like [`go_on`], for code in any task that works for the command. `progress` says how far it has come.
pub fn go_on_from(progress: &dyn Display) -> ControlFlow<()> {
    if is_time(&NEXT_SHOW_US, time::now_us(), SHOW_US) {
        console::show_progress(progress);
    }
    go_on()
}

/// Whether the calling code works for the command: in its task, or on any CPU in a world that it stopped. Any context.
pub fn is_at_work() -> bool {
    let task = TASK.load(Relaxed);
    task != NOBODY && (STOPS_WORLD.load(Relaxed) || task_id() == Some(task))
}

/// Whether it is time again; for one of those that ask at the same time.
fn is_time(next: &AtomicU64, now_us: u64, every_us: u64) -> bool {
    let due_us = next.load(Relaxed);
    // Set by another command, or a clock before it was set.
    let due = now_us >= due_us || due_us > now_us + every_us;
    due && next
        .compare_exchange(due_us, now_us + every_us, Relaxed, Relaxed)
        .is_ok()
}

/// As long as this lives, what a stopped world does counts as the work of the task that stops it.
#[derive(Debug)]
pub struct StopsWorld(());

impl StopsWorld {
    /// The calling task stops the world. One at a time.
    pub fn begin() -> Self {
        STOPS_WORLD.store(task_id() == Some(TASK.load(Relaxed)), Relaxed);
        Self(())
    }
}

impl Drop for StopsWorld {
    fn drop(&mut self) {
        STOPS_WORLD.store(false, Relaxed);
    }
}
