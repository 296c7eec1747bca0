//! How all other threads are stopped while one checks.
//!
//! The thread that checks gives the stop a number, [`STOP`], and sends [`SIGNAL`] to each thread that has not stopped, until
//! twice in a row it finds none. (A thread may have started another one just before it stopped, too late for the first look.) A
//! thread that gets the signal writes into a [`Slot`] where the live part of its stack is, and waits until the number is gone. A
//! number is used once, so a thread that is late to leave, or to come, is never taken for one that waits now.
//!
//! A thread may stop while it holds a lock of the C library's, `malloc`'s for example. So from the first signal to the end of the
//! stop no code here allocates or calls anything that takes such a lock.
//!
//! A thread that ends blocks all signals, and may then wait for a lock that a stopped thread holds: neither gets on. So a stop
//! that takes long is given up, and tried again once all have run for a while. (In a kernel: no CPU is stopped under a spinning
//! lock.)
//!
//! A thread that always blocks the signal, or runs a handler on a stack of its own, does not stop. Then the check finds suspects.

use std::ffi::{CStr, c_int, c_void};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicUsize};
use std::thread::{sleep, yield_now};
use std::time::{Duration, Instant};

use kmemleak::StopError;

use super::thread::{SIGNAL, THREADS, Thread};

/// How long the threads may take to stop, how often that is tried, and how long they run between.
const PATIENCE: Duration = Duration::from_millis(200);
const TIMES: usize = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// The number of the stop; zero if there is none.
static STOP: AtomicU32 = AtomicU32::new(0);

/// A thread that waits for a stop's end, the stop, and the live part of the thread's stack.
struct Slot {
    thread: AtomicU32,
    stop: AtomicU32,
    start: AtomicUsize,
    end: AtomicUsize,
}

static SLOTS: [Slot; THREADS] = [const {
    Slot {
        thread: AtomicU32::new(0),
        stop: AtomicU32::new(0),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
    }
}; THREADS];

/// Handles the signal from now on.
pub(super) fn handle_signal() {
    // SAFETY: zero is a valid value: no flags, no signals.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = (on_signal as *const ()).expose_provenance();
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    // SAFETY: the handler has the signature that the flags ask for.
    let done = unsafe { libc::sigaction(SIGNAL, &raw const action, std::ptr::null_mut()) };
    assert_eq!(done, 0, "the signal can be handled");
}

/// The handler. `frame` lies on the stack; in it or above it are the registers of the interrupted code.
extern "C" fn on_signal(_: c_int, _: *mut libc::siginfo_t, frame: *mut c_void) {
    let stop = STOP.load(Acquire);
    // SAFETY: that is what Linux passes.
    let other_stack = unsafe { (*frame.cast::<libc::ucontext_t>()).uc_stack.ss_flags };
    if stop == 0 || other_stack & libc::SS_ONSTACK != 0 {
        return;
    }
    Thread::of_handler(|thread, id, stack_end| {
        if thread.may_stop() {
            wait_for_end(stop, id, frame.expose_provenance()..stack_end);
        }
    });
}

/// Waits for the end of the stop. If no slot is free, returns at once, and the thread counts as running.
fn wait_for_end(stop: u32, id: u32, live: Range<usize>) {
    let take = |slot: &&Slot| {
        slot.thread
            .compare_exchange(0, id, Acquire, Relaxed)
            .is_ok()
    };
    let Some(slot) = SLOTS.iter().find(take) else {
        return;
    };
    slot.start.store(live.start, Relaxed);
    slot.end.store(live.end, Relaxed);
    slot.stop.store(stop, Release);
    while STOP.load(Acquire) == stop {
        yield_now();
    }
    slot.stop.store(0, Relaxed);
    slot.thread.store(0, Release);
}

/// The thread with this number in the list of those that may wait, and the live part of its stack: empty if it does not wait now.
pub(super) fn waiting(index: usize) -> Option<(u32, Range<usize>)> {
    let slot = SLOTS.get(index)?;
    let start = slot.start.load(Relaxed);
    let end = match slot.stop.load(Acquire) {
        stop if stop != 0 && stop == STOP.load(Relaxed) => slot.end.load(Relaxed),
        _ => start,
    };
    Some((slot.thread.load(Relaxed), start..end))
}

/// Stops all other threads, works, and lets them go on.
pub(super) fn with_others_stopped(work: impl Fn()) -> Result<(), StopError> {
    let mut stopped = Err(StopError::Unsupported);
    for _ in 0..TIMES {
        let stop = begin_stop()?;
        stopped = stop_others(stop);
        if stopped.is_ok() {
            work();
        }
        STOP.store(0, Release);
        if !matches!(stopped, Err(StopError::Missing(_))) {
            break;
        }
        sleep(PAUSE);
    }
    stopped
}

/// A new stop's number; an error if another thread stops this one.
fn begin_stop() -> Result<u32, StopError> {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let stop = LAST.fetch_add(1, Relaxed) + 1;
    let begun = STOP.compare_exchange(0, stop, Release, Relaxed);
    begun.map(|_| stop).map_err(|_| StopError::Unsupported)
}

fn stop_others(stop: u32) -> Result<(), StopError> {
    let (start, mut looks) = (Instant::now(), 0);
    while looks < 2 {
        match signal_running(stop)? {
            None => looks += 1,
            Some(thread) if start.elapsed() > PATIENCE => return Err(StopError::Missing(thread)),
            Some(_) => {
                looks = 0;
                yield_now();
            }
        }
    }
    Ok(())
}

/// Sends the signal to the other threads that have not stopped, and returns one of them.
fn signal_running(stop: u32) -> Result<Option<u32>, StopError> {
    let (own, process) = (
        Thread::with_own(|own| own.id.load(Relaxed)),
        std::process::id(),
    );
    let mut running = None;
    each_thread(&mut |thread| {
        let waits =
            |slot: &Slot| slot.stop.load(Acquire) == stop && slot.thread.load(Relaxed) == thread;
        if thread != own && !SLOTS.iter().any(waits) {
            running = Some(thread);
            // SAFETY: a signal to a thread of this process, if there still is such a thread.
            unsafe { libc::syscall(libc::SYS_tgkill, process, thread, SIGNAL) };
        }
    })?;
    Ok(running)
}

/// Shows the number of each thread: each is a folder in `/proc`.
fn each_thread(look: &mut dyn FnMut(u32)) -> Result<(), StopError> {
    #[repr(align(8))]
    struct Entries([u8; 4096]);
    // SAFETY: the path is a C string.
    let folder = unsafe {
        libc::open(
            c"/proc/self/task".as_ptr(),
            libc::O_RDONLY | libc::O_CLOEXEC,
        )
    };
    let mut entries = Entries([0; _]);
    let ended = loop {
        let (buffer, size) = (entries.0.as_mut_ptr(), entries.0.len());
        // SAFETY: it writes to the buffer, which has this size.
        let len = unsafe { libc::syscall(libc::SYS_getdents64, folder, buffer, size) };
        if len <= 0 {
            break len;
        }
        // An entry: inode (8 bytes), offset (8), length of the entry (2), type (1), name with a zero at its end.
        let mut left = &entries.0[..len as usize];
        while let Some((head, name)) = left.split_at_checked(19) {
            let name = CStr::from_bytes_until_nul(name).unwrap_or_default();
            if let Some(thread) = name.to_str().ok().and_then(|name| name.parse().ok()) {
                look(thread);
            }
            left = &left[usize::from(u16::from_ne_bytes([head[16], head[17]]))..];
        }
    };
    // SAFETY: it was opened here, or is no file.
    unsafe { libc::close(folder) };
    if ended == 0 {
        Ok(())
    } else {
        Err(StopError::Unsupported)
    }
}
