//! Walking the frame pointers.
//!
//! Everything here is compiled with frame pointers, core and alloc included: `rbp` points at the
//! caller's `rbp`, with the return address above it. The assembly keeps the chain unbroken: an interrupt
//! stub links the interrupted code in, a new task starts with a frame pointer of zero.

use core::arch::asm;
use core::ops::Range;
use core::ptr;

/// The frame pointer of the calling function.
#[inline(always)]
pub fn frame_pointer() -> usize {
    let rbp;
    // SAFETY: copies a register.
    unsafe { asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack, preserves_flags)) };
    rbp
}

/// The stack pointer of the calling function, approximately.
#[inline(always)]
pub fn stack_pointer() -> usize {
    let rsp;
    // SAFETY: copies a register.
    unsafe { asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack, preserves_flags)) };
    rsp
}

/// Stores return addresses from `frame_pointer` on, innermost first, as long as the chain stays in `stack`. Returns their number.
///
/// # Safety
///
/// All of `stack` can be read.
pub unsafe fn walk(frame_pointer: usize, stack: Range<usize>, frames: &mut [usize]) -> usize {
    // SAFETY: the caller's promise.
    unsafe { kmemleak::frame_pointer_walk(frame_pointer, stack, frames) }
}

/// Stores return addresses from `frame_pointer` on, innermost first, as long as the chain stays in `stacks` and goes up in each;
/// returns their number. The chain may go from one stack to another, since some exceptions have stacks of their own.
///
/// # Safety
///
/// All of `stacks` can be read.
pub unsafe fn walk_across(
    stacks: &[Range<usize>],
    frame_pointer: usize,
    frames: &mut [usize],
) -> usize {
    /// A caller's frame pointer, and the return address above it.
    const FRAME: usize = 2 * size_of::<usize>();
    let word = |address: usize| {
        // SAFETY: within a stack, the caller's promise; aligned.
        unsafe { ptr::with_exposed_provenance::<usize>(address).read() }
    };
    let stack_of = |address: usize| {
        let fits = |stack: &Range<usize>| stack.contains(&address) && stack.end - address >= FRAME;
        stacks.iter().position(fits)
    };
    let mut at = frame_pointer;
    let mut count = 0;
    while count < frames.len() && at.is_multiple_of(size_of::<usize>()) {
        let Some(stack) = stack_of(at) else { break };
        let (next, return_address) = (word(at), word(at + size_of::<usize>()));
        if return_address == 0 {
            break;
        }
        frames[count] = return_address;
        count += 1;
        if stack_of(next) == Some(stack) && next <= at {
            break;
        }
        at = next;
    }
    count
}
