//! The emulated machine, with what a benchmark needs otherwise.
//!
//! - *Roots*: one static array, and nothing else. All programs that are measured on the workload have that.
//! - *The time* is cheap, see [`clock`](crate::clock).
//! - *Metadata* comes page by page from large pieces, as from a kernel's page allocator: one after the other, not
//!   strewn over the host's heap.
//! - *All memory is readable*: no list of unreadable ranges is searched.
//!
//! CPUs, stops and call stacks are the machine's own.

use std::alloc::{Layout, alloc, handle_alloc_error};
use std::ops::ControlFlow;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use kmemleak::{
    Comm, Context, IrqState, MAX_FRAMES, METADATA_PAGE, Platform, Root, RootCursor, RootKind,
    StackWalk, StopError, StoppedCpu,
};
use kmemleak_emulated::{Emulated, Machine, frame_pointer, known_stack, look_for_stack};

use crate::clock::Clock;
use crate::workload;

/// The roots.
pub static ROOTS: [AtomicUsize; workload::ROOTS] = [const { AtomicUsize::new(0) }; workload::ROOTS];

/// A machine as it is measured.
#[derive(Debug)]
pub struct Measured {
    machine: Emulated,
    clock: Clock,
    pages: Pages,
    /// Whether no more pages are given.
    refuses: AtomicBool,
    stride: Option<usize>,
}

impl Measured {
    /// This machine.
    pub fn of(machine: &Arc<Machine>) -> Self {
        look_for_stack();
        Self {
            machine: Emulated::of(machine),
            clock: Clock::new(),
            pages: Pages(Mutex::new(Vec::new())),
            refuses: AtomicBool::new(false),
            stride: None,
        }
    }

    /// From now on there is no more metadata.
    pub fn refuse_metadata(&self) {
        self.refuses.store(true, Ordering::Relaxed);
    }

    /// This machine, with all blocks so many bytes apart.
    pub fn with_stride(mut self, bytes: usize) -> Self {
        self.stride = Some(bytes);
        self
    }
}

// SAFETY: the root is a static; metadata pages are nobody else's until they come back; for the rest the machine
// answers.
unsafe impl Platform for Measured {
    #[inline]
    fn now_us(&self) -> u64 {
        self.clock.now_us()
    }

    #[inline]
    fn irq_save(&self) -> IrqState {
        self.machine.irq_save()
    }

    /// Blocks are the machine's, which keeps its memory.
    #[inline]
    fn readable(&self, _start: usize, _len: usize) -> bool {
        true
    }

    #[inline]
    fn irq_restore(&self, state: IrqState) {
        self.machine.irq_restore(state);
    }

    fn next_root(&self, cursor: &mut RootCursor) -> Option<Root> {
        let first = cursor.index == 0;
        cursor.index = 1;
        first.then(|| Root {
            kind: RootKind::Section,
            start: (&raw const ROOTS).expose_provenance(),
            len: size_of_val(&ROOTS),
        })
    }

    #[inline]
    fn context(&self) -> Context {
        self.machine.context()
    }

    fn comm(&self) -> Comm {
        self.machine.comm()
    }

    #[inline]
    fn cpu(&self) -> u32 {
        self.machine.cpu()
    }

    /// As a kernel knows it: from two words. Threads that record [look for it](look_for_stack) first.
    #[inline(always)]
    fn stack_walk(&self) -> Option<StackWalk> {
        Some(StackWalk {
            frame_pointer: frame_pointer(),
            stack: known_stack(),
            skip: 0..0,
        })
    }

    fn call_stack(&self, frames: &mut [usize; MAX_FRAMES]) -> usize {
        self.machine.call_stack(frames)
    }

    #[inline]
    fn slab_stride(&self, _start: usize) -> Option<usize> {
        self.stride
    }

    fn metadata_alloc(&self) -> Option<NonNull<u8>> {
        match self.refuses.load(Ordering::Relaxed) {
            true => None,
            false => self.pages.take(),
        }
    }

    unsafe fn metadata_free(&self, page: NonNull<u8>) {
        self.pages.list().push(page.expose_provenance().get());
    }

    fn stop_world(&self, work: &(dyn Fn(StoppedCpu) + Sync)) -> Result<(), StopError> {
        self.machine.stop_world(&|cpu| in_the_stop(work, cpu))
    }

    fn relax(&self) -> ControlFlow<()> {
        self.machine.relax()
    }

    fn spin(&self) {
        self.machine.spin();
    }

    fn cpus(&self) -> u32 {
        self.machine.cpus()
    }

    fn percpu_copy(&self, handle: usize, cpu: u32) -> usize {
        self.machine.percpu_copy(handle, cpu)
    }
}

/// For valgrind to count in.
#[inline(never)]
fn in_the_stop(work: &(dyn Fn(StoppedCpu) + Sync), cpu: StoppedCpu) {
    work(cpu);
}

/// Addresses of free pages of metadata. Their memory is the detector's until the process ends.
#[derive(Debug)]
struct Pages(Mutex<Vec<usize>>);

/// Bytes that are taken from the host at once, aligned to as many.
const PIECE: usize = 2 * 1024 * 1024;

impl Pages {
    fn list(&self) -> MutexGuard<'_, Vec<usize>> {
        self.0.lock().expect("nobody panics under it")
    }

    fn take(&self) -> Option<NonNull<u8>> {
        let mut free = self.list();
        if free.is_empty() {
            let layout = Layout::from_size_align(PIECE, PIECE).ok()?;
            // SAFETY: the size is not zero.
            let piece = unsafe { alloc(layout) };
            if piece.is_null() {
                handle_alloc_error(layout);
            }
            let start = piece.expose_provenance();
            let pages = (0..PIECE).step_by(METADATA_PAGE).rev();
            free.extend(pages.map(|offset| start + offset));
        }
        let page = free.pop()?;
        NonNull::new(std::ptr::with_exposed_provenance_mut(page))
    }
}
