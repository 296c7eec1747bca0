//! How long something may take on a host that has other things to do.
//!
//! A limit of time tells what hangs from what works only as long as the host is idle. So this clock goes slower while more
//! threads want to run than the host has CPUs: at half its speed where there are twice as many. How many there are is looked up
//! in Linux's `/proc/loadavg` (proc(5)); where that is missing, the clock shows the time.

use std::fs;
use std::num::NonZero;
use std::thread;
use std::time::{Duration, Instant};

/// How often to look at what else the host does.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Time that runs out, the slower the busier the host is.
#[derive(Debug)]
pub struct Patience {
    left: Duration,
    looked: Instant,
}

impl Patience {
    /// So much time, on a host that does nothing else.
    pub fn new(limit: Duration) -> Self {
        Self {
            left: limit,
            looked: Instant::now(),
        }
    }

    /// How much is left. To be asked often while waiting: what the host does now counts for all the time since the last call.
    pub fn left(&mut self) -> Duration {
        let now = Instant::now();
        let passed = now.duration_since(self.looked);
        self.looked = now;
        self.left = self.left.saturating_sub(passed.mul_f64(share()));
        self.left
    }

    /// For how long to wait before asking again; `None` if no time is left.
    pub fn next_wait(&mut self) -> Option<Duration> {
        let left = self.left();
        (!left.is_zero()).then(|| left.min(LOOK_EVERY))
    }
}

/// The part of a CPU that a thread gets that wants one, now.
fn share() -> f64 {
    let cpus = thread::available_parallelism().map_or(1, NonZero::get);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    share_of(runnable(&load).unwrap_or(0), cpus)
}

fn share_of(runnable: usize, cpus: usize) -> f64 {
    (cpus as f64 / runnable.max(1) as f64).min(1.0)
}

/// How many threads run or want to, by the text of `/proc/loadavg`: three averages, `runnable/all`, and a process.
fn runnable(load: &str) -> Option<usize> {
    let (runnable, _all) = load.split_whitespace().nth(3)?.split_once('/')?;
    runnable.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_read() {
        assert_eq!(runnable("0.20 0.18 0.12 21/206 4567\n"), Some(21));
        assert_eq!(runnable(""), None);
        assert_eq!(runnable("a b c d e"), None);
    }

    #[test]
    fn the_clock_goes_slower_only_while_cpus_are_wanted() {
        assert_eq!(share_of(0, 2), 1.0);
        assert_eq!(share_of(2, 2), 1.0);
        assert_eq!(share_of(20, 2), 0.1);
    }

    #[test]
    fn time_runs_out() {
        let mut patience = Patience::new(Duration::from_millis(20));
        while let Some(wait) = patience.next_wait() {
            assert!(wait <= Duration::from_millis(20));
            thread::sleep(wait);
        }
        assert_eq!(patience.left(), Duration::ZERO);
        assert_eq!(Patience::new(Duration::ZERO).next_wait(), None);
    }
}
