//! Stopping the world: all tasks join, at moments with interrupts on, and each CPU runs the work.

use std::mem;

use super::stop::{Phase, Stop, StopKind, Work};
use super::{Task, World, with};
use crate::schedule::{Fault, has, me, moment, wait};
use crate::{StopError, StoppedCpu};

impl World {
    /// Whether a task must join.
    pub(super) fn is_stopping(&self) -> bool {
        matches!(&self.stop, Some(stop) if !matches!(stop.phase, Phase::Over))
    }

    /// A task that has no CPU is stopped as it is; all others must have joined.
    fn all_here(&self, but: usize) -> bool {
        let others = self
            .tasks
            .iter()
            .enumerate()
            .filter(|(task, _)| *task != but);
        let mut others = others.map(|(_, task)| task);
        let number = self.stop.as_ref().map(|stop| stop.number);
        let ignored = |task: &Task| task.irqs_off > 0 && has(Fault::StopsDoNotWait);
        others.all(|task| task.waits || task.joined == number || ignored(task))
    }
}

/// Joins a stop: runs its work if the task has a CPU, and waits for the end.
pub(super) fn join() {
    let number = with(|world| {
        let number = world.stop.as_ref().map(|stop| stop.number);
        world.tasks[me()].joined = number;
        number
    });
    let mut worked = false;
    loop {
        let phase = with(|world| {
            let stop = world
                .stop
                .as_ref()
                .filter(|stop| Some(stop.number) == number);
            stop.map_or(Phase::Over, |stop| stop.phase)
        });
        match phase {
            Phase::Working(work) if !worked => {
                run(work, false);
                worked = true;
            }
            Phase::Over => break,
            _ => wait_outside(),
        }
    }
    with(|world| world.tasks[me()].joined = None);
}

fn wait_outside() {
    with(|world| world.tasks[me()].outside = true);
    wait();
    with(|world| world.tasks[me()].outside = false);
}

/// Runs the work of a stop on this CPU, if the task has one.
fn run(work: *const Work, initiator: bool) {
    let Some(cpu) = with(|world| world.tasks[me()].cpu) else {
        return;
    };
    let of = with(|world| {
        world.tasks[me()].irqs_off += 1;
        world.setting.cpus
    });
    // SAFETY: it lives until the stop is over, which waits for this.
    let work = unsafe { &*work };
    work(StoppedCpu {
        index: cpu,
        of,
        initiator,
    });
    with(|world| {
        world.tasks[me()].irqs_off -= 1;
        if let Some(stop) = &mut world.stop {
            stop.done += 1;
        }
    });
}

/// Stops the world, and runs the work; `at_end` runs before it goes on.
pub(super) fn stop_world(
    work: &(dyn Fn(StoppedCpu) + Sync),
    at_end: &dyn Fn(&mut World),
) -> Result<(), StopError> {
    // Another task may be at it: its stop comes first.
    moment();
    while with(|world| world.is_stopping()) {
        wait();
    }
    let (kind, cpus) = with(|world| {
        world.assert_may_wait("stopping the world");
        (world.setting.stop, world.setting.cpus)
    });
    let patience = match kind {
        StopKind::Works => usize::MAX,
        StopKind::Unsupported => return Err(StopError::Unsupported),
        StopKind::Fails(one_in) => with(|world| match world.random.below(one_in) {
            0 => world.random.below(40),
            _ => usize::MAX,
        }),
    };
    with(|world| {
        world.log.stops += 1;
        world.stop = Some(Stop {
            phase: Phase::Gathering,
            done: 0,
            number: world.log.stops,
        });
    });
    let mut waited = 0;
    while with(|world| !world.all_here(me())) && waited < patience {
        wait_outside();
        waited += 1;
    }
    if patience != usize::MAX {
        with(|world| world.log.given_up += 1);
        go_on();
        return Err(StopError::Missing(cpus - 1));
    }
    with(World::note_stop);
    // SAFETY: only the lifetime changes; this function returns when nobody runs it any more.
    let work: &'static Work = unsafe { mem::transmute(work) };
    set_phase(Phase::Working(work));
    run(work, true);
    while with(|world| world.stop.as_ref().is_some_and(|stop| stop.done < cpus)) {
        wait_outside();
    }
    with(|world| at_end(world));
    go_on();
    Ok(())
}

fn set_phase(phase: Phase) {
    with(|world| {
        if let Some(stop) = &mut world.stop {
            stop.phase = phase;
        }
    });
}

fn go_on() {
    set_phase(Phase::Over);
}

impl World {
    /// All stand still: what is true now is what a check has to say.
    fn note_stop(&mut self) {
        self.oracle.note_stop();
    }
}
