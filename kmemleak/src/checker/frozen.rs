//! The check in memory that was frozen: the verdict of a stopped world, in which the world stands for the roots alone.
//!
//! Where the platform keeps what memory held at one moment ([`Platform::freeze`]), the roots are read in that stop, and all else
//! afterwards ([`crate::marker`], "frozen"). What is unmarked then was unreachable at that moment, and has been since: nobody can
//! have got a pointer to it. So these are leaks, whatever their age, and nothing confirms them.
//!
//! The check is made in a stopped world instead if the platform can't freeze memory, if it had no room for copies, if
//! something was freed meanwhile that can't be read by its free (a block with notes), or if a region or an exclusion came or went.
//!
//! Once all is marked, memory thaws. What follows reads unmarked blocks alone, which nobody writes to; it may find that one was
//! freed by code that had hidden its pointer.

use core::ops::ControlFlow;

use crate::atomic::Lock;
use crate::checker::claim::Claim;
use crate::checker::handle::Handle;
use crate::checker::pass::{KeptRoots, STOPS};
use crate::marker::{Figures, GivenUp, Marker, SharedPass};
use crate::objects::access::{Locked, Stopped};
use crate::platform::{Platform, StopError, StoppedCpu};
use crate::tracker::Tracker;
use crate::verdict::summary::{How, Summary};
use crate::verdict::{Filter, Making, Settled, list_white};

/// Why there is no verdict of frozen memory.
enum NotFrozen {
    /// The platform can't do it, or what memory held was lost.
    Impossible,
    /// The pass was asked to stop.
    GivenUp,
}

impl From<GivenUp> for NotFrozen {
    fn from(_: GivenUp) -> Self {
        Self::GivenUp
    }
}

impl From<StopError> for NotFrozen {
    fn from(_: StopError) -> Self {
        Self::Impossible
    }
}

/// What was seen in the stop.
struct AtStop {
    figures: Figures,
    stopped_us: u64,
}

/// Memory is frozen as long as this lives.
struct Thaw<'t, P: Platform>(&'t Tracker<P>);

impl<P: Platform> Drop for Thaw<'_, P> {
    fn drop(&mut self) {
        // From here on no callback begins to read what memory held; one that has begun is waited for.
        let frozen = self.0.frozen();
        frozen.end();
        while !frozen.is_quiet() {
            let _: ControlFlow<()> = self.0.platform().relax();
        }
        self.0.platform().thaw();
        self.0.without_interrupts(|_| frozen.forget_candidates());
    }
}

impl<P: Platform> Claim<'_, P> {
    /// Checks frozen memory, or in a stopped world where that is not possible.
    pub(crate) fn check_frozen(&mut self) -> Result<Summary, GivenUp> {
        self.take_suppressions();
        self.on_unscanned_stack(|claim| match claim.check_image() {
            Ok(summary) => Ok(summary),
            Err(NotFrozen::GivenUp) => Err(GivenUp),
            Err(NotFrozen::Impossible) => claim.check_here(),
        })
    }

    fn check_image(&mut self) -> Result<Summary, NotFrozen> {
        let (handle, tracker) = (self.handle(), self.tracker());
        let _kept = KeptRoots::new(tracker.platform());
        handle.prepare(1);
        let start_us = tracker.now_us();
        let result = self.check_kept(handle, start_us);
        // Whether or not there is a verdict: the next pass may run at the same tick of the clock.
        let shared = SharedPass::new(1, handle.stacks(), 0);
        let _ = Marker::new(&handle.tools(0), &shared, 0, Locked).forget_read();
        result
    }

    fn check_kept(&mut self, handle: Handle<'_, P>, start_us: u64) -> Result<Summary, NotFrozen> {
        let tracker = handle.tracker;
        let tools = handle.tools(0);
        // No callback runs in a stopped world: so none is left that has seen the pass before, and notes that its block is new.
        tracker.platform().stop_world(&|_| {})?;
        let before = SharedPass::new(1, handle.stacks(), 0);
        Marker::new(&tools, &before, 0, Locked).forget_read()?;
        let (thaw, at_stop) = handle.freeze()?;
        // What is new counts as marked as long as the pass goes on, frozen or not.
        let _new = NewIsMarked(tracker);
        let shared = SharedPass::new(1, handle.stacks(), 0);
        let mut marker = Marker::new(&tools, &shared, 0, Locked);
        if let Err(GivenUp) = marker.run_frozen() {
            return Err(match tracker.frozen().is_lost() {
                true => NotFrozen::Impossible,
                false => NotFrozen::GivenUp,
            });
        }
        drop(thaw);
        marker.go_on_to_the_end();
        self.findings.verdict.retire(tracker);
        list_white(&mut marker, &Lock::<_>::new(&mut self.findings.verdict));
        self.judge();
        let findings = &mut *self.findings;
        findings.verdict.conclude(
            tracker,
            &mut findings.suppressions,
            &mut marker,
            Filter::ALL,
        )?;
        Ok(findings.verdict.complete(
            tracker,
            Making {
                how: How::Frozen,
                settled: Settled::Yes,
                start_us,
                figures: shared.figures().with(at_stop.figures),
                cpus: 1,
                stopped_us: at_stop.stopped_us,
            },
        ))
    }
}

/// A pass goes on as long as this lives.
struct NewIsMarked<'t, P: Platform>(&'t Tracker<P>);

impl<P: Platform> Drop for NewIsMarked<'_, P> {
    fn drop(&mut self) {
        self.0.end_pass();
    }
}

impl<'d, P: Platform> Handle<'d, P> {
    /// Stops the world, reads the roots, and freezes memory. If an allocator is moving a block at that moment, the world goes on, and
    /// is stopped again, as for a [stopped](Self::stopped) check.
    fn freeze(self) -> Result<(Thaw<'d, P>, AtStop), NotFrozen> {
        let tracker = self.tracker;
        let moves = tracker.moves();
        let seen = Lock::<_>::new(None);
        let mut stopped_us = 0;
        for left in (0..STOPS).rev() {
            self.wait_for_landing();
            let read = |cpu: StoppedCpu| {
                let in_flight = moves.in_flight();
                if !cpu.initiator || in_flight != 0 && left != 0 {
                    return;
                }
                tracker.begin_pass();
                tracker.frozen().begin();
                let tools = self.tools(cpu.index);
                let shared = SharedPass::new(1, self.stacks(), 0);
                // SAFETY: the platform runs this in a stopped world, and this is the only marker.
                let access = unsafe { Stopped::assume() };
                let noted = Marker::new(&tools, &shared, 0, access).note_roots();
                let figures = Figures {
                    in_flight: in_flight as u64,
                    ..shared.figures()
                };
                *seen.lock() = Some(noted.map(|()| figures));
            };
            stopped_us += tracker.platform().freeze(&read)?;
            match seen.lock().take() {
                None => tracker.platform().thaw(),
                Some(Ok(figures)) => {
                    let at_stop = AtStop {
                        figures,
                        stopped_us,
                    };
                    return Ok((Thaw(tracker), at_stop));
                }
                Some(Err(GivenUp)) => {
                    drop(Thaw(tracker));
                    tracker.end_pass();
                    return Err(NotFrozen::GivenUp);
                }
            }
        }
        Err(NotFrozen::Impossible)
    }
}
