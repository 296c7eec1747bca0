//! What a lock disables while it is held: preemption, or this CPU's interrupts as well.
//!
//! One count per CPU says whether the running code may be preempted: its low half counts the
//! guards of this file, its high half the interrupt handlers that are being run. Work that has to wait for
//! a count of zero (a switch to another task, a stop of the world) is noted in
//! `PENDING`; the last guard or the outermost handler, which brings the count to zero, does the work.
//!
//! # Invariants
//!
//! - A CPU is preempted, and joins a stop of the world, at a count of zero only: so at such moments it
//!   holds no spinlock and is in no handler.
//! - [`IrqGuard`] counts as well. It turns interrupts on again *before* it takes itself off the
//!   count, so that at zero interrupts are on unless the caller itself had turned them off.
//! - `PENDING` is only written by its own CPU, with interrupts off; other CPUs ask by an IPI.

use core::arch::asm;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU32, Ordering};

use spin::Once;

use crate::arch::interrupts::{self, InterruptFlag};
use crate::arch::percpu::{InterruptsOff, StaysHere, task_id};
use crate::percpu;

percpu! {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    static PENDING: AtomicU32 = AtomicU32::new(0);
}

/// What joins a stop of the world, and what gives this CPU to another task. Both are in modules that use the locks, so
/// [`init`] sets them.
static JOIN_STOP: Once<fn()> = Once::new();
static PREEMPT: Once<fn()> = Once::new();

/// Sets what is called, at a count of zero and with interrupts off, when the world is to be stopped or another task is to get
/// the CPU.
pub fn init(join_stop: fn(), preempt: fn()) {
    JOIN_STOP.call_once(|| join_stop);
    PREEMPT.call_once(|| preempt);
}

/// One interrupt handler in the count.
const HANDLER: u32 = 1 << 16;

/// Work that waits for the count to be zero. A set of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending(u32);

impl Pending {
    /// Another task is to get this CPU.
    pub const RESCHEDULE: Self = Self(1);
    /// The world is to be stopped.
    pub const STOP: Self = Self(2);

    fn contains(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Adds `by` to this CPU's count. One instruction, so that it can't be split by a migration.
#[inline]
fn add(by: u32) {
    // SAFETY: adds to one word of this CPU's area. No `nomem`: the guarded accesses stay behind it.
    unsafe { asm!("add dword ptr gs:[{1}], {0:e}", in(reg) by, sym COUNT, options(nostack)) };
}

#[inline]
fn count() -> u32 {
    let count;
    // SAFETY: reads one word of this CPU's area.
    unsafe {
        asm!("mov {0:e}, dword ptr gs:[{1}]", out(reg) count, sym COUNT,
            options(nostack, readonly, preserves_flags));
    }
    count
}

#[inline]
fn pending() -> Pending {
    let bits;
    // SAFETY: reads one word of this CPU's area.
    unsafe {
        asm!("mov {0:e}, dword ptr gs:[{1}]", out(reg) bits, sym PENDING,
            options(nostack, readonly, preserves_flags));
    }
    Pending(bits)
}

/// This CPU's count of guards and handlers. Handlers count more than one: use it for comparison only.
pub fn depth() -> u32 {
    count()
}

/// Whether the running code can't be preempted.
pub fn is_disabled() -> bool {
    count() != 0
}

/// Whether an interrupt handler runs on this CPU.
pub fn in_interrupt() -> bool {
    count() >= HANDLER
}

/// The number of the running task; none in a handler, and before there are tasks. Any context.
#[inline]
pub fn running_task() -> Option<u32> {
    if in_interrupt() {
        return None;
    }
    task_id()
}

/// Notes work for the moment the count becomes zero. Called in an interrupt handler of this CPU, or
/// with interrupts off.
pub fn set_pending(work: Pending, guard: &IrqGuard) {
    PENDING.local(guard).fetch_or(work.0, Ordering::Relaxed);
}

/// Keeps the code that holds it on this CPU; interrupts are taken. Nests. Any context.
#[derive(Debug)]
pub struct PreemptGuard(PhantomData<*mut ()>);

impl PreemptGuard {
    /// Disables preemption.
    #[inline]
    #[expect(
        clippy::new_without_default,
        reason = "a guard is taken, not made by default"
    )]
    pub fn new() -> Self {
        add(1);
        Self(PhantomData)
    }
}

// SAFETY: preemption is disabled as long as it lives.
unsafe impl StaysHere for PreemptGuard {}

impl Drop for PreemptGuard {
    #[inline]
    fn drop(&mut self) {
        add(1u32.wrapping_neg());
        if pending().0 != 0 {
            run_pending();
        }
    }
}

/// Keeps the code that holds it on this CPU, and interrupts off it. Nests. Any context.
#[derive(Debug)]
pub struct IrqGuard {
    before: InterruptFlag,
    not_send: PhantomData<*mut ()>,
}

impl IrqGuard {
    /// Disables interrupts.
    #[inline]
    #[expect(
        clippy::new_without_default,
        reason = "a guard is taken, not made by default"
    )]
    pub fn new() -> Self {
        let before = interrupts::disable();
        add(1);
        Self {
            before,
            not_send: PhantomData,
        }
    }

    /// How the interrupt flag was before.
    pub(crate) fn before(&self) -> InterruptFlag {
        self.before
    }

    /// Takes over a guard that was never dropped; `before` is how the interrupt flag is to be put.
    ///
    /// # Safety
    ///
    /// Interrupts are off, and this CPU's count includes one that no other guard takes off.
    pub(crate) unsafe fn adopt(before: InterruptFlag) -> Self {
        Self {
            before,
            not_send: PhantomData,
        }
    }
}

// SAFETY: interrupts are disabled as long as it lives.
unsafe impl InterruptsOff for IrqGuard {}

impl Drop for IrqGuard {
    #[inline]
    fn drop(&mut self) {
        interrupts::restore(self.before);
        add(1u32.wrapping_neg());
        if pending().0 != 0 {
            run_pending();
        }
    }
}

/// Counts an interrupt handler from its entry to its end.
pub(crate) struct HandlerScope(PhantomData<*mut ()>);

impl HandlerScope {
    /// Counts a handler that begins. Interrupts are off.
    pub(crate) fn new() -> Self {
        add(HANDLER);
        Self(PhantomData)
    }
}

impl Drop for HandlerScope {
    fn drop(&mut self) {
        add(HANDLER.wrapping_neg());
        // Interrupts have been off all the time, so no interrupt comes in between.
        if count() == 0 && pending().0 != 0 {
            do_pending();
        }
    }
}

/// Does the noted work, if the count is zero and interrupts are on.
#[cold]
fn run_pending() {
    // Code that has turned interrupts off without a guard keeps its CPU; the end of the next interrupt does the work.
    if count() != 0 || interrupts::flag() == InterruptFlag::Disabled {
        return;
    }
    interrupts::disable();
    if count() == 0 {
        do_pending();
    }
    interrupts::enable();
}

/// Does the noted work. Interrupts are off and the count is zero.
fn do_pending() {
    loop {
        let work = {
            // Counted without a guard: dropping one would call this function again.
            add(1);
            let work = take_pending();
            add(1u32.wrapping_neg());
            work
        };
        for (kind, run) in [(Pending::STOP, &JOIN_STOP), (Pending::RESCHEDULE, &PREEMPT)] {
            if work.contains(kind)
                && let Some(run) = run.get()
            {
                run();
            }
        }
        if work.0 == 0 {
            break;
        }
    }
}

/// Takes the notes of this CPU's pending work. Interrupts are off.
fn take_pending() -> Pending {
    let mut bits = 0u32;
    // SAFETY: exchanges one word of this CPU's area.
    unsafe {
        asm!("xchg {0:e}, dword ptr gs:[{1}]", inout(reg) bits, sym PENDING, options(nostack))
    };
    Pending(bits)
}
