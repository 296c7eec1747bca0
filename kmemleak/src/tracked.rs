//! A detector for any allocator.

use core::alloc::{GlobalAlloc, Layout};

use crate::detector::{AllocOptions, Detector};
use crate::platform::Platform;

/// An allocator whose blocks a detector is told of: for kernels that have one global allocator, and no slabs or
/// pages that would be worth telling apart.
///
/// The allocator's own bookkeeping is not to lie in memory that is a root: an arena in a section of its own, say. The
/// crate's documentation begins with an example.
pub struct Tracked<A, P: 'static, const BOOTSTRAP: usize> {
    allocator: A,
    detector: &'static Detector<P, BOOTSTRAP>,
}

impl<A, P, const BOOTSTRAP: usize> Tracked<A, P, BOOTSTRAP> {
    /// Tells `detector` of the blocks of `allocator`.
    pub const fn new(allocator: A, detector: &'static Detector<P, BOOTSTRAP>) -> Self {
        Self {
            allocator,
            detector,
        }
    }

    /// The allocator itself. What is taken from it directly is not tracked, and must be given back directly.
    pub const fn untracked(&self) -> &A {
        &self.allocator
    }
}

// SAFETY: all blocks are the allocator's; the detector neither touches nor unwinds.
unsafe impl<A: GlobalAlloc, P: Platform, const BOOTSTRAP: usize> GlobalAlloc
    for Tracked<A, P, BOOTSTRAP>
{
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = unsafe { self.allocator.alloc(layout) };
        if !block.is_null() {
            let start = block.expose_provenance();
            self.detector
                .alloc(start, layout.size(), AllocOptions::new());
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // Before it can be handed out again.
        self.detector.free(block.addr());
        // SAFETY: the caller's promise.
        unsafe { self.allocator.dealloc(block, layout) };
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = unsafe { self.allocator.alloc_zeroed(layout) };
        if !block.is_null() {
            let start = block.expose_provenance();
            self.detector
                .alloc(start, layout.size(), AllocOptions::new());
        }
        block
    }
}
