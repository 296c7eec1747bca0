//! The interrupt flag of this CPU.

use core::arch::asm;

use x86_64::registers::rflags::{self, RFlags};

/// Whether this CPU takes interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterruptFlag {
    /// It takes them.
    Enabled,
    /// It keeps them waiting.
    Disabled,
}

/// Whether this CPU takes interrupts now.
#[inline]
pub fn flag() -> InterruptFlag {
    if rflags::read().contains(RFlags::INTERRUPT_FLAG) {
        InterruptFlag::Enabled
    } else {
        InterruptFlag::Disabled
    }
}

/// Turns interrupts off and returns how the flag was before.
#[inline]
pub fn disable() -> InterruptFlag {
    let before = flag();
    x86_64::instructions::interrupts::disable();
    before
}

/// Turns interrupts off as [`disable`] does, and returns this CPU's flags as they were: for code in which each instruction counts.
#[inline(always)]
pub fn disable_flags() -> usize {
    let before = rflags::read_raw();
    x86_64::instructions::interrupts::disable();
    before as usize
}

/// Whether interrupts were on, by what [`disable_flags`] returned.
#[inline(always)]
pub fn are_on(flags: usize) -> bool {
    flags as u64 & RFlags::INTERRUPT_FLAG.bits() != 0
}

/// Turns interrupts on. The caller holds no lock that an interrupt handler takes.
#[inline]
pub fn enable() {
    x86_64::instructions::interrupts::enable();
}

/// Puts the flag back as it was.
#[inline]
pub fn restore(before: InterruptFlag) {
    if before == InterruptFlag::Enabled {
        enable();
    }
}

/// Waits for an interrupt and takes it. Called with interrupts off, after a last check for work: enabling and halting are
/// one step, so that no wake-up is lost in between.
#[inline]
pub fn enable_and_wait() {
    x86_64::instructions::interrupts::enable_and_hlt();
}

/// Keeps interrupts off and this CPU halted, permanently.
pub fn halt_forever() -> ! {
    loop {
        // SAFETY: halting with interrupts off does nothing but wait.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}
