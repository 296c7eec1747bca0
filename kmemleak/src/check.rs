//! The check: an exact verdict, now.
//!
//! The world is stopped, one CPU marks from the roots, and what is white then is a leak: no minimum age, no
//! second look. Where the platform can't stop the world, passes are repeated beside whatever runs, the lock
//! open between their steps, until the suspects stand still: an object is suspected that was white in
//! every pass.

use core::sync::atomic::Ordering;

use crate::detector::Detector;
use crate::platform::{Platform, StopError, StoppedCpu};
use crate::scan::{Stacks, Step, World};
use crate::verdict::{First, How, Summary};

/// Passes in a row that must find the same number of suspects.
const STILL_PASSES: u32 = 3;
/// Passes at most.
const MAX_PASSES: u32 = 16;

/// How old an object must be to be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MinAge {
    /// It need not be.
    None,
    Us(u64),
}

/// A check was given up: the detector was turned off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GivenUp;

impl<P: Platform, const BOOTSTRAP: usize> Detector<P, BOOTSTRAP> {
    /// Checks for leaks, now. Waits for a check that goes on. `None` once the detector is off. Task
    /// context, with no lock held.
    pub fn check(&self) -> Option<Summary> {
        let _claim = self.claim();
        if !self.is_on() {
            return None;
        }
        self.check_claimed(MinAge::None).ok()
    }

    /// The same, for who has the claim.
    pub(crate) fn check_claimed(&self, min_age: MinAge) -> Result<Summary, GivenUp> {
        match self.check_stopped(min_age) {
            Ok(summary) => Ok(summary),
            Err(reason) => self.check_running(reason, min_age),
        }
    }

    fn stacks(&self) -> Stacks {
        if self.settings.skip_stacks.load(Ordering::Relaxed) {
            Stacks::Skip
        } else {
            Stacks::Scan
        }
    }

    fn judged_before(&self, start_us: u64, min_age: MinAge) -> u64 {
        match min_age {
            MinAge::None => u64::MAX,
            MinAge::Us(us) => start_us.saturating_sub(us),
        }
    }

    fn check_stopped(&self, min_age: MinAge) -> Result<Summary, StopError> {
        let summary = spin::mutex::SpinMutex::<_>::new(None);
        let stacks = self.stacks();
        self.platform.stop_world(&|cpu: StoppedCpu| {
            if !cpu.initiator {
                return;
            }
            let reader = self.reader();
            let found = self.with_state(|state, _| {
                let start_us = self.platform.now_us();
                state.begin_pass(World::Stopped, stacks, start_us);
                while state.step(&reader) == Step::More {}
                let before = self.judged_before(start_us, min_age);
                state.judge(How::Stopped, before, self.platform.now_us())
            });
            *summary.lock() = Some(found);
        })?;
        summary.into_inner().ok_or(StopError::Unsupported)
    }

    fn check_running(&self, reason: StopError, min_age: MinAge) -> Result<Summary, GivenUp> {
        let (mut passes, mut still, mut last) = (0, 0, None);
        let mut start_us = 0;
        while passes < MAX_PASSES && still < STILL_PASSES {
            start_us = self.platform.now_us();
            self.run_pass(start_us)?;
            let first = if passes == 0 { First::Yes } else { First::No };
            let white = self.with_state(|state, _| state.narrow(first));
            still = if last == Some(white) { still + 1 } else { 1 };
            last = Some(white);
            passes += 1;
        }
        let before = self.judged_before(start_us, min_age).min(start_us);
        let how = How::Repeated { reason, passes };
        Ok(self.with_state(|state, _| state.judge(how, before, self.platform.now_us())))
    }

    /// One pass beside whatever runs.
    fn run_pass(&self, start_us: u64) -> Result<(), GivenUp> {
        let reader = self.reader();
        self.with_state(|state, _| state.begin_pass(World::Running, self.stacks(), start_us));
        while self.with_state(|state, _| state.step(&reader)) == Step::More {
            let asked = self.platform.relax().is_break() || self.stopping.load(Ordering::Acquire);
            if asked {
                self.with_state(|state, _| state.abandon_pass());
                return Err(GivenUp);
            }
        }
        Ok(())
    }
}
