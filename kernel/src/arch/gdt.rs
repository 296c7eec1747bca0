//! Segments, and the stacks of exceptions that can't trust the one in use.
//!
//! A page fault may come from a task whose stack has run into its guard page, a double fault from an exception that found no
//! stack; a machine check and a non-maskable interrupt come at any moment. These four get stacks of their own, from
//! the interrupt stack table. All other exceptions and interrupts stay on the stack of the interrupted task, which the
//! leak detector scans.

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

const STACKS: usize = 4;

/// Bytes of all exception stacks of one CPU.
pub const EXCEPTION_STACKS_LEN: usize = STACKS * EXCEPTION_STACK_LEN;

/// The boot CPU's exception stacks, needed before there is an allocator. They are not a root of the leak detector:
/// code that runs on them ends the machine.
#[repr(align(4096))]
struct BootStacks(#[expect(dead_code, reason = "memory for the CPU")] [u8; EXCEPTION_STACKS_LEN]);

#[unsafe(link_section = ".heap_arena")]
static mut BOOT_STACKS: BootStacks = BootStacks([0; EXCEPTION_STACKS_LEN]);

percpu! {
    static TSS: Once<TaskStateSegment> = Once::new();
    static GDT: Once<(GlobalDescriptorTable, Selectors)> = Once::new();
}

struct Selectors {
    code: SegmentSelector,
    data: SegmentSelector,
    task_state: SegmentSelector,
}

/// Memory for the boot CPU's exception stacks.
pub fn boot_stacks() -> NonNull<u8> {
    let stacks = &raw mut BOOT_STACKS;
    NonNull::new(stacks.cast()).expect("a static is not at zero")
}

/// Where all exception stacks of a CPU lie; an empty range while it has none.
pub fn exception_stacks(cpu: u32) -> Range<usize> {
    let Some(tss) = TSS.on(cpu).get() else {
        return 0..0;
    };
    let table = tss.interrupt_stack_table;
    let start = table[0].as_u64() as usize + 16 - EXCEPTION_STACK_LEN;
    start..start + EXCEPTION_STACKS_LEN
}

/// Loads this CPU's segments. Interrupts are off.
///
/// # Safety
///
/// This is `cpu`; `stacks` are [`EXCEPTION_STACKS_LEN`] bytes that stay this CPU's permanently.
pub unsafe fn init(cpu: u32, stacks: NonNull<u8>) {
    let tss = TSS.on(cpu).call_once(|| {
        let mut tss = TaskStateSegment::new();
        // The segment is packed: its table is filled in as a copy.
        let mut table = tss.interrupt_stack_table;
        for (index, entry) in table.iter_mut().take(STACKS).enumerate() {
            // Inside the stack: another block may begin where it ends, and this table is a root.
            let top = stacks.addr().get() + (index + 1) * EXCEPTION_STACK_LEN - 16;
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
