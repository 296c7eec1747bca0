//! The search of memory for pointers, a stretch at a time.
//!
//! Nearly all words of memory point nowhere, so what such a word costs is what a check costs. All addresses of a range have some
//! upper bits in common. So two instructions a word are enough: they compare two bytes of it, in place, with what these bytes are
//! in the whole range. Where they are the same, the word itself is compared, and copied if it is in the range; the loop goes on.
//! It is assembly because a compiler emits four times as much, and it is the plainest way to say that the words are read as they
//! are, though other code may write to them meanwhile.

use core::arch::asm;

use super::address_bits::{AddressBits, BITS, SHIFT};

/// Where the two bytes may begin in a word, and how many bits lie below them. The lowest ones that all addresses of the range have
/// in common are taken, for they tell it from other memory; if possible, such as are not those of small numbers, or of small negative
/// ones.
const PIECES: [(usize, u32); 5] = [(2, 16), (3, 24), (4, 32), (5, 40), (6, 48)];

/// Words of a block that is searched without a look at how many are left.
pub(crate) const BLOCK: usize = 32;

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
        let mut common = PIECES
            .into_iter()
            .filter(|(_, shift)| lowest >> shift == last >> shift);
        let is_small = |shift: u32| matches!((lowest >> shift) & 0xffff, 0 | 0xffff);
        let telling = common.clone().find(|&(_, shift)| !is_small(shift));
        let (piece, shift) = telling.or_else(|| common.next_back())?;
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

    /// Copies words of which `set` [may have](AddressBits::may_have) the address, from the first blocks of [`BLOCK`] words from `at` on. All
    /// that are in the range are among them, perhaps with some others. Returns how many these are. It takes fewer instructions than
    /// [`collect`](Self::collect).
    ///
    /// # Safety
    ///
    /// `at` is a multiple of a word's size, and `blocks` times so many words may be read there. `to` has room for as many.
    #[inline(always)]
    pub(crate) unsafe fn collect_blocks(
        &self,
        at: usize,
        blocks: usize,
        set: &AddressBits,
        to: *mut usize,
    ) -> usize {
        let mut found = 0_usize;
        if blocks == 0 {
            return found;
        }
        // SAFETY: reads all words of the blocks, and writes one of `to` at most for each; the set has a bit for each number that is asked for.
        unsafe {
            asm!(
                "2:",
                ".irp offset, 0,8,16,24,32,40,48,56,64,72,80,88,96,104,112,120,128,136,144,152,160,168,176,184,192,200,208,216,224,232,240,248",
                "cmp word ptr [{address} + {piece} + \\offset], {bits:x}",
                "je 7\\offset\\()f",
                "8\\offset:",
                ".endr",
                "add {address}, {block}",
                "dec {blocks}",
                "jnz 2b",
                "jmp 3f",
                ".irp offset, 0,8,16,24,32,40,48,56,64,72,80,88,96,104,112,120,128,136,144,152,160,168,176,184,192,200,208,216,224,232,240,248",
                "7\\offset:",
                "mov {word}, [{address} + \\offset]",
                "mov [{to} + {found} * 8], {word}",
                "shr {word}, {shift}",
                "and {word:e}, {mask}",
                "bt [{set}], {word}",
                "adc {found}, 0",
                "jmp 8\\offset\\()b",
                ".endr",
                "3:",
                address = inout(reg) at => _,
                blocks = inout(reg) blocks => _,
                piece = in(reg) self.piece,
                bits = in(reg) self.bits,
                word = out(reg) _,
                found = inout(reg) found,
                set = in(reg) set.first_word(),
                to = in(reg) to,
                block = const BLOCK * size_of::<usize>(),
                shift = const SHIFT,
                mask = const BITS - 1,
                options(nostack),
            );
        }
        found
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    /// Numbers near the bounds of a range, small ones, and any.
    fn words(lowest: usize, span: usize) -> Vec<usize> {
        let mut random = lowest | 1;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let word = |_| match next() % 8 {
            0 => lowest.wrapping_sub(next() % 3),
            1 => (lowest + span).wrapping_sub(next() % 3),
            2 => lowest + next() % span,
            3 => (next() % 3).wrapping_sub(1),
            4 => lowest ^ 1 << (next() % 64),
            _ => next(),
        };
        (0..600).map(word).collect()
    }

    #[test]
    fn what_is_found_is_what_lies_in_the_range() {
        for base in [
            0x1000,
            0x7f12_3456_7000,
            0xffff_8880_0123_4000,
            0xffff_ffff_8012_3000,
        ] {
            for span in [1, 0x1000, 0x12_3456, 0x123_4567, 0x1_2345_6789] {
                let Some(filter) = RangeFilter::new(base, span) else {
                    continue;
                };
                let words = words(base, span);
                for (first, count) in (0..70).flat_map(|count| [(count, count), (0, 530 + count)]) {
                    let some = &words[first..first + count];
                    let wanted: Vec<usize> = some
                        .iter()
                        .copied()
                        .filter(|word| word.wrapping_sub(base) < span)
                        .collect();
                    let (at, mut to) = (some.as_ptr().expose_provenance(), [0; 600]);
                    // SAFETY: so many words, and there is room for all.
                    let found = unsafe { filter.collect(at, count, to.as_mut_ptr()) };
                    assert_eq!(to[..found], wanted);
                    // Those that a set has, which is that of one page here.
                    let set = AddressBits::new();
                    set.add(&(base + span / 2..base + span / 2 + 4096));
                    let blocks = count / BLOCK;
                    let wanted: Vec<usize> = some[..blocks * BLOCK]
                        .iter()
                        .copied()
                        .filter(|&word| word.wrapping_sub(base) < span && set.may_have(word))
                        .collect();
                    // SAFETY: as above.
                    let found = unsafe { filter.collect_blocks(at, blocks, &set, to.as_mut_ptr()) };
                    let found: Vec<usize> = to[..found].to_vec();
                    assert!(found.iter().all(|&word| set.may_have(word)));
                    let within = found
                        .iter()
                        .copied()
                        .filter(|word| word.wrapping_sub(base) < span);
                    assert_eq!(within.collect::<Vec<_>>(), wanted);
                }
            }
        }
    }

    #[test]
    fn no_small_number_looks_like_an_address_of_a_narrow_range() {
        for base in [
            0xffff_8880_0000_1000,
            0xffff_8880_ffff_0000,
            0x7f12_0000_8000,
        ] {
            let filter = RangeFilter::new(base, 0x1000).expect("they have bits in common");
            assert!(filter.bits != 0 && filter.bits != 0xffff, "{base:x}");
        }
    }
}
