//! Which virtual addresses are still free.
//!
//! Told apart by the 512 entries of the top page table, 512 GiB each: what the kernel leaves to the
//! loader (`Mapping::Dynamic`) gets entries of its own, from the top down, so that the guard page below a
//! stack has nothing next to it, and kernels find the low part of the upper half empty.

use core::ops::RangeInclusive;

/// Bytes that one entry of the top page table spans.
pub const ENTRY_SPAN: u64 = 1 << 39;

const ENTRIES: usize = 512;

/// The free and the used entries of the top page table.
#[derive(Debug)]
pub struct AddressSpace {
    used: [bool; ENTRIES],
    /// Addresses among which the loader may choose.
    dynamic: RangeInclusive<u64>,
}

impl AddressSpace {
    /// An empty address space, of which the loader may use the given addresses as it likes.
    pub fn new(dynamic: RangeInclusive<u64>) -> Self {
        Self {
            used: [false; ENTRIES],
            dynamic,
        }
    }

    /// Notes that `len` bytes from `start` on are used. `None` if they aren't canonical addresses.
    pub fn mark(&mut self, start: u64, len: u64) -> Option<()> {
        let last = start.checked_add(len.checked_sub(1)?)?;
        let same_half = start >> 63 == last >> 63;
        if !(same_half && is_canonical(start) && is_canonical(last)) {
            return None;
        }
        self.used[entry_of(start)..=entry_of(last)].fill(true);
        Some(())
    }

    /// Finds room for `len` bytes, and marks it used. `None` if there is none.
    pub fn pick(&mut self, len: u64) -> Option<u64> {
        let count = usize::try_from(len.div_ceil(ENTRY_SPAN)).ok()?.max(1);
        let first = (0..=ENTRIES.checked_sub(count)?).rev().find(|&first| {
            let start = entry_start(first);
            let last = entry_start(first + count - 1) + (ENTRY_SPAN - 1);
            start >> 63 == last >> 63
                && self.dynamic.contains(&start)
                && self.dynamic.contains(&last)
                && !self.used[first..first + count].contains(&true)
        })?;
        self.used[first..first + count].fill(true);
        Some(entry_start(first))
    }
}

fn is_canonical(address: u64) -> bool {
    let top = address >> 47;
    top == 0 || top == (1 << 17) - 1
}

fn entry_of(address: u64) -> usize {
    (address / ENTRY_SPAN) as usize % ENTRIES
}

fn entry_start(entry: usize) -> u64 {
    let start = entry as u64 * ENTRY_SPAN;
    if entry >= ENTRIES / 2 {
        start | (u64::MAX << 48)
    } else {
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: RangeInclusive<u64> = 0..=u64::MAX;

    #[test]
    fn picks_from_the_top_down_what_is_not_used() {
        let mut space = AddressSpace::new(ALL);
        space.mark(0xffff_ffff_8000_0000, 0x10_0000).unwrap();
        space.mark(0xffff_fe80_0000_0000, 1).unwrap();
        assert_eq!(space.pick(0x1000), Some(0xffff_ff00_0000_0000));
        assert_eq!(space.pick(0x1000), Some(0xffff_fe00_0000_0000));
    }

    #[test]
    fn large_mappings_get_entries_in_a_row() {
        let mut space = AddressSpace::new(ALL);
        space.mark(0xffff_ff00_0000_0000, 1).unwrap();
        assert_eq!(space.pick(ENTRY_SPAN + 1), Some(0xffff_fe00_0000_0000));
    }

    #[test]
    fn the_range_is_kept_to() {
        let mut space = AddressSpace::new(ENTRY_SPAN..=3 * ENTRY_SPAN - 1);
        assert_eq!(space.pick(1), Some(2 * ENTRY_SPAN));
        assert_eq!(space.pick(1), Some(ENTRY_SPAN));
        assert_eq!(space.pick(1), None);
    }

    #[test]
    fn nothing_spans_the_hole_in_the_middle() {
        let mut space = AddressSpace::new(0x7f00_0000_0000..=0xffff_80ff_ffff_ffff);
        assert_eq!(space.pick(3 * ENTRY_SPAN), None);
        assert_eq!(space.mark(0x7fff_ffff_f000, 0x2000), None);
        assert_eq!(space.mark(0x8000_0000_0000, 0x1000), None);
        assert_eq!(space.mark(0xffff_ffff_ffff_f000, 0x1001), None);
    }
}
