//! The sessions that the README shows, held against what the shell says.

use boot::outcome::Outcome;
use boot::session::Session;
use qemu_tests::machines::{self, Failure, LIMIT};

crate::tests![sessions_are_as_shown];

const README: &str = include_str!("../../../README.md");

/// What the README says has been typed before each of its sessions.
const BEFORE: [&[&str]; 2] = [&[], &["leak unlinked-node"]];

/// A command, and the lines of its answer.
type Shown<'t> = (&'t str, Vec<&'t str>);

/// The sessions: indented lines that follow each other, from a prompt on.
fn sessions(text: &str) -> Vec<Vec<Shown<'_>>> {
    let mut sessions = Vec::new();
    let mut session: Vec<Shown<'_>> = Vec::new();
    for line in text.lines().chain([""]) {
        match (line.strip_prefix("    "), session.last_mut()) {
            (Some(line), answered) => match (line.strip_prefix("> "), answered) {
                (Some(command), _) => session.push((command, Vec::new())),
                (None, Some((_, answer))) => answer.push(line),
                (None, None) => {}
            },
            (None, Some(_)) => sessions.push(std::mem::take(&mut session)),
            (None, None) => {}
        }
    }
    sessions
}

/// The line without what is another each time: addresses, ages, and how wide columns are.
fn without_chance(line: &str) -> String {
    let mut words = line.split_whitespace().peekable();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        let is_unit = |next: &&str| ["us", "ms", "s"].contains(next);
        kept.push(match word.split_once("0x") {
            _ if word.parse::<f64>().is_ok() && words.next_if(is_unit).is_some() => "…".into(),
            // As many digits as an address has; what stands behind it stays.
            Some(("", digits)) if digits.len() >= 16 => format!("0x…{}", &digits[16..]),
            _ => word.to_string(),
        });
    }
    kept.join(" ")
}

fn sessions_are_as_shown() -> Result<(), Failure> {
    let sessions = sessions(README);
    if sessions.len() != BEFORE.len() {
        return Err(format!("{} sessions, not {}", sessions.len(), BEFORE.len()).into());
    }
    for (before, shown) in BEFORE.iter().zip(sessions) {
        let mut session = Session::start(&machines::kernel())?;
        session.wait_for_prompt(LIMIT)?;
        for command in *before {
            session.command(command, LIMIT)?;
        }
        for (command, answer) in shown {
            let told = session.command(command, LIMIT)?;
            let told: Vec<String> = told.lines().map(without_chance).collect();
            let answer: Vec<String> = answer.into_iter().map(without_chance).collect();
            if told != answer {
                return Err(format!("{command}: {told:#?} is shown as {answer:#?}").into());
            }
        }
        session.send_line("exit", LIMIT)?;
        machines::expect(&session.finish(LIMIT), Outcome::Passed, "")?;
    }
    Ok(())
}
