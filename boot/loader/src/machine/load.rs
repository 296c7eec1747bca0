//! The way from the start information to the kernel, step by step.

use core::mem::size_of;
use core::ptr;
use core::slice;

use bootloader_api::BootInfo;
use bootloader_api::config::Mapping;
use bootloader_api::info::{MemoryRegion, Optional, TlsTemplate};
use loader::PAGE;
use loader::address_space::{AddressSpace, ENTRY_SPAN};
use loader::error::LoadError;
use loader::image::{Access, Image, Segment};
use loader::memory_map::{MAX_REGIONS, MemoryMap};
use loader::start_info::{MEMORY_ENTRY_LEN, MemoryEntry, Module, StartInfo};

use super::handover::{self, Handover};
use super::mapping::{self, Mapper, Wish};
use super::physical;

/// The longest command line that is passed on, in bytes.
const MAX_COMMAND_LINE: u64 = 64 * 1024;

/// At least this much physical memory is shown to a kernel that asks for it, so that the devices below
/// 4 GiB are reached on any machine.
const MIN_WINDOW: u64 = 4 << 30;

/// The `BootInfo` has a page, and the memory regions the pages after it.
const BOOT_INFO_LEN: u64 =
    PAGE + ((MAX_REGIONS * size_of::<MemoryRegion>()) as u64).next_multiple_of(PAGE);

const _: () = assert!(size_of::<BootInfo>() as u64 <= PAGE);

/// Prepares the kernel to run.
pub fn load(start_info: u64) -> Result<Handover, LoadError> {
    // SAFETY: the boot protocol puts it there, and nobody changes it.
    let start_info = unsafe { physical::array(start_info) }?;
    let start_info = StartInfo::parse(start_info).map_err(LoadError::NoStartInfo)?;
    let module = kernel_module(&start_info)?;
    // SAFETY: the module is QEMU's copy of the kernel's file, reserved below.
    let image = Image::parse(unsafe { physical::bytes(module.address, module.size) }?)?;
    let command_line = command_line(&start_info)?;

    let mut memory = memory_map(&start_info)?;
    let window_end = memory.memory_end().max(MIN_WINDOW);
    reserve_loader(&mut memory)?;
    memory.reserve(module.address, module.address.saturating_add(module.size))?;

    let mappings = &image.config.mappings;
    if let place @ Mapping::FixedAddress(_) = mappings.kernel_base {
        return Err(Wish {
            what: "the kernel",
            place,
        }
        .refuse("it is linked at another address"));
    }
    let physical_memory = mappings.physical_memory.map(|place| Wish {
        what: "physical memory",
        place,
    });
    let recursive = mappings.page_table_recursive.map(|place| Wish {
        what: "the page tables",
        place,
    });
    let stack = Wish {
        what: "the stack",
        place: mappings.kernel_stack,
    };
    let ramdisk = Wish {
        what: "the ramdisk",
        place: mappings.ramdisk_memory,
    };
    let boot_info = Wish {
        what: "the boot information",
        place: mappings.boot_info,
    };
    let stack_len = image
        .config
        .kernel_stack_size
        .max(1)
        .checked_next_multiple_of(PAGE);
    let stack_len = stack_len.ok_or(LoadError::OutOfMemory)?;

    let dynamic_start = mappings.dynamic_range_start.unwrap_or(0);
    let dynamic_end = mappings.dynamic_range_end.unwrap_or(u64::MAX);
    let mut mapper = Mapper::new(&mut memory, AddressSpace::new(dynamic_start..=dynamic_end))?;

    // Mappings at given addresses come before those that may be put anywhere.
    mapper.map_handover(handover::page())?;
    for segment in image.segments() {
        let place = Mapping::FixedAddress(segment.first_page());
        let wish = Wish {
            what: "the kernel",
            place,
        };
        mapper.reserve(wish, segment.last_page() - segment.first_page() + PAGE)?;
        mapper.map_segment(&segment, wish)?;
    }
    if let Some(wish) = physical_memory {
        mapper.reserve(wish, mapping::window_len(window_end))?;
    }
    if let Some(wish) = recursive {
        mapper.reserve(wish, ENTRY_SPAN)?;
    }
    mapper.reserve(stack, PAGE + stack_len)?;
    mapper.reserve(ramdisk, command_line.len().max(1) as u64)?;
    mapper.reserve(boot_info, BOOT_INFO_LEN)?;

    let window = physical_memory
        .map(|wish| mapper.map_physical_memory(window_end, wish))
        .transpose()?;
    let recursive_index = recursive
        .map(|wish| mapper.map_recursively(wish))
        .transpose()?;
    // The page below is the stack's guard, and stays unmapped.
    let stack_start = PAGE + mapper.place(stack, PAGE + stack_len)?;
    mapper.map_segment(&writable(stack_start, stack_len), stack)?;
    let ramdisk_start = match command_line {
        [] => None,
        contents => {
            let len = contents.len() as u64;
            let start = mapper.place(ramdisk, len)?;
            let segment = Segment {
                start,
                len,
                contents,
                access: Access::ReadOnly,
            };
            mapper.map_segment(&segment, ramdisk)?;
            Some(start)
        }
    };
    let info_start = mapper.place(boot_info, BOOT_INFO_LEN)?;
    mapper.map_segment(&writable(info_start, BOOT_INFO_LEN), boot_info)?;
    mapper.share_with_loader(info_start, boot_info)?;
    let level_4 = mapper.level_4();

    // No frame is taken from here on: the regions must list all that were.
    // SAFETY: just mapped for that, in both address spaces, and used by nobody.
    let regions = unsafe { place_regions(info_start, &memory.into_regions()?) };
    let mut info = BootInfo::new(regions.into());
    info.physical_memory_offset = window.into();
    info.recursive_index = recursive_index.into();
    info.rsdp_addr = Some(start_info.rsdp).filter(|address| *address != 0).into();
    info.tls_template = tls_template(&image);
    info.ramdisk_addr = ramdisk_start.into();
    info.ramdisk_len = command_line.len() as u64;
    info.kernel_addr = module.address;
    info.kernel_len = module.size;
    info.kernel_stack_bottom = stack_start;
    info.kernel_stack_len = stack_len;
    let place: *mut BootInfo = ptr::with_exposed_provenance_mut(info_start as usize);
    // SAFETY: just mapped for that, in both address spaces.
    unsafe { place.write(info) };

    Ok(Handover {
        level_4,
        stack_top: stack_start + stack_len,
        entry: image.entry,
        boot_info: info_start,
    })
}

fn kernel_module(start_info: &StartInfo) -> Result<Module, LoadError> {
    if start_info.modules == 0 {
        return Err(LoadError::NoModule);
    }
    // SAFETY: the boot protocol puts it there, and nobody changes it.
    let module = unsafe { physical::array(start_info.module_list) }?;
    Ok(Module::parse(module))
}

fn command_line(start_info: &StartInfo) -> Result<&'static [u8], LoadError> {
    if start_info.command_line == 0 {
        return Ok(&[]);
    }
    // SAFETY: the boot protocol puts it there; what follows its end is memory, which nobody changes.
    let bytes = unsafe { physical::bytes(start_info.command_line, MAX_COMMAND_LINE) }?;
    Ok(bytes.split(|byte| *byte == 0).next().unwrap_or_default())
}

fn memory_map(start_info: &StartInfo) -> Result<MemoryMap, LoadError> {
    let len = u64::from(start_info.memory_entries) * MEMORY_ENTRY_LEN as u64;
    // SAFETY: the boot protocol puts it there, and nobody changes it.
    let entries = unsafe { physical::bytes(start_info.memory_map, len) }?;
    MemoryMap::new(entries.as_chunks().0.iter().map(MemoryEntry::parse))
}

/// Takes page 0, whose address is the null pointer, and the loader itself out of the usable memory.
fn reserve_loader(memory: &mut MemoryMap) -> Result<(), LoadError> {
    unsafe extern "C" {
        static __loader_start: u8;
        static __loader_end: u8;
    }
    memory.reserve(0, PAGE)?;
    memory.reserve(
        (&raw const __loader_start).addr() as u64,
        (&raw const __loader_end).addr() as u64,
    )
}

/// Cleared memory for the kernel to write to.
fn writable(start: u64, len: u64) -> Segment<'static> {
    Segment {
        start,
        len,
        contents: &[],
        access: Access::Write,
    }
}

/// Writes the regions to where the kernel gets them: in the pages after its `BootInfo`'s.
///
/// # Safety
///
/// [`BOOT_INFO_LEN`] bytes at `info_start` are mapped and the caller's alone, permanently.
unsafe fn place_regions(info_start: u64, regions: &[MemoryRegion]) -> &'static mut [MemoryRegion] {
    let start: *mut MemoryRegion = ptr::with_exposed_provenance_mut((info_start + PAGE) as usize);
    // SAFETY: room for `MAX_REGIONS` of them, at the start of a page.
    unsafe { start.copy_from_nonoverlapping(regions.as_ptr(), regions.len()) };
    // SAFETY: just written, and handed out once.
    unsafe { slice::from_raw_parts_mut(start, regions.len()) }
}

fn tls_template(image: &Image<'_>) -> Optional<TlsTemplate> {
    let template = image.tls.map(|tls| TlsTemplate {
        start_addr: tls.start,
        file_size: tls.file_len,
        mem_size: tls.len,
    });
    template.into()
}
