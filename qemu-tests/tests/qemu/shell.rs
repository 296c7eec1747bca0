//! The kernel itself, typed at as somebody at the terminal would.

use boot::machine::Machine;
use boot::outcome::Outcome;
use boot::session::Session;
use qemu_tests::machines::{self, Failure, LIMIT};
use qemu_tests::transcript::expect_lines;
use serde_json::Value;

crate::tests![
    help_lists_the_commands,
    an_unknown_command_is_answered_with_what_helps,
    backspace_takes_a_character_away,
    what_was_typed_before_the_kernel_was_up_is_done,
    ps_lists_the_tasks,
    mem_tells_how_memory_is_used,
    slabs_lists_the_caches,
    cpus_lists_the_cpus,
    unknown_boot_parameters_are_told,
    long_input_is_not_lost,
    bench_prints_json_and_leaves_no_leak,
    what_a_check_misses_has_a_cause_and_nothing_in_use_is_listed,
    no_window_of_a_scan_is_long,
    control_c_ends_a_benchmark_and_a_check,
    what_is_typed_ahead_survives_control_c,
    long_output_stops_at_each_page_of_a_terminal,
    exit_ends_with_success,
    the_end_of_the_input_ends_the_machine,
    a_command_that_fails_is_in_the_exit_code,
    arguments_for_who_takes_none_are_told,
    a_longer_line_than_there_is_room_for_is_refused,
    text_beyond_ascii_is_taken_where_a_command_takes_text,
    help_says_what_a_command_takes,
    mistyped_words_are_answered_with_the_nearest,
    history_lists_what_was_typed,
    an_error_stops_the_shell_if_it_is_told_so,
    an_error_does_not_stop_the_shell_else,
    no_escape_sequence_is_written_on_a_plain_line,
    panic_ends_with_failure_and_a_backtrace,
    panic_tells_the_top_call_sites,
    panic_after_a_report_tells_the_kernels_call_sites,
    panic_tells_none_when_the_detector_is_off,
];

/// A kernel whose shell waits for a command.
pub fn shell() -> Result<Session, Failure> {
    shell_of(&machines::kernel())
}

/// Boots the kernel with so many CPUs, and waits for the prompt.
pub fn shell_on(cpus: u32) -> Result<Session, Failure> {
    shell_of(&Machine {
        cpus,
        ..machines::kernel()
    })
}

/// Boots the kernel with that command line, and waits for the prompt.
pub fn shell_with(append: &str) -> Result<Session, Failure> {
    shell_of(&Machine {
        append: append.into(),
        ..machines::kernel()
    })
}

fn shell_of(machine: &Machine) -> Result<Session, Failure> {
    let mut session = Session::start(machine)?;
    session.wait_for_prompt(LIMIT)?;
    Ok(session)
}

/// The output must have that text.
pub fn expect_in(output: &str, text: &str) -> Result<(), Failure> {
    if output.contains(text) {
        Ok(())
    } else {
        Err(format!("{text:?} is missing from {output:?}").into())
    }
}

fn help_lists_the_commands() -> Result<(), Failure> {
    let help = shell()?.command("help", LIMIT)?;
    let commands = [
        "help", "kmemleak", "leak", "ps", "mem", "slabs", "cpus", "bench", "history", "reboot",
        "exit",
    ];
    commands.iter().try_for_each(|command| {
        expect_in(&help, &format!("\n  {command} ")).or_else(|error| {
            // The first line has nothing before it.
            if help.starts_with(&format!("  {command} ")) {
                Ok(())
            } else {
                Err(error)
            }
        })
    })
}

fn an_unknown_command_is_answered_with_what_helps() -> Result<(), Failure> {
    let answer = shell()?.command("frobnicate", LIMIT)?;
    expect_in(&answer, "unknown command `frobnicate`; `help` lists all")
}

fn what_was_typed_before_the_kernel_was_up_is_done() -> Result<(), Failure> {
    let typed = "leak forgotten-free\rps\rcpus\rexit\r";
    let ended = Session::start_typed(&machines::kernel(), typed)?.finish(LIMIT);
    machines::expect(&ended, Outcome::Passed, "> leak forgotten-free\n")?;
    machines::expect(&ended, Outcome::Passed, "> exit\n")
}

fn backspace_takes_a_character_away() -> Result<(), Failure> {
    let answer = shell()?.command("nonse\x08\x7fsense", LIMIT)?;
    expect_in(&answer, "unknown command `nonsense`")
}

fn ps_lists_the_tasks() -> Result<(), Failure> {
    let tasks = shell_on(4)?.command("ps", LIMIT)?;
    let names = [
        "idle/0", "idle/1", "idle/2", "idle/3", "init", "reaper", "kmemleak",
    ];
    for name in names {
        let lines = tasks.lines();
        let named = lines.filter(|line| line.split_whitespace().nth(1) == Some(name));
        if named.count() != 1 {
            return Err(format!("{name} is not once in {tasks}").into());
        }
    }
    // The shell's own task, since it answers.
    let init = tasks.lines().find(|line| line.contains(" init "));
    expect_in(init.unwrap_or_default(), " running ")?;
    // The header, and nothing but these.
    match tasks.lines().count() == names.len() + 1 {
        true => Ok(()),
        false => Err(tasks.into()),
    }
}

fn mem_tells_how_memory_is_used() -> Result<(), Failure> {
    let memory = shell()?.command("mem", LIMIT)?;
    ["total ", "free ", "slabs ", "vmalloc ", "boot heap "]
        .iter()
        .try_for_each(|line| expect_in(&format!("\n{memory}"), &format!("\n{line}")))
}

fn slabs_lists_the_caches() -> Result<(), Failure> {
    let mut session = shell()?;
    // A size class is listed once it has been used.
    session.command("leak forgotten-free", LIMIT)?;
    let slabs = session.command("slabs", LIMIT)?;
    // And caches with names of their own.
    ["size-64 ", "vmalloc-area "]
        .iter()
        .try_for_each(|cache| expect_in(&slabs, &format!("\n{cache}")))
}

fn cpus_lists_the_cpus() -> Result<(), Failure> {
    for cpus in [1, 4] {
        let answer = shell_on(cpus)?.command("cpus", LIMIT)?;
        let listed = answer.lines().filter(|line| line.starts_with("cpu "));
        if listed.count() != cpus as usize {
            return Err(format!("not {cpus} CPUs: {answer}").into());
        }
    }
    Ok(())
}

fn unknown_boot_parameters_are_told() -> Result<(), Failure> {
    let mut session = Session::start(&Machine {
        append: "kmemleak.frobnicate=1 kmemleak.verbose=perhaps kmemleak.wipe=off kmemleak.wipe kmemleak.wipe=often console=80".into(),
        ..machines::kernel()
    })?;
    let boot = session.wait_for_prompt(LIMIT)?;
    expect_in(
        &boot,
        "kmemleak.frobnicate=1: unknown parameter; there are ",
    )?;
    expect_in(&boot, "kmemleak.verbose=perhaps: ")?;
    expect_in(&boot, "kmemleak.wipe=often: a value ")?;
    expect_in(&boot, "console=80: expected COLUMNSxROWS")?;
    // The kernel's own is in the list, and its values are no mistake.
    let list = boot.lines().find(|line| line.contains("there are "));
    let parameters = [
        "kmemleak=on|off",
        "kmemleak.scan=SECS",
        "kmemleak.stop_max_ms=N",
        "kmemleak.wipe=on|off",
    ];
    for parameter in parameters {
        expect_in(list.unwrap_or_default(), parameter)?;
    }
    match boot.contains("kmemleak.wipe=off:") || boot.contains("kmemleak.wipe:") {
        false => Ok(()),
        true => Err(boot.into()),
    }
}

fn long_input_is_not_lost() -> Result<(), Failure> {
    // Far more than the UART's 16 bytes and the kernel's buffer, sent at once.
    const COMMANDS: usize = 200;
    let mut session = shell()?;
    let lines: String = (0..COMMANDS)
        .map(|number| format!("unknown-{number}\n"))
        .collect();
    session.send_line(&format!("{lines}exit"), LIMIT)?;
    let ended = session.finish(LIMIT);
    machines::expect(&ended, Outcome::NotUnderstood, "")?;
    for number in 0..COMMANDS {
        expect_in(
            &ended.serial,
            &format!("unknown command `unknown-{number}`"),
        )?;
    }
    Ok(())
}

/// The answer to a command that prints an object a line.
fn json(session: &mut Session, line: &str) -> Result<Vec<Value>, Failure> {
    let output = session.command(line, LIMIT)?;
    let lines = output.lines().map(serde_json::from_str);
    lines
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{error}: {output:?}").into())
}

/// Instructions that the detector executes with interrupts off at most, while it scans beside other code.
const MOST_INSTRUCTIONS: u64 = 10_000;

/// The machine counts instructions as its time, so the same is measured in each run.
fn no_window_of_a_scan_is_long() -> Result<(), Failure> {
    let mut session = shell_of(&Machine {
        cpus: 1,
        extra: vec!["-icount".into(), "shift=0,sleep=off".into()],
        ..machines::kernel()
    })?;
    let lines = json(&mut session, "bench window 3000")?;
    let heaps: Vec<_> = lines
        .iter()
        .filter_map(|line| line["heap"].as_str())
        .collect();
    if heaps
        != [
            "forest",
            "interior pointers",
            "a large block",
            "sparse",
            "unaligned",
            "bytes",
            "regions",
            "suspects",
        ]
    {
        return Err(format!("lines are missing: {lines:?}").into());
    }
    for line in &lines {
        let (windows, longest) = (line["windows"].as_u64(), line["tsc_longest"].as_u64());
        let in_marker = line["at"].to_string().contains("kmemleak::");
        if windows < Some(1) || longest < Some(1) || !in_marker {
            return Err(format!("it can't have been measured: {line}").into());
        }
        if longest > Some(MOST_INSTRUCTIONS) {
            return Err(format!("interrupts are off for too long: {line}").into());
        }
    }
    let report = session.command("kmemleak scan", LIMIT)?;
    expect_in(&report, "kmemleak: 0 unreferenced objects")
}

fn bench_prints_json_and_leaves_no_leak() -> Result<(), Failure> {
    let mut session = shell()?;
    let mut run = |line: &str| json(&mut session, line);
    let pairs = run("bench pairs")?;
    let from: Vec<_> = pairs
        .iter()
        .filter_map(|line| line["from"].as_str())
        .collect();
    if from != ["heap", "tracked cache", "untracked cache"] {
        return Err(format!("lines are missing: {pairs:?}").into());
    }
    if pairs
        .iter()
        .any(|line| line["from"] == "heap" && line["frames"] != 7)
    {
        return Err(format!("the call stack is not as deep as it should be: {pairs:?}").into());
    }
    let (none, some) = (run("bench check 0")?, run("bench check 3000")?);
    if none[0]["leaked"] != 0 || some[0]["leaked"] != 3 || some[0]["objects"] != 3000 {
        return Err(format!("not what is lost was found: {none:?}, {some:?}").into());
    }
    let confirmed = run("bench confirm 3000")?;
    if confirmed[0]["leaked"] != 3 || confirmed[0]["stopped_us"] == 0 {
        return Err(format!("not what is lost was confirmed: {confirmed:?}").into());
    }
    // A task that has just ended may still be known for a moment.
    let left = some[1]["tracked"].as_u64() > none[0]["tracked"].as_u64().map(|before| before + 3);
    if some[1]["leaked"] != 0 || left {
        return Err(format!("something was left: {none:?}, {some:?}").into());
    }
    let frozen = run("bench frozen 2000")?;
    let (stopped, all) = (frozen[0]["stopped_tsc"].as_u64(), frozen[0]["tsc"].as_u64());
    if frozen[0]["leaked"] != 2 || stopped.is_none_or(|stopped| stopped == 0) || stopped >= all {
        return Err(format!("no check of frozen memory: {frozen:?}").into());
    }
    let too_many = run("bench check 100000000")?;
    if !too_many[0]["skipped"].is_string() {
        return Err(format!("they can't have fitted: {too_many:?}").into());
    }
    let waits = run("bench waits")?;
    if waits[0]["waits"] != 20_000
        || waits[0]["tsc_per_wait"]
            .as_f64()
            .is_none_or(|tsc| tsc < 1.0)
    {
        return Err(format!("no time of a wait: {waits:?}").into());
    }
    expect_in(
        &session.command("bench check many", LIMIT)?,
        "bench: invalid argument `check many`: expected pairs, check NUMBER, frozen NUMBER, confirm NUMBER, window NUMBER, misses [NUMBER], waits or nothing",
    )?;
    let report = session.command("kmemleak scan", LIMIT)?;
    expect_in(&report, "kmemleak: 0 unreferenced objects")
}

fn what_a_check_misses_has_a_cause_and_nothing_in_use_is_listed() -> Result<(), Failure> {
    const PLANTED: u64 = 2000;
    let mut session = shell_of(&Machine {
        cpus: 2,
        memory: "256M".into(),
        ..machines::kernel()
    })?;
    let lines = json(&mut session, &format!("bench misses {PLANTED}"))?;
    let freed: Vec<_> = lines
        .iter()
        .filter_map(|line| line["freed"].as_str())
        .collect();
    if freed != ["kept", "cleared"] {
        return Err(format!("lines are missing: {lines:?}").into());
    }
    for line in &lines {
        let number = |name: &str| line[name].as_u64().unwrap_or(u64::MAX);
        let sum = |table: &str| -> u64 {
            let numbers = line[table].as_object().into_iter().flatten();
            numbers.filter_map(|(_, number)| number.as_u64()).sum()
        };
        let (missed, causes) = (number("missed"), sum("causes"));
        if number("planted") != PLANTED || sum("planted_as") != PLANTED || number("live") < 500 {
            return Err(format!("it was not planted beside a load: {line}").into());
        }
        if number("false") != 0 {
            return Err(format!("something in use is listed: {line}").into());
        }
        if missed != causes || missed != sum("missed_of") || line["causes"]["unknown"] != 0 {
            return Err(format!("a missed block has no cause: {line}").into());
        }
        // Most are found, and words of the load that are left over hold some: it would be no load otherwise.
        if missed > PLANTED / 4 {
            return Err(format!("too many are missed: {line}").into());
        }
    }
    let report = session.command("kmemleak scan", LIMIT)?;
    expect_in(&report, "kmemleak: 0 unreferenced objects")
}

/// A machine with memory for the benchmark, on a terminal of that size.
fn terminal(size: &str) -> Result<Session, Failure> {
    shell_of(&Machine {
        memory: "1G".into(),
        append: format!("console={size}"),
        ..machines::kernel()
    })
}

fn control_c_ends_a_benchmark_and_a_check() -> Result<(), Failure> {
    let mut session = terminal("80x24")?;
    session.send_line("bench check 1000000", LIMIT)?;
    session.wait_for("planting: ", LIMIT)?;
    session.send(b"\x03", LIMIT)?;
    let ended = session.wait_for("^C\n> ", LIMIT)?;
    expect_in(&ended, "\"skipped\":\"asked to stop\"")?;
    // What was planted is freed meanwhile, and is no leak afterwards.
    let again = |session: &mut Session| session.command("bench check 0", LIMIT);
    while again(&mut session)?.contains("still being freed") {}
    expect_in(
        &session.command("kmemleak scan", LIMIT)?,
        "kmemleak: 0 unreferenced objects",
    )
}

fn what_is_typed_ahead_survives_control_c() -> Result<(), Failure> {
    let mut session = terminal("80x24")?;
    session.send_line("bench check 1000000", LIMIT)?;
    session.wait_for("planting: ", LIMIT)?;
    session.send_line("cpus\n\x03unknown", LIMIT)?;
    let ended = session.wait_for("unknown command `unknown`", LIMIT)?;
    // The editor clears what is behind each letter.
    expect_in(&ended.replace("\x1b[J", ""), "^C\n> cpus\ncpu 0: ")
}

fn long_output_stops_at_each_page_of_a_terminal() -> Result<(), Failure> {
    let mut session = terminal("200x6")?;
    const MORE: &str = "-- more: space, Enter, q --";
    session.send_line("help", LIMIT)?;
    let page = session.wait_for(MORE, LIMIT)?;
    // The echo, five lines, and the question.
    match page.lines().count() {
        7 => {}
        _ => return Err(page.into()),
    }
    // A line more; then no more.
    session.send_line("", LIMIT)?;
    let line = session.wait_for(MORE, LIMIT)?;
    match line.lines().count() {
        2 => {}
        _ => return Err(line.into()),
    }
    session.send_line("q", LIMIT)?;
    session.wait_for("> ", LIMIT)?;
    session.wait_for("> ", LIMIT)?;
    // Asked not to, and JSON.
    for line in ["help --no-pager", "kmemleak sites --json"] {
        let all = session.command(line, LIMIT)?;
        if all.contains(MORE) {
            return Err(all.into());
        }
    }
    Ok(())
}

fn exit_ends_with_success() -> Result<(), Failure> {
    let mut session = shell()?;
    session.send_line("exit", LIMIT)?;
    machines::expect(&session.finish(LIMIT), Outcome::Passed, "")
}

/// Ctrl-D, after what was typed before; not in the middle of a line.
fn the_end_of_the_input_ends_the_machine() -> Result<(), Failure> {
    let mut session = shell()?;
    session.send_line("cp\x04us\n\x04", LIMIT)?;
    machines::expect(&session.finish(LIMIT), Outcome::Passed, "\ncpu 1: ")?;
    let mut session = shell()?;
    session.send_line("frobnicate\ncpus\n\x04", LIMIT)?;
    machines::expect(&session.finish(LIMIT), Outcome::NotUnderstood, "\ncpu 1: ")
}

/// Leaks are no failure; an address without an object, and a word that the detector does not know, are.
fn a_command_that_fails_is_in_the_exit_code() -> Result<(), Failure> {
    for (lines, outcome) in [
        ("leak forgotten-free\nkmemleak scan\n\x04", Outcome::Passed),
        ("kmemleak dump 10\ncpus\n\x04", Outcome::NotUnderstood),
        ("kmemleak scna\ncpus\n\x04", Outcome::NotUnderstood),
    ] {
        let mut session = shell()?;
        session.send_line(lines, LIMIT)?;
        machines::expect(&session.finish(LIMIT), outcome, "")?;
    }
    Ok(())
}

fn arguments_for_who_takes_none_are_told() -> Result<(), Failure> {
    let mut session = shell()?;
    let answer = session.command("exit now", LIMIT)?;
    expect_in(&answer, "exit: unexpected argument `now`")?;
    session.send_line("exit", LIMIT)?;
    machines::expect(&session.finish(LIMIT), Outcome::NotUnderstood, "")
}

fn a_longer_line_than_there_is_room_for_is_refused() -> Result<(), Failure> {
    let mut session = shell()?;
    let line = format!("leak pages{}", " ".repeat(2000));
    let answer = session.command(&line, LIMIT)?;
    expect_in(
        &answer,
        "the line is too long by 986 characters: it may have 1024 bytes",
    )?;
    // Nor is one cut of which not all can be taken.
    session.send(b"leak p\xe4ages\n", LIMIT)?;
    session.wait_for("the line has 1 character that is not UTF-8", LIMIT)?;
    session.wait_for_prompt(LIMIT)?;
    expect_in(
        &session.command("kmemleak scan", LIMIT)?,
        "kmemleak: 0 unreferenced objects",
    )
}

fn text_beyond_ascii_is_taken_where_a_command_takes_text() -> Result<(), Failure> {
    let mut session = shell()?;
    session.command("kmemleak suppress gr\u{fc}n::*", LIMIT)?;
    let answer = session.command("kmemleak suppress", LIMIT)?;
    expect_in(&answer, "gr\u{fc}n::*")?;
    let answer = session.command("gr\u{fc}n", LIMIT)?;
    expect_in(&answer, "unknown command `gr\u{fc}n`")
}

fn help_says_what_a_command_takes() -> Result<(), Failure> {
    let mut session = shell()?;
    for (line, lines) in [
        (
            "help leak",
            &[
                "  leak [KIND]     plant a leak (no kind: lists the kinds)",
                "  for example: leak arc-cycle",
            ][..],
        ),
        ("help ps", &["  ps              the tasks"]),
        (
            "help kmemleak off",
            &["  off…", "…", "  for example: kmemleak off"],
        ),
        ("help pss", &["unknown command `pss`; did you mean `ps`?"]),
        ("help ps aux", &["help: unexpected argument `aux`"]),
    ] {
        expect_lines(&session.command(line, LIMIT)?, lines)?;
    }
    Ok(())
}

fn mistyped_words_are_answered_with_the_nearest() -> Result<(), Failure> {
    let mut session = shell()?;
    for (line, told) in [
        (
            "scan",
            "unknown command `scan`; did you mean `kmemleak scan`?",
        ),
        (
            "holdres 10",
            "unknown command `holdres`; did you mean `kmemleak holders`?",
        ),
        (
            "kmemlaek scan",
            "unknown command `kmemlaek`; did you mean `kmemleak`?",
        ),
        (
            "leak arc-cycel",
            "leak: unknown kind `arc-cycel`; did you mean `arc-cycle`?",
        ),
        ("leak pages 4", "leak: unexpected argument `4`"),
        ("slabs size-8 x", "slabs: unexpected argument `x`"),
        (
            "slabs vmalloc-aera",
            "slabs: no cache `vmalloc-aera`; did you mean `vmalloc-area`?",
        ),
    ] {
        expect_lines(&session.command(line, LIMIT)?, &[told])?;
    }
    Ok(())
}

fn history_lists_what_was_typed() -> Result<(), Failure> {
    let mut session = shell()?;
    for line in ["cpus", "cpus", "", "mem"] {
        session.command(line, LIMIT)?;
    }
    let history = session.command("history", LIMIT)?;
    expect_lines(&history, &["   1  cpus", "   2  mem", "   3  history"])
}

/// Each of these is not understood, or fails.
const FAILING: [&str; 4] = ["frobnicate", "kmemleak dump 10", "ps aux", "leak water"];

fn an_error_stops_the_shell_if_it_is_told_so() -> Result<(), Failure> {
    for failing in FAILING {
        let mut session = shell_with("shell.errors=stop")?;
        session.send_line(&format!("cpus\n{failing}\nleak pages"), LIMIT)?;
        let ended = session.finish(LIMIT);
        let stopped = "\nshell: stopped at a command that was not understood, or failed (shell.errors=stop)\n";
        machines::expect(&ended, Outcome::NotUnderstood, stopped)?;
        expect_in(&ended.serial, "\ncpu 1: ")?;
        if ended.serial.contains("planted") {
            return Err(format!("it went on behind {failing}: {ended}").into());
        }
    }
    Ok(())
}

fn an_error_does_not_stop_the_shell_else() -> Result<(), Failure> {
    for append in ["", "shell.errors=continue", "shell.errors=perhaps"] {
        let mut session = shell_with(append)?;
        let lines = FAILING.join("\n");
        session.send_line(&format!("{lines}\nleak pages\n\x04"), LIMIT)?;
        let ended = session.finish(LIMIT);
        machines::expect(&ended, Outcome::NotUnderstood, "planted: four pages")?;
        let told = "shell.errors: invalid value `perhaps`: expected stop or continue\n";
        if ended.serial.contains(told) != append.ends_with("perhaps") {
            return Err(ended.to_string().into());
        }
    }
    Ok(())
}

fn no_escape_sequence_is_written_on_a_plain_line() -> Result<(), Failure> {
    let mut session = shell()?;
    session.command("leak pages", LIMIT)?;
    session.command("cpus\x1b[D\x1b[D\x7fp\x01\x05\x12", LIMIT)?;
    session.command("kmemleak scan=1", LIMIT)?;
    session.wait_for("1 new unreferenced object", LIMIT)?;
    match session.output().contains(&0x1b) {
        false => Ok(()),
        true => Err("there is an escape character".into()),
    }
}

fn panic_ends_with_failure_and_a_backtrace() -> Result<(), Failure> {
    let mut session = shell()?;
    session.send_line("panic", LIMIT)?;
    let ended = session.finish(LIMIT);
    machines::expect(&ended, Outcome::Failed, "the shell's command `panic`")?;
    machines::expect(&ended, Outcome::Failed, "kernel::shell::commands::panic+0x")
}

fn panic_tells_the_top_call_sites() -> Result<(), Failure> {
    let mut session = shell()?;
    for _ in 0..20 {
        session.command("leak pages", LIMIT)?;
    }
    session.command("leak vmalloc", LIMIT)?;
    session.send_line("panic", LIMIT)?;
    let ended = session.finish(LIMIT);
    machines::expect(&ended, Outcome::Failed, "the shell's command `panic`")?;
    let heading = "call sites with the most live bytes:\n";
    let (_, sites) = ended.serial.split_once(heading).ok_or("no call sites")?;
    let first = [
        "  327680 bytes in 20 blocks:",
        "    kernel::shell::leak::pages+0x…/0x… (kernel/src/shell/leak.rs:…)",
        "    kernel::task::start+0x…/0x… (kernel/src/task/mod.rs:…)",
        "  65536 bytes in 1 block:",
    ];
    let lines: Vec<_> = sites.lines().take(first.len()).collect();
    expect_lines(&lines.join("\n"), &first)?;
    let told = sites.lines().filter(|line| line.contains(" bytes in "));
    match told.count() {
        5 => Ok(()),
        told => Err(format!("{told} are told: {sites}").into()),
    }
}

/// What naming has taken before is nobody's call site.
fn panic_after_a_report_tells_the_kernels_call_sites() -> Result<(), Failure> {
    let mut session = shell()?;
    session.command("leak pages", LIMIT)?;
    session.command("kmemleak scan", LIMIT)?;
    session.command("kmemleak sites", LIMIT)?;
    session.send_line("panic", LIMIT)?;
    let ended = session.finish(LIMIT);
    machines::expect(&ended, Outcome::Failed, "the shell's command `panic`")?;
    let heading = "call sites with the most live bytes:\n";
    let (_, sites) = ended.serial.split_once(heading).ok_or("no call sites")?;
    let told = sites.lines().filter(|line| line.contains(" bytes in "));
    let own = ["gimli", "addr2line", "kernel::symbols"];
    let of_naming = own.iter().any(|name| sites.contains(name));
    match told.count() == 5 && !of_naming && sites.contains("kernel::shell::leak::pages+0x") {
        true => Ok(()),
        false => Err(sites.into()),
    }
}

fn panic_tells_none_when_the_detector_is_off() -> Result<(), Failure> {
    let mut session = shell_with("kmemleak=off")?;
    session.send_line("panic", LIMIT)?;
    let ended = session.finish(LIMIT);
    machines::expect(&ended, Outcome::Failed, "the shell's command `panic`")?;
    match ended.serial.contains("call sites") {
        false => Ok(()),
        true => Err(ended.to_string().into()),
    }
}
