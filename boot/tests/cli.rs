//! The binary as somebody uses it in a pipe: what goes in, what comes out, and its exit code.

mod run;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use run::{assert_ends, boot, run, stdout};

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
        "--script <FILE>",
        "-c <COMMANDS>",
        "--keep-going",
        "--timeout <SECS>",
        "--json <FILE>",
        "--junit <FILE>",
        "--sarif <FILE>",
        "--verbose",
        "--report <FILE>",
        "--heap-snapshot <FILE>",
        "--folded <FILE>",
        "--pprof <FILE>",
        "--accel <ACCEL>",
        "--color <WHEN>",
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

/// A planted leak, its report and the end; a star is any text.
const TRANSCRIPT: &str = "\
> leak arc-cycle
planted: two Arcs that own each other
> kmemleak scan
    #    count     bytes     owned  oldest type         allocated by                 at
   #1        1      32 B      32 B * Arc<Partner> shell::leak::arc_cycle       kernel/src/shell/leak.rs:*
kmemleak: 1 leader (32 bytes) from 1 call stack; it owns 1 object (32 bytes) from 1 more call stack
kmemleak: 2 unreferenced objects (64 bytes)
next: kmemleak show #1
> exit";

/// Whether the text is like the pattern, in which a star is any text.
fn is_like(text: &str, pattern: &str) -> bool {
    let Some((start, mut rest)) = pattern.split_once('*') else {
        return text == pattern;
    };
    let Some(mut text) = text.strip_prefix(start) else {
        return false;
    };
    while let Some((piece, after)) = rest.split_once('*') {
        let Some((_, behind)) = text.split_once(piece) else {
            return false;
        };
        (text, rest) = (behind, after);
    }
    text.ends_with(rest)
}

#[test]
fn a_piped_session_is_a_transcript() {
    let output = run(boot(&[]), "leak arc-cycle\nkmemleak scan\nexit\n");
    assert_ends(&output, 0, "");
    let printed = stdout(&output);
    let lines: Vec<&str> = printed.trim_end().lines().collect();
    let expected: Vec<&str> = TRANSCRIPT.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{printed}");
    for (line, pattern) in lines.into_iter().zip(expected) {
        assert!(is_like(line, pattern), "{line:?} is not like {pattern:?}");
    }
}

#[test]
fn nothing_of_a_long_input_is_lost() {
    const LINES: usize = 1000;
    let input: String = (0..LINES)
        .map(|number| format!("word-{number}\n"))
        .collect();
    let output = run(boot(&["--keep-going"]), &format!("{input}exit\n"));
    assert_ends(&output, 7, "a command was not understood, or failed");
    let printed = stdout(&output);
    for number in 0..LINES {
        let answer = format!("unknown command `word-{number}`");
        assert!(printed.contains(&answer), "{answer} is missing");
    }
}

#[test]
fn the_end_of_the_input_is_the_end_of_the_machine() {
    for (input, answer) in [
        ("", "> "),
        ("\n\n", "> "),
        ("cpus\n", "\ncpu 1: "),
        // Also after an unfinished line, or an unfinished sequence of a key.
        ("cpus\nps", " idle/1 "),
        ("cpus\x1b", "\ncpu 1: "),
        ("cpus\x1b[", "\ncpu 1: "),
        ("exit", "> exit"),
    ] {
        let output = run(boot(&[]), input);
        assert_ends(&output, 0, "");
        let printed = stdout(&output);
        assert!(printed.contains(answer), "{input:?}: {printed}");
    }
    let output = run(boot(&["--fail-on-leak"]), "leak pages\nkmemleak scan");
    assert_ends(&output, 6, "the last check found leaks");
}

#[test]
fn what_is_no_command_is_told_by_the_exit_code() {
    let long = format!("ps {}", "x".repeat(2000));
    for line in [
        "frobnicate",
        "kmemleak frobnicate",
        "kmemleak scan --frobnicate",
        "kmemleak dump",
        "leak nothing",
        "bench nothing",
        "cpus 1",
        &long,
    ] {
        // What follows is done all the same.
        let output = run(
            boot(&["--fail-on-leak", "--keep-going"]),
            &format!("{line}\nkmemleak scan\nexit\n"),
        );
        assert_ends(&output, 7, "boot: a command was not understood, or failed");
        let printed = stdout(&output);
        assert!(
            printed.contains("\nkmemleak: 0 unreferenced objects"),
            "{printed}"
        );
    }
    // The kernel's own failure takes precedence.
    assert_ends(
        &run(boot(&["--keep-going"]), "frobnicate\npanic\n"),
        1,
        "the guest failed",
    );
}

#[test]
fn a_line_that_is_too_long_is_refused_and_not_cut() {
    let line = |len: usize| format!("leak pages{}", " ".repeat(len - "leak pages".len()));
    let output = run(boot(&[]), &format!("{}\nexit\n", line(1024)));
    assert_ends(&output, 0, "");
    assert!(stdout(&output).contains("\nplanted: "));
    let output = run(boot(&["--keep-going"]), &format!("{}\ncpus\n", line(1025)));
    assert_ends(&output, 7, "");
    let printed = stdout(&output);
    let refused =
        "\nthe line is too long by 1 character: it may have 1024 bytes, and nothing was done\n";
    assert!(printed.contains(refused), "{printed}");
    assert!(
        !printed.contains("planted: ") && printed.contains("\ncpu 1: "),
        "{printed}"
    );
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
fn the_last_check_decides_whether_leaks_are_a_failure() {
    let cases = [
        ("kmemleak scan\nexit\n", 0, ""),
        (
            "kmemleak scan\nleak pages\nkmemleak scan\nexit\n",
            6,
            "the last check found leaks",
        ),
        (
            "leak pages\nkmemleak scan\nkmemleak clear\nkmemleak scan\nexit\n",
            0,
            "",
        ),
        (
            "kmemleak scan\nleak pages\nkmemleak scan --json\nexit\n",
            6,
            "the last check found leaks",
        ),
        (
            "kmemleak scan\nleak pages\nkmemleak mark\nexit\n",
            6,
            "the last check found leaks",
        ),
        // The kernel's own failure takes precedence.
        ("leak pages\nkmemleak scan\npanic\n", 1, "the guest failed"),
    ];
    for (input, code, message) in cases {
        assert_ends(&run(boot(&["--fail-on-leak"]), input), code, message);
    }
}

/// A script in place of QEMU prints the verdict: the shell has no command that uses up the detector's memory.
#[test]
fn a_check_that_is_not_certain_has_a_code_of_its_own() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("uncertain");
    fs::create_dir_all(&folder).expect("a directory for tests");
    let qemu = folder.join("qemu-system-x86_64");
    let says = "kmemleak: 0 unreferenced objects (0 bytes), 399 suspects, 1 unrecorded";
    fs::write(
        &qemu,
        format!("#!/bin/sh\nprintf '> \\r\\n{says}\\r\\n'\nexit 33\n"),
    )
    .expect("it is ours");
    fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let path = std::env::var("PATH").expect("there is one");
    let run_with = |arguments: &[&str]| {
        let mut command = boot(arguments);
        command.env("PATH", format!("{}:{path}", folder.display()));
        run(command, "")
    };
    let output = run_with(&["--fail-on-leak"]);
    assert_ends(&output, 8, "boot: the last check is not certain");
    assert!(stdout(&output).contains(says));
    assert_ends(&run_with(&[]), 0, "");
}

#[test]
fn leaks_alone_are_no_failure() {
    let output = run(boot(&[]), "leak pages\nkmemleak scan\nexit\n");
    assert_ends(&output, 0, "");
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
