//! What CPUs are to refuse.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hint::black_box;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering};

use kernel::arch::percpu::running;
use kernel::arch::{gdt, memory, protection};
use kernel::mm::audit::{self, Broken, Flaw};
use kernel::mm::buddy::{self, Tracking};
use kernel::mm::mapping;
use kernel::mm::paging::{self, Open};
use kernel::mm::{frozen, vmalloc};
use kernel::stop;
use kernel::task::{self, Priority, scheduler};
use x86_64::VirtAddr;
use x86_64::instructions::tlb;
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::page_table::PageTableLevel;
use x86_64::structures::paging::{PageTable, PageTableFlags};

use crate::guest_test;

guest_test! {
    /// Every CPU refuses all that it can.
    fn protections_are_on() smp [1, 4] {
        static OFF: AtomicU32 = AtomicU32::new(0);
        static ASKED: AtomicU32 = AtomicU32::new(0);
        let asked = stop::stop_world(&|_| {
            OFF.fetch_add(protection::missing().count() as u32, Ordering::Relaxed);
            ASKED.fetch_add(1, Ordering::Relaxed);
        });
        assert!(asked.is_ok());
        assert_eq!(ASKED.load(Ordering::Relaxed), running());
        assert_eq!(OFF.load(Ordering::Relaxed), 0, "protections that the CPU has are off");
    }
}

guest_test! {
    /// Below each stack lies a page that is not mapped: of exceptions, on all CPUs; of tasks; that on which the kernel has started.
    fn a_guard_page_is_below_each_stack() smp [1, 4] {
        let mut stacks: Vec<_> = (0..running()).flat_map(gdt::exception_stacks).collect();
        let mut next = 0;
        while let Some(task) = scheduler::find_task(next, |task| (task.id(), task.stack())) {
            stacks.push(task.1);
            next = task.0 + 1;
        }
        // The exceptions' of each CPU, its idle task's, and some tasks'.
        assert!(stacks.len() > 5 * running() as usize);
        for stack in stacks {
            assert!(paging::is_mapped(stack.start) && paging::is_mapped(stack.end - 1), "{stack:#x?}");
            assert!(!paging::is_mapped(stack.start - 1), "no guard page below the stack {stack:#x?}");
        }
    }
}

/// Looks at the page tables as the kernel does at its start.
fn check() -> Result<(), Broken> {
    audit::check(boot_stack().start)
}

fn boot_stack() -> Range<usize> {
    scheduler::find_task(0, |task| task.stack()).expect("the boot CPU's idle task")
}

guest_test! {
    /// After a while of work, with pages mapped and unmapped, memory frozen and thawed, the page tables still have no flaw.
    fn page_tables_stay_without_flaws() smp [1, 4] {
        for round in 1..40 {
            let block = vmalloc::vmalloc(round * 100_000, vmalloc::Kind::Data).expect("memory");
            let task = task::spawn("short", Priority::Normal, || {});
            task.expect("memory for a task").join();
            vmalloc::vfree(block.as_ptr());
        }
        let prepared = frozen::prepare().expect("memory");
        assert_eq!(check(), Ok(()));
        frozen::cancel(prepared);
        vmalloc::purge();
        assert_eq!(check(), Ok(()));
    }
}

guest_test! {
    /// Each flaw of the page tables is found, and told with the page.
    fn flaws_of_page_tables_are_found() smp [1] {
        let page = vmalloc::vmalloc(4096, vmalloc::Kind::Data).expect("memory").addr().get();
        let found = |flaw, page| assert_eq!(check(), Err(Broken { flaw, page }));
        let with = |page, set: PageTableFlags, clear: PageTableFlags, flaw| {
            let mut before = None;
            change_entries(page, &mut |level, _, flags| match level {
                PageTableLevel::One => {
                    before = Some(flags);
                    (flags - clear) | set
                }
                // The user's bit counts where all levels have it; the one that forbids code, where any has it.
                _ => flags | (set & PageTableFlags::USER_ACCESSIBLE),
            });
            found(flaw, page);
            change_entries(page, &mut |level, _, flags| match (level, before) {
                (PageTableLevel::One, Some(before)) => before,
                _ => flags - PageTableFlags::USER_ACCESSIBLE,
            });
            assert_eq!(check(), Ok(()));
        };
        let (none, writable) = (PageTableFlags::empty(), PageTableFlags::WRITABLE);
        let (user, no_code) = (PageTableFlags::USER_ACCESSIBLE, PageTableFlags::NO_EXECUTE);
        with(page, user, none, Flaw::UsersPage);
        with(page, none, no_code, Flaw::WritableCode);
        with(page, none, no_code | writable, Flaw::StrayCode);
        let text = memory::text().start;
        with(text, writable, none, Flaw::WritableCode);
        with(memory::window(physical_of(text)), writable, none, Flaw::WritableImage);
        with(memory::rodata().start, writable, none, Flaw::WritableImage);
        let root = memory::window(Cr3::read().0.start_address().as_u64());
        with(root, writable, none, Flaw::WritableTable);
    }
}

guest_test! {
    /// A mapping where none is to be is found.
    fn mappings_that_are_too_many_are_found() smp [1] {
        let frame = buddy::alloc(0, Tracking::Untracked).expect("memory").addr().get();
        let physical = (frame - memory::window(0)) as u64;
        let block = vmalloc::vmalloc(4096, vmalloc::Kind::Data).expect("memory").addr().get();
        let exceptions = gdt::exception_stacks(0)[1].start;
        for (page, flaw) in [
            (0x1000, Flaw::LowerHalf),
            (boot_stack().start - 4096, Flaw::NoGuard),
            (exceptions - 4096, Flaw::NoGuard),
            (block + 4096, Flaw::NoGuard),
        ] {
            assert_eq!(check(), Ok(()));
            // SAFETY: a frame of this test's, where nothing is mapped.
            unsafe { mapping::map(page, physical, mapping::Access::Data, &Open::new()) }.expect("memory");
            assert_eq!(check(), Err(Broken { flaw, page }));
            // SAFETY: nobody uses it.
            unsafe { mapping::unmap(page, &Open::new()) };
            tlb::flush_all();
        }
    }
}

guest_test! {
    /// A page of the window that shows another page's frame is found.
    fn a_wrong_frame_in_the_window_is_found() smp [1] {
        // The window shows the code in pages: what is next to it may be swapped with it.
        let pages = [0, 4096].map(|offset| memory::window(physical_of(memory::text().start + offset)));
        let swap = || {
            let open = Open::new();
            let [first, second] = pages.map(|page| {
                let entries: *mut u64 = core::ptr::with_exposed_provenance_mut(table_of(page));
                entries.wrapping_add(page / 4096 % 512)
            });
            // SAFETY: entries of page tables, for pages that nobody uses now.
            unsafe { first.swap(second) };
            drop(open);
            tlb::flush_all();
        };
        swap();
        let page = pages[0].min(pages[1]);
        assert_eq!(check(), Err(Broken { flaw: Flaw::WrongFrame, page }));
        swap();
        assert_eq!(check(), Ok(()));
    }
}

/// The physical address of a page of the image.
fn physical_of(page: usize) -> u64 {
    use x86_64::structures::paging::{OffsetPageTable, Translate};
    let root = memory::window(Cr3::read().0.start_address().as_u64());
    let root: *mut PageTable = core::ptr::with_exposed_provenance_mut(root);
    // SAFETY: the table in use, which is only read; no other CPU runs.
    let root = unsafe { &mut *root };
    // SAFETY: the window shows physical memory there.
    let tables = unsafe { OffsetPageTable::new(root, VirtAddr::new(memory::window(0) as u64)) };
    let physical = tables.translate_addr(VirtAddr::new(page as u64));
    physical.expect("it is mapped").as_u64()
}

/// Addresses of the window that show no memory: a hole, the devices' addresses, what lies above memory.
const NO_MEMORY: [u64; 4] = [0xa_0000, 0xfec0_0000, 0xfed0_0000, 1 << 36];

guest_test! {
    /// The window shows memory and nothing else.
    fn the_window_shows_what_there_is() smp [1] {
        for physical in NO_MEMORY {
            let address = memory::window(physical);
            assert!(!paging::is_mapped(address), "{physical:#x}");
            assert!(!vmalloc::readable(address, 8), "{physical:#x}");
        }
        let end = buddy::total_pages() as u64 * 4096;
        assert!(paging::is_mapped(memory::window(end)));
        assert!(vmalloc::readable(memory::window(end), 8));
    }
}

guest_test! {
    /// A read where the window shows nothing faults.
    fn a_read_of_a_device_in_the_window_is_told() smp [1] fails "page fault (vector 14, error code 0x0) at address 0xffff8880fed00000" {
        let device: *const u64 = core::ptr::with_exposed_provenance(memory::window(0xfed0_0000));
        // SAFETY: not sound at all: the machine must end here.
        black_box(unsafe { device.read_volatile() });
    }
}

/// Writes to an address, which must fault.
fn write_to(address: usize) {
    let address: *mut u64 = core::ptr::with_exposed_provenance_mut(black_box(address));
    // SAFETY: not sound at all: the machine must end here.
    unsafe { address.write_volatile(0) };
}

guest_test! {
    /// The code can't be written to by its address in the window.
    fn a_write_to_the_code_in_the_window_is_told() smp [1, 2] fails "page fault (vector 14, error code 0x3) at address 0xffff8880" {
        write_to(memory::window(physical_of(memory::text().start)));
    }
}

guest_test! {
    /// A page table can't be written to by its address in the window.
    fn a_write_to_a_page_table_is_told() smp [1, 2] fails "page fault (vector 14, error code 0x3) at address 0xffff8880" {
        write_to(memory::window(Cr3::read().0.start_address().as_u64()));
    }
}

/// Freezes memory, on the one CPU that runs.
fn freeze() {
    let prepared = frozen::prepare().expect("memory");
    let stopped = stop::stop_world(&|_| {
        frozen::protect(&prepared);
        frozen::forget_translations();
    });
    assert!(stopped.is_ok());
}

guest_test! {
    /// A write that faults because memory is frozen is allowed, but not one to the code.
    fn a_write_to_the_code_is_told_while_memory_is_frozen() smp [1] fails "page fault (vector 14, error code 0x3) at address 0xffff8880" {
        let block = Box::new([0_u64; 64]);
        freeze();
        write_to(block.as_ptr().addr());
        write_to(memory::window(physical_of(memory::text().start)));
    }
}

guest_test! {
    /// Nor one to a page table.
    fn a_write_to_a_page_table_is_told_while_memory_is_frozen() smp [1] fails "page fault (vector 14, error code 0x3) at address 0xffff8880" {
        freeze();
        write_to(memory::window(Cr3::read().0.start_address().as_u64()));
    }
}

guest_test! {
    /// Nor one to a frame that has become a page table since.
    fn a_write_to_a_new_page_table_is_told_while_memory_is_frozen() smp [1] fails "page fault (vector 14, error code 0x3) at address 0xffff8880" {
        freeze();
        // Each in the range of a table of its own: more than there are frames in hand.
        let block = || vmalloc::vmalloc_aligned(4096, 2 << 20, vmalloc::Kind::Data).expect("memory");
        let blocks: Vec<_> = (0..16).map(|_| block()).collect();
        let last = blocks[blocks.len() - 1];
        write_to(table_of(last.addr().get()));
    }
}

/// The address in the window of the lowest table that leads to a page.
fn table_of(page: usize) -> usize {
    let mut last = 0;
    change_entries(page, &mut |_, table, flags| {
        last = table;
        flags
    });
    last
}

/// Changes the entries that lead to a page: `change` gets the level, the table's address in the window, and the entry's flags.
/// No other CPU runs.
fn change_entries(
    page: usize,
    change: &mut dyn FnMut(PageTableLevel, usize, PageTableFlags) -> PageTableFlags,
) {
    let address = VirtAddr::new(page as u64);
    let open = Open::new();
    let mut table = Cr3::read().0.start_address();
    let mut level = Some(PageTableLevel::Four);
    while let Some(now) = level {
        let place = memory::window(table.as_u64());
        let entries: *mut PageTable = core::ptr::with_exposed_provenance_mut(place);
        // SAFETY: a page table, and nobody else uses it.
        let entry = unsafe { &mut (&mut *entries)[address.page_table_index(now)] };
        let is_huge = entry.flags().contains(PageTableFlags::HUGE_PAGE);
        entry.set_flags(change(now, place, entry.flags()));
        table = entry.addr();
        level = now.next_lower_level().filter(|_| !is_huge);
    }
    drop(open);
    tlb::flush_all();
}

/// A page that page tables say is a user's, and that holds one instruction: return.
fn users_page() -> usize {
    const RETURN: u8 = 0xc3;
    let page = vmalloc::vmalloc(4096, vmalloc::Kind::Data).expect("memory");
    // SAFETY: the block's first byte.
    unsafe { page.write(RETURN) };
    change_entries(page.addr().get(), &mut |_, _, mut flags| {
        flags.remove(PageTableFlags::NO_EXECUTE);
        flags | PageTableFlags::USER_ACCESSIBLE
    });
    page.addr().get()
}

/// Runs code of a user's page, which the CPU must refuse.
pub fn run_users_code() -> ! {
    let start: *const () = core::ptr::with_exposed_provenance(users_page());
    // SAFETY: not sound at all: the machine must end here.
    let code: extern "C" fn() = unsafe { core::mem::transmute(start) };
    code();
    panic!("a user's code was run");
}

/// Reads a user's page, which the CPU must refuse.
pub fn read_users_data() -> ! {
    let start: *const u8 = core::ptr::with_exposed_provenance(users_page());
    // SAFETY: not sound at all: the machine must end here.
    let byte = unsafe { start.read_volatile() };
    panic!("a user's byte was read: {byte:#x}");
}
