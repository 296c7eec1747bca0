//! Host memory, by address.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;
/// Bytes of a word.
pub(crate) const WORD: usize = size_of::<usize>();

/// A piece of zeroed memory that stays where it is until it is dropped.
pub(crate) struct Memory {
    /// What the host gave: with room to align it.
    given: usize,
    layout: Layout,
    start: usize,
}

impl Memory {
    /// At least `bytes` bytes, in whole pages, aligned to `align` and to a page. `None` where the host has none.
    ///
    /// The host aligns to 16: for more its allocator would clear each page by hand, touched or not.
    pub(crate) fn try_new(bytes: usize, align: usize) -> Option<Self> {
        let align = align.max(PAGE);
        let size = bytes.max(1).checked_next_multiple_of(PAGE)?;
        let layout = Layout::from_size_align(size.checked_add(align)?, 16).ok()?;
        // SAFETY: the size is not zero.
        let memory = unsafe { alloc_zeroed(layout) };
        if memory.is_null() {
            return None;
        }
        let given = memory.expose_provenance();
        Some(Self {
            given,
            layout,
            start: given.next_multiple_of(align),
        })
    }

    /// A piece as of [`try_new`](Self::try_new); panics where the host has no memory.
    pub(crate) fn new(bytes: usize, align: usize) -> Self {
        Self::try_new(bytes, align).expect("the host has memory for a machine")
    }

    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// Where what the host gave ends.
    pub(crate) fn end(&self) -> usize {
        (self.given + self.layout.size()) & !(WORD - 1)
    }

    /// Whether the word at an address lies in it.
    pub(crate) fn has_word(&self, address: usize) -> bool {
        let end = self.given + self.layout.size();
        address.is_multiple_of(WORD)
            && (self.start..end).contains(&address)
            && end - address >= WORD
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let given = std::ptr::with_exposed_provenance_mut(self.given);
        // SAFETY: allocated with this layout, and given back once.
        unsafe { dealloc(given, self.layout) };
    }
}

/// The word at an address, which others may read and write at the same time.
///
/// # Safety
///
/// `address` is a multiple of the word's size and lies in memory that lives as long as the result is used.
unsafe fn word<'a>(address: usize) -> &'a AtomicUsize {
    debug_assert!(
        address.is_multiple_of(WORD),
        "{address:#x} is no word's address"
    );
    // SAFETY: the caller's promise.
    unsafe { AtomicUsize::from_ptr(std::ptr::with_exposed_provenance_mut(address)) }
}

/// Reads a word.
///
/// # Safety
///
/// `address` is a multiple of the word's size and lies in live memory.
pub(crate) unsafe fn read(address: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { word(address) }.load(Ordering::Relaxed)
}

/// Writes a word.
///
/// # Safety
///
/// As for [`read`].
pub(crate) unsafe fn write(address: usize, value: usize) {
    // SAFETY: the caller's promise.
    unsafe { word(address) }.store(value, Ordering::Relaxed);
}

/// Clears all the words that `bytes` bytes at `start` touch.
///
/// # Safety
///
/// As for [`read`], for all of them.
pub(crate) unsafe fn zero(start: usize, bytes: usize) {
    for offset in (0..bytes).step_by(WORD) {
        // SAFETY: the caller's promise.
        unsafe { write(start + offset, 0) };
    }
}
