//! What a log's last report has found, as JUnit's XML and as SARIF: both read back by a parser.
//!
//! SARIF was held against the schema of the standard, and against what forges ask for, when its writer was made.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

use kmemleak_report::findings::{Findings, Problem};
use kmemleak_report::log::Log;
use kmemleak_report::{junit, sarif};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus};
use serde_json::{Value, json};

const CYCLE: &str = r#""crc":"19623753","skipped":1,"backtrace":["<alloc::vec::Vec<T,A>>::push+0x1/0x2 (/rustc/1/library/alloc/vec.rs:5)","kernel::net::open<A & B>+0x25/0x163 (kernel/src/a net.rs:109), inlined alloc::boxed::Box<T>::new (/rustc/1/library/alloc/boxed.rs:9)","kernel::task::start+0x1/0x2 (kernel/src/task/mod.rs:287)"]"#;
const FOREIGN: &str = r#""crc":"00000007","skipped":0,"backtrace":["smallvec::grow+0x1/0x2 (/registry/smallvec/raw.rs:3)","kernel::names::add+0x1/0x2 (kernel/src/names.rs:20)"]"#;
const OWNED: &str = r#""crc":"00000008","skipped":0,"backtrace":["kernel::net::part+0x1/0x2 (kernel/src/net.rs:5)"]"#;

fn group(objects: u64, bytes: u64, owned: (u64, u64), stack: &str) -> String {
    let (owned_objects, owned_bytes) = owned;
    format!(
        r#"{{"schema":2,"kind":"group","objects":{objects},"bytes":{bytes},"leaders":{objects},"leader_bytes":{bytes},"owned_objects":{owned_objects},"owned_bytes":{owned_bytes},"oldest_age_us":9,"newest_age_us":8,{stack}}}"#
    )
}

fn object(size: u64, rank: &str, stack: &str) -> String {
    format!(
        r#"{{"schema":2,"kind":"object","address":"0xffff888000471400","size":{size},"rank":{rank},"leader":null,"owned_objects":1,"owned_bytes":32,"freed":false,"dump":null,{stack}}}"#
    )
}

fn summary(objects: u64, suspects: u64, unrecorded: u64) -> String {
    format!(
        r#"{{"schema":2,"kind":"summary","how":"stopped","objects":{objects},"suspects":{suspects},"unrecorded":{unrecorded}}}"#
    )
}

/// A report of two groups of leaders and one of what these own.
fn report() -> String {
    let only_owned = group(1, 16, (0, 0), OWNED).replace("\"leaders\":1", "\"leaders\":0");
    [
        "boot".to_owned(),
        group(1, 48, (0, 0), FOREIGN),
        group(2, 64, (1, 16), CYCLE),
        only_owned,
        summary(4, 0, 0),
    ]
    .join("\r\n")
}

fn findings(log: &str) -> Findings {
    let log = Log::read(log.as_bytes()).expect("memory can be read");
    Findings::of(log.report.as_ref(), None)
}

fn cases(findings: &Findings) -> Vec<TestCase> {
    let document = junit::document(findings);
    let report = Report::deserialize_from_str(&document).expect("JUnit's XML");
    assert_eq!(report.test_suites.len(), 1, "{document}");
    let suite = report.test_suites.into_iter().next().expect("a suite");
    assert_eq!(suite.name.as_str(), "kmemleak");
    suite.test_cases
}

/// A case that does not pass: its kind, type, message and text.
fn not_passed(case: &TestCase) -> (NonSuccessKind, String, String, String) {
    let TestCaseStatus::NonSuccess {
        kind,
        ty,
        message,
        description,
        ..
    } = &case.status
    else {
        panic!("{case:?} passes");
    };
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    (
        *kind,
        text(ty.as_deref()),
        text(message.as_deref()),
        text(description.as_deref()),
    )
}

fn sarif(findings: &Findings) -> Value {
    let document: Value = serde_json::from_str(&sarif::document(findings)).expect("JSON");
    assert_eq!(document["version"], "2.1.0");
    document["runs"][0].clone()
}

#[test]
fn each_group_of_leaders_is_a_failing_case() {
    let cases = cases(&findings(&report()));
    let names: Vec<_> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names, ["kernel::net::open<A & B>", "kernel::names::add"]);
    let (kind, ty, message, text) = not_passed(&cases[0]);
    assert_eq!((kind, ty.as_str()), (NonSuccessKind::Failure, "leak"));
    assert_eq!(
        message,
        "2 unreferenced objects (64 bytes) that own 1 object (16 bytes), allocated by kernel::net::open<A & B>"
    );
    assert_eq!(
        text.trim_end(),
        "kernel::net::open<A & B> (kernel/src/a net.rs:109)\nkernel::task::start (kernel/src/task/mod.rs:287)"
    );
    assert_eq!(cases[0].classname.as_deref(), Some("kernel/src/a net.rs"));
    let attribute = |name: &str| cases[0].extra.get(name).map(|value| value.as_str());
    assert_eq!(
        (attribute("file"), attribute("line")),
        (Some("kernel/src/a net.rs"), Some("109"))
    );
    // The machinery of another crate is in the text, and the case has the name of what called it.
    assert!(
        not_passed(&cases[1])
            .3
            .starts_with("smallvec::grow (/registry/smallvec/raw.rs:3)\n")
    );
}

#[test]
fn groups_of_one_function_have_names_of_their_own() {
    let report = [
        group(1, 8, (0, 0), CYCLE),
        group(1, 8, (0, 0), CYCLE),
        summary(2, 0, 0),
    ];
    let cases = cases(&findings(&report.join("\n")));
    assert_eq!(cases[0].name.as_str(), "kernel::net::open<A & B>");
    assert_eq!(cases[1].name.as_str(), "kernel::net::open<A & B> (2)");
}

#[test]
fn a_result_has_a_place_in_the_repository() {
    let run = sarif(&findings(&report()));
    let results = run["results"].as_array().expect("results");
    assert_eq!(results.len(), 2);
    let first = &results[0];
    assert_eq!(
        (&first["ruleId"], &first["level"]),
        (&json!("leak"), &json!("error"))
    );
    let rule = first["ruleIndex"].as_u64().expect("a rule") as usize;
    assert_eq!(run["tool"]["driver"]["rules"][rule]["id"], "leak");
    let physical = &first["locations"][0]["physicalLocation"];
    assert_eq!(
        *physical,
        json!({
            "artifactLocation": { "uri": "kernel/src/a%20net.rs", "uriBaseId": "SRCROOT" },
            "region": { "startLine": 109 },
        })
    );
    assert!(run["originalUriBaseIds"]["SRCROOT"].is_object());
    assert_eq!(
        first["partialFingerprints"]["functionAndFile/v1"],
        "kernel::net::open<A & B> kernel/src/a net.rs"
    );
    assert_eq!(first["relatedLocations"].as_array().map(Vec::len), Some(2));
    // A file that is none of the repository's is in the call stack alone.
    let second = &results[1];
    let uri = |location: &Value| location["physicalLocation"]["artifactLocation"]["uri"].clone();
    assert_eq!(uri(&second["locations"][0]), "kernel/src/names.rs");
    let frames = &second["stacks"][0]["frames"];
    assert_eq!(
        uri(&frames[0]["location"]),
        "file:///registry/smallvec/raw.rs"
    );
    assert_eq!(second["relatedLocations"].as_array().map(Vec::len), Some(1));
    assert_eq!(run["invocations"][0]["executionSuccessful"], true);
}

/// The checksum of a call stack is another one in each build, and so are offsets and lines.
#[test]
fn a_result_is_known_again_in_another_build() {
    let fingerprints = |report: &str| {
        let run = sarif(&findings(report));
        run["results"][0]["partialFingerprints"].clone()
    };
    let report = report();
    let later = report
        .replace("19623753", "12345678")
        .replace("+0x25/0x163", "+0x35/0x173")
        .replace(":109)", ":113)");
    assert_ne!(report, later);
    assert_eq!(fingerprints(&report), fingerprints(&later));
}

#[test]
fn suspects_are_not_called_leaks() {
    let report = [group(1, 8, (0, 0), CYCLE), summary(0, 1, 3)].join("\n");
    let findings = findings(&report);
    let cases = cases(&findings);
    let (_, ty, message, _) = not_passed(&cases[0]);
    assert_eq!(ty, "suspect");
    assert!(
        message.starts_with("1 suspected object (8 bytes), "),
        "{message}"
    );
    let (kind, _, message, _) = not_passed(&cases[1]);
    assert_eq!(kind, NonSuccessKind::Error);
    assert!(message.contains("3 records are missing"), "{message}");
    let run = sarif(&findings);
    assert_eq!(run["results"][0]["ruleId"], "suspect");
    assert_eq!(run["results"][0]["level"], "warning");
    assert_eq!(run["tool"]["driver"]["rules"][1]["id"], "suspect");
    assert_eq!(run["invocations"][0]["executionSuccessful"], false);
}

#[test]
fn no_leak_is_a_case_that_passes() {
    let findings = findings(&summary(0, 0, 0));
    let cases = cases(&findings);
    assert_eq!(cases.len(), 1);
    assert!(matches!(cases[0].status, TestCaseStatus::Success { .. }));
    let run = sarif(&findings);
    assert_eq!(run["results"], json!([]));
    assert_eq!(run["invocations"][0]["executionSuccessful"], true);
}

#[test]
fn nothing_known_is_an_error() {
    for (ended, errors) in [(None, 1), (Some("it crashed"), 2)] {
        let findings = Findings::of(None, ended);
        let cases = cases(&findings);
        assert_eq!(cases.len(), errors);
        for case in &cases {
            assert_eq!(not_passed(case).0, NonSuccessKind::Error);
        }
        let run = sarif(&findings);
        let notifications = &run["invocations"][0]["toolExecutionNotifications"];
        assert_eq!(notifications.as_array().map(Vec::len), Some(errors));
        assert_eq!(run["invocations"][0]["executionSuccessful"], false);
    }
    assert_eq!(Findings::of(None, None).problems, [Problem::NoCheck]);
    let early = Findings::of(None, Some("it crashed"));
    assert!(
        cases(&early)
            .iter()
            .any(|case| not_passed(case).2.contains("it crashed"))
    );
}

/// What is new since a mark is listed without groups, and so is all where there was no memory for them.
#[test]
fn objects_without_groups_are_put_into_groups() {
    let report = [
        object(8, "\"leader\"", CYCLE),
        object(16, "\"leader\"", CYCLE),
        object(32, "\"owned\"", OWNED),
        object(4, "null", FOREIGN),
        summary(4, 0, 0),
    ];
    let findings = findings(&report.join("\n"));
    let told: Vec<_> = findings.list.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "2 unreferenced objects (24 bytes) that own 2 objects (64 bytes), allocated by kernel::net::open<A & B>",
            "1 unreferenced object (4 bytes) that owns 1 object (32 bytes), allocated by kernel::names::add",
        ]
    );
}

#[test]
fn a_leak_without_a_place_is_told_all_the_same() {
    let stack = r#""crc":"00000000","skipped":0,"backtrace":[]"#;
    let address = r#""crc":"00000001","skipped":0,"backtrace":["0xffffffff80001234"]"#;
    let report = [
        group(1, 9, (0, 0), stack),
        group(1, 8, (0, 0), address),
        summary(2, 0, 0),
    ];
    let findings = findings(&report.join("\n"));
    let cases = cases(&findings);
    assert_eq!(cases[0].name.as_str(), "?");
    assert_eq!(cases[1].name.as_str(), "0xffffffff80001234");
    let run = sarif(&findings);
    assert!(
        run["results"][1]["locations"][0]
            .get("physicalLocation")
            .is_none()
    );
}

fn run(arguments: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_kmemleak-report"));
    program.args(arguments).output().expect("it starts")
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn path(path: &Path) -> &str {
    path.to_str().expect("it is ours")
}

#[test]
fn the_program_writes_them_from_a_log() {
    let (log, xml, json) = (
        file("results.log"),
        file("results.xml"),
        file("results.sarif"),
    );
    fs::write(&log, report()).expect("it is ours");
    fs::write(&xml, "old").expect("it is ours");
    let output = run(&["--junit", path(&xml), "--sarif", path(&json), path(&log)]);
    assert!(output.status.success(), "{output:?}");
    assert!(
        output.stdout.is_empty(),
        "the log is written with names only"
    );
    let findings = findings(&report());
    assert_eq!(
        fs::read_to_string(&xml).expect("XML"),
        junit::document(&findings)
    );
    assert_eq!(
        fs::read_to_string(&json).expect("JSON"),
        sarif::document(&findings)
    );

    // With a kernel, the log is written as well, and the same files.
    fs::remove_file(&xml).expect("it was written");
    let this = env::current_exe().expect("it runs");
    let output = run(&["--kernel", path(&this), "--junit", path(&xml), path(&log)]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), report());
    assert_eq!(
        fs::read_to_string(&xml).expect("XML"),
        junit::document(&findings)
    );
}

#[test]
fn the_program_tells_what_it_cannot_do() {
    let log = file("empty.log");
    fs::write(&log, "nothing\n").expect("it is ours");
    let output = run(&["--junit", path(&file("none.xml")), path(&log)]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(
        told.contains("the records have no check for leaks"),
        "{told}"
    );
    let output = run(&["--sarif", "/nonexistent/folder/x", path(&log)]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        told.contains("cannot write /nonexistent/folder/x: "),
        "{told}"
    );
    assert_eq!(
        run(&[path(&log)]).status.code(),
        Some(2),
        "nothing is asked for"
    );
}
