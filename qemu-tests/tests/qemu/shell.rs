//! The kernel itself, typed at as somebody at the terminal would.

use boot::outcome::Outcome;
use boot::session::Session;
use qemu_tests::machines::{self, Failure, LIMIT};

crate::tests![
    help_lists_the_commands,
    an_unknown_command_is_answered_with_what_there_is,
    backspace_takes_a_character_away,
    long_input_is_not_lost,
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
        "help", "kmemleak", "leak", "ps", "mem", "slabs", "cpus", "reboot", "exit",
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
