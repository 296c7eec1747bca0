//! A kernel whose memory is used up: what needs some is refused, and the rest goes on.

use boot::machine::Machine;
use boot::outcome::Outcome;
use boot::session::Session;
use qemu_tests::machines::{self, Failure, LIMIT};

crate::tests![
    the_shell_outlives_its_memory,
    what_needs_memory_is_refused_without_it,
];

/// A shell on a machine with so little memory that taking it all does not take long.
fn shell() -> Result<Session, Failure> {
    let mut session = Session::start(&Machine {
        memory: "64M".into(),
        ..machines::kernel()
    })?;
    session.wait_for_prompt(LIMIT)?;
    Ok(session)
}

/// How much memory is free, in KiB.
fn free_kib(session: &mut Session) -> Result<u64, Failure> {
    let memory = session.command("mem", LIMIT)?;
    let free = memory.lines().find_map(|line| line.strip_prefix("free"));
    let free = free.and_then(|line| line.trim().strip_suffix(" KiB"));
    Ok(free.ok_or(format!("nothing free in {memory:?}"))?.parse()?)
}

fn answers(session: &mut Session, command: &str, expected: &str) -> Result<(), Failure> {
    let answer = session.command(command, LIMIT)?;
    match answer.contains(expected) {
        true => Ok(()),
        false => Err(format!("{command}: {expected:?} is not in {answer:?}").into()),
    }
}

/// All pages are taken until none is left; the shell answers, scans, frees them, and all is as before. The detector keeps the
/// memory that it has got for its records, once.
fn the_shell_outlives_its_memory() -> Result<(), Failure> {
    const NO_LEAKS: &str = "kmemleak: 0 unreferenced objects";
    let mut session = shell()?;
    answers(&mut session, "kmemleak scan", NO_LEAKS)?;
    let mut before = free_kib(&mut session)?;
    for allowed_kib in [before / 8, 256, 256] {
        answers(&mut session, "leak all-pages", "planted: all free pages")?;
        // The planter's stack and what it held comes back, and may be taken for tables or records.
        let left = free_kib(&mut session)?;
        if left > 128 {
            return Err(format!("{left} KiB are left").into());
        }
        answers(&mut session, "kmemleak scan", "shell::leak::all_pages")?;
        answers(&mut session, "leak free", "freed: ")?;
        let after = free_kib(&mut session)?;
        if after + allowed_kib < before {
            return Err(format!("{after} of {before} KiB came back").into());
        }
        before = after;
        answers(&mut session, "kmemleak clear", "")?;
        answers(&mut session, "kmemleak scan", NO_LEAKS)?;
    }
    // What needs memory works again, and leaks are found.
    answers(&mut session, "leak arc-cycle", "planted: ")?;
    answers(
        &mut session,
        "kmemleak scan",
        "kmemleak: 2 unreferenced objects (64 bytes)",
    )?;
    session.send_line("exit", LIMIT)?;
    machines::expect(&session.finish(LIMIT), Outcome::Passed, "")
}

/// Each command that needs a task, or a block, says that there is no memory for it; the others are answered as ever.
fn what_needs_memory_is_refused_without_it() -> Result<(), Failure> {
    let mut session = shell()?;
    answers(&mut session, "leak all-pages", "planted: all free pages")?;
    for (command, expected) in [
        ("leak all-pages", "leak: no memory for another task"),
        ("leak arc-cycle", "leak: no memory for another task"),
        ("bench pairs", "bench: no memory for another task"),
        ("bench check 1000", "\"skipped\":\"needs "),
        ("bench misses 1000", "\"skipped\":\"needs "),
        ("bench window 1000", "\"skipped\":\"the other heaps need "),
        ("kmemleak selftest", "kmemleak: selftest "),
        ("kmemleak status", "unrecorded "),
        (
            "kmemleak sites",
            "kmemleak: no memory to count all call sites",
        ),
        ("kmemleak mark", "kmemleak: no memory for a new mark"),
        ("ps", "reaper"),
        ("slabs", "vmalloc-area"),
        ("history", "leak all-pages"),
        ("leak free", "freed: "),
        ("leak arc-cycle", "planted: two Arcs"),
        ("bench pairs", "\"from\":\"heap\""),
    ] {
        answers(&mut session, command, expected)?;
    }
    Ok(())
}
