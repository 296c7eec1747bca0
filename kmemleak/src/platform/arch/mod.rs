//! What the crate knows of processors, so that a kernel does not have to implement it: interrupt flag, registers, stack.
//!
//! Each of the features `x86_64`, `aarch64` and `riscv64` (all are on by default) has an effect on its own target only. There
//! the functions of this module exist, and a platform that implements [`Platform::stack_bounds`](crate::Platform::stack_bounds)
//! gets these without further code:
//!
//! - call stacks, by a walk over frame pointers (code must be compiled with `-C force-frame-pointers=yes`);
//! - a check for which the caller's stack and registers are roots, but the frames of the check itself are not. With one CPU, the
//!   world is stopped as well: that is the default of [`Platform::stop_world`](crate::Platform::stop_world).
//!
//! System registers are not roots. Declare a block to which only a system register points (TPIDR_EL1 on AArch64, `sscratch` on
//! RISC-V) with [`Detector::not_leak`](crate::Detector::not_leak). RISC-V's `tp` is read with the registers that functions
//! preserve.
//!
//! On other targets, and without the features, the crate contains no assembly, these functions are missing, and the platform has to
//! implement [`Platform::stack_walk`](crate::Platform::stack_walk) and
//! [`Platform::on_unscanned_stack`](crate::Platform::on_unscanned_stack) itself.
//!
//! All assembly of the crate is in this folder.

mod address_bits;
#[cfg(all(feature = "aarch64", target_arch = "aarch64", not(miri)))]
mod cpu_aarch64;
#[cfg(all(feature = "riscv64", target_arch = "riscv64", not(miri)))]
mod cpu_riscv64;
#[cfg(not(any(
    all(feature = "aarch64", target_arch = "aarch64", not(miri)),
    all(feature = "riscv64", target_arch = "riscv64", not(miri)),
    all(feature = "x86_64", target_arch = "x86_64", not(miri)),
)))]
mod cpu_unknown;
#[cfg(all(feature = "x86_64", target_arch = "x86_64", not(miri)))]
mod cpu_x86_64;
#[cfg(all(feature = "x86_64", target_arch = "x86_64", not(miri)))]
mod filter_x86_64;
#[cfg(not(all(feature = "x86_64", target_arch = "x86_64", not(miri))))]
mod portable;
#[cfg(all(feature = "x86_64", target_arch = "x86_64", not(miri)))]
mod tables_x86_64;

use core::hint::black_box;
use core::ops::Range;

pub(crate) use self::address_bits::AddressBits;
#[cfg(all(feature = "aarch64", target_arch = "aarch64", not(miri)))]
pub use self::cpu_aarch64::*;
#[cfg(all(feature = "riscv64", target_arch = "riscv64", not(miri)))]
pub use self::cpu_riscv64::*;
#[cfg(not(any(
    all(feature = "aarch64", target_arch = "aarch64", not(miri)),
    all(feature = "riscv64", target_arch = "riscv64", not(miri)),
    all(feature = "x86_64", target_arch = "x86_64", not(miri)),
)))]
pub(crate) use self::cpu_unknown::*;
#[cfg(all(feature = "x86_64", target_arch = "x86_64", not(miri)))]
pub use self::cpu_x86_64::*;
#[cfg(all(feature = "x86_64", target_arch = "x86_64", not(miri)))]
pub(crate) use self::filter_x86_64::{BLOCK, RangeFilter};
use crate::platform::context::StackWalk;

/// How far a frame pointer lies above the two words of its frame: the caller's frame pointer, and above it the return address.
/// (RISC-V ELF psABI: `fp` is the stack pointer at entry, and both words lie below it. x86_64 and AArch64: it points at them.)
pub(crate) const FRAME_POINTER_ABOVE: usize = if cfg!(target_arch = "riscv64") { 16 } else { 0 };

/// A walk over frame pointers that begins in the caller, if the architecture is known: what
/// [`Platform::stack_walk`](crate::Platform::stack_walk) returns by default for the stack of the running code. Any context.
#[inline(always)]
pub fn stack_walk(stack: Range<usize>) -> Option<StackWalk> {
    // No closure: the frame is that of the function into which this is inlined.
    if !KNOWN {
        return None;
    }
    Some(StackWalk {
        frame_pointer: frame_pointer(),
        stack,
        skip: 0..0,
    })
}

/// Saves on the stack the registers that a function must preserve, and calls `work` with an address: the saved registers and all
/// frames of the callers lie above it, all frames of `work` below. `work` gets `None` where the architecture is not known. Any
/// context.
#[inline(never)]
pub fn with_registers_on_stack(work: &mut dyn FnMut(Option<usize>)) {
    let registers = preserved_registers();
    let stack_pointer = if KNOWN { Some(stack_pointer()) } else { None };
    // Must not be inlined: the frame of `work` would be a part of this one.
    black_box(work)(stack_pointer);
    black_box(&registers);
}

/// Bytes of stack that [`on_cleared_stack`] clears: more than the detector's frames take until they call it again, or read the
/// stack, and less than a check takes in all.
const CLEARED: usize = 8192;

/// Runs `question` in frames that lie on cleared memory. The scan reads the detector's own frames, up to the one that saves the
/// registers, like those of the caller. Compilers leave some words of a frame unwritten, and what earlier calls left in them
/// would keep blocks alive. So would what they left in registers: an interrupt puts that into memory where the next frame will be.
/// Any context.
#[inline(always)]
pub(crate) fn on_cleared_stack<R>(question: impl FnOnce() -> R) -> R {
    // First the registers: what interrupts have put into memory until now lies in the part that is cleared next.
    clear_scratch_registers();
    clear_unused_stack();
    in_own_frame(question)
}

#[inline(never)]
fn clear_unused_stack() {
    let mut words = [0_usize; CLEARED / size_of::<usize>()];
    black_box(&mut words);
}

/// Runs `question` in a frame of its own, which does not exist before: it is not inlined. Any context.
#[inline(never)]
pub(crate) fn in_own_frame<R>(question: impl FnOnce() -> R) -> R {
    question()
}

#[cfg(test)]
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn preserved_registers_lie_above_the_work_and_its_frame_below() {
        let local = 0u8;
        let above = core::ptr::from_ref(&local).addr();
        let mut seen = None;
        with_registers_on_stack(&mut |stack_pointer| {
            let local = 0u8;
            seen = stack_pointer.zip(Some(core::ptr::from_ref(black_box(&local)).addr()));
        });
        let (stack_pointer, below) = seen.expect("a known architecture");
        assert!(below < stack_pointer && stack_pointer < above);
    }

    /// A value that is only in a register that functions preserve must be found above the stack pointer.
    #[test]
    fn each_preserved_register_is_found() {
        extern "C" fn look(found: &mut [bool; 6]) {
            with_registers_on_stack(&mut |stack_pointer| {
                let from = stack_pointer.expect("a known architecture");
                // Far enough for the frames between here and the function that sets the registers, and in this thread's stack.
                for (number, found) in found.iter_mut().enumerate() {
                    let value = !(0x5afe_0000_0000_0000 + number);
                    *found = (from..from + 1024).step_by(8).any(|at| {
                        // SAFETY: aligned, and on this thread's stack.
                        unsafe {
                            core::ptr::with_exposed_provenance::<usize>(at).read_volatile() == value
                        }
                    });
                }
            });
        }
        let mut found = [false; 6];
        // SAFETY: preserves what a function must, and calls one with an aligned stack.
        unsafe {
            core::arch::asm!(
                "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
                "mov rbp, rsp", "and rsp, -16", "push rbp", "push rbp",
                "not rax", "mov rbx, rax", "dec rax", "mov rbp, rax", "dec rax", "mov r12, rax", "dec rax",
                "mov r13, rax", "dec rax", "mov r14, rax", "dec rax", "mov r15, rax", "xor eax, eax",
                "call {look}",
                "pop rsp",
                "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
                look = sym look,
                inout("rax") 0x5afe_0000_0000_0000_usize => _,
                inout("rdi") &raw mut found => _,
                clobber_abi("C"),
            );
        }
        assert_eq!(found, [true; 6]);
    }

    /// What callers left in registers does not come into the frames below: an interrupt there would put it into memory.
    #[test]
    fn registers_that_nobody_preserves_are_cleared() {
        extern "C" fn ask(seen: &mut [usize; 4]) {
            on_cleared_stack(|| {
                // SAFETY: writes all words of the array.
                unsafe {
                    core::arch::asm!(
                        "mov [{to}], r8",
                        "mov [{to} + 8], r9",
                        "mov [{to} + 16], r10",
                        "mov [{to} + 24], r11",
                        to = in(reg) seen.as_mut_ptr(),
                        options(nostack, preserves_flags),
                    );
                }
            });
        }
        const LEFT: usize = 0x5afe_0000_0000_0000;
        let mut seen = [LEFT; 4];
        // SAFETY: calls a function as C code does.
        unsafe {
            core::arch::asm!(
                "call {ask}",
                ask = sym ask,
                inout("rdi") &raw mut seen => _,
                inout("r8") LEFT => _,
                inout("r9") LEFT => _,
                inout("r10") LEFT => _,
                inout("r11") LEFT => _,
                clobber_abi("C"),
            );
        }
        assert!(!seen.contains(&LEFT), "{seen:x?}");
    }
}
