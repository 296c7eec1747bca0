//! Halting the other CPUs when the machine ends.
//!
//! By a non-maskable interrupt, since a CPU may have its interrupts off for good. Each notes where it was, and halts on the stack
//! that this interrupt has for itself. It is sent to each CPU that runs and not to all at once: one that waits for its start would take
//! it in real mode.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::percpu::cpu_id;
use super::{apic, interrupts, smp, time};
use crate::percpu;

/// How long a CPU may take to halt, in microseconds.
const PATIENCE_US: u64 = 1_000_000;

percpu! {
    /// Where this CPU was when it was halted: an address, [`SOMEWHERE`], or zero if it was not.
    static HALTED_AT: AtomicUsize = AtomicUsize::new(0);
}

const SOMEWHERE: usize = 1;

/// Halts all other CPUs that run, and waits until they have.
///
/// # Safety
///
/// This CPU ends the machine: what it was at when it came to that never goes on.
pub unsafe fn halt_others() {
    for cpu in the_others() {
        // SAFETY: the caller's promise.
        unsafe { apic::send_nmi(cpu) };
    }
    let deadline_us = time::now_us() + PATIENCE_US;
    for cpu in the_others() {
        while HALTED_AT.on(cpu).load(Ordering::Acquire) == 0 && time::now_us() < deadline_us {
            core::hint::spin_loop();
        }
    }
}

/// Halts this CPU, which was at `rip`; zero if nobody needs to know.
pub fn halt_here(rip: usize) -> ! {
    interrupts::disable();
    let halted_at = HALTED_AT.on(cpu_id());
    halted_at.store(rip.max(SOMEWHERE), Ordering::Release);
    interrupts::halt_forever()
}

/// The other CPUs, and where each was; none of one that has not halted. Those that only waited for the end are left out.
pub fn others() -> impl Iterator<Item = (u32, Option<usize>)> {
    the_others().filter_map(|cpu| match HALTED_AT.on(cpu).load(Ordering::Acquire) {
        0 => Some((cpu, None)),
        SOMEWHERE => None,
        rip => Some((cpu, Some(rip))),
    })
}

fn the_others() -> impl Iterator<Item = u32> {
    let here = cpu_id();
    (0..smp::running()).filter(move |&cpu| cpu != here)
}
