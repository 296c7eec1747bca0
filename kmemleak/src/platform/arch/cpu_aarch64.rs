//! AArch64.

use core::arch::asm;

pub(crate) use super::portable::{BLOCK, RangeComparison as RangeFilter, find_word};
use crate::platform::context::IrqState;

/// Whether the crate knows the processor.
pub(super) const KNOWN: bool = true;

/// Masks interrupts (IRQ and FIQ) on this CPU and returns the state before, for [`irq_restore`]: what
/// [`Platform::irq_save`](crate::Platform::irq_save) is for. Any context, at EL1 or above.
#[inline]
pub fn irq_save() -> IrqState {
    let masks: usize;
    // SAFETY: the order of memory accesses is kept.
    unsafe {
        asm!("mrs {}, daif", "msr daifset, #3", out(reg) masks, options(nostack, preserves_flags))
    };
    IrqState(masks)
}

/// Sets the masks of exceptions as they were before. Any context, at EL1 or above.
#[inline]
pub fn irq_restore(state: IrqState) {
    // SAFETY: the order of memory accesses is kept.
    unsafe { asm!("msr daif, {}", in(reg) state.0, options(nostack, preserves_flags)) };
}

/// The frame pointer of the function into which this is inlined. Any context.
#[inline(always)]
pub fn frame_pointer() -> usize {
    let value;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, x29", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// The stack pointer of the function into which this is inlined. Any context.
#[inline(always)]
pub fn stack_pointer() -> usize {
    let value;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, sp", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// The registers that a function preserves: x19 to x29, and the halves of v8 to v15 where there are any (AAPCS64, 6.1).
#[inline(always)]
pub(super) fn preserved_registers() -> [usize; 20] {
    let mut registers = [0; 20];
    // SAFETY: writes twelve words of the array.
    unsafe {
        asm!(
            "stp x19, x20, [{to}]",
            "stp x21, x22, [{to}, #16]",
            "stp x23, x24, [{to}, #32]",
            "stp x25, x26, [{to}, #48]",
            "stp x27, x28, [{to}, #64]",
            "stp x29, x30, [{to}, #80]",
            to = in(reg) &raw mut registers,
            options(nostack, preserves_flags),
        );
    }
    #[cfg(target_feature = "neon")]
    // SAFETY: writes the last eight words of the array.
    unsafe {
        asm!(
            "stp d8, d9, [{to}, #96]",
            "stp d10, d11, [{to}, #112]",
            "stp d12, d13, [{to}, #128]",
            "stp d14, d15, [{to}, #144]",
            to = in(reg) &raw mut registers,
            options(nostack, preserves_flags),
        );
    }
    registers
}

/// Clears the registers that a function need not preserve: x0 to x17 (AAPCS64, 6.1.1).
#[inline(always)]
pub(super) fn clear_scratch_registers() {
    // SAFETY: changes these registers only.
    unsafe {
        asm!(
            "mov x0, xzr",
            "mov x1, xzr",
            "mov x2, xzr",
            "mov x3, xzr",
            "mov x4, xzr",
            "mov x5, xzr",
            "mov x6, xzr",
            "mov x7, xzr",
            "mov x8, xzr",
            "mov x9, xzr",
            "mov x10, xzr",
            "mov x11, xzr",
            "mov x12, xzr",
            "mov x13, xzr",
            "mov x14, xzr",
            "mov x15, xzr",
            "mov x16, xzr",
            "mov x17, xzr",
            out("x0") _,
            out("x1") _,
            out("x2") _,
            out("x3") _,
            out("x4") _,
            out("x5") _,
            out("x6") _,
            out("x7") _,
            out("x8") _,
            out("x9") _,
            out("x10") _,
            out("x11") _,
            out("x12") _,
            out("x13") _,
            out("x14") _,
            out("x15") _,
            out("x16") _,
            out("x17") _,
            options(nomem, nostack, preserves_flags),
        );
    }
}

/// Asks for the cache line that `address` lies in, which need not be mapped. It has no effect except on time. Any context.
#[inline(always)]
pub(crate) fn prefetch(address: usize) {
    // SAFETY: a prefetch reads nothing that a program could see, and never faults.
    unsafe {
        asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly))
    };
}
