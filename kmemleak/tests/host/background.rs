//! The background task's step: scans when it is time to, and tells what is new.

use kmemleak::NextStep;
use kmemleak_emulated::Stop;

use crate::lab::Lab;

/// A step, and what it wrote.
fn step(lab: &Lab) -> (NextStep, String) {
    let mut log = String::new();
    (lab.detector.background_step(&mut log), log)
}

/// Time for the next scan.
fn wait(lab: &Lab) {
    lab.machine.advance_us(600_000_001);
}

#[test]
fn first_after_a_minute() {
    let lab = Lab::new();
    lab.block(64);
    let (next, log) = step(&lab);
    assert!(matches!(next, NextStep::Wait { us } if us <= 60_000_000));
    assert_eq!(log, "");
}

#[test]
fn a_leak_is_told_once() {
    let lab = Lab::new();
    lab.block(64);
    let mut told = String::new();
    // However many passes it takes to be sure.
    for _ in 0..10 {
        wait(&lab);
        told += &step(&lab).1;
    }
    assert_eq!(
        told,
        "kmemleak: 1 new unreferenced object (64 bytes), see \"kmemleak report\"\n"
    );
}

#[test]
fn one_that_is_referenced_again_is_told_and_may_be_reported_again() {
    let lab = Lab::new();
    let block = lab.block(64);
    let steps = |lab: &Lab| -> String {
        (0..10)
            .map(|_| {
                wait(lab);
                step(lab).1
            })
            .collect()
    };
    assert!(steps(&lab).contains("1 new unreferenced object"));
    lab.hold(0, block);
    let again = format!("kmemleak: object {block:#018x} (size 64) is referenced again\n");
    assert_eq!(steps(&lab), again);
    lab.hold(0, 0);
    assert!(steps(&lab).contains("1 new unreferenced object"));
}

#[test]
fn verbose_writes_the_report() {
    let lab = Lab::new();
    lab.detector
        .boot_parameter("kmemleak.verbose=on")
        .expect("known");
    lab.machine.call_from(&["forgotten"]);
    lab.block(64);
    let mut told = String::new();
    for _ in 0..10 {
        wait(&lab);
        told += &step(&lab).1;
    }
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 4, "a table, once: {told}");
    assert!(lines[0].ends_with("allocated by                 at"));
    assert!(
        lines[1].starts_with("   #1        1      64 B         - ")
            && lines[1].ends_with(" forgotten")
    );
    assert_eq!(lines[3], "next: kmemleak show #1");
}

#[test]
fn switched_off_it_does_nothing() {
    let lab = Lab::new();
    lab.block(64);
    lab.say("scan=off");
    wait(&lab);
    assert_eq!(step(&lab), (NextStep::Stopped, String::new()));
    lab.say("scan=on");
    lab.say("off");
    wait(&lab);
    assert_eq!(step(&lab), (NextStep::Stopped, String::new()));
}

#[test]
fn what_a_command_has_told_of_is_neither_news_nor_said_to_be_referenced() {
    for stop in [Stop::Works, Stop::Unsupported] {
        let lab = Lab::new();
        lab.machine.set_stop(stop);
        let step = |us: u64| {
            lab.machine.advance_us(us);
            let mut log = String::new();
            lab.detector.background_step(&mut log);
            log
        };
        lab.say("scan=1");
        let block = lab.block(64);
        assert!(lab.say("scan --full").contains(&format!("{block:#018x}")));
        // Young, and seen for the first time by the scan; then of age; then changed.
        for round in 0..10 {
            assert_eq!(step(1_000_000), "", "{stop:?}, {round}");
        }
        lab.machine.write(block, 1);
        for _ in 0..4 {
            assert_eq!(step(1_000_000), "", "{stop:?}, changed");
        }
        assert_eq!(lab.listed(), [block]);
        lab.hold(0, block);
        let again = format!("kmemleak: object {block:#018x} (size 64) is referenced again\n");
        assert_eq!(step(1_000_000), again);
        lab.hold(0, 0);
        let log: String = (0..4).map(|_| step(1_000_000)).collect();
        let what = match stop {
            Stop::Works => "unreferenced",
            _ => "suspected",
        };
        let new = format!("kmemleak: 1 new {what} object (64 bytes)");
        assert!(log.starts_with(&new), "{log}");
    }
}

/// "Never again" is set while a scan goes on: the next one is as far away as can be, and not at once.
#[test]
fn an_interval_without_end_set_during_a_scan_is_none() {
    let lab = Lab::new();
    lab.block(64);
    wait(&lab);
    let detector = std::sync::Arc::downgrade(&lab.detector);
    lab.machine.at_relax(move |_| {
        if let Some(detector) = detector.upgrade() {
            let never = format!("kmemleak.scan={}", u64::MAX);
            assert_eq!(detector.boot_parameter(&never), Ok(()));
        }
    });
    step(&lab);
    lab.machine.at_relax(|_| ());
    let (next, log) = step(&lab);
    assert!(matches!(next, NextStep::Wait { us } if us > u64::MAX / 2));
    assert_eq!(log, "");
}
