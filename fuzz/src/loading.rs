//! The tables that firmware leaves for the loader: whatever they say, memory is handed out once, and only what is usable.

use bootloader_api::info::MemoryRegionKind;
use loader::PAGE;
use loader::memory_map::MemoryMap;
use loader::start_info::{
    MEMORY_ENTRY_LEN, MODULE_LEN, MemoryEntry, Module, START_INFO_LEN, StartInfo,
};

/// Frames that are asked for.
const FRAMES: usize = 40;

/// The input is the start information, a module, and the entries of the memory map.
pub fn run(input: &[u8]) {
    let Some((info, rest)) = input.split_first_chunk::<START_INFO_LEN>() else {
        return;
    };
    // It is right or it is not; its addresses are followed by code that runs on the machine alone.
    let _ = StartInfo::parse(info);
    let Some((module, rest)) = rest.split_first_chunk::<MODULE_LEN>() else {
        return;
    };
    let module = Module::parse(module);
    let (entries, _) = rest.as_chunks::<MEMORY_ENTRY_LEN>();
    let entries: Vec<_> = entries.iter().map(MemoryEntry::parse).collect();
    let Ok(mut map) = MemoryMap::new(entries.iter().copied()) else {
        return;
    };
    let module_end = module.address.saturating_add(module.size);
    if map.reserve(module.address, module_end).is_err() {
        return;
    }
    let is_usable = |page: u64| {
        let end = page + (PAGE - 1);
        let is_within = |entry: &MemoryEntry| {
            entry.address <= page && entry.address.saturating_add(entry.size) > end
        };
        let is_touched =
            |start: u64, len: u64| len > 0 && start <= end && start.saturating_add(len) > page;
        let is_ram = |entry: &&MemoryEntry| entry.kind == MemoryEntry::RAM;
        let of_other_kind = entries.iter().filter(|entry| !is_ram(entry));
        // Entries of RAM that touch make one.
        let all_ram = entries.iter().filter(is_ram).any(is_within)
            || entries.iter().filter(is_ram).count() > 1;
        all_ram
            && !of_other_kind
                .clone()
                .any(|entry| is_touched(entry.address, entry.size))
            && !is_touched(module.address, module.size)
    };
    let frames: Vec<_> = (0..FRAMES)
        .map_while(|_| map.allocate_frame().ok())
        .collect();
    for frame in &frames {
        assert!(
            frame.is_multiple_of(PAGE) && is_usable(*frame),
            "{frame:#x} of {entries:x?}"
        );
    }
    assert!(frames.is_sorted_by(|one, next| one < next), "{frames:x?}");
    let Ok(regions) = map.into_regions() else {
        return;
    };
    assert!(
        regions.is_sorted_by(|one, next| one.start <= next.start),
        "{regions:x?}"
    );
    for region in &regions {
        assert!(region.start < region.end, "{regions:x?}");
        if region.kind != MemoryRegionKind::Usable {
            continue;
        }
        assert!(
            is_usable(region.start) && is_usable(region.end - PAGE),
            "{region:x?} of {entries:x?}"
        );
        let is_taken = frames
            .iter()
            .any(|frame| (region.start..region.end).contains(frame));
        assert!(!is_taken, "{region:x?}, {frames:x?}");
        let others = regions.iter().filter(|other| *other != region);
        for other in others {
            assert!(
                other.end <= region.start || region.end <= other.start,
                "{other:x?}, {region:x?}"
            );
        }
    }
}
