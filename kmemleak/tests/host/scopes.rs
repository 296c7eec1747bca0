//! Scopes: what leaked inside, whoever allocated it, and what is said where that can't be told.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kmemleak::assert_no_leaks;
use kmemleak_emulated::Stop;

use crate::lab::{Lab, many};

fn held(lab: &Lab, slot: usize) -> usize {
    let block = lab.block(64);
    lab.hold(slot, block);
    block
}

/// The text of the panic in `work`.
fn panic_of(work: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(work)).expect_err("it panics");
    *panic.downcast::<String>().expect("a text")
}

#[test]
fn nothing_leaks_and_the_value_comes_through() {
    let lab = Lab::new();
    let before = lab.block(64);
    let value = assert_no_leaks!(lab.detector, {
        let block = held(&lab, 0);
        let passing = lab.block(32);
        lab.free(passing);
        block
    });
    assert_eq!(lab.leaks(), [before]);
    lab.hold(0, 0);
    assert_eq!(lab.leaks(), [before, value]);
}

#[test]
fn what_leaks_inside_is_told_of_whenever_it_was_allocated() {
    let lab = Lab::new();
    let (early, lost_before) = (held(&lab, 0), lab.block(64));
    let scope = lab.detector.scope();
    let inside = lab.block(100);
    lab.hold(0, 0);
    let Err(leaked) = scope.finish() else {
        panic!("two leaked")
    };
    assert_eq!((leaked.objects(), leaked.bytes()), (2, 164));
    let text = leaked.to_string();
    assert!(text.contains(&format!("unreferenced object {early:#018x} (size 64):\n")));
    assert!(text.contains(&format!("unreferenced object {inside:#018x} (size 100):\n")));
    assert!(!text.contains(&format!("{lost_before:#018x}")));
    assert!(text.ends_with("\nkmemleak: 2 objects (164 bytes) leaked"));
    assert_eq!(format!("{leaked:?}"), text);
}

#[test]
fn the_panic_is_the_report() {
    let lab = Lab::new();
    lab.machine.call_from(&["driver_probe"]);
    let mut block = 0;
    let text = panic_of(|| {
        assert_no_leaks!(lab.detector, block = lab.block(8));
    });
    lab.leaks();
    let crc = {
        let report = lab.report();
        let (_, rest) = report.split_once("(crc ").expect("one");
        rest[..8].to_owned()
    };
    assert_eq!(
        text,
        format!(
            "\
unreferenced object {block:#018x} (size 8):
  comm \"test\", pid 1, cpu 0, age 0.000s
  hex dump (first 8 bytes):
    00 00 00 00 00 00 00 00                          ........
  backtrace (crc {crc}):
    driver_probe
kmemleak: 1 object (8 bytes) leaked"
        )
    );
}

#[test]
fn nested_and_overlapping() {
    let lab = Lab::new();
    let outer = lab.detector.scope();
    let first = lab.block(8);
    let inner = lab.detector.scope();
    let second = lab.block(8);
    let overlapping = lab.detector.scope();
    let third = lab.block(8);
    let count =
        |result: Result<(), kmemleak::Leaked<'_, _>>| result.err().map(|leaked| leaked.objects());
    assert_eq!(count(inner.finish()), Some(2));
    lab.free(second);
    assert_eq!(count(overlapping.finish()), Some(1));
    assert_eq!(count(outer.finish()), Some(2));
    lab.free(first);
    lab.free(third);
    assert_eq!(count(lab.detector.scope().finish()), None);
}

#[test]
fn a_mark_and_a_scope_do_not_know_of_each_other() {
    let lab = Lab::new();
    let first = lab.block(8);
    let scope = lab.detector.scope();
    let second = lab.block(8);
    lab.say("mark");
    let third = lab.block(8);
    assert_eq!(scope.finish().err().map(|leaked| leaked.objects()), Some(2));
    let mut new = Vec::new();
    lab.detector
        .for_each_new(&mut |object| new.push(object.start))
        .expect("asked from outside");
    assert_eq!(new, [third]);
    assert_eq!(lab.leaks(), [first, second, third]);
}

#[test]
fn a_block_in_the_place_of_a_lost_one_is_another() {
    let lab = Lab::new();
    let lost = lab.block(64);
    let scope = lab.detector.scope();
    lab.detector.free(lost);
    lab.machine.advance_us(1);
    lab.detector.alloc(lost, 64, kmemleak::AllocOptions::new());
    assert_eq!(scope.finish().err().map(|leaked| leaked.objects()), Some(1));
}

#[test]
fn beside_what_runs() {
    let lab = Lab::new();
    lab.machine.set_stop(Stop::Unsupported);
    let before = lab.block(64);
    assert_no_leaks!(lab.detector, ());
    // What runs meanwhile may hide a pointer at every step: nothing is called a leak.
    let text = panic_of(|| _ = assert_no_leaks!(lab.detector, lab.block(64)));
    assert!(!text.contains(&format!("{before:#018x}")) && !text.contains("unreferenced object"));
    assert!(text.contains("suspected object") && text.ends_with(
        "kmemleak: whether anything leaked can't be told: 1 suspect (64 bytes); the world was not stopped to make sure"
    ), "{text}");
    let scope = lab.detector.scope();
    lab.block(64);
    let leaked = scope.finish().expect_err("it can't be told");
    assert_eq!(
        (leaked.objects(), leaked.bytes(), leaked.suspects()),
        (0, 0, 1)
    );
}

#[test]
fn where_it_is_off() {
    let lab = Lab::new();
    let scope = lab.detector.scope();
    lab.say("off");
    let text = "kmemleak: what leaked can't be told: off, and can't be switched on again";
    let Err(leaked) = scope.finish() else {
        panic!("it can't be told")
    };
    assert_eq!((leaked.to_string().as_str(), leaked.objects()), (text, 0));
    drop(leaked);
    assert_eq!(panic_of(|| assert_no_leaks!(lab.detector, ())), text);
}

#[test]
fn where_who_asks_is_asked_to_stop() {
    let lab = Lab::new();
    lab.machine.set_stop(Stop::Unsupported);
    let scope = lab.detector.scope();
    lab.machine.ask_to_stop();
    let Err(leaked) = scope.finish() else {
        panic!("it can't be told")
    };
    assert_eq!(
        leaked.to_string(),
        "kmemleak: what leaked can't be told: asked to stop"
    );
}

#[test]
fn where_there_is_no_memory_to_remember() {
    let lab = Lab::new();
    lab.block(64);
    lab.leaks();
    lab.detector.exhaust_metadata(true);
    let scope = lab.detector.scope();
    lab.detector.exhaust_metadata(false);
    let Err(leaked) = scope.finish() else {
        panic!("it can't be told")
    };
    assert_eq!(
        leaked.to_string(),
        "kmemleak: what leaked can't be told: no memory to remember what was lost before"
    );
}

/// A block without a record is in no list, whether it is lost or not.
#[test]
fn where_what_was_lost_may_have_no_record() {
    let lab = Lab::new();
    let scope = lab.detector.scope();
    lab.detector.exhaust_metadata(true);
    lab.block(64);
    lab.detector.exhaust_metadata(false);
    let Err(leaked) = scope.finish() else {
        panic!("it can't be told")
    };
    assert_eq!((leaked.objects(), leaked.suspects()), (0, 0));
    let text = "kmemleak: whether anything leaked can't be told: 0 suspects (0 bytes); 1 record is missing for lack of memory";
    assert_eq!(leaked.to_string(), text);
    // It may be lost from now on as well, until it is taken for granted.
    assert_eq!(panic_of(|| assert_no_leaks!(lab.detector, ())), text);
    lab.say("clear");
    assert_no_leaks!(lab.detector, ());
}

#[test]
fn where_there_is_no_memory_for_the_report_it_fails_all_the_same() {
    let lab = Lab::new();
    let scope = lab.detector.scope();
    (0..3).for_each(|_| _ = lab.block(64));
    lab.leaks();
    lab.detector.exhaust_metadata(true);
    let Err(leaked) = scope.finish() else {
        panic!("three leaked")
    };
    assert_eq!((leaked.objects(), leaked.bytes()), (3, 192));
    let text = leaked.to_string();
    assert!(
        text.contains("\nkmemleak: no memory for ") && text.ends_with(" bytes more"),
        "{text}"
    );
}

#[test]
fn many_leaks_make_a_long_report() {
    let lab = Lab::new();
    let scope = lab.detector.scope();
    let blocks: Vec<usize> = (0..many(500)).map(|_| lab.block(16)).collect();
    let Err(leaked) = scope.finish() else {
        panic!("all leaked")
    };
    let text = leaked.to_string();
    for block in &blocks {
        assert!(text.contains(&format!("unreferenced object {block:#018x}")));
    }
    assert_eq!(leaked.objects(), blocks.len());
}

#[test]
fn metadata_comes_back() {
    let lab = Lab::new();
    (0..many(500)).for_each(|_| _ = lab.block(16));
    let run = |lab: &Lab| {
        let scope = lab.detector.scope();
        let block = lab.block(16);
        let leaked = scope.finish();
        assert!(leaked.is_err());
        drop(leaked);
        lab.free(block);
        // One that is never finished.
        drop(lab.detector.scope());
    };
    run(&lab);
    let before = (
        lab.detector.metadata().objects,
        lab.machine.metadata_pages(),
    );
    for _ in 0..20 {
        run(&lab);
    }
    assert_eq!(
        (
            lab.detector.metadata().objects,
            lab.machine.metadata_pages()
        ),
        before
    );
}

#[test]
fn metadata_stays_as_long_as_a_scope_or_its_report_uses_it() {
    let lab = Lab::new();
    lab.block(64);
    let (kept, finished) = (lab.detector.scope(), lab.detector.scope());
    lab.block(32);
    let Err(leaked) = finished.finish() else {
        panic!("one leaked")
    };
    lab.say("off");
    const IN_USE: &str = "kmemleak: metadata kept: a scope or its report is in use\n";
    assert_eq!(lab.say("clear"), IN_USE);
    assert!(leaked.to_string().ends_with("1 object (32 bytes) leaked"));
    drop(leaked);
    assert_eq!(lab.say("clear"), IN_USE);
    let Err(unknown) = kept.finish() else {
        panic!("it can't be told")
    };
    assert_eq!(lab.say("clear"), IN_USE);
    assert!(
        unknown
            .to_string()
            .contains("off, and can't be switched on again")
    );
    drop(unknown);
    assert_eq!(lab.say("clear"), "kmemleak: metadata freed\n");
    assert_eq!(lab.machine.metadata_pages(), 0);
}
