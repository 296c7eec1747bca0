//! The search for words in plain Rust, where the crate has no instructions of the processor's for it.

use core::ptr;

use super::address_bits::AddressBits;

/// Words of a block that is searched for a set.
pub(crate) const BLOCK: usize = 32;

/// The next word from `at` to `end` that is less than `span` above `lowest`, for plain words. Advances past the word that it
/// returns.
///
/// # Safety
///
/// `at` and `end` are multiples of a word's size, and each word between them may be read.
#[inline(always)]
pub(crate) unsafe fn find_word(
    at: &mut usize,
    end: usize,
    lowest: usize,
    span: usize,
) -> Option<usize> {
    while *at < end {
        // SAFETY: the caller's promise; volatile, since others may write to the word meanwhile.
        let word: usize = unsafe { ptr::read_volatile(ptr::without_provenance(*at)) };
        *at += size_of::<usize>();
        if word.wrapping_sub(lowest) < span {
            return Some(word);
        }
    }
    None
}

/// A range of addresses, with which each word is compared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RangeComparison {
    lowest: usize,
    span: usize,
}

impl RangeComparison {
    /// The addresses less than `span` above `lowest`. `None` where they can't be searched for a stretch at a time.
    pub(crate) fn new(lowest: usize, span: usize) -> Option<Self> {
        Some(Self { lowest, span })
    }

    /// Copies the words from `at` on, `count` of them, that are in the range to `to`, and returns how many these are.
    ///
    /// # Safety
    ///
    /// `at` is a multiple of a word's size, and `count` words may be read there. `to` has room for as many.
    #[inline(always)]
    pub(crate) unsafe fn collect(&self, at: usize, count: usize, to: *mut usize) -> usize {
        let mut found = 0;
        for index in 0..count {
            let address = at + index * size_of::<usize>();
            // SAFETY: the caller's promise; volatile, since others may write to the word meanwhile.
            let word: usize = unsafe { ptr::read_volatile(ptr::without_provenance(address)) };
            if word.wrapping_sub(self.lowest) < self.span {
                // SAFETY: the caller's promise: no more words are found than are looked at.
                let place = unsafe { to.add(found) };
                // SAFETY: as above.
                unsafe { place.write(word) };
                found += 1;
            }
        }
        found
    }
    /// Copies the words in the range of which `set` [may have](AddressBits::may_have) the address, from the first blocks of [`BLOCK`] words
    /// from `at` on, and returns how many these are.
    ///
    /// # Safety
    ///
    /// `at` is a multiple of a word's size, and `blocks` times so many words may be read there. `to` has room for as many.
    pub(crate) unsafe fn collect_blocks(
        &self,
        at: usize,
        blocks: usize,
        set: &AddressBits,
        to: *mut usize,
    ) -> usize {
        let mut found = 0;
        for block in 0..blocks {
            let at = at + block * BLOCK * size_of::<usize>();
            // SAFETY: the caller's promise: no more words are found than are looked at.
            let behind = unsafe { to.add(found) };
            // SAFETY: the caller's promise.
            let some = unsafe { self.collect(at, BLOCK, behind) };
            let mut kept = 0;
            for index in 0..some {
                // SAFETY: one of those that were written.
                let from = unsafe { behind.add(index) };
                // SAFETY: as above.
                let word = unsafe { from.read() };
                if set.may_have(word) {
                    // SAFETY: one of those that were written, and read already.
                    let to = unsafe { behind.add(kept) };
                    // SAFETY: as above.
                    unsafe { to.write(word) };
                    kept += 1;
                }
            }
            found += kept;
        }
        found
    }
}
