//! The script for CI jobs, `examples/ci.sh`: it fails exactly if there is a leak, a mistyped command, a hang or a crash.

mod run;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kmemleak_report::log::Log;
use quick_junit::{NonSuccessKind, Report, TestCaseStatus};
use run::{assert_ends, boot, run};
use serde_json::Value;

/// What a job leaves behind: how it ended, and the files.
struct Job {
    output: Output,
    junit: String,
    sarif: Value,
}

/// A folder with a program `cargo` that runs the binary of this build, emulated: `cargo run -q -- ARGUMENTS`, and what the
/// environment says of the machine.
fn shim(folder: &Path) {
    let cargo = folder.join("cargo");
    let binary = env!("CARGO_BIN_EXE_boot");
    let text =
        format!("#!/bin/sh\nshift 3\nexec '{binary}' --accel tcg --verbose \"$@\" $MACHINE\n");
    fs::write(&cargo, text).expect("it is ours");
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).expect("it is ours");
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // It need not be there.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder for a test");
    folder
}

/// The machine's CPUs never begin.
const STOPPED: &str = "-- -S";

fn job(name: &str, commands: &str, limit_s: &str) -> Job {
    job_on("", name, commands, limit_s)
}

/// A job on a machine with these arguments.
fn job_on(machine: &str, name: &str, commands: &str, limit_s: &str) -> Job {
    let folder = folder(&format!("ci-{name}"));
    shim(&folder);
    fs::write(folder.join("commands"), commands).expect("it is ours");
    let path = std::env::var("PATH").expect("there is one");
    let mut job = Command::new("sh");
    job.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/ci.sh"));
    job.arg("commands")
        .current_dir(&folder)
        .env("LIMIT", limit_s)
        .env("MACHINE", machine);
    // The binary builds the kernel by the cargo of this build.
    job.env("PATH", format!("{}:{path}", folder.display()));
    job.env("CARGO", env!("CARGO"));
    let output = run(job, "");
    let text = |name: &str| fs::read_to_string(folder.join(name)).expect("it was written");
    Job {
        output,
        junit: text("leaks.xml"),
        sarif: serde_json::from_str(&text("leaks.sarif")).expect("JSON"),
    }
}

/// The statuses of the test cases: the kind of those that did not pass.
fn statuses(junit: &str) -> Vec<Option<NonSuccessKind>> {
    let report = Report::deserialize_from_str(junit).expect("JUnit's XML");
    let cases = report
        .test_suites
        .iter()
        .flat_map(|suite| &suite.test_cases);
    let status = |status: &TestCaseStatus| match status {
        TestCaseStatus::NonSuccess { kind, .. } => Some(*kind),
        _ => None,
    };
    cases.map(|case| status(&case.status)).collect()
}

const GOOD: &str = "# What is tested.\nkmemleak selftest\n\nkmemleak scan\n";

#[test]
fn all_is_well() {
    let job = job("good", GOOD, "600");
    assert_ends(&job.output, 0, "");
    assert_eq!(statuses(&job.junit), [None]);
    assert_eq!(
        job.sarif["runs"][0]["results"].as_array().map(Vec::len),
        Some(0)
    );
}

#[test]
fn a_leak_fails() {
    let job = job("leak", "leak arc-cycle\nleak pages\nkmemleak scan\n", "600");
    assert_ends(&job.output, 6, "boot: the last check found leaks");
    assert_eq!(statuses(&job.junit), [Some(NonSuccessKind::Failure); 2]);
    let results = &job.sarif["runs"][0]["results"];
    assert_eq!(results.as_array().map(Vec::len), Some(2));
    let place = &results[0]["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "kernel/src/shell/leak.rs");
    assert!(place["region"]["startLine"].as_u64().is_some(), "{place}");
}

#[test]
fn a_mistyped_command_fails() {
    let job = job("typo", &GOOD.replace("scan", "scam"), "600");
    assert_ends(
        &job.output,
        7,
        "boot: a command was not understood, or failed",
    );
    // Neither a check nor an end in due time.
    assert_eq!(statuses(&job.junit), [Some(NonSuccessKind::Error); 2]);
}

/// A detector that is off finds nothing, which is no clean result.
#[test]
fn a_check_that_cannot_be_made_fails() {
    let junit = folder("off").join("off.xml");
    let path = junit.to_str().expect("it is ours");
    let off = ["--append", "kmemleak=off", "--junit", path, "-c", "cpus"];
    let output = run(boot(&off), "");
    assert_ends(&output, 7, "a command was not understood, or failed");
    let junit = fs::read_to_string(&junit).expect("it was written");
    assert_eq!(statuses(&junit), [Some(NonSuccessKind::Error); 2]);
}

#[test]
fn a_hang_fails() {
    let job = job_on(STOPPED, "hang", GOOD, "2");
    assert_ends(&job.output, 9, "boot: timed out");
    assert_eq!(statuses(&job.junit), [Some(NonSuccessKind::Error); 2]);
}

#[test]
fn a_crash_fails() {
    let job = job("crash", "kmemleak scan\npanic\n", "600");
    assert_ends(&job.output, 1, "boot: the guest failed");
    let statuses = statuses(&job.junit);
    assert!(
        statuses.contains(&Some(NonSuccessKind::Error)),
        "{statuses:?}"
    );
    assert_eq!(
        job.sarif["runs"][0]["invocations"][0]["executionSuccessful"],
        false
    );
}

/// Each file can be had alone, and all show the same leaks.
#[test]
fn the_files_agree() {
    let folder = folder("agree");
    let file = |name: &str| folder.join(name).to_str().expect("it is ours").to_owned();
    let (json, junit, sarif) = (file("a.json"), file("a.xml"), file("a.sarif"));
    let commands = "leak arc-cycle; leak forgotten-free; kmemleak scan --json";
    let arguments = [
        "--json", &json, "--junit", &junit, "--sarif", &sarif, "-c", commands,
    ];
    assert_ends(&run(boot(&arguments), ""), 0, "");
    let text = |path: &str| fs::read_to_string(path).expect("it was written");
    // What the user's commands have printed is not there a second time.
    assert_eq!(text(&json).matches("\"kind\":\"summary\"").count(), 1);
    let log = Log::read(text(&json).as_bytes()).expect("memory can be read");
    let groups = log.report.expect("a report").groups;
    let leading = groups.iter().filter(|group| group.leaders > 0).count();
    assert_eq!(leading, 2);
    assert_eq!(statuses(&text(&junit)).len(), leading);
    let document: Value = serde_json::from_str(&text(&sarif)).expect("JSON");
    assert_eq!(
        document["runs"][0]["results"].as_array().map(Vec::len),
        Some(leading)
    );
}
