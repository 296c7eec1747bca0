//! Pages for the detector's metadata.

use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeSet;
use std::ptr::NonNull;

use crate::METADATA_PAGE;

const LAYOUT: Layout = match Layout::from_size_align(METADATA_PAGE, METADATA_PAGE) {
    Ok(layout) => layout,
    Err(_) => panic!("a page has a layout"),
};

/// What a new page holds: pages need not be zeroed.
const JUNK: u8 = 0xa5;

/// The pages that the detector has.
#[derive(Debug, Default)]
pub struct Metadata {
    given: BTreeSet<NonNull<u8>>,
}

impl Metadata {
    /// A page.
    pub fn take(&mut self) -> Option<NonNull<u8>> {
        // SAFETY: the layout is not of size zero.
        let page = NonNull::new(unsafe { alloc(LAYOUT) })?;
        // SAFETY: the page's bytes, which nobody else has.
        unsafe { page.as_ptr().write_bytes(JUNK, METADATA_PAGE) };
        self.given.insert(page);
        Some(page)
    }

    /// Takes a page back.
    pub fn give_back(&mut self, page: NonNull<u8>) {
        assert!(self.given.remove(&page), "{page:?} is no page of metadata");
        // SAFETY: it came from `take`, and the detector does not use it any more.
        unsafe { dealloc(page.as_ptr(), LAYOUT) };
    }

    /// How many pages there are.
    pub fn pages(&self) -> usize {
        self.given.len()
    }
}

impl Drop for Metadata {
    fn drop(&mut self) {
        for &page in &self.given {
            // SAFETY: it came from `take`; the detector is gone before the world.
            unsafe { dealloc(page.as_ptr(), LAYOUT) };
        }
    }
}

// SAFETY: pages are memory of the process.
unsafe impl Send for Metadata {}
