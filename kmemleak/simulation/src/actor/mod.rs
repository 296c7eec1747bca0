//! Calls that tasks and interrupt handlers make.
//!
//! An *actor* is a task, or the handlers that run on top of it. Each block has an owner, who alone tells the detector of it: so callbacks
//! at one time name different blocks. Blocks change hands. Words are stored by anybody anywhere.

mod blocks;
mod shape;
mod sleepers;

pub(crate) use self::blocks::{
    alloc, colour, disabled, end_all, free, free_part, percpu, phys, realloc, region, unmap_some,
    vmalloc,
};
pub(crate) use self::sleepers::{end_sleepers, sleeper};
use crate::owned::Owner;
use crate::schedule::{me, moment};
use crate::world::with;

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

/// A block gets another owner.
pub(crate) fn hand_over(actor: Owner) {
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
