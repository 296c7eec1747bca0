//! Clear: what is reported is taken for granted.

use kmemleak::AllocOptions;

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
fn ways_that_begin_at_a_cleared_object_say_so() {
    let lab = Lab::new();
    let (block, behind) = (lab.block(64), lab.block(64));
    lab.machine.write(block, behind);
    lab.leaks();
    lab.say("clear");
    let late = lab.block(64);
    lab.machine.write(block + 8, late);
    for question in ["path", "holders"] {
        let answer = lab.say(&format!("{question} {late:#x}"));
        let place = format!("object {block:#018x} (size 64)+0x8, acknowledged by clear");
        assert!(answer.contains(&place), "{answer}");
        let answer = lab.say(&format!("{question} {late:#x} --json"));
        assert!(answer.contains(",\"acknowledged\":true,"), "{answer}");
    }
    let path = lab.say(&format!("path {block:#x}"));
    let reason = "it is itself a root, as it was acknowledged by clear";
    assert!(path.contains(reason), "{path}");
    let why = lab.say(&format!("why {block:#x}"));
    assert!(
        why.contains("never reported: it was acknowledged by clear"),
        "{why}"
    );
    // What somebody declares to be no leak is something else.
    let gray = lab.block_with(64, AllocOptions::new().min_count(0));
    lab.machine.write(gray, late);
    let holders = lab.say(&format!("holders {late:#x}"));
    assert_eq!(holders.matches("acknowledged").count(), 1, "{holders}");
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
