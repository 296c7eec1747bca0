//! Confirming the suspects of a background pass: a short stop of the world, in which nothing is marked but what is suspected.
//!
//! The stop is a [sweep](crate::marker): the memory in use is read once, in the order of addresses, for pointers to the suspects. It
//! costs a part of a check, and the more CPUs there are the less, for all of them share it. What is not needed in a stopped world
//! comes after it: the suspects that are left are unreachable, so nobody can change what they hold, and their list, their leaders and
//! what suppressions hide are found while other code runs. What is freed all the same is no suspect any more.
//!
//! # The deadline
//!
//! The stop is no longer than the setting `stop_max_ms` says. Each CPU looks at the clock after so much work; the first that finds time
//! over makes all of them leave, less than a millisecond later. Nothing is lost with an abandoned stop: no verdict was touched, the
//! suspects have their flags, and the passes that decide now begin by clearing all marks. Time is that of
//! [`Platform::now_us`]. If that stands still while the world is stopped, work stands for time.

use core::sync::atomic::Ordering;

use crate::atomic::AtomicBool;
use crate::checker::claim::Claim;
use crate::checker::concurrent::{Next, Patience};
use crate::checker::pass::NotSeen;
use crate::marker::{Figures, GivenUp};
use crate::platform::Platform;
use crate::verdict::summary::{How, LastSummary, Summary};
use crate::verdict::{Filter, Making, Settled};

/// How a stop for confirming suspects has ended.
enum Stop {
    /// The suspects that are left are leaks.
    Confirmed { making: Making },
    /// There was none, or it was abandoned after this time.
    None { us: u64 },
}

impl<P: Platform> Claim<'_, P> {
    /// Makes a pass, and confirms its suspects. If that is given up, the verdict before stays.
    pub(crate) fn scan_and_confirm(&mut self) -> Result<Summary, GivenUp> {
        self.take_suppressions();
        self.on_unscanned_stack(Self::scan_and_confirm_here)
    }

    /// Does so for a caller that is [on a stack that is not scanned](Self::on_unscanned_stack).
    fn scan_and_confirm_here(&mut self) -> Result<Summary, GivenUp> {
        let start_us = self.tracker().now_us();
        let (pass, mut patience) = (self.background_pass(), Patience::after(0));
        let mut suspects = 0;
        let figures = self.pass(pass, &mut |found| {
            suspects = found;
            patience.count(found);
            // Without suspects there is nothing to confirm.
            if found == 0 { Next::Judge } else { Next::Again }
        })?;
        if suspects == 0 {
            let how = How::Scanned { passes: 1 };
            return Ok(self.complete_scan(how, Settled::Yes, start_us, figures));
        }
        match self.stop_and_sweep(start_us, figures)? {
            Stop::Confirmed { making } => self.list_confirmed(making),
            Stop::None { us } => {
                let mut summary = self.scan_among_suspects(start_us, &mut patience)?;
                summary.stopped_us = us;
                self.findings.verdict.summary = LastSummary::Some(summary);
                Ok(summary)
            }
        }
    }

    /// Sweeps in a stopped world, if that is possible in the time that is allowed.
    fn stop_and_sweep(&mut self, start_us: u64, pass: Figures) -> Result<Stop, GivenUp> {
        let tracker = self.tracker();
        let max_us = tracker.settings().stop_max.get();
        if max_us == 0 {
            return Ok(Stop::None { us: 0 });
        }
        let overran = AtomicBool::new(false);
        let before_us = tracker.now_us();
        let stopped = self.handle().stopped(
            &|marker, _| {
                marker.give_up_after(max_us);
                let done = marker.sweep().and_then(|()| marker.barrier());
                if marker.has_overrun() {
                    overran.store(true, Ordering::Relaxed);
                }
                done
            },
            |_| Ok(()),
        );
        match stopped {
            Ok(seen) => Ok(Stop::Confirmed {
                making: Making {
                    how: How::Confirmed,
                    settled: Settled::Yes,
                    start_us,
                    figures: pass.with_sweep(seen.figures),
                    cpus: seen.cpus,
                    stopped_us: seen.stopped_us,
                },
            }),
            Err(NotSeen::GivenUp) if overran.load(Ordering::Relaxed) => Ok(Stop::None {
                us: tracker.now_us().saturating_sub(before_us).max(1),
            }),
            Err(NotSeen::GivenUp) => Err(GivenUp),
            Err(NotSeen::Unstopped(_)) => Ok(Stop::None { us: 0 }),
        }
    }

    /// Makes a verdict of the suspects that the sweep has left.
    fn list_confirmed(&mut self, making: Making) -> Result<Summary, GivenUp> {
        let handle = self.handle();
        // What was allocated since the sweep is unmarked, too.
        let all = Filter::SUSPECTS;
        handle.running(|marker, _| self.judge_unmarked(marker, all, all))?;
        let tracker = self.tracker();
        Ok(self.findings.verdict.complete(tracker, making))
    }
}
