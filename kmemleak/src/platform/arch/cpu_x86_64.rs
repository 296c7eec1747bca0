//! x86_64.

use core::arch::asm;

use crate::platform::context::IrqState;

/// Whether the crate knows the processor.
pub(super) const KNOWN: bool = true;

/// The interrupt flag, in RFLAGS (Intel SDM, volume 1, 3.4.3).
const INTERRUPTS: usize = 1 << 9;

/// Disables interrupts on this CPU and returns the state before, for [`irq_restore`]: what
/// [`Platform::irq_save`](crate::Platform::irq_save) is for. Any context, in kernel mode.
#[inline]
pub fn irq_save() -> IrqState {
    let flags: usize;
    // SAFETY: pushes and pops a word; the order of memory accesses is kept.
    unsafe { asm!("pushfq", "pop {}", "cli", out(reg) flags) };
    IrqState(flags & INTERRUPTS)
}

/// Enables interrupts again if they were enabled before. Any context, in kernel mode.
#[inline]
pub fn irq_restore(state: IrqState) {
    if state.0 != 0 {
        // SAFETY: the order of memory accesses is kept.
        unsafe { asm!("sti", options(nostack, preserves_flags)) };
    }
}

/// The frame pointer of the function into which this is inlined. Any context.
#[inline(always)]
pub fn frame_pointer() -> usize {
    let value;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rbp", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// The stack pointer of the function into which this is inlined. Any context.
#[inline(always)]
pub fn stack_pointer() -> usize {
    let value;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// The registers that a function preserves (System V psABI, figure 3.4).
#[inline(always)]
pub(super) fn preserved_registers() -> [usize; 6] {
    let mut registers = [0; 6];
    // SAFETY: writes six words of the array.
    unsafe {
        asm!(
            "mov [{to}], rbx",
            "mov [{to} + 8], rbp",
            "mov [{to} + 16], r12",
            "mov [{to} + 24], r13",
            "mov [{to} + 32], r14",
            "mov [{to} + 40], r15",
            to = in(reg) &raw mut registers,
            options(nostack, preserves_flags),
        );
    }
    registers
}

/// Clears the registers that a function need not preserve (System V psABI, figure 3.4).
#[inline(always)]
pub(super) fn clear_scratch_registers() {
    // SAFETY: changes these registers only.
    unsafe {
        asm!(
            "xor eax, eax",
            "xor ecx, ecx",
            "xor edx, edx",
            "xor esi, esi",
            "xor edi, edi",
            "xor r8d, r8d",
            "xor r9d, r9d",
            "xor r10d, r10d",
            "xor r11d, r11d",
            out("rax") _,
            out("rcx") _,
            out("rdx") _,
            out("rsi") _,
            out("rdi") _,
            out("r8") _,
            out("r9") _,
            out("r10") _,
            out("r11") _,
            options(nomem, nostack),
        );
    }
}

/// Asks for the cache line that `address` lies in, which need not be mapped. It has no effect except on time. Any context.
#[inline(always)]
pub(crate) fn prefetch(address: usize) {
    // SAFETY: a prefetch reads nothing that a program could see, and never faults.
    unsafe {
        asm!("prefetcht0 [{}]", in(reg) address, options(nostack, preserves_flags, readonly))
    };
}

/// The next word from `at` to `end` that is less than `span` above `lowest`, for plain words. Looks at four at a time as long as
/// there are four, and advances past the word that it returns.
///
/// # Safety
///
/// `at` and `end` are multiples of a word's size, and each word between them may be read.
#[inline(always)]
pub(crate) unsafe fn find_word(
    at: &mut usize,
    end: usize,
    lowest: usize,
    span: usize,
) -> Option<usize> {
    let (mut address, mut word) = (*at, 0_usize);
    let found: u32;
    // SAFETY: reads words between `at` and `end` only.
    unsafe {
        asm!(
            "xor {found:e}, {found:e}",
            "sub {end}, 24",
            "cmp {address}, {end}",
            "jae 3f",
            "2:",
            "mov {word}, [{address}]",
            "lea {above}, [{word} + {below}]",
            "cmp {above}, {span}",
            "jb 5f",
            "mov {word}, [{address} + 8]",
            "lea {above}, [{word} + {below}]",
            "cmp {above}, {span}",
            "jb 6f",
            "mov {word}, [{address} + 16]",
            "lea {above}, [{word} + {below}]",
            "cmp {above}, {span}",
            "jb 7f",
            "mov {word}, [{address} + 24]",
            "lea {above}, [{word} + {below}]",
            "cmp {above}, {span}",
            "jb 8f",
            "add {address}, 32",
            "cmp {address}, {end}",
            "jb 2b",
            // Fewer than four are left.
            "3:",
            "add {end}, 24",
            "jmp 4f",
            "9:",
            "mov {word}, [{address}]",
            "lea {above}, [{word} + {below}]",
            "cmp {above}, {span}",
            "jb 5f",
            "add {address}, 8",
            "4:",
            "cmp {address}, {end}",
            "jb 9b",
            "jmp 20f",
            "8:",
            "add {address}, 8",
            "7:",
            "add {address}, 8",
            "6:",
            "add {address}, 8",
            "5:",
            "add {address}, 8",
            "inc {found:e}",
            "20:",
            found = out(reg) found,
            word = inout(reg) word,
            address = inout(reg) address,
            above = out(reg) _,
            end = inout(reg) end => _,
            below = in(reg) lowest.wrapping_neg(),
            span = in(reg) span,
            options(nostack, readonly),
        );
    }
    *at = address;
    (found != 0).then_some(word)
}
