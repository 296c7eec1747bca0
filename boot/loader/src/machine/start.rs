//! From QEMU's 32-bit entry to 64-bit Rust.
//!
//! The protocol: protected mode with flat segments, paging off, interrupts off, ebx = physical address
//! of the start information. Nothing else is promised, not even a stack.
//!
//! The loader's own page tables show the lowest 4 GiB where they are, in pages of 2 MiB. A machine without
//! 64-bit mode or no-execute pages is told so from here, where no Rust code can run yet.

use core::arch::global_asm;

use super::{failure, load};

global_asm!(
    // The note: QEMU looks for the entry point in it.
    ".pushsection .note.Xen, \"a\", @note",
    ".long 4, 4, 18", // sizes of name and value; XEN_ELFNOTE_PHYS32_ENTRY
    ".asciz \"Xen\"",
    ".long pvh_start",
    ".popsection",
    //
    ".pushsection .text.start, \"ax\"",
    ".code32",
    ".global pvh_start",
    "pvh_start:",
    "cli",
    "cld",
    "mov esp, offset boot_stack_top",
    "mov edi, ebx", // cpuid uses ebx
    //
    // 64-bit mode (bit 29) and no-execute pages (bit 20)?
    "mov eax, 0x80000000",
    "cpuid",
    "cmp eax, 0x80000001",
    "jb start_refuse",
    "mov eax, 0x80000001",
    "cpuid",
    "and edx, (1 << 29) | (1 << 20)",
    "cmp edx, (1 << 29) | (1 << 20)",
    "jne start_refuse",
    //
    // 2048 pages of 2 MiB, present and writable.
    "mov ecx, 2048",
    "mov eax, 0x83",
    "mov edx, offset boot_level_2",
    "2:",
    "mov [edx], eax",
    "add eax, 0x200000",
    "add edx, 8",
    "loop 2b",
    "mov eax, offset boot_level_2 + 3",
    "mov edx, offset boot_level_3",
    "mov ecx, 4",
    "3:",
    "mov [edx], eax",
    "add eax, 4096",
    "add edx, 8",
    "loop 3b",
    "mov eax, offset boot_level_3 + 3",
    "mov [boot_level_4], eax",
    //
    "mov eax, cr4",
    "or eax, 1 << 5", // PAE
    "mov cr4, eax",
    "mov eax, offset boot_level_4",
    "mov cr3, eax",
    "mov ecx, 0xc0000080", // EFER
    "rdmsr",
    "or eax, (1 << 8) | (1 << 11)", // LME, NXE
    "wrmsr",
    "mov eax, cr0",
    "or eax, (1 << 31) | (1 << 16) | 1", // PG, WP, PE
    "mov cr0, eax",
    "lgdt [handover_gdt_pointer]",
    "push 8",
    "mov eax, offset start_64",
    "push eax",
    "retf",
    //
    "start_refuse:",
    "mov esi, offset start_refusal",
    "mov dx, 0x3f8",
    "4:",
    "lodsb",
    "test al, al",
    "jz 5f",
    "out dx, al",
    "jmp 4b",
    "5:",
    "mov eax, 0x11",
    "mov dx, 0xf4",
    "out dx, eax",
    "6:",
    "hlt",
    "jmp 6b",
    //
    ".code64",
    "start_64:",
    "mov eax, 16",
    "mov ds, eax",
    "mov es, eax",
    "mov ss, eax",
    "xor eax, eax",
    "mov fs, eax",
    "mov gs, eax",
    "mov edi, edi", // the upper half is not defined after the switch
    "xor ebp, ebp",
    "call {main}",
    "ud2",
    "start_refusal:",
    ".asciz \"loader: the CPU has no 64-bit mode or no no-execute pages\\r\\n\"",
    ".popsection",
    //
    ".pushsection .bss, \"aw\", @nobits",
    ".balign 4096",
    "boot_level_4: .skip 4096",
    "boot_level_3: .skip 4096",
    "boot_level_2: .skip 4 * 4096",
    ".skip 128 * 1024", // far more than is used: a memory map takes 3 KiB, by value
    "boot_stack_top:",
    ".popsection",
    main = sym main,
);

/// The first Rust code to run.
extern "C" fn main(start_info: u64) -> ! {
    match load::load(start_info) {
        Ok(handover) => handover.go(),
        Err(error) => failure::fail(format_args!("{error}")),
    }
}
