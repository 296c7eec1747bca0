//! The end that nobody wanted: a panic or an exception.
//!
//! The first CPU to get here stops the others, tells what happened with the call stack, then which call sites have
//! the most live memory, and ends the machine with failure. It trusts nothing that others may have left locked: the
//! console's lock is broken, memory for naming the functions comes from a reserve of its own, and the call sites are
//! found and named without any memory or lock.
//!
//! Who is out of memory comes here, too, since it panics.

use core::fmt;
use core::iter;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::arch::backtrace;
use crate::arch::exit::{ExitCode, exit};
use crate::arch::idt::vector;
use crate::arch::percpu::cpu_id;
use crate::arch::{apic, interrupts, serial, smp};
use crate::leak::KMEMLEAK;
use crate::symbols::Detail;
use crate::task::scheduler;
use crate::{mm, println, symbols};

/// The CPU that ends the machine, plus one; zero while all is well.
static ENDING: AtomicU32 = AtomicU32::new(0);

/// Whether the machine is being ended: whoever runs may not wait for anybody.
pub fn is_ending() -> bool {
    ENDING.load(Ordering::Acquire) != 0
}

/// Frames shown.
const FRAMES: usize = 32;

/// Call sites shown.
const SITES: usize = 5;

/// Called by `panic!`.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    fatal(format_args!("{info}"), 0, backtrace::frame_pointer())
}

/// Tells what happened and ends the machine with failure. The call stack is shown from `rip` (left out
/// if zero) and the frame pointer on. Any context.
pub fn fatal(what: fmt::Arguments<'_>, rip: usize, frame_pointer: usize) -> ! {
    interrupts::disable();
    let me = cpu_id() + 1;
    match ENDING.compare_exchange(0, me, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {}
        Err(first) if first == me => tell_less(what),
        Err(_) => interrupts::halt_forever(),
    }
    if smp::running() > 1 {
        apic::send_to_others(vector::HALT);
    }
    // SAFETY: the other CPUs halt, and this one does nothing else any more.
    unsafe { serial::break_lock() };
    mm::heap::use_emergency_reserve();
    let task = scheduler::with_current(|task| (task.id(), task.comm(), task.stack()));
    println!();
    match &task {
        Some((id, comm, _)) => println!("[cpu {}, task {id} \"{}\"] {what}", me - 1, comm.as_str()),
        None => println!("[cpu {}] {what}", me - 1),
    }
    // Before there are tasks, the boot stack: whatever is near the stack pointer.
    let near = backtrace::stack_pointer() & !0xfff;
    let stack = task.map_or(near..near + 0x1000, |(.., stack)| stack);
    let mut frames = [0; FRAMES];
    // SAFETY: a stack in use, or the page we stand on.
    let count = unsafe { backtrace::walk(frame_pointer, stack, &mut frames) };
    for (slot, frame) in TRACE
        .iter()
        .zip(iter::once(rip).chain(frames).take(count + 1))
    {
        slot.store(frame, Ordering::Relaxed);
    }
    tell_trace(Detail::Lines);
    tell_sites();
    exit(ExitCode::Failure)
}

/// The call stack that is being told: where the exception was (zero for a panic), then return addresses.
static TRACE: [AtomicUsize; FRAMES + 1] = [const { AtomicUsize::new(0) }; FRAMES + 1];

fn tell_trace(detail: Detail) {
    println!("backtrace:");
    for (index, frame) in TRACE
        .iter()
        .map(|frame| frame.load(Ordering::Relaxed))
        .enumerate()
    {
        match (index, frame) {
            (_, 0) => {}
            (0, rip) => println!("  {}", symbols::at(rip).with(detail)),
            (_, frame) => println!("  {}", symbols::of_return(frame).with(detail)),
        }
    }
}

/// Tells where the most live memory was allocated.
fn tell_sites() {
    if !KMEMLEAK.is_on() {
        return;
    }
    println!("call sites with the most live bytes:");
    let all = KMEMLEAK.for_top_sites(SITES, &mut |site| {
        let ending = if site.objects == 1 { "" } else { "s" };
        println!("  {} bytes in {} block{ending}:", site.bytes, site.objects);
        for &frame in site.call_stack {
            println!("    {}", symbols::of_return(frame).with(Detail::Names));
        }
    });
    if !all {
        println!("  (not counted: what another CPU was changing)");
    }
}

/// Telling of the end has failed as well, for want of memory most likely. Tells what does without.
fn tell_less(what: fmt::Arguments<'_>) -> ! {
    static FAILURES: AtomicU32 = AtomicU32::new(0);
    if FAILURES.fetch_add(1, Ordering::AcqRel) == 0 {
        // SAFETY: nothing else runs any more.
        unsafe { serial::break_lock() };
        println!("\nwhile telling of that: {what}");
        tell_trace(Detail::Names);
    }
    exit(ExitCode::Failure)
}
