//! Call stacks of a sample of allocations, or of none: what is estimated, and what stays exact.

use kmemleak::{AllocOptions, ParameterError};
use kmemleak_emulated::{CallStacks, Machine};

use crate::lab::Lab;

const NET: [&str; 3] = ["net::receive", "net::poll", "task::run"];
const DISK: [&str; 3] = ["disk::read", "disk::queue", "task::run"];

/// A sample that takes nothing that a test allocates.
const RARE: &str = "kmemleak.stacks=sample:1099511627776";

fn lab(parameter: &str) -> Lab {
    let lab = Lab::new();
    lab.detector.boot_parameter(parameter).expect("a parameter");
    lab
}

fn allocate(lab: &Lab, stack: &[&str], count: usize, size: usize) -> Vec<usize> {
    lab.machine.call_from(stack);
    (0..count).map(|_| lab.block(size)).collect()
}

/// A number of the line of JSON that has this text.
fn number(json: &str, with: &str, field: &str) -> usize {
    let line = json.lines().find(|line| line.contains(with));
    let line = line.unwrap_or_else(|| panic!("no {with} in {json}"));
    let (_, rest) = line
        .split_once(&format!("\"{field}\":"))
        .unwrap_or_else(|| panic!("no {field} in {line}"));
    let digits = rest.split(|char: char| !char.is_ascii_digit()).next();
    digits
        .and_then(|digits| digits.parse().ok())
        .expect("a number")
}

fn assert_near(estimate: usize, exact: usize) {
    // More than three standard deviations: the samples have 600 objects and more.
    let error = estimate.abs_diff(exact) as f64 / exact as f64;
    assert!(error < 0.13, "{estimate}, not about {exact}");
}

#[test]
fn what_is_alive_is_estimated_from_a_sample() {
    let lab = lab("kmemleak.stacks=sample:4096");
    let small = allocate(&lab, &NET, 40_000, 64);
    allocate(&lab, &DISK, 3_000, 1024);
    let sites = lab.say("sites --json");
    assert_near(number(&sites, "net::receive", "objects"), 40_000);
    assert_near(number(&sites, "net::receive", "bytes"), 40_000 * 64);
    assert_near(number(&sites, "disk::read", "objects"), 3_000);
    assert_near(number(&sites, "disk::read", "bytes"), 3_000 * 1024);
    // How many there are in all is known.
    let sum = |sites: &str, field: &str| {
        let sample = sites.split_once("\"sample\":{").expect("a sample").1;
        number(sample, "every", field) + number(sample, "every", &format!("other_{field}"))
    };
    assert_eq!(sum(&sites, "objects"), 43_000);
    assert_eq!(sum(&sites, "bytes"), 40_000 * 64 + 3_000 * 1024);
    let sampled = number(
        sites.split_once("\"sample\":{").expect("a sample").1,
        "every",
        "objects",
    );
    assert!((1_000..1_600).contains(&sampled), "{sampled}");
    let text = lab.say("sites");
    assert!(
        text.contains("kmemleak: estimated from a sample, one for each 4096 bytes: "),
        "{text}"
    );
    // What is freed is not counted any more.
    small
        .into_iter()
        .step_by(2)
        .for_each(|start| lab.free(start));
    let sites = lab.say("sites --json");
    assert_near(number(&sites, "net::receive", "objects"), 20_000);
}

#[test]
fn large_blocks_are_in_every_sample() {
    let lab = lab("kmemleak.stacks=sample:16");
    allocate(&lab, &NET, 50, 1024);
    let sites = lab.say("sites --json");
    assert_eq!(number(&sites, "net::receive", "objects"), 50);
    assert_eq!(number(&sites, "net::receive", "bytes"), 50 * 1024);
    assert!(sites.contains("\"other_objects\":0"), "{sites}");
}

/// Allocates, holds and frees the same in each lab: which blocks are lost.
fn lost(lab: &Lab) -> Vec<usize> {
    let mut blocks = allocate(lab, &NET, 100, 64);
    blocks.extend(allocate(lab, &DISK, 100, 200));
    for (index, &block) in blocks.iter().enumerate() {
        match index % 5 {
            0 => lab.hold(index / 5, block),
            1 => lab.machine.write(blocks[index - 1], block),
            2 => lab.free(block),
            3 => lab.machine.write(block, blocks[index + 1]),
            _ => {}
        }
    }
    let leaks = lab.leaks();
    let place = |leak| blocks.iter().position(|block| block == leak);
    leaks
        .iter()
        .map(|leak| place(leak).expect("one of them"))
        .collect()
}

#[test]
fn the_set_of_leaks_is_exact() {
    let all = lost(&lab("kmemleak.stacks=on"));
    assert_eq!(all.len(), 80);
    for parameter in ["kmemleak.stacks=off", "kmemleak.stacks=sample:512", RARE] {
        assert_eq!(lost(&lab(parameter)), all, "{parameter}");
    }
}

#[test]
fn what_is_in_no_sample_has_a_call_site() {
    let lab = lab(RARE);
    let block = allocate(&lab, &NET, 1, 64)[0];
    let dump = lab.say(&format!("dump {block:x}"));
    assert!(dump.contains("net::receive"), "{dump}");
    assert!(!dump.contains("net::poll"), "{dump}");
    lab.detector.update_trace(block);
    assert!(!lab.say(&format!("dump {block:x}")).contains("net::poll"));
}

#[test]
fn what_is_in_the_sample_stays_in_it() {
    let lab = lab("kmemleak.stacks=sample:1");
    let block = allocate(&lab, &NET, 1, 64)[0];
    lab.machine.call_from(&DISK);
    lab.detector.update_trace(block);
    assert!(lab.say(&format!("dump {block:x}")).contains("disk::queue"));
}

#[inline(never)]
fn one_place(lab: &Lab) -> usize {
    let start = lab.machine.slab(64);
    lab.detector.alloc(start, 64, AllocOptions::new());
    start
}

#[inline(never)]
fn another_place(lab: &Lab) -> usize {
    let start = lab.machine.slab(64);
    lab.detector.alloc(start, 64, AllocOptions::new());
    start
}

/// Where the detector walks the stack itself, a call site is one frame as well: the function that called it.
#[test]
fn a_call_site_is_walked_to() {
    let lab = Lab::of(Machine::builder().call_stacks(CallStacks::Walked));
    lab.detector.boot_parameter(RARE).expect("a parameter");
    // The first allocation of all is told from another place of the same function.
    one_place(&lab);
    let blocks = [one_place(&lab), one_place(&lab), another_place(&lab)];
    for block in blocks {
        let dump = lab.say(&format!("dump {block:x} --json"));
        let frames = dump.split_once("\"backtrace\":[").expect("frames").1;
        let frames = frames.split(']').next().expect("an end");
        assert_eq!(frames.matches("\",\"").count(), 0, "{dump}");
        assert!(!frames.is_empty(), "{dump}");
    }
    let crc = |block: usize| {
        let dump = lab.say(&format!("dump {block:x}"));
        dump.split_once("(crc ").expect("a call site").1[..8].to_owned()
    };
    let [same, again, other] = blocks.map(crc);
    assert_eq!(same, again);
    assert_ne!(same, other);
    // Nothing was stored for them.
    assert_eq!(
        number(&lab.say("status --json"), "status", "call_stacks"),
        0
    );
}

#[test]
fn without_call_stacks_there_are_none() {
    let lab = lab("kmemleak.stacks=off");
    allocate(&lab, &NET, 3, 64);
    assert_eq!(lab.leaks().len(), 3);
    let report = lab.report();
    assert!(!report.contains("net::"), "{report}");
    let why = "no call stacks: they are switched off (kmemleak.stacks=off)";
    assert!(report.contains(why), "{report}");
    assert_eq!(
        lab.status("call stacks "),
        "none: they are switched off (kmemleak.stacks=off)"
    );
}

#[test]
fn it_is_set_at_run_time() {
    let lab = Lab::new();
    let before = allocate(&lab, &NET, 1000, 64);
    let said = lab.say("stacks=sample:4096");
    assert!(
        said.contains("call stacks are taken of a sample of allocations, one for each 4096 bytes"),
        "{said}"
    );
    assert_eq!(
        lab.status("call stacks "),
        "of a sample of allocations, one for each 4096 bytes"
    );
    assert!(
        lab.say("status --json")
            .contains("\"stacks\":\"sample:4096\"")
    );
    // What was recorded before counts as it is.
    let sites = lab.say("sites --json");
    assert_eq!(number(&sites, "net::receive", "objects"), 1000);
    let said = lab.say("stacks=on");
    assert!(
        said.contains("call stacks are taken of all allocations from now on"),
        "{said}"
    );
    lab.machine.advance_us(1);
    allocate(&lab, &DISK, 10, 64);
    let sites = lab.say("sites --json");
    assert_eq!(number(&sites, "disk::read", "objects"), 10);
    assert!(sites.contains("\"sample\":null"), "{sites}");
    assert_eq!(before.len(), 1000);
}

#[test]
fn what_a_sample_took_is_estimated_after_its_end() {
    let lab = lab("kmemleak.stacks=sample:4096");
    allocate(&lab, &NET, 40_000, 64);
    lab.machine.advance_us(1);
    lab.say("stacks=on");
    let sites = lab.say("sites --json");
    assert!(
        sites.contains("\"sample\":{\"every\":4096,\"objects\":"),
        "{sites}"
    );
    assert_eq!(sites.matches("net::receive").count(), 1, "{sites}");
    assert_near(number(&sites, "net::receive", "objects"), 40_000);
}

#[test]
fn other_values_are_refused() {
    let lab = Lab::new();
    for value in [
        "",
        "maybe",
        "sample",
        "sample:",
        "sample:0",
        "sample:x",
        "sample:1099511627777",
        "sample:-1",
    ] {
        let refused = lab
            .detector
            .boot_parameter(&format!("kmemleak.stacks={value}"));
        assert_eq!(refused, Err(ParameterError::Value), "{value}");
        let said = lab.say(&format!("stacks={value}"));
        assert!(
            said.contains("expected on, off or sample:BYTES"),
            "{value}: {said}"
        );
    }
    assert!(lab.say("status --json").contains("\"stacks\":\"on\""));
}
