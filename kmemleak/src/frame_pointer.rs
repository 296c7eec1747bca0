//! Walking the call stack by frame pointers.

use core::ops::Range;

/// Fills `frames` with the return addresses of the calls that led here, innermost first, and returns how
/// many there are.
///
/// `frame_pointer` points at the caller's frame pointer, with the return address in the word above it (x86_64
/// and AArch64 code that is compiled with `-C force-frame-pointers=yes`). The walk believes nothing: each
/// frame must lie in `stack` whole, be aligned, and lie above the one before, or it ends there. Where a platform
/// ends its stacks with a return address of zero, it ends there, too. Any context.
///
/// # Safety
///
/// All of `stack` can be read.
pub unsafe fn frame_pointer_walk(
    frame_pointer: usize,
    stack: Range<usize>,
    frames: &mut [usize],
) -> usize {
    const WORD: usize = size_of::<usize>();
    let Some(last) = stack.end.checked_sub(2 * WORD) else {
        return 0;
    };
    let (mut at, mut lowest) = (frame_pointer, stack.start);
    for (count, frame) in frames.iter_mut().enumerate() {
        if !at.is_multiple_of(WORD) || at < lowest || at > last {
            return count;
        }
        // SAFETY: inside the stack that the caller names, aligned.
        let caller = unsafe { read(at) };
        // SAFETY: as above; the word after it is inside, too.
        let return_address = unsafe { read(at + WORD) };
        if return_address == 0 {
            return count;
        }
        *frame = return_address;
        lowest = at + WORD;
        at = caller;
    }
    frames.len()
}

/// Reads a word of a stack.
///
/// # Safety
///
/// `address` is aligned and readable.
unsafe fn read(address: usize) -> usize {
    // SAFETY: the caller's promise; volatile, since the stack is in use.
    unsafe { core::ptr::read_volatile(core::ptr::with_exposed_provenance(address)) }
}
