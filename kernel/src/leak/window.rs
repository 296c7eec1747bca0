//! How long the detector keeps interrupts off, for the benchmark.
//!
//! The detector turns interrupts off and on by the platform's two functions, here [`off`] and [`on`]. While nothing is measured, that
//! costs three instructions more than the flag itself: a look at a word that nobody writes. So it is measured in the kernel that
//! people run, and not in another one.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kmemleak::IrqState;

use crate::arch::interrupts;
use crate::arch::{backtrace, percpu};
use crate::dev::time;
use crate::sync::{LocalIrqDisabled, SpinLock};
use crate::task::{self, scheduler};

/// Frames that are kept of the call stack.
pub const FRAMES: usize = 5;

/// The longest time that was measured.
#[derive(Clone, Copy, Debug)]
pub struct Longest {
    /// Counts of the time stamp counter.
    pub tsc: u64,
    /// How often interrupts were turned off.
    pub windows: u64,
    /// Where they were turned on again: return addresses, innermost first, then zeros.
    pub frames: [usize; FRAMES],
}

impl Longest {
    const NONE: Self = Self {
        tsc: 0,
        windows: 0,
        frames: [0; FRAMES],
    };
}

/// Whether it is measured. Relaxed: a CPU that sees it late is measured late.
static MEASURED: AtomicBool = AtomicBool::new(false);
/// When each CPU turned interrupts off. Relaxed: each CPU reads what it wrote itself.
static BEGAN: [AtomicU64; percpu::MAX_CPUS] = [const { AtomicU64::new(0) }; percpu::MAX_CPUS];
static LONGEST: SpinLock<Longest, LocalIrqDisabled> = SpinLock::new(Longest::NONE);

/// In the state, beside the flags as they were: the time is measured. No flag has this bit.
const MEASURING: usize = 1 << 63;

/// Turns interrupts off.
#[inline(always)]
pub(super) fn off() -> IrqState {
    let flags = interrupts::disable_flags();
    IrqState(match MEASURED.load(Ordering::Relaxed) {
        true if interrupts::are_on(flags) => flags | begin(),
        _ => flags,
    })
}

/// Puts interrupts back as they were.
#[inline(always)]
pub(super) fn on(state: IrqState) {
    if interrupts::are_on(state.0) {
        match state.0 & MEASURING {
            0 => interrupts::enable(),
            _ => end(),
        }
    }
}

/// Inlined: a call here would make each callback save registers for it.
#[inline(always)]
fn begin() -> usize {
    if let Some(began) = BEGAN.get(percpu::cpu_id() as usize) {
        began.store(time::tsc(), Ordering::Relaxed);
    }
    MEASURING
}

#[cold]
#[inline(never)]
fn end() {
    let began = BEGAN[percpu::cpu_id() as usize].load(Ordering::Relaxed);
    let tsc = time::tsc().saturating_sub(began);
    {
        let mut longest = LONGEST.lock();
        longest.windows += 1;
        if tsc > longest.tsc {
            longest.tsc = tsc;
            longest.frames = [0; FRAMES];
            let stack = scheduler::with_current(task::Task::stack).unwrap_or_default();
            // SAFETY: the stack of the task that runs this.
            unsafe { backtrace::walk(backtrace::frame_pointer(), stack, &mut longest.frames) };
        }
    }
    interrupts::enable();
}

/// The longest time that the detector keeps interrupts off, on any CPU, until `work` is done.
pub fn longest<R>(work: impl FnOnce() -> R) -> (R, Longest) {
    *LONGEST.lock() = Longest::NONE;
    MEASURED.store(true, Ordering::Relaxed);
    let result = work();
    MEASURED.store(false, Ordering::Relaxed);
    (result, *LONGEST.lock())
}
