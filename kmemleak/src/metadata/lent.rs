//! Memory that a kernel lends while it runs, for good: whole pages, in areas.
//!
//! An area is kept in its own first words: the place of the next area, and how many of its pages are free. Pages are taken from
//! its end, and the first page last, so nothing else is needed to keep it, and adding one can't fail.
//!
//! # Invariants
//!
//! The areas from `first` on, each linked to the next, have at least one free page each. Their free pages have no other user.
//!
//! # Locks
//!
//! None: its owner borrows it exclusively.

use core::ops::Range;
use core::ptr::NonNull;

use crate::metadata::hidden::Hidden;
use crate::platform::METADATA_PAGE;

/// The first words of an area.
#[derive(Clone, Copy)]
struct AreaHead {
    next: Hidden,
    /// Free pages: from the first page of the area on.
    pages: usize,
}

/// Whole pages that nobody uses.
pub(crate) struct WholePages {
    start: NonNull<u8>,
    pages: usize,
}

impl WholePages {
    /// The whole pages in some bytes; `None` if there is not one.
    pub(crate) fn of(bytes: &'static mut [u8]) -> Option<Self> {
        let before = bytes.as_ptr().align_offset(METADATA_PAGE);
        let inside = bytes.get_mut(before..)?;
        let pages = inside.len() / METADATA_PAGE;
        (pages > 0).then(|| Self {
            start: NonNull::from(inside).cast(),
            pages,
        })
    }

    /// One page.
    ///
    /// # Safety
    ///
    /// It was taken from lent memory, and nobody uses it any more.
    pub(super) const unsafe fn one(start: NonNull<u8>) -> Self {
        Self { start, pages: 1 }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.pages * METADATA_PAGE
    }

    /// Where they lie.
    pub(crate) fn range(&self) -> Range<usize> {
        let start = self.start.addr().get();
        start..start + self.bytes()
    }
}

/// All areas that have a free page.
pub(super) struct LentMemory {
    first: Hidden,
}

impl LentMemory {
    pub(super) const fn new() -> Self {
        Self {
            first: Hidden::NONE,
        }
    }

    /// Adds an area.
    pub(super) fn add(&mut self, area: WholePages) {
        let head = area.start.cast();
        let (next, pages) = (self.first, area.pages);
        // SAFETY: the first words of a page that nobody else uses.
        unsafe { head.write(AreaHead { next, pages }) };
        self.first = Hidden::of(head);
    }

    /// Takes a page. It holds what its last user left in it.
    pub(super) fn take(&mut self) -> Option<NonNull<u8>> {
        let start = self.first.pointer::<AreaHead>()?;
        // SAFETY: areas begin with their heads.
        let AreaHead { next, pages } = unsafe { start.read() };
        let pages = pages - 1;
        if pages == 0 {
            self.first = next;
        } else {
            // SAFETY: as above; this page is still free.
            unsafe { start.write(AreaHead { next, pages }) };
        }
        // SAFETY: the area has had one free page more than that.
        Some(unsafe { start.cast::<u8>().add(pages * METADATA_PAGE) })
    }
}
