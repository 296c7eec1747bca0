//! Waiting for a time to come.

use super::may_wait::may_wait;
use super::scheduler::park_until;
use crate::arch::context;
use crate::dev::time;

/// Sleeps for at least `us` microseconds; the timer that wakes it ticks every 4000. Task context.
#[inline(always)]
pub fn sleep_us(us: u64) {
    may_wait();
    let deadline_us = time::now_us() + us;
    context::on_cleared_frame(|| sleep_until(deadline_us));
}

#[inline(never)]
fn sleep_until(deadline_us: u64) {
    while time::now_us() < deadline_us {
        park_until(deadline_us);
    }
}
