//! What tasks do: one call after the other, of callbacks and for verdicts.

use crate::actor::{
    alloc, colour, disabled, free, free_part, hand_over, percpu, phys, realloc, region, sleeper,
    store, vmalloc,
};
use crate::owned::Owner;
use crate::passes;
use crate::schedule::{is_late, me, moment};
use crate::world::{self, with};

/// The calls of a task, until there have been enough.
pub(crate) fn live(operations: usize) {
    world::wait_for_cpu();
    for _ in 0..operations {
        moment();
        world::park();
        if is_late() {
            break;
        }
        step(Owner::Task(me()));
    }
    with(|world| world.tasks[me()].over = true);
    while with(|world| !world.is_over()) {
        world::idle();
    }
}

fn step(actor: Owner) {
    if let Some(keeping) = with(|world| world.setting.stacks.turn()) {
        return sleeper(keeping);
    }
    match with(|world| world.random.below(1000)) {
        0..260 => alloc(actor),
        260..470 => free(actor),
        470..500 => realloc(actor),
        500..540 => free_part(actor),
        540..600 => colour(actor),
        600..630 => percpu(actor),
        630..650 => vmalloc(actor),
        650..660 => phys(actor),
        660..675 => region(),
        675..685 => disabled(actor),
        685..920 => store(),
        920..985 => hand_over(actor),
        985..988 => passes::exactly(),
        _ => passes::beside(),
    }
}
