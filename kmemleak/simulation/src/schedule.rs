//! Moments: where a CPU may be overtaken by others.
//!
//! Each access to an atomic of the detector, and to a word of emulated memory, is a moment (`moment`). Not each of them is used: a
//! run lets so many pass between two that are, by its seed, so that some runs change places at each access and others get far. At
//! one that is used an interrupt may come, the task may be preempted or join a stop of the world, if interrupts are on; then
//! `shuttle` decides which CPU goes on.
//!
//! A run that has used [`MANY`] begins nothing new, and uses hardly any more: what is under way comes to its end, and is judged.
//!
//! All of shuttle's threads are on one thread of the host. So what is here of each thread is a cell, kept across each change of
//! threads.

use std::cell::Cell;
use std::sync::atomic::Ordering::SeqCst;

use shuttle::sync::atomic::AtomicBool;

/// Moments that are used before a run is to end.
pub const MANY: u64 = 2_000_000;

/// The gap between two moments that are used when a run is to end.
const LATE_GAP: u32 = 100_000;

/// What is wrong with the world: each must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Spin locks are taken by all who ask.
    LocksDoNotLock,
    /// Interrupts come although they are off.
    InterruptsAreNeverOff,
    /// A stop does not wait for tasks that are in the midst of something.
    StopsDoNotWait,
    /// Nobody hears that a verdict is incomplete.
    NobodyHearsOfWhatIsMissing,
    /// Frozen memory that was lost is said to hold zeros.
    LostImagesAreMadeUp,
    /// Checkpoints that are to ask to end do not.
    NobodyEndsAPass,
    /// The platform vouches for memory that is not mapped.
    WhatIsUnmappedIsVouchedFor,
    /// Stacks of tasks that have ended are not kept for a check, and said to be.
    EndedTasksAreVouchedFor,
}

thread_local! {
    static FAULT: Cell<Fault> = const { Cell::new(Fault::None) };
    /// What comes between, as long as a run goes on.
    static BETWEEN: Cell<Option<Between>> = const { Cell::new(None) };
    /// Moments that pass before one is used.
    static GAP: Cell<u32> = const { Cell::new(0) };
    /// Moments that were used.
    static USED: Cell<u64> = const { Cell::new(0) };
    /// The task that runs now.
    static ME: Cell<usize> = const { Cell::new(0) };
    /// What is accessed where threads may change: shuttle's own atomics are its moments.
    static POINT: AtomicBool = const { AtomicBool::new(false) };
}

/// What the world says of a moment that is used.
#[derive(Clone, Copy)]
pub(crate) struct Between {
    /// How many moments pass until the next one is used.
    pub(crate) gap: fn() -> u32,
    /// Lets come what may come between: a stop, an interrupt, another task.
    pub(crate) come: fn(),
}

/// Begins a run, or ends it.
pub(crate) fn set_between(between: Option<Between>) {
    BETWEEN.set(between);
    GAP.set(0);
    USED.set(0);
    ME.set(0);
}

pub(crate) fn set_fault(fault: Fault) {
    FAULT.set(fault);
}

/// Whether the world has this fault.
pub(crate) fn has(fault: Fault) -> bool {
    FAULT.get() == fault
}

/// The number of the task that runs now.
pub(crate) fn me() -> usize {
    ME.get()
}

/// The thread that runs now is this task's, as long as it goes on.
pub(crate) fn become_task(task: usize) {
    ME.set(task);
}

/// Whether the run is to end.
pub(crate) fn is_late() -> bool {
    USED.get() > MANY
}

/// Others may go on here.
#[inline]
pub(crate) fn moment() {
    let Some(between) = BETWEEN.get() else {
        return;
    };
    match GAP.get().checked_sub(1) {
        Some(left) => GAP.set(left),
        None => change(between),
    }
}

#[cold]
fn change(between: Between) {
    if std::thread::panicking() {
        return;
    }
    USED.set(USED.get() + 1);
    GAP.set(match is_late() {
        true => LATE_GAP,
        false => (between.gap)(),
    });
    (between.come)();
    switch(|| {
        POINT.with(|point| point.load(SeqCst));
    });
}

/// Others must go on here, since the task waits for them.
pub(crate) fn wait() {
    let Some(between) = BETWEEN.get().filter(|_| !std::thread::panicking()) else {
        return;
    };
    (between.come)();
    switch(shuttle::thread::yield_now);
}

/// Does something in which others may go on.
pub(crate) fn switch<R>(to: impl FnOnce() -> R) -> R {
    let me = ME.get();
    let result = to();
    ME.set(me);
    result
}
