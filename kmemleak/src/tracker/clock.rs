//! The detector's time: microseconds since a second before its first call, whatever the platform's clock says then.
//!
//! A platform's clock may begin anywhere: at boot, in 1970, at an arbitrary number. Records have no room for that. So the time of
//! the first call is noted, and all times within the detector are relative to it; the platform's clock is read here and nowhere
//! else. The time of a birth is shown to others by the platform's clock.
//!
//! The time has 52 bits, 142 years. After that it stands still. It also stands still before the second that precedes the first
//! call, in which the clocks of other CPUs may lag.
//!
//! # Locks
//!
//! None. Any context.

use core::sync::atomic::Ordering;

use crate::atomic::AtomicU64;
use crate::objects::record::{BIRTH_BITS, Record};
use crate::platform::Platform;
use crate::settings::FIRST_US;
use crate::tracker::Tracker;

const LAST_US: u64 = (1 << BIRTH_BITS) - 1;

/// Bits of a birth that lie in whole halves of a record's words: nine years.
const SHORT_BITS: u32 = 48;

/// The origin while there was no call yet: half of the clock's range, so that no clock is near.
const NOT_BEGUN: u64 = 1 << 63;

/// Where the detector's time begins, by the platform's clock.
pub(crate) struct Clock {
    /// The origin's distance from [`NOT_BEGUN`], so that a clock that has not begun is zero. One word: Relaxed. It changes once.
    from_not_begun: AtomicU64,
}

impl Clock {
    pub(crate) const fn new() -> Self {
        Self {
            from_not_begun: AtomicU64::new(0),
        }
    }

    #[inline(always)]
    fn origin(&self) -> u64 {
        self.from_not_begun.load(Ordering::Relaxed) ^ NOT_BEGUN
    }

    /// The detector's time when the platform's clock shows `platform_us`.
    #[inline(always)]
    fn at(&self, platform_us: u64) -> u64 {
        let since_us = platform_us.wrapping_sub(self.origin());
        if since_us <= LAST_US {
            since_us
        } else {
            self.at_the_edge(platform_us)
        }
    }

    /// The detector's time, if it has begun and has no more than [`SHORT_BITS`] bits.
    #[inline(always)]
    fn short_at(&self, platform_us: u64) -> Option<u64> {
        // As with the origin, but the highest bit is turned round last, which takes an instruction less.
        let since_us = platform_us.wrapping_sub(self.from_not_begun.load(Ordering::Relaxed));
        let since_us = since_us ^ NOT_BEGUN;
        (since_us >> SHORT_BITS == 0).then_some(since_us)
    }

    /// At the first call, before it, or after the end.
    #[cold]
    #[inline(never)]
    fn at_the_edge(&self, platform_us: u64) -> u64 {
        let begins = platform_us.wrapping_sub(FIRST_US) ^ NOT_BEGUN;
        let (order, fail) = (Ordering::Relaxed, Ordering::Relaxed);
        let _ = (self.from_not_begun).compare_exchange(0, begins, order, fail);
        let origin = self.origin();
        // As a difference it may be negative, and the platform's clock may wrap round.
        let since_us = platform_us.wrapping_sub(origin) as i64;
        since_us.clamp(0, LAST_US as i64) as u64
    }

    /// The platform's time at a time of the detector's clock.
    pub(crate) fn platform_us(&self, us: u64) -> u64 {
        self.origin().wrapping_add(us)
    }
}

impl<P: Platform> Tracker<P> {
    /// The present time of the detector's clock.
    #[inline(always)]
    pub(crate) fn now_us(&self) -> u64 {
        self.clock.at(self.platform.now_us())
    }

    /// The present time of the detector's clock, in nearly all kernels: for their first nine years.
    #[inline(always)]
    pub(crate) fn short_now_us(&self) -> Option<u64> {
        self.clock.short_at(self.platform.now_us())
    }

    /// When an object was allocated, by the platform's clock.
    pub(crate) fn birth_us(&self, record: &Record) -> u64 {
        self.clock.platform_us(record.birth_us())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CENTURY_US: u64 = 100 * 366 * 24 * 3_600_000_000;

    #[test]
    fn it_goes_as_the_platforms_does_from_wherever_that_begins() {
        for begin in [
            0,
            1,
            1_700_000_000_000_000,
            1 << 52,
            u64::MAX - 5,
            NOT_BEGUN - 7,
        ] {
            let clock = Clock::new();
            for passed in [0, 1, 10, 1 << 48, CENTURY_US] {
                let now = begin.wrapping_add(passed);
                assert_eq!(clock.at(now), FIRST_US + passed, "{begin} and {passed}");
                assert_eq!(clock.platform_us(clock.at(now)), now);
            }
        }
    }

    #[test]
    fn it_stands_where_it_has_no_room() {
        let clock = Clock::new();
        clock.at(5);
        assert_eq!(clock.at(4), FIRST_US - 1, "a CPU whose clock lags");
        assert_eq!(clock.at(5_u64.wrapping_sub(2 * FIRST_US)), 0);
        assert_eq!(clock.at(1 << 60), LAST_US);
    }
}
