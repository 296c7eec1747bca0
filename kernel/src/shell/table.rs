//! The commands: their names, what they take, and what they do.

use core::fmt::{self, Write};

use line_editor::nearest;

use super::commands::{self, Answered};
use super::{bench, leak};
use crate::leak::{CommandError, KMEMLEAK};

/// Offers words that may follow.
pub type Take<'t> = &'t mut dyn FnMut(&str);

/// A command of the shell.
pub struct Command {
    pub name: &'static str,
    /// How its arguments are written in a list; empty if it takes none, and then it is not run with any.
    arguments: &'static str,
    help: &'static str,
    /// A line with arguments that does something; empty if it takes none.
    example: &'static str,
    /// Offers what can follow behind the command and this text, which is the rest of the line up to the cursor.
    pub complete: fn(&str, Take<'_>),
    run: fn(&str, &mut dyn Write) -> Answered,
}

impl Command {
    const fn new(
        name: &'static str,
        help: &'static str,
        run: fn(&str, &mut dyn Write) -> Answered,
    ) -> Self {
        Self {
            name,
            arguments: "",
            help,
            example: "",
            complete: |_, _| {},
            run,
        }
    }

    /// Takes arguments, written and completed like that.
    const fn takes(
        self,
        arguments: &'static str,
        example: &'static str,
        complete: fn(&str, Take<'_>),
    ) -> Self {
        Self {
            arguments,
            example,
            complete,
            ..self
        }
    }
}

pub const COMMANDS: &[Command] = &[
    Command::new("help", "this list, or what a command does", help).takes(
        "[COMMAND]",
        "help kmemleak scan",
        complete_help,
    ),
    Command::new(
        "kmemleak",
        "the leak detector: scan, report, ... (no word: lists all)",
        |rest, out| KMEMLEAK.command(rest, out),
    )
    .takes("[WORD]", "kmemleak scan", |rest, take| {
        KMEMLEAK.complete(rest, take)
    }),
    Command::new(
        "leak",
        "plant a leak (no kind: lists the kinds)",
        |rest, out| with_a_word("leak", rest, leak::run, out),
    )
    .takes("[KIND]", "leak arc-cycle", |rest, take| {
        first_word(rest, leak::names(), take)
    }),
    Command::new("ps", "the tasks", commands::ps),
    Command::new(
        "mem",
        "how memory is used, or what is overwritten",
        |rest, out| with_a_word("mem", rest, commands::mem, out),
    )
    .takes("[check]", "mem check", |rest, take| {
        first_word(rest, ["check"].into_iter(), take);
    }),
    Command::new("slabs", "the slab caches, or one of them", |rest, out| {
        with_a_word("slabs", rest, commands::slabs, out)
    })
    .takes("[CACHE]", "slabs size-64", |rest, take| {
        if !rest.contains(' ') {
            commands::each_cache_name(take);
        }
    }),
    Command::new("cpus", "the CPUs", commands::cpus),
    Command::new(
        "bench",
        "what the detector costs and misses: pairs, or check, frozen, confirm, window, misses NUMBER",
        bench::run,
    )
    .takes("[WHAT]", "bench check 10000", |rest, take| {
        let whats = ["pairs", "check", "frozen", "confirm", "window", "misses"];
        first_word(rest, whats.into_iter(), take);
    }),
    Command::new(
        "history",
        "the lines that were typed",
        commands::list_history,
    ),
    Command::new("panic", "panic", commands::panic),
    Command::new("reboot", "reset the machine", commands::reboot),
    Command::new(
        "exit",
        "end the machine, with success if all commands were done",
        commands::exit,
    ),
];

/// Runs a command that takes a word at most.
fn with_a_word(
    name: &str,
    rest: &str,
    run: fn(&str, &mut dyn Write) -> Answered,
    out: &mut dyn Write,
) -> Answered {
    let (word, extra) = first_and_rest(rest);
    if extra.is_empty() {
        return run(word, out);
    }
    writeln!(out, "{name}: unexpected argument `{extra}`")?;
    Err(CommandError::NotUnderstood)
}

/// Offers the words, as long as no word is complete.
fn first_word(rest: &str, words: impl Iterator<Item = &'static str>, take: &mut dyn FnMut(&str)) {
    if !rest.contains(' ') {
        words.for_each(take);
    }
}

pub fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|command| command.name)
}

pub fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

/// Runs one line.
pub fn execute(line: &str, out: &mut dyn Write) -> Answered {
    let (name, rest) = first_and_rest(line);
    if name.is_empty() {
        return Ok(());
    }
    let Some(command) = find(name) else {
        return unknown(name, out);
    };
    if command.arguments.is_empty() && !rest.is_empty() {
        writeln!(out, "{name}: unexpected argument `{rest}`")?;
        return Err(CommandError::NotUnderstood);
    }
    (command.run)(rest, out)
}

fn first_and_rest(line: &str) -> (&str, &str) {
    let line = line.trim();
    let (first, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    (first, rest.trim())
}

/// Says what else the word may mean: a command, or a word of the detector's.
fn unknown(name: &str, out: &mut dyn Write) -> Answered {
    write!(out, "unknown command `{name}`")?;
    let own = nearest(name, &mut |take| names().for_each(take));
    let detector = nearest(name, &mut |take| KMEMLEAK.complete("", take));
    match (own, detector) {
        (Some(own), detector)
            if detector
                .as_ref()
                .is_none_or(|other| own.distance <= other.distance) =>
        {
            writeln!(out, "; did you mean `{}`?", own.word())?;
        }
        (_, Some(detector)) => writeln!(out, "; did you mean `kmemleak {}`?", detector.word())?,
        _ => {
            writeln!(out, "; `help` lists all")?;
        }
    }
    Err(CommandError::NotUnderstood)
}

fn help(rest: &str, out: &mut dyn Write) -> Answered {
    let (name, rest) = first_and_rest(rest);
    let command = match (name, find(name)) {
        ("", _) => {
            COMMANDS
                .iter()
                .try_for_each(|command| write!(out, "{}", Listed(command)))?;
            writeln!(
                out,
                "Tab completes a word; twice, it lists what can follow."
            )?;
            return Ok(());
        }
        ("kmemleak", _) if !rest.is_empty() => return kmemleak_help(rest, out),
        (_, None) => return unknown(name, out),
        (_, Some(_)) if !rest.is_empty() => {
            writeln!(out, "help: unexpected argument `{rest}`")?;
            return Err(CommandError::NotUnderstood);
        }
        (_, Some(command)) => command,
    };
    write!(out, "{}", Listed(command))?;
    if !command.example.is_empty() {
        writeln!(out, "  for example: {}", command.example)?;
    }
    Ok(())
}

fn kmemleak_help(word: &str, out: &mut dyn Write) -> Answered {
    let mut line = arrayvec::ArrayString::<{ crate::edited::LINE_LEN }>::new();
    // It is shorter than the line that was typed.
    let _ = write!(line, "help {word}");
    KMEMLEAK.command(&line, out)
}

fn complete_help(rest: &str, take: Take<'_>) {
    match rest.split_once(' ') {
        None => names().for_each(take),
        Some(("kmemleak", word)) if !word.trim_start().contains(' ') => {
            KMEMLEAK.complete(word, take);
        }
        Some(_) => {}
    }
}

/// A line of the list of commands.
struct Listed<'c>(&'c Command);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(command) = self;
        let mut usage = arrayvec::ArrayString::<24>::new();
        write!(usage, "{} {}", command.name, command.arguments)?;
        writeln!(f, "  {usage:<15} {}", command.help)
    }
}
