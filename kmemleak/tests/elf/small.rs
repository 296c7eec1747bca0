//! An executable that looks for its variables in its own roots, and reads all of them. Built and run by `layouts.rs`.

#![no_std]
#![no_main]

use core::arch::asm;
use core::hint::black_box;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use kmemleak::RootCursor;
use kmemleak::elf::{Image, ImageError};

/// How it ends.
const RIGHT: i32 = 0;
const PANICKED: i32 = 1;
const NOT_LOADED: i32 = 2;
const OTHER_ERROR: i32 = 3;

// SAFETY: the headers stay mapped, if they are loaded at all.
static IMAGE: Image = unsafe { Image::running() };

static DATA: AtomicUsize = AtomicUsize::new(7);
static BSS: AtomicUsize = AtomicUsize::new(0);
static FUNCTIONS: [fn() -> i32; 1] = [verdict];

#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    // SAFETY: at the entry the stack is aligned for a call's callee to find it as after the call.
    unsafe { asm!("and rsp, -16", "call {}", sym begin, options(noreturn)) }
}

extern "C" fn begin() -> ! {
    exit(black_box(FUNCTIONS)[0]())
}

fn verdict() -> i32 {
    match IMAGE.check() {
        Ok(()) => {}
        Err(ImageError::NotLoaded) => return NOT_LOADED,
        Err(_) => return OTHER_ERROR,
    }
    let (mut data, mut bss, mut functions) = (0, 0, 0);
    let mut cursor = RootCursor::default();
    while let Some(root) = IMAGE.next_root(&mut cursor) {
        let holds =
            |address: usize| usize::from((root.start..root.start + root.len).contains(&address));
        data += holds((&raw const DATA).addr());
        bss += holds((&raw const BSS).addr());
        functions += holds((&raw const FUNCTIONS).addr());
        let words = root.start.next_multiple_of(8)..root.start + root.len;
        for word in words.step_by(8) {
            // SAFETY: this program has no other threads, and what it names is to be readable: else it ends by a signal.
            black_box(unsafe { core::ptr::with_exposed_provenance::<u8>(word).read_volatile() });
        }
    }
    DATA.fetch_add(BSS.fetch_add(1, Relaxed), Relaxed);
    assert_eq!((data, bss, functions), (1, 1, 0));
    RIGHT
}

/// Ends the process: system call 60 of Linux.
fn exit(code: i32) -> ! {
    // SAFETY: it takes a number, and does not return.
    unsafe { asm!("syscall", in("rax") 60, in("rdi") code, options(noreturn)) }
}

#[panic_handler]
fn panicked(_: &PanicInfo<'_>) -> ! {
    exit(PANICKED)
}
