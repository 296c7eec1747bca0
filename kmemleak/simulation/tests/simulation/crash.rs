//! Names the seeds that run when the process dies of a signal: a crash tells of nothing else.
//!
//! What the signal handler reads are atomics, and what it calls may be called in one: `write` and `raise`.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Each thread's seed, plus one; zero where none runs.
static RUNNING: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

/// Signals that end a process: those of crashes, and those that end one that hangs.
const DEADLY: [libc::c_int; 7] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGABRT,
    libc::SIGTERM,
    libc::SIGINT,
];

/// From here on a deadly signal is told of.
pub fn watch() {
    for signal in DEADLY {
        // SAFETY: all zeros is a value of it: no flags, no blocked signals.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = tell as extern "C" fn(libc::c_int) as usize;
        // On the signal stack, for a stack may be what has overflowed; once, so that the next one is deadly.
        action.sa_flags = libc::SA_ONSTACK | libc::SA_RESETHAND;
        // SAFETY: the handler does only what a handler may.
        let failed = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
        assert_eq!(failed, 0, "signal {signal} has no handler");
    }
}

extern "C" fn tell(signal: libc::c_int) {
    for seed in RUNNING.iter().map(|slot| slot.load(SeqCst)) {
        if let Some(seed) = seed.checked_sub(1) {
            write(b"\nthe process is killed while this seed runs: --seed ");
            write_number(seed);
            write(b"\n");
        }
    }
    // SAFETY: the handler is gone, so this ends the process.
    unsafe { libc::raise(signal) };
}

fn write(bytes: &[u8]) {
    // SAFETY: these bytes may be read.
    unsafe { libc::write(2, bytes.as_ptr().cast(), bytes.len()) };
}

fn write_number(mut number: u64) {
    let (mut digits, mut first) = ([0; 20], 20);
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return write(&digits[first..]);
        }
    }
}

/// As long as this lives, a seed runs.
pub struct Running(Option<&'static AtomicU64>);

impl Running {
    pub fn new(seed: u64) -> Self {
        let mut slots = RUNNING.iter();
        let take = |slot: &&AtomicU64| slot.compare_exchange(0, seed + 1, SeqCst, SeqCst).is_ok();
        Self(slots.find(take))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            slot.store(0, SeqCst);
        }
    }
}
