//! The kernel as the leak detector sees it: the one place where the two meet.
//!
//! Downwards, the allocators' hooks: each tells of a block when it is out of all free lists, and takes it back
//! before it can be handed out again, with no allocator lock held. Those for frees ask for a block that its allocator [has taken
//! back](crate::mm::release): of one that it might refuse yet nobody can tell them. They are part of whoever calls them also where nothing is
//! optimised: a frame of their own would be the innermost one of each call stack.
//!
//! Upwards, [`KernelPlatform`]: where the roots are and what words in them are called, who runs, how the world is
//! stopped, where metadata comes from.
//!
//! # What is a root
//!
//! `.data` and `.bss`; the static per-CPU area of each CPU; the descriptors of page frames in use; each
//! task's stack from its stack pointer up, on which its registers lie as well.
//!
//! Not: the template of the per-CPU areas, the boot heap's arena (its blocks are objects), the detector's own
//! state, the exception stacks (who runs on one ends the machine), and whatever the allocators keep in
//! free memory.
//!
//! # Locks
//!
//! A sleeping one over the printing of warnings. The detector takes its locks in the hooks; under them it asks for
//! metadata, so the buddy allocator's lock nests inside the detector's.

mod names;

use core::fmt::{self, Write};
use core::ops::{ControlFlow, RangeInclusive};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use kmemleak::{
    AllocOptions, BootstrapPool, Comm, Context, Detector, IrqState, Level, MAX_FRAMES,
    METADATA_PAGE, NextStep, ParameterError, Platform, Root, RootCursor, RootKind, StackWalk,
    StopError, StoppedCpu,
};

use crate::arch::interrupts::{self, InterruptFlag};
use crate::arch::{backtrace, context, memory, percpu, stop, time};
use crate::mm::buddy::{self, Tracking};
use crate::mm::release::Retired;
use crate::mm::{self, frame, vmalloc};
use crate::sync::{Mutex, MutexGuard, in_interrupt};
use crate::task::{self, Priority, State, TaskId, scheduler};
use crate::{cmdline, console, scripted, symbols};

/// Metadata for what is allocated before the buddy allocator stands.
static POOL: BootstrapPool<16> = BootstrapPool::new();

/// The detector. In a section of its own, which is no root.
#[unsafe(link_section = ".detector")]
pub static KMEMLEAK: Detector<KernelPlatform> = Detector::new(KernelPlatform)
    .with_pool(&POOL)
    .with_suppressions(SUPPRESSIONS);

/// Leaks that this kernel has, knows and does not mend: patterns of function names (the last segments of a path, or all of
/// it), `PATTERN` or `PATTERN:max=N`, each with its reason. There are none, and one more wants a better reason than that somebody is in a hurry. For a
/// leak that is somebody's own there are the command `suppress` and the boot parameter.
const SUPPRESSIONS: &[&str] = &[];

/// A block was handed out; `size` in bytes. Any context but an NMI.
#[inline(always)]
pub fn alloc(start: usize, size: usize) {
    if !scripted::is_untold() {
        KMEMLEAK.alloc(start, size, AllocOptions::new());
    }
}

/// A block was given back. Any context but an NMI.
#[inline(always)]
pub fn free<B>(block: &Retired<B>) {
    if !scripted::is_untold() {
        KMEMLEAK.free(block.address());
    }
}

/// A part of a block was given back, of `len` bytes. Any context but an NMI.
#[inline(always)]
pub fn free_part<B>(part: &Retired<B>, len: usize) {
    if !scripted::is_untold() {
        KMEMLEAK.free_part(part.address(), len);
    }
}

/// An allocator has refused a free. Any context but an NMI.
#[inline(always)]
pub fn refused_free(address: usize) {
    if !scripted::is_untold() {
        KMEMLEAK.refused_free(address);
    }
}

/// A dynamic per-CPU block was handed out; `size` in bytes of one copy. Any context but an NMI.
#[inline(always)]
pub fn alloc_percpu(handle: usize, size: usize) {
    if !scripted::is_untold() {
        KMEMLEAK.alloc_percpu(handle, size);
    }
}

/// A dynamic per-CPU block was given back. Any context but an NMI.
#[inline(always)]
pub fn free_percpu<B>(block: &Retired<B>) {
    if !scripted::is_untold() {
        KMEMLEAK.free_percpu(block.address());
    }
}

/// The block is reported when lost, but not scanned. Any context but an NMI.
#[inline]
pub fn no_scan(start: usize) {
    if !scripted::is_untold() {
        KMEMLEAK.no_scan(start);
    }
}

/// The task that runs this; none in a handler, and before there are tasks. Any context.
#[inline]
pub fn task() -> Option<TaskId> {
    if in_interrupt() {
        return None;
    }
    scheduler::with_current(task::Task::id)
}

/// Takes the boot parameters that are the detector's, and the one beside them that is the kernel's own.
pub fn init() {
    for word in cmdline::words().filter(|word| word.starts_with("kmemleak")) {
        // As the detector's: a switch without a value is switched on.
        let taken = match word.split_once('=').unwrap_or((word, "on")) {
            ("kmemleak.wipe", "on") => {
                mm::set_wipe(mm::Wipe::OnFree);
                Ok(())
            }
            ("kmemleak.wipe", "off") => {
                mm::set_wipe(mm::Wipe::Never);
                Ok(())
            }
            ("kmemleak.wipe", _) => Err(ParameterError::Value),
            _ => KMEMLEAK.boot_parameter(word),
        };
        match taken {
            Ok(()) => {}
            // The detector ends with the list of those that it knows.
            Err(error @ ParameterError::Unknown) => {
                crate::println!("{word}: {error}, kmemleak.wipe=on|off");
            }
            Err(error) => crate::println!("{word}: {error}"),
        }
    }
}

/// Starts the task that looks for leaks in the background and prints the detector's warnings.
pub fn start_background() {
    let started = task::spawn("kmemleak", Priority::Low, || {
        loop {
            let us = background_step();
            // The frames in which it waits are not to hold what it has worked with.
            task::clear_dead_stack();
            task::sleep_us(us);
        }
    });
    if let Err(error) = started {
        crate::println!("kmemleak: no background scan: {error}");
    }
}

/// Scans if it is time to, prints what there is to print, and tells how long to wait.
#[inline(never)]
fn background_step() -> u64 {
    // Line by line: a report has no bounds, and memory has.
    let mut out = console::Announcement::new();
    let next = KMEMLEAK.background_step(&mut out);
    if let Some(_free) = WARNINGS.try_lock() {
        KMEMLEAK.drain_warnings(&mut out);
    }
    // What the console does not take is lost anyway.
    let _ = symbols::tell_missing(&mut out);
    drop(out);
    match next {
        NextStep::Wait { us } => us.min(WARNINGS_EVERY_US),
        NextStep::Stopped => WARNINGS_EVERY_US,
    }
}

/// Who prints the detector's warnings.
static WARNINGS: Mutex<()> = Mutex::new(());

/// Leaves the detector's warnings to the caller for as long as it holds this. Task context.
pub fn hold_warnings() -> MutexGuard<'static, ()> {
    WARNINGS.lock()
}

/// How often the detector's warnings are looked for.
const WARNINGS_EVERY_US: u64 = 1_000_000;

/// Pages of metadata that the detector holds now.
static METADATA_PAGES: AtomicU64 = AtomicU64::new(0);

/// Bytes of metadata that the detector holds now, its bootstrap pool not counted.
pub fn metadata_bytes() -> u64 {
    METADATA_PAGES.load(Ordering::Relaxed) * METADATA_PAGE as u64
}

/// The task that scans, and where its stack was when it began: what it puts there from then on is no root.
static SCANNER: AtomicU32 = AtomicU32::new(NO_TASK);
static SCANNER_STACK: AtomicUsize = AtomicUsize::new(0);
const NO_TASK: u32 = u32::MAX;

/// This kernel.
#[derive(Debug)]
pub struct KernelPlatform;

// SAFETY: the sections, areas and descriptors are mapped for good, and the live part of a stack for as
// long as its task lives, which in a stopped world it does; what can be read is looked up, and stays mapped until its free
// has been told; metadata comes from the buddy allocator a page at a time; interrupts off keep handlers and the
// scheduler away; a CPU joins a stopped world where it is in no hook, with its number as the index.
unsafe impl Platform for KernelPlatform {
    fn now_us(&self) -> u64 {
        scripted::clock_us().unwrap_or_else(time::now_us)
    }

    fn irq_save(&self) -> IrqState {
        IrqState(match interrupts::disable() {
            InterruptFlag::Enabled => 1,
            InterruptFlag::Disabled => 0,
        })
    }

    fn irq_restore(&self, state: IrqState) {
        if state.0 != 0 {
            interrupts::enable();
        }
    }

    fn next_root(&self, cursor: &mut RootCursor) -> Option<Root> {
        next_root(cursor)
    }

    #[inline]
    fn context(&self) -> Context {
        let task = scheduler::with_current(task::Task::id).unwrap_or_default();
        let level = if in_interrupt() {
            Level::Interrupt
        } else {
            Level::Task
        };
        Context {
            task,
            cpu: percpu::cpu_id(),
            level,
        }
    }

    fn comm(&self) -> Comm {
        scheduler::with_current(task::Task::comm).unwrap_or(Comm::new("boot"))
    }

    #[inline]
    fn cpu(&self) -> u32 {
        percpu::cpu_id()
    }

    #[inline(always)]
    fn stack_walk(&self) -> Option<StackWalk> {
        if scripted::call_site().is_some() {
            return None;
        }
        let frame_pointer = backtrace::frame_pointer();
        let hooks = memory::hooks();
        Some(StackWalk {
            frame_pointer,
            // Before there are tasks, the page that the frame is in.
            stack: scheduler::with_current(task::Task::stack).unwrap_or_else(boot_stack),
            skip: hooks.start..hooks.end,
        })
    }

    /// Of a task that plays with the detector only: all others are walked.
    fn call_stack(&self, frames: &mut [usize; MAX_FRAMES]) -> usize {
        let Some(site) = scripted::call_site() else {
            return 0;
        };
        frames[0] = site;
        1
    }

    fn metadata_alloc(&self) -> Option<NonNull<u8>> {
        if scripted::metadata_is_refused() {
            return None;
        }
        let page = buddy::alloc(0, Tracking::Untracked)?;
        METADATA_PAGES.fetch_add(1, Ordering::Relaxed);
        Some(page)
    }

    unsafe fn metadata_free(&self, page: NonNull<u8>) {
        METADATA_PAGES.fetch_sub(1, Ordering::Relaxed);
        buddy::free(page, 0, Tracking::Untracked);
    }

    fn stop_world(&self, work: &(dyn Fn(StoppedCpu) + Sync)) -> Result<(), StopError> {
        stop::stop_world(&|cpu| {
            work(cpu);
            if !cpu.initiator {
                // A scan beside whatever runs reads the dead part of a running task's stack, too.
                task::clear_dead_stack();
            }
        })
    }

    fn scan_apart(&self, scan: &mut dyn FnMut()) {
        let task = scheduler::with_current(task::Task::id).unwrap_or(NO_TASK);
        if task != NO_TASK && SCANNER.load(Ordering::Relaxed) == task {
            // From further up on already.
            return scan();
        }
        context::with_registers_pushed(&mut |stack_pointer| {
            SCANNER_STACK.store(stack_pointer, Ordering::Relaxed);
            SCANNER.store(task, Ordering::Release);
            scan();
            SCANNER.store(NO_TASK, Ordering::Release);
        });
    }

    fn relax(&self) -> ControlFlow<()> {
        task::yield_now();
        ControlFlow::Continue(())
    }

    /// The kernel's half: the lower one is for user space.
    #[inline(always)]
    fn block_addresses(&self) -> RangeInclusive<usize> {
        const UPPER_HALF: usize = !0 << 47;
        UPPER_HALF..=usize::MAX
    }

    fn cpus(&self) -> u32 {
        mm::percpu::cpus()
    }

    fn percpu_copy(&self, handle: usize, cpu: u32) -> usize {
        mm::percpu::percpu_copy(handle, cpu)
    }

    fn symbol(&self, address: usize, out: &mut dyn Write) -> fmt::Result {
        scripted::with_label(address, |label| out.write_str(label))
            .unwrap_or_else(|| write!(out, "{}", symbols::of_return(address)))
    }

    fn functions(&self, address: usize, out: &mut dyn Write) -> fmt::Result {
        scripted::with_label(address, |label| out.write_str(label))
            .unwrap_or_else(|| write!(out, "{}", symbols::functions_of_return(address)))
    }

    fn name_root(&self, root: Root, address: usize, out: &mut dyn Write) -> fmt::Result {
        names::name_root(root, address, out)
    }

    fn readable(&self, start: usize, len: usize) -> bool {
        vmalloc::readable(start, len)
    }

    /// Stacks are vmalloc blocks, which are unmapped when they are freed.
    fn stays_readable(&self, start: usize, len: usize) -> bool {
        vmalloc::is_permanent(start, len)
    }
}

/// Before there are tasks: the page that the stack pointer is in.
fn boot_stack() -> core::ops::Range<usize> {
    let page = backtrace::stack_pointer() & !0xfff;
    page..page + 0x1000
}

/// The stages of the walk over the roots.
mod stage {
    pub const DATA: usize = 0;
    pub const BSS: usize = 1;
    pub const PERCPU: usize = 2;
    pub const FRAMES: usize = 3;
    pub const STACKS: usize = 4;
}

fn next_root(cursor: &mut RootCursor) -> Option<Root> {
    loop {
        let root = match cursor.stage {
            stage::DATA => section(cursor, memory::data()),
            stage::BSS => section(cursor, memory::bss()),
            stage::PERCPU => static_percpu(cursor),
            stage::FRAMES => frames(cursor),
            stage::STACKS => stack(cursor),
            _ => return None,
        };
        match root {
            Some(root) => return Some(root),
            None => {
                *cursor = RootCursor {
                    stage: cursor.stage + 1,
                    index: 0,
                }
            }
        }
    }
}

fn section(cursor: &mut RootCursor, section: memory::Section) -> Option<Root> {
    if cursor.index != 0 {
        return None;
    }
    cursor.index = 1;
    Some(Root {
        kind: RootKind::Section,
        start: section.start,
        len: section.end - section.start,
    })
}

fn static_percpu(cursor: &mut RootCursor) -> Option<Root> {
    let cpu = cursor.index as u32;
    let start = percpu::area(cpu)?;
    cursor.index += 1;
    Some(Root {
        kind: RootKind::PerCpu(cpu),
        start,
        len: percpu::area_len(),
    })
}

fn frames(cursor: &mut RootCursor) -> Option<Root> {
    let run = frame::next_in_use(cursor.index)?;
    cursor.index = run.first + run.count;
    let kind = RootKind::Frames(run.first as u64);
    Some(Root {
        kind,
        start: run.start,
        len: run.len,
    })
}

fn stack(cursor: &mut RootCursor) -> Option<Root> {
    loop {
        let (id, live) =
            scheduler::find_task(cursor.index as u32, |task| (task.id(), live_stack(task)))?;
        cursor.index = id as usize + 1;
        if let Some(live) = live {
            return Some(Root {
                kind: RootKind::Stack(id),
                start: live.start,
                len: live.len(),
            });
        }
    }
}

/// The part of a task's stack that is in use; none of one that has ended, or that plays with the detector.
fn live_stack(task: &task::Task) -> Option<core::ops::Range<usize>> {
    let stack = task.stack();
    if scripted::is_player(task.id()) {
        return None;
    }
    let pointer = match task.state() {
        State::Dead => return None,
        // Whether the world is stopped or not: it has passed through addresses of all objects since.
        State::Running if task.id() == SCANNER.load(Ordering::Acquire) => {
            SCANNER_STACK.load(Ordering::Relaxed)
        }
        State::Running if stop::is_stopped() => stop::stack_pointer(task.cpu()),
        // While the world goes on nobody knows how far down it is.
        State::Running => stack.start,
        State::Ready | State::Blocked => task.stack_pointer(),
    };
    Some(pointer.max(stack.start)..stack.end)
}
