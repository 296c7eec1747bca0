//! What comes between two accesses of a task: a stop of the world, an interrupt, another task.

use super::{MOST_INTERRUPTS, preempt, stopping, with};
use crate::schedule::{Fault, has, me};

/// Where something may come between, if interrupts are on: a stop of the world, an interrupt, another task.
pub(crate) fn interruptible() {
    enum Come {
        Nothing,
        Stop,
        Interrupt,
        Task,
    }
    let come = with(|world| {
        world.pass_time();
        let task = world.tasks[me()];
        let off = task.irqs_off > 0 && !has(Fault::InterruptsAreNeverOff);
        if off || task.outside || task.interrupted {
            return Come::Nothing;
        }
        if world.is_stopping() && task.irqs_off == 0 {
            return Come::Stop;
        }
        let often = !world.calm && world.random.below(world.setting.interrupts) == 0;
        if often && world.log.interrupts < MOST_INTERRUPTS {
            return Come::Interrupt;
        }
        match world.is_waited_for() && task.irqs_off == 0 && world.random.below(20) == 0 {
            true => Come::Task,
            false => Come::Nothing,
        }
    });
    match come {
        Come::Nothing => {}
        Come::Stop => stopping::join(),
        Come::Interrupt => interrupt(),
        Come::Task => preempt(),
    }
}

/// A handler runs on top of the task.
fn interrupt() {
    let (before, handler) = with(|world| {
        let task = &mut world.tasks[me()];
        task.interrupted = true;
        let before = std::mem::replace(&mut task.irqs_off, 1);
        world.log.interrupts += 1;
        world.log.nested += u64::from(world.oracle.is_inside(me()));
        (before, world.handler)
    });
    handler();
    with(|world| {
        let task = &mut world.tasks[me()];
        assert_eq!(task.irqs_off, 1, "interrupts are restored");
        task.interrupted = false;
        task.irqs_off = before;
    });
}
