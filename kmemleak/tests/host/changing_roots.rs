//! Roots that come or go while a scan goes on, where the world can't be stopped to look again: near a change each word is read once
//! at least, and far from it once.

use std::sync::Arc;

use kmemleak::{AllocOptions, Reading};
use kmemleak_emulated::{Machine, Place, Stop};

use crate::lab::{Lab, Subject};

const WORD: usize = 8;
/// Moments at which other code runs while a root of the size below is read, and after it.
const MOMENTS: i32 = 20;

/// A root so large that other code runs while it is read.
static LARGE: [usize; 6000] = [0; 6000];

fn unstoppable() -> Lab {
    let lab = Lab::new();
    lab.machine.set_stop(Stop::Unsupported);
    lab.detector.set_min_age_us(0);
    lab.machine
        .add_root((&raw const LARGE).addr(), size_of_val(&LARGE));
    lab
}

/// A scan has seen all that is there.
fn prime(lab: &Lab) {
    lab.machine.advance_us(1);
    lab.detector.scan().expect("on");
}

/// What a scan lists if this happens at a moment of it.
fn listed_after(
    lab: &Lab,
    moment: i32,
    mut change: impl FnMut(&Machine, &Subject) + Send + 'static,
) -> Vec<usize> {
    let detector = Arc::downgrade(&lab.detector);
    let mut left = moment;
    lab.machine.at_relax(move |machine| {
        if left == 0 {
            change(machine, &detector.upgrade().expect("it scans"));
        }
        left -= 1;
    });
    prime(lab);
    lab.machine.at_relax(|_| {});
    lab.listed()
}

/// What holds the words over which a region comes or goes.
#[derive(Clone, Copy, Debug)]
enum Holder {
    /// A block, to which a root points.
    Block,
    /// A block that is no leak, whatever points to it.
    Gray,
    /// A block that a root points into: it is scanned late.
    ByItsMiddle,
    /// A copy of a per-CPU block, far from its first.
    Copy,
    /// A root of the platform's.
    Root,
}

const HOLDERS: [Holder; 5] = [
    Holder::Block,
    Holder::Gray,
    Holder::ByItsMiddle,
    Holder::Copy,
    Holder::Root,
];

/// The address of its 64 bytes, and the number that a root has to hold.
fn held(lab: &Lab, holder: Holder) -> (usize, usize) {
    match holder {
        Holder::Block => {
            let block = lab.block(64);
            (block, block)
        }
        Holder::Gray => (lab.block_with(64, AllocOptions::new().min_count(0)), 0),
        Holder::ByItsMiddle => {
            let block = lab.block(64);
            (block, block + WORD)
        }
        Holder::Copy => {
            let handle = lab.machine.percpu(64);
            lab.detector.alloc_percpu(handle, 64);
            let copy = lab.machine.percpu_copy(handle, 1).expect("two CPUs");
            (copy, handle)
        }
        Holder::Root => {
            let words = lab.machine.address(Place::Region(0, 0));
            lab.machine.add_root(words, 64);
            (words, 0)
        }
    }
}

#[test]
fn a_region_that_comes_or_goes_hides_no_word_under_it() {
    for holder in HOLDERS {
        for reading in [Reading::Words, Reading::Bytes] {
            for comes in [true, false] {
                // Over all of it, or over its end.
                for (offset, len) in [(0, 64), (40, 24)] {
                    for moment in 0..MOMENTS {
                        let lab = unstoppable();
                        let (words, number) = held(&lab, holder);
                        let others: Vec<usize> = (0..8).map(|_| lab.block(16)).collect();
                        prime(&lab);
                        for (index, &block) in others.iter().enumerate() {
                            lab.machine.write(words + index * WORD, block);
                        }
                        lab.hold(0, number);
                        let start = words + offset;
                        let add = move |detector: &Subject| {
                            assert!(detector.region_add_as(start, len, reading));
                        };
                        if !comes {
                            add(&lab.detector);
                        }
                        let lost = listed_after(&lab, moment, move |_, detector| match comes {
                            true => add(detector),
                            false => detector.region_remove(start),
                        });
                        let case = (holder, reading, comes, offset, moment);
                        assert_eq!(lost, [], "{case:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn an_exclusion_that_comes_over_a_lost_block_does_not_keep_what_that_holds() {
    for moment in 0..MOMENTS {
        let lab = unstoppable();
        let (lost, held) = (lab.block(64), lab.block(64));
        lab.machine.write(lost, held);
        prime(&lab);
        let listed = listed_after(&lab, moment, move |_, detector| {
            assert!(detector.exclude(lost, 64));
        });
        assert_eq!(listed, [lost, held], "at {moment}");
    }
}

#[test]
fn far_from_a_change_a_word_counts_once() {
    for moment in 0..MOMENTS {
        let lab = unstoppable();
        // Marked from the beginning.
        let holder = lab.block_with(64, AllocOptions::new().min_count(0));
        let two = lab.block_with(64, AllocOptions::new().min_count(2));
        lab.machine.write(holder, two);
        prime(&lab);
        let listed = listed_after(&lab, moment, |machine, detector| {
            assert!(detector.exclude(machine.address(Place::Region(1, 0)), 64));
        });
        assert_eq!(listed, [two], "at {moment}");
    }
}
