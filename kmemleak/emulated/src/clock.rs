//! The machine's time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Whose time a machine keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// It stands still until [`Machine::advance_us`](crate::Machine::advance_us) moves it.
    Manual,
    /// The host's, from the moment the machine was built; what it is advanced by comes on top.
    Real,
    /// The time by the processor's cycle counter, as a kernel reads it: a handful of instructions, for
    /// measurements. Where there is no counter it is [`Real`](Self::Real).
    Counter,
}

enum Source {
    Manual,
    Real(Instant),
    Counter {
        began: u64,
        /// Microseconds of one cycle, times 2^32.
        scale: u64,
    },
}

pub(crate) struct Time {
    source: Source,
    advanced_us: AtomicU64,
}

impl Time {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            source: match clock {
                Clock::Manual => Source::Manual,
                Clock::Real => Source::Real(Instant::now()),
                Clock::Counter => calibrated(),
            },
            advanced_us: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(crate) fn now_us(&self) -> u64 {
        let passed_us = match self.source {
            Source::Manual => 0,
            Source::Real(began) => began.elapsed().as_micros() as u64,
            Source::Counter { began, scale } => {
                let passed = u128::from(cycles().saturating_sub(began));
                ((passed * u128::from(scale)) >> 32) as u64
            }
        };
        passed_us.saturating_add(self.advanced_us.load(Ordering::Relaxed))
    }

    pub(crate) fn advance_us(&self, us: u64) {
        // Saturating: whatever a test asks for, the clock does not go back.
        let advance = |advanced_us: u64| Some(advanced_us.saturating_add(us));
        let _ = self
            .advanced_us
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, advance);
    }
}

/// How long the counter is watched to learn its pace.
const CALIBRATION: Duration = Duration::from_millis(2);

/// The counter, with its pace by the host's clock.
fn calibrated() -> Source {
    let (instant, began) = (Instant::now(), cycles());
    while instant.elapsed() < CALIBRATION {
        std::hint::spin_loop();
    }
    let (passed, us) = (
        cycles().saturating_sub(began),
        instant.elapsed().as_micros(),
    );
    if passed == 0 {
        return Source::Real(instant);
    }
    let scale = ((us << 32) / u128::from(passed)) as u64;
    Source::Counter { began, scale }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
fn cycles() -> u64 {
    // SAFETY: reads a counter that every x86_64 processor has.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// There is no counter: it stands at 0.
#[cfg(any(not(target_arch = "x86_64"), miri))]
fn cycles() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_stands_or_goes_and_never_goes_back() {
        for clock in [Clock::Manual, Clock::Real, Clock::Counter] {
            let time = Time::new(clock);
            let before = time.now_us();
            time.advance_us(1000);
            let after = time.now_us();
            assert!(after >= before + 1000, "{clock:?}");
            assert!(clock != Clock::Manual || (before, after) == (0, 1000));
        }
    }
}
