//! There is no heap.
//!
//! The ELF reader's crate wants an allocator to exist; what the loader uses of it never allocates.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;

struct NoHeap;

// SAFETY: an allocator may refuse, and never gets back what it never gave.
unsafe impl GlobalAlloc for NoHeap {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static NO_HEAP: NoHeap = NoHeap;
