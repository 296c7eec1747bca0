//! The report, to the letter.

use kmemleak::{Context, Level};
use kmemleak_emulated::{set_comm, set_current};

use crate::lab::Lab;

/// The shell on CPU 1.
const SHELL: Context = Context {
    task: 3,
    cpu: 1,
    level: Level::Task,
};

#[test]
fn one_object() {
    let lab = Lab::new();
    set_current(SHELL);
    set_comm("shell");
    lab.machine.call_from(&["forgotten_free", "command"]);
    let block = lab.block(64);
    lab.machine.write(block, 0x6b6b_6b6b_6b6b_6b6b);
    lab.machine.write(block + 8, 0x2021_7e7f_417a_001f);
    lab.machine.write(block + 24, 0xffff_9c00_00a3_e368);
    lab.machine.advance_us(12_479_999);
    assert_eq!(lab.leaks(), [block]);
    let crc = crc_of(&lab);
    assert_eq!(
        lab.report(),
        format!(
            "\
unreferenced object {block:#018x} (size 64), #2:
  comm \"shell\", pid 3, cpu 1, age 12.480s
  hex dump (first 32 bytes):
    6b 6b 6b 6b 6b 6b 6b 6b 1f 00 7a 41 7f 7e 21 20  kkkkkkkk..zA.~! 
    00 00 00 00 00 00 00 00 68 e3 a3 00 00 9c ff ff  ........h.......
  backtrace (crc {crc}):
    forgotten_free
    command
kmemleak: 1 unreferenced object (64 bytes)
"
        )
    );
}

/// The checksum of the only call stack in the report: eight hexadecimal digits.
fn crc_of(lab: &Lab) -> String {
    let report = lab.report();
    let (_, rest) = report.split_once("(crc ").expect("a checksum");
    let (crc, _) = rest.split_once(')').expect("its end");
    assert_eq!(crc.len(), 8);
    assert!(u32::from_str_radix(crc, 16).is_ok());
    crc.into()
}

#[test]
fn a_short_object_shows_what_it_has() {
    let lab = Lab::new();
    let block = lab.block(20);
    lab.machine.write(block, 0x4847_4645_4443_4241);
    lab.leaks();
    let report = lab.report();
    assert!(report.contains("41 42 43 44 45 46 47 48 00 00"), "{report}");
    assert!(!report.contains("first 32 bytes"));
}

#[test]
fn without_a_call_stack() {
    let lab = Lab::new();
    lab.block(64);
    lab.leaks();
    assert!(lab.report().contains("\n  backtrace: none recorded\n"));
}

#[test]
fn sixteen_frames_at_most() {
    let lab = Lab::new();
    let labels: Vec<String> = (0..20).map(|depth| format!("depth_{depth}.")).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    lab.machine.call_from(&labels);
    lab.block(64);
    lab.leaks();
    let report = lab.report();
    assert!(report.contains("depth_15.") && !report.contains("depth_16."));
}

#[test]
fn allocated_in_an_interrupt() {
    let lab = Lab::new();
    set_current(Context {
        level: Level::Interrupt,
        ..SHELL
    });
    lab.block(64);
    set_current(SHELL);
    lab.leaks();
    assert!(
        lab.report()
            .contains("  comm \"hardirq\", pid 3, cpu 1, age ")
    );
}

#[test]
fn an_object_freed_since_is_not_read() {
    let lab = Lab::new();
    let (freed, other) = (lab.block(64), lab.block(64));
    lab.machine.write(freed, 0x6b6b_6b6b_6b6b_6b6b);
    lab.leaks();
    lab.free(freed);
    assert_eq!(lab.listed(), [other]);
    let report = lab.report();
    assert!(!report.contains("6b 6b 6b"), "{report}");
    assert!(report.contains("\n  freed since\n"), "{report}");
}

#[test]
fn none_is_one_line() {
    let lab = Lab::new();
    lab.hold(0, lab.block(64));
    lab.leaks();
    for command in ["report", "report --full", "scan", "new"] {
        let answer = lab.say(command);
        let last = answer.lines().last();
        assert_eq!(last, Some("kmemleak: 0 unreferenced objects (0 bytes)"));
        assert_eq!(answer.lines().count() == 1, command != "new", "{answer}");
    }
}

#[test]
fn the_summary_has_the_figures_of_the_report() {
    let lab = Lab::new();
    (0..3).for_each(|_| _ = lab.block(100));
    let summary = lab.detector.check().expect("on");
    assert_eq!((summary.objects, summary.bytes), (3, 300));
    assert_eq!(
        (summary.unreported_objects, summary.unreported_bytes),
        (3, 300)
    );
    assert!(
        lab.report()
            .ends_with("kmemleak: 3 unreferenced objects (300 bytes)\n")
    );
}
