//! The shell on the serial line: a prompt, an editor, a table of commands.
//!
//! Each command parses the rest of its line itself and writes to a `fmt::Write`; a new command is a new entry
//! of [`COMMANDS`].
//!
//! # The end
//!
//! The command `exit` and the end of the input (Control-D on an empty line, which is what `boot` sends where a pipe ends)
//! end the machine. The exit code says whether there was a line that was not understood, or whose command failed: a script, which
//! does not stop at such a line, needs it.

mod bench;
mod commands;
pub mod editor;
pub mod input;
mod leak;

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};

use self::editor::{Edit, Editor, LINE_LEN};
use crate::arch::exit::{ExitCode, exit};
use crate::console::{self, Console};
use crate::leak::{CommandError, KMEMLEAK};
use crate::{symbols, task};

/// Shown when a command can be typed.
const PROMPT: &str = "> ";

/// Erases the character before the cursor: a step back, a blank, a step back.
const ERASE: &str = "\x08 \x08";
/// Signals that a typed byte was not taken.
const BELL: char = '\x07';

/// Whether all lines so far were commands with arguments that they take, and were done.
static ALL_DONE: AtomicBool = AtomicBool::new(true);

/// A command of the shell.
struct Command {
    name: &'static str,
    arguments: &'static str,
    help: &'static str,
    /// Whether it takes these arguments. A command without arguments is not run with any; others report themselves what is wrong.
    takes: fn(&str) -> bool,
    run: fn(&str, &mut dyn Write) -> fmt::Result,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "help",
        arguments: "",
        help: "this list",
        takes: str::is_empty,
        run: help,
    },
    Command {
        name: "kmemleak",
        arguments: "WORD",
        help: "the leak detector: scan, report, status, clear, ... (no word: all of them)",
        takes: |_| true,
        run: kmemleak,
    },
    Command {
        name: "leak",
        arguments: "KIND",
        help: "plant a leak (no kind: all kinds)",
        takes: leak::takes,
        run: leak::run,
    },
    Command {
        name: "ps",
        arguments: "",
        help: "the tasks",
        takes: str::is_empty,
        run: commands::ps,
    },
    Command {
        name: "mem",
        arguments: "",
        help: "how memory is used",
        takes: str::is_empty,
        run: commands::mem,
    },
    Command {
        name: "slabs",
        arguments: "",
        help: "the slab caches",
        takes: str::is_empty,
        run: commands::slabs,
    },
    Command {
        name: "cpus",
        arguments: "",
        help: "the CPUs",
        takes: str::is_empty,
        run: commands::cpus,
    },
    Command {
        name: "bench",
        arguments: "[WHAT]",
        help: "what the detector costs: pairs, or check NUMBER (nothing: all)",
        takes: bench::takes,
        run: bench::run,
    },
    Command {
        name: "panic",
        arguments: "",
        help: "panic",
        takes: str::is_empty,
        run: commands::panic,
    },
    Command {
        name: "reboot",
        arguments: "",
        help: "reset the machine",
        takes: str::is_empty,
        run: commands::reboot,
    },
    Command {
        name: "exit",
        arguments: "",
        help: "end the machine, with success if all commands were done",
        takes: str::is_empty,
        run: commands::exit,
    },
];

/// Reads commands and runs them; never returns. The task that calls it becomes the shell.
pub fn run() {
    let mut editor = Editor::new();
    let mut out = Console::new();
    prompt(&mut out, "");
    loop {
        // The frames in which the shell waits must not hold addresses that commands have worked with.
        task::clear_dead_stack();
        for byte in input::read() {
            feed(&mut editor, byte, &mut out);
        }
        out.flush();
    }
}

fn prompt(out: &mut Console, line: &str) {
    console::set_edited(PROMPT, line);
    let _ = write!(out, "{PROMPT}{line}");
    out.flush();
}

/// Handles a typed byte.
fn feed(editor: &mut Editor, byte: u8, out: &mut Console) {
    // Writing to the console does not fail.
    let _ = match editor.byte(byte) {
        Edit::None => return,
        Edit::Insert(character) => out.write_char(character),
        Edit::Erase => out.write_str(ERASE),
        Edit::EraseMany(count) => (0..count).try_for_each(|_| out.write_str(ERASE)),
        Edit::Full => out.write_char(BELL),
        Edit::Cancel => {
            let _ = writeln!(out, "^C");
            return prompt(out, "");
        }
        Edit::Complete => {
            console::clear_edited();
            let _ = writeln!(out);
            // Addresses that the last command has printed must not keep blocks alive in this one.
            task::clear_dead_stack();
            let _ = execute(&editor.take(), out);
            return prompt(out, "");
        }
        Edit::TooLong(len) => {
            not_done();
            let _ = writeln!(
                out,
                "\nthe line has {len} bytes: at most {LINE_LEN} are taken, and nothing was done"
            );
            return prompt(out, "");
        }
        Edit::Foreign(bytes) => {
            not_done();
            let _ = writeln!(
                out,
                "\nthe line has {bytes} bytes that are no ASCII: none are taken, and nothing was done"
            );
            return prompt(out, "");
        }
        Edit::End => {
            let _ = writeln!(out);
            end()
        }
    };
    console::set_edited(PROMPT, editor.line());
}

/// A line was not understood, or its command failed.
fn not_done() {
    ALL_DONE.store(false, Ordering::Relaxed);
}

/// Ends the machine, with success if all was done.
fn end() -> ! {
    exit(match ALL_DONE.load(Ordering::Relaxed) {
        true => ExitCode::Success,
        false => ExitCode::NotUnderstood,
    })
}

/// Runs one line.
fn execute(line: &str, out: &mut dyn Write) -> fmt::Result {
    let line = line.trim();
    let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
    if name.is_empty() {
        return Ok(());
    }
    let rest = rest.trim();
    match COMMANDS.iter().find(|command| command.name == name) {
        Some(command) => {
            let takes = (command.takes)(rest);
            if !takes {
                not_done();
            }
            match command.arguments {
                "" if !takes => writeln!(out, "{name}: unexpected argument \"{rest}\""),
                _ => {
                    (command.run)(rest, out)?;
                    symbols::tell_missing(out)
                }
            }
        }
        None => {
            not_done();
            write!(out, "unknown command \"{name}\"; there are:")?;
            COMMANDS
                .iter()
                .try_for_each(|command| write!(out, " {}", command.name))?;
            writeln!(out)
        }
    }
}

/// A command of the leak detector. The detector writes itself what is wrong with it.
fn kmemleak(rest: &str, out: &mut dyn Write) -> fmt::Result {
    match KMEMLEAK.command(rest, out) {
        Ok(()) => {}
        Err(CommandError::NotUnderstood | CommandError::NotDone) => not_done(),
        Err(CommandError::Write(error)) => return Err(error),
    }
    Ok(())
}

fn help(_: &str, out: &mut dyn Write) -> fmt::Result {
    COMMANDS.iter().try_for_each(|command| {
        let mut usage = arrayvec::ArrayString::<24>::new();
        write!(usage, "{} {}", command.name, command.arguments)?;
        writeln!(out, "  {usage:<14} {}", command.help)
    })
}
