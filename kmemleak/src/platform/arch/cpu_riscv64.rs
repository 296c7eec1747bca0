//! RISC-V of 64 bits.

use core::arch::asm;

pub(crate) use super::portable::{BLOCK, RangeComparison as RangeFilter, find_word};
use crate::platform::context::IrqState;

/// Whether the crate knows the processor.
pub(super) const KNOWN: bool = true;

/// The interrupt enable of supervisor mode, in `sstatus` (Privileged Architecture, "Supervisor Status (sstatus) Register").
const INTERRUPTS: usize = 1 << 1;

/// Disables interrupts on this hart and returns the state before, for [`irq_restore`]: what
/// [`Platform::irq_save`](crate::Platform::irq_save) is for. Any context, in supervisor mode.
#[inline]
pub fn irq_save() -> IrqState {
    let status: usize;
    // SAFETY: the order of memory accesses is kept.
    unsafe { asm!("csrrci {}, sstatus, 2", out(reg) status, options(nostack)) };
    IrqState(status & INTERRUPTS)
}

/// Enables interrupts again if they were enabled before. Any context, in supervisor mode.
#[inline]
pub fn irq_restore(state: IrqState) {
    // SAFETY: the order of memory accesses is kept.
    unsafe { asm!("csrs sstatus, {}", in(reg) state.0 & INTERRUPTS, options(nostack)) };
}

/// The frame pointer of the function into which this is inlined. Any context.
#[inline(always)]
pub fn frame_pointer() -> usize {
    let value;
    // SAFETY: reads a register.
    unsafe { asm!("mv {}, s0", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// The stack pointer of the function into which this is inlined. Any context.
#[inline(always)]
pub fn stack_pointer() -> usize {
    let value;
    // SAFETY: reads a register.
    unsafe { asm!("mv {}, sp", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// The registers that a function preserves (RISC-V ELF psABI, "Integer Register Convention"): s0 to s11, and the thread pointer, in
/// which kernels keep what belongs to the hart, often nowhere else. The floating-point ones are left out: a kernel may have them
/// off, so that reading them traps, and compilers do not keep pointers there.
#[inline(always)]
pub(super) fn preserved_registers() -> [usize; 13] {
    let mut registers = [0; 13];
    // SAFETY: writes all words of the array.
    unsafe {
        asm!(
            "sd s0, 0({to})",
            "sd s1, 8({to})",
            "sd s2, 16({to})",
            "sd s3, 24({to})",
            "sd s4, 32({to})",
            "sd s5, 40({to})",
            "sd s6, 48({to})",
            "sd s7, 56({to})",
            "sd s8, 64({to})",
            "sd s9, 72({to})",
            "sd s10, 80({to})",
            "sd s11, 88({to})",
            "sd tp, 96({to})",
            to = in(reg) &raw mut registers,
            options(nostack, preserves_flags),
        );
    }
    registers
}

/// Clears the registers that a function need not preserve: t0 to t6, a0 to a7 (RISC-V ELF psABI, "Integer Register Convention").
#[inline(always)]
pub(super) fn clear_scratch_registers() {
    // SAFETY: changes these registers only.
    unsafe {
        asm!(
            "mv t0, zero",
            "mv t1, zero",
            "mv t2, zero",
            "mv t3, zero",
            "mv t4, zero",
            "mv t5, zero",
            "mv t6, zero",
            "mv a0, zero",
            "mv a1, zero",
            "mv a2, zero",
            "mv a3, zero",
            "mv a4, zero",
            "mv a5, zero",
            "mv a6, zero",
            "mv a7, zero",
            out("t0") _,
            out("t1") _,
            out("t2") _,
            out("t3") _,
            out("t4") _,
            out("t5") _,
            out("t6") _,
            out("a0") _,
            out("a1") _,
            out("a2") _,
            out("a3") _,
            out("a4") _,
            out("a5") _,
            out("a6") _,
            out("a7") _,
            options(nomem, nostack, preserves_flags),
        );
    }
}

/// Asks for the cache line that `address` lies in, where that is known how.
#[inline(always)]
pub(crate) fn prefetch(address: usize) {
    let _ = address;
}
