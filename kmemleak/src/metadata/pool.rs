//! The bootstrap pool: pages for metadata before the platform can give any.
//!
//! A pool is a static of its own, so that the type of a detector does not depend on its pool's size. It counts its pages
//! itself: if two detectors are given one pool, they share it, and no page is given to both.
//!
//! # Locks
//!
//! None: one counter. Any context.

use core::cell::UnsafeCell;
use core::ops::Range;
use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering;

use crate::atomic::AtomicUsize;
use crate::platform::METADATA_PAGE;

/// The memory of a page.
#[repr(C, align(4096))]
struct PoolPage(UnsafeCell<[u8; METADATA_PAGE]>);

// SAFETY: each page has one user, the one that got it from `Pool::take`.
unsafe impl Sync for PoolPage {}

/// `PAGES` pages of 4096 bytes, for a static: metadata of a [`Detector`](crate::Detector).
///
/// [`Load`](crate::Load) says how many are needed. It is given to the detector at compile time, by
/// [`with_pool`](crate::Detector::with_pool), or at run time, by [`add_metadata`](crate::Detector::add_metadata) of what
/// [`take`](Self::take) returns.
pub struct BootstrapPool<const PAGES: usize> {
    used: AtomicUsize,
    pages: [PoolPage; PAGES],
}

impl<const PAGES: usize> BootstrapPool<PAGES> {
    /// A pool whose pages are all free.
    pub const fn new() -> Self {
        Self {
            used: AtomicUsize::new(0),
            pages: [const { PoolPage(UnsafeCell::new([0; METADATA_PAGE])) }; PAGES],
        }
    }

    /// The pages that are free, for [`add_metadata`](crate::Detector::add_metadata). None are left: a second call returns an empty
    /// slice. Any context.
    #[expect(clippy::mut_from_ref, reason = "the counter gives each page once")]
    pub fn take(&'static self) -> &'static mut [u8] {
        let used = self.used.swap(PAGES, Ordering::Relaxed).min(PAGES);
        let free = &self.pages[used..];
        let bytes =
            ptr::slice_from_raw_parts_mut(free.as_ptr().cast_mut().cast(), size_of_val(free));
        // SAFETY: pages of a static that may be written through a shared reference; the counter has given them to this call alone.
        unsafe { &mut *bytes }
    }

    /// The pool, whatever its size.
    pub(crate) const fn erased(&'static self) -> Pool {
        Pool {
            used: &self.used,
            pages: &self.pages,
        }
    }
}

impl<const PAGES: usize> Default for BootstrapPool<PAGES> {
    fn default() -> Self {
        Self::new()
    }
}

/// A pool of any size.
#[derive(Clone, Copy)]
pub(crate) struct Pool {
    /// Pages in use; more than there are, if several CPUs asked for the last one at once. Relaxed: it only hands out numbers.
    used: &'static AtomicUsize,
    pages: &'static [PoolPage],
}

impl Pool {
    /// A page that nobody else has. It holds what its last user left in it.
    pub(crate) fn take(self) -> Option<NonNull<u8>> {
        if self.used.load(Ordering::Relaxed) >= self.pages.len() {
            return None;
        }
        let page = self.pages.get(self.used.fetch_add(1, Ordering::Relaxed))?;
        Some(NonNull::from(&page.0).cast())
    }

    /// Where its memory lies.
    pub(crate) fn range(self) -> Range<usize> {
        let addresses = self.pages.as_ptr_range();
        addresses.start.addr()..addresses.end.addr()
    }
}
