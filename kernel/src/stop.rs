//! Stopping the world.
//!
//! The CPU that stops the world, the initiator, interrupts all other CPUs. The interrupt only leaves a note: a CPU joins when its
//! preemption count is zero, so in no handler and with no spinlock held; at the latest when it releases its outermost spinlock
//! or ends its outermost handler. A CPU that has joined has pushed its registers on its stack and noted the stack pointer, so
//! that the detector finds them; then it waits for the work that all CPUs run.
//!
//! Each stop has a generation. A CPU joins the generation that is asked for at that moment. One that was given up is asked
//! for no more, and its work is never published, so a late CPU does nothing for it.
//!
//! # Invariants
//!
//! - The work of a generation is published after all CPUs have joined it, and its closure lives until
//!   all CPUs have done it.
//! - The initiator holds no spinlock while it waits, and answers interrupts. It stays on its CPU from before it notes its stack
//!   pointer.
//! - A stop counts the running CPUs once, and all of them get that number: no CPU comes up meanwhile.
//! - A CPU that waits here checks whether the machine is ending.
//!
//! # Locks
//!
//! `STOPPING`, a sleeping lock, allows one stop at a time, and none while CPUs are started.

use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use kmemleak::{StopError, StoppedCpu};

use crate::arch::percpu::{cpu_id, running};
use crate::arch::{context, ending, vector};
use crate::dev::apic;
use crate::dev::time::Patience;
use crate::percpu;
use crate::sync::{IrqGuard, Pending, PreemptGuard, preempt};
use crate::task::{Mutex, MutexGuard};

/// How long all CPUs may take to join, in microseconds that the initiator has run ([`Patience`]).
const PATIENCE_US: u64 = 1_000_000;

/// What all CPUs run, and the number of CPUs.
struct Work<'a> {
    run: &'a (dyn Fn(StoppedCpu) + Sync),
    cpus: u32,
}

static STOPPING: Mutex<()> = Mutex::new(());

/// The generation that is asked for; zero if none is.
static ASKED: AtomicU64 = AtomicU64::new(0);
/// The last generation whose work was published.
static PUBLISHED: AtomicU64 = AtomicU64::new(0);
/// The last generation that is over.
static OVER: AtomicU64 = AtomicU64::new(0);
/// The published work: a pointer to a [`Work`] on the initiator's stack.
static WORK: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

percpu! {
    /// The last generation this CPU has joined.
    static JOINED: AtomicU64 = AtomicU64::new(0);
    /// The last generation whose work this CPU has done.
    static DONE: AtomicU64 = AtomicU64::new(0);
    /// This CPU's stack pointer when it last stopped; the stack below it was dead.
    static STACK_POINTER: AtomicUsize = AtomicUsize::new(0);
}

/// Runs `work` on all CPUs at once, while nothing else runs, with interrupts off.
///
/// Task context, with no spinlock held. Fails if a CPU does not join within a second of this CPU's time; then `work` has not run.
pub fn stop_world(work: &(dyn Fn(StoppedCpu) + Sync)) -> Result<(), StopError> {
    let _one_at_a_time = STOPPING.lock();
    // If this task moved before the stop, its stack pointer would be noted for the CPU that it has left.
    let stay_here = PreemptGuard::new();
    let mut result = Ok(());
    context::with_registers_pushed(&mut |stack_pointer| {
        note_stack_pointer(stack_pointer, &stay_here);
        result = stop(work);
    });
    result
}

/// Keeps the world from being stopped for as long as the guard lives. Task context.
pub fn keep_going() -> MutexGuard<'static, ()> {
    STOPPING.lock()
}

/// The stack pointer of a CPU in a stopped world: the stack below it was dead when the CPU stopped.
pub fn stack_pointer(cpu: u32) -> usize {
    STACK_POINTER.on(cpu).load(Ordering::Acquire)
}

/// Whether the world is stopped, for code that runs as the work of a stop.
pub fn is_stopped() -> bool {
    let asked = ASKED.load(Ordering::Acquire);
    asked != 0 && PUBLISHED.load(Ordering::Acquire) == asked
}

/// Stops the world. The caller stays on its CPU.
fn stop(run: &(dyn Fn(StoppedCpu) + Sync)) -> Result<(), StopError> {
    let here = cpu_id();
    let cpus = running();
    let generation = OVER.load(Ordering::Acquire) + 1;
    ASKED.store(generation, Ordering::Release);
    if cpus > 1 {
        apic::send_to_others(vector::STOP);
    }
    let others = || (0..cpus).filter(|&cpu| cpu != here);
    let mut patience = Patience::new(PATIENCE_US);
    let missing =
        others().find(|&cpu| !wait_for(JOINED.on(cpu), generation, &mut || patience.lasts()));
    if missing.is_none() {
        let _quiet = IrqGuard::new();
        let work = Work { run, cpus };
        WORK.store((&raw const work).cast_mut().cast(), Ordering::Release);
        PUBLISHED.store(generation, Ordering::Release);
        run(StoppedCpu {
            index: here,
            of: cpus,
            initiator: true,
        });
        others().for_each(|cpu| {
            wait_for(DONE.on(cpu), generation, &mut || true);
        });
        WORK.store(ptr::null_mut(), Ordering::Release);
    }
    ASKED.store(0, Ordering::Release);
    OVER.store(generation, Ordering::Release);
    missing.map_or(Ok(()), |cpu| Err(StopError::Missing(cpu)))
}

/// Waits until a CPU has noted `generation`; false if that takes so long that `may_wait` is false.
fn wait_for(noted: &AtomicU64, generation: u64, may_wait: &mut dyn FnMut() -> bool) -> bool {
    while noted.load(Ordering::Acquire) != generation {
        if !may_wait() {
            return false;
        }
        ending::relax();
    }
    true
}

/// Handles the interrupt by which another CPU asks to stop the world.
pub fn interrupt() {
    preempt::set_pending(Pending::STOP, &IrqGuard::new());
}

/// Joins the stop that is asked for, if there still is one. Interrupts are off, the preemption count is zero.
pub fn join() {
    context::with_registers_pushed(&mut |stack_pointer| {
        {
            let stay_here = PreemptGuard::new();
            note_stack_pointer(stack_pointer, &stay_here);
        }
        wait_and_work();
    });
}

/// Notes this CPU's stack pointer.
fn note_stack_pointer(stack_pointer: usize, stay_here: &PreemptGuard) {
    STACK_POINTER
        .local_shared(stay_here)
        .store(stack_pointer, Ordering::Release);
}

fn wait_and_work() {
    let generation = ASKED.load(Ordering::Acquire);
    if generation == 0 {
        return;
    }
    let here = cpu_id();
    JOINED.on(here).store(generation, Ordering::Release);
    while OVER.load(Ordering::Acquire) < generation {
        let published = PUBLISHED.load(Ordering::Acquire) == generation;
        if published && DONE.on(here).load(Ordering::Relaxed) != generation {
            let work: *const Work<'_> = WORK.load(Ordering::Acquire).cast_const().cast();
            // SAFETY: the work of this generation is published, and the initiator keeps it until this
            // CPU, too, has noted that it is done.
            let work = unsafe { &*work };
            (work.run)(StoppedCpu {
                index: here,
                of: work.cpus,
                initiator: false,
            });
            DONE.on(here).store(generation, Ordering::Release);
        }
        ending::relax();
    }
}
