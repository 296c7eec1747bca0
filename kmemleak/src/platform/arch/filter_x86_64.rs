//! The search of memory for pointers, a stretch at a time.
//!
//! Nearly all words of memory point nowhere, so what such a word costs is what a check costs. All addresses of a range have some
//! upper bits in common. So two instructions a word are enough: they compare two bytes of it, in place, with what these bytes are
//! in the whole range. Where they are the same, the word itself is compared, and copied if it is in the range; the loop goes on.
//! It is assembly because a compiler emits four times as much, and it is the plainest way to say that the words are read as they
//! are, though other code may write to them meanwhile.

use core::arch::asm;

/// Where the two bytes may begin in a word, and how many bits lie below them. The lowest ones that all addresses of the range have
/// in common are taken, since the upper ones of a kernel's addresses are also those of small negative numbers.
const PIECES: [(usize, u32); 3] = [(4, 32), (5, 40), (6, 48)];

/// A range of addresses, and two bytes that they have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RangeFilter {
    /// What is added to an address to get its distance from the lowest one.
    below: usize,
    span: usize,
    /// Where in a word the two bytes lie, and what they are in the range.
    piece: usize,
    bits: u32,
}

/// Compares the two bytes of the word at an offset: goes to `hit` if they are those of the range, which comes back to `back`.
macro_rules! look {
    ($offset:literal hit $hit:literal back $back:literal) => {
        concat!(
            "cmp word ptr [{address} + {piece} + ",
            $offset,
            "], {bits:x}\n",
            "je ",
            $hit,
            "f\n",
            $back,
            ":"
        )
    };
}

/// Appends the word at an offset, and counts it if it is in the range: the next one takes the place of a word that is not.
macro_rules! hit {
    ($offset:literal hit $hit:literal back $back:literal) => {
        concat!(
            $hit,
            ":\n",
            "mov {word}, [{address} + ",
            $offset,
            "]\n",
            "mov [{to} + {found} * 8], {word}\n",
            "add {word}, {below}\n",
            "cmp {word}, {span}\n",
            "adc {found}, 0\n",
            "jmp ",
            $back,
            "b"
        )
    };
}

impl RangeFilter {
    /// The addresses less than `span` above `lowest`. `None` if they have not two upper bytes in common.
    pub(crate) fn new(lowest: usize, span: usize) -> Option<Self> {
        let last = lowest.checked_add(span.saturating_sub(1))?;
        let (piece, shift) = PIECES
            .into_iter()
            .find(|(_, shift)| lowest >> shift == last >> shift)?;
        Some(Self {
            below: lowest.wrapping_neg(),
            span,
            piece,
            bits: (lowest >> shift) as u32 & 0xffff,
        })
    }

    /// Copies the words from `at` on, `count` of them, that are in the range to `to`, and returns how many these are. Looks at
    /// two bytes of each word, and at the whole word only if they are those of the range.
    ///
    /// # Safety
    ///
    /// `at` is a multiple of a word's size, and `count` words may be read there. `to` has room for as many.
    #[inline(always)]
    pub(crate) unsafe fn collect(&self, at: usize, count: usize, to: *mut usize) -> usize {
        let mut found = 0_usize;
        // SAFETY: reads `count` words from `at` on, and writes one of `to` at most for each.
        unsafe {
            asm!(
                "test {count:l}, 7",
                "jz 4f",
                "test {count:l}, 1",
                "jz 2f",
                look!(0 hit 20 back 40),
                "add {address}, 8",
                "2:",
                "test {count:l}, 2",
                "jz 3f",
                look!(0 hit 21 back 41),
                look!(8 hit 22 back 42),
                "add {address}, 16",
                "3:",
                "test {count:l}, 4",
                "jz 4f",
                look!(0 hit 23 back 43),
                look!(8 hit 24 back 44),
                look!(16 hit 25 back 45),
                look!(24 hit 26 back 46),
                "add {address}, 32",
                "4:",
                "shr {count}, 3",
                "jz 6f",
                "5:",
                look!(0 hit 27 back 47),
                look!(8 hit 28 back 48),
                look!(16 hit 29 back 49),
                look!(24 hit 30 back 50),
                look!(32 hit 31 back 51),
                look!(40 hit 32 back 52),
                look!(48 hit 33 back 53),
                look!(56 hit 34 back 54),
                "add {address}, 64",
                "dec {count}",
                "jnz 5b",
                "jmp 6f",
                hit!(0 hit 20 back 40),
                hit!(0 hit 21 back 41),
                hit!(8 hit 22 back 42),
                hit!(0 hit 23 back 43),
                hit!(8 hit 24 back 44),
                hit!(16 hit 25 back 45),
                hit!(24 hit 26 back 46),
                hit!(0 hit 27 back 47),
                hit!(8 hit 28 back 48),
                hit!(16 hit 29 back 49),
                hit!(24 hit 30 back 50),
                hit!(32 hit 31 back 51),
                hit!(40 hit 32 back 52),
                hit!(48 hit 33 back 53),
                hit!(56 hit 34 back 54),
                "6:",
                address = inout(reg) at => _,
                count = inout(reg_abcd) count => _,
                piece = in(reg) self.piece,
                bits = in(reg) self.bits,
                word = out(reg) _,
                found = inout(reg) found,
                below = in(reg) self.below,
                span = in(reg) self.span,
                to = in(reg) to,
                options(nostack),
            );
        }
        found
    }
}
