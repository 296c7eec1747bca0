//! Reading memory: the next word that may be a pointer.
//!
//! The marker itself reads plain words a stretch at a time ([`RangeFilter`](crate::platform::arch::RangeFilter)). Questions that ask
//! where a pointer lies go from one to the next ([`MappedWords::search`]): four instructions a word on x86_64, and a quarter of the
//! loop's own.

use core::ops::Range;

use crate::metadata::WORD;
use crate::platform::address::end_of;
use crate::platform::arch::find_word;
use crate::platform::{Platform, Words};

/// Where the whole words from `start` to `end` begin, and how many there are. An `end` of `usize::MAX` means the end of the
/// address space ([`end_of`](crate::platform::address::end_of)).
#[inline(always)]
pub(crate) fn whole_words(start: usize, end: usize) -> (usize, usize) {
    let Some(first) = start.checked_next_multiple_of(WORD) else {
        return (start, 0);
    };
    let bytes = match end {
        usize::MAX => first.wrapping_neg(),
        end => end.saturating_sub(first),
    };
    (first, bytes / WORD)
}

/// The whole words of a range, to the end of the last one.
pub(crate) fn words_in(range: Range<usize>) -> Range<usize> {
    let (first, words) = whole_words(range.start, range.end);
    first..end_of(first, words * WORD)
}

/// Does something with a number that is stored at the first address.
pub(crate) type WordVisitor<'l, M> = &'l mut dyn FnMut(&mut M, usize, usize);

/// Whole words that may be read: words of a root, or of an object that is kept from being freed.
#[derive(Clone, Copy)]
pub(crate) struct MappedWords {
    start: usize,
    count: usize,
}

impl MappedWords {
    /// `count` words from `start` on.
    ///
    /// # Safety
    ///
    /// `start` is a multiple of a word's size. The words are mapped and may be read ([`ForeignWords::read`]) as long as this
    /// is used.
    ///
    /// [`ForeignWords::read`]: crate::platform::ForeignWords::read
    #[inline(always)]
    pub(super) unsafe fn new(start: usize, count: usize) -> Self {
        Self { start, count }
    }

    /// The whole words from `start` to `end`.
    ///
    /// # Safety
    ///
    /// These words are mapped and may be read as long as this is used.
    #[inline(always)]
    pub(super) unsafe fn between(start: usize, end: usize) -> Self {
        let (start, count) = whole_words(start, end);
        Self { start, count }
    }

    /// How many words there are.
    #[inline(always)]
    pub(super) fn len(self) -> usize {
        self.count
    }

    /// Where the first one lies.
    #[inline(always)]
    pub(super) fn start(self) -> usize {
        self.start
    }

    /// Takes the first words, `count` or as many as there are. Others remain.
    #[inline(always)]
    pub(super) fn take(&mut self, count: usize) -> Self {
        let taken = Self {
            start: self.start,
            count: self.count.min(count),
        };
        self.start = self.start.wrapping_add(taken.count * WORD);
        self.count -= taken.count;
        taken
    }

    /// All words, to be searched. `None` if the last is that of the address space: no number is the address after it.
    #[inline(always)]
    pub(super) fn search(self) -> Option<Search> {
        let end = self.start.wrapping_add(self.count * WORD);
        (end != 0).then_some(Search {
            at: self.start,
            end,
        })
    }

    /// Reads each word, and shows it with its address.
    pub(crate) fn each(self, words: Words<'_>) -> impl Iterator<Item = (usize, usize)> {
        (0..self.count).map(move |index| {
            let at = self.start + index * WORD;
            // SAFETY: one of the words.
            (at, unsafe { words.read(at) })
        })
    }

    /// The words less than `span` above `lowest`, one at a time: for use where [`search`](Self::search) is not possible.
    pub(super) fn each_within<P: Platform>(
        self,
        platform: &P,
        lowest: usize,
        span: usize,
    ) -> impl Iterator<Item = (usize, usize)> {
        (0..self.count).filter_map(move |index| {
            let at = self.start + index * WORD;
            // SAFETY: one of the words.
            let word = unsafe { platform.words().read_pointer(at) };
            (word.wrapping_sub(lowest) < span).then_some((at, word))
        })
    }
}

/// Words that are being searched.
pub(super) struct Search {
    at: usize,
    end: usize,
}

impl Search {
    /// The next word that is less than `span` above `lowest`.
    #[inline(always)]
    pub(super) fn next_within<P: Platform>(
        &mut self,
        platform: &P,
        lowest: usize,
        span: usize,
    ) -> Option<usize> {
        if let Words::Plain = platform.words() {
            // SAFETY: made of words that may be read.
            return unsafe { find_word(&mut self.at, self.end, lowest, span) };
        }
        while self.at < self.end {
            // SAFETY: made of words that may be read.
            let word = unsafe { platform.words().read_pointer(self.at) };
            self.at += WORD;
            if word.wrapping_sub(lowest) < span {
                return Some(word);
            }
        }
        None
    }

    /// The address of the word that was found last.
    pub(super) fn found_at(&self) -> usize {
        self.at - WORD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST_WORD: usize = usize::MAX - (WORD - 1);

    #[test]
    fn words_are_whole() {
        assert_eq!(whole_words(4096, 4104), (4096, 1));
        assert_eq!(whole_words(4097, 4119), (4104, 1));
        assert_eq!(whole_words(4097, 4111), (4104, 0));
        assert_eq!(whole_words(4097, 4100), (4104, 0));
    }

    #[test]
    fn the_last_word_of_the_address_space_is_one() {
        assert_eq!(whole_words(LAST_WORD - 16, usize::MAX), (LAST_WORD - 16, 3));
        assert_eq!(whole_words(LAST_WORD, usize::MAX), (LAST_WORD, 1));
        assert_eq!(whole_words(LAST_WORD + 1, usize::MAX).1, 0);
    }
}
