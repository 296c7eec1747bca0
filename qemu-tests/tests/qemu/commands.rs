//! The commands that switch the detector, or tell of it, line by line; and what is no command.

use qemu_tests::machines::Failure;

use crate::ask::{ask, expect, json, lines};
use crate::leaks::{plant, same_but_unread};
use crate::shell::{expect_in, shell, shell_on};

/// Run with each number of CPUs.
pub const ON_CPUS: crate::TestsOnCpus = &[("selftest", selftest)];

crate::tests![
    status,
    stack,
    background,
    off,
    help,
    unknown_words,
    wrong_arguments
];

fn status() -> Result<(), Failure> {
    let mut session = shell()?;
    let status = |last: &[&'static str]| {
        let first = [
            "state        enabled",
            "objects      … (… bytes)",
            "metadata     … bytes, of which … call stacks take …",
            "unrecorded   0 (ever: 0)",
            "missed frees 0",
            "warnings     0",
            "suppressions 0, hiding 0 objects (0 bytes)",
        ];
        lines(&[&first, last, &["next scan    in … s"]])
    };
    expect(&mut session, "status", &status(&["last check   none"]))?;
    plant(&mut session, "pages")?;
    ask(&mut session, "scan")?;
    let last = [
        "last check   … s ago, took … us, world stopped for … us, … words, 1 unreferenced object",
        "marker       … candidates, … hits, … misses, on 1 cpu",
    ];
    expect(&mut session, "status", &status(&last))?;
    let status = json(&mut session, "status --json")?;
    let last = &status[0]["last_check"];
    match (last["objects"].as_u64(), last["cpus"].as_u64()) {
        (Some(1), Some(1)) => Ok(()),
        _ => Err(format!("{status:?}").into()),
    }
}

fn stack() -> Result<(), Failure> {
    let mut session = shell()?;
    expect(
        &mut session,
        "stack=off",
        &["kmemleak: task stacks are no roots"],
    )?;
    expect(
        &mut session,
        "stack off",
        &["kmemleak: task stacks are no roots"],
    )?;
    expect(
        &mut session,
        "stack=on",
        &["kmemleak: task stacks are roots"],
    )?;
    expect(
        &mut session,
        "stacks=sample:524288",
        &[
            "kmemleak: call stacks are taken of a sample of allocations, one for each 524288 bytes from now on",
        ],
    )
}

fn background() -> Result<(), Failure> {
    let mut session = shell()?;
    expect(&mut session, "scan=off", &["kmemleak: no background scan"])?;
    expect(
        &mut session,
        "scan=on",
        &["kmemleak: background scan every 600 s"],
    )?;
    expect(
        &mut session,
        "scan=1234",
        &["kmemleak: background scan every 1234 s"],
    )?;
    expect(&mut session, "scan=0", &["kmemleak: no background scan"])?;
    expect(
        &mut session,
        "stop_max_ms=20",
        &["kmemleak: a background scan stops the world for 20 ms at most"],
    )?;
    let neither = "kmemleak: scan: invalid value `often`: expected on, off or a number of seconds";
    expect(&mut session, "scan=often", &[neither])
}

/// With leaks that are there already, which it leaves alone.
fn selftest(cpus: u32) -> Result<(), Failure> {
    let mut session = shell_on(cpus)?;
    let passed = "kmemleak: selftest passed: a planted leak and what it owned were found, and nothing is left of them";
    expect(&mut session, "selftest", &[passed])?;
    plant(&mut session, "arc-cycle")?;
    ask(&mut session, "suppress *")?;
    let hidden = "kmemleak: selftest not done: a suppression hides what it plants";
    expect(&mut session, "selftest", &[hidden])?;
    ask(&mut session, "unsuppress *")?;
    expect(&mut session, "selftest", &[passed])?;
    let scan = ask(&mut session, "scan")?;
    expect_in(&scan, "\nkmemleak: 2 unreferenced objects (64 bytes)\n")
}

fn off() -> Result<(), Failure> {
    let mut session = shell()?;
    plant(&mut session, "arc-cycle")?;
    let scan = ask(&mut session, "scan --full")?;
    expect(
        &mut session,
        "off",
        &["kmemleak: off; \"clear\" frees the metadata"],
    )?;
    for word in [
        "scan",
        "mark",
        "new",
        "sites",
        "site 0",
        "objects",
        "interior",
        "stack-only",
        "dump 0",
        "holders 0",
        "path 0",
        "suppress",
        "suppress x",
        "unsuppress x",
        "stack=on",
        "scan=on",
        "scan=60",
        "stop_max_ms=5",
        "selftest",
        "off",
    ] {
        expect(
            &mut session,
            word,
            &["kmemleak: off, and can't be switched on again"],
        )?;
    }
    same_but_unread(&ask(&mut session, "report --full")?, &scan)?;
    json(&mut session, "report --all --json")?;
    expect_in(&ask(&mut session, "status")?, "state        disabled\n")?;
    expect(&mut session, "clear", &["kmemleak: metadata freed"])?;
    expect(
        &mut session,
        "report",
        &["kmemleak: no check so far, or none since the last clear"],
    )?;
    expect_in(&ask(&mut session, "help")?, "  scan ")
}

const HELP: [&str; 46] = [
    "  scan [--all] [--full] [--top N] [--json]",
    "                            check for leaks now, and report",
    "  report [--all] [--full] [--top N] [--json]",
    "                            the last check's report again; --all: all leaks, not only leaders",
    "  show #N [--top N]         a group that was listed, with its objects (20), or an object",
    "  status [--json]           what the detector knows and does",
    "  clear [--json]            never report again what is reported now; after off: free the metadata",
    "  mark [--json]             check now, and remember what is lost and what is alive",
    "  new [--full] [--top N] [--json]",
    "                            check now, and report what was lost since the mark",
    "  sites [N] [--by bytes|growth|count] [--full] [--json]",
    "                            call sites (10) by growth since the mark; without a mark by live bytes",
    "  types [N] [--by bytes|growth|count] [--json]",
    "                            types of live blocks (10) by growth since the mark; without a mark by live bytes",
    "  counts [N] [--all] [--json]",
    "                            reference counts that are wrong (10): more references than there are, or less than none",
    "  site CRC|#N [--task PID] [--older SECS] [--top N] [--json]",
    "                            a call site, its bytes at the last marks, and its oldest objects (20)",
    "  objects [--site CRC] [--task PID] [--older SECS] [--full] [--top N] [--json]",
    "                            the oldest live objects (20), with their addresses",
    "  interior [--full] [--top N] [--json]",
    "                            the objects that only pointers into their middle keep alive",
    "  stack-only [--full] [--top N] [--json]",
    "                            the objects that only words of stacks keep alive, and in which frames these lie",
    "  dump ADDR|#N [--json]     what is known of the object at an address",
    "  holders ADDR|#N [--full] [--json]",
    "                            the words that point into an object; more than 10: a table of where they lie",
    "  path ADDR|#N [--json]     the shortest way to an object from a root",
    "  why ADDR|#N [--json]      why an address is, or is not, reported, and what to do",
    "  tasks [--json]            the tasks that can never run again, and what only they retain",
    "  snapshot [--json]         the whole heap, always as JSON: objects, pointers between them, roots",
    "  suppress [--json]         the suppressions, and what they hide",
    "  suppress PATTERN|#N[:max=N] [--json]",
    "                            hide leaks with a function in their call stack whose path ends with PATTERN; * is any text",
    "  unsuppress PATTERN [--json]",
    "                            remove a suppression",
    "  stack=on|off [--json]     whether task stacks are roots",
    "  stacks=on|off|sample:BYTES [--json]",
    "                            of which allocations the call stack is taken: of all, none, or a sample by bytes",
    "  scan=on|off [--json]      whether to scan in the background",
    "  scan=SECS [--json]        scan in the background every so many seconds",
    "  stop_max_ms=MS [--json]   how long a background scan may stop the world at most; 0: never",
    "  selftest [--json]         plant a leak, find it, remove it; makes a new verdict",
    "  help [COMMAND]            this list, or what a command takes",
    "  off [--json]              record nothing any more; it can't be switched on again",
    "  --color always|never      with any command: text with colours, or without",
];

fn help() -> Result<(), Failure> {
    let mut session = shell()?;
    expect(&mut session, "help", &HELP)?;
    expect(&mut session, "", &HELP)
}

fn unknown_words() -> Result<(), Failure> {
    let mut session = shell()?;
    for (word, told) in [
        (
            "frobnicate",
            "kmemleak: unknown command `frobnicate`; `help` lists all",
        ),
        (
            "scam",
            "kmemleak: unknown command `scam`; did you mean `scan`?",
        ),
        (
            "hodlers 10",
            "kmemleak: unknown command `hodlers`; did you mean `holders`?",
        ),
    ] {
        expect(&mut session, word, &[told])?;
    }
    Ok(())
}

fn wrong_arguments() -> Result<(), Failure> {
    let mut session = shell()?;
    for (word, told) in [
        (
            "scan --frob",
            &["kmemleak: scan: unexpected argument `--frob`"][..],
        ),
        ("mark x", &["kmemleak: mark: unexpected argument `x`"]),
        (
            "dump",
            &[
                "kmemleak: dump: missing argument: expected an address in hexadecimal or a number from a report, like #1",
            ],
        ),
        (
            "holders",
            &[
                "kmemleak: holders: missing argument: expected an address in hexadecimal or a number from a report, like #1",
            ],
        ),
        (
            "unsuppress",
            &["kmemleak: unsuppress: missing argument: expected a pattern"],
        ),
        (
            "stack=maybe",
            &["kmemleak: stack: invalid value `maybe`: expected on or off"],
        ),
        (
            "dump here",
            &[
                "kmemleak: dump: invalid value `here`: expected an address in hexadecimal or a number from a report, like #1",
            ],
        ),
        ("dump 10", &["kmemleak: no object at 0x0000000000000010"]),
        (
            "sites many",
            &["kmemleak: sites: invalid value `many`: expected a number"],
        ),
        (
            "suppress x:max=y",
            &[
                "kmemleak: suppress: invalid value `x:max=y`: expected PATTERN, PATTERN:max=N or a number from a report, like #1",
            ],
        ),
    ] {
        expect(&mut session, word, told)?;
    }
    Ok(())
}
