//! The kernel itself, typed at as somebody at the terminal would.

use boot::outcome::Outcome;
use boot::session::Session;
use qemu_tests::machines::{self, Failure, LIMIT};
use serde_json::Value;

crate::tests![
    help_lists_the_commands,
    an_unknown_command_is_answered_with_what_there_is,
    backspace_takes_a_character_away,
    long_input_is_not_lost,
    bench_prints_json_and_leaves_no_leak,
    exit_ends_with_success,
    panic_ends_with_failure_and_a_backtrace,
];

/// A kernel whose shell waits for a command.
fn shell() -> Result<Session, Failure> {
    let mut session = Session::start(&machines::kernel())?;
    session.wait_for_prompt(LIMIT)?;
    Ok(session)
}

fn expect_in(output: &str, text: &str) -> Result<(), Failure> {
    if output.contains(text) {
        Ok(())
    } else {
        Err(format!("{text:?} is missing from {output:?}").into())
    }
}

fn help_lists_the_commands() -> Result<(), Failure> {
    let help = shell()?.command("help", LIMIT)?;
    let commands = [
        "help", "kmemleak", "leak", "ps", "mem", "slabs", "cpus", "bench", "reboot", "exit",
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

fn an_unknown_command_is_answered_with_what_there_is() -> Result<(), Failure> {
    let answer = shell()?.command("frobnicate", LIMIT)?;
    expect_in(&answer, "unknown command \"frobnicate\"")?;
    expect_in(&answer, " kmemleak ")
}

fn backspace_takes_a_character_away() -> Result<(), Failure> {
    let answer = shell()?.command("nonse\x08\x7fsense", LIMIT)?;
    expect_in(&answer, "unknown command \"nonsense\"")
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
    machines::expect(&ended, Outcome::Passed, "")?;
    for number in 0..COMMANDS {
        expect_in(
            &ended.serial,
            &format!("unknown command \"unknown-{number}\""),
        )?;
    }
    Ok(())
}

fn bench_prints_json_and_leaves_no_leak() -> Result<(), Failure> {
    let mut session = shell()?;
    let mut run = |line: &str| -> Result<Vec<Value>, Failure> {
        let output = session.command(line, LIMIT)?;
        let lines = output.lines().map(serde_json::from_str);
        lines
            .collect::<Result<_, _>>()
            .map_err(|error| format!("{error}: {output:?}").into())
    };
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
    // A task that has just ended may still be known for a moment.
    let left = some[1]["tracked"].as_u64() > none[0]["tracked"].as_u64().map(|before| before + 3);
    if some[1]["leaked"] != 0 || left {
        return Err(format!("something was left: {none:?}, {some:?}").into());
    }
    let too_many = run("bench check 100000000")?;
    if !too_many[0]["skipped"].is_string() {
        return Err(format!("they can't have fitted: {too_many:?}").into());
    }
    expect_in(&session.command("bench check many", LIMIT)?, "usage: bench")?;
    let report = session.command("kmemleak scan", LIMIT)?;
    expect_in(&report, "kmemleak: 0 unreferenced objects")
}

fn exit_ends_with_success() -> Result<(), Failure> {
    let mut session = shell()?;
    session.send_line("exit", LIMIT)?;
    machines::expect(&session.finish(LIMIT), Outcome::Passed, "")
}

fn panic_ends_with_failure_and_a_backtrace() -> Result<(), Failure> {
    let mut session = shell()?;
    session.send_line("panic", LIMIT)?;
    let ended = session.finish(LIMIT);
    machines::expect(&ended, Outcome::Failed, "asked to, by the shell")?;
    machines::expect(&ended, Outcome::Failed, "kernel::shell::commands::panic+0x")
}
