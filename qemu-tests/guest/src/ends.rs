//! How a kernel that has gone wrong ends.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use core::fmt::{self, Display, Formatter};
use core::hint::black_box;
use core::sync::atomic::{AtomicU32, Ordering};

use kernel::arch::backtrace;
use kernel::arch::gdt::{self, ExceptionStack};
use kernel::arch::percpu::{cpu_id, running};
use kernel::dev::time;
use kernel::mm::buddy::{self, Tracking};
use kernel::mm::vmalloc;
use kernel::stop;
use kernel::sync::{IrqGuard, LocalIrqDisabled, SpinLock};
use kernel::task::{self, Mutex, Priority};

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
    /// A write past the end of a vmalloc block meets a guard page.
    fn a_guard_page_ends_a_buffer() smp [1] fails "guard page hit, past the end of the buffer of 8192 bytes" {
        let block = vmalloc::vmalloc(8192, vmalloc::Kind::Data).expect("memory");
        let past = block.as_ptr().wrapping_add(8192);
        // SAFETY: not sound at all: the machine must end here.
        unsafe { past.write_volatile(1) };
    }
}

guest_test! {
    /// Two stacks share a guard page. A task that grows down into it has overflown its stack; a write past the top of the stack
    /// below it is no overflow, and is not taken for the neighbour's.
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
        // The one below, at its top; the one above, with room left; another task.
        for stack_pointer in [below.end - 64, above.start + 512, backtrace::stack_pointer()] {
            assert_eq!(told(below.end, stack_pointer), format!("{past}, or {before}"));
        }
        assert_eq!(told(below.end - 1, below.end - 64), "nothing");
    }
}

guest_test! {
    /// A write past the top of a stack is reported as such.
    fn a_stack_has_a_top() smp [1] fails "guard page hit, past the end of the stack of 65536 bytes" {
        let top: *mut u8 = core::ptr::with_exposed_provenance_mut(task::current().stack().end);
        // SAFETY: not sound at all: the machine must end here.
        unsafe { top.write_volatile(1) };
    }
}

guest_test! {
    /// A read of an address at which nothing is mapped is reported as a page fault.
    fn a_null_pointer_is_told() smp [1] fails "page fault (vector 14, error code 0x0) at address 0x0000000000000008" {
        read_null();
    }
}

fn read_null() {
    let null: *const u64 = core::ptr::without_provenance(black_box(8));
    // SAFETY: not sound at all: the machine must end here.
    black_box(unsafe { null.read_volatile() });
}

guest_test! {
    /// An invalid instruction is reported as such.
    fn an_invalid_opcode_is_told() smp [1] fails "invalid opcode (vector 6" {
        // SAFETY: not sound at all: the machine must end here.
        unsafe { core::arch::asm!("ud2") };
    }
}

guest_test! {
    /// An exception that can't be told for want of a stack becomes a double fault, which has a stack of its own.
    fn a_double_fault_is_told() smp [1, 2] fails "double fault (vector 8, error code 0x0)" {
        // SAFETY: not sound at all: the machine must end here.
        unsafe {
            // The push fails, since there is no such address, and so does that of the failure's own frame.
            core::arch::asm!("mov rsp, {}", "push rax", in(reg) 1_u64 << 63);
        }
    }
}

/// Text whose formatting fails halfway.
struct Fails(fn());

impl Display for Fails {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("the beginning")?;
        (self.0)();
        f.write_str("the end")
    }
}

guest_test! {
    /// What was formatted of a message before it faulted is told.
    fn the_beginning_of_a_message_is_told() smp [1] fails "the beginning" {
        panic!("{}", Fails(read_null));
    }
}

guest_test! {
    /// A fault while a panic's message is formatted has its call stack, which goes on through that of the panic.
    fn a_fault_in_a_message_has_its_call_stack() smp [1, 2]
    fails "  guest::ends::a_fault_in_a_message_has_its_call_stack+0x" {
        panic!("{}", Fails(read_null));
    }
}

guest_test! {
    /// Code that needs more stack than exceptions have meets a guard page.
    fn a_guard_page_ends_an_exceptions_stack() smp [1, 2] fails "guard page hit, overflow of the exception stack at 0xffff" {
        extern "C" fn recurse(depth: u64) -> u64 {
            black_box([depth; 16])[3] + if black_box(true) { recurse(depth + 1) } else { 0 }
        }
        let _here = IrqGuard::new();
        let stack = &gdt::exception_stacks(cpu_id())[ExceptionStack::DoubleFault as usize];
        // SAFETY: not sound at all: the machine must end here.
        unsafe { core::arch::asm!("mov rsp, {}", "call {}", in(reg) stack.end - 16, sym recurse, options(noreturn)) };
    }
}

guest_test! {
    /// A panic while a panic's message is formatted is reported, and the report of the machine follows.
    fn a_panic_in_a_message_is_told() smp [2] fails "call sites with the most live bytes" {
        panic!("{}", Fails(|| panic!("of its own")));
    }
}

guest_test! {
    /// Call sites with the most live bytes begin at the code that made a vector grow.
    fn call_sites_begin_at_the_caller() smp [1]
    fails " frames skipped:\n    guest::ends::call_sites_begin_at_the_caller+0x" {
        let mut grown: Vec<u64> = black_box(Vec::new());
        grown.reserve(1 << 17);
        black_box(&grown);
        panic!("to see who holds most");
    }
}

guest_test! {
    /// The machine ends although each message fails in turn.
    fn failures_without_end_have_one() smp [1] fails "and that could not be told, either" {
        fn again() {
            panic!("{}", Fails(again));
        }
        again();
    }
}

/// Counts as long as the machine runs, with interrupts off.
#[inline(never)]
fn deaf(counter: &AtomicU32) {
    let _deaf = IrqGuard::new();
    loop {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Makes another CPU run [`deaf`], and returns when it does.
fn deafen_another() -> &'static AtomicU32 {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    drop(task::spawn("deaf", Priority::Normal, || deaf(&COUNTER)));
    while COUNTER.load(Ordering::Relaxed) == 0 {
        task::yield_now();
    }
    &COUNTER
}

guest_test! {
    /// A CPU that takes no interrupts is stopped, and it is told where it was.
    fn a_deaf_cpu_is_stopped() smp [2] fails "was at guest::ends::deaf+0x" {
        deafen_another();
        panic!("beside it");
    }
}

guest_test! {
    /// No other CPU runs while the machine is being ended.
    fn nothing_runs_beside_the_end() smp [2, 4] fails "they stand still" {
        struct Watched(&'static AtomicU32);
        impl Display for Watched {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
                let before = self.0.load(Ordering::Relaxed);
                time::spin_us(20_000);
                let after = self.0.load(Ordering::Relaxed);
                f.write_str(if before == after { "they stand still" } else { "they run" })
            }
        }
        let counter = deafen_another();
        panic!("{}", Watched(counter));
    }
}

guest_test! {
    /// A message that waits for what a stopped CPU holds is given up.
    fn a_message_does_not_wait() smp [2] fails "a wait at the end of the machine" {
        static LOCK: SpinLock<u32, LocalIrqDisabled> = SpinLock::new(0);
        static HELD: AtomicU32 = AtomicU32::new(0);
        drop(task::spawn("holder", Priority::Normal, || {
            let _held = LOCK.lock();
            deaf(&HELD);
        }));
        while HELD.load(Ordering::Relaxed) == 0 {
            task::yield_now();
        }
        panic!("{}", Fails(|| drop(LOCK.lock())));
    }
}

guest_test! {
    /// A message that would sleep is given up.
    fn a_message_does_not_sleep() smp [1, 2] fails "a wait at the end of the machine" {
        static LOCK: Mutex<u32> = Mutex::new(0);
        core::mem::forget(LOCK.lock());
        panic!("{}", Fails(|| drop(LOCK.lock())));
    }
}

guest_test! {
    /// A panic of the CPU that stops the world ends the machine, though all others wait for it.
    fn a_panic_in_a_stopped_world_is_told() smp [1, 4] fails "\"init\"] panicked" {
        let _ = stop::stop_world(&|cpu| assert!(!cpu.initiator, "of the initiator"));
    }
}

guest_test! {
    /// A fault of CPUs that were stopped ends the machine, too, whatever the initiator is doing.
    fn a_fault_in_a_stopped_world_is_told() smp [4] fails "was at guest::ends::deaf+0x" {
        static AT_WORK: AtomicU32 = AtomicU32::new(0);
        let _ = stop::stop_world(&|cpu| {
            if cpu.initiator {
                deaf(&AT_WORK);
            }
            while AT_WORK.load(Ordering::Relaxed) == 0 {
                core::hint::spin_loop();
            }
            read_null();
        });
    }
}

/// Leaves no more than some pages.
fn take_pages() {
    while buddy::free_pages() > 500 {
        buddy::alloc(0, Tracking::Untracked);
    }
}

guest_test! {
    /// A machine without memory says which call sites hold the memory.
    fn want_of_memory_is_told() smp [1, 2] fails "memory allocation of 4096 bytes failed" {
        take_pages();
        let mut blocks: Vec<Box<[u8; 4096]>> = Vec::with_capacity(1000);
        loop {
            blocks.push(Box::new([1; 4096]));
        }
    }
}

guest_test! {
    /// Takes small blocks, to the last one.
    fn want_of_small_blocks_is_told() smp [2] fails "call sites with the most live bytes" {
        struct Link {
            _next: Option<&'static Link>,
        }
        take_pages();
        let mut last: Option<&'static Link> = None;
        loop {
            last = Some(Box::leak(Box::new(Link { _next: last })));
        }
    }
}

guest_test! {
    /// All CPUs panic at once: one of them reports.
    fn panics_at_once_are_told_once() smp [4] fails "call sites with the most live bytes" {
        static READY: AtomicU32 = AtomicU32::new(0);
        for _ in 0..running() {
            drop(task::spawn("at-once", Priority::Normal, || {
                READY.fetch_add(1, Ordering::AcqRel);
                while READY.load(Ordering::Acquire) < running() {
                    core::hint::spin_loop();
                }
                panic!("at once");
            }));
        }
        loop {
            task::park();
        }
    }
}
