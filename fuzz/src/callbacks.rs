//! Callbacks and checks in any order, held against the model of `kmemleak/tests/model`.

use crate::history::History;
use crate::random::Random;
use crate::replay;

/// Lets the input write a history, and replays it on a machine and on the model.
pub fn run(input: &[u8]) {
    let history = History::random(Random::of(input));
    if let Err(why) = replay::replay(&history) {
        panic!("{why}\n{history:#x?}");
    }
}
