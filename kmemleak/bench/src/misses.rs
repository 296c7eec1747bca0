//! `misses`: how many leaks a check misses, and by which words.
//!
//! A load ([`load`]) runs on the emulated machine as tasks of a kernel do, and loses blocks in the same nine ways as the test kernel's `bench misses`,
//! and in a tenth: while a number that is the block's address stays in a block in use. When enough are lost, and each task has gone on for a
//! while, the world is checked; what was lost and is not listed is missed, and `why` names the word that leads to it.
//!
//! All is drawn from one seed: the figures are the same on each machine. The kernel's are not, and are those of real code; these say what
//! changes if memory is cleared when it is freed, and if the types of blocks are used to read only those words that are pointers by their
//! type (`no_scan`, `scan_area`). The types are the load's own, as debug information would tell them.
//!
//! What types can't tell: how much of a `Vec` is in use, and that code which hides a pointer in a number is wrong to do so. The load
//! hides none, so no line shows the false reports that would come of it.

mod heap;
mod load;

use std::collections::HashMap;

use clap::ValueEnum;
use kmemleak::{Answer, Clue, Detector, RootKind, Slot, SlotPlace};
use kmemleak_emulated::{CallStacks, Machine};

use self::heap::{Freed, Heap, Types};
use self::load::{Load, Lost, SHAPES, Shape};
use crate::platform::Measured;
use crate::world::{Measuree, Wrong, become_task};

/// What holds a missed block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
enum Cause {
    /// A word that was left on a task's stack.
    Stack,
    /// A word that was left in a block in use, where its type has a pointer.
    LiveBlock,
    /// A number in a block in use.
    Number,
    /// Only pointers into its middle lead there.
    Interior,
    /// Anything else.
    Unknown,
}

const CAUSES: [(Cause, &str); 5] = [
    (Cause::Stack, "stack"),
    (Cause::LiveBlock, "live_block"),
    (Cause::Number, "number"),
    (Cause::Interior, "interior"),
    (Cause::Unknown, "unknown"),
];

/// What was found in one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Found {
    live: usize,
    lost: [usize; SHAPES.len()],
    missed: [usize; SHAPES.len()],
    causes: [usize; CAUSES.len()],
    /// Listed, though in use.
    false_reports: usize,
}

/// The subcommand.
pub fn run(blocks: usize) -> Result<(), Wrong> {
    for types in Types::value_variants() {
        for freed in Freed::value_variants() {
            let found = measure(blocks, *freed, *types)?;
            println!("{}", found.line(*freed, *types));
        }
    }
    Ok(())
}

impl Found {
    fn line(&self, freed: Freed, types: Types) -> String {
        let sum = |numbers: &[usize]| numbers.iter().sum::<usize>();
        format!(
            "{{\"freed\":\"{freed}\",\"types\":\"{types}\",\"live\":{},\"planted\":{},\"missed\":{},\"false\":{},\
             \"causes\":{{{}}},\"planted_as\":{{{}}},\"missed_of\":{{{}}}}}",
            self.live,
            sum(&self.lost),
            sum(&self.missed),
            self.false_reports,
            fields(CAUSES.map(|cause| cause.1), self.causes),
            fields(SHAPES.map(Shape::name), self.lost),
            fields(SHAPES.map(Shape::name), self.missed),
        )
    }
}

fn fields<const N: usize>(names: [&str; N], numbers: [usize; N]) -> String {
    let pairs = names.iter().zip(numbers);
    let pairs: Vec<_> = pairs
        .map(|(name, number)| format!("\"{name}\":{number}"))
        .collect();
    pairs.join(",")
}

/// Loses so many blocks, and looks which of them a check lists.
fn measure(blocks: usize, freed: Freed, types: Types) -> Result<Found, Wrong> {
    become_task(1);
    let machine = Machine::builder().call_stacks(CallStacks::Walked).build();
    let detector: &'static Measuree = Box::leak(Box::new(Detector::new(Measured::of(&machine))));
    let mut load = Load::new(Heap::new(machine, detector, freed, types));
    load.lose(blocks)?;
    load.park();
    detector.check()?;
    let mut listed = Vec::new();
    detector.for_each_unreferenced(&mut |object| listed.push(object.start))?;
    let lost: HashMap<usize, Lost> = load.lost().map(|lost| (lost.start, lost)).collect();
    let mut found = Found {
        live: load.live(),
        ..Found::default()
    };
    found.false_reports = listed
        .iter()
        .filter(|start| !lost.contains_key(start))
        .count();
    let listed: std::collections::HashSet<usize> = listed.into_iter().collect();
    for one in load.lost() {
        found.lost[one.shape as usize] += 1;
        if !listed.contains(&one.start) {
            found.missed[one.shape as usize] += 1;
            found.causes[cause(detector, &load, &lost, one.start)? as usize] += 1;
        }
    }
    Ok(found)
}

/// By which word a missed block is held: the first on the way to it that leads from what is in use to what was lost.
fn cause(
    detector: &Measuree,
    load: &Load,
    lost: &HashMap<usize, Lost>,
    start: usize,
) -> Result<Cause, Wrong> {
    let (mut last, mut culprit): (Option<Slot>, Option<Slot>) = (None, None);
    let why = detector.why(start, &mut |clue| {
        let Clue::Step(slot) = clue else { return };
        if let SlotPlace::Object { start, .. } = slot.place
            && culprit.is_none()
            && lost.contains_key(&start)
        {
            culprit = last;
        }
        last = Some(slot);
    })?;
    let (Answer::Reachable(reached), Some(slot)) = (why.answer, culprit.or(last)) else {
        return Ok(Cause::Unknown);
    };
    Ok(match slot.place {
        SlotPlace::Object { .. } if load.is_number(slot.address) => Cause::Number,
        _ if reached.interior_only => Cause::Interior,
        SlotPlace::Object { .. } => Cause::LiveBlock,
        SlotPlace::Root(root) if matches!(root.kind, RootKind::Region) => Cause::Stack,
        SlotPlace::Root(_) => Cause::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: usize = 3000;

    #[test]
    fn nothing_in_use_is_listed_and_most_that_is_lost_is() {
        for types in Types::value_variants() {
            for freed in Freed::value_variants() {
                let found = measure(LOST, *freed, *types).expect("the detector is on");
                let missed: usize = found.missed.iter().sum();
                assert_eq!(found.lost.iter().sum::<usize>(), LOST);
                assert!(
                    found.lost.iter().all(|lost| *lost > LOST / 100),
                    "{found:?}"
                );
                assert_eq!(found.false_reports, 0);
                assert_eq!(missed, found.causes.iter().sum::<usize>());
                assert!(missed < LOST / 5, "{found:?}");
                assert_eq!(found.causes[Cause::Unknown as usize], 0, "{found:?}");
            }
        }
    }

    #[test]
    fn types_tell_numbers_from_pointers() {
        let of = |types| measure(LOST, Freed::Kept, types).expect("the detector is on");
        let (ignored, used) = (of(Types::Ignored), of(Types::Used));
        assert!(ignored.causes[Cause::Number as usize] > 0, "{ignored:?}");
        assert_eq!(used.causes[Cause::Number as usize], 0, "{used:?}");
        assert_eq!(of(Types::Used), used, "a seed decides all");
    }
}
