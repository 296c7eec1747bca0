//! Running the binary, and looking at how it ended.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::thread;

/// The binary with these arguments, its guest emulated.
pub fn boot(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_boot"));
    command
        .args(["--headless", "--accel", "tcg"])
        .args(arguments);
    command
}

/// Runs the binary with this input, and then ends the input.
pub fn run(mut command: Command, input: &str) -> Output {
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

/// What it printed.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).replace('\r', "")
}

/// It must have ended with this code, and have said this.
#[track_caller]
pub fn assert_ends(output: &Output, code: i32, message: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let all = format!("stdout: {}\nstderr: {stderr}", stdout(output));
    assert_eq!(output.status.code(), Some(code), "{all}");
    assert!(stderr.contains(message), "{message:?} is missing\n{all}");
}
