//! What only the CPU holds, in a kernel that takes all of it from its heap and keeps no pointer.

use alloc::boxed::Box;

use kernel::leak::KMEMLEAK;
use kernel::sync::IrqGuard;
use kmemleak::CpuTables;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::{load_tss, sgdt, sidt};
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::tss::TaskStateSegment;

use crate::guest_test;
use crate::leak_support::{apart, check};

/// Bytes of each stack.
const STACK: usize = 64 * 1024;
/// Entries of the interrupt stack table that the kernel uses.
const STACKS: usize = 4;

/// A stack that nothing but the result points to: its end, as kernels write it.
fn stack_end() -> VirtAddr {
    let stack = Box::into_raw(Box::new([0_u64; STACK / 8]));
    VirtAddr::new((stack.expose_provenance() + STACK) as u64)
}

/// Loads tables on this CPU, which nothing but it knows then.
fn load_tables() {
    let _here = IrqGuard::new();
    let mut tss = Box::new(TaskStateSegment::new());
    let mut stacks = tss.interrupt_stack_table;
    stacks[..STACKS].fill_with(stack_end);
    tss.interrupt_stack_table = stacks;
    let mut gdt = Box::new(GlobalDescriptorTable::new());
    let code = gdt.append(Descriptor::kernel_code_segment());
    let data = gdt.append(Descriptor::kernel_data_segment());
    let task = gdt.append(Descriptor::tss_segment(Box::leak(tss)));
    Box::leak(gdt).load();
    // SAFETY: the selector is the new table's code segment.
    unsafe { CS::set_reg(code) };
    // SAFETY: the selector is the new table's data segment.
    unsafe { SS::set_reg(data) };
    // SAFETY: as above.
    unsafe { DS::set_reg(data) };
    // SAFETY: as above.
    unsafe { ES::set_reg(data) };
    // SAFETY: the selector is the new table's task state segment, which stays permanently.
    unsafe { load_tss(task) };
}

/// The tables that this CPU has loaded.
fn loaded() -> CpuTables {
    // SAFETY: the kernel's ring; the table is mapped.
    unsafe { CpuTables::loaded() }
}

guest_test! {
    /// The registers are read as they are.
    fn the_loaded_tables_are_those_of_the_cpu() smp [1] {
        let tables = loaded();
        let (gdt, idt) = (sgdt(), sidt());
        assert_eq!(tables.gdt.start as u64, gdt.base.as_u64());
        assert_eq!(tables.gdt.len(), usize::from(gdt.limit) + 1);
        assert_eq!(tables.idt.start as u64, idt.base.as_u64());
        assert_eq!(tables.idt.len(), usize::from(idt.limit) + 1);
        assert!(tables.task_state.is_some());
    }
}

guest_test! {
    /// A kernel that took its tables and its interrupt stacks from the heap, and kept no pointer, tells of them with one line.
    fn tables_and_stacks_that_only_the_cpu_holds_are_in_use() smp [1] {
        assert_eq!(check(), []);
        apart(load_tables);
        let before = check();
        assert_eq!(before.len(), 2 + STACKS, "a GDT, a TSS, the stacks");
        // In tasks of their own, for what is loaded would stay on the stack as well.
        apart(|| {
            // SAFETY: the tables stay where they are.
            assert!(unsafe { KMEMLEAK.cpu_tables_add(&loaded()) });
        });
        assert_eq!(check(), []);
        apart(|| KMEMLEAK.cpu_tables_remove(&loaded()));
        assert_eq!(check(), before);
    }
}
