//! The kernel's page tables.
//!
//! One [`Mapper`] builds them in frames of the memory map, and knows which addresses are taken. Nothing
//! is ever mapped twice: what collides is an error that names both what and where.

use core::arch::x86_64::__cpuid;

use bootloader_api::config::Mapping;
use loader::PAGE;
use loader::address_space::{AddressSpace, ENTRY_SPAN};
use loader::error::LoadError;
use loader::image::{Access, Segment};
use loader::memory_map::MemoryMap;
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::mapper::MapToError;
use x86_64::structures::paging::{
    FrameAllocator, Mapper as _, OffsetPageTable, Page, PageSize, PageTable, PageTableFlags,
    PhysFrame, Size1GiB, Size2MiB, Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

use super::physical;

const READ: PageTableFlags = PageTableFlags::PRESENT.union(PageTableFlags::NO_EXECUTE);
const WRITE: PageTableFlags = READ.union(PageTableFlags::WRITABLE);
const EXECUTE: PageTableFlags = PageTableFlags::PRESENT;

/// Frames for page tables.
struct Frames<'m>(&'m mut MemoryMap);

// SAFETY: the memory map gives each frame once.
unsafe impl FrameAllocator<Size4KiB> for Frames<'_> {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let frame = self.0.allocate_frame().ok()?;
        Some(PhysFrame::containing_address(PhysAddr::new(frame)))
    }
}

/// A mapping to be made: its name in errors, and what the kernel says of its place.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// What is to be mapped.
    pub what: &'static str,
    /// Where.
    pub place: Mapping,
}

impl Wish {
    /// The error that this mapping can't be made.
    pub fn refuse(&self, reason: &'static str) -> LoadError {
        let address = match self.place {
            Mapping::FixedAddress(address) => Some(address),
            Mapping::Dynamic => None,
        };
        LoadError::Mapping {
            what: self.what,
            address,
            reason,
        }
    }
}

/// The kernel's address space, being built.
pub struct Mapper<'m> {
    memory: &'m mut MemoryMap,
    tables: OffsetPageTable<'static>,
    /// Physical address of the top page table.
    level_4: u64,
    space: AddressSpace,
}

impl<'m> Mapper<'m> {
    /// An empty address space in frames of `memory`, where `space` says what may be chosen freely.
    pub fn new(memory: &'m mut MemoryMap, space: AddressSpace) -> Result<Self, LoadError> {
        let level_4 = memory.allocate_frame()?;
        // SAFETY: the frame has just become ours.
        let table = unsafe { physical::clear_frame(level_4) }
            .as_mut_ptr()
            .cast::<PageTable>();
        // SAFETY: a cleared frame is an empty page table, and ours.
        let table = unsafe { &mut *table };
        // SAFETY: the loader shows physical memory at offset 0, its frames included.
        let tables = unsafe { OffsetPageTable::new(table, VirtAddr::zero()) };
        Ok(Self {
            memory,
            tables,
            level_4,
            space,
        })
    }

    /// Physical address of the top page table.
    pub fn level_4(&self) -> u64 {
        self.level_4
    }

    /// Reserves the addresses that the kernel names for this mapping, if it names any.
    pub fn reserve(&mut self, wish: Wish, len: u64) -> Result<(), LoadError> {
        match wish.place {
            Mapping::FixedAddress(address) => self
                .space
                .mark(address, len)
                .ok_or(wish.refuse("no such addresses")),
            Mapping::Dynamic => Ok(()),
        }
    }

    /// The address at which `len` bytes are to be mapped: the one that the kernel names, or one of ours.
    pub fn place(&mut self, wish: Wish, len: u64) -> Result<u64, LoadError> {
        match wish.place {
            Mapping::FixedAddress(address) if address.is_multiple_of(PAGE) => Ok(address),
            Mapping::FixedAddress(_) => Err(wish.refuse("not the start of a page")),
            Mapping::Dynamic => self.space.pick(len).ok_or(wish.refuse("no addresses left")),
        }
    }

    /// Maps memory in frames of its own, with the segment's contents, and cleared where it has none.
    pub fn map_segment(&mut self, segment: &Segment<'_>, wish: Wish) -> Result<(), LoadError> {
        let flags = match segment.access {
            Access::ReadOnly => READ,
            Access::Write => WRITE,
            Access::Execute => EXECUTE,
        };
        // A segment need not begin at the start of a page.
        let mut offset = (segment.start - segment.first_page()) as usize;
        let mut contents = segment.contents;
        for page in (segment.first_page()..=segment.last_page()).step_by(PAGE as usize) {
            let frame = self.memory.allocate_frame()?;
            // SAFETY: the frame has just become ours.
            let bytes = unsafe { physical::clear_frame(frame) };
            let (now, later) = contents.split_at(contents.len().min(bytes.len() - offset));
            bytes[offset..offset + now.len()].copy_from_slice(now);
            contents = later;
            offset = 0;
            self.map::<Size4KiB>(page, frame, flags, wish)?;
        }
        Ok(())
    }

    /// Shows a page of the loader's at its physical address, executable.
    pub fn map_handover(&mut self, page: u64) -> Result<(), LoadError> {
        let wish = Wish {
            what: "the hand-over",
            place: Mapping::FixedAddress(page),
        };
        self.reserve(wish, PAGE)?;
        self.map::<Size4KiB>(page, page, EXECUTE, wish)
    }

    /// Shows all physical memory up to `end` in one piece, in the largest pages that CPU and place allow.
    /// Returns its virtual address.
    pub fn map_physical_memory(&mut self, end: u64, wish: Wish) -> Result<u64, LoadError> {
        let start = self.place(wish, window_len(end))?;
        if start.is_multiple_of(Size1GiB::SIZE) && has_1_gib_pages() {
            self.map_window::<Size1GiB>(start, end, wish)?;
        } else if start.is_multiple_of(Size2MiB::SIZE) {
            self.map_window::<Size2MiB>(start, end, wish)?;
        } else {
            return Err(wish.refuse("not a multiple of 2 MiB"));
        }
        Ok(start)
    }

    /// Makes an entry of the top page table refer to that table. Returns the entry's number.
    pub fn map_recursively(&mut self, wish: Wish) -> Result<u16, LoadError> {
        let start = self.place(wish, ENTRY_SPAN)?;
        if !start.is_multiple_of(ENTRY_SPAN) {
            return Err(wish.refuse("not a multiple of 512 GiB"));
        }
        let index = VirtAddr::new(start).p4_index();
        let entry = &mut self.tables.level_4_table_mut()[index];
        if !entry.is_unused() {
            return Err(wish.refuse("already in use"));
        }
        entry.set_addr(PhysAddr::new(self.level_4), WRITE);
        Ok(index.into())
    }

    /// Shows the loader what the kernel has mapped in the 512 GiB around `address`.
    pub fn share_with_loader(&self, address: u64, wish: Wish) -> Result<(), LoadError> {
        let index = VirtAddr::new(address).p4_index();
        let own = Cr3::read().0.start_address().as_u64();
        let own: *mut PageTable = core::ptr::with_exposed_provenance_mut(own as usize);
        // SAFETY: the loader's top table is mapped at its physical address, and nobody else uses it.
        let own = unsafe { &mut *own };
        if !own[index].is_unused() {
            return Err(wish.refuse("in the loader's way"));
        }
        own[index] = self.tables.level_4_table()[index].clone();
        Ok(())
    }

    fn map_window<S: PageSize>(&mut self, start: u64, end: u64, wish: Wish) -> Result<(), LoadError>
    where
        OffsetPageTable<'static>: x86_64::structures::paging::Mapper<S>,
    {
        for physical in (0..end).step_by(S::SIZE as usize) {
            self.map::<S>(start + physical, physical, WRITE, wish)?;
        }
        Ok(())
    }

    fn map<S: PageSize>(
        &mut self,
        start: u64,
        physical: u64,
        flags: PageTableFlags,
        wish: Wish,
    ) -> Result<(), LoadError>
    where
        OffsetPageTable<'static>: x86_64::structures::paging::Mapper<S>,
    {
        let page = Page::<S>::containing_address(VirtAddr::new(start));
        let frame = PhysFrame::<S>::containing_address(PhysAddr::new(physical));
        let frames = &mut Frames(self.memory);
        // SAFETY: these page tables are not in use yet, and the loader maps no frame of its own in them
        // but the hand-over's.
        match unsafe { self.tables.map_to(page, frame, flags, frames) } {
            Ok(unused) => {
                unused.ignore();
                Ok(())
            }
            Err(MapToError::FrameAllocationFailed) => Err(LoadError::OutOfMemory),
            Err(MapToError::ParentEntryHugePage | MapToError::PageAlreadyMapped(_)) => {
                Err(wish.refuse("already in use"))
            }
        }
    }
}

/// Bytes of addresses that a window on physical memory up to `end` takes.
pub fn window_len(end: u64) -> u64 {
    end.next_multiple_of(Size1GiB::SIZE)
}

/// Whether the CPU has pages of 1 GiB.
fn has_1_gib_pages() -> bool {
    const EXTENDED_FEATURES: u32 = 0x8000_0001;
    const PAGES_1_GIB: u32 = 1 << 26;
    __cpuid(EXTENDED_FEATURES).edx & PAGES_1_GIB != 0
}
