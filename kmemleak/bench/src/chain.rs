//! A call stack of so many functions.
//!
//! What leads to an allocation in a kernel is a chain of functions, and the detector's hook walks it by its frame
//! pointers. Here it is a recursion of as many levels as asked for. What lies further out (the thread's start, the
//! runtime) is not seen: the stack ends where the chain begins.

use std::hint::black_box;

/// Runs `work` at the end of a chain of `frames` functions, itself the last of them.
#[inline(never)]
pub fn run_below(frames: u32, work: &mut dyn FnMut()) {
    let end = 0_usize;
    kmemleak_emulated::end_stack_at((&raw const end).addr());
    black_box(&end);
    descend(frames.saturating_sub(1), work);
}

#[inline(never)]
fn descend(levels: u32, work: &mut dyn FnMut()) {
    if levels == 0 {
        work();
    } else {
        descend(levels - 1, work);
    }
    // Something is left to do here, so that no call becomes a jump.
    black_box(levels);
}
