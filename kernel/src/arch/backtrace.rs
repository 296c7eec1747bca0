//! Walking the frame pointers.
//!
//! Everything here is compiled with frame pointers, core and alloc included: `rbp` points at the
//! caller's `rbp`, with the return address above it. The assembly keeps the chain unbroken: an interrupt
//! stub links the interrupted code in, a new task starts with a zero.

use core::arch::asm;
use core::ops::Range;

/// The frame pointer of the calling function.
#[inline(always)]
pub fn frame_pointer() -> usize {
    let rbp;
    // SAFETY: copies a register.
    unsafe { asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack, preserves_flags)) };
    rbp
}

/// The stack pointer of the calling function, near enough.
#[inline(always)]
pub fn stack_pointer() -> usize {
    let rsp;
    // SAFETY: copies a register.
    unsafe { asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack, preserves_flags)) };
    rsp
}

/// Return addresses from `frame_pointer` on, innermost first, as long as the chain stays in `stack`.
///
/// # Safety
///
/// All of `stack` can be read.
pub unsafe fn walk(frame_pointer: usize, stack: Range<usize>, frames: &mut [usize]) -> usize {
    // SAFETY: the caller's promise.
    unsafe { kmemleak::frame_pointer_walk(frame_pointer, stack, frames) }
}
