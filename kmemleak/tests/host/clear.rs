//! Clear: what is reported is taken for granted.

use crate::lab::Lab;

#[test]
fn reported_objects_become_gray() {
    let lab = Lab::new();
    let (block, owned) = (lab.block(64), lab.block(64));
    assert_eq!(lab.leaks().len(), 2);
    assert_eq!(
        lab.say("clear"),
        "kmemleak: 2 reported objects are no leaks from now on\n"
    );
    let late = lab.block(64);
    lab.machine.write(block, late);
    assert_eq!(lab.leaks(), [], "they are scanned");
    lab.machine.write(block, 0);
    assert_eq!(lab.leaks(), [late]);
    lab.free(owned);
    assert_eq!(lab.warnings(), "");
}

#[test]
fn what_was_not_reported_stays_white() {
    let lab = Lab::new();
    lab.leaks();
    let late = lab.block(64);
    lab.say("clear");
    assert_eq!(lab.leaks(), [late]);
}

#[test]
fn there_is_no_verdict_then() {
    let lab = Lab::new();
    lab.block(64);
    lab.leaks();
    lab.say("clear");
    assert_eq!(lab.listed(), []);
    assert_eq!(
        lab.say("report"),
        "kmemleak: no check so far, or none since the last clear\n"
    );
}

#[test]
fn objects_freed_since_are_no_harm() {
    let lab = Lab::new();
    let blocks: Vec<usize> = (0..100).map(|_| lab.block(32)).collect();
    lab.leaks();
    blocks[..50].iter().for_each(|&block| lab.free(block));
    lab.say("clear");
    assert_eq!((lab.tracked(), lab.leaks()), (50, vec![]));
}
