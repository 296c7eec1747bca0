//! Reading memory: the next word that may be a pointer.
//!
//! Nearly all words that a marker reads point nowhere, so what such a word costs is what a check costs. On x86_64 four
//! instructions are enough, and an eighth of the loop's own; a compiler makes it eight. It has to be assembly, which is
//! also the plainest way to say that the words are read as they are, though others may write to them meanwhile.

use crate::metadata::WORD;
use crate::platform::Platform;

/// Where the whole words from `start` to `end` begin, and how many there are; `usize::MAX` as an end is that of the
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

/// The next word from `at` to `end` that is less than `span` above `lowest`. Goes on after it.
///
/// # Safety
///
/// `at` and `end` are multiples of a word's size, and each word between them may be read.
#[inline(always)]
pub(crate) unsafe fn next_within<P: Platform>(
    platform: &P,
    at: &mut usize,
    end: usize,
    lowest: usize,
    span: usize,
) -> Option<usize> {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if let crate::platform::Words::Plain = platform.words() {
        // SAFETY: the caller's promise.
        return unsafe { find(at, end, lowest, span) };
    }
    while *at < end {
        // SAFETY: the caller's promise.
        let word = unsafe { platform.words().read_pointer(*at) };
        *at += WORD;
        if word.wrapping_sub(lowest) < span {
            return Some(word);
        }
    }
    None
}

/// As [`next_within`], for plain words: four at a time as long as there are as many.
///
/// # Safety
///
/// As above.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
unsafe fn find(at: &mut usize, end: usize, lowest: usize, span: usize) -> Option<usize> {
    let (mut address, mut word) = (*at, 0_usize);
    let found: u32;
    // SAFETY: reads words between `at` and `end` only.
    unsafe {
        core::arch::asm!(
            "xor {found:e}, {found:e}",
            "sub {end}, 24",
            "cmp {address}, {end}",
            "jae 3f",
            "2:",
            "mov {word}, [{address}]",
            "lea {above}, [{word} + {below}]",
            "cmp {above}, {span}",
            "jb 5f",
            "mov {word}, [{address} + 8]",
            "lea {above}, [{word} + {below}]",
            "cmp {above}, {span}",
            "jb 6f",
            "mov {word}, [{address} + 16]",
            "lea {above}, [{word} + {below}]",
            "cmp {above}, {span}",
            "jb 7f",
            "mov {word}, [{address} + 24]",
            "lea {above}, [{word} + {below}]",
            "cmp {above}, {span}",
            "jb 8f",
            "add {address}, 32",
            "cmp {address}, {end}",
            "jb 2b",
            // Fewer than four are left.
            "3:",
            "add {end}, 24",
            "jmp 4f",
            "9:",
            "mov {word}, [{address}]",
            "lea {above}, [{word} + {below}]",
            "cmp {above}, {span}",
            "jb 5f",
            "add {address}, 8",
            "4:",
            "cmp {address}, {end}",
            "jb 9b",
            "jmp 20f",
            "8:",
            "add {address}, 8",
            "7:",
            "add {address}, 8",
            "6:",
            "add {address}, 8",
            "5:",
            "add {address}, 8",
            "inc {found:e}",
            "20:",
            found = out(reg) found,
            word = inout(reg) word,
            address = inout(reg) address,
            above = out(reg) _,
            end = inout(reg) end => _,
            below = in(reg) lowest.wrapping_neg(),
            span = in(reg) span,
            options(nostack, readonly),
        );
    }
    *at = address;
    (found != 0).then_some(word)
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
