//! AArch64.

use core::arch::asm;

pub(crate) use super::portable::find_word;
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

/// Asks for the cache line that `address` lies in, which need not be mapped. It has no effect except on time. Any context.
#[inline(always)]
pub(crate) fn prefetch(address: usize) {
    // SAFETY: a prefetch reads nothing that a program could see, and never faults.
    unsafe {
        asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly))
    };
}
