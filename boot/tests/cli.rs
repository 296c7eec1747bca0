//! The binary as somebody uses it in a pipe: what goes in, what comes out, and its exit code.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

fn boot(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_boot"));
    command
        .args(["--headless", "--accel", "tcg"])
        .args(arguments);
    command
}

/// Runs it with that input, which ends then.
fn run(mut command: Command, input: &str) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("it was built for this test");
    let mut stdin = child.stdin.take().expect("it is a pipe");
    let input = input.to_owned();
    let typist = thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("it is a child");
    // It fails where the program ended without reading all.
    let _ = typist.join();
    output
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).replace('\r', "")
}

#[track_caller]
fn assert_ends(output: &Output, code: i32, message: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let all = format!("stdout: {}\nstderr: {stderr}", stdout(output));
    assert_eq!(output.status.code(), Some(code), "{all}");
    assert!(stderr.contains(message), "{message:?} is missing\n{all}");
}

#[test]
fn help_lists_every_option() {
    let output = run(boot(&["--help"]), "");
    assert_ends(&output, 0, "");
    let options = [
        "--smp <N>",
        "--memory <SIZE>",
        "--append <TEXT>",
        "--debug-build",
        "--gdb",
        "--headless",
        "--fail-on-leak",
        "--accel <ACCEL>",
        "--kernel <ELF>",
        "[QEMU ARGS]",
        "Exit codes:",
    ];
    for option in options {
        assert!(stdout(&output).contains(option), "{option} is missing");
    }
}

#[test]
fn piped_commands_are_run_and_nothing_else_is_printed() {
    let output = run(boot(&["--smp", "3"]), "cpus\nexit\n");
    assert_ends(&output, 0, "");
    let printed = stdout(&output);
    assert!(printed.starts_with("> cpus\ncpu 0: "), "{printed}");
    assert!(
        printed.contains("\ncpu 2: ") && !printed.contains("\ncpu 3: "),
        "{printed}"
    );
    assert!(printed.trim_end().ends_with("> exit"), "{printed}");
}

#[test]
fn nothing_of_a_long_input_is_lost() {
    const LINES: usize = 1000;
    let input: String = (0..LINES)
        .map(|number| format!("word-{number}\n"))
        .collect();
    let output = run(boot(&[]), &format!("{input}exit\n"));
    assert_ends(&output, 0, "");
    let printed = stdout(&output);
    for number in 0..LINES {
        let answer = format!("unknown command \"word-{number}\"");
        assert!(printed.contains(&answer), "{answer} is missing");
    }
}

#[test]
fn the_guests_failure_is_the_exit_code() {
    assert_ends(&run(boot(&[]), "panic\n"), 1, "the guest failed");
}

#[test]
fn a_reset_is_no_success() {
    assert_ends(&run(boot(&[]), "reboot\n"), 5, "the machine was reset");
}

#[test]
fn qemus_failure_is_told_with_its_command() {
    let output = run(boot(&["--", "-device", "no-such-device"]), "");
    assert_ends(&output, 3, "not a valid device model name");
    assert_ends(&output, 3, "boot: its command was qemu-system-x86_64 ");
}

#[test]
fn without_a_check_there_is_no_proof_of_no_leaks() {
    assert_ends(
        &run(boot(&["--fail-on-leak"]), "exit\n"),
        6,
        "no check for leaks",
    );
}

#[test]
fn wrong_usage_is_told() {
    assert_ends(
        &run(boot(&["--smp", "none"]), ""),
        2,
        "invalid value 'none'",
    );
}

#[test]
fn missing_qemu_is_told_with_the_way_to_get_it() {
    let mut command = boot(&[]);
    command.env("PATH", "/nonexistent");
    let output = run(command, "");
    assert_ends(
        &output,
        1,
        "boot: qemu-system-x86_64 is missing: get it by ./setup.sh, or by ",
    );
}

#[test]
fn a_missing_target_is_told_with_the_way_to_get_it() {
    // A compiler that has no standard library for the target.
    let compiler = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rustc-without-target");
    fs::write(&compiler, "#!/bin/sh\necho /nonexistent\n").expect("a directory for tests");
    fs::set_permissions(&compiler, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let mut command = boot(&[]);
    command.env("RUSTC", &compiler);
    let output = run(command, "");
    assert_ends(
        &output,
        1,
        "x86_64-unknown-none is missing: get it by ./setup.sh, or by rustup target add",
    );
}
