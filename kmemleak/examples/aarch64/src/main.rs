//! A kernel in one file for AArch64: it boots on QEMU's `virt` machine, loses memory, and finds it.
//!
//! `cargo run --release` here builds and runs it. QEMU's exit code is 0 if the detector reports exactly the blocks that were
//! lost.
//!
//! The part under the comment "The detector" is what a kernel needs for the detector. The rest is the leaks and the machine: one
//! CPU at EL1 with its MMU off, a PL011 as console, and semihosting, which ends QEMU. There is no linker script: the linker's
//! own layout loads the program headers, and the detector finds the variables in them. QEMU loads the file, and clears `.bss`.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use core::arch::{asm, naked_asm};
use core::fmt::{self, Write};
use core::hint::black_box;
use core::ops::Range;
use core::panic::PanicInfo;

use kmemleak::elf::Image;
use kmemleak::{
    BootstrapPool, Detector, IrqState, Platform, Root, RootCursor, Tracked, Which, arch,
};
use linked_list_allocator::LockedHeap;

// The detector.

struct Kernel;

// SAFETY: the image and the stack stay mapped, nothing else runs while interrupts are off, and all blocks come from HEAP.
unsafe impl Platform for Kernel {
    fn now_us(&self) -> u64 {
        clock_us()
    }

    fn irq_save(&self) -> IrqState {
        arch::irq_save()
    }

    fn irq_restore(&self, state: IrqState) {
        arch::irq_restore(state);
    }

    fn next_root(&self, cursor: &mut RootCursor) -> Option<Root> {
        IMAGE.next_root(cursor)
    }

    // Makes call stacks, and the used part of the stack and the registers a root.
    fn stack_bounds(&self) -> Option<Range<usize>> {
        let start = (&raw const STACK).addr();
        Some(start..start + STACK_LEN)
    }
}

// SAFETY: the linker's own layout loads the program headers, and nothing unmaps them.
static IMAGE: Image = unsafe { Image::running() };
static POOL: BootstrapPool<32> = BootstrapPool::new();
static KMEMLEAK: Detector<Kernel> = Detector::new(Kernel);

#[global_allocator]
static HEAP: Tracked<LockedHeap, Kernel> = Tracked::new(LockedHeap::empty(), &KMEMLEAK);

/// The heap's memory lies above the image, where no root is.
const HEAP_START: usize = 0x4100_0000;
const HEAP_LEN: usize = 1 << 20;

// The leaks.

/// Loses a block.
#[inline(never)]
fn plant() {
    core::mem::forget(black_box(Box::new([0x5a_u8; 48])));
}

#[inline(never)]
fn plant_by_a_caller() {
    plant();
    // Else `plant` would be jumped to, and this function would be in no call stack.
    black_box(());
}

/// Loses a block whose address stays behind on the stack, below the part in use.
#[inline(never)]
fn leave_on_the_dead_stack() {
    // What is called later has its frames here. Were the address here, a word that these frames leave unwritten would hold the block.
    let gap = [0_usize; 1024];
    black_box(&gap);
    name_a_block();
    black_box(&gap);
}

#[inline(never)]
fn name_a_block() {
    let address = Box::into_raw(Box::new([0x5a_u8; 96])).addr();
    black_box(&[address; 1024]);
}

/// The inverted address of a block: a number that is no pointer.
#[inline(never)]
fn hidden_block() -> usize {
    !Box::into_raw(Box::new([0x5a_u8; 144])).addr()
}

/// Checks while a register that functions preserve is all that has a block's address. Returns the number of leaks.
fn check_while_a_register_holds(hidden: usize) -> usize {
    let leaks;
    // SAFETY: calls a function.
    unsafe {
        asm!(
            "mvn x27, x27", "bl {check}", "mvn x27, x27",
            check = sym check, inout("x27") hidden => _, lateout("x0") leaks, clobber_abi("C"),
        );
    }
    leaks
}

/// Allocates what belongs to this CPU, and keeps its address in a system register alone, as kernels do. The detector reads no system
/// registers, and has to be told.
#[inline(never)]
fn take_a_cpu_pointer() {
    let of_this_cpu = Box::into_raw(Box::new([0x5a_u8; 240])).addr();
    KMEMLEAK.not_leak(of_this_cpu);
    // SAFETY: nothing else uses the register.
    unsafe { asm!("msr tpidr_el1, {}", in(reg) of_this_cpu, options(nomem, nostack)) };
}

extern "C" fn check() -> usize {
    let verdict = KMEMLEAK.check().expect("nobody else asks the detector");
    assert_eq!(verdict.doubt(), None);
    verdict.objects
}

extern "C" fn main() -> ! {
    KMEMLEAK.add_metadata(POOL.take());
    IMAGE.check().expect("the program headers");
    // SAFETY: memory of the machine that nothing else uses; called once.
    unsafe { HEAP.lock().init(HEAP_START as *mut u8, HEAP_LEN) };
    KMEMLEAK
        .command("selftest", &mut Console)
        .expect("the self-test passes");

    take_a_cpu_pointer();
    let kept = Box::new([0x5a_u8; 192]);
    black_box(&kept); // on the stack
    let hidden = hidden_block();
    plant_by_a_caller();
    leave_on_the_dead_stack();
    let leaks = check_while_a_register_holds(hidden);
    KMEMLEAK
        .report_in_full(Which::Leaders, &mut Console)
        .expect("the console takes all");
    assert_eq!(
        leaks, 2,
        "what was planted, and what only the dead stack names"
    );
    assert_eq!(check(), 3, "what the register held is lost with it");
    drop(kept);
    exit(0)
}

// The machine.

const STACK_LEN: usize = 64 << 10;
/// The only stack. Aligned to 16 bytes, as the procedure call standard wants it.
static mut STACK: [u128; STACK_LEN / 16] = [0; STACK_LEN / 16];

/// Where QEMU begins.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    naked_asm!(
        // Compilers use vector registers: they must not trap.
        "mov x9, #(3 << 20)",
        "msr cpacr_el1, x9",
        "isb",
        "ldr x9, ={stack} + {len}",
        "mov sp, x9",
        // A return address of zero ends call stacks.
        "mov x29, xzr",
        "mov x30, xzr",
        "b {main}",
        stack = sym STACK, len = const STACK_LEN, main = sym main,
    )
}

/// Microseconds by the generic timer.
fn clock_us() -> u64 {
    let (ticks, per_second): (u64, u64);
    // SAFETY: reads two registers.
    unsafe {
        asm!("mrs {}, cntvct_el0", "mrs {}, cntfrq_el0", out(reg) ticks, out(reg) per_second, options(nomem, nostack))
    };
    (u128::from(ticks) * 1_000_000 / u128::from(per_second)) as u64
}

/// The PL011, which needs no set-up under QEMU, and is never busy there.
struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        const DATA: *mut u8 = 0x0900_0000 as *mut u8;
        for byte in text.bytes() {
            // SAFETY: the data register of the machine's serial line.
            unsafe { DATA.write_volatile(byte) };
        }
        Ok(())
    }
}

/// Ends QEMU, with this exit code.
fn exit(code: u64) -> ! {
    const SYS_EXIT: usize = 0x18;
    const APPLICATION_EXIT: u64 = 0x20026;
    let why = [APPLICATION_EXIT, code];
    loop {
        // SAFETY: a semihosting call, which reads `why`.
        unsafe {
            asm!("hlt #0xf000", in("x0") SYS_EXIT, in("x1") &raw const why, options(nostack))
        };
    }
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let _ = writeln!(Console, "{info}");
    exit(1)
}
