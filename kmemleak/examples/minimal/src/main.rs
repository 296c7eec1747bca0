//! A whole kernel that looks for its leaks: one CPU, one heap, the linker's own layout.
//!
//! It loses one block, and keeps three. One word points to each of these: in `.bss`, in `.data`, and on the stack of the code
//! that calls the check. Then it runs the detector's selftest, prints the report, and ends QEMU. The detector needs only the
//! four methods that a platform must have, and the lines that end with a number.
//!
//! Build it with `cargo build --release --target x86_64-unknown-none` in this folder, and run it with `cargo run -- --kernel
//! FILE` in the repository's. (Without `--release`, the frames of `report` and of what it calls are large, and still contain
//! words that `lose` wrote there.)
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use core::arch::x86_64::_rdtsc;
use core::fmt::Write;
use core::hint::black_box;
use core::ops::Range;
use core::panic::PanicInfo;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

use bootloader_api::{BootInfo, BootloaderConfig, entry_point};
use kmemleak::{BootstrapPool, Detector, IrqState, Platform, Root, RootCursor, Tracked, Which};
use kmemleak::{arch, elf::Image};
use linked_list_allocator::LockedHeap;
use uart_16550::{Config, Uart16550Tty, backend::PioBackend};
use x86_64::instructions::{hlt, port::Port};

struct Kernel; // 1

// SAFETY: the loader maps all segments and the stack, which stay mapped; there is one CPU; all blocks come from HEAP.
#[rustfmt::skip] // each number beside its line
unsafe impl Platform for Kernel { // 2
    fn now_us(&self) -> u64 {
        // SAFETY: all x86_64 CPUs have this counter.
        unsafe { _rdtsc() / 1000 } // as if at 1 GHz: a real kernel measures that
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
    fn stack_bounds(&self) -> Option<Range<usize>> { // 3
        let start = STACK.load(Relaxed); // 4
        Some(start..start + STACK_LEN) // 5
    }
}

// SAFETY: the linker's layout begins with the headers, in a segment that stays mapped.
static IMAGE: Image = unsafe { Image::running() }; // 6
static POOL: BootstrapPool<16> = BootstrapPool::new(); // 7
static KMEMLEAK: Detector<Kernel> = Detector::new(Kernel); // 8

#[global_allocator]
static HEAP: Tracked<LockedHeap, Kernel> = Tracked::new(LockedHeap::empty(), &KMEMLEAK);
const HEAP_LEN: usize = 1 << 20;
static mut HEAP_MEMORY: [u8; HEAP_LEN] = [0; HEAP_LEN];

/// Where the stack begins; the loader chooses.
static STACK: AtomicUsize = AtomicUsize::new(0);
const STACK_LEN: usize = 64 * 1024;

const BOOT_CONFIG: BootloaderConfig = {
    let mut config = BootloaderConfig::new_default();
    config.kernel_stack_size = STACK_LEN as u64;
    config
};

entry_point!(main, config = &BOOT_CONFIG);

fn main(boot_info: &'static mut BootInfo) -> ! {
    STACK.store(boot_info.kernel_stack_bottom as usize, Relaxed);
    KMEMLEAK.add_metadata(POOL.take()); // 9
    let memory = &raw mut HEAP_MEMORY;
    KMEMLEAK.exclude(memory.addr(), HEAP_LEN); // 10
    // SAFETY: the memory is the heap's alone, and this is done once.
    unsafe { HEAP.lock().init(memory.cast(), HEAP_LEN) };

    lose();
    keep(&IN_BSS);
    keep(&IN_DATA.1);
    let on_stack = black_box(Box::new([3_u8; 96]));
    let leaks = report(&mut serial_line());
    black_box(on_stack);
    end(if leaks == 1 { SUCCESS } else { FAILURE })
}

#[inline(never)]
fn lose() {
    core::mem::forget(black_box(Box::new([1_u8; 64])));
}

static IN_BSS: AtomicPtr<[u8; 96]> = AtomicPtr::new(null_mut());
static IN_DATA: (AtomicUsize, AtomicPtr<[u8; 96]>) =
    (AtomicUsize::new(1), AtomicPtr::new(null_mut()));

#[inline(never)]
fn keep(variable: &AtomicPtr<[u8; 96]>) {
    // A variable that nothing reads is left out by the compiler, with what is stored there.
    black_box(variable).store(Box::into_raw(Box::new([2_u8; 96])), Relaxed);
}

/// Writes what the detector has to say, and returns how many leaks there are.
fn report(out: &mut dyn Write) -> usize {
    let _ = KMEMLEAK.command("selftest", out);
    let summary = KMEMLEAK.check().expect("the detector is on");
    let _ = KMEMLEAK.report_in_full(Which::Leaders, out);
    summary.objects
}

fn serial_line() -> Uart16550Tty<PioBackend> {
    // SAFETY: the first serial port of a PC; nobody else is using it, for there is one CPU and no interrupt handler.
    unsafe { Uart16550Tty::new_port(0x3f8, Config::default()) }.expect("a serial line")
}

/// What QEMU's isa-debug-exit device is told: a value v makes the exit code (v << 1) | 1.
const SUCCESS: u32 = 0x10;
const FAILURE: u32 = 0x11;

fn end(value: u32) -> ! {
    // SAFETY: the port belongs to that device or to none.
    unsafe { Port::new(0xf4).write(value) };
    loop {
        hlt();
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(serial_line(), "{info}");
    end(FAILURE)
}
