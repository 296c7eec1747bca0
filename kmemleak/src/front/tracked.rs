//! A detector for any allocator.

use core::alloc::{GlobalAlloc, Layout};
use core::hint::black_box;
use core::ops::Deref;
use core::sync::atomic::Ordering;

use super::detector::Detector;
use crate::atomic::AtomicUsize;
use crate::platform::Platform;
use crate::tracker::Moving;

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
    /// once more when it is allocated and when it is freed. A block that is resized moves always, and its old place is cleared.
    #[must_use]
    pub const fn wiping(mut self) -> Self {
        self.wipes = true;
        self
    }

    /// Tells the detector of a block.
    ///
    /// # Safety
    ///
    /// The allocator has handed it out, of this size; its free is told to the detector here, too.
    #[inline(always)]
    unsafe fn tell(&self, block: *mut u8, size: usize) -> *mut u8 {
        if !block.is_null() && self.detector.is_on() {
            let here = core::ptr::from_ref(self).addr();
            if self.known_at.load(Ordering::Relaxed) != here {
                self.settle(here);
            }
            let start = block.expose_provenance();
            // SAFETY: the allocator has just handed the block out, and `dealloc` tells of its free before it goes back.
            unsafe { self.detector.tracker().alloc_vouched(start, size) };
        }
        block
    }

    /// Tells the detector that the block at `before` is now at `block`, of `size` bytes, with the same age, call stack and options.
    ///
    /// # Safety
    ///
    /// As of [`tell`](Self::tell); `moving` is the block at `before`, if the detector knows it.
    unsafe fn tell_moved(&self, moving: Option<Moving<'_, P>>, block: *mut u8, size: usize) {
        match moving {
            Some(moving) if block.is_null() => moving.put_back(),
            // SAFETY: the allocator has just handed the block out, and `dealloc` tells of its free before it goes back.
            Some(moving) => unsafe { moving.put_down(block.expose_provenance(), size) },
            None => {
                // SAFETY: the caller's promise.
                unsafe { self.tell(block, size) };
            }
        }
    }

    /// The block that is about to be resized, out of the detector's sight. One that it does not know counts as freed.
    fn pick_up(&self, block: *mut u8) -> Option<Moving<'static, P>> {
        let moving = self.detector.tracker().pick_up(block.addr());
        if moving.is_none() {
            self.detector.free(block.addr());
        }
        moving
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

impl<A: GlobalAlloc, P: Platform> Tracked<A, P> {
    /// Gives back a block that the detector does not know any more.
    ///
    /// # Safety
    ///
    /// As of [`GlobalAlloc::dealloc`].
    #[inline(always)]
    unsafe fn give_back(&self, block: *mut u8, layout: Layout) {
        if self.wipes {
            // SAFETY: the block is still the caller's, who does not use it any more.
            unsafe { block.write_bytes(0, layout.size()) };
            // A compiler that knows what freeing is would leave out writes that are not read before it.
            black_box(block);
        }
        // SAFETY: the caller's promise.
        unsafe { self.allocator.dealloc(block, layout) };
    }

    /// Puts a zeroed block of another size in the place of a block, with as much of its contents. Whether the allocator would leave
    /// the block where it is can't be known, and if it moved it, it would leave the contents behind.
    ///
    /// # Safety
    ///
    /// As of [`GlobalAlloc::realloc`].
    unsafe fn resize_by_copying(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise: with this alignment, the size is one of a layout, and not zero.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: as above.
        let new = unsafe { self.allocator.alloc_zeroed(new_layout) };
        if new.is_null() {
            return new;
        }
        let kept = layout.size().min(new_size);
        // SAFETY: the old block is the caller's, the new one was handed out just now; both are as large.
        unsafe { block.copy_to_nonoverlapping(new, kept) };
        let moving = self.pick_up(block);
        // SAFETY: the block was handed out just now.
        unsafe { self.tell_moved(moving, new, new_size) };
        // SAFETY: the caller's promise.
        unsafe { self.give_back(block, layout) };
        new
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
        unsafe { self.tell(block, layout.size()) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // The detector is told before the block can be handed out again.
        self.detector.free(block.addr());
        // SAFETY: the caller's promise.
        unsafe { self.give_back(block, layout) };
    }

    /// Resizes in place where the allocator does. The block stays the same object for the detector.
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if self.wipes {
            // SAFETY: the caller's promise.
            return unsafe { self.resize_by_copying(block, layout, new_size) };
        }
        let moving = self.pick_up(block);
        // SAFETY: the caller's promise.
        let resized = unsafe { self.allocator.realloc(block, layout, new_size) };
        // SAFETY: the block was handed out just now, or the pointer is null.
        unsafe { self.tell_moved(moving, resized, new_size) };
        resized
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = unsafe { self.allocator.alloc_zeroed(layout) };
        // SAFETY: the caller's promise.
        unsafe { self.tell(block, layout.size()) }
    }
}
