//! Whether the machine is being ended, and what waiting code does then.
//!
//! One CPU ends the machine and halts the others, whatever they are at. So what one of these holds is never given back, and
//! nobody may wait for it: code that spins calls [`relax`].

use core::hint;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::interrupts;
use super::percpu::cpu_id;
use crate::percpu;

/// The CPU that ends the machine, plus one; zero while all is well.
static ENDING: AtomicU32 = AtomicU32::new(0);

percpu! {
    /// Where this CPU was when it was halted: an address, [`SOMEWHERE`], or zero if it was not.
    static HALTED_AT: AtomicUsize = AtomicUsize::new(0);
}

const SOMEWHERE: usize = 1;

/// Who ends the machine, as seen by a CPU that comes to do that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ender {
    /// This CPU, from now on.
    First,
    /// This CPU, which has been at it.
    Again,
    /// Another one.
    Another,
}

/// This CPU comes to end the machine.
pub fn begin() -> Ender {
    let me = cpu_id() + 1;
    match ENDING.compare_exchange(0, me, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Ender::First,
        Err(first) if first == me => Ender::Again,
        Err(_) => Ender::Another,
    }
}

/// Whether the machine is being ended: a CPU that still runs may not wait for others.
#[inline]
pub fn is_ending() -> bool {
    ENDING.load(Ordering::Acquire) != 0
}

/// Whether this CPU ends the machine.
#[inline]
pub fn ends_here() -> bool {
    ENDING.load(Ordering::Acquire) == cpu_id() + 1
}

/// What a spinning CPU does meanwhile. Where the machine ends, what is waited for does not come any more. Any context.
#[inline(always)]
pub fn relax() {
    hint::spin_loop();
    if is_ending() {
        must_not_wait();
    }
}

/// A wait at the end of the machine lasts for ever: another CPU is halted at once, and the one that tells goes on with what it
/// can tell.
#[cold]
pub fn must_not_wait() {
    if ends_here() {
        panic!("a wait at the end of the machine, for what a stopped CPU holds");
    }
    halt_here(0);
}

/// Halts this CPU, which was at `rip`; zero if nobody needs to know.
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
    /// It halted while it waited for the end.
    Waiting,
    /// It was halted at this address.
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
