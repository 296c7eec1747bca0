//! How a kernel that has gone wrong ends.

use alloc::format;
use core::hint::black_box;

use kernel::arch::backtrace;
use kernel::mm::vmalloc;
use kernel::task::{self, Priority};

use crate::guest_test;

guest_test! {
    /// A panic says where, with the functions' names.
    fn a_panic_is_told() smp [1, 2] fails "guest::ends::a_panic_is_told" {
        panic!("it is");
    }
}

guest_test! {
    /// A failed assertion says what was compared.
    fn a_failed_assertion_is_told() smp [1] fails "left: 3" {
        assert_eq!(black_box(3), 4);
    }
}

guest_test! {
    /// A panic in another task ends the machine, too.
    fn a_panic_of_another_task_is_told() smp [2] fails "\"another\"] panicked" {
        let other = task::spawn("another", Priority::Normal, || panic!("as it should"));
        other.expect("memory for a task").join();
    }
}

guest_test! {
    /// A task that needs more stack than it has meets its guard page.
    fn a_guard_page_ends_a_stack() smp [1, 2] fails "guard page hit, overflow of the stack of 65536 bytes" {
        fn recurse(depth: u64) -> u64 {
            black_box([depth; 16])[3] + if black_box(true) { recurse(depth + 1) } else { 0 }
        }
        let task = task::spawn("deep", Priority::Normal, || {
            black_box(recurse(0));
        });
        task.expect("memory for a task").join();
    }
}

guest_test! {
    /// Who writes past the end of a vmalloc block meets a guard page.
    fn a_guard_page_ends_a_buffer() smp [1] fails "guard page hit, past the end of the buffer of 8192 bytes" {
        let block = vmalloc::vmalloc(8192, vmalloc::Kind::Data).expect("memory");
        let past = block.as_ptr().wrapping_add(8192);
        // SAFETY: not sound at all: the machine must end here.
        unsafe { past.write_volatile(1) };
    }
}

guest_test! {
    /// Two stacks share a guard page. Who grows down into it has overflown; who writes past the top of the one below it has not, and is not taken for
    /// the neighbour.
    fn a_guard_page_has_two_sides() smp [1] {
        let park = || {
            let task = task::spawn("neighbour", Priority::Normal, || loop {
                task::park();
            });
            task.expect("memory for a task").task().stack()
        };
        let (mut below, mut above) = (park(), park());
        while below.end + 4096 != above.start {
            (below, above) = (above, park());
        }
        let told = |address, stack_pointer| {
            let page = vmalloc::guard_page(address, stack_pointer);
            page.map_or("nothing".into(), |page| format!("{page}"))
        };
        let (end, start) = (format!("{:#018x}", below.start), format!("{:#018x}", above.start));
        let past = format!("past the end of the stack of 65536 bytes at {end} (in use)");
        let before = format!("before the start of the stack of 65536 bytes at {start} (in use)");
        let overflow = format!("overflow of the stack of 65536 bytes at {start} (in use)");
        // A push, a frame that has left the stack already, and one that reaches its end.
        assert_eq!(told(above.start - 8, above.start), overflow);
        assert_eq!(told(above.start - 200, above.start - 200), overflow);
        assert_eq!(told(above.start - 4096, above.start - 4000), overflow);
        // The one below, at its top; the one above, with room left; somebody else.
        for stack_pointer in [below.end - 64, above.start + 512, backtrace::stack_pointer()] {
            assert_eq!(told(below.end, stack_pointer), format!("{past}, or {before}"));
        }
        assert_eq!(told(below.end - 1, below.end - 64), "nothing");
    }
}

guest_test! {
    /// Who writes past the top of a stack is told so.
    fn a_stack_has_a_top() smp [1] fails "guard page hit, past the end of the stack of 65536 bytes" {
        let top: *mut u8 = core::ptr::with_exposed_provenance_mut(task::current().stack().end);
        // SAFETY: not sound at all: the machine must end here.
        unsafe { top.write_volatile(1) };
    }
}

guest_test! {
    /// An address that is nobody's.
    fn a_null_pointer_is_told() smp [1] fails "page fault (vector 14, error code 0x0) at address 0x0000000000000008" {
        let null: *const u64 = core::ptr::without_provenance(black_box(8));
        // SAFETY: not sound at all: the machine must end here.
        black_box(unsafe { null.read_volatile() });
    }
}

guest_test! {
    /// An instruction that is none.
    fn an_invalid_opcode_is_told() smp [1] fails "invalid opcode (vector 6" {
        // SAFETY: not sound at all: the machine must end here.
        unsafe { core::arch::asm!("ud2") };
    }
}
