//! Leaving for the kernel.
//!
//! The code that loads the kernel's page tables must be mapped before and after; it and the segment table
//! that the kernel inherits have a page of their own, which both address spaces show at its physical
//! address.

use core::arch::global_asm;

global_asm!(
    ".pushsection .handover, \"ax\"",
    // The segments: 8 = 64-bit code, 16 = data; marked as accessed, for the page can't be written.
    ".balign 8",
    "handover_gdt:",
    ".quad 0",
    ".quad 0x00af9b000000ffff",
    ".quad 0x00cf93000000ffff",
    ".global handover_gdt_pointer",
    "handover_gdt_pointer:",
    ".word . - handover_gdt - 1",
    ".quad handover_gdt",
    //
    ".global handover",
    "handover:",
    "mov cr3, rdx",
    "mov rsp, rsi",
    "xor ebp, ebp", // frame-pointer walks end here,
    "push 0",       // and at this return address
    "jmp rcx",
    ".popsection",
);

unsafe extern "C" {
    static __handover_start: u8;
    fn handover(boot_info: u64, stack_top: u64, level_4: u64, entry: u64) -> !;
}

/// Physical and virtual address of the page that the hand-over runs in.
pub fn page() -> u64 {
    (&raw const __handover_start).addr() as u64
}

/// The kernel, ready to go.
pub struct Handover {
    /// Physical address of its top page table.
    pub level_4: u64,
    /// Virtual address after the end of its stack.
    pub stack_top: u64,
    /// Virtual address at which it starts.
    pub entry: u64,
    /// Virtual address of its `BootInfo`.
    pub boot_info: u64,
}

impl Handover {
    /// Enters the kernel.
    pub fn go(self) -> ! {
        // SAFETY: `load` has mapped the stack, the entry point, the boot information and this page.
        unsafe { handover(self.boot_info, self.stack_top, self.level_4, self.entry) }
    }
}
