//! What can be set at run time.
//!
//! # Locks
//!
//! None: each setting is one word, and orders nothing (Relaxed). Any context.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Something that is on or off.
#[derive(Debug)]
pub(crate) struct Switch(AtomicBool);

impl Switch {
    const fn off() -> Self {
        Self(AtomicBool::new(false))
    }

    #[inline(always)]
    pub(crate) fn is_on(&self) -> bool {
        self.0.load(Relaxed)
    }

    pub(crate) fn set(&self, on: bool) {
        self.0.store(on, Relaxed);
    }
}

/// A time or a span of time, in microseconds of the detector's clock.
#[derive(Debug)]
pub(crate) struct Microseconds(AtomicU64);

impl Microseconds {
    const fn new(us: u64) -> Self {
        Self(AtomicU64::new(us))
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(crate) fn set(&self, us: u64) {
        self.0.store(us, Relaxed);
    }
}

/// All settings.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Task stacks are not roots.
    pub(crate) skip_stacks: Switch,
    /// Nothing is scanned in the background.
    pub(crate) background_off: Switch,
    /// The background scan writes whole reports to the log.
    pub(crate) verbose: Switch,
    /// The call stack of each free is kept.
    pub(crate) free_stacks: Switch,
    /// How long the background task waits between two scans.
    pub(crate) scan_every: Microseconds,
    /// When it scans next.
    pub(crate) next_scan: Microseconds,
    /// The least age of an object that the background scan reports.
    pub(crate) min_age: Microseconds,
}

impl Settings {
    /// The settings of a detector whose clock begins at `first_us`: the background task scans after a minute, and every ten
    /// minutes from then on; objects younger than five seconds are not reported.
    pub(crate) const fn new(first_us: u64) -> Self {
        Self {
            skip_stacks: Switch::off(),
            background_off: Switch::off(),
            verbose: Switch::off(),
            free_stacks: Switch::off(),
            scan_every: Microseconds::new(600_000_000),
            next_scan: Microseconds::new(first_us + 60_000_000),
            min_age: Microseconds::new(5_000_000),
        }
    }
}
