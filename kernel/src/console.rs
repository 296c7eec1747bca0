//! The console: lines out. Bytes come in at the [shell](crate::shell::input).
//!
//! Text is put together on the stack of the printing task and sent a line at a time: a formatter that
//! prints, panics or takes long does so without the serial line's lock, and lines of several CPUs don't
//! get mixed.
//!
//! Some of this text lies on a stack for as long as a task lives, the shell's above all. So its memory is
//! cleared first: stale words between the letters would seem to be pointers to the leak detector.

use core::fmt::{self, Write};

use arrayvec::ArrayString;

use crate::dev::serial;
use crate::sync::SpinLock;

/// Bytes sent at once. Longer lines are sent in parts.
const LINE: usize = 240;

/// A writer to the console that sends a line at a time, and the rest when it is dropped.
#[derive(Debug)]
pub struct Console {
    line: ArrayString<LINE>,
}

impl Console {
    /// A writer with nothing to send yet.
    pub fn new() -> Self {
        let mut line = ArrayString::zero_filled();
        line.clear();
        Self { line }
    }

    /// Sends what has been written so far.
    pub fn flush(&mut self) {
        if !self.line.is_empty() {
            serial::send(self.line.as_bytes());
            self.line.clear();
        }
    }

    fn push(&mut self, character: char) {
        // A terminal wants the carriage returned as well.
        if character == '\n' {
            self.push_raw('\r');
        }
        self.push_raw(character);
        if character == '\n' {
            self.flush();
        }
    }

    fn push_raw(&mut self, character: char) {
        if self.line.remaining_capacity() < character.len_utf8() {
            self.flush();
        }
        self.line.push(character);
    }
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().for_each(|character| self.push(character));
        Ok(())
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Prints to the console. Any context.
pub fn print(arguments: fmt::Arguments<'_>) {
    // The console itself does not fail; what the arguments' formatters say is their own affair.
    let _ = Console::new().write_fmt(arguments);
}

/// Prints to the console. Any context.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => { $crate::console::print(format_args!($($argument)*)) };
}

/// Prints a line to the console. Any context.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($argument:tt)*) => { $crate::print!("{}\n", format_args!($($argument)*)) };
}

/// The line that somebody is typing, with its prompt.
static EDITED: SpinLock<ArrayString<EDITED_LEN>> = SpinLock::new(ArrayString::new_const());

/// Bytes of a prompt and a line.
const EDITED_LEN: usize = 1024 + 16;

/// Tells what stands on the console's last line, so that an [`Announcement`] can put it back. Task context.
pub fn set_edited(prompt: &str, line: &str) {
    let mut edited = EDITED.lock();
    edited.clear();
    // What does not fit is not put back.
    let _ = write!(edited, "{prompt}{line}");
}

/// Nobody is typing. Task context.
pub fn clear_edited() {
    EDITED.lock().clear();
}

/// Prints a line of its own accord: above the line that is being typed, if there is one. Task context.
pub fn announce(text: &str) {
    // The console does not fail.
    let _ = Announcement::new().write_str(text);
}

/// A writer of lines that nobody has asked for: they stand above the line that is being typed, if there is one. That comes back
/// when the writer is dropped. Task context.
#[derive(Debug)]
pub struct Announcement {
    out: Console,
    at: Place,
}

/// Where an announcement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing has been written.
    Before,
    /// In a line.
    Inside,
    /// At the start of one.
    AtStart,
}

impl Announcement {
    /// A writer that has written nothing yet.
    pub fn new() -> Self {
        Self {
            out: Console::new(),
            at: Place::Before,
        }
    }
}

impl Default for Announcement {
    fn default() -> Self {
        Self::new()
    }
}

impl Write for Announcement {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.is_empty() {
            return Ok(());
        }
        if self.at == Place::Before && !EDITED.lock().is_empty() {
            // To the line's start, and erase it.
            self.out.write_str("\r\x1b[K")?;
        }
        self.at = if text.ends_with('\n') {
            Place::AtStart
        } else {
            Place::Inside
        };
        self.out.write_str(text)
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        if self.at == Place::Before {
            return;
        }
        let edited = *EDITED.lock();
        let end = if self.at == Place::Inside { "\n" } else { "" };
        // The console does not fail.
        let _ = write!(self.out, "{end}{edited}");
    }
}
