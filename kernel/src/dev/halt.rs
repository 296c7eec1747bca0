//! Halting the other CPUs when the machine ends.
//!
//! It takes a non-maskable interrupt, since a CPU may keep its interrupts off for ever. Each CPU notes where it was, and halts on
//! the stack that this interrupt has for itself. The interrupt is sent to each CPU that runs and not to all at once: a CPU that
//! waits for its start would take it in real mode.

use super::{apic, time};
use crate::arch::ending::{Whereabouts, whereabouts};
use crate::arch::percpu::{cpu_id, running};

/// How long a CPU may take to halt, in microseconds.
const PATIENCE_US: u64 = 1_000_000;

/// Halts all other CPUs that run, and waits until they have.
///
/// # Safety
///
/// This CPU ends the machine: the code that it was running before never goes on.
pub unsafe fn halt_others() {
    for cpu in others() {
        // SAFETY: the caller's promise.
        unsafe { apic::send_nmi(cpu) };
    }
    let deadline_us = time::now_us() + PATIENCE_US;
    for cpu in others() {
        while whereabouts(cpu) == Whereabouts::Running && time::now_us() < deadline_us {
            core::hint::spin_loop();
        }
    }
}

/// The other CPUs that run.
pub fn others() -> impl Iterator<Item = u32> {
    let here = cpu_id();
    (0..running()).filter(move |&cpu| cpu != here)
}
