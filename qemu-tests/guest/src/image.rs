//! The kernel's image as the loader maps it: no page both writable and executable, and no more of either
//! than asked for.

use core::hint::black_box;
use core::mem;
use core::sync::atomic::{AtomicU64, Ordering};

use kernel::arch::memory;

use crate::guest_test;

static CONSTANT: u64 = 0x1234_5678;
static ZERO: AtomicU64 = AtomicU64::new(0);
static NOT_ZERO: AtomicU64 = AtomicU64::new(0x9abc_def0);

/// `ret`.
static CODE: [u8; 1] = [0xc3];

fn write_to(address: usize) {
    let place: *mut u8 = core::ptr::with_exposed_provenance_mut(address);
    // SAFETY: not sound at all: the machine must end here, and the test fails if it doesn't.
    unsafe { place.write_volatile(0) };
}

guest_test! {
    /// Data is in its sections, with its contents.
    fn variables_have_their_values() smp [1] {
        assert_eq!(ZERO.load(Ordering::Relaxed), 0);
        assert_eq!(NOT_ZERO.load(Ordering::Relaxed), 0x9abc_def0);
        assert_eq!(black_box(&CONSTANT), &0x1234_5678);
        assert!(memory::bss().contains((&raw const ZERO).addr()));
        assert!(memory::data().contains((&raw const NOT_ZERO).addr()));
        assert!(memory::text().contains(write_to as fn(usize) as usize));
    }
}

guest_test! {
    /// Code can't be written to.
    fn code_is_not_writable() smp [1] fails "page fault (vector 14, error code 0x3)" {
        write_to(write_to as fn(usize) as usize);
    }
}

guest_test! {
    /// Constants can't be written to.
    fn constants_are_not_writable() smp [1] fails "page fault (vector 14, error code 0x3)" {
        write_to((&raw const CONSTANT).addr());
    }
}

guest_test! {
    /// Data can't be executed.
    fn data_is_not_executable() smp [1] fails "page fault (vector 14, error code 0x11)" {
        let code = (&raw const CODE).cast::<()>();
        // SAFETY: not sound at all: the machine must end with the call.
        let function: fn() = unsafe { mem::transmute(code) };
        function();
    }
}

guest_test! {
    /// Physical memory's window can't be executed.
    fn the_window_is_not_executable() smp [1] fails "page fault (vector 14, error code 0x11)" {
        let start: *const () = core::ptr::with_exposed_provenance(memory::window(0x10_0000));
        // SAFETY: not sound at all: the machine must end with the call.
        let function: fn() = unsafe { mem::transmute(start) };
        function();
    }
}

guest_test! {
    /// The pages below the stack's end at a guard page: an endless recursion is caught.
    fn endless_recursion_is_caught() smp [1] fails "guard page hit" {
        fn recurse(depth: u64) -> u64 {
            black_box([depth; 16])[3] + if black_box(true) { recurse(depth + 1) } else { 0 }
        }
        black_box(recurse(0));
    }
}
