//! What CPUs are to refuse.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use kernel::arch::percpu::running;
use kernel::arch::{gdt, memory, protection};
use kernel::mm::{paging, vmalloc};
use kernel::stop;
use kernel::task::scheduler;
use x86_64::VirtAddr;
use x86_64::instructions::tlb;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr3};
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

/// A page that page tables say is a user's, and that holds one instruction: return.
fn users_page() -> usize {
    const RETURN: u8 = 0xc3;
    let page = vmalloc::vmalloc(4096, vmalloc::Kind::Data).expect("memory");
    // SAFETY: the block's first byte.
    unsafe { page.write(RETURN) };
    let address = VirtAddr::new(page.addr().get() as u64);
    // SAFETY: this CPU may write to page tables, of which it changes what concerns this page; no other CPU runs.
    unsafe { Cr0::write(Cr0::read() - Cr0Flags::WRITE_PROTECT) };
    let mut table = Cr3::read().0.start_address();
    let mut level = Some(PageTableLevel::Four);
    while let Some(now) = level {
        let place = memory::window(table.as_u64());
        let entries: *mut PageTable = core::ptr::with_exposed_provenance_mut(place);
        // SAFETY: a page table, and nobody else uses it.
        let entry = unsafe { &mut (&mut *entries)[address.page_table_index(now)] };
        let mut flags = entry.flags() - PageTableFlags::NO_EXECUTE;
        flags |= PageTableFlags::USER_ACCESSIBLE;
        entry.set_flags(flags);
        table = entry.addr();
        level = now.next_lower_level();
    }
    // SAFETY: as it was before.
    unsafe { Cr0::write(Cr0::read() | Cr0Flags::WRITE_PROTECT) };
    tlb::flush_all();
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
