//! Which physical memory is whose.
//!
//! The firmware's map, cut into whole pages and corrected for what the loader occupies; and the frames
//! that the loader takes for the kernel, in ascending order from the usable rest, so that all it took
//! lies below one address.
//!
//! # Invariants
//!
//! - Usable regions are page-aligned, sorted, not empty, and overlap nothing that is not usable.
//! - Frames come from usable regions between 1 MiB (firmware and CPU start-up use what is below
//!   it) and 4 GiB (above it, the loader has nothing mapped).

use core::cmp::{max, min};

use arrayvec::ArrayVec;
use bootloader_api::info::{MemoryRegion, MemoryRegionKind};

use crate::PAGE;
use crate::error::LoadError;
use crate::start_info::MemoryEntry;

/// The most regions that a map may have.
pub const MAX_REGIONS: usize = 128;

/// The first address that no x86_64 CPU can have memory at (Intel SDM volume 1, 3.3.1: at most 52 bits).
const ADDRESSES_END: u64 = 1 << 52;

const FRAMES_START: u64 = 1 << 20;
const FRAMES_END: u64 = 4 << 30;

/// A map of the physical memory.
#[derive(Debug)]
pub struct MemoryMap {
    regions: ArrayVec<MemoryRegion, MAX_REGIONS>,
    /// Usable memory from [`FRAMES_START`] up to here has been taken.
    next_frame: u64,
}

impl MemoryMap {
    /// The map that the firmware's entries make. Where they overlap, what is not usable wins. What lies at addresses that no memory
    /// can have is left out.
    pub fn new(entries: impl Iterator<Item = MemoryEntry> + Clone) -> Result<Self, LoadError> {
        let entries = entries.filter(|entry| entry.address < ADDRESSES_END);
        let mut map = Self {
            regions: ArrayVec::new(),
            next_frame: FRAMES_START,
        };
        for entry in entries
            .clone()
            .filter(|entry| entry.kind == MemoryEntry::RAM)
        {
            let start = entry.address.next_multiple_of(PAGE);
            let end = end_of(&entry) / PAGE * PAGE;
            map.push(start, end, MemoryRegionKind::Usable)?;
        }
        map.merge_usable();
        for entry in entries.filter(|entry| entry.kind != MemoryEntry::RAM) {
            let end = end_of(&entry);
            map.cut(entry.address, end, None)?;
            map.push(
                entry.address,
                end,
                MemoryRegionKind::UnknownBios(entry.kind),
            )?;
        }
        map.sort();
        Ok(map)
    }

    /// Takes the bytes of `start..end`, and the pages they share, out of the usable memory.
    pub fn reserve(&mut self, start: u64, end: u64) -> Result<(), LoadError> {
        self.cut(start, end, Some(MemoryRegionKind::Bootloader))?;
        self.sort();
        Ok(())
    }

    /// The end of the memory, usable or not, that is no hole reserved for devices.
    pub fn memory_end(&self) -> u64 {
        const RESERVED: MemoryRegionKind = MemoryRegionKind::UnknownBios(2);
        let memory = self.regions.iter().filter(|region| region.kind != RESERVED);
        memory.map(|region| region.end).max().unwrap_or(0)
    }

    /// Takes a frame: the physical address of an unused page.
    pub fn allocate_frame(&mut self) -> Result<u64, LoadError> {
        let frame = self
            .regions
            .iter()
            .filter(|region| region.kind == MemoryRegionKind::Usable)
            .filter(|region| region.end > self.next_frame)
            .map(|region| max(region.start, self.next_frame))
            .next()
            .filter(|frame| *frame < FRAMES_END)
            .ok_or(LoadError::OutOfMemory)?;
        self.next_frame = frame + PAGE;
        Ok(frame)
    }

    /// The map as the kernel gets it: what has been taken belongs to the loader.
    pub fn into_regions(mut self) -> Result<ArrayVec<MemoryRegion, MAX_REGIONS>, LoadError> {
        self.reserve(FRAMES_START, self.next_frame)?;
        Ok(self.regions)
    }

    fn push(&mut self, start: u64, end: u64, kind: MemoryRegionKind) -> Result<(), LoadError> {
        if start >= end {
            return Ok(());
        }
        let region = MemoryRegion { start, end, kind };
        self.regions
            .try_push(region)
            .map_err(|_| LoadError::TooManyRegions)
    }

    fn sort(&mut self) {
        self.regions
            .sort_unstable_by_key(|region| (region.start, region.end));
    }

    /// Makes one region of usable regions that touch or overlap. All regions are still usable.
    fn merge_usable(&mut self) {
        self.sort();
        let mut merged = ArrayVec::<MemoryRegion, MAX_REGIONS>::new();
        for region in &self.regions {
            match merged.last_mut() {
                Some(last) if last.end >= region.start => last.end = max(last.end, region.end),
                _ => merged.push(*region),
            }
        }
        self.regions = merged;
    }

    /// Takes the pages of `start..end` out of the usable regions; what was usable there becomes `kind`,
    /// or is dropped.
    fn cut(
        &mut self,
        start: u64,
        end: u64,
        kind: Option<MemoryRegionKind>,
    ) -> Result<(), LoadError> {
        let start = start / PAGE * PAGE;
        let end = end.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
        for region in core::mem::take(&mut self.regions) {
            let inner = (max(start, region.start), min(end, region.end));
            if region.kind != MemoryRegionKind::Usable || inner.0 >= inner.1 {
                self.push(region.start, region.end, region.kind)?;
                continue;
            }
            self.push(region.start, inner.0, region.kind)?;
            if let Some(kind) = kind {
                self.push(inner.0, inner.1, kind)?;
            }
            self.push(inner.1, region.end, region.kind)?;
        }
        Ok(())
    }
}

/// Where an entry ends, or where memory must.
fn end_of(entry: &MemoryEntry) -> u64 {
    min(entry.address.saturating_add(entry.size), ADDRESSES_END)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;
    use MemoryRegionKind::{Bootloader, UnknownBios, Usable};

    const MIB: u64 = 1 << 20;

    fn map(entries: &[(u64, u64, u32)]) -> MemoryMap {
        let entries = entries.iter().map(|&(address, end, kind)| MemoryEntry {
            address,
            size: end - address,
            kind,
        });
        MemoryMap::new(entries).expect("few entries")
    }

    fn regions(map: MemoryMap) -> Vec<(u64, u64, MemoryRegionKind)> {
        let regions = map.into_regions().expect("few regions");
        regions
            .iter()
            .map(|region| (region.start, region.end, region.kind))
            .collect()
    }

    #[test]
    fn usable_memory_is_whole_pages() {
        let map = map(&[(0x123, 0x5fff, 1), (0x7001, 0x7fff, 1)]);
        assert_eq!(regions(map), [(0x1000, 0x5000, Usable)]);
    }

    #[test]
    fn what_is_not_usable_wins() {
        let map = map(&[(0x2800, 0x3100, 2), (0, 0x8000, 1)]);
        assert_eq!(
            regions(map),
            [
                (0, 0x2000, Usable),
                (0x2800, 0x3100, UnknownBios(2)),
                (0x4000, 0x8000, Usable)
            ]
        );
    }

    #[test]
    fn overlapping_memory_is_counted_once() {
        let map = map(&[(0x4000, 0x9000, 1), (0, 0x5000, 1), (0x9000, 0xa000, 1)]);
        assert_eq!(regions(map), [(0, 0xa000, Usable)]);
    }

    /// Firmware that marks the end of the address space, and more memory than there can be.
    #[test]
    fn impossible_addresses_are_left_out() {
        const TOP: u64 = u64::MAX;
        let map = map(&[(TOP - 0x10, TOP, 1), (1 << 63, TOP, 3), (0x1000, TOP, 1)]);
        assert_eq!(map.memory_end(), 1 << 52);
        assert_eq!(regions(map), [(0x1000, 1 << 52, Usable)]);
    }

    #[test]
    fn frames_come_in_order_and_belong_to_the_loader_then() {
        let mut map = map(&[
            (0, 0x9000, 1),
            (MIB, MIB + 0x3000, 1),
            (2 * MIB, 3 * MIB, 1),
        ]);
        map.reserve(0, 0x1000).unwrap();
        map.reserve(MIB, MIB + 0x1001).unwrap();
        let frames: Vec<_> = (0..3).map(|_| map.allocate_frame().unwrap()).collect();
        assert_eq!(frames, [MIB + 0x2000, 2 * MIB, 2 * MIB + 0x1000]);
        assert_eq!(
            regions(map),
            [
                (0, 0x1000, Bootloader),
                (0x1000, 0x9000, Usable),
                (MIB, MIB + 0x2000, Bootloader),
                (MIB + 0x2000, MIB + 0x3000, Bootloader),
                (2 * MIB, 2 * MIB + 0x2000, Bootloader),
                (2 * MIB + 0x2000, 3 * MIB, Usable),
            ]
        );
    }

    #[test]
    fn memory_out_of_the_loaders_reach_is_not_taken() {
        let mut map = map(&[(4096 * MIB, 6144 * MIB, 1), (0, MIB / 2, 1)]);
        assert!(matches!(map.allocate_frame(), Err(LoadError::OutOfMemory)));
        assert_eq!(map.memory_end(), 6144 * MIB);
    }

    #[test]
    fn running_out_is_an_error() {
        let mut map = map(&[(MIB, MIB + 0x2000, 1)]);
        map.allocate_frame().unwrap();
        map.allocate_frame().unwrap();
        assert!(matches!(map.allocate_frame(), Err(LoadError::OutOfMemory)));
    }

    #[test]
    fn too_many_regions_are_an_error() {
        let entries = (0..300).map(|n| MemoryEntry {
            address: n * 0x2000,
            size: 0x1000,
            kind: 1,
        });
        assert!(matches!(
            MemoryMap::new(entries),
            Err(LoadError::TooManyRegions)
        ));
    }
}
