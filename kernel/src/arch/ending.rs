//! Whether the machine is being ended, and what waiting code does then.
//!
//! One CPU ends the machine and halts the others, whatever they are doing. So a lock that a halted CPU holds is never released,
//! and no code may wait for it: code that spins calls [`relax`].

use core::hint;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::interrupts;
use super::percpu::cpu_id;
use crate::percpu;

/// The number of the CPU that ends the machine, plus one; zero while no CPU does.
static ENDING: AtomicU32 = AtomicU32::new(0);

percpu! {
    /// Where this CPU was when it was halted: an address, [`SOMEWHERE`], or zero if it was not.
    static HALTED_AT: AtomicUsize = AtomicUsize::new(0);
}

const SOMEWHERE: usize = 1;

/// Which CPU ends the machine, as seen by a CPU that called [`begin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ender {
    /// This CPU, from now on.
    First,
    /// This CPU, which has called [`begin`] before.
    Again,
    /// Another CPU.
    Another,
}

/// Makes this CPU the one that ends the machine, unless another one is.
pub fn begin() -> Ender {
    let me = cpu_id() + 1;
    match ENDING.compare_exchange(0, me, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Ender::First,
        Err(first) if first == me => Ender::Again,
        Err(_) => Ender::Another,
    }
}

/// Whether the machine is being ended: a CPU that still runs must not wait for others then.
#[inline]
pub fn is_ending() -> bool {
    ENDING.load(Ordering::Acquire) != 0
}

/// Whether this CPU ends the machine.
#[inline]
pub fn ends_here() -> bool {
    ENDING.load(Ordering::Acquire) == cpu_id() + 1
}

/// What a spinning CPU does between two tries. If the machine is being ended, it calls [`must_not_wait`]. Any context.
#[inline(always)]
pub fn relax() {
    hint::spin_loop();
    if is_ending() {
        must_not_wait();
    }
}

/// Called where a CPU would wait while the machine is being ended, which would last for ever: on the CPU that ends the machine it
/// panics, so that the report goes on with its next part; it halts any other CPU.
#[cold]
pub fn must_not_wait() {
    if ends_here() {
        panic!("a wait at the end of the machine, for what a stopped CPU holds");
    }
    halt_here(0);
}

/// Halts this CPU, which was at `rip`; zero if that is not known.
pub fn halt_here(rip: usize) -> ! {
    interrupts::disable();
    let halted_at = HALTED_AT.on(cpu_id());
    halted_at.store(rip.max(SOMEWHERE), Ordering::Release);
    interrupts::halt_forever()
}

/// Where a CPU is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// It has not halted.
    Running,
    /// It halted by itself, where it waited or had panicked.
    Waiting,
    /// It was halted, or had an exception, at this address.
    At(usize),
}

/// Where a CPU that has been started is.
pub fn whereabouts(cpu: u32) -> Whereabouts {
    match HALTED_AT.on(cpu).load(Ordering::Acquire) {
        0 => Whereabouts::Running,
        SOMEWHERE => Whereabouts::Waiting,
        rip => Whereabouts::At(rip),
    }
}
