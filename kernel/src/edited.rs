//! The line that is being typed, and what others write meanwhile.
//!
//! The [shell](crate::shell) types into the line and takes it when it is complete. It is kept here so that any code that writes
//! to the console can take it off the screen and bring it back: by an [`Announcement`].
//!
//! # Locks
//!
//! One, over the line and what the screen shows of it. It is held while keys are echoed, so the serial line's is taken under it, and
//! not while an announcement is written: then the line is hidden, and keys wait.

use core::fmt::{self, Write};

use arrayvec::ArrayString;
use line_editor::{Completion, Editor, Event};

use crate::console::{Console, terminal};
use crate::sync::SpinLock;

/// Bytes of the longest line: more than any command takes.
pub const LINE_LEN: usize = 1024;

/// Bytes of all lines that are remembered, those typed last.
const HISTORY_LEN: usize = 4096;

type LineEditor = Editor<LINE_LEN, HISTORY_LEN>;

static EDITED: SpinLock<LineEditor> = SpinLock::new(Editor::new("> "));

/// A line that was typed, in memory that was cleared: it may stay on a stack for as long as a task lives.
pub type Line = ArrayString<LINE_LEN>;

/// Begins a new line: shows the prompt. Task context.
pub fn begin() {
    let size = terminal().map(|terminal| line_editor::Terminal {
        columns: terminal.columns,
        rows: terminal.rows,
    });
    write(|editor, out| {
        editor.set_terminal(size);
        editor.begin(out)
    });
}

/// Types a byte. `None`, and nothing is typed, while others write. Task context.
pub fn byte(byte: u8) -> Option<Event> {
    let type_it = |editor: &mut LineEditor, out: &mut Console| editor.byte(byte, out);
    write(|editor, out| {
        (!editor.is_hidden())
            .then(|| type_it(editor, out))
            .transpose()
    })
}

/// The line as it is.
pub fn line() -> Line {
    copy(|editor| Some(editor.line())).unwrap_or_else(cleared)
}

/// The line up to the cursor.
pub fn before_cursor() -> Line {
    copy(|editor| Some(editor.before_cursor())).unwrap_or_else(cleared)
}

/// The line that was typed so many lines after the oldest that is remembered.
pub fn remembered(index: usize) -> Option<Line> {
    copy(|editor| editor.history().nth(index))
}

/// Adds what a completion of the line up to the cursor knows. Task context.
pub fn complete(completion: &Completion<'_>) {
    write(|editor, out| editor.complete(completion, out));
}

fn copy(look: impl FnOnce(&LineEditor) -> Option<&str>) -> Option<Line> {
    let mut copy = cleared();
    let editor = EDITED.lock();
    // A line has room in one.
    let _ = copy.try_push_str(look(&editor)?);
    Some(copy)
}

fn cleared() -> Line {
    let mut line = Line::zero_filled();
    line.clear();
    line
}

/// Changes the line and the screen with it, in one go.
fn write<T: Default>(
    change: impl FnOnce(&mut LineEditor, &mut Console) -> Result<T, fmt::Error>,
) -> T {
    let mut editor = EDITED.lock();
    let mut out = Console::new();
    // The console does not fail.
    let changed = change(&mut editor, &mut out).unwrap_or_default();
    out.flush();
    changed
}

/// A writer of lines that no command asked for: on a terminal they appear above the line that is being typed, if there is one; on
/// a plain line they begin on a new line. The line that is being typed is printed again when the writer is dropped. Task context.
#[derive(Debug)]
pub struct Announcement {
    out: Console,
    at: Place,
}

/// How far an announcement has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing has been written.
    Before,
    /// The last line is not complete.
    Inside,
    /// The last line is complete.
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
        if self.at == Place::Before {
            write(|editor, out| editor.hide(out));
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
        match self.at {
            Place::Before => return,
            // The console does not fail.
            Place::Inside => _ = self.out.write_str("\n"),
            Place::AtStart => {}
        }
        self.out.flush();
        write(|editor, out| editor.show(out));
    }
}
