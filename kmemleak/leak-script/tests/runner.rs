//! The runner as somebody uses it: files in, lines and an exit code out.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use leak_script::museum;

/// The runner's command, with these scripts in files of their own.
fn runner(test: &str, arguments: &[&str], scripts: &[(&str, &[u8])]) -> Command {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    fs::create_dir_all(&folder).expect("a directory for tests");
    let mut runner = Command::new(env!("CARGO_BIN_EXE_leak-script"));
    runner.args(arguments);
    for (name, text) in scripts {
        let file = folder.join(name).with_extension("leak");
        fs::write(&file, text).expect("it is ours");
        runner.arg(file);
    }
    runner
}

fn run(mut runner: Command) -> Output {
    runner.output().expect("it was built for this test")
}

#[track_caller]
fn assert_tells(output: &Output, code: i32, lines: &[&str]) {
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(told.lines().collect::<Vec<_>>(), lines, "{output:?}");
    assert_eq!(output.status.code(), Some(code), "{output:?}");
}

#[test]
fn what_is_no_text_is_told_with_its_line() {
    let scripts: &[(&str, &[u8])] = &[
        ("bytes", b"alloc A 8\n# \xff\n"),
        ("marked", b"\xef\xbb\xbfcheck\nexpect leaks none\n"),
        ("sixteen", b"\xff\xfec\0"),
    ];
    let lines = [
        "FAILED bytes: line 2: no UTF-8",
        "ok marked",
        "FAILED sixteen: line 1: no UTF-8",
        "1 passed, 2 failed",
    ];
    assert_tells(&run(runner("text", &[], scripts)), 1, &lines);
}

#[test]
fn a_script_that_takes_too_much_is_followed_by_the_next() {
    let scripts: &[(&str, &[u8])] = &[
        ("huge", b"alloc A 200000000000016 from=percpu\n"),
        ("large", b"alloc A 0x1000000000 from=vmalloc\n"),
        ("good", b"alloc A 16\ncheck\nexpect leaks A\n"),
    ];
    let lines = [
        "FAILED huge: line 1: no block of 200000000000016 bytes to be had",
        "FAILED large: line 1: no block of 68719476736 bytes to be had",
        "ok good",
        "1 passed, 2 failed",
    ];
    assert_tells(&run(runner("huge", &[], scripts)), 1, &lines);
}

#[test]
fn there_is_no_machine_without_processors() {
    let output = run(runner("smp", &["--smp", "0"], &[("one", b"check\n")]));
    assert_tells(&output, 2, &[]);
}

#[test]
fn each_file_is_told_of_where_there_is_no_qemu() {
    let scripts: &[(&str, &[u8])] = &[("one", b"check\n"), ("bytes", b"\xff"), ("two", b"")];
    let mut runner = runner("qemu", &["--qemu"], scripts);
    let output = run({
        runner.env("PATH", "/nonexistent");
        runner
    });
    let told = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = told.lines().collect();
    let [one, bytes, two, sum] = lines[..] else {
        panic!("{output:?}");
    };
    let missing = "qemu-system-x86_64 is missing: ";
    assert!(one.starts_with(&format!("FAILED one: {missing}")), "{one}");
    assert_eq!(bytes, "FAILED bytes: line 1: no UTF-8");
    assert!(two.starts_with(&format!("FAILED two: {missing}")), "{two}");
    assert_eq!(sum, "0 passed, 3 failed");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_museums_table_leaves_out_what_it_can_not_show() {
    let exhibit =
        b"# From: here\n# Lost: A\n# Found by: check, scan\n# Counting: nothing\nalloc A 8\n";
    let scripts: &[(&str, &[u8])] = &[("bare", b"alloc A 8\n"), ("good", exhibit)];
    let output = run(runner("table", &["--table"], scripts));
    let found = "`check`, first check; `scan`, second scan";
    let row = format!(
        "| [good](good.leak) | here | 1 block, 8 bytes | {found} | 1 block at this site, not that it is lost |"
    );
    let lines: Vec<&str> = museum::HEAD.lines().chain([row.as_str()]).collect();
    assert_tells(&output, 1, &lines);
    let why = String::from_utf8_lossy(&output.stderr);
    assert_eq!(why, "FAILED bare: the head has no line \"Lost: \"\n");
}
