//! Addresses and extents: checks on a number before anything is looked up by it, recorded at it, or read there.
//!
//! Numbers come from outside: from allocators, from the platform, from a person at a prompt, from every word that is
//! scanned. Most 64-bit numbers are not addresses, and to use one as an address is an error: with its upper bits cut off it
//! means another block; a length that wraps round makes a block of nearly 2^64 bytes; null is what an allocator returns that
//! has no memory left. So each number that comes in is converted to an [`Address`], and a start with a length to an
//! [`Extent`], or it is refused there; the registry and the page map take nothing else.
//!
//! 48 bits of an address count, as on x86_64 with four levels of page tables and on AArch64 with 48 bits of virtual
//! address; the upper bits repeat the highest of them. Between the two halves is a hole of numbers that are not addresses.
//!
//! # Kinds of extents
//!
//! - Memory lies in one half, and does not begin in the first page, which is left unmapped so that null pointers fault.
//! - A block is memory that starts where [`Platform::block_addresses`] says, and not at one of the last 4095 numbers,
//!   which C calls error codes ("IS_ERR").
//! - A block of physical memory lies in the lower half, and may begin at zero.
//! - Where the platform says that memory lies (the copies of a per-CPU block, the mapping of physical memory) is a number
//!   from outside, and is checked as any other.
//!
//! # Ends
//!
//! The last byte of the address space is memory as well, so the end of a block may be 2^64, which no `usize` holds. An
//! extent is kept as its first and its last byte. Where code goes by ends (the marker), [`end_of`] stands for 2^64 by
//! `usize::MAX`.

use core::ops::RangeInclusive;

use crate::platform::Platform;

/// Bits of an address that count.
pub(crate) const ADDRESS_BITS: u32 = 48;

/// The bits from here on tell the halves apart: the highest bit that counts, and those that repeat it.
const HALF_SHIFT: u32 = ADDRESS_BITS - 1;

/// The lowest address of a block: no memory begins in the first page.
const LOWEST_BLOCK: usize = 4096;
/// The highest address at which a block may start: above it, numbers are error codes.
const HIGHEST_BLOCK: usize = usize::MAX - 4095;

/// An address: its upper bits all repeat the highest bit that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address(usize);

impl Address {
    /// This number, if it is an address.
    #[inline(always)]
    pub(crate) const fn new(number: usize) -> Option<Self> {
        let address = Self::of_low_bits(number);
        if address.0 == number {
            Some(address)
        } else {
            None
        }
    }

    /// The address that has the low bits of a number, those that count.
    #[inline(always)]
    pub(crate) const fn of_low_bits(number: usize) -> Self {
        const UNUSED: u32 = usize::BITS - ADDRESS_BITS;
        Self(((number << UNUSED) as isize >> UNUSED) as usize)
    }

    #[inline(always)]
    pub(crate) const fn get(self) -> usize {
        self.0
    }

    /// Whether it lies in the first page, which is left unmapped so that null pointers fault.
    pub(crate) const fn is_in_first_page(self) -> bool {
        self.0 < LOWEST_BLOCK
    }
}

/// Some bytes of memory, one at least: all of them in one half of the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    start: Address,
    last: Address,
}

impl Extent {
    /// `size` bytes at `start`, one at least, if they lie in one half.
    #[inline(always)]
    fn of(start: usize, size: usize) -> Option<Self> {
        let last = start.wrapping_add(size.wrapping_sub(1));
        let half = start as isize >> HALF_SHIFT;
        // For an address, `half` is 0 or -1.
        let one_half = half == last as isize >> HALF_SHIFT && (half + 1) as usize <= 1;
        (one_half && last >= start).then_some(Self {
            start: Address(start),
            last: Address(last),
        })
    }

    /// `size` bytes of memory at `start`, one at least.
    pub(crate) fn memory(start: usize, size: usize) -> Option<Self> {
        Self::of(start, size).filter(|extent| extent.start.0 >= LOWEST_BLOCK)
    }

    /// A block: `size` bytes at `start`, one at least.
    #[inline(always)]
    pub(crate) fn block<P: Platform>(platform: &P, start: usize, size: usize) -> Option<Self> {
        let allowed = Self::starts_of_blocks(platform);
        if !allowed.contains(&start) {
            return None;
        }
        Self::of(start, size)
    }

    /// Where blocks of a platform may start.
    #[inline(always)]
    pub(crate) fn starts_of_blocks<P: Platform>(platform: &P) -> RangeInclusive<usize> {
        let allowed = platform.block_addresses();
        let lowest = (*allowed.start()).max(LOWEST_BLOCK);
        let highest = (*allowed.end()).min(HIGHEST_BLOCK);
        lowest..=highest
    }

    /// What the handle of a per-CPU block names: `size` bytes, one at least. Handles need not lie where blocks do.
    pub(crate) fn handle(start: usize, size: usize) -> Option<Self> {
        Self::memory(start, size).filter(|extent| extent.can_be_object())
    }

    /// Whether an object may start where this does. No object starts at an error code: some numbers there mean "none", and
    /// small numbers are added to the starts of objects.
    pub(crate) const fn can_be_object(self) -> bool {
        self.start.0 <= HIGHEST_BLOCK
    }

    /// A block of physical memory: `size` bytes at `start`, one at least.
    pub(crate) fn physical(start: usize, size: usize) -> Option<Self> {
        Self::of(start, size).filter(|extent| extent.start.0 >> HALF_SHIFT == 0)
    }

    /// Where CPU `cpu`'s copy of a per-CPU block lies, if the platform names a place where a block may be.
    pub(crate) fn copy<P: Platform>(
        platform: &P,
        handle: usize,
        cpu: u32,
        size: usize,
    ) -> Option<Self> {
        Self::block(platform, platform.percpu_copy(handle, cpu), size)
    }

    /// Where physical memory is mapped, if the platform names a place where memory may be.
    pub(crate) fn mapped<P: Platform>(platform: &P, start: usize, size: usize) -> Option<Self> {
        Self::memory(platform.phys_to_virt(start, size)?, size)
    }

    /// All of an object that starts at an address.
    pub(crate) fn of_object(start: Address, size: usize) -> Option<Self> {
        Self::of(start.0, size)
    }

    #[inline(always)]
    pub(crate) const fn start(self) -> Address {
        self.start
    }

    /// The last byte.
    #[inline(always)]
    pub(crate) const fn last(self) -> Address {
        self.last
    }

    /// Its size in bytes.
    #[inline(always)]
    pub(crate) const fn size(self) -> usize {
        self.last.0 - self.start.0 + 1
    }

    /// What remains when `len` bytes at `start` are taken away: the part before them, and the part after. `start` lies in it.
    pub(crate) fn without(self, start: Address, len: usize) -> [Option<Self>; 2] {
        let part = |start: usize, last: usize| Self {
            start: Address(start),
            last: Address(last),
        };
        let before = (start > self.start).then(|| part(self.start.0, start.0 - 1));
        let next = start.0.checked_add(len).filter(|&next| next <= self.last.0);
        [before, next.map(|next| part(next, self.last.0))]
    }
}

/// The address after `len` bytes at `start`; `usize::MAX` where that is the end of the address space, or beyond. A block that ends one
/// byte before that is taken for one that ends there: the byte behind it lies in the word that its last bytes lie in.
#[inline(always)]
pub(crate) const fn end_of(start: usize, len: usize) -> usize {
    start.saturating_add(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOWER_END: usize = 1 << 47;
    const UPPER: usize = !(LOWER_END - 1);

    #[test]
    fn an_address_repeats_its_highest_bit() {
        for number in [0, 1, LOWER_END - 1, UPPER, usize::MAX] {
            assert_eq!(Address::new(number).map(Address::get), Some(number));
        }
        for number in [LOWER_END, UPPER - 1, UPPER & !(1 << 63), 1 << 48, 1 << 63] {
            assert_eq!(Address::new(number), None, "{number:#x}");
        }
    }

    #[test]
    fn memory_lies_in_one_half() {
        let bytes = |start, size| Extent::memory(start, size).map(|extent| extent.size());
        for (start, size) in [
            (4096, 1),
            (4096, LOWER_END - 4096),
            (UPPER, 1),
            (UPPER, LOWER_END),
            (usize::MAX, 1),
            (usize::MAX - 63, 64),
        ] {
            assert_eq!(bytes(start, size), Some(size), "{start:#x} {size:#x}");
        }
        for (start, size) in [
            (0, 64),
            (4095, 2),
            (4096, LOWER_END),
            (4096, usize::MAX),
            (4096, 0_usize.wrapping_sub(8)),
            (LOWER_END - 64, 128),
            (LOWER_END - 64, UPPER - LOWER_END + 128),
            (LOWER_END, 64),
            (UPPER, LOWER_END + 1),
            (UPPER, usize::MAX),
            (usize::MAX, 2),
            (usize::MAX - 63, 65),
        ] {
            assert_eq!(bytes(start, size), None, "{start:#x} {size:#x}");
        }
    }

    #[test]
    fn no_block_starts_in_the_first_page_or_at_an_error_code() {
        for start in [0, 8, 4095, 0_usize.wrapping_sub(12), usize::MAX - 4094] {
            assert_eq!(Extent::handle(start, 1), None, "{start:#x}");
        }
        let last_page = usize::MAX - 4095;
        assert_eq!(
            Extent::handle(last_page, 4096).map(Extent::size),
            Some(4096)
        );
        assert_eq!(Extent::handle(last_page, 4097), None);
    }

    #[test]
    fn physical_memory_begins_at_zero_and_has_47_bits() {
        let bytes = |start, size| Extent::physical(start, size).map(Extent::size);
        assert_eq!(bytes(0, 4096), Some(4096));
        assert_eq!(bytes(0, LOWER_END), Some(LOWER_END));
        for (start, size) in [(4096, LOWER_END), (LOWER_END, 1), (UPPER, 4096)] {
            assert_eq!(bytes(start, size), None, "{start:#x}");
        }
    }

    #[test]
    fn what_is_left_ends_where_the_hole_begins() {
        let all = Extent::memory(usize::MAX - 99, 100).expect("memory");
        let left = |at: usize, len| {
            let start = Address::new(all.start().get() + at).expect("inside");
            all.without(start, len)
                .map(|part| part.map(|part| (part.start().get() - all.start().get(), part.size())))
        };
        assert_eq!(left(0, 100), [None, None]);
        assert_eq!(left(0, 99), [None, Some((99, 1))]);
        assert_eq!(left(1, 98), [Some((0, 1)), Some((99, 1))]);
        assert_eq!(left(40, 60), [Some((0, 40)), None]);
        assert_eq!(left(40, usize::MAX), [Some((0, 40)), None]);
        assert_eq!(left(40, 0), [Some((0, 40)), Some((40, 60))]);
    }
}
