//! Forgetting stale translations on all CPUs.
//!
//! Code that takes a mapping away calls [`flush_all_cpus`] before the addresses or the frames are used
//! again. Each call has a number; each CPU notes the last number it has flushed for. So answers can't be
//! counted twice, several callers may wait at once, and the one who waits may itself be moved to another
//! CPU or stopped with the world. Asking is another matter: who asks the *others* and is moved before it flushes
//! here would leave out the CPU that it came from. So it stays on its CPU for the two.

use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::instructions::tlb;

use super::apic;
use crate::arch::interrupts::{self, InterruptFlag};
use crate::arch::percpu::running;
use crate::arch::{ending, vector};
use crate::percpu;
use crate::sync::{IrqGuard, PreemptGuard, is_disabled};

/// The number of the last call.
static ASKED: AtomicU64 = AtomicU64::new(0);

percpu! {
    /// The last number this CPU has flushed for.
    static ANSWERED: AtomicU64 = AtomicU64::new(0);
}

/// Makes all CPUs forget what they know of mappings that were taken away, and waits until they have.
///
/// Task context, with interrupts on and no spinlock held: who waits under one may wait for somebody
/// who waits for the lock. While the boot CPU runs alone, any context.
pub fn flush_all_cpus() {
    let number = ASKED.fetch_add(1, Ordering::AcqRel) + 1;
    let cpus = running();
    if cpus > 1 {
        debug_assert!(!is_disabled(), "a flush under a spinlock may wait for ever");
        debug_assert!(
            interrupts::flag() == InterruptFlag::Enabled,
            "a flush with interrupts off"
        );
    }
    {
        let _stay_here = PreemptGuard::new();
        if cpus > 1 {
            apic::send_to_others(vector::TLB);
        }
        interrupt();
    }
    for cpu in 0..cpus {
        while ANSWERED.on(cpu).load(Ordering::Acquire) < number {
            ending::relax();
        }
    }
}

/// Flushes this CPU's translations: the interrupt by which another CPU asks.
pub fn interrupt() {
    let guard = IrqGuard::new();
    // What is asked for while this flush goes on is answered by the next interrupt.
    let asked = ASKED.load(Ordering::Acquire);
    tlb::flush_all();
    ANSWERED.local(&guard).fetch_max(asked, Ordering::Release);
}
