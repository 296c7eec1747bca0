//! The check: an exact verdict, now.
//!
//! The world is stopped, all CPUs mark from the roots, and what is not marked then is a leak: no minimum age, no
//! second look. Where the platform can't stop the world, passes of the background scan are repeated until
//! the suspects stand still ([`Patience`]): an object is suspected that was unreferenced in each of them. Suspects they
//! remain: of what runs meanwhile nothing is certain.

use core::sync::atomic::Ordering;

use crate::checker::claim::{Claim, NotDone};
use crate::checker::concurrent::{Among, Next, Pass, Patience};
use crate::marker::queue::MAX_WORKERS;
use crate::marker::{GivenUp, Marker, Shared, Stacks};
use crate::objects::Stopped;
use crate::objects::record::Record;
use crate::platform::{Platform, StopError, StoppedCpu};
use crate::tracker::Detector;
use crate::verdict::{Filter, How, Making, Settled, Summary};

/// Checks in a stopped world for one verdict, at most: each looks at call stacks that the one before has brought up.
const MAX_CHECKS: u32 = 8;

impl<P: Platform> Detector<P> {
    /// Checks for leaks, now. Waits for a check that goes on. Task context, with no lock held.
    pub fn check(&self) -> Result<Summary, NotDone> {
        let claim = self.claim_on()?;
        claim.check_now().map_err(|GivenUp| NotDone::Stopped)
    }
}

impl<P: Platform> Claim<'_, P> {
    /// Checks.
    pub(crate) fn check_now(&self) -> Result<Summary, GivenUp> {
        self.take_suppressions();
        self.apart(|| match self.check_judged(Filter::ALL) {
            Ok(summary) => Ok(summary),
            Err(reason) => self.check_running(reason),
        })
    }

    /// Checks in a stopped world, and again where call stacks turn out to be suppressed that nobody had looked at.
    pub(crate) fn check_judged(&self, filter: Filter) -> Result<Summary, StopError> {
        let mut summary = self.check_stopped(filter)?;
        for _ in 1..MAX_CHECKS {
            if !self.judge() {
                break;
            }
            let (took_us, stopped_us) = (summary.took_us, summary.stopped_us);
            summary = self.check_stopped(filter)?;
            summary.took_us += took_us;
            summary.stopped_us += stopped_us;
            self.with_verdict(|verdict, _| verdict.summary = Some(summary));
        }
        Ok(summary)
    }

    /// Sees to memory for so many CPUs to mark with.
    pub(crate) fn prepare_desks(&self, workers: usize) {
        let objects = self.memory.piece_bytes() / size_of::<Record>();
        self.without_interrupts(|meta| self.queues.prepare(workers, objects, meta));
    }

    pub(crate) fn stacks(&self) -> Stacks {
        if self.settings.skip_stacks.load(Ordering::Relaxed) {
            Stacks::Skip
        } else {
            Stacks::Scan
        }
    }

    /// A pass in a stopped world, after which the unmarked objects that `filter` lets are named.
    pub(crate) fn check_stopped(&self, filter: Filter) -> Result<Summary, StopError> {
        let cpus = self.platform.cpus().clamp(1, MAX_WORKERS as u32);
        self.prepare_desks(cpus as usize);
        let result = spin::mutex::SpinMutex::<_>::new(None);
        let shared = Shared::new(MAX_WORKERS, self.stacks(), 0);
        self.platform.stop_world(&|cpu: StoppedCpu| {
            let workers = (cpu.of as usize).clamp(1, MAX_WORKERS);
            let worker = cpu.index as usize;
            if worker >= workers {
                // More CPUs than desks: it watches.
                return;
            }
            let start_us = self.now_us();
            shared.set_workers(workers);
            let tools = self.tools(cpu.index);
            let mut marker = Marker::<P, Stopped>::new(&tools, &shared, worker);
            // In a stopped world no pass is given up.
            let _ = marker.run();
            marker.barrier();
            if worker == 0 {
                self.retire_verdict();
            }
            marker.barrier();
            marker.name_white(self.verdict());
            marker.barrier();
            if worker == 0 {
                let alone = Shared::new(1, self.stacks(), 0);
                let mut marker = Marker::<P, Stopped>::new(&tools, &alone, 0);
                // As above.
                let _ = self.conclude(&mut marker, filter);
                let took_us = self.now_us().saturating_sub(start_us);
                *result.lock() = Some((start_us, shared.figures(), workers as u32, took_us));
            }
        })?;
        let found = result.into_inner().ok_or(StopError::Unsupported)?;
        let (start_us, figures, cpus, took_us) = found;
        Ok(self.complete_verdict(Making {
            how: How::Stopped,
            settled: Settled::Yes,
            start_us,
            figures,
            cpus,
            stopped_us: took_us,
        }))
    }

    pub(crate) fn check_running(&self, reason: StopError) -> Result<Summary, GivenUp> {
        let start_us = self.now_us();
        let pass = Pass {
            min_age_us: 0,
            among: Among::All,
        };
        // The first pass only remembers what the contents were, the second has the first suspects.
        self.pass(pass, &mut |_| Next::Again)?;
        let mut patience = Patience::after(1);
        let figures = self.scan_until_still(pass, &mut patience)?;
        Ok(self.complete_verdict(Making {
            how: How::Repeated {
                reason,
                passes: patience.passes,
            },
            settled: patience.settled(),
            start_us,
            figures,
            cpus: 1,
            stopped_us: 0,
        }))
    }
}
