//! The search for words in plain Rust, where the crate has no instructions of the processor's for it.

use core::ptr;

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
