//! The command line, as scripts rely on it: lines of JSON with these names, and exit codes.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

fn bench(arguments: &str) -> Output {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_kmemleak-bench"));
    bench.args(arguments.split_whitespace());
    bench.output().expect("it can be started")
}

/// What is printed, an object a line.
fn lines(arguments: &str) -> Vec<Value> {
    let output = bench(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {errors}");
    let output = String::from_utf8(output.stdout).expect("text");
    let object = |line: &str| serde_json::from_str(line).expect("JSON");
    output.lines().map(object).collect()
}

/// The object's fields are these and no others.
fn expect_fields(line: &Value, names: &[&str]) {
    let fields = line.as_object().expect("an object");
    let there = names.iter().filter(|name| fields.contains_key(**name));
    assert_eq!((there.count(), fields.len()), (names.len(), names.len()));
}

#[test]
fn checks_find_what_is_leaked_with_each_fill() {
    for fill in ["random", "zero", "dense"] {
        let lines = lines(&format!(
            "check --objects 10000 --fill {fill} --cpus 2 --repeat 2"
        ));
        assert_eq!(lines.len(), 2);
        for mut line in lines {
            for time in ["ns", "ns_per_word"] {
                assert!(line[time].take().as_f64() > Some(0.0));
            }
            let expected = json!({
                "objects": 10_000, "words": 216_524, "leaked": 10, "direct": 4, "indirect": 6,
                "checksum": "3f90587a6f537654", "ns": null, "ns_per_word": null,
            });
            assert_eq!(line, expected);
        }
    }
}

#[test]
fn graphs_are_found_in_use_with_queues_and_without() {
    for shape in ["wide", "chain", "tree", "comb"] {
        for queues in ["", "--no-queues"] {
            let arguments = format!("graph --objects 5000 --shape {shape} --repeat 1 {queues}");
            let lines = lines(&arguments);
            let [line] = &lines[..] else {
                panic!("{arguments}: {} lines", lines.len())
            };
            let names = ["objects", "shape", "words", "queues", "ns", "ns_per_word"];
            expect_fields(line, &names);
            let granted = Value::from(queues.is_empty());
            assert_eq!(
                (&line["shape"], &line["queues"]),
                (&Value::from(shape), &granted)
            );
        }
    }
}

#[test]
fn pairs_are_untracked_and_tracked_in_turn() {
    let lines = lines("pairs --live 1000 --threads 1 --frames 4 --repeat 1");
    let mut what = Vec::new();
    for line in lines {
        let names = ["threads", "frames", "tracked", "pattern", "ns_per_pair"];
        expect_fields(&line, &names);
        what.push((line["tracked"].as_bool(), line["pattern"].clone()));
    }
    let turns = ["hot", "batch"].map(|pattern| [false, true].map(|on| (Some(on), pattern.into())));
    assert_eq!(what, turns.as_flattened());
}

#[test]
fn a_pass_finds_what_is_leaked() {
    let lines = lines("scan --objects 10000 --fill dense --repeat 2");
    assert_eq!(lines.len(), 2);
    for mut line in lines {
        for time in ["ns", "ns_per_word"] {
            assert!(line[time].take().as_f64() > Some(0.0));
        }
        let expected = json!({
            "objects": 10_000, "words": 216_524, "suspects": 10,
            "checksum": "3f90587a6f537654", "ns": null, "ns_per_word": null,
        });
        assert_eq!(line, expected);
    }
}

#[test]
fn latency_is_told_alone_and_beside_two_neighbours() {
    let lines = lines("latency --live 1000 --repeat 1");
    assert_eq!(lines.len(), 3);
    let names = ["beside", "pairs", "p50_ns", "p99_ns", "p999_ns", "max_ns"];
    for (line, beside) in lines.iter().zip(["none", "spin"]) {
        expect_fields(line, &names);
        assert_eq!(line["beside"], beside);
    }
    expect_fields(&lines[2], &[&names[..], &["p99_to_spin"]].concat());
    assert_eq!(lines[2]["beside"], "scan");
}

#[test]
fn memory_is_one_line() {
    let lines = lines("memory --objects 10000");
    let names = [
        "objects",
        "record_bytes",
        "index_bytes",
        "depot_bytes",
        "bytes_per_object",
    ];
    expect_fields(&lines[0], &names);
    assert_eq!(lines.len(), 1);
}

#[test]
fn memory_of_each_size_is_told_without_a_stride_and_with_one() {
    let lines = lines("memory --objects 10000 --size 40,24 --stride 64,32");
    let expected = [(40, 64), (24, 32)].map(|slots| [false, true].map(|told| (slots, told)));
    assert_eq!(lines.len(), 4);
    for (line, ((size, stride), told)) in lines.iter().zip(expected.as_flattened()) {
        assert_eq!(
            (&line["size"], &line["stride"]),
            (&json!(size), &json!(stride))
        );
        assert_eq!(line["stride_told"], *told);
        assert!(
            line["bytes_per_object"]
                .as_f64()
                .is_some_and(|bytes| (28.0..45.0).contains(&bytes))
        );
    }
    for wrong in ["--size 40 --stride 32", "--size 40,24 --stride 64"] {
        assert_eq!(
            bench(&format!("memory {wrong}")).status.code(),
            Some(1),
            "{wrong}"
        );
    }
}

#[test]
fn wrong_usage_is_told_and_has_a_code_of_its_own() {
    for arguments in ["", "check --objects 5", "pairs --fill zero", "frobnicate"] {
        let output = bench(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
}

#[test]
fn each_of_many_call_stacks_is_stored_once() {
    let lines = lines("depot --stacks 1000 --repeat 1");
    assert_eq!(lines.len(), 2);
    for (line, tracked) in lines.iter().zip([false, true]) {
        expect_fields(line, &["stacks", "depot_bytes", "tracked", "ns_per_pair"]);
        assert_eq!(line["tracked"], tracked);
        let bytes_per_stack = line["depot_bytes"].as_u64().expect("a number") / 1000;
        // Sixteen frames take 184 bytes, in whole pages; the index comes on top.
        assert!((50..250).contains(&bytes_per_stack), "{bytes_per_stack}");
    }
}

#[test]
fn tasks_with_names_and_without_are_timed() {
    for tasks in [0, 2500] {
        let lines = lines(&format!("names --tasks {tasks} --repeat 1"));
        assert_eq!(lines.len(), 2);
        for (line, tracked) in lines.iter().zip([false, true]) {
            expect_fields(line, &["tasks", "tracked", "ns_per_pair"]);
            assert_eq!(
                (&line["tasks"], &line["tracked"]),
                (&json!(tasks), &json!(tracked))
            );
        }
    }
}

#[test]
fn what_is_no_file_of_counts_is_refused() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for (name, text) in [
        ("no-json", "counts"),
        ("a-list", "[1]"),
        ("no-number", "{\"check\": \"many\"}"),
        ("zero", "{\"check\": 0}"),
    ] {
        let file = folder.join(name);
        fs::write(&file, text).expect("it is ours");
        let output = bench(&format!("compare {}", file.display()));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(name), "{said}");
    }
}
