//! The example of a process that looks for its own leaks, `examples/threads`: it finds what each of its programs says it has
//! lost, and what LeakSanitizer finds in the same program.
//!
//! Both look at all of a process when it exits, conservatively: so what they find should be equal, block for block and byte for
//! byte. Where it is not, there is a [reason](DIFFERENCES).
#![cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The exit code of a process with leaks.
const HAS_LEAKS: i32 = 23;

/// The programs of which the two do not find the same, with what the detector finds (blocks, bytes), what LeakSanitizer finds,
/// and why.
const DIFFERENCES: [(&str, Found, Found, &str); 2] = [
    (
        "thread_handle_forgotten",
        (1, 48),
        (2, 96),
        "the standard library takes a thread's handle from `System`, past the global allocator: the detector does not know it",
    ),
    (
        "name_of_a_running_thread",
        (1, 11),
        (0, 0),
        "only such a handle holds the name, which comes from the global allocator: what is not tracked is not scanned",
    ),
];

/// Blocks that were found, and their bytes.
type Found = (usize, usize);

/// Builds the programs. With the given flags of cargo's, into a folder of their own; returns the executable.
fn build(folder: &str, flags: &[&str]) -> PathBuf {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/threads");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
    let output = Command::new(env!("CARGO"))
        // Its own configuration counts there.
        .current_dir(example)
        .args(["build", "--locked", "--no-default-features"])
        // With a target named, flags are not for build scripts.
        .args(["--target", TARGET, "--target-dir"])
        .arg(&target)
        .args(flags)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    target.join(TARGET).join("debug/threads")
}

const TARGET: &str = "x86_64-unknown-linux-gnu";

fn run(programs: &Path, arguments: &[&str]) -> Output {
    Command::new(programs)
        .args(arguments)
        // Names would be looked up for each report, slowly.
        .env("LSAN_OPTIONS", "symbolize=0")
        .output()
        .expect("it was built")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn names(programs: &Path) -> Vec<String> {
    let output = run(programs, &[]);
    text(&output.stdout).lines().map(str::to_owned).collect()
}

/// The numbers in a line.
fn numbers(line: &str) -> Vec<usize> {
    let numbers = line.split(|letter: char| !letter.is_ascii_digit());
    numbers.filter_map(|number| number.parse().ok()).collect()
}

/// What the detector or LeakSanitizer has found, if what it writes is a verdict.
fn found(output: &Output) -> Option<Found> {
    let errors = text(&output.stderr);
    // So LeakSanitizer says of a thread that ends just then.
    let note = |line: &&str| line.contains("Unable to get registers from thread");
    let mut lines = errors.lines().filter(|line| !note(line));
    let last = lines.next_back().unwrap_or_default();
    let found = match numbers(last)[..] {
        [blocks, bytes] if last.starts_with("kmemleak: ") && last.contains(" unreferenced ") => {
            (blocks, bytes)
        }
        [bytes, blocks] if last.starts_with("SUMMARY: LeakSanitizer: ") => (blocks, bytes),
        [] if last.is_empty() => (0, 0),
        _ => return None,
    };
    let code = if found.0 > 0 { HAS_LEAKS } else { 0 };
    (output.status.code() == Some(code)).then_some(found)
}

#[track_caller]
fn found_by(programs: &Path, name: &str) -> Found {
    let output = run(programs, &[name]);
    found(&output).unwrap_or_else(|| panic!("{name}: no verdict: {output:#?}"))
}

fn with_detector() -> PathBuf {
    build("threads", &["--features", "detector"])
}

#[test]
fn the_detector_finds_what_each_program_has_lost() {
    let programs = with_detector();
    let names = names(&programs);
    assert!(names.len() > 30, "{names:?}");
    for name in &names {
        let output = run(&programs, &[name]);
        let found = found(&output).unwrap_or_else(|| panic!("{name}: no verdict: {output:#?}"));
        let said = numbers(&text(&output.stdout));
        let wrong = DIFFERENCES.iter().find(|(program, ..)| program == name);
        match (&said[..], wrong) {
            (_, Some(&(_, by_detector, ..))) => assert_eq!(found, by_detector, "{name}"),
            (&[blocks, bytes], None) => assert_eq!(found, (blocks, bytes), "{name}"),
            (_, None) => assert_ne!(found, (0, 0), "{name}"),
        }
    }
    let selftest = text(&run(&programs, &["selftest"]).stderr);
    assert!(
        selftest.starts_with("kmemleak: selftest passed"),
        "{selftest}"
    );
}

/// A thread that stops inside the detector, or is not stopped, makes some of many checks go wrong.
#[test]
fn checks_agree_while_other_threads_run() {
    let programs = with_detector();
    for (name, expected) in [
        ("threads_that_allocate_all_the_time", (1, 64)),
        ("threads_that_start_threads", (0, 0)),
    ] {
        let output = run(&programs, &[name, "300"]);
        assert_eq!(found(&output), Some(expected), "{name}: {output:#?}");
    }
}

/// Some systems have the compiler and its runtime libraries in packages of their own.
fn clang_links_the_sanitizer() -> bool {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let source = folder.join("nothing.c");
    fs::write(&source, "int main(void) { return 0; }\n").expect("a file can be written");
    let mut clang = Command::new("clang");
    clang.arg("-fsanitize=leak").arg(&source).arg("-o");
    let linked = clang.arg(folder.join("nothing")).output();
    linked.is_ok_and(|output| output.status.success())
}

#[test]
fn leak_sanitizer_finds_the_same() {
    if !clang_links_the_sanitizer() {
        println!(
            "skipped: no clang links LeakSanitizer here (apt-get install clang libclang-rt-dev)"
        );
        return;
    }
    let linked = r#"build.rustflags=["-Clinker=clang","-Clink-arg=-fsanitize=leak"]"#;
    let sanitized = build("threads-sanitized", &["--config", linked]);
    let errors = text(&run(&sanitized, &["freed_by_hand"]).stderr);
    if errors.contains("LeakSanitizer has encountered a fatal error") {
        println!("skipped: LeakSanitizer can't stop the threads of a process here (ptrace)");
        return;
    }
    let programs = with_detector();
    let names = names(&programs);
    assert_eq!(names, self::names(&sanitized));
    for name in &names {
        let both = (found_by(&programs, name), found_by(&sanitized, name));
        match DIFFERENCES.iter().find(|(program, ..)| program == name) {
            Some(&(_, detector, sanitizer, why)) => {
                assert_eq!(both, (detector, sanitizer), "{name}: {why}");
            }
            None => assert_eq!(both.0, both.1, "{name}"),
        }
    }
}
