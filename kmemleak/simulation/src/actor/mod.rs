//! What tasks and interrupt handlers do.
//!
//! An *actor* is a task, or the handlers that run on top of it. Each block has an owner, who alone tells the detector of it: so callbacks
//! at one time name different blocks. Blocks change hands. Words are stored by anybody anywhere.

mod blocks;
mod shape;

use self::blocks::{
    alloc, colour, disabled, free, free_part, percpu, phys, realloc, region, vmalloc,
};
use crate::Detector;
use crate::passes;
use crate::schedule::{is_late, me, moment};
use crate::world::platform::Kernel;
use crate::world::{self, with};

pub(crate) use self::blocks::tell;
use crate::owned::Owner;

/// Blocks at a time.
const BLOCKS: usize = 80;

/// The detector of a run.
pub type Subject = Detector<Kernel>;

thread_local! {
    static SUBJECT: std::cell::Cell<Option<&'static Subject>> = const { std::cell::Cell::new(None) };
}

/// The detector that all actors speak to.
pub(crate) fn set_subject(subject: Option<&'static Subject>) {
    SUBJECT.set(subject);
}

pub(crate) fn subject() -> &'static Subject {
    SUBJECT.get().expect("a run goes on")
}

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

/// What an interrupt handler does: a few calls.
pub(crate) fn handle_interrupt() {
    let (actor, calls) = (
        Owner::Handler(me()),
        with(|world| world.random.between(1, 3)),
    );
    for _ in 0..calls {
        moment();
        match with(|world| world.random.below(20)) {
            0..8 => alloc(actor),
            8..14 => free(actor),
            14 => free_part(actor),
            15 => colour(actor),
            _ => store(),
        }
    }
}

/// A call of a callback, and no pass.
pub(crate) fn step_of(actor: Owner) {
    match with(|world| world.random.below(4)) {
        0 | 1 => alloc(actor),
        2 => free(actor),
        _ => colour(actor),
    }
}

fn step(actor: Owner) {
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

/// A block gets another owner.
fn hand_over(actor: Owner) {
    with(|world| {
        let (from, to) = match world.random.below(2) {
            0 => (actor, Owner::Nobody),
            _ => (Owner::Nobody, actor),
        };
        let own: Vec<usize> = (0..world.blocks.len())
            .filter(|&at| world.blocks[at].owner == from)
            .collect();
        if let Some(at) = world.random.any(&own) {
            world.blocks[at].owner = to;
        }
    });
}

/// A word is written.
pub(crate) fn store() {
    with(|world| {
        let word = world.value();
        let Some(address) = world.slot() else { return };
        world.write(address, word);
    });
}
