//! The end of the machine by a panic or an exception.
//!
//! The first CPU to get here halts the others by a non-maskable interrupt, whatever they are doing. Then it prints what happened,
//! the call stack, where the other CPUs were, and which call sites have the most live memory, and ends the machine with failure.
//! It waits for no lock that others may have left held: it breaks the serial line's lock, memory comes from a reserve, and
//! neither the call stack nor the call sites need any.
//!
//! A failure during this report (a message may fault while it is formatted) comes here again, on the same CPU. It is printed with
//! its own call stack, which goes on through the first one's, and then the rest of the report. After some such failures the
//! machine ends at once. A wait for what a halted CPU holds is such a failure, too ([`ending`]).
//!
//! A failed allocation panics, so it comes here, too.

use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::arch::ending::{self, Ender, Whereabouts, whereabouts};
use crate::arch::exit::{ExitCode, exit};
use crate::arch::percpu::cpu_id;
use crate::arch::{backtrace, gdt, interrupts};
use crate::console::Console;
use crate::dev::{halt, serial};
use crate::leak::{KMEMLEAK, from_call_site};
use crate::mm::{confined, frozen, heap};
use crate::symbols::{self, Detail};
use crate::task::scheduler;
use crate::{print, println};

/// Frames shown.
const FRAMES: usize = 32;

/// Call sites shown.
const SITES: usize = 5;

/// Failures after which the report is not tried again.
const MOST_FAILURES: u32 = 3;

/// How often the CPU that ends the machine has called [`fatal`].
static FAILURES: AtomicU32 = AtomicU32::new(0);

/// Not zero: the call sites have been printed, or printing them has failed.
static SITES_TOLD: AtomicU32 = AtomicU32::new(0);

/// Called by `panic!`.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    confined::leave_after_panic();
    fatal(format_args!("{info}"), 0, backtrace::frame_pointer())
}

/// Prints what happened and ends the machine with failure. The call stack begins with `rip` (left out if zero) and goes
/// on from the frame pointer. Any context.
pub fn fatal(what: fmt::Arguments<'_>, rip: usize, frame_pointer: usize) -> ! {
    interrupts::disable();
    match ending::begin() {
        // SAFETY: the other CPUs never go on, and neither does the code that was interrupted here.
        Ender::First => unsafe { halt::halt_others() },
        Ender::Again => {}
        Ender::Another => ending::halt_here(rip),
    }
    // SAFETY: interrupts were turned off above, for the rest of the machine's time.
    unsafe { frozen::write_everywhere() };
    confined::forget();
    // SAFETY: the other CPUs halt, and this one does nothing else any more.
    unsafe { serial::break_lock() };
    heap::use_emergency_reserve();
    let trace = Trace::new(rip, frame_pointer);
    match FAILURES.fetch_add(1, Ordering::Relaxed) {
        0 => tell_what(what),
        1 => tell(format_args!("\nwhile telling of that: {what}\n")),
        MOST_FAILURES.. => exit(ExitCode::Failure),
        // The message may be what fails: it is left out.
        _ => println!("\nand that could not be told, either"),
    }
    trace.tell();
    tell_others();
    if SITES_TOLD.swap(1, Ordering::Relaxed) == 0 {
        tell_sites();
    }
    exit(ExitCode::Failure)
}

/// Prints each piece as soon as it is formatted: if formatting fails, the pieces before are seen.
fn tell(what: fmt::Arguments<'_>) {
    struct Pieces(Console);
    impl Write for Pieces {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write_str(text)?;
            self.0.flush();
            Ok(())
        }
    }
    // The console does not fail; an error of an argument's formatter is ignored.
    let _ = Pieces(Console::new()).write_fmt(what);
}

fn tell_what(what: fmt::Arguments<'_>) {
    print!("\n[cpu {}", cpu_id());
    scheduler::with_current(|task| {
        let comm = task.comm();
        print!(", task {} \"{}\"", task.id(), comm.as_str());
    });
    tell(format_args!("] {what}\n"));
}

/// A call stack: where the exception was (zero for a panic), then return addresses.
struct Trace {
    rip: usize,
    frames: [usize; FRAMES],
    count: usize,
}

impl Trace {
    fn new(rip: usize, frame_pointer: usize) -> Self {
        // Before there are tasks: the page of the boot stack that the stack pointer is in.
        let near = backtrace::stack_pointer() & !0xfff;
        let task = scheduler::with_current(|task| task.stack());
        let running = task.unwrap_or(near..near + 0x1000);
        // An exception may have interrupted the report of another one, which runs on an exception stack.
        let [first, second, third, fourth] = gdt::exception_stacks(cpu_id());
        let stacks = [running, first, second, third, fourth];
        let mut frames = [0; FRAMES];
        // SAFETY: stacks in use, or the page of the stack in use.
        let count = unsafe { backtrace::walk_across(&stacks, frame_pointer, &mut frames) };
        Self { rip, frames, count }
    }

    fn tell(&self) {
        println!("backtrace:");
        if self.rip != 0 {
            println!("  {}", symbols::at(self.rip).with(detail()));
        }
        for &frame in &self.frames[..self.count] {
            println!("  {}", symbols::of_return(frame).with(detail()));
        }
        if let Some(missing) = symbols::missing() {
            println!("  ({missing})");
        }
    }
}

/// With lines, unless the report has failed before: reading the lines may be what fails.
fn detail() -> Detail {
    if FAILURES.load(Ordering::Relaxed) > 2 {
        Detail::Names
    } else {
        Detail::Lines
    }
}

/// Prints where the other CPUs were.
fn tell_others() {
    for cpu in halt::others() {
        match whereabouts(cpu) {
            Whereabouts::At(rip) => {
                println!("cpu {cpu} was at {}", symbols::at(rip).with(detail()));
            }
            Whereabouts::Running => println!("cpu {cpu} could not be stopped"),
            Whereabouts::Waiting => {}
        }
    }
}

/// Prints where the most live memory was allocated.
fn tell_sites() {
    if !KMEMLEAK.is_on() {
        return;
    }
    println!("call sites with the most live bytes:");
    let all = KMEMLEAK.for_top_sites(SITES, &mut |site| {
        print!("  {} bytes in {}", site.bytes, Count(site.objects, "block"));
        let (machinery, frames) = from_call_site(site.call_stack);
        if !machinery.is_empty() {
            print!(", {} skipped", Count(machinery.len(), "frame"));
        }
        println!(":");
        for &frame in frames {
            println!("    {}", symbols::of_return(frame).with(detail()));
        }
    });
    if !all {
        println!("  (not counted: what another CPU was changing)");
    }
}

/// So many of something, as words.
struct Count(usize, &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, what) = self;
        let ending = if *count == 1 { "" } else { "s" };
        write!(f, "{count} {what}{ending}")
    }
}
