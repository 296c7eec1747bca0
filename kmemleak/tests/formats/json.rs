//! JSON: each line parses, has all the fields of its kind that `FORMATS.md` names and no others, and says what text says.

use std::collections::{BTreeMap, BTreeSet};

use kmemleak::{AllocOptions, Context, Format, Level, Which};
use kmemleak_emulated::{Stop, set_comm, set_current};
use serde_json::{Value, json};

use crate::lab::Lab;

const SHELL: Context = Context {
    task: 3,
    cpu: 1,
    level: Level::Task,
};

/// An answer, line by line.
fn lines(text: &str) -> Vec<Value> {
    let parse =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
    text.lines().map(parse).collect()
}

fn say(lab: &Lab, command: &str) -> Vec<Value> {
    lines(&lab.say(command))
}

fn kinds(lines: &[Value]) -> Vec<&str> {
    lines
        .iter()
        .map(|line| line["kind"].as_str().expect("a kind"))
        .collect()
}

fn hex(address: usize) -> Value {
    format!("{address:#018x}").into()
}

type Fields = BTreeMap<String, BTreeSet<String>>;

/// The fields of each kind, by the reference.
fn documented() -> Fields {
    let mut fields = Fields::new();
    let mut kind = None;
    for line in include_str!("../../FORMATS.md").lines() {
        if let Some(heading) = line.strip_prefix("### `") {
            kind = Some(heading.trim_end_matches('`').to_owned());
        } else if let (Some(kind), Some(row)) = (&kind, line.strip_prefix("| `")) {
            let (field, _) = row.split_once('`').expect("the end of a field");
            let new = fields
                .entry(kind.clone())
                .or_default()
                .insert(field.to_owned());
            assert!(new, "{kind}.{field} is there twice");
        }
    }
    fields
}

/// A machine with some of everything, and what it answers.
fn everything() -> Vec<Value> {
    let lab = Lab::new();
    let mut all = say(&lab, "report --json");
    lab.machine.call_from(&["probe", "main"]);
    let (leader, owned, inner) = (lab.block(64), lab.block(32), lab.block(128));
    lab.machine.write(leader, owned);
    lab.hold(0, inner + 64);
    (lab.machine).store(kmemleak_emulated::Place::Stack(0), lab.block(24));
    let holder = lab.block_with(64, AllocOptions::new().min_count(0));
    lab.machine.write(holder + 8, owned);
    lab.machine.write(holder + 8, 0);
    lab.detector.suppress("open:max=3").expect("room");
    lab.machine.call_from(&["open"]);
    let hidden = lab.block(16);
    lab.machine.write(hidden, leader);
    lab.machine.write(hidden, 0);
    lab.hold(1, holder);
    lab.machine
        .tasks
        .name_waiting(40, kmemleak::WaitsOn::Address(hidden));
    for command in [
        "scan --json".into(),
        "report --all --json".into(),
        "new --json".into(),
        "sites --json".into(),
        "site 0 --json".into(),
        "types --json".into(),
        "objects --json".into(),
        "interior --json".into(),
        "stack-only --json".into(),
        "tasks --json".into(),
        "suppress --json".into(),
        format!("holders {owned:#x} --json"),
        format!("holders {inner:#x} --json"),
        format!("path {inner:#x} --json"),
        format!("path {leader:#x} --json"),
        "path 10 --json".into(),
        format!("why {inner:#x} --json"),
        format!("why {hidden:#x} --json"),
        "why 10 --json".into(),
        "holders nonsense --json".into(),
        "sites many --json".into(),
        "status --json".into(),
        format!("dump {inner:#x} --json"),
        "selftest --json".into(),
        "mark --json".into(),
        "suppress a b --json".into(),
        "snapshot".into(),
    ] {
        all.extend(say(&lab, &command));
    }
    // The end of an object, and where one was freed.
    let lost = lab.block(64);
    lab.hold(2, lost + 64);
    all.extend(say(&lab, &format!("why {lost:#x} --json")));
    let stacks = lab.detector.boot_parameter("kmemleak.free_stacks=on");
    stacks.expect("valid");
    lab.free(lost);
    all.extend(say(&lab, &format!("why {lost:#x} --json")));
    (lab.machine).call_from(&["<alloc::boxed::Box<alloc::sync::ArcInner<kernel::Task>>>::new"]);
    let counted = lab.block(48);
    lab.machine.write(counted, 2);
    all.extend(say(&lab, "counts --json"));
    lab.machine.set_stop(Stop::Unsupported);
    all.extend(say(&lab, "scan --json"));
    lab.free(leader);
    all.extend(say(&lab, "report --all --json"));
    lab.say("off");
    all.extend(say(&lab, "scan --json"));
    all
}

#[test]
fn each_field_that_is_written_is_in_the_reference_and_the_other_way_round() {
    let documented = documented();
    let mut seen = BTreeSet::new();
    for line in everything() {
        let kind = line["kind"].as_str().expect("a kind").to_owned();
        assert_eq!(line["schema"], 2);
        let object = line.as_object().expect("an object");
        let fields = object
            .keys()
            .filter(|name| !["schema", "kind"].contains(&name.as_str()));
        let fields: BTreeSet<String> = fields.cloned().collect();
        assert_eq!(Some(&fields), documented.get(&kind), "{line}");
        seen.insert(kind);
    }
    let named: BTreeSet<String> = documented.into_keys().collect();
    assert_eq!(seen, named, "each kind is written");
}

#[test]
fn a_leak_and_what_it_owns() {
    let lab = Lab::new();
    set_current(SHELL);
    set_comm("shell");
    lab.machine.call_from(&["forgotten_free", "command"]);
    let (leader, owned) = (lab.block(64), lab.block(20));
    lab.machine.write(leader + 8, 0x0123_4567_89ab_cdef);
    lab.machine.write(leader + 16, owned + 5);
    lab.machine.advance_us(41);
    let answer = say(&lab, "scan --all --json");
    assert_eq!(kinds(&answer), ["group", "object", "object", "summary"]);
    let crc = answer[0]["crc"].clone();
    let pointer = (owned + 5)
        .to_le_bytes()
        .map(|byte| format!("{byte:02x}"))
        .concat();
    let object = json!({
        "schema": 2, "kind": "object", "handle": 2, "address": hex(leader), "size": 64, "birth_us": 1, "task": 3, "comm": "shell",
        "cpu": 1, "interrupt": false, "age_us": 42, "rank": "leader", "leader": null, "owned_objects": 1,
        "owned_bytes": 20, "suspect": false, "reported": false, "freed": false,
        "dump": format!("{}efcdab8967452301{pointer}{}", "00".repeat(8), "00".repeat(8)),
        "cycle": null, "crc": crc, "skipped": 0, "type": null, "backtrace": ["forgotten_free", "command"]
    });
    assert_eq!(answer[1], object);
    assert_eq!(answer[2]["rank"], "owned");
    assert_eq!(answer[2]["leader"], hex(leader));
    assert_eq!(answer[2]["dump"], "00".repeat(16), "whole words alone");
    let group = json!({
        "schema": 2, "kind": "group", "handle": 1, "objects": 2, "bytes": 84, "leaders": 1, "leader_bytes": 64,
        "owned_objects": 1, "owned_bytes": 20, "oldest_age_us": 42, "newest_age_us": 42,
        "crc": crc, "skipped": 0, "type": null, "backtrace": ["forgotten_free", "command"]
    });
    assert_eq!(answer[0], group);
    // It has been reported now.
    lab.free(leader);
    let again = say(&lab, "scan --json");
    assert_eq!(again[1]["address"], hex(owned));
    assert_eq!(
        (&again[1]["reported"], &again[1]["rank"]),
        (&json!(true), &json!("leader"))
    );
    assert_eq!(again[2]["unreported_objects"], 0);
    lab.free(owned);
    let report = say(&lab, "report --json");
    assert_eq!(
        (&report[1]["freed"], &report[1]["dump"]),
        (&json!(true), &Value::Null)
    );
}

#[test]
fn the_summary_has_the_figures_of_the_summary() {
    let lab = Lab::new();
    lab.machine.call_from(&["probe"]);
    (0..3).for_each(|_| _ = lab.block(100));
    lab.machine.advance_us(1);
    let summary = lab.detector.check().expect("on");
    let report = say(&lab, "report --json");
    let expected = json!({
        "schema": 2, "kind": "summary", "how": "stopped", "passes": 1, "reason": null, "settled": true,
        "objects": 3, "bytes": 300, "suspects": 0, "suspect_bytes": 0, "leaders": 3, "leader_bytes": 300, "groups": 1,
        "unreported_objects": 3, "unreported_bytes": 300, "new_objects": null, "new_bytes": null,
        "suppressed_objects": 0, "suppressed_bytes": 0, "tracked": 3, "words": summary.words,
        "candidates": summary.candidates, "hits": summary.hits, "misses": summary.candidates - summary.hits,
        "took_us": 0, "stopped_us": 0, "cpus": 2, "unread": 0, "in_flight": 0, "in_sections": 0, "stacks": true, "unrecorded": 0, "missing_bytes": 0, "no_call_stacks": null
    });
    assert_eq!(report.last(), Some(&expected));
    lab.machine.set_stop(Stop::Missing(1));
    let answer = say(&lab, "scan --json");
    let last = answer.last().expect("a summary");
    assert_eq!(last["how"], "repeated");
    assert_eq!(last["reason"], "cpu 1 did not stop in time");
    assert!(last["passes"].as_u64() > Some(1));
    lab.detector.scan().expect("on");
    assert_eq!(
        say(&lab, "report --json").last().expect("one")["how"],
        "scanned"
    );
}

#[test]
fn what_is_new_since_the_mark_and_how_much() {
    let lab = Lab::new();
    (0..2).for_each(|_| _ = lab.block(100));
    lab.say("mark");
    let new = lab.block(10);
    lab.machine.advance_us(1);
    let answer = say(&lab, "new --json");
    assert_eq!(kinds(&answer), ["object", "summary"]);
    assert_eq!(answer[0]["address"], hex(new));
    let summary = &answer[1];
    assert_eq!(
        (&summary["new_objects"], &summary["new_bytes"]),
        (&json!(1), &json!(10))
    );
    assert_eq!(summary["objects"], 3);
    assert!(
        lab.say("new")
            .contains("kmemleak: 1 object (10 bytes) new since the mark\n")
    );
}

#[test]
fn text_from_elsewhere_is_escaped() {
    let lab = Lab::new();
    set_current(SHELL);
    set_comm("a\"b\\c\nd\u{1}é");
    lab.machine
        .call_from(&["quote\"back\\slash\rline\u{7}tab\t", "ünï"]);
    lab.detector.suppress("x\"y\\z").expect("room");
    lab.block(64);
    let answer = say(&lab, "scan --json");
    assert_eq!(answer[1]["comm"], "a\"b\\c\nd\u{1}é");
    assert_eq!(
        answer[1]["backtrace"][0],
        "quote\"back\\slash\rline\u{7}tab\t"
    );
    assert_eq!(answer[1]["backtrace"][1], "ünï");
    assert_eq!(say(&lab, "suppress --json")[0]["pattern"], "x\"y\\z");
    let error = say(&lab, "holders \"\\ --json");
    assert_eq!(
        error,
        [
            json!({ "schema": 2, "kind": "error", "code": "invalid_value", "error": "holders: invalid value `\"\\`: expected an address in hexadecimal or a number from a report, like #1" })
        ]
    );
    // In text no name makes a line of its own.
    assert!(
        lab.report()
            .contains("  comm \"a\\\"b\\\\c\\nd\\u{1}é\", pid 3, cpu 1, age ")
    );
    assert!(
        lab.report()
            .contains("\n    quote\"back\\slash\\rline\\u{7}tab\\t\n    ünï\n")
    );
}

/// Nothing that is a name, or that somebody typed, steers a terminal or makes a line of its own.
#[test]
fn text_has_no_control_characters_but_its_own_line_ends() {
    const BAD: &str = "x\u{1b}[2J\u{7f}\u{9b}y";
    let lab = Lab::new();
    set_comm(BAD);
    lab.machine.call_from(&[BAD]);
    let lost = lab.block(64);
    let held = lab.block(64);
    lab.machine.write(lost, held);
    lab.hold(0, held);
    lab.machine.advance_us(1);
    let mut answers = lab.say("scan --all");
    lab.detector.free(lost + 8);
    lab.detector.drain_warnings(&mut answers);
    for command in [
        "sites".into(),
        "objects".into(),
        format!("dump {lost:x}"),
        format!("holders {held:x}"),
        format!("path {held:x}"),
        format!("why {held:x}"),
        format!("suppress {BAD}"),
        "suppress".into(),
        format!("unsuppress {BAD}"),
        format!("unsuppress {BAD}"),
        format!("scan={BAD}"),
        format!("stack={BAD}"),
        format!("sites {BAD}"),
        format!("dump {BAD}"),
        format!("report {BAD}"),
        BAD.into(),
    ] {
        answers += &lab.say(&command);
    }
    let controls = answers.chars().filter(|character| character.is_control());
    assert!(
        controls.into_iter().all(|character| character == '\n'),
        "{answers:?}"
    );
    assert!(
        answers.matches("x\\u{1b}[2J\\u{7f}\\u{9b}y").count() >= 12,
        "{answers}"
    );
}

#[test]
fn a_call_site_with_its_history_and_its_objects() {
    let lab = Lab::new();
    set_current(SHELL);
    set_comm("shell");
    lab.machine.call_from(&["open", "main"]);
    let oldest = lab.block_with(16, AllocOptions::new().min_count(0));
    for _ in 0..4 {
        assert_eq!(lab.detector.mark(), Ok(()));
        lab.block(16);
    }
    let crc = say(&lab, "sites --json")[0]["crc"].clone();
    let answer = say(
        &lab,
        &format!("site {} --top 1 --json", crc.as_str().expect("text")),
    );
    let site = json!({
        "schema": 2, "kind": "site", "handle": 1, "bytes": 80, "objects": 5, "growth_bytes": 16, "growth_objects": 1,
        "history": [16, 32, 48, 64], "trend": "steady", "crc": crc, "skipped": 0, "type": null, "backtrace": ["open", "main"]
    });
    let object = json!({
        "schema": 2, "kind": "live_object", "handle": 2, "address": hex(oldest), "size": 16, "birth_us": answer[1]["birth_us"],
        "age_us": answer[1]["age_us"], "task": 3, "comm": "shell", "cpu": 1, "interrupt": false, "colour": "gray",
        "freed": false, "crc": crc, "skipped": 0, "type": null, "backtrace": ["open", "main"]
    });
    let end = json!({
        "schema": 2, "kind": "live_objects", "shown": 1, "total": 5, "bytes": 80, "complete": true, "no_call_stacks": null
    });
    assert_eq!(answer, [site, object, end]);
    let age = (answer[1]["birth_us"].as_u64(), answer[1]["age_us"].as_u64());
    assert!(matches!(age, (Some(1), Some(1..))), "{age:?}");
    lab.detector.exhaust_metadata(true);
    let answer = say(&lab, "objects --json");
    assert_eq!(answer.last().expect("an end")["total"], 5);
}

#[test]
fn who_holds_an_object_and_the_way_to_it() {
    let lab = Lab::new();
    lab.machine.call_from(&["probe"]);
    let (holder, target) = (lab.block(64), lab.block(32));
    lab.hold(5, holder);
    lab.machine.write(holder + 24, target + 31);
    let crc = say(&lab, "sites --json")[0]["crc"].clone();
    let slot = |kind: &str| {
        json!({
            "schema": 2, "kind": kind, "slot": hex(holder + 24), "root": null, "object": hex(holder),
            "object_size": 64, "offset": 24, "acknowledged": false, "crc": crc, "skipped": 0, "type": null, "backtrace": ["probe"]
        })
    };
    let end = |kind: &str, count: usize| json!({ "schema": 2, "kind": kind, "count": count, "target": hex(target), "code": null, "error": null });
    let answer = say(&lab, &format!("holders {:#x} --json", target + 4));
    assert_eq!(answer, [slot("holder"), end("holders", 1)]);
    let root = lab.machine.address(kmemleak_emulated::Place::Bss(5));
    let first = json!({
        "schema": 2, "kind": "step", "slot": hex(root), "root": "bss 5", "object": null,
        "object_size": null, "offset": null, "acknowledged": null, "crc": null, "skipped": null, "type": null, "backtrace": null
    });
    let answer = say(&lab, &format!("path {target:#x} --json"));
    assert_eq!(answer, [first, slot("step"), end("path", 2)]);
    let answer = say(&lab, "path 0x10 --json");
    let none = json!({ "schema": 2, "kind": "path", "count": 0, "target": null, "code": "no_object", "error": "no object there" });
    assert_eq!(answer, [none]);
}

#[test]
fn why_an_object_is_reported_or_not() {
    let lab = Lab::new();
    lab.machine.call_from(&["probe"]);
    let (leader, owned) = (lab.block(64), lab.block(32));
    lab.machine.write(leader, owned);
    lab.hold(5, owned + 32);
    lab.leaks();
    let root = lab.machine.address(kmemleak_emulated::Place::Bss(5));
    let miss = json!({
        "schema": 2, "kind": "near_miss", "slot": hex(root), "root": "bss 5", "object": null,
        "object_size": null, "offset": null, "acknowledged": null, "crc": null, "skipped": null, "type": null, "backtrace": null, "miss": "end",
        "text": "a pointer to its end (Arc::into_raw or a waker of a type without fields, an emptied buffer)",
        "remedy": "keep a pointer to its start, or call `not_leak`"
    });
    let end = json!({
        "schema": 2, "kind": "why", "count": 1, "address": hex(owned + 4), "target": hex(owned), "size": 32,
        "answer": "owned", "leader": hex(leader), "needed": null, "found": null, "near_misses": 1, "stopped": true,
        "text": format!("unreferenced, and in the last report with its leader {leader:#018x}, which owns it"),
        "advice": "look at its leader: this one was lost with it; if it is in use, the near miss may be what holds it"
    });
    let answer = say(&lab, &format!("why {:#x} --json", owned + 4));
    assert_eq!(answer, [miss, end]);
}

#[test]
fn ends_come_with_nothing_before_them() {
    let lab = Lab::new();
    assert_eq!(kinds(&say(&lab, "interior --json")), ["error"]);
    lab.leaks();
    for (command, kind) in [
        ("interior --json", "interiors"),
        ("stack-only --json", "stack_only_sums"),
        ("suppress --json", "suppressions"),
        ("sites --json", "sites"),
        ("objects --json", "live_objects"),
        ("site 0 --json", "error"),
        ("scan --json", "summary"),
        ("new --json", "summary"),
        ("why 10 --json", "why"),
    ] {
        assert_eq!(kinds(&say(&lab, command)), [kind], "{command}");
    }
    lab.say("off");
    lab.say("clear");
    for (command, code, why) in [
        ("scan --json", "off", "off, and can't be switched on again"),
        (
            "holders 10 --json",
            "off",
            "off, and can't be switched on again",
        ),
        (
            "report --json",
            "no_check",
            "no check so far, or none since the last clear",
        ),
    ] {
        let error = json!({ "schema": 2, "kind": "error", "code": code, "error": why });
        assert_eq!(say(&lab, command), [error], "{command}");
    }
}

#[test]
fn reports_are_those_of_the_commands() {
    let lab = Lab::new();
    let (leader, owned) = (lab.block(64), lab.block(32));
    lab.machine.write(leader, owned);
    lab.leaks();
    let mut table = String::new();
    lab.detector
        .report_as(Format::Text, Which::All, &mut table)
        .expect("text");
    assert_eq!(table, lab.say("report --all"));
    let mut text = String::new();
    lab.detector
        .report_in_full(Which::All, &mut text)
        .expect("text");
    assert_eq!(text, lab.say("report --all --full"));
    let mut json = String::new();
    lab.detector
        .report_as(Format::Json, Which::All, &mut json)
        .expect("text");
    assert_eq!(json, lab.say("report --all --json"));
    assert_eq!(
        kinds(&lines(&json)),
        ["group", "object", "object", "summary"]
    );
}

#[test]
fn without_memory_what_is_not_known_is_null() {
    let lab = Lab::new();
    let lost: Vec<usize> = (0..4000).map(|_| lab.block(16)).collect();
    lab.detector.exhaust_metadata(true);
    let answer = say(&lab, "scan --json");
    assert_eq!(answer.len(), lost.len() + 1);
    for field in ["rank", "leader", "owned_objects", "owned_bytes"] {
        assert_eq!(answer[0][field], Value::Null, "{field}");
    }
    let summary = answer.last().expect("one");
    for field in ["leaders", "groups"] {
        assert_eq!(summary[field], Value::Null, "{field}");
    }
}

#[test]
fn the_state_is_that_of_the_text() {
    let lab = Lab::new();
    assert_eq!(say(&lab, "status --json")[0]["last_check"], Value::Null);
    lab.hold(0, lab.block(64));
    lab.block(36);
    lab.say("scan --all");
    lab.machine.advance_us(2_500_000);
    let (status, report) = (say(&lab, "status --json"), say(&lab, "report --json"));
    let status = status[0].as_object().expect("an object");
    for (field, value) in [
        ("enabled", json!(true)),
        ("objects", json!(2)),
        ("bytes", json!(100)),
        ("metadata_bytes", json!(lab.detector.metadata().bytes)),
        ("unrecorded", json!(0)),
        ("stacks_are_roots", json!(true)),
        ("stacks", json!("on")),
        ("busy", json!(false)),
        ("suppressions", json!(0)),
    ] {
        assert_eq!(status[field], value, "{field}");
    }
    let next_us = status["next_scan_us"].as_u64().expect("it is on");
    assert_eq!(next_us / 1_000_000, 57);
    // Of the last check all that its summary says, but for what new leaks and reports are.
    let last = status["last_check"].as_object().expect("a check");
    let summary = report
        .last()
        .expect("a line")
        .as_object()
        .expect("an object");
    assert_eq!(last["ago_us"], 2_500_000);
    for (field, value) in last.iter().filter(|(field, _)| *field != "ago_us") {
        if field != "no_call_stacks" {
            assert_eq!(Some(value), summary.get(field), "{field}");
        }
    }
    assert_eq!(last.len(), summary.len() - 2 + 1);
    lab.say("stack=off");
    lab.say("scan=off");
    lab.say("off");
    let status = &say(&lab, "status --json")[0];
    assert_eq!(status["enabled"], false);
    assert_eq!(status["stacks_are_roots"], false);
    assert_eq!(status["next_scan_us"], Value::Null);
}

#[test]
fn what_is_known_of_an_object() {
    let lab = Lab::new();
    lab.machine.call_from(&["probe", "main"]);
    let block = lab.block_with(40, AllocOptions::new().min_count(2));
    lab.machine.write(block, 0x0102_0304);
    lab.hold(0, block);
    lab.hold(1, block + 8);
    lab.say("scan");
    let dump = say(&lab, &format!("dump {:#x} --json", block + 9));
    let (text, dump) = (lab.say(&format!("dump {block:#x}")), &dump[0]);
    for (field, value) in [
        ("kind", json!("dump")),
        ("address", hex(block)),
        ("size", json!(40)),
        ("min_count", json!(2)),
        ("count", json!(2)),
        ("flags", json!([])),
        ("reading", Value::Null),
        ("backtrace", json!(["probe", "main"])),
    ] {
        assert_eq!(dump[field], value, "{field}");
    }
    let (bytes, sum) = (&dump["dump"], dump["checksum"].as_str().expect("read"));
    let bytes = bytes.as_str().expect("read");
    assert!(bytes.starts_with("0403020100000000"), "{bytes}");
    assert_eq!(bytes.len(), 64);
    assert!(text.contains(&format!("checksum {sum} (first 32 bytes)")));
    let none = json!({ "schema": 2, "kind": "error", "code": "no_object",
        "error": "no object at 0x0000000000000010" });
    assert_eq!(say(&lab, "dump 10 --json"), [none]);
    let decreed = lab.block_with(8, AllocOptions::new().min_count(0));
    lab.detector.no_scan(decreed);
    let dump = &say(&lab, &format!("dump {decreed:#x} --json"))[0];
    assert_eq!(
        (&dump["min_count"], &dump["count"]),
        (&json!(0), &Value::Null)
    );
    assert_eq!(dump["flags"], json!(["no-scan"]));
}

#[test]
fn what_changes_something_says_that_it_is_done() {
    let lab = Lab::new();
    lab.block(64);
    let done = |line: &str, command: &str| {
        let answer = say(&lab, line);
        let last = answer.last().expect("a line");
        assert_eq!(
            (&last["kind"], &last["command"]),
            (&json!("done"), &json!(command)),
            "{line}"
        );
        let told = last["text"].as_str().expect("text");
        assert!(
            !told.starts_with("kmemleak") && !told.ends_with('\n'),
            "{told}"
        );
        answer.len()
    };
    assert_eq!(done("mark --json", "mark"), 2);
    assert_eq!(say(&lab, "mark --json")[0]["objects"], 1);
    for (line, command) in [
        ("clear --json", "clear"),
        ("stack=off --json", "stack"),
        ("stack --json on", "stack"),
        ("scan=off --json", "scan"),
        ("scan=7 --json", "scan"),
    ] {
        assert_eq!(done(line, command), 1, "{line}");
    }
    assert_eq!(say(&lab, "selftest --json")[0]["outcome"], "passed");
    // A pattern has blanks, and the option may stand on either side of it.
    assert_eq!(
        say(&lab, "suppress --json a b")[0]["kind"],
        json!("suppressed")
    );
    say(&lab, "suppress c d:max=3 --json");
    let known = say(&lab, "suppress --json");
    assert_eq!(
        (&known[0]["pattern"], &known[1]["pattern"]),
        (&json!("a b"), &json!("c d"))
    );
    done("unsuppress a b --json", "unsuppress");
    assert_eq!(
        say(&lab, "unsuppress a b --json")[0]["code"],
        "no_suppression"
    );
    assert_eq!(done("off --json", "off"), 1);
    assert_eq!(say(&lab, "off --json")[0]["code"], "off");
}

#[test]
fn what_a_new_suppression_means() {
    let lab = Lab::new();
    let all = |pattern: Value, [listed, matched, objects, bytes]: [Value; 4], nearest: Value| {
        json!({ "schema": 2, "kind": "suppressed", "pattern": pattern, "listed": listed,
            "matched": matched, "objects": objects, "bytes": bytes, "nearest": nearest })
    };
    let added = |line: &str| {
        let mut answer = say(&lab, &format!("suppress {line} --json")).remove(0);
        let text = answer
            .as_object_mut()
            .and_then(|fields| fields.remove("text"));
        (answer, text.expect("text"))
    };
    let [null, zero] = [Value::Null, json!(0)];
    let nothing = [null.clone(), null.clone(), null.clone(), null.clone()];
    assert_eq!(added("probe").0, all(json!("probe"), nothing, null.clone()));
    lab.say("unsuppress probe");
    for (from, count) in [("mount", 3), ("fork", 1)] {
        lab.machine.call_from(&[from, "main"]);
        (0..count).for_each(|_| _ = lab.block(64));
    }
    lab.machine.call_from(&["probe"]);
    let leader = lab.block(512);
    lab.machine.call_from(&["open"]);
    let owned = lab.block(600);
    lab.machine.write(leader, owned);
    lab.say("scan");
    let counts = |matched: u64, objects: u64, bytes: u64| {
        [json!(6), json!(matched), json!(objects), json!(bytes)]
    };
    let (answer, text) = added("probe:max=1");
    assert_eq!(
        answer,
        all(json!("probe:max=1"), counts(1, 2, 1112), null.clone())
    );
    assert_eq!(
        text,
        "\"probe:max=1\" hides 2 of the 6 leaks last reported (1.1 KiB) from the next check on"
    );
    let (answer, text) = added("mount:max=2");
    assert_eq!(
        answer,
        all(json!("mount:max=2"), counts(3, 0, 0), null.clone())
    );
    assert_eq!(
        text,
        "warning: \"mount:max=2\" matches 3 unreferenced objects, which are more than 2: so it hides none"
    );
    let (answer, text) = added("driver::forc");
    assert_eq!(
        answer,
        all(json!("driver::forc"), counts(0, 0, 0), json!("fork"))
    );
    assert_eq!(
        text,
        "warning: \"driver::forc\" matches none of the 6 leaks last reported; did you mean `fork`?"
    );
    let (answer, _) = added("elsewhere");
    assert_eq!(
        answer,
        all(
            json!("elsewhere"),
            [json!(6), zero.clone(), zero.clone(), zero],
            null
        )
    );
    // It does what it says.
    lab.say("scan");
    assert_eq!(
        say(&lab, "report --json").last().expect("a line")["suppressed_objects"],
        2
    );
}
