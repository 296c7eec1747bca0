//! A clock that costs a few instructions.
//!
//! Each tracked block is stamped with the time of its birth. A kernel reads its CPU's counter for that and multiplies;
//! asking the host's clock would make the benchmark measure that clock. Where there is no such counter, it is
//! the host's clock after all.

use std::time::{Duration, Instant};

/// How long the counter is compared with the host's clock.
const CALIBRATION: Duration = Duration::from_millis(20);

/// Counts that advance evenly, and what they are in time.
#[derive(Debug)]
pub struct Clock {
    start: u64,
    /// Microseconds of one count, times 2^64.
    us_per_count: u64,
}

impl Clock {
    /// Measures the counter's rate.
    pub fn new() -> Self {
        let (start, began) = (counts(), Instant::now());
        std::thread::sleep(CALIBRATION);
        let (counted, passed) = (counts() - start, began.elapsed());
        let us_per_count =
            (u128::from(passed.as_nanos() as u64) << 64) / (u128::from(counted.max(1)) * 1000);
        Self {
            start,
            // Less than one microsecond a count, whatever the host.
            us_per_count: us_per_count.min(u128::from(u64::MAX)) as u64,
        }
    }

    /// Microseconds since the clock was made.
    #[inline]
    pub fn now_us(&self) -> u64 {
        self.us(counts().wrapping_sub(self.start))
    }

    #[inline]
    fn us(&self, counts: u64) -> u64 {
        ((u128::from(counts) * u128::from(self.us_per_count)) >> 64) as u64
    }

    /// Nanoseconds that so many counts are.
    pub fn ns(&self, counts: u64) -> u64 {
        ((u128::from(counts) * 1000 * u128::from(self.us_per_count)) >> 64) as u64
    }
}

/// The counter.
#[cfg(target_arch = "x86_64")]
#[inline]
pub fn counts() -> u64 {
    // SAFETY: reads a counter.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// The counter: the host's nanoseconds.
#[cfg(not(target_arch = "x86_64"))]
pub fn counts() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_with_the_hosts_clock() {
        let clock = Clock::new();
        let (start, began) = (clock.now_us(), Instant::now());
        std::thread::sleep(Duration::from_millis(50));
        let (passed, really) = (clock.now_us() - start, began.elapsed().as_micros() as u64);
        assert!(passed.abs_diff(really) < really / 4, "{passed} {really}");
    }
}
