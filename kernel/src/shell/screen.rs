//! What a command writes to: it ends when Ctrl-C is typed, and on a terminal it stops when the screen is full, and breaks lines at
//! blanks.
//!
//! A writer that fails ends the command's formatting, so a report of thousands of lines ends as soon as the user ends it.
//! With `--no-pager` at the end of the line it does not stop; nor does JSON, which is for programs.

use core::fmt::{self, Write};

use super::input;
use super::pager::{Before, Page};
use super::wrap::Wrap;
use crate::console::{self, Console};
use crate::foreground::{self, Foreground};

/// The option at the end of any command that switches the pager off.
const NO_PAGER: &str = "--no-pager";

const QUESTION: &str = "-- more: space, Enter, q --";
/// Goes to the start of the line and erases it.
const ERASE_LINE: &str = "\r\x1b[K";

/// A command's output, as the console shows it.
struct Screen<'a> {
    out: &'a mut Console,
    /// `None` where it never stops.
    page: Option<Page>,
}

/// A command's output.
struct Output<'a> {
    screen: Screen<'a>,
    /// `None` where lines are as they are written.
    wrap: Option<Wrap>,
}

/// Runs a line in the foreground, with the pager if there is one.
pub fn run<R>(line: &str, out: &mut Console, work: impl FnOnce(&str, &mut dyn Write) -> R) -> R {
    let line = line.trim_end();
    let (line, wanted) = match line.strip_suffix(NO_PAGER) {
        Some(before) if before.is_empty() || before.ends_with(' ') => (before, false),
        _ => (line, !line.split_whitespace().any(|word| word == "--json")),
    };
    let foreground = Foreground::begin();
    let terminal = console::terminal();
    let page = terminal.filter(|_| wanted).map(Page::new);
    let mut output = Output {
        screen: Screen { out, page },
        wrap: terminal.map(Wrap::new),
    };
    let done = work(line, &mut output);
    output.finish();
    if foreground.is_ending() {
        // The console does not fail.
        let _ = writeln!(out, "^C");
    }
    done
}

impl Screen<'_> {
    fn put(&mut self, character: char) -> fmt::Result {
        if let Some(page) = &mut self.page {
            let before = page.before(character);
            if before == Before::StopInLine {
                self.out.write_char('\n')?;
            }
            if before != Before::Nothing {
                let rows = ask(self.out, page.rows())?;
                page.turn(rows);
            }
            page.write(character);
        }
        self.out.write_char(character)
    }
}

impl Write for Screen<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|character| self.put(character))
    }
}

impl Output<'_> {
    /// Shows what has no end of a word yet.
    fn finish(&mut self) {
        if let Some(wrap) = &mut self.wrap {
            // It fails if nobody wants more.
            let _ = wrap.finish(&mut self.screen);
        }
    }
}

/// Asks how many rows more are wanted; an error if none.
fn ask(out: &mut Console, page: usize) -> Result<usize, fmt::Error> {
    out.write_str(QUESTION)?;
    out.flush();
    let rows = loop {
        match input::read_byte() {
            b' ' => break Some(page),
            b'\r' | b'\n' => break Some(1),
            // q, Control-C, Control-D.
            b'q' | b'Q' | 0x03 | 0x04 => break None,
            _ => {}
        }
    };
    out.write_str(ERASE_LINE)?;
    out.flush();
    rows.ok_or(fmt::Error)
}

impl Write for Output<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let put = match &mut self.wrap {
                Some(wrap) => wrap.put(character, &mut self.screen),
                None => self.screen.put(character),
            };
            if put.is_err() {
                // Nobody wants more: what has not come out yet is not to be shown, either.
                self.wrap = None;
                return put;
            }
            if character == '\n' && foreground::go_on().is_break() {
                return Err(fmt::Error);
            }
        }
        Ok(())
    }
}
