//! A detector for any allocator.

use core::alloc::{GlobalAlloc, Layout};
use core::hint::black_box;
use core::ops::Deref;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::detector::Detector;
use crate::platform::Platform;

/// An allocator that tells a detector of its blocks: for kernels that have one global allocator, and no slabs or pages that need
/// to be tracked separately.
///
/// The memory of the allocator value itself is in no root, though it is a static: it points to free blocks, and often to the
/// first block that is in use, which would never be lost. Blocks that it cuts from an array in itself are ordinary objects. State
/// that it keeps elsewhere, in another static, must be [excluded](Detector::exclude) by hand.
///
/// Its blocks are read without asking the platform: a `GlobalAlloc` promises that they are memory.
///
/// The allocator itself is reached through it (`HEAP.lock()` of a `LockedHeap`). What is taken from it directly is not tracked,
/// and must be given back directly.
///
/// The crate's documentation begins with an example.
pub struct Tracked<A, P: Platform + 'static> {
    allocator: A,
    detector: &'static Detector<P>,
    /// The address of this, if the detector knows it: it has no address yet when it is made.
    known_at: AtomicUsize,
    /// Whether blocks are cleared when they are allocated and freed.
    wipes: bool,
}

impl<A, P: Platform> Tracked<A, P> {
    /// Tells `detector` of the blocks of `allocator`.
    pub const fn new(allocator: A, detector: &'static Detector<P>) -> Self {
        Self {
            allocator,
            detector,
            known_at: AtomicUsize::new(0),
            wipes: false,
        }
    }

    /// Hands blocks out zeroed, and clears them when they are freed. So no pointer that a block's last user left behind hides a
    /// leak: neither in a block that its next user does not fill, nor in free memory that lies in a root. Each block is written
    /// once more when it is allocated and when it is freed.
    #[must_use]
    pub const fn wiping(mut self) -> Self {
        self.wipes = true;
        self
    }

    /// Tells the detector of a block.
    ///
    /// # Safety
    ///
    /// The allocator has handed it out for this layout; its free is told to the detector here, too.
    #[inline(always)]
    unsafe fn tell(&self, block: *mut u8, layout: Layout) -> *mut u8 {
        if !block.is_null() && self.detector.is_on() {
            let here = core::ptr::from_ref(self).addr();
            if self.known_at.load(Ordering::Relaxed) != here {
                self.settle(here);
            }
            let start = block.expose_provenance();
            // SAFETY: the allocator has just handed the block out, and `dealloc` tells of its free before it goes back.
            unsafe { self.detector.tracker().alloc_vouched(start, layout.size()) };
        }
        block
    }

    /// Excludes the allocator's own memory from the roots, and includes the memory where it was before. Where there is no memory
    /// to note this there is none for the block's record either, which is reported; the next block tries again.
    #[cold]
    fn settle(&self, here: usize) {
        let before = self.known_at.swap(here, Ordering::Relaxed);
        if before == here {
            return;
        }
        self.unsettle(before);
        if !self.detector.exclude(here, size_of::<Self>()) {
            self.known_at.store(0, Ordering::Relaxed);
        }
    }

    fn unsettle(&self, known_at: usize) {
        if known_at != 0 {
            self.detector.include(known_at);
        }
    }
}

impl<A, P: Platform> Deref for Tracked<A, P> {
    type Target = A;

    fn deref(&self) -> &A {
        &self.allocator
    }
}

impl<A, P: Platform> Drop for Tracked<A, P> {
    fn drop(&mut self) {
        self.unsettle(self.known_at.load(Ordering::Relaxed));
    }
}

// SAFETY: all blocks are the allocator's; the detector neither changes them nor unwinds.
unsafe impl<A: GlobalAlloc, P: Platform> GlobalAlloc for Tracked<A, P> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = if self.wipes {
            // SAFETY: the caller's promise.
            unsafe { self.allocator.alloc_zeroed(layout) }
        } else {
            // SAFETY: the caller's promise.
            unsafe { self.allocator.alloc(layout) }
        };
        // SAFETY: the block was handed out just now, or the pointer is null.
        unsafe { self.tell(block, layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // The detector is told before the block can be handed out again.
        self.detector.free(block.addr());
        if self.wipes {
            // SAFETY: the block is still the caller's, who does not use it any more.
            unsafe { block.write_bytes(0, layout.size()) };
            // A compiler that knows what freeing is would leave out writes that are not read before it.
            black_box(block);
        }
        // SAFETY: the caller's promise.
        unsafe { self.allocator.dealloc(block, layout) };
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = unsafe { self.allocator.alloc_zeroed(layout) };
        // SAFETY: the caller's promise.
        unsafe { self.tell(block, layout) }
    }
}
