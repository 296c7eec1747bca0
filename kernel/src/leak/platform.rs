//! The kernel as the detector sees it: where the roots are and what words in them are called, who runs, how the world is
//! stopped, where metadata comes from.
//!
//! # Locks
//!
//! The detector takes its locks in the hooks; under them it asks for metadata, so the buddy allocator's lock nests inside the
//! detector's.

use core::fmt::{self, Write};
use core::ops::{ControlFlow, Range, RangeInclusive};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use kmemleak::{
    Comm, Context, ImageLost, IrqState, Level, MAX_FRAMES, METADATA_PAGE, Platform, Progress, Root,
    RootCursor, StackWalk, StopError, StoppedCpu, TaskState,
};

use super::hooks::KernelPlatform;
use super::{freeze, names, player, roots, tasks, window};
use crate::arch::{backtrace, memory, percpu};
use crate::dev::time;
use crate::foreground::{self, StopsWorld};
use crate::mm::buddy::{self, Tracking};
use crate::mm::slab;
use crate::mm::{self, vmalloc};
use crate::sync::in_interrupt;
use crate::task::{self, scheduler};
use crate::{scripted, stop, symbols};

/// Pages of metadata that the detector holds now.
static METADATA_PAGES: AtomicU64 = AtomicU64::new(0);

/// Bytes of metadata that the detector holds now, its bootstrap pool not counted.
pub fn metadata_bytes() -> u64 {
    METADATA_PAGES.load(Ordering::Relaxed) * METADATA_PAGE as u64
}

// SAFETY: the sections, areas and descriptors are mapped permanently, and the live part of a stack for as
// long as its task lives, and no task ends in a stopped world; `readable` looks up what is mapped, which stays so until its
// free has been told; metadata comes from the buddy allocator a page at a time; interrupts off keep handlers and the
// scheduler away; a CPU joins a stopped world where it is in no hook, with its number as the index.
unsafe impl Platform for KernelPlatform {
    fn now_us(&self) -> u64 {
        player::clock_us().unwrap_or_else(time::now_us)
    }

    #[inline(always)]
    fn irq_save(&self) -> IrqState {
        window::off()
    }

    #[inline(always)]
    fn irq_restore(&self, state: IrqState) {
        window::on(state);
    }

    fn next_root(&self, cursor: &mut RootCursor) -> Option<Root> {
        roots::next_root(cursor)
    }

    fn next_task(&self, cursor: &mut RootCursor) -> Option<TaskState> {
        tasks::next_task(cursor)
    }

    fn next_task_list(&self, cursor: &mut RootCursor) -> Option<Range<usize>> {
        tasks::next_task_list(cursor)
    }

    fn is_waiting_machinery(&self, function: &str) -> bool {
        tasks::is_waiting_machinery(function)
    }

    #[inline]
    fn context(&self) -> Context {
        let level = if in_interrupt() {
            Level::Interrupt
        } else {
            Level::Task
        };
        Context {
            task: percpu::task_or_zero(),
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
        if player::call_site().is_some() {
            return None;
        }
        let hooks = memory::hooks();
        Some(StackWalk {
            // Callbacks are called from hooks, and nearly always that frame is the only one to be left out.
            frame_pointer: backtrace::frame_pointer_outside(hooks),
            // Before there are tasks, the page that the stack pointer is in.
            stack: scheduler::with_current(task::Task::stack).unwrap_or_else(boot_stack),
            skip: hooks.start..hooks.end,
        })
    }

    /// Only the task that plays with the detector has its call stack from here: `stack_walk` serves all others.
    fn call_stack(&self, frames: &mut [usize; MAX_FRAMES]) -> usize {
        let Some(site) = player::call_site() else {
            return 0;
        };
        frames[0] = site;
        1
    }

    fn slab_stride(&self, start: usize) -> Option<usize> {
        slab::cache_of(start).map(|(_, stride)| stride)
    }

    fn metadata_alloc(&self) -> Option<NonNull<u8>> {
        if player::metadata_is_refused() {
            return None;
        }
        let page = buddy::alloc(0, Tracking::Untracked)?;
        METADATA_PAGES.fetch_add(1, Ordering::Relaxed);
        mm::frozen::note_metadata(page.addr().get());
        Some(page)
    }

    unsafe fn metadata_free(&self, page: NonNull<u8>) {
        METADATA_PAGES.fetch_sub(1, Ordering::Relaxed);
        buddy::free(page, 0, Tracking::Untracked);
    }

    fn stop_world(&self, work: &(dyn Fn(StoppedCpu) + Sync)) -> Result<(), StopError> {
        let _stops = StopsWorld::begin();
        stop::stop_world(&|cpu| {
            work(cpu);
            if !cpu.initiator {
                // A later scan, without stopping the world, reads the dead part of a running task's stack, too.
                task::clear_dead_stack();
            }
        })
    }

    fn freeze(&self, at_stop: &(dyn Fn(StoppedCpu) + Sync)) -> Result<u64, StopError> {
        freeze::freeze(at_stop)
    }

    fn thaw(&self) {
        freeze::thaw();
    }

    unsafe fn read_frozen(&self, address: usize, words: &mut [usize]) -> Result<(), ImageLost> {
        // SAFETY: the caller's promise: a block whose free has not returned, and that is mapped.
        unsafe { mm::frozen::read(address, words) }.map_err(|mm::frozen::Lost| ImageLost)
    }

    fn on_unscanned_stack(&self, scan: &mut dyn FnMut()) {
        roots::on_unscanned_stack(scan);
    }

    fn relax(&self) -> ControlFlow<()> {
        task::yield_now();
        match foreground::is_at_work() {
            true => foreground::go_on(),
            false => ControlFlow::Continue(()),
        }
    }

    fn checkpoint(&self, progress: Progress) -> ControlFlow<()> {
        foreground::checkpoint(&Checked(progress))
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
            .unwrap_or_else(|| write!(out, "{}", symbols::frame_of_return(address)))
    }

    fn functions(&self, address: usize, out: &mut dyn Write) -> fmt::Result {
        scripted::with_label(address, |label| out.write_str(label))
            .unwrap_or_else(|| write!(out, "{}", symbols::functions_of_return(address)))
    }

    fn instances(&self, address: usize, out: &mut dyn Write) -> fmt::Result {
        scripted::with_label(address, |label| out.write_str(label))
            .unwrap_or_else(|| write!(out, "{}", symbols::instances_of_return(address)))
    }

    fn name_root(&self, root: Root, address: usize, out: &mut dyn Write) -> fmt::Result {
        names::name_root(root, address, out)
    }

    fn readable(&self, start: usize, len: usize) -> bool {
        vmalloc::readable(start, len)
    }

    /// False for stacks: they are vmalloc blocks, which are unmapped when they are freed.
    fn stays_readable(&self, start: usize, len: usize) -> bool {
        vmalloc::is_permanent(start, len)
    }
}

/// How far a check has come, in words.
struct Checked(Progress);

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let objects = self.0.objects;
        match self.0.of {
            Some(of @ 1..) => write!(
                f,
                "checking: {} % of {of} objects",
                100 * objects.min(of) / of
            ),
            _ => write!(f, "checking: {objects} objects"),
        }
    }
}

/// The stack before there are tasks: the page that the stack pointer is in.
fn boot_stack() -> Range<usize> {
    let page = backtrace::stack_pointer() & !0xfff;
    page..page + 0x1000
}
