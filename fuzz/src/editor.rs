//! The line editor at a terminal: keys in any order, judged by a model of the line and by a terminal emulator.

use crate::random::Random;
use crate::session::{Decide, session};

impl Decide for Random {
    fn next(&mut self, below: usize) -> usize {
        self.below(below)
    }
}

/// Lets the input choose a screen, and what is typed at it.
pub fn run(input: &[u8]) {
    let mut random = Random::of(input);
    let columns = random.between(5, 90) as u16;
    let rows = random.between(1, 24) as u16;
    // A key takes two bytes or three.
    let keys = input.len() / 2;
    session(&mut random, keys.min(400), (columns, rows), "this input");
}
