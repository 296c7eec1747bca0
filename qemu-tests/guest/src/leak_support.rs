//! What tests of the leak detector have in common.
//!
//! A test must not keep alive by accident what it expects to be reported: a copy of the address on its stack
//! or in a register is enough. So blocks are made and handled in tasks of their own, which have ended by
//! the time of the check, and the test knows an address only inverted.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicUsize, Ordering};

use kernel::leak::KMEMLEAK;
use kernel::stop;
use kernel::task::{self, Priority};
use kmemleak::{How, NotDone, StopError, StoppedCpu, Summary};

/// An address, kept inverted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Secret(usize);

impl Secret {
    /// Hides an address.
    pub fn hide(address: usize) -> Self {
        Self(!address)
    }

    /// Shows it: only in a task that ends.
    pub fn show(self) -> usize {
        !self.0
    }

    /// What it is kept as: the inverted address.
    pub fn inverted(self) -> usize {
        self.0
    }
}

/// Runs `work` in a task of its own, and returns when that has ended and its stack is gone.
pub fn apart(work: impl FnOnce() + Send + 'static) {
    task::spawn("apart", Priority::Normal, work)
        .expect("memory for a task")
        .join();
}

/// Runs `work` as [`apart`] does, and returns its result, inverted.
pub fn secret_of(work: impl FnOnce() -> usize + Send + 'static) -> Secret {
    static RESULT: AtomicUsize = AtomicUsize::new(0);
    apart(|| RESULT.store(Secret::hide(work()).inverted(), Ordering::Release));
    Secret(RESULT.swap(0, Ordering::AcqRel))
}

/// A block of 64 bytes that nothing points to, but what `store` makes of its address.
pub fn plant(store: impl FnOnce(usize) + Send + 'static) -> Secret {
    secret_of(|| {
        let address = Box::into_raw(Box::new([0x5a_u64; 8])).expose_provenance();
        store(black_box(address));
        address
    })
}

/// Gives back what [`plant`] made.
///
/// # Safety
///
/// It was made by that, and is given back once.
pub unsafe fn uproot(block: Secret) {
    apart(move || {
        let block: *mut [u64; 8] = core::ptr::with_exposed_provenance_mut(block.show());
        // SAFETY: the caller's promise: `plant` made it from a box.
        drop(unsafe { Box::from_raw(block) });
    });
}

/// How often a test tries to stop the world. The kernel gives a stop up when a CPU has not come for a second, and on a busy host, which
/// runs each of the machine's CPUs as a thread, a CPU may come later than that although nothing is wrong.
const STOPS: usize = 30;

/// Stops the world, and tries it again if a CPU came too late.
pub fn stop_world(work: &(dyn Fn(StoppedCpu) + Sync)) {
    let mut last = Ok(());
    for _ in 0..STOPS {
        last = stop::stop_world(work);
        if last.is_ok() {
            return;
        }
        task::yield_now();
    }
    panic!("{STOPS} stops of the world were given up: {last:?}");
}

/// Checks, with the world stopped, and returns what is unreferenced.
pub fn check() -> Vec<Secret> {
    check_as(How::Stopped, || KMEMLEAK.check())
}

/// Checks frozen memory, and returns what is unreferenced.
pub fn check_frozen() -> Vec<Secret> {
    check_as(How::Frozen, || KMEMLEAK.check_frozen())
}

/// Checks, again if a CPU came too late for the stop, and returns what is unreferenced.
fn check_as(how: How, check: fn() -> Result<Summary, NotDone>) -> Vec<Secret> {
    for _ in 0..STOPS {
        task::clear_dead_stack();
        let summary = check().expect("the detector is on");
        if !is_given_up(&summary) {
            assert_eq!(summary.how, how);
            return unreferenced();
        }
    }
    panic!("{STOPS} checks could not stop the world");
}

/// Whether a check was made in passes, since a CPU did not come to a stop.
pub fn is_given_up(summary: &Summary) -> bool {
    let How::Repeated { reason, .. } = summary.how else {
        return false;
    };
    matches!(reason, StopError::Missing(_))
}

/// What the last check has found.
pub fn unreferenced() -> Vec<Secret> {
    let mut found = Vec::with_capacity(256);
    KMEMLEAK
        .for_each_unreferenced(&mut |object| found.push(Secret::hide(object.start)))
        .expect("asked from outside");
    found
}

/// The detector's warnings since the last call. Tests hold the warnings before they bring some about.
pub fn warnings() -> String {
    let mut text = String::new();
    KMEMLEAK.drain_warnings(&mut text);
    text
}
