//! The machine's time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Whose time a machine keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// It stands still until [`Machine::advance_us`](crate::Machine::advance_us) moves it.
    Manual,
    /// The host's, from the moment the machine was built; what it is advanced by comes on top.
    Real,
}

pub(crate) struct Time {
    began: Option<Instant>,
    advanced_us: AtomicU64,
}

impl Time {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            began: match clock {
                Clock::Manual => None,
                Clock::Real => Some(Instant::now()),
            },
            advanced_us: AtomicU64::new(0),
        }
    }

    pub(crate) fn now_us(&self) -> u64 {
        let passed_us = self
            .began
            .map_or(0, |began| began.elapsed().as_micros() as u64);
        passed_us + self.advanced_us.load(Ordering::Relaxed)
    }

    pub(crate) fn advance_us(&self, us: u64) {
        self.advanced_us.fetch_add(us, Ordering::Relaxed);
    }
}
