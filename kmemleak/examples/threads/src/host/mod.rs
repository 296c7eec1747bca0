//! A process of Linux as a kernel: all that a [`Platform`] needs, from the C library and system calls.
//!
//! | a kernel has | here it is |
//! | --- | --- |
//! | CPUs | the threads: each has its own number, and runs nothing else |
//! | interrupts, which are switched off | one signal, which is put off |
//! | the interrupt that stops another CPU | that signal, sent to each thread ([`stop`]) |
//! | registers of a stopped CPU | the frame of the signal, which Linux pushes on the thread's stack |
//! | sections, per-CPU areas, stacks | writable segments, thread-local variables, stacks ([`roots`]) |
//! | an allocator of pages | `mmap` |
//!
//! This is for x86_64 and glibc, whose threads have their thread-local variables and their descriptor at the upper end of their
//! stack.

mod roots;
mod stop;
mod thread;

use std::ffi::CStr;
#[cfg(feature = "names")]
use std::fmt;
use std::ops::{ControlFlow, Range};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;

use kmemleak::{
    Comm, Context, IrqState, Level, METADATA_PAGE, Platform, Root, RootCursor, StopError,
    StoppedCpu,
};

use self::thread::{THREADS, Thread};

#[cfg(not(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64")))]
compile_error!("this host is Linux on x86_64 with glibc");

/// The process. It is for one detector.
#[derive(Debug)]
pub struct Host;

/// Prepares for checks, and has `report` called when the process exits. To be called by the first thread, before others
/// start.
pub fn start(report: extern "C" fn()) {
    stop::handle_signal();
    roots::note_own_variables();
    // SAFETY: the function can be called at any time.
    let done = unsafe { libc::atexit(report) };
    assert_eq!(done, 0, "there is room for a function");
}

// SAFETY: in the order of the trait's list:
// - Roots: segments stay mapped, as no library is unloaded; the first thread's variables stay; stacks stay while their threads
//   wait. (Where the world is not stopped, no stack is named.)
// - Blocks, regions, other places, words: the defaults, which vouch for nothing. All blocks come from a `Tracked`.
// - Metadata: pages that Linux maps for this alone.
// - Interrupts: a thread is a CPU, and the one signal that matters is put off.
// - Stopping: a thread waits only where the signal is not put off, so outside of callbacks; one CPU runs the closure.
// - Stacks: what the C library says; Linux maps the rest of the first thread's stack when it is read.
unsafe impl Platform for Host {
    fn now_us(&self) -> u64 {
        let mut now = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: it writes to the variable.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
        now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
    }

    #[inline]
    fn irq_save(&self) -> IrqState {
        IrqState(Thread::with_own(Thread::put_signal_off))
    }

    #[inline]
    fn irq_restore(&self, IrqState(before): IrqState) {
        Thread::with_own(|thread| thread.put_signal_back(before));
    }

    fn next_root(&self, cursor: &mut RootCursor) -> Option<Root> {
        roots::next(cursor)
    }

    #[inline]
    fn context(&self) -> Context {
        Thread::with_own(|thread| Context {
            task: thread.id.load(Relaxed),
            cpu: thread.cpu.load(Relaxed),
            level: Level::Task,
        })
    }

    fn cpus(&self) -> u32 {
        THREADS as u32
    }

    fn comm(&self) -> Comm {
        let mut name = [0_u8; 16];
        // SAFETY: it writes 16 bytes, the last of which is zero.
        unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
        let name = CStr::from_bytes_until_nul(&name).unwrap_or_default();
        Comm::new(name.to_str().unwrap_or("?"))
    }

    #[inline]
    fn stack_bounds(&self) -> Option<Range<usize>> {
        Some(Thread::with_own(Thread::stack))
    }

    fn metadata_alloc(&self) -> Option<NonNull<u8>> {
        let (anywhere, access) = (std::ptr::null_mut(), libc::PROT_READ | libc::PROT_WRITE);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, where Linux likes it.
        let page = unsafe { libc::mmap(anywhere, METADATA_PAGE, access, flags, -1, 0) };
        NonNull::new(page.cast()).filter(|_| page != libc::MAP_FAILED)
    }

    unsafe fn metadata_free(&self, page: NonNull<u8>) {
        // SAFETY: the caller's promise.
        unsafe { libc::munmap(page.as_ptr().cast(), METADATA_PAGE) };
    }

    fn stop_world(&self, work: &(dyn Fn(StoppedCpu) + Sync)) -> Result<(), StopError> {
        let interrupts = self.irq_save();
        let done = stop::with_others_stopped(|| {
            work(StoppedCpu {
                index: 0,
                of: 1,
                initiator: true,
            });
        });
        self.irq_restore(interrupts);
        done
    }

    fn roots_begin(&self) {
        roots::note_segments();
    }

    fn relax(&self) -> ControlFlow<()> {
        std::thread::yield_now();
        ControlFlow::Continue(())
    }

    fn spin(&self) {
        std::thread::yield_now();
    }

    /// A thread that ends unmaps its stack.
    fn stays_readable(&self, _start: usize, _len: usize) -> bool {
        false
    }

    #[cfg(feature = "names")]
    fn symbol(&self, address: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        crate::names::write(address, out)
    }

    #[cfg(feature = "names")]
    fn functions(&self, address: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        crate::names::write_functions(address, out)
    }
}
