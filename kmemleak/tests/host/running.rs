//! Checks while other code runs, where the world can't be stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kmemleak::{AllocOptions, How, StopError};
use kmemleak_emulated::Stop;

use crate::lab::{Lab, many};

fn unstoppable() -> Lab {
    let lab = Lab::new();
    lab.machine.set_stop(Stop::Unsupported);
    lab
}

#[test]
fn the_verdict_says_how_and_why() {
    let lab = Lab::new();
    let how = |stop| {
        lab.machine.set_stop(stop);
        lab.detector.check().expect("on").how
    };
    assert_eq!(how(Stop::Works), How::Stopped);
    let repeated = |how, wanted| matches!(how, How::Repeated { reason, .. } if reason == wanted);
    assert!(repeated(how(Stop::Unsupported), StopError::Unsupported));
    assert!(repeated(how(Stop::Missing(1)), StopError::Missing(1)));
    assert!(
        lab.report()
            .starts_with("kmemleak: cpu 1 did not stop in time")
    );
}

#[test]
fn finds_what_stands_still() {
    let lab = unstoppable();
    let (held, lost) = (lab.block(64), lab.block(64));
    lab.hold(0, held);
    assert_eq!(lab.leaks(), [lost]);
    lab.hold(0, 0);
    assert_eq!(lab.leaks(), [held, lost]);
    lab.hold(3, lost);
    assert_eq!(lab.leaks(), [held]);
}

#[test]
fn what_is_born_meanwhile_is_not_reported_and_keeps_others_alive() {
    let lab = unstoppable();
    let owned = lab.block(64);
    lab.hold(0, owned);
    let detector = Arc::downgrade(&lab.detector);
    let born = Arc::new(AtomicUsize::new(0));
    let owner = Arc::clone(&born);
    // At the first chance: the only pointer goes from the root into a new block that nothing points to.
    lab.machine.at_relax(move |machine| {
        if owner.load(Ordering::Relaxed) == 0 {
            let detector = detector.upgrade().expect("it checks");
            machine.advance_us(1);
            let start = machine.slab(64);
            detector.alloc(start, 64, AllocOptions::new());
            machine.write(start, owned);
            machine.store(kmemleak_emulated::Place::Bss(0), 0);
            owner.store(start, Ordering::Relaxed);
        }
    });
    let first = lab.leaks();
    let start = born.load(Ordering::Relaxed);
    assert!(start != 0 && !first.contains(&start), "{first:x?}");
    assert_eq!(lab.leaks(), [owned, start], "now both were there before");
}

#[test]
fn what_is_freed_meanwhile_is_not_reported() {
    let lab = unstoppable();
    let blocks: Vec<usize> = (0..many(2000)).map(|_| lab.block(16)).collect();
    let detector = Arc::downgrade(&lab.detector);
    let mut left = blocks.clone();
    lab.machine.at_relax(move |machine| {
        if let (Some(block), Some(detector)) = (left.pop(), detector.upgrade()) {
            detector.free(block);
            machine.free(block);
        }
    });
    let lost = lab.leaks();
    assert_eq!(lost, blocks[..lost.len()]);
    assert_eq!(lab.tracked(), lost.len());
}

#[test]
fn a_chain_that_is_freed_while_it_is_marked() {
    let lab = unstoppable();
    let chain: Vec<usize> = (0..many(3000)).map(|_| lab.block(16)).collect();
    for pair in chain.windows(2) {
        lab.machine.write(pair[0], pair[1]);
    }
    lab.hold(0, chain[0]);
    let detector = Arc::downgrade(&lab.detector);
    let mut left = chain.clone();
    lab.machine.at_relax(move |machine| {
        if let (Some(block), Some(detector)) = (left.pop(), detector.upgrade()) {
            // Unlinked, then freed.
            if let Some(&before) = left.last() {
                machine.write(before, 0);
            }
            detector.free(block);
            machine.free(block);
        }
    });
    assert_eq!(lab.leaks(), []);
    assert_eq!(lab.warnings(), "");
}

#[test]
fn one_who_is_asked_to_gives_up() {
    let lab = unstoppable();
    lab.block(64);
    lab.machine.ask_to_stop();
    assert_eq!(lab.detector.check(), Err(kmemleak::NotDone::Stopped));
    assert!(lab.detector.is_on());
    assert_eq!(lab.listed(), []);
}
