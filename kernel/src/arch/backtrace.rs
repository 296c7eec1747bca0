//! Walking the frame pointers.
//!
//! Everything here is compiled with frame pointers, core and alloc included: `rbp` points at the
//! caller's `rbp`, with the return address above it. The assembly keeps the chain unbroken: an interrupt
//! stub links the interrupted code in, a new task starts with a frame pointer of zero.

use core::arch::asm;
use core::ops::Range;
use core::ptr;

use super::memory::Section;

/// The frame pointer of the calling function.
#[inline(always)]
pub fn frame_pointer() -> usize {
    let rbp;
    // SAFETY: copies a register.
    unsafe { asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack, preserves_flags)) };
    rbp
}

/// The frame pointer of the calling function, or, where that was called from `skipped`, of its caller.
///
/// A walk would find that as well. But it would look first whether the frame lies in the stack, which is certain for a frame of the
/// running code.
#[inline(always)]
pub fn frame_pointer_outside(skipped: Section) -> usize {
    let own = frame_pointer();
    // SAFETY: everything is compiled with frame pointers, so this is the running function's frame.
    let return_address = unsafe { word(own + size_of::<usize>()) };
    // Whether it lies in there, by one comparison.
    if return_address.wrapping_sub(skipped.start) < skipped.end - skipped.start {
        // SAFETY: as above.
        unsafe { word(own) }
    } else {
        own
    }
}

/// A word of a stack.
///
/// # Safety
///
/// It is aligned and readable, and nobody writes to it meanwhile.
#[inline(always)]
unsafe fn word(address: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { ptr::with_exposed_provenance::<usize>(address).read() }
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

/// Where the function returns to that is called in the frame in which `address` lies: so that return address is one of the function whose
/// frame it is. `frame_pointer` is that of a frame below. `None` if the address lies lower, or the chain is broken before.
///
/// # Safety
///
/// All of `stack` can be read.
pub unsafe fn frame_of(address: usize, frame_pointer: usize, stack: Range<usize>) -> Option<usize> {
    /// A caller's frame pointer, and the return address above it.
    const FRAME: usize = 2 * size_of::<usize>();
    let last = stack.end.checked_sub(FRAME)?;
    let mut at = frame_pointer;
    loop {
        if !(stack.start..=last).contains(&at) || !at.is_multiple_of(size_of::<usize>()) {
            return None;
        }
        if address < at + FRAME {
            return None;
        }
        // SAFETY: two words of the stack, the caller's promise.
        let next = unsafe { word(at) };
        // SAFETY: as above.
        let returns_to = unsafe { word(at + size_of::<usize>()) };
        let is_last = next == 0;
        if returns_to == 0 || !is_last && next <= at {
            return None;
        }
        if is_last || address < next + FRAME {
            return Some(returns_to);
        }
        at = next;
    }
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
    // SAFETY: within a stack, the caller's promise; aligned.
    let word = |address: usize| unsafe { word(address) };
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
