//! The shell on the serial line: a line that is edited, a table of commands.
//!
//! Each command parses the rest of its line itself and writes to a `fmt::Write`; a new command is a new entry
//! of [`table::COMMANDS`].
//!
//! # The end
//!
//! The command `exit` and the end of the input (Control-D on an empty line, which is what `boot` sends where a pipe ends)
//! end the machine. The exit code says whether there was a line that was not understood, or whose command failed. With the boot
//! parameter `shell.errors=stop`, the first such line ends the machine: what follows may need what it was to do.

mod bench;
mod commands;
mod ending;
mod escape;
pub mod input;
mod leak;
mod miscount;
pub mod pager;
mod screen;
mod table;
pub mod wrap;

use core::fmt::{Display, Write};

use line_editor::{Completion, Event, Tab};

use crate::console::{self, Console};
use crate::edited::{self, Announcement};
use crate::leak::CommandError;
use crate::{symbols, task};

/// How long the shell waits before it tries a key again, while others write.
const KEYS_WAIT_US: u64 = 1000;

/// Reads commands and runs them; never returns. The task that calls it becomes the shell.
pub fn run() {
    ending::check_parameter();
    edited::begin();
    loop {
        // The frames in which the shell waits must not hold addresses that commands have worked with.
        task::clear_dead_stack();
        // One at a time: what is typed ahead stays where a running command looks for Ctrl-C.
        feed(input::read_byte());
    }
}

/// Handles a typed byte.
fn feed(byte: u8) {
    let event = loop {
        match edited::byte(byte) {
            Some(event) => break event,
            None => task::sleep_us(KEYS_WAIT_US),
        }
    };
    match event {
        Event::Edited => return,
        Event::Tab(tab) => return complete(tab),
        Event::Complete => {
            let line = edited::line();
            // Addresses that the last command has printed must not keep blocks alive in this one.
            task::clear_dead_stack();
            execute(&line);
        }
        Event::Refused(refusal) => refuse(&refusal),
        Event::Cancelled => {}
        Event::End => ending::end(),
    }
    edited::begin();
}

fn refuse(refusal: &dyn Display) {
    // The console does not fail.
    let _ = writeln!(Console::new(), "{refusal}");
    ending::not_done();
}

fn execute(line: &str) {
    let mut out = Console::new();
    let done = screen::run(line, &mut out, table::execute);
    // The console does not fail.
    let _ = symbols::tell_missing(&mut out);
    out.flush();
    match done {
        Err(CommandError::NotUnderstood | CommandError::NotDone) => ending::not_done(),
        Ok(()) | Err(CommandError::Write(_)) => {}
    }
}

/// Completes the word at the cursor, or lists what can stand there.
fn complete(tab: Tab) {
    let before = edited::before_cursor();
    let mut offer = |take: &mut dyn FnMut(&str)| offer(&before, take);
    let completion = Completion::of(&before, &mut offer);
    match (tab, console::terminal()) {
        (Tab::Again, Some(terminal)) => {
            let columns = terminal.columns.into();
            // The console does not fail.
            let _ = completion.list(columns, &mut offer, &mut Announcement::new());
        }
        _ => edited::complete(&completion),
    }
}

/// Offers what can stand at the end of this line.
fn offer(before: &str, take: &mut dyn FnMut(&str)) {
    let before = before.trim_start();
    match before.split_once(' ') {
        None => table::names().for_each(take),
        Some((name, rest)) => {
            // Where a task's number is taken, it may be that of any task.
            let words = rest.rsplit_once(char::is_whitespace);
            if words.is_some_and(|(words, _)| words.trim_end().ends_with("--task")) {
                return commands::each_task_number(take);
            }
            if let Some(command) = table::find(name) {
                (command.complete)(rest.trim_start(), take);
            }
        }
    }
}
