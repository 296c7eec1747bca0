//! Leaks planted and found at the shell's prompt, by the detector's commands.

use boot::outcome::Outcome;
use boot::session::Session;
use qemu_tests::machines::{self, Failure, LIMIT};
use qemu_tests::report::{self, Object};
use qemu_tests::transcript::expect_lines;

use crate::ask::{ask, expect_fields, json, of_kind};
use crate::shell::{expect_in, shell, shell_on, shell_with};

/// Run with each of [`CPUS`].
pub const ON_CPUS: crate::TestsOnCpus = &[
    ("idle_kernel_has_none", idle_kernel_has_none),
    ("forgotten_free", |cpus| {
        found(cpus, "forgotten-free", "forgotten_free", &[64])
    }),
    ("arc_cycle", |cpus| {
        found(cpus, "arc-cycle", "arc_cycle", &[32, 32])
    }),
    ("unlinked_node", |cpus| {
        found(cpus, "unlinked-node", "unlinked_node", &[48])
    }),
    ("error_path", |cpus| {
        found(cpus, "error-path", "error_path", &[200])
    }),
    ("lost_task_stack", |cpus| {
        found(cpus, "lost-task-stack", "lost_task_stack", &[64 * 1024])
    }),
    ("pages", |cpus| found(cpus, "pages", "pages", &[4 * 4096])),
    ("vmalloc", |cpus| {
        found(cpus, "vmalloc", "vmalloc", &[3 * 4096])
    }),
    ("percpu", |cpus| found(cpus, "percpu", "percpu", &[48])),
    ("blocked_task", |cpus| {
        waits_for_ever(cpus, "blocked-task", "wait queue", &["waiter"])
    }),
    ("deadlock", |cpus| {
        waits_for_ever(cpus, "deadlock", "mutex", &["back", "forth"])
    }),
    ("lost_sender", |cpus| {
        waits_for_ever(cpus, "lost-sender", "channel", &["server"])
    }),
    (
        "wrong_counts_are_found_by_counts_alone",
        wrong_counts_are_found_by_counts_alone,
    ),
    ("all_kinds_together_are_found", all_kinds_together_are_found),
    ("a_report_hides_no_later_leak", a_report_hides_no_later_leak),
];

/// The numbers of CPUs that they are run with.
pub const CPUS: [u32; 3] = [1, 2, 4];

crate::tests![
    report_repeats_the_last_check,
    cleared_leaks_are_not_reported_again,
    dump_tells_of_an_object,
    stacks_can_be_left_out,
    status_tells_what_the_detector_does,
    off_is_final,
    off_from_the_start,
    background_scan_is_set_and_stopped,
    background_scan_announces_a_leak,
    background_scan_announces_above_the_line_of_a_terminal,
    background_scan_tells_all_when_verbose,
    unknown_kinds_are_answered_with_what_there_is,
];

/// The file that plants the leaks.
const PLANTER: &str = "kernel/src/shell/leak.rs";

fn scan(session: &mut Session) -> Result<Vec<Object>, Failure> {
    report::parse(&session.command("kmemleak scan --all --full", LIMIT)?)
}

fn expect_none(session: &mut Session) -> Result<(), Failure> {
    match scan(session)? {
        objects if objects.is_empty() => Ok(()),
        objects => Err(format!("reported: {objects:#?}").into()),
    }
}

pub fn plant(session: &mut Session, kind: &str) -> Result<(), Failure> {
    let answer = session.command(&format!("leak {kind}"), LIMIT)?;
    if answer.starts_with("planted: ") && answer.lines().count() == 1 {
        Ok(())
    } else {
        Err(format!("leak {kind}: {answer:?}").into())
    }
}

fn idle_kernel_has_none(cpus: u32) -> Result<(), Failure> {
    let mut session = shell_on(cpus)?;
    for _ in 0..3 {
        let answer = session.command("kmemleak scan", LIMIT)?;
        expect_lines(&answer, &["kmemleak: 0 unreferenced objects (0 bytes)"])?;
    }
    Ok(())
}

/// What is planted is found, with the function that planted it, and nothing else.
fn found(cpus: u32, kind: &str, function: &str, sizes: &[u64]) -> Result<(), Failure> {
    let mut session = shell_on(cpus)?;
    plant(&mut session, kind)?;
    let objects = scan(&mut session)?;
    let function = format!("kernel::shell::leak::{function}");
    let as_planted = objects
        .iter()
        .map(|object| object.size)
        .eq(sizes.iter().copied())
        && objects
            .iter()
            .all(|object| object.is_from(&function, PLANTER));
    if !as_planted {
        return Err(format!("not {sizes:?} from {function}: {objects:#?}").into());
    }
    session.send_line("exit", LIMIT)?;
    machines::expect(&session.finish(LIMIT), Outcome::Passed, "")
}

/// What naming the first leak's call stack has left in memory keeps no block alive that comes after.
fn a_report_hides_no_later_leak(cpus: u32) -> Result<(), Failure> {
    let mut session = shell_on(cpus)?;
    plant(&mut session, "forgotten-free")?;
    let mut expected = scan(&mut session)?.len();
    for kind in ["arc-cycle", "error-path", "unlinked-node", "forgotten-free"] {
        for _ in 0..4 {
            plant(&mut session, kind)?;
            expected += if kind == "arc-cycle" { 2 } else { 1 };
            let found = scan(&mut session)?.len();
            if found != expected {
                return Err(format!("{found} objects after {kind}, not {expected}").into());
            }
        }
    }
    Ok(())
}

/// The file that plants counts that are too high.
const MISCOUNT: &str = "kernel/src/shell/miscount.rs";

/// References too many to what stays in use: no scan finds them, and each command line that plants one adds one.
fn wrong_counts_are_found_by_counts_alone(cpus: u32) -> Result<(), Failure> {
    let mut session = shell_on(cpus)?;
    let wrong = |session: &mut Session| -> Result<Vec<String>, Failure> {
        let answer = session.command("kmemleak counts", LIMIT)?;
        Ok(answer.lines().map(String::from).collect())
    };
    let sum = |count: &str, lines: &[String]| match lines.last() {
        Some(last) if last.starts_with(&format!("kmemleak: {count} too high, of ")) => Ok(()),
        _ => Err(Failure::from(format!("not {count}: {lines:#?}"))),
    };
    sum("0 counts are", &wrong(&mut session)?)?;
    let kinds = [
        ("forgotten-clone", "forgotten_clone", "Arc<Kept>"),
        ("double-into-raw", "double_into_raw", "Arc<Kept>"),
        ("lost-waker", "lost_waker", "Arc<Job>"),
    ];
    for round in 1..=2 {
        for (kind, _, _) in kinds {
            plant(&mut session, kind)?;
            expect_none(&mut session)?;
        }
        let lines = wrong(&mut session)?;
        sum(&format!("{} counts are", 3 * round), &lines)?;
        for (_, function, name) in kinds {
            let is_told = |line: &&String| {
                let words: Vec<_> = line.split_whitespace().collect();
                matches!(words[..], [_, count, more, _, "ms" | "s", told, from, place]
                    if count == round.to_string()
                        && more == format!("+{round}")
                        && told == name
                        && from.ends_with(&format!("miscount::{function}"))
                        && place.starts_with(MISCOUNT))
            };
            if lines.iter().filter(is_told).count() != 1 {
                return Err(format!("no {function}: {lines:#?}").into());
            }
        }
    }
    session.send_line("exit", LIMIT)?;
    machines::expect(&session.finish(LIMIT), Outcome::Passed, "")
}

fn all_kinds_together_are_found(cpus: u32) -> Result<(), Failure> {
    let mut session = shell_on(cpus)?;
    let kinds = [
        "forgotten-free",
        "arc-cycle",
        "unlinked-node",
        "error-path",
        "lost-task-stack",
        "pages",
        "vmalloc",
        "percpu",
    ];
    for round in 1..=4 {
        for kind in kinds {
            plant(&mut session, kind)?;
        }
        let objects = scan(&mut session)?;
        for kind in kinds {
            let function = format!("kernel::shell::leak::{}", kind.replace('-', "_"));
            let of_kind = objects
                .iter()
                .filter(|object| object.is_from(&function, PLANTER));
            let each = if kind == "arc-cycle" { 2 } else { 1 };
            if of_kind.count() != each * round {
                return Err(format!("{kind}, round {round}: {objects:#?}").into());
            }
        }
        // One of them leaks two.
        if objects.len() != (kinds.len() + 1) * round {
            return Err(format!("round {round}: {objects:#?}").into());
        }
    }
    Ok(())
}

fn report_repeats_the_last_check() -> Result<(), Failure> {
    let mut session = shell()?;
    let before = session.command("kmemleak report", LIMIT)?;
    expect_in(&before, "no check so far, or none since the last clear")?;
    plant(&mut session, "forgotten-free")?;
    let scan = session.command("kmemleak scan --full", LIMIT)?;
    report::parse(&scan)?;
    let report = session.command("kmemleak report --full", LIMIT)?;
    if report == scan {
        Ok(())
    } else {
        Err(format!("{report}\nis not\n{scan}").into())
    }
}

fn cleared_leaks_are_not_reported_again() -> Result<(), Failure> {
    let mut session = shell()?;
    plant(&mut session, "arc-cycle")?;
    if scan(&mut session)?.len() != 2 {
        return Err("the cycle is not reported".into());
    }
    let answer = session.command("kmemleak clear", LIMIT)?;
    expect_in(&answer, "2 reported objects")?;
    expect_none(&mut session)?;
    // Only what was reported: what leaks later is a leak.
    plant(&mut session, "error-path")?;
    match &scan(&mut session)?[..] {
        [object] if object.size == 200 => Ok(()),
        objects => Err(format!("reported: {objects:#?}").into()),
    }
}

fn dump_tells_of_an_object() -> Result<(), Failure> {
    let mut session = shell()?;
    plant(&mut session, "forgotten-free")?;
    let [object] = &scan(&mut session)?[..] else {
        return Err("not one object".into());
    };
    let start = u64::from_str_radix(object.start.trim_start_matches("0x"), 16)?;
    for (word, address) in [
        ("dump ", object.start.clone()),
        ("dump=", object.start.clone()),
        ("dump ", format!("{start:x}")),
        ("dump=", format!("{:#x}", start + 63)),
    ] {
        let dump = session.command(&format!("kmemleak {word}{address}"), LIMIT)?;
        expect_in(&dump, &format!("object {} (size 64):", object.start))?;
        expect_in(&dump, "6b 6b 6b 6b 6b 6b 6b 6b  kkkkkkkkkkkkkkkk")?;
        expect_in(&dump, "kernel::shell::leak::forgotten_free+0x")?;
    }
    let past = session.command(&format!("kmemleak dump {:#x}", start + 64), LIMIT)?;
    if past.contains(&object.start) {
        return Err(format!("its end is not its own: {past}").into());
    }
    let nothing = session.command("kmemleak dump 0x10", LIMIT)?;
    expect_in(&nothing, "no object at 0x0000000000000010")?;
    let no_number = session.command("kmemleak dump here", LIMIT)?;
    expect_in(
        &no_number,
        "dump: invalid value `here`: expected an address",
    )
}

fn stacks_can_be_left_out() -> Result<(), Failure> {
    let mut session = shell()?;
    let answer = session.command("kmemleak stack=off", LIMIT)?;
    expect_in(&answer, "task stacks are no roots")?;
    // What stacks alone hold is reported now, whatever that is.
    scan(&mut session)?;
    let answer = session.command("kmemleak stack=on", LIMIT)?;
    expect_in(&answer, "task stacks are roots")?;
    expect_none(&mut session)
}

fn status_tells_what_the_detector_does() -> Result<(), Failure> {
    let mut session = shell()?;
    let status = session.command("kmemleak status", LIMIT)?;
    expect_in(&status, "state        enabled\n")?;
    expect_in(&status, "unrecorded   0 ")?;
    expect_in(&status, "last check   none\n")?;
    expect_in(&status, "next scan    in ")?;
    plant(&mut session, "pages")?;
    scan(&mut session)?;
    let status = session.command("kmemleak status", LIMIT)?;
    expect_in(&status, " us, world stopped for ")?;
    expect_in(&status, ", 1 unreferenced object")
}

/// Whether it begins with bytes in hexadecimal.
fn is_dump(line: &str) -> bool {
    let first = line.strip_prefix("    ").and_then(|line| line.get(..3));
    first.is_some_and(|byte| byte.ends_with(' ') && u8::from_str_radix(byte.trim(), 16).is_ok())
}

/// Whether a report that was written once the detector is off is the one of before, but for what is read from blocks.
pub fn same_but_unread(report: &str, before: &str) -> Result<(), Failure> {
    const UNREAD: &str = "  not read: the detector is off, and the block may have been freed";
    let without_bytes = |text: &str| -> Vec<String> {
        let bytes = |line: &str| {
            // Equal lines are told once.
            line == UNREAD || line.contains("hex dump") || is_dump(line) || line.trim() == "*"
        };
        let lines = text.lines().filter(|line| !bytes(line));
        // Which objects a cycle is made of is read from the blocks, too.
        let known = lines.map(|line| {
            line.split_once("in a cycle: ")
                .map_or(line, |_| "  in a cycle")
        });
        known.map(String::from).collect()
    };
    if report.contains("hex dump")
        || !report.contains(UNREAD)
        || without_bytes(report) != without_bytes(before)
    {
        return Err(format!("{report}\nis not\n{before}").into());
    }
    Ok(())
}

fn off_is_final() -> Result<(), Failure> {
    let mut session = shell()?;
    plant(&mut session, "vmalloc")?;
    let scan = session.command("kmemleak scan --full", LIMIT)?;
    let answer = session.command("kmemleak off", LIMIT)?;
    expect_in(&answer, "kmemleak: off")?;
    let answer = session.command("kmemleak scan", LIMIT)?;
    expect_in(&answer, "kmemleak: off, and can't be switched on again")?;
    for word in ["scan=on", "stack=off", "off"] {
        let answer = session.command(&format!("kmemleak {word}"), LIMIT)?;
        expect_in(&answer, "kmemleak: off, and can't be switched on again")?;
    }
    // The last verdict stays readable.
    let report = session.command("kmemleak report --full", LIMIT)?;
    same_but_unread(&report, &scan)?;
    let status = session.command("kmemleak status", LIMIT)?;
    expect_in(&status, "state        disabled\n")?;
    expect_in(&status, "next scan    none\n")?;
    // Until it is freed. The kernel goes on as before.
    let answer = session.command("kmemleak clear", LIMIT)?;
    expect_in(&answer, "metadata freed")?;
    let report = session.command("kmemleak report", LIMIT)?;
    expect_in(&report, "no check so far, or none since the last clear")?;
    plant(&mut session, "percpu")?;
    session.send_line("exit", LIMIT)?;
    // Commands were refused.
    machines::expect(&session.finish(LIMIT), Outcome::NotUnderstood, "")
}

fn off_from_the_start() -> Result<(), Failure> {
    let mut session = shell_with("kmemleak=off")?;
    let status = session.command("kmemleak status", LIMIT)?;
    expect_in(&status, "state        disabled\n")?;
    plant(&mut session, "forgotten-free")?;
    let answer = session.command("kmemleak scan", LIMIT)?;
    expect_in(&answer, "kmemleak: off, and can't be switched on again")
}

fn background_scan_is_set_and_stopped() -> Result<(), Failure> {
    let mut session = shell_with("kmemleak.scan=1234")?;
    let answer = session.command("kmemleak scan=off", LIMIT)?;
    expect_in(&answer, "no background scan")?;
    let status = session.command("kmemleak status", LIMIT)?;
    expect_in(&status, "next scan    none\n")?;
    let answer = session.command("kmemleak scan=on", LIMIT)?;
    expect_in(&answer, "background scan every 1234 s")?;
    let answer = session.command("kmemleak scan=4321", LIMIT)?;
    expect_in(&answer, "background scan every 4321 s")?;
    let answer = session.command("kmemleak scan=often", LIMIT)?;
    expect_in(
        &answer,
        "scan: invalid value `often`: expected on, off or a number of seconds",
    )
}

fn background_scan_announces_a_leak() -> Result<(), Failure> {
    let mut session = shell()?;
    plant(&mut session, "forgotten-free")?;
    session.command("kmemleak scan=1", LIMIT)?;
    // Once it is old enough to be judged.
    let announced = session.wait_for("1 new unreferenced object (64 bytes)", LIMIT)?;
    // On a plain line it begins on a new line, without escape sequences.
    if !announced.starts_with("\nkmemleak: ") || announced.contains('\x1b') {
        return Err(format!("announced: {announced:?}").into());
    }
    session.wait_for("\n> ", LIMIT)?;
    let report = session.command("kmemleak report --full", LIMIT)?;
    match &report::parse(&report)?[..] {
        [object] if object.is_from("kernel::shell::leak::forgotten_free", PLANTER) => Ok(()),
        objects => Err(format!("reported: {objects:#?}").into()),
    }
}

fn background_scan_announces_above_the_line_of_a_terminal() -> Result<(), Failure> {
    let mut session = shell_with("console=80x24")?;
    plant(&mut session, "forgotten-free")?;
    session.command("kmemleak scan=1", LIMIT)?;
    session.wait_for("\x1b[Jkmemleak: 1 new unreferenced object", LIMIT)?;
    session.wait_for("\n> ", LIMIT)?;
    Ok(())
}

fn background_scan_tells_all_when_verbose() -> Result<(), Failure> {
    let mut session = shell_with("kmemleak.scan=1 kmemleak.verbose=on")?;
    plant(&mut session, "error-path")?;
    session.wait_for("   #1        1     200 B         - ", LIMIT)?;
    session.wait_for(
        " shell::leak::error_path      kernel/src/shell/leak.rs:",
        LIMIT,
    )?;
    let end = "kmemleak: 1 unreferenced object (200 bytes)\nnext: kmemleak show #1\n> ";
    session.wait_for(end, LIMIT)?;
    Ok(())
}

/// Tasks of these names are made to wait for ever: they are found, with where they wait and what only they retain, and no leak is.
fn waits_for_ever(cpus: u32, kind: &str, what: &str, names: &[&str]) -> Result<(), Failure> {
    let mut session = shell_on(cpus)?;
    let none = json(&mut session, "tasks --json")?;
    expect_fields(
        &none[0],
        &serde_json::json!({"kind": "tasks", "lost": 0, "complete": true}),
    )?;
    plant(&mut session, kind)?;
    let answer = json(&mut session, "tasks --json")?;
    let lost = of_kind(&answer, "lost_task");
    let comms: Vec<&str> = lost
        .iter()
        .filter_map(|task| task["comm"].as_str())
        .collect();
    if comms != names {
        return Err(format!("{names:?} wait, but {answer:#?}").into());
    }
    for task in lost {
        expect_fields(task, &serde_json::json!({"what": what, "end_of": null}))?;
        let skipped = task["skipped"].as_u64().unwrap_or(0) as usize;
        let caller = task["backtrace"][skipped].as_str().unwrap_or_default();
        let retains_stack = task["bytes"].as_u64() >= Some(64 * 1024);
        if !caller.contains("kernel::shell::leak::") || skipped == 0 || !retains_stack {
            return Err(format!("{task:#}").into());
        }
    }
    let sum = of_kind(&answer, "tasks");
    expect_fields(
        sum[0],
        &serde_json::json!({"lost": names.len(), "complete": true, "doubt": null}),
    )?;
    expect_in(
        &ask(&mut session, "tasks")?,
        "can never run again:\n  waits for ",
    )?;
    expect_none(&mut session)
}

fn unknown_kinds_are_answered_with_what_there_is() -> Result<(), Failure> {
    let mut session = shell()?;
    let kinds = "kinds: forgotten-free arc-cycle unlinked-node error-path lost-task-stack \
                 pages all-pages vmalloc percpu blocked-task deadlock lost-sender \
                 forgotten-clone double-into-raw lost-waker free\n";
    let answer = session.command("leak", LIMIT)?;
    expect_in(&answer, kinds)?;
    let answer = session.command("leak water", LIMIT)?;
    expect_in(
        &answer,
        "leak: unknown kind `water`; there are: forgotten-free ",
    )?;
    expect_none(&mut session)
}
