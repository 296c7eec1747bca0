//! Runs by script: where the commands come from, when the run ends, and the files that it leaves.

mod run;

use std::fs;
use std::path::{Path, PathBuf};

use run::{assert_ends, boot, run, stdout};

/// An empty folder for a test.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // It need not be there.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder for a test");
    folder
}

fn text(path: &Path) -> &str {
    path.to_str().expect("it is ours")
}

#[test]
fn commands_come_from_a_file_the_input_or_the_command_line() {
    const SCRIPT: &str = "# Which CPUs?\n\ncpus\n  # And tasks?\nps";
    let file = folder("script").join("script");
    fs::write(&file, SCRIPT).expect("it is ours");
    for (arguments, input) in [
        (["--script", text(&file)], "mem\n"),
        (["--script", "-"], SCRIPT),
        (["-c", "cpus;\n# And tasks?\n\nps"], "mem\n"),
    ] {
        let output = run(boot(&arguments), input);
        assert_ends(&output, 0, "");
        let printed = stdout(&output);
        let typed: Vec<_> = printed
            .lines()
            .filter(|line| line.starts_with("> "))
            .collect();
        assert_eq!(typed, ["> cpus", "> ps", "> "], "{printed}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.starts_with("boot: running qemu-system-x86_64 ") && said.lines().count() == 1,
            "nothing else is said: {said}"
        );
    }
}

/// Nothing is built for what cannot be run: an empty path has no cargo.
#[test]
fn what_cannot_be_read_or_written_is_told_before_anything_is_done() {
    let folder = folder("unwritable");
    let nowhere = folder.join("missing").join("out.json");
    let script = folder.join("missing.kms");
    for (arguments, message) in [
        (["--script", text(&script)], "boot: cannot read the script "),
        (["--script", text(&folder)], "is a directory"),
        (["--json", text(&nowhere)], "boot: cannot write "),
        (["--json", text(&folder)], "is a directory"),
        (["--smp", "100"], "the kernel has room for 64 CPUs"),
        (["--memory", "plenty"], "expected a number"),
    ] {
        let mut command = boot(&arguments);
        command.env("PATH", "/nonexistent");
        assert_ends(&run(command, ""), 2, message);
    }
    let left = fs::read_dir(&folder).expect("it is ours");
    assert_eq!(left.count(), 0, "looking leaves nothing behind");
}

#[test]
fn nothing_of_a_long_script_is_lost() {
    const LINES: usize = 2000;
    let file = folder("long").join("script");
    let script: String = (0..LINES)
        .map(|number| format!("leak word-{number}\n"))
        .collect();
    fs::write(&file, script).expect("it is ours");
    let output = run(boot(&["--keep-going", "--script", text(&file)]), "");
    assert_ends(&output, 7, "a command was not understood, or failed");
    let printed = stdout(&output);
    let typed = printed
        .lines()
        .filter_map(|line| line.strip_prefix("> leak word-"));
    assert!(
        typed.eq((0..LINES).map(|number| number.to_string())),
        "a line is missing or out of order"
    );
}

#[test]
fn a_run_that_takes_too_long_is_ended() {
    let folder = folder("timeout");
    let json = folder.join("records.json");
    // QEMU itself does nothing until it is told to: the guest hangs.
    let arguments = [
        "--timeout",
        "1",
        "--json",
        text(&json),
        "-c",
        "ps",
        "--",
        "-S",
    ];
    let output = run(boot(&arguments), "");
    assert_ends(&output, 9, "boot: timed out");
    assert_eq!(
        fs::read_to_string(&json).expect("it is written all the same"),
        ""
    );
}

fn kinds(records: &str) -> Vec<String> {
    let kind = |line: &str| {
        let rest = line.strip_prefix("{\"schema\":2,\"kind\":\"")?;
        rest.split('"').next().map(str::to_owned)
    };
    let kinds = records.lines().map(|line| kind(line).expect("a record"));
    kinds.collect()
}

#[test]
fn records_are_collected() {
    let folder = folder("json");
    let json = folder.join("records.json");
    fs::write(&json, "old").expect("it is ours");
    let with_group = ["group", "object", "object", "summary"];
    for (commands, expected) in [
        // The records that were asked for, and no others if the check's are among them.
        (
            "leak pages; kmemleak scan --json",
            &["group", "object", "summary"][..],
        ),
        // Those of the last check, with all its leaks, if it was not printed as records.
        ("leak arc-cycle; kmemleak scan", &with_group),
        ("leak arc-cycle; kmemleak scan; exit; reboot", &with_group),
        // Of a check that nobody has made.
        ("leak arc-cycle; cpus", &with_group),
    ] {
        let output = run(boot(&["--json", text(&json), "-c", commands]), "");
        assert_ends(&output, 0, "");
        let records = fs::read_to_string(&json).expect("it was written");
        let mut kinds = kinds(&records);
        kinds.dedup_by(|a, b| a == "group" && b == "group");
        assert_eq!(kinds, expected, "{commands}: {records}");
        // What boot asks itself is not shown.
        let printed = stdout(&output);
        let typed = printed.lines().filter(|line| line.starts_with("> "));
        let commands = commands.split("; exit").next().unwrap_or_default();
        let expected = commands
            .split("; ")
            .chain([""])
            .map(|line| format!("> {line}"));
        assert!(typed.eq(expected), "{printed}");
    }
    assert_eq!(fs::read_dir(folder).expect("it is ours").count(), 1);
}

#[test]
fn a_machine_that_ends_early_leaves_what_it_has_said() {
    let json = folder("early").join("records.json");
    let commands = "kmemleak sites --json; panic; kmemleak scan --json";
    let output = run(boot(&["--json", text(&json), "-c", commands]), "");
    assert_ends(&output, 1, "the guest failed");
    let records = fs::read_to_string(&json).expect("it was written");
    assert_eq!(kinds(&records).last().map(String::as_str), Some("sites"));
}

#[test]
fn what_is_asked_counts_for_the_exit_code() {
    let json = folder("asked").join("records.json");
    let leaking = ["--fail-on-leak", "--json", text(&json), "-c", "leak pages"];
    assert_ends(&run(boot(&leaking), ""), 6, "the last check found leaks");
    let clean = ["--fail-on-leak", "--json", text(&json), "-c", "cpus"];
    assert_ends(&run(boot(&clean), ""), 0, "");
}

#[test]
fn the_first_command_that_fails_is_the_last_one() {
    for failing in ["frobnicate", "cpus 1", "kmemleak dump 0", "kmemleak report"] {
        let commands = format!("ps; {failing}; mem");
        let output = run(boot(&["-c", &commands]), "");
        assert_ends(&output, 7, "a command was not understood, or failed");
        let printed = stdout(&output);
        assert!(
            printed.contains("> ps\n") && !printed.contains("> mem\n"),
            "{printed}"
        );
        let output = run(boot(&["--keep-going", "-c", &commands]), "");
        assert_ends(&output, 7, "a command was not understood, or failed");
        assert!(stdout(&output).contains("> mem\n"), "{printed}");
        // What the user says to the kernel holds.
        let output = run(
            boot(&["--append", "shell.errors=continue", "-c", &commands]),
            "",
        );
        assert!(stdout(&output).contains("> mem\n"), "{printed}");
    }
}

/// Each code, where the one after it applies as well. A device that is full takes no file.
#[test]
fn the_codes_have_an_order() {
    let full = ["--fail-on-leak", "--json", "/dev/full", "-c"];
    let lost = "leak pages; kmemleak scan --json";
    for (commands, code, message) in [
        (
            format!("{lost}; frobnicate; panic"),
            7,
            "a command was not understood, or failed",
        ),
        (format!("{lost}; panic"), 1, "the guest failed"),
        (format!("{lost}; reboot"), 5, "before the guest's verdict"),
        (lost.to_owned(), 2, "boot: cannot write /dev/full: "),
    ] {
        let arguments = [&full[..], &[&commands]].concat();
        let output = run(boot(&arguments), "");
        assert_ends(&output, code, message);
        assert_ends(&output, code, "boot: cannot write /dev/full: ");
    }
    let keep_going = ["--keep-going", "--fail-on-leak", "-c"];
    let commands = format!("frobnicate; {lost}; panic");
    assert_ends(
        &run(boot(&[&keep_going[..], &[&commands]].concat()), ""),
        1,
        "the guest failed",
    );
    let commands = format!("frobnicate; {lost}");
    assert_ends(
        &run(boot(&[&keep_going[..], &[&commands]].concat()), ""),
        7,
        "a command was",
    );
}
