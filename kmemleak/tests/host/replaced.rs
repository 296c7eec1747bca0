//! Lost objects whose memory gets a new owner while leaders are looked for beside other code.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kmemleak::{AllocOptions, Rank, Unreferenced};
use kmemleak_emulated::Stop;

use crate::lab::Lab;

const FILLER: usize = 2048;
const SIZE: usize = 96;

/// At this moment of a check beside other code, a lost block is freed, and another one that points to a lost one takes its place.
/// Returns whether there was such a moment, and the rank of the one that is pointed to.
fn replace_at(moment: usize) -> (bool, Option<Rank>) {
    let lab = Lab::new();
    lab.machine.set_stop(Stop::Unsupported);
    // So that there are moments before the two are read.
    for _ in 0..40 {
        lab.block(FILLER);
    }
    let (lost, replaced) = (lab.block(64), lab.block(SIZE));
    let moments = Arc::new(AtomicUsize::new(0));
    let (detector, count) = (Arc::downgrade(&lab.detector), Arc::clone(&moments));
    lab.machine.at_relax(move |machine| {
        if count.fetch_add(1, Ordering::Relaxed) == moment {
            let detector = detector.upgrade().expect("it checks");
            detector.free(replaced);
            machine.free(replaced);
            machine.advance_us(1);
            assert_eq!(machine.slab(SIZE), replaced, "the last one freed");
            detector.alloc(replaced, SIZE, AllocOptions::new());
            machine.write(replaced, lost);
        }
    });
    let leaks = lab.leaks();
    assert!(!leaks.contains(&replaced) || moments.load(Ordering::Relaxed) <= moment);
    let mut rank = None;
    let mut look = |object: Unreferenced| {
        if object.start == lost {
            rank = object.rank;
        }
    };
    lab.detector
        .for_each_unreferenced(&mut look)
        .expect("asked from outside");
    (moments.load(Ordering::Relaxed) > moment, rank)
}

#[test]
fn what_a_newcomer_points_to_is_not_owned_by_the_one_before() {
    let alone = Rank::Leader {
        owned_objects: 0,
        owned_bytes: 0,
    };
    let mut moment = 0;
    loop {
        let (there_was, rank) = replace_at(moment);
        // Where the newcomer comes early enough, it keeps what it points to alive.
        assert!(rank.is_none_or(|rank| rank == alone), "{moment}: {rank:?}");
        moment += 1;
        if !there_was {
            break;
        }
    }
    assert!(moment > 10, "{moment} moments");
}
