//! Off: final, and the last verdict stays until the metadata goes.

use crate::lab::{Lab, many};

#[test]
fn nothing_is_recorded_any_more() {
    let lab = Lab::new();
    lab.say("off");
    assert!(!lab.detector.is_on());
    let block = lab.block(64);
    lab.free(block);
    lab.detector.no_scan(block);
    assert_eq!((lab.tracked(), lab.warnings()), (0, String::new()));
    assert_eq!(lab.detector.check(), Err(kmemleak::NotDone::Off));
    assert_eq!(lab.status("state"), "disabled");
}

#[test]
fn for_good() {
    let lab = Lab::new();
    lab.say("off");
    for word in ["scan", "off", "stack=on", "scan=on"] {
        assert_eq!(
            lab.say(word),
            "kmemleak: off, and can't be switched on again\n",
            "{word}"
        );
    }
    assert_eq!(lab.detector.boot_parameter("kmemleak=on"), Ok(()));
    assert!(!lab.detector.is_on());
}

#[test]
fn the_last_verdict_can_be_read_until_clear() {
    let lab = Lab::new();
    lab.block(64);
    let report = lab.say("scan");
    lab.say("off");
    let without_dumps = |report: &str| -> Vec<String> {
        let dump = |line: &&str| line.contains("hex dump") || line.starts_with("    ");
        let lines = report.lines().filter(|line| !dump(line));
        lines.map(String::from).collect()
    };
    let mut after = without_dumps(&lab.say("report"));
    after.retain(|line| line != NOT_READ);
    assert_eq!(after, without_dumps(&report));
    assert_eq!(lab.say("clear"), "kmemleak: metadata freed\n");
    assert_eq!(
        lab.say("report"),
        "kmemleak: no check so far, or none since the last clear\n"
    );
}

/// What stands in the place of a dump.
const NOT_READ: &str = "  not read: the detector is off, and the block may have been freed";

/// Off, it hears of no free: a block of the last verdict may be another's, or unmapped.
#[test]
fn no_block_is_read_any_more() {
    let lab = Lab::new();
    let (before, after) = (lab.block(64), lab.block(64));
    for block in [before, after] {
        lab.machine.write(block, 0x7365_6372_6574);
    }
    lab.leaks();
    lab.free(before);
    lab.say("off");
    let report = lab.report();
    assert!(!report.contains("hex dump") && !report.contains("65 72"));
    assert_eq!(report.matches("\n  freed since\n").count(), 1);
    assert_eq!(report.matches(NOT_READ).count(), 1);
    let json = lab.say("report --json");
    let told = |freed| json.contains(&format!(r#""freed":{freed},"dump":null"#));
    assert!(told("true") && told("null"), "{json}");
}

#[test]
fn clear_gives_all_metadata_back() {
    let lab = Lab::new();
    (0..many(5000)).for_each(|_| _ = lab.block(16));
    assert!(lab.machine.metadata_pages() > 0);
    lab.say("off");
    lab.say("clear");
    assert_eq!(lab.machine.metadata_pages(), 0);
    lab.say("clear");
    assert_eq!(lab.status("objects"), "0 (0 bytes)");
}

#[test]
fn a_check_that_goes_on_is_ended() {
    let lab = Lab::new();
    lab.machine.set_stop(kmemleak_emulated::Stop::Unsupported);
    lab.block(64);
    let (started, waiting) = std::sync::mpsc::channel();
    lab.machine.at_relax(move |_| _ = started.send(()));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Whichever of the two comes first: the check ends.
            while lab.detector.check().is_ok() {}
        });
        waiting.recv().expect("the check runs");
        lab.say("off");
    });
    assert!(!lab.detector.is_on());
}

#[test]
fn a_selftest_changes_no_count() {
    let lab = Lab::new();
    lab.say("off");
    lab.say("selftest");
    assert_eq!(lab.status("unrecorded"), "0 (ever: 0)");
}
