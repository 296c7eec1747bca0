//! A kernel in one file for 64-bit RISC-V: it boots on QEMU's `virt` machine, loses memory, and finds it.
//!
//! `cargo run --release` here builds and runs it. QEMU's exit code is 0 if the detector reports exactly the blocks that were
//! lost.
//!
//! The part under the comment "The detector" is what a kernel needs for the detector. The rest is the leaks and the machine: one
//! hart in supervisor mode under OpenSBI with its MMU off, an NS16550 as console, and the test device, which ends QEMU. The
//! linker script defines symbols for the start and the end of the variables. QEMU loads the file, and clears `.bss`.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use core::arch::{asm, naked_asm};
use core::fmt::{self, Write};
use core::hint::black_box;
use core::ops::Range;
use core::panic::PanicInfo;

use kmemleak::{
    BootstrapPool, Detector, IrqState, Platform, Root, RootCursor, RootKind, Tracked, Which, arch,
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
        cursor.index += 1;
        let (start, end) = (&raw const variables_start, &raw const variables_end);
        (cursor.index == 1).then_some(Root {
            kind: RootKind::Section,
            start: start.addr(),
            len: end.addr() - start.addr(),
        })
    }

    // Makes call stacks, and the used part of the stack and the registers a root.
    fn stack_bounds(&self) -> Option<Range<usize>> {
        let start = (&raw const STACK).addr();
        Some(start..start + STACK_LEN)
    }
}

unsafe extern "C" {
    // Of the linker script; only their addresses are used.
    safe static variables_start: u8;
    safe static variables_end: u8;
}

static POOL: BootstrapPool<32> = BootstrapPool::new();
static KMEMLEAK: Detector<Kernel> = Detector::new(Kernel);

#[global_allocator]
static HEAP: Tracked<LockedHeap, Kernel> = Tracked::new(LockedHeap::empty(), &KMEMLEAK);

/// The heap's memory lies above the image, where no root is.
const HEAP_START: usize = 0x8100_0000;
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
            "not s2, s2", "call {check}", "not s2, s2",
            check = sym check, inout("s2") hidden => _, lateout("a0") leaks, clobber_abi("C"),
        );
    }
    leaks
}

/// Allocates what belongs to this hart, and keeps its address in the thread pointer alone, as kernels do. That
/// register is a root.
#[inline(never)]
fn take_a_thread_pointer() {
    let of_this_hart = Box::into_raw(Box::new([0x5a_u8; 240]));
    // SAFETY: nothing else uses the register.
    unsafe { asm!("mv tp, {}", in(reg) of_this_hart, options(nostack)) };
}

extern "C" fn check() -> usize {
    let verdict = KMEMLEAK.check().expect("nobody else asks the detector");
    assert_eq!(verdict.doubt(), None);
    verdict.objects
}

extern "C" fn main() -> ! {
    KMEMLEAK.add_metadata(POOL.take());
    // SAFETY: memory of the machine that nothing else uses; called once.
    unsafe { HEAP.lock().init(HEAP_START as *mut u8, HEAP_LEN) };
    KMEMLEAK
        .command("selftest", &mut Console)
        .expect("the self-test passes");

    take_a_thread_pointer();
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
/// The only stack. Aligned to 16 bytes, as the calling convention wants it.
static mut STACK: [u128; STACK_LEN / 16] = [0; STACK_LEN / 16];

/// Where OpenSBI jumps to.
#[unsafe(naked)]
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.start")]
extern "C" fn _start() -> ! {
    naked_asm!(
        "la sp, {stack}",
        "li t0, {len}",
        "add sp, sp, t0",
        // A return address of zero ends call stacks.
        "mv fp, zero",
        "mv ra, zero",
        "tail {main}",
        stack = sym STACK,
        len = const STACK_LEN,
        main = sym main,
    )
}

/// Microseconds, by the machine's clock of 10 MHz.
fn clock_us() -> u64 {
    let ticks: u64;
    // SAFETY: reads a register.
    unsafe { asm!("rdtime {}", out(reg) ticks, options(nomem, nostack)) };
    ticks / 10
}

/// The NS16550, which OpenSBI has set up, and which is never busy under QEMU.
struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        const DATA: *mut u8 = 0x1000_0000 as *mut u8;
        for byte in text.bytes() {
            // SAFETY: the data register of the machine's serial line.
            unsafe { DATA.write_volatile(byte) };
        }
        Ok(())
    }
}

/// Ends QEMU with this exit code, by the test device. (OpenSBI's shutdown says nothing of success.)
fn exit(code: u16) -> ! {
    const TEST: *mut u32 = 0x10_0000 as *mut u32;
    const FAIL: u32 = 0x3333;
    loop {
        // SAFETY: the device's only register.
        unsafe { TEST.write_volatile(u32::from(code) << 16 | FAIL) };
    }
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let _ = writeln!(Console, "{info}");
    exit(1)
}
