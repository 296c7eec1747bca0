//! The registers that name a CPU's descriptor tables.

use core::arch::asm;

use crate::platform::CpuTables;
use crate::platform::descriptors::{DESCRIPTOR_BYTES, descriptor_address};

/// What `sgdt` and `sidt` store: the offset of the table's last byte, and where the table begins.
#[derive(Default)]
#[repr(C, packed)]
struct TableRegister {
    limit: u16,
    base: u64,
}

impl TableRegister {
    fn range(&self) -> core::ops::Range<usize> {
        let start = self.base as usize;
        match (start, self.limit) {
            // What a register holds that was never loaded.
            (0, _) | (_, 0) => 0..0,
            (start, limit) => start..start.saturating_add(usize::from(limit) + 1),
        }
    }
}

impl CpuTables {
    /// The tables that this CPU has loaded. For code that stays on its CPU meanwhile.
    ///
    /// # Safety
    ///
    /// The caller runs in the CPU's most privileged ring, and all of the global descriptor table that the CPU has loaded is
    /// mapped.
    #[must_use]
    pub unsafe fn loaded() -> Self {
        let (mut gdt, mut idt) = (TableRegister::default(), TableRegister::default());
        let task: u16;
        // SAFETY: stores ten bytes there.
        unsafe { asm!("sgdt [{}]", in(reg) &raw mut gdt, options(nostack, preserves_flags)) };
        // SAFETY: stores ten bytes there.
        unsafe { asm!("sidt [{}]", in(reg) &raw mut idt, options(nostack, preserves_flags)) };
        // SAFETY: reads a register.
        unsafe { asm!("str {:x}", out(reg) task, options(nomem, nostack, preserves_flags)) };
        let gdt = gdt.range();
        let at = usize::from(task) & !(DESCRIPTOR_BYTES - 1);
        let task_state = (at != 0 && at + 2 * DESCRIPTOR_BYTES <= gdt.len()).then(|| {
            let descriptor = core::ptr::with_exposed_provenance::<[u64; 2]>(gdt.start + at);
            // SAFETY: in the table, which is mapped: the caller's promise.
            let [low, high] = unsafe { descriptor.read_unaligned() };
            descriptor_address(low, high).map(|base| base as usize)
        });
        Self {
            gdt,
            idt: idt.range(),
            task_state: task_state.flatten(),
        }
    }
}
