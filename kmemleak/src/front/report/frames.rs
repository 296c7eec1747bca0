//! Call stacks, a function a line.
//!
//! A platform says of a return address which functions it lies in, a line each, innermost first
//! ([`symbol`](crate::Platform::symbol)). All but the last are functions that were inlined, and are marked as such. Of the
//! first frame that is shown, functions of the allocation machinery that were inlined there are left out, as whole frames of it
//! are ([`backtrace`](super::backtrace)): so the first line is the function that asked for memory.
//!
//! Names are shortened ([`shorten`](super::shorten)) in text, not in JSON, and a line is made to fit in [`COLUMNS`] where that can be done.

use core::fmt::{self, Write};

use super::backtrace::{Backtrace, Machinery};
use super::block_type::BlockType;
use super::function::FunctionText;
use super::style::{Ink, Style};
use super::words::Count;
use crate::platform::{MAX_FRAMES, Platform};
use crate::stacks::depot::Frames;
use crate::tracker::Tracker;

/// Columns of a line, if it can be made to fit.
const COLUMNS: usize = 100;
/// What stands before a function.
const INDENT: &str = "    ";
/// What stands behind a function that was inlined.
const INLINED: &str = " [inlined]";
/// Bytes of a frame that is asked for once.
const SHORT_FRAME: usize = 256;

/// What a function is to the frame it lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Inlined into the function of the next line.
    Inlined,
    /// The function that has the frame.
    Own,
}

/// Where a program asked for memory: the first function of a call stack that is not allocation machinery.
#[derive(Clone)]
pub(super) struct CallSite {
    text: FunctionText,
    style: Style,
}

impl CallSite {
    /// Of these return addresses, innermost first; `None` if there are none. The function has at most so many columns, if it can be
    /// made so short. May sleep: task context.
    pub(super) fn of<P: Platform>(
        tracker: &Tracker<P>,
        addresses: &[usize],
        columns: usize,
    ) -> Option<Self> {
        let backtrace = Backtrace::of(tracker, addresses);
        let address = backtrace.call_site()?;
        let mut first = None;
        // The error ends the walk: one is enough.
        let machinery = Inlined::of(&backtrace, Machinery::Allocation);
        let _ = each_shown(tracker, address, machinery, &mut |function, _| {
            first = Some(function.clone());
            Err(fmt::Error)
        });
        let mut function = first?;
        function.fit(columns);
        Some(Self {
            text: function,
            style: Style::of(tracker),
        })
    }

    /// The function, without an offset. If it is not known, its address.
    pub(super) fn function(&self) -> &str {
        self.text.function()
    }

    /// `file:line`, if that is known.
    pub(super) fn place(&self) -> Option<&str> {
        self.text.place()
    }
}

/// `function (file:line)`.
impl fmt::Display for CallSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (style, function) = (self.style, self.function());
        style.paint(Ink::Function, function).fmt(f)?;
        match self.place() {
            Some(place) => {
                let place = format_args!(" ({place})");
                style.paint(Ink::Place, place).fmt(f)
            }
            None => Ok(()),
        }
    }
}

/// Writes a function as a line of a call stack.
fn write_line(
    style: Style,
    function: &mut FunctionText,
    role: Role,
    out: &mut dyn Write,
) -> fmt::Result {
    let mark = match role {
        Role::Inlined => INLINED,
        Role::Own => "",
    };
    function.fit_line(COLUMNS - INDENT.len() - mark.len());
    let (offset, rest) = function.offset_and_rest();
    let name = style.paint(Ink::Function, function.function());
    writeln!(
        out,
        "{INDENT}{name}{offset}{}{mark}",
        style.paint(Ink::Place, rest)
    )
}

/// Writes a call stack with a title.
pub(in crate::front) fn write_frames<P: Platform>(
    tracker: &Tracker<P>,
    title: &str,
    frames: &Frames,
    out: &mut dyn Write,
) -> fmt::Result {
    write_addresses(tracker, title, frames.as_slice(), out)
}

/// Writes the call stack that allocated a block, with the type of the block if that is known.
pub(super) fn write_backtrace<P: Platform>(
    tracker: &Tracker<P>,
    addresses: &[usize],
    out: &mut dyn Write,
) -> fmt::Result {
    if let Some(block_type) = BlockType::of(tracker, addresses) {
        let block_type = Style::of(tracker).paint(Ink::Type, block_type);
        writeln!(out, "  type {block_type}")?;
    }
    write_addresses(tracker, "backtrace", addresses, out)
}

/// Writes the call stack of these return addresses, innermost first, with a title.
pub(super) fn write_addresses<P: Platform>(
    tracker: &Tracker<P>,
    title: &str,
    addresses: &[usize],
    out: &mut dyn Write,
) -> fmt::Result {
    write_without(tracker, title, Machinery::Allocation, addresses, out)
}

/// Writes a call stack in which a task waits, with a title: from the caller on of what it waits in.
pub(super) fn write_waiting<P: Platform>(
    tracker: &Tracker<P>,
    title: &str,
    addresses: &[usize],
    out: &mut dyn Write,
) -> fmt::Result {
    write_without(tracker, title, Machinery::Waiting, addresses, out)
}

fn write_without<P: Platform>(
    tracker: &Tracker<P>,
    title: &str,
    machinery: Machinery,
    addresses: &[usize],
    out: &mut dyn Write,
) -> fmt::Result {
    if addresses.is_empty() {
        return writeln!(out, "  {title}: none recorded");
    }
    let backtrace = Backtrace::without(tracker, machinery, addresses);
    write!(out, "  {title} (crc {:08x}", backtrace.crc())?;
    if backtrace.skipped() > 0 {
        write!(out, ", {} skipped", Count(backtrace.skipped(), "frame"))?;
    }
    writeln!(out, "):")?;
    let style = Style::of(tracker);
    let mut inlined_machinery = Inlined::of(&backtrace, machinery);
    for &address in backtrace.shown() {
        each_shown(
            tracker,
            address,
            inlined_machinery,
            &mut |function, role| write_line(style, function, role, out),
        )?;
        inlined_machinery = Inlined::Shown;
    }
    if addresses.len() == MAX_FRAMES {
        writeln!(out, "    and perhaps more: {MAX_FRAMES} are kept")?;
    }
    Ok(())
}

/// Whether the innermost functions of a frame are shown, if they are machinery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inlined {
    LeftOut(Machinery),
    Shown,
}

impl Inlined {
    /// In the first frame of a call stack that is shown.
    fn of(backtrace: &Backtrace<'_>, machinery: Machinery) -> Self {
        match backtrace.begins_with_caller() {
            true => Self::LeftOut(machinery),
            false => Self::Shown,
        }
    }
}

/// Shows the functions of a frame, innermost first.
fn each_shown<P: Platform>(
    tracker: &Tracker<P>,
    address: usize,
    machinery: Inlined,
    look: &mut dyn FnMut(&mut FunctionText, Role) -> fmt::Result,
) -> fmt::Result {
    let platform = tracker.platform();
    let mut left_out = match machinery {
        Inlined::LeftOut(machinery) => Some(machinery),
        Inlined::Shown => None,
    };
    each_function(platform, address, &mut |function, role| {
        let is_part = |machinery: &Machinery| {
            let name = function.whole_name();
            name.is_some_and(|name| machinery.has(platform, name))
        };
        left_out = left_out.filter(|machinery| role == Role::Inlined && is_part(machinery));
        let leaves_out = left_out.is_some();
        match leaves_out {
            true => Ok(()),
            false => look(function, role),
        }
    })
}

/// Shows all functions of a frame, innermost first.
fn each_function<P: Platform>(
    platform: &P,
    address: usize,
    look: &mut dyn FnMut(&mut FunctionText, Role) -> fmt::Result,
) -> fmt::Result {
    let mut functions = Functions {
        function: FunctionText::EMPTY,
        has_ended: false,
        look,
    };
    platform.symbol(address, &mut functions)?;
    if functions.function.is_empty() {
        write!(functions, "{address:#018x}")?;
    }
    functions.end(Role::Own)
}

/// Takes what a platform writes, and shows it a function at a time. Control characters are escaped: they would steer a terminal.
struct Functions<'a> {
    function: FunctionText,
    /// Whether its line has ended. It is shown when the next one begins, or there is none.
    has_ended: bool,
    look: &'a mut dyn FnMut(&mut FunctionText, Role) -> fmt::Result,
}

impl Functions<'_> {
    /// Shows the function that has come.
    fn end(&mut self, role: Role) -> fmt::Result {
        let shown = (self.look)(&mut self.function, role);
        self.function = FunctionText::EMPTY;
        self.has_ended = false;
        shown
    }
}

impl Write for Functions<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            if letter == '\n' {
                self.has_ended = !self.function.is_empty();
                continue;
            }
            if self.has_ended {
                self.end(Role::Inlined)?;
            }
            self.function.push(letter);
        }
        Ok(())
    }
}

/// Writes a frame as one text, with all its functions and their whole names: `function+0xOFFSET/0xSIZE (file:line)`, then for each
/// function inlined there `, inlined function (file:line)`, the outermost first.
pub(super) fn write_whole<P: Platform>(
    platform: &P,
    address: usize,
    out: &mut dyn Write,
) -> fmt::Result {
    let mut first = FirstLine::EMPTY;
    let mut lines = OneLine::new(0, &mut first);
    platform.symbol(address, &mut lines)?;
    let count = lines.count();
    match (count, first.as_str()) {
        (0, _) => return write!(out, "{address:#018x}"),
        // Most frames have one function, and are asked for once.
        (1, Some(line)) => return out.write_str(line),
        _ => {}
    }
    for number in (0..count).rev() {
        platform.symbol(address, &mut OneLine::new(number, out))?;
        if number > 0 {
            out.write_str(", inlined ")?;
        }
    }
    Ok(())
}

/// Passes one line on, and counts the lines that have anything in them.
struct OneLine<'a> {
    wanted: usize,
    /// Of the line that comes.
    number: usize,
    is_empty: bool,
    out: &'a mut dyn Write,
}

impl<'a> OneLine<'a> {
    fn new(wanted: usize, out: &'a mut dyn Write) -> Self {
        Self {
            wanted,
            number: 0,
            is_empty: true,
            out,
        }
    }

    fn count(&self) -> usize {
        self.number + usize::from(!self.is_empty)
    }
}

impl Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            if letter == '\n' {
                self.number = self.count();
                self.is_empty = true;
                continue;
            }
            self.is_empty = false;
            if self.number == self.wanted {
                self.out.write_char(letter)?;
            }
        }
        Ok(())
    }
}

/// A line, if it is short.
struct FirstLine {
    text: [u8; SHORT_FRAME],
    /// More than there is room for, if it is too long.
    len: usize,
}

impl FirstLine {
    const EMPTY: Self = Self {
        text: [0; SHORT_FRAME],
        len: 0,
    };

    fn as_str(&self) -> Option<&str> {
        core::str::from_utf8(self.text.get(..self.len)?).ok()
    }
}

impl Write for FirstLine {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len.saturating_add(text.len());
        if let Some(room) = self.text.get_mut(self.len..end) {
            room.copy_from_slice(text.as_bytes());
        }
        self.len = end;
        Ok(())
    }
}
