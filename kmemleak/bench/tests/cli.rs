//! The command line, as scripts rely on it: lines of JSON with these names in this order, and exit codes.

use std::process::{Command, Output};

fn bench(arguments: &str) -> Output {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_kmemleak-bench"));
    bench.args(arguments.split_whitespace());
    bench.output().expect("it can be started")
}

/// Each line of what is printed: its names, and the text of their values.
fn lines(arguments: &str) -> Vec<Vec<(String, String)>> {
    let output = bench(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {errors}");
    let output = String::from_utf8(output.stdout).expect("text");
    let fields = |line: &str| {
        let inner = line
            .strip_prefix('{')
            .and_then(|line| line.strip_suffix('}'));
        let fields = inner.expect("an object").split(',').map(|field| {
            let (name, value) = field.split_once(':').expect("a name and a value");
            (name.trim_matches('"').to_owned(), value.to_owned())
        });
        fields.collect()
    };
    output.lines().map(fields).collect()
}

fn names(line: &[(String, String)]) -> Vec<&str> {
    line.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn checks_find_what_is_leaked_with_each_fill() {
    for fill in ["random", "zero", "dense"] {
        let lines = lines(&format!(
            "check --objects 10000 --fill {fill} --cpus 2 --repeat 2"
        ));
        assert_eq!(lines.len(), 2);
        for line in lines {
            let expected = "objects words leaked direct indirect checksum ns ns_per_word";
            assert_eq!(names(&line), Vec::from_iter(expected.split(' ')));
            let values: Vec<&str> = line[..6].iter().map(|(_, value)| value.as_str()).collect();
            let expected = "10000 216524 10 null null \"3f90587a6f537654\"";
            assert_eq!(values, Vec::from_iter(expected.split(' ')));
        }
    }
}

#[test]
fn pairs_are_untracked_and_tracked_in_turn() {
    let lines = lines("pairs --live 1000 --threads 1 --frames 4 --repeat 1");
    let what: Vec<String> = lines
        .iter()
        .map(|line| {
            assert_eq!(
                names(line),
                ["threads", "frames", "tracked", "pattern", "ns_per_pair"]
            );
            format!("{} {}", line[2].1, line[3].1)
        })
        .collect();
    let expected = [
        "false \"hot\"",
        "true \"hot\"",
        "false \"batch\"",
        "true \"batch\"",
    ];
    assert_eq!(what, expected);
}

#[test]
fn latency_is_told_without_a_scan_and_with_one() {
    let lines = lines("latency --live 1000 --repeat 1");
    assert_eq!(lines.len(), 2);
    for (line, scanning) in lines.iter().zip(["false", "true"]) {
        assert_eq!(names(line), ["scanning", "p50_ns", "p99_ns", "max_ns"]);
        assert_eq!(line[0].1, scanning);
    }
}

#[test]
fn memory_is_one_line() {
    let lines = lines("memory --objects 10000");
    let expected = "objects record_bytes index_bytes depot_bytes bytes_per_object";
    assert_eq!(names(&lines[0]), Vec::from_iter(expected.split(' ')));
    assert_eq!(lines.len(), 1);
}

#[test]
fn wrong_usage_is_told_and_has_a_code_of_its_own() {
    for arguments in ["", "check --objects 5", "pairs --fill zero", "frobnicate"] {
        let output = bench(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
}
