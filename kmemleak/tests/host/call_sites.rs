//! Call stacks begin where memory was asked for, and say why if there are none.

use std::ops::Range;

use kmemleak::{AllocOptions, Detector, IrqState, Platform, Root, RootCursor, StackWalk};

use crate::lab::{Lab, pool};

/// What lies between an allocator and `net::open`, innermost first, and what called that.
const STACK: [&str; 5] = [
    "<kmemleak::front::tracked::Tracked<A,P> as core::alloc::global::GlobalAlloc>::alloc",
    "__rustc::__rust_alloc",
    "alloc::raw_vec::finish_grow",
    "net::open",
    "alloc::boxed::Box<F>::call",
];

fn lab(stack: &[&str]) -> Lab {
    let lab = Lab::new();
    lab.machine.call_from(stack);
    lab
}

/// The lines of a call stack under this title: how many frames are skipped, as it is told, and the frames.
fn backtrace(text: &str, title: &str) -> (String, Vec<String>) {
    let (_, rest) = text
        .split_once(&format!("  {title} (crc "))
        .unwrap_or_else(|| panic!("no {title} in {text}"));
    let mut lines = rest.lines();
    let crc = lines.next().expect("its end");
    let told = crc[8..].trim_end_matches("):").to_owned();
    let frames = lines.map_while(|line| line.strip_prefix("    "));
    (told, frames.map(str::to_owned).collect())
}

fn skipped_three() -> (String, Vec<String>) {
    (
        ", 3 frames skipped".into(),
        STACK[3..].iter().map(|&name| name.into()).collect(),
    )
}

#[test]
fn reports_begin_with_the_caller() {
    let lab = lab(&STACK);
    let block = lab.block(64);
    lab.leaks();
    assert_eq!(backtrace(&lab.report(), "backtrace"), skipped_three());
    let dump = lab.say(&format!("dump {block:x}"));
    assert_eq!(backtrace(&dump, "backtrace"), skipped_three());
    assert_eq!(
        backtrace(&lab.say("sites --full"), "backtrace"),
        skipped_three()
    );
    lab.block(64);
    lab.leaks();
    let group = lab.report();
    assert!(group.starts_with("group of 2 "), "{group}");
    assert_eq!(backtrace(&group, "backtrace"), skipped_three());
    // An object of the group is named by the checksum of the whole call stack.
    let crc = |text: &str| text.split_once("(crc ").expect("a checksum").1[..8].to_owned();
    assert!(group.contains(&format!("backtrace (crc {}): as above", crc(&group))));
}

#[test]
fn answers_name_the_caller() {
    let lab = lab(&STACK);
    let (holder, held) = (lab.block(64), lab.block(32));
    lab.hold(0, holder);
    lab.machine.write(holder + 8, held + 8);
    assert!(lab.leaks().is_empty());
    for question in ["holders", "path"] {
        let answer = lab.say(&format!("{question} {held:x}"));
        assert!(answer.contains("+0x8, from net::open\n"), "{answer}");
        assert!(!answer.contains("alloc"), "{answer}");
    }
    let interior = lab.say("interior --full");
    assert_eq!(backtrace(&interior, "backtrace"), skipped_three());
}

#[test]
fn live_objects_name_the_caller() {
    let lab = lab(&STACK);
    lab.block(64);
    let sites = lab.say("sites --full");
    let crc = &sites.split_once("(crc ").expect("a checksum").1[..8];
    let site = lab.say(&format!("site {crc}"));
    let (head, rows) = site.split_once("    # address ").expect("a table");
    assert_eq!(backtrace(head, "backtrace"), skipped_three());
    let caller = format!(", crc {crc}, from net::open\n");
    assert!(!rows.contains("net::open"), "told above: {site}");
    let objects = lab.say("objects --full");
    assert!(objects.contains(&caller), "{objects}");
}

#[test]
fn warnings_begin_with_the_caller() {
    let lab = lab(&STACK);
    let block = lab.block(64);
    lab.detector.free(block);
    lab.machine
        .call_from(&["<A as core::alloc::global::GlobalAlloc>::dealloc", "close"]);
    lab.detector.free(block);
    let warning = lab.warnings();
    let closed = (", 1 frame skipped".into(), vec!["close".into()]);
    assert_eq!(backtrace(&warning, "called from"), closed);
    assert_eq!(backtrace(&warning, "allocated last from"), skipped_three());
}

#[test]
fn scopes_begin_with_the_caller() {
    let lab = lab(&STACK);
    let scope = lab.detector.scope();
    lab.block(64);
    let leaked = scope.finish().expect_err("a block is lost");
    assert_eq!(backtrace(&leaked.to_string(), "backtrace"), skipped_three());
}

#[test]
fn json_has_all_frames_and_how_many_are_skipped() {
    let lab = lab(&STACK);
    lab.block(64);
    lab.leaks();
    let report = lab.say("report --json");
    let frames = STACK.map(|name| format!("\"{name}\"")).join(",");
    let expected = format!(",\"skipped\":3,\"backtrace\":[{frames}]");
    assert_eq!(report.matches(&expected).count(), 2, "{report}");
    let crc = &report.split_once("\"crc\":\"").expect("a checksum").1[..8];
    for (command, lines) in [
        ("sites --json", 1),
        ("objects --json", 1),
        (&format!("site {crc} --json"), 2),
    ] {
        let answer = lab.say(command);
        assert_eq!(answer.matches(&expected).count(), lines, "{answer}");
        assert!(answer.ends_with(",\"no_call_stacks\":null}\n"), "{answer}");
    }
    assert!(report.contains(",\"no_call_stacks\":null}"), "{report}");
}

#[test]
fn nothing_is_skipped_where_all_is_machinery() {
    let lab = lab(&STACK[..3]);
    lab.block(64);
    lab.leaks();
    let all = STACK[..3].iter().map(|&name| name.into()).collect();
    assert_eq!(backtrace(&lab.report(), "backtrace"), (String::new(), all));
}

#[test]
fn a_frame_counts_by_all_functions_that_were_inlined_there() {
    for (frame, skipped) in [
        ("alloc::vec::push\ncore::ptr::write", ", 1 frame skipped"),
        ("alloc::vec::push\nnet::fill\ncore::ptr::write", ""),
        ("alloc::vec::push\ncore::ptr::write\nnet::fill\n", ""),
    ] {
        let lab = lab(&[frame, "net::open"]);
        lab.block(64);
        lab.leaks();
        let (told, _) = backtrace(&lab.report(), "backtrace");
        assert_eq!(told, skipped, "{frame}");
    }
}

#[test]
fn a_name_of_any_length_is_judged_by_its_beginning() {
    let long = "x".repeat(1000);
    let library = format!("alloc::vec::{long}");
    let unknown = format!("<alloc::vec::Vec<{long}> as core::clone::Clone>::clone");
    for (frame, skipped) in [(&library, ", 1 frame skipped"), (&unknown, "")] {
        let lab = lab(&[frame, "net::open"]);
        lab.block(64);
        lab.leaks();
        assert_eq!(backtrace(&lab.report(), "backtrace").0, skipped);
    }
}

#[test]
fn suppressions_match_what_is_skipped() {
    let lab = lab(&STACK);
    lab.block(64);
    lab.say("suppress finish_grow");
    assert!(lab.leaks().is_empty());
}

#[test]
fn call_stacks_that_differ_in_what_is_skipped_are_groups_of_their_own() {
    let lab = lab(&STACK);
    lab.block(64);
    lab.machine.call_from(&STACK[2..]);
    lab.block(64);
    lab.leaks();
    assert!(lab.report().contains("from 2 call stacks\n"));
}

#[test]
fn a_platform_without_call_stacks_is_told_of() {
    const WHY: &str = "the platform gives none (Platform::stack_bounds, stack_walk, call_stack)";
    let lab = Lab::new();
    lab.leaks();
    // Where nothing is shown, nothing is missing.
    for command in ["report", "sites", "site 0", "objects", "interior"] {
        assert!(!lab.say(command).contains("no call stacks"), "{command}");
    }
    let (held, lost) = (lab.block(32), lab.block(64));
    lab.hold(0, held + 8);
    assert_eq!(lab.leaks(), [lost]);
    let told = format!("\nkmemleak: no call stacks: {WHY}\n");
    let told_json = format!(",\"no_call_stacks\":\"{WHY}\"}}\n");
    for command in ["report", "sites", "site 0", "objects", "interior"] {
        let text = lab.say(command);
        assert_eq!(text.matches(&told).count(), 1, "{text}");
        let json = lab.say(&format!("{command} --json"));
        assert!(json.ends_with(&told_json), "{json}");
    }
    assert!(!lab.say("objects --top 0").contains(&told));
    assert!(lab.say("site 0 --top 0").contains(&told));
    assert_eq!(lab.status("call stacks"), format!("none: {WHY}"));
    let scope = lab.detector.scope();
    lab.block(64);
    let leaked = scope.finish().expect_err("a block is lost").to_string();
    assert!(leaked.contains(&told), "{leaked}");
    // Here and now there is one: why the objects have none is not known.
    lab.machine.call_from(&["net::open"]);
    assert!(!lab.report().contains("no call stacks"));
    assert!(!lab.say("status").contains("call stacks  none"));
}

/// A kernel that names this stack, and whose frame pointer register holds anything but a frame's address.
struct Unwalkable(Range<usize>);

// SAFETY: there are no roots and no interrupts, and one thread; no frame lies at an odd address, so none is read.
unsafe impl Platform for Unwalkable {
    fn now_us(&self) -> u64 {
        1
    }

    fn irq_save(&self) -> IrqState {
        IrqState(0)
    }

    fn irq_restore(&self, _: IrqState) {}

    fn next_root(&self, _: &mut RootCursor) -> Option<Root> {
        None
    }

    fn stack_walk(&self) -> Option<StackWalk> {
        Some(StackWalk {
            frame_pointer: 0x1001,
            stack: self.0.clone(),
            skip: 0..0,
        })
    }
}

fn told_without_frames(stack: Range<usize>, why: &str) {
    let detector = Detector::new(Unwalkable(stack)).with_pool(pool::<16>());
    detector.alloc(0x10_0000, 64, AllocOptions::new());
    detector.check().expect("it is on");
    let said = |command| {
        let mut text = String::new();
        detector
            .command(command, &mut text)
            .expect("text takes all");
        text
    };
    let report = said("report");
    assert!(
        report.contains(&format!("\nkmemleak: no call stacks: {why}\n")),
        "{report}"
    );
    assert!(said("status").contains(&format!("\ncall stacks  none: {why}\n")));
}

#[test]
fn frame_pointers_that_are_off_are_told_of() {
    // All addresses but the highest one: the stack is among them, wherever it lies.
    told_without_frames(
        0..usize::MAX,
        "no frame is found on the stack: build with -C force-frame-pointers=yes",
    );
}

#[test]
fn bounds_of_another_stack_are_told_of() {
    told_without_frames(
        0x1000..0x2000,
        "the running stack lies elsewhere than the platform says (Platform::stack_bounds, stack_walk)",
    );
}
