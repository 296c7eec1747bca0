//! Forgetting stale translations on all CPUs.
//!
//! Code that takes a mapping away calls [`flush_all_cpus`] before the addresses or the frames are used
//! again. Each call has a number; each CPU notes the last number it has flushed for. So no answer is
//! counted twice, several callers may wait at once, and a waiting caller may itself be moved to another CPU or stopped with
//! the world. But a caller must not be moved after it has interrupted the *other* CPUs and before it flushes its own: the CPU
//! that it came from would be left out. So it disables preemption for these two steps.

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

/// Flushes the translations of all CPUs, and waits until all have done so.
///
/// Task context, with interrupts on and no spinlock held: a CPU that waits for that lock with interrupts off would never
/// answer. While the boot CPU runs alone, any context.
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

/// Flushes this CPU's translations. Also the handler of the interrupt by which another CPU asks for that.
pub fn interrupt() {
    let guard = IrqGuard::new();
    // A call that begins during this flush is answered by the next interrupt.
    let asked = ASKED.load(Ordering::Acquire);
    tlb::flush_all();
    ANSWERED.local(&guard).fetch_max(asked, Ordering::Release);
}
