//! Threads: their numbers, where their stacks lie, and how the signal is put off.
//!
//! A thread must not stop inside the detector, where it may hold a lock. To block the signal would take two system calls for each
//! callback. Instead a callback counts, in its thread. A signal that comes meanwhile is noted, and the thread sends it to itself
//! when the count is back at zero. (A call would not do: it is the signal's frame that has the registers.)

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr::null_mut;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, compiler_fence};

use kmemleak::METADATA_PAGE;

/// Threads at a time. Of a CPU's number the detector keeps twelve bits.
pub(super) const THREADS: usize = 1024;

/// The signal that stops a thread.
pub(super) const SIGNAL: c_int = libc::SIGUSR1;

/// What a thread knows of itself. Its handler of the signal looks at it, too.
pub(super) struct Thread {
    /// Its number in Linux; zero if nothing is known yet.
    pub(super) id: AtomicU32,
    /// Its number as a CPU. Only threads that have a thousand others between them share one.
    pub(super) cpu: AtomicU32,
    /// Where its stack lies, if that is known.
    stack_start: AtomicUsize,
    stack_end: AtomicUsize,
    /// How often the signal was put off, and whether it came meanwhile.
    depth: AtomicUsize,
    came: AtomicBool,
}

thread_local! {
    static OWN: Thread = const {
        Thread {
            id: AtomicU32::new(0),
            cpu: AtomicU32::new(0),
            stack_start: AtomicUsize::new(0),
            stack_end: AtomicUsize::new(0),
            depth: AtomicUsize::new(0),
            came: AtomicBool::new(false),
        }
    };
}

impl Thread {
    /// Does something with what the running thread knows of itself.
    #[inline]
    pub(super) fn with_own<R>(look: impl FnOnce(&Self) -> R) -> R {
        OWN.with(|thread| {
            if thread.id.load(Relaxed) == 0 {
                thread.introduce();
            }
            look(thread)
        })
    }

    #[cold]
    fn introduce(&self) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let stack = own_stack().unwrap_or_default();
        self.cpu
            .store(NEXT.fetch_add(1, Relaxed) % THREADS as u32, Relaxed);
        self.stack_start.store(stack.start, Relaxed);
        self.stack_end.store(stack.end, Relaxed);
        self.id.store(own_id(), Relaxed);
    }

    /// Where its stack lies.
    pub(super) fn stack(&self) -> Range<usize> {
        self.stack_start.load(Relaxed)..self.stack_end.load(Relaxed)
    }

    /// What its handler of the signal needs to know of it: its number, and where its stack ends. It may be so young that it has
    /// not been introduced, which a handler can't do. It is not the first one then.
    pub(super) fn of_handler<R>(look: impl FnOnce(&Self, u32, usize) -> R) -> R {
        OWN.with(|thread| match thread.id.load(Relaxed) {
            0 => look(thread, own_id(), (descriptor() | (METADATA_PAGE - 1)) + 1),
            id => look(thread, id, thread.stack_end.load(Relaxed)),
        })
    }

    /// From now on the thread does not stop. Returns how often that was said before.
    #[inline]
    pub(super) fn put_signal_off(&self) -> usize {
        let before = self.depth.load(Relaxed);
        self.depth.store(before + 1, Relaxed);
        // For this thread's handler: what follows comes after it.
        compiler_fence(SeqCst);
        before
    }

    /// Whether the signal's handler may stop the thread now. If not, the signal comes again when it may.
    pub(super) fn may_stop(&self) -> bool {
        let may = self.depth.load(Relaxed) == 0;
        self.came.store(!may, Relaxed);
        may
    }

    /// Undoes [`put_signal_off`](Self::put_signal_off), which returned `before`.
    #[inline]
    pub(super) fn put_signal_back(&self, before: usize) {
        compiler_fence(SeqCst);
        self.depth.store(before, Relaxed);
        compiler_fence(SeqCst);
        if before == 0 && self.came.load(Relaxed) {
            self.came.store(false, Relaxed);
            // SAFETY: the signal has a handler, since it came before.
            unsafe { libc::raise(SIGNAL) };
        }
    }
}

fn own_id() -> u32 {
    // SAFETY: it only returns the number.
    unsafe { libc::gettid() }.cast_unsigned()
}

/// Where the running thread's stack lies: for threads but the first one with its variables and descriptor, at its end.
fn own_stack() -> Option<Range<usize>> {
    let mut attributes = MaybeUninit::uninit();
    let (mut start, mut len) = (null_mut(), 0);
    // SAFETY: the running thread.
    let thread = unsafe { libc::pthread_self() };
    // SAFETY: it writes to the variable.
    let got = unsafe { libc::pthread_getattr_np(thread, attributes.as_mut_ptr()) };
    if got != 0 {
        return None;
    }
    // SAFETY: the attributes were written; it writes to the variables.
    unsafe { libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut start, &raw mut len) };
    // SAFETY: the attributes were written, and are not used any more.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    let start = start.expose_provenance();
    Some(start..start + len)
}

/// Where the running thread's descriptor is.
pub(super) fn descriptor() -> usize {
    // SAFETY: it only returns the address.
    unsafe { libc::pthread_self() as usize }
}
