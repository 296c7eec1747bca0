//! The console: lines out. Bytes come in at the [shell](crate::shell::input).
//!
//! Text is put together on the stack of the printing task and sent a line at a time: a formatter that prints, panics or
//! takes long does not hold the serial line's lock, and lines of several CPUs do not mix.
//!
//! # Terminal or plain line
//!
//! What is at the other end is told by the boot parameter `console=COLUMNSxROWS`: a terminal of that size. Without it the line is
//! *plain*: it is read by a program or kept in a file, so no escape sequence is ever sent.
//!
//! A writer may lie on a stack for as long as its task lives, as the shell's does. So its buffer is cleared first: the
//! leak detector would take stale words in it for pointers.

use core::fmt::{self, Display, Write};
use core::sync::atomic::{AtomicBool, Ordering};

use arrayvec::ArrayString;
use spin::Once;

use crate::dev::serial;

/// The terminal at the other end of the serial line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Characters of a line.
    pub columns: u16,
    /// Lines of the screen.
    pub rows: u16,
}

impl Terminal {
    /// Parses `COLUMNSxROWS`; neither is zero.
    pub fn parse(size: &str) -> Option<Self> {
        let (columns, rows) = size.split_once('x')?;
        let (columns, rows) = (columns.parse().ok()?, rows.parse().ok()?);
        (columns > 0 && rows > 0).then_some(Self { columns, rows })
    }
}

static TERMINAL: Once<Terminal> = Once::new();

/// Takes the boot parameter `console`. Before it, and where it is wrong, the line is plain.
pub fn init(size: Option<&str>) {
    let Some(size) = size else { return };
    match Terminal::parse(size) {
        Some(terminal) => {
            TERMINAL.call_once(|| terminal);
        }
        None => crate::println!("console={size}: expected COLUMNSxROWS, as in console=80x24"),
    }
}

/// The terminal at the other end of the serial line; `None` if the line is plain. Any context.
pub fn terminal() -> Option<Terminal> {
    TERMINAL.get().copied()
}

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
            erase_progress();
            serial::send(self.line.as_bytes());
            self.line.clear();
        }
    }

    fn push(&mut self, character: char) {
        // A terminal needs a carriage return before the line feed.
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
    // The console does not fail; an error of an argument's formatter is ignored.
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

/// Whether the terminal's last line says how far work has come.
static PROGRESS: AtomicBool = AtomicBool::new(false);

/// Says on a terminal how far work has come, in the place of what was said before. The next output erases it. Any context, also
/// with the world stopped.
pub fn show_progress(progress: &dyn Display) {
    let Some(terminal) = terminal() else { return };
    let mut said = ArrayString::<PROGRESS_LEN>::new();
    // What does not fit is not said.
    let _ = write!(said, "{progress}");
    let fits = said.len().min(usize::from(terminal.columns) - 1);
    if !said.is_char_boundary(fits) {
        return;
    }
    said.truncate(fits);
    let mut line = ArrayString::<{ PROGRESS_LEN + 8 }>::new();
    let _ = write!(line, "{ERASE_LINE}{said}");
    PROGRESS.store(true, Ordering::Relaxed);
    serial::send(line.as_bytes());
}

/// Bytes of what is said of progress, at most.
const PROGRESS_LEN: usize = 80;

/// Goes to the start of the line and erases it.
const ERASE_LINE: &str = "\r\x1b[K";

/// Erases what was said of progress, if it still stands there. Any context.
pub fn erase_progress() {
    if PROGRESS.load(Ordering::Relaxed) && PROGRESS.swap(false, Ordering::Relaxed) {
        serial::send(ERASE_LINE.as_bytes());
    }
}
