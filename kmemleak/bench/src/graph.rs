//! `graph`: the time of one exact check of graphs that are hard on the marker's queue, since many objects are found before any of
//! them is scanned.
//!
//! Objects have 64 bytes and lie side by side. Each must be found in use, or be a leak, as the graph says.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Instant;

use clap::ValueEnum;
use kmemleak::{AllocOptions, Detector};
use kmemleak_emulated::{CallStacks, Machine};

use crate::check::check_once;
use crate::platform::{Measured, ROOTS};
use crate::world::{Measuree, Wrong};

const WORD: usize = size_of::<usize>();
/// Words of an object.
const WORDS: usize = 8;
/// Bytes of an object.
const SIZE: usize = WORDS * WORD;

/// How objects point to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// One array points to all objects
    #[default]
    Wide,
    /// One object points to the next
    Chain,
    /// Each object points to eight others, to which no other one points
    Tree,
    /// A chain from the last object down, of which each link also leads to two levels of other objects
    Comb,
}

impl Shape {
    /// The objects that an object points to, of so many.
    fn targets(self, object: usize, objects: usize) -> impl Iterator<Item = usize> {
        let (range, next) = match self {
            Self::Wide => (0..0, None),
            Self::Chain => (object + 1..object + 2, None),
            Self::Tree => (WORDS * object + 1..WORDS * (object + 1) + 1, None),
            Self::Comb => in_comb(objects - 1 - object),
        };
        let from_above = self == Self::Comb;
        let of = move |number: usize| match from_above {
            true => objects - 1 - number,
            false => number,
        };
        range
            .chain(next)
            .filter(move |target| *target < objects)
            .map(of)
    }

    /// The object that this word of the array points to.
    fn pointed_to(self, word: usize, objects: usize) -> usize {
        match self {
            Self::Comb => objects - 1 - word,
            Self::Wide | Self::Chain | Self::Tree => word,
        }
    }

    /// How many objects the array points to.
    fn in_array(self, objects: usize) -> usize {
        match self {
            Self::Wide => objects,
            Self::Chain | Self::Tree | Self::Comb => 1,
        }
    }
}

/// The objects that one of a comb points to, all counted from above: the first one of each tooth to seven others and to the next tooth,
/// each of the seven to eight.
fn in_comb(object: usize) -> (Range<usize>, Option<usize>) {
    const FIRST: usize = WORDS - 1;
    const TOOTH: usize = 1 + FIRST + FIRST * WORDS;
    let (start, place) = (object / TOOTH * TOOTH, object % TOOTH);
    match place {
        0 => (start + 1..start + 1 + FIRST, Some(start + TOOTH)),
        1..=FIRST => {
            let first = start + 1 + FIRST + (place - 1) * WORDS;
            (first..first + WORDS, None)
        }
        _ => (0..0, None),
    }
}

/// Whether the marker gets memory for its queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queues {
    /// As much as it asks for.
    Granted,
    /// None.
    Refused,
}

/// The subcommand.
pub fn run(
    objects: usize,
    shape: Shape,
    queues: Queues,
    cpus: u32,
    repeat: u32,
) -> Result<(), Wrong> {
    let detector = tracked(objects, shape, queues, cpus);
    let words = objects * WORDS + shape.in_array(objects);
    for _ in 0..repeat {
        let began = Instant::now();
        let found = check_once(detector).ok_or("the detector is off")?;
        let ns = began.elapsed().as_nanos();
        if found.objects != 0 || found.unrecorded != 0 {
            let (lost, unrecorded) = (found.objects, found.unrecorded);
            return Err(format!("{lost} leaks where none are; {unrecorded} unrecorded").into());
        }
        let shape = shape.to_possible_value().expect("none is hidden");
        let granted = queues == Queues::Granted;
        println!(
            "{{\"objects\":{objects},\"shape\":\"{}\",\"words\":{words},\"queues\":{granted},\"ns\":{ns},\"ns_per_word\":{:.3}}}",
            shape.get_name(),
            ns as f64 / words as f64
        );
    }
    Ok(())
}

/// A detector that has been told of the graph.
fn tracked(objects: usize, shape: Shape, queues: Queues, cpus: u32) -> &'static Measuree {
    let call_stacks = CallStacks::Walked;
    let machine = Machine::builder()
        .cpus(cpus)
        .call_stacks(call_stacks)
        .build();
    let detector: &'static Measuree = Box::leak(Box::new(Detector::new(Measured::of(&machine))));
    let start = machine.arena(objects * SIZE + objects * WORD);
    let array = start + objects * SIZE;
    // SAFETY: both lie in the arena.
    let write = |address, value| unsafe { machine.write_unchecked(address, value) };
    for object in 0..objects {
        let at = start + object * SIZE;
        detector.alloc(at, SIZE, AllocOptions::new());
        for (word, target) in shape.targets(object, objects).enumerate() {
            write(at + word * WORD, start + target * SIZE);
        }
    }
    let in_array = shape.in_array(objects);
    detector.alloc(array, in_array * WORD, AllocOptions::new());
    for word in 0..in_array {
        write(
            array + word * WORD,
            start + shape.pointed_to(word, objects) * SIZE,
        );
    }
    ROOTS[0].store(array, Ordering::Relaxed);
    if queues == Queues::Refused {
        detector.platform().refuse_metadata();
    }
    detector
}
