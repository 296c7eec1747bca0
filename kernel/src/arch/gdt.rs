//! Segments, and the stacks of exceptions that can't trust the one in use.
//!
//! A page fault may come from a task whose stack has run into its guard page, a double fault from an exception that found no
//! stack; a machine check and a non-maskable interrupt come at any moment. These four get stacks of their own, from
//! the interrupt stack table. All other exceptions and interrupts stay on the stack of the interrupted task, which the
//! leak detector scans.
//!
//! Below each of these stacks lies a guard page: code that grows out of one faults, and does not write over the next one.

use core::ops::Range;
use core::ptr::NonNull;

use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

use crate::percpu;

/// Bytes of an exception stack: enough to symbolise a backtrace on.
pub const EXCEPTION_STACK_LEN: usize = 64 * 1024;

/// The entries of the interrupt stack table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExceptionStack {
    /// For double faults.
    DoubleFault,
    /// For non-maskable interrupts.
    NonMaskable,
    /// For machine checks.
    MachineCheck,
    /// For page faults.
    PageFault,
}

/// Exception stacks of each CPU.
pub const STACKS: usize = 4;

/// Where a CPU's exception stacks begin, in the order of [`ExceptionStack`].
pub type ExceptionStacks = [NonNull<u8>; STACKS];

/// Bytes of a guard page.
const GUARD: usize = 4096;

/// An exception stack of the boot CPU, and below it the page that is to be unmapped as soon as page tables can be changed.
#[repr(C, align(4096))]
struct BootStack {
    guard: [u8; GUARD],
    stack: [u8; EXCEPTION_STACK_LEN],
}

impl BootStack {
    const fn new() -> Self {
        Self {
            guard: [0; GUARD],
            stack: [0; EXCEPTION_STACK_LEN],
        }
    }
}

/// The boot CPU's exception stacks, needed before there is an allocator. They are not a root of the leak detector:
/// code that runs on them ends the machine.
#[unsafe(link_section = ".heap_arena")]
static mut BOOT_STACKS: [BootStack; STACKS] = [const { BootStack::new() }; STACKS];

percpu! {
    static TSS: Once<TaskStateSegment> = Once::new();
    static GDT: Once<(GlobalDescriptorTable, Selectors)> = Once::new();
}

struct Selectors {
    code: SegmentSelector,
    data: SegmentSelector,
    task_state: SegmentSelector,
}

fn boot_stack(index: usize) -> *mut BootStack {
    let first: *mut BootStack = (&raw mut BOOT_STACKS).cast();
    first.wrapping_add(index)
}

/// Memory for the boot CPU's exception stacks.
pub fn boot_stacks() -> ExceptionStacks {
    core::array::from_fn(|index| {
        let stack = boot_stack(index).cast::<u8>().wrapping_add(GUARD);
        NonNull::new(stack).expect("a static is not at zero")
    })
}

/// The pages below the boot CPU's exception stacks: nobody uses them.
pub fn boot_guards() -> [usize; STACKS] {
    core::array::from_fn(|index| boot_stack(index).addr())
}

/// Where the exception stacks of a CPU lie; empty ranges while it has none.
pub fn exception_stacks(cpu: u32) -> [Range<usize>; STACKS] {
    let Some(tss) = TSS.on(cpu).get() else {
        return [const { 0..0 }; STACKS];
    };
    let table = tss.interrupt_stack_table;
    core::array::from_fn(|index| {
        let start = table[index].as_u64() as usize + 16 - EXCEPTION_STACK_LEN;
        start..start + EXCEPTION_STACK_LEN
    })
}

/// Loads this CPU's segments. Interrupts are off.
///
/// # Safety
///
/// This is `cpu`; [`EXCEPTION_STACK_LEN`] bytes at each of `stacks` stay this CPU's permanently.
pub unsafe fn init(cpu: u32, stacks: ExceptionStacks) {
    let tss = TSS.on(cpu).call_once(|| {
        let mut tss = TaskStateSegment::new();
        // The segment is packed: its table is filled in as a copy.
        let mut table = tss.interrupt_stack_table;
        for (entry, stack) in table.iter_mut().zip(stacks) {
            // Inside the stack: another block may begin where it ends, and this table is a root.
            let top = stack.addr().get() + EXCEPTION_STACK_LEN - 16;
            *entry = VirtAddr::new(top as u64);
        }
        tss.interrupt_stack_table = table;
        tss
    });
    let (gdt, selectors) = GDT.on(cpu).call_once(|| {
        let mut gdt = GlobalDescriptorTable::new();
        let code = gdt.append(Descriptor::kernel_code_segment());
        let data = gdt.append(Descriptor::kernel_data_segment());
        let task_state = gdt.append(Descriptor::tss_segment(tss));
        (
            gdt,
            Selectors {
                code,
                data,
                task_state,
            },
        )
    });
    gdt.load();
    // SAFETY: the selector is the new table's code segment.
    unsafe { CS::set_reg(selectors.code) };
    // SAFETY: the selector is the new table's data segment.
    unsafe { SS::set_reg(selectors.data) };
    // SAFETY: as above. (FS and GS are left alone: loading GS would clear its base.)
    unsafe { DS::set_reg(selectors.data) };
    // SAFETY: as above.
    unsafe { ES::set_reg(selectors.data) };
    // SAFETY: the selector is the new table's task state segment, which stays permanently.
    unsafe { load_tss(selectors.task_state) };
}
