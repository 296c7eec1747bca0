//! Running the binary, and looking at how it ended.
//!
//! A test that fails shows the last run: the commands, the binary's and QEMU's, and the end of what was said.

use std::cell::RefCell;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::Once;
use std::{panic, thread};

use boot::machine;

thread_local! {
    /// What a failure of the test in this thread shows.
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Lines that it shows of an output.
const TAIL_LINES: usize = 120;

/// Has a test that fails show its last run.
fn show_on_failure() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            hook(info);
            eprint!("{}", LAST.take());
        }));
    });
}

/// The end of a text.
fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    shown.iter().map(|line| format!("    {line}\n")).collect()
}

/// The binary with these arguments, its guest emulated. It says what QEMU's command is.
pub fn boot(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_boot"));
    command
        .args(["--headless", "--accel", "tcg", "--verbose"])
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
    show_on_failure();
    let (printed, said) = (stdout(&output), String::from_utf8_lossy(&output.stderr));
    LAST.set(format!(
        "the last run was {}\nit ended with {}\nits output ends with\n{}it said\n{}",
        machine::typed(&command),
        output.status,
        tail(&printed),
        tail(&said)
    ));
    output
}

/// What it printed.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).replace('\r', "")
}

/// It must have ended with this code, and have said this.
#[track_caller]
pub fn assert_ends(output: &Output, code: i32, message: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(message), "{message:?} is missing: {said}");
}
