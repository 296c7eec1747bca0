//! How a pass is made: in a stopped world by all CPUs, or by one task while other code runs.

use core::sync::atomic::Ordering;

use crate::atomic::Lock;
use crate::checker::Checker;
use crate::checker::claim::{Claim, NotDone};
use crate::checker::handle::Handle;
use crate::marker::queue::MAX_WORKERS;
use crate::marker::task_table::TaskTable;
use crate::marker::{Figures, GivenUp, Marker, SharedPass, Stacks, Tools};
use crate::objects::access::{Locked, Stopped};
use crate::objects::record::Record;
use crate::platform::{Platform, StopError, StoppedCpu};

/// How often the world is stopped at most, as blocks are in flight.
pub(super) const STOPS: u32 = 8;

/// How often other code is let run before each stop, while a block is in flight.
const WAITS: u32 = 64;

/// Why there is nothing to be seen of a stopped world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotSeen {
    /// It can't be stopped.
    Unstopped(StopError),
    GivenUp,
}

impl From<StopError> for NotSeen {
    fn from(reason: StopError) -> Self {
        Self::Unstopped(reason)
    }
}

impl From<GivenUp> for NotSeen {
    fn from(_: GivenUp) -> Self {
        Self::GivenUp
    }
}

/// What was seen in a stopped world.
pub(super) struct Seen<R> {
    pub(super) result: R,
    pub(super) figures: Figures,
    pub(super) start_us: u64,
    pub(super) stopped_us: u64,
    pub(super) cpus: u32,
}

/// What all CPUs run in a stopped world: each is told its marker and its number.
pub(super) type Together<'t, P> =
    dyn Fn(&mut Marker<'_, P, Stopped>, usize) -> Result<(), GivenUp> + Sync + 't;

/// As long as this lives, the platform keeps the roots readable.
pub(super) struct KeptRoots<'p, P: Platform>(&'p P);

impl<'p, P: Platform> KeptRoots<'p, P> {
    pub(super) fn new(platform: &'p P) -> Self {
        platform.roots_begin();
        Self(platform)
    }
}

impl<P: Platform> Drop for KeptRoots<'_, P> {
    fn drop(&mut self) {
        self.0.roots_end();
    }
}

impl<P: Platform> Handle<'_, P> {
    /// Stops the world, where all CPUs run `together`, with a marker each, and then the first one runs `alone`, unless they have
    /// given up: which all do, or none.
    ///
    /// If an allocator is moving a block at that moment, the world goes on, and is stopped again. After [`STOPS`] stops the block is
    /// left out, and `figures` says so.
    pub(super) fn stopped<R: Send>(
        self,
        together: &Together<'_, P>,
        alone: impl FnOnce(&mut Marker<'_, P, Stopped>) -> Result<R, GivenUp> + Send,
    ) -> Result<Seen<R>, NotSeen> {
        self.stopped_with(self.stacks(), None, together, alone)
    }

    /// Does the same, with these tasks withheld, and stacks as roots or not.
    pub(super) fn stopped_with<R: Send>(
        self,
        stacks: Stacks,
        tasks: Option<&Lock<TaskTable>>,
        together: &Together<'_, P>,
        alone: impl FnOnce(&mut Marker<'_, P, Stopped>) -> Result<R, GivenUp> + Send,
    ) -> Result<Seen<R>, NotSeen> {
        let platform = self.tracker.platform();
        self.prepare(platform.cpus().clamp(1, MAX_WORKERS as u32) as usize);
        let shared = SharedPass::new(MAX_WORKERS, stacks, 0);
        let (alone, seen) = (Lock::<_>::new(Some(alone)), Lock::<_>::new(None));
        let moves = self.tracker.moves();
        let work = |cpu: StoppedCpu, in_flight: usize| {
            let workers = (cpu.of as usize).clamp(1, MAX_WORKERS);
            let worker = cpu.index as usize;
            if worker >= workers {
                // There are more CPUs than queues: this one has nothing to do.
                return;
            }
            let start_us = self.tracker.now_us();
            shared.set_workers(workers);
            let tools = Tools {
                tasks,
                ..self.tools(cpu.index)
            };
            // SAFETY: the platform runs this in a stopped world; the marker shares the chunks out among its workers.
            let access = unsafe { Stopped::assume() };
            let done = together(&mut Marker::new(&tools, &shared, worker, access), worker);
            let alone = match worker {
                0 => alone.lock().take(),
                _ => None,
            };
            if let Some(alone) = alone {
                let unshared = SharedPass::new(1, stacks, 0);
                let result =
                    done.and_then(|()| alone(&mut Marker::new(&tools, &unshared, 0, access)));
                let figures = Figures {
                    in_flight: in_flight as u64,
                    ..shared.figures()
                };
                *seen.lock() = Some(result.map(|result| Seen {
                    result,
                    figures,
                    start_us,
                    stopped_us: self.tracker.now_us().saturating_sub(start_us),
                    cpus: workers as u32,
                }));
            }
        };
        let _kept = KeptRoots::new(platform);
        for left in (0..STOPS).rev() {
            self.wait_for_landing();
            platform.stop_world(&|cpu: StoppedCpu| {
                // All CPUs find the same number: nobody moves a block now.
                let in_flight = moves.in_flight();
                if in_flight == 0 || left == 0 {
                    work(cpu, in_flight);
                }
            })?;
            if seen.lock().is_some() {
                break;
            }
        }
        Ok(seen.into_inner().ok_or(StopError::Unsupported)??)
    }

    /// Lets other code run for a while, as long as an allocator is moving a block.
    pub(super) fn wait_for_landing(self) {
        for _ in 0..WAITS {
            if self.tracker.moves().in_flight() == 0 {
                return;
            }
            let _ = self.tracker.platform().relax();
        }
    }

    /// Runs `work` while other code runs, with a marker of its own and the time of the start: what is allocated meanwhile is
    /// marked.
    pub(super) fn running<R>(
        self,
        work: impl FnOnce(&mut Marker<'_, P, Locked>, u64) -> Result<R, GivenUp>,
    ) -> Result<(R, Figures), GivenUp> {
        self.prepare(1);
        let _kept = KeptRoots::new(self.tracker.platform());
        let start_us = self.tracker.now_us();
        self.tracker.begin_pass();
        let shared = SharedPass::new(1, self.stacks(), start_us);
        let tools = self.tools(0);
        let result = work(&mut Marker::new(&tools, &shared, 0, Locked), start_us);
        self.tracker.end_pass();
        result.map(|result| (result, shared.figures()))
    }

    /// Allocates memory for `workers` CPUs to mark with.
    pub(super) fn prepare(self, workers: usize) {
        let objects = self.tracker.metadata().objects / size_of::<Record>();
        let queues = &self.checker.queues;
        queues.prepare(workers, objects, &mut |take| {
            self.tracker.without_interrupts(|meta| take(meta))
        });
    }

    pub(super) fn stacks(self) -> Stacks {
        if self.tracker.settings().skip_stacks.is_on() {
            Stacks::Skip
        } else {
            Stacks::Scan
        }
    }

    /// What the marker works with.
    pub(super) fn tools(&self, cpu: u32) -> Tools<'_, P> {
        let tracker = self.tracker;
        let checker = core::ptr::from_ref(self.checker).addr();
        let [itself, pool] = tracker.own();
        Tools {
            platform: tracker.platform(),
            strangers: tracker.strangers(),
            registry: tracker.registry(),
            root_ranges: tracker.root_ranges(),
            queues: &self.checker.queues,
            hazard: tracker.hazard(),
            moves: tracker.moves(),
            frozen: tracker.frozen(),
            stopping: &self.checker.stopping,
            unfinished: &self.checker.unfinished,
            own: [itself, checker..checker + size_of::<Checker>(), pool],
            own_stack: self.checker.ground.stack(),
            tasks: None,
            meta: tracker.meta_for_marker(cpu),
        }
    }
}

impl<P: Platform> Claim<'_, P> {
    /// Marks again what is alive, if the last pass was given up: for questions about the flags that it should have left.
    pub(crate) fn finish_marks(&mut self) -> Result<(), NotDone> {
        if !self.handle().checker.unfinished.load(Ordering::Relaxed) {
            return Ok(());
        }
        if !self.tracker().is_on() {
            return Err(NotDone::Off);
        }
        let marked = self.on_unscanned_stack(|claim| {
            let handle = claim.handle();
            let together: &Together<'_, P> = &|marker, _| {
                marker.run()?;
                marker.barrier()
            };
            match handle.stopped(together, |_| Ok(())) {
                Ok(_) => Ok(()),
                Err(NotSeen::GivenUp) => Err(GivenUp),
                Err(NotSeen::Unstopped(_)) => {
                    let running = handle.running(|marker, _| {
                        marker.run()?;
                        marker.barrier()
                    });
                    running.map(|_| ())
                }
            }
        });
        Ok(marked?)
    }
}
