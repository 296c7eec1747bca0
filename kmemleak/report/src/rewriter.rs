//! Goes through a log: names what is a report's, and passes everything else through.
//!
//! A call stack's first line says how many frames are skipped, and that is known only when the first one comes that is not. Before it
//! stands the type of what the call stack allocates, and frames tell that from the innermost on, the first one that is not skipped
//! at the latest but for few. So from the first line on, lines are kept back until both are known: frames, and what other code
//! printed between them. If the call stack ends before, or too much other output comes in between, all is written as it came, with
//! names.
//!
//! # Invariants
//!
//! - No line changes its place, and none is lost but skipped frames, which are counted in the line before them.
//! - A line that is not a report's leaves as it came, byte for byte; a report's line keeps its prefix and its end.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::rc::Rc;

use kmemleak::MAX_FRAMES;

use crate::block_type::TypeSoFar;
use crate::fields;
use crate::found::Found;
use crate::json::{self, Unchanged};
use crate::kernel::{Frame, Names};
use crate::line::{Ending, Line, Number};

/// Which frames of a call stack are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramesShown {
    /// From the code that asked for memory on.
    FromCaller,
    /// All.
    All,
}

/// Which lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinesShown {
    /// All.
    All,
    /// The lines of JSON, without what stands before them.
    Json,
}

/// Columns of a frame's line without the log's prefix, if it can be made to fit, and of a function that allocated an object: as in the
/// kernel's own reports.
const COLUMNS: usize = 100;
const CALL_SITE: usize = 60;
/// Columns of a function in a table.
const COLUMN: usize = 28;
/// What stands before a frame.
const INDENT: &[u8] = b"    ";
/// The title of a call stack that allocates, and what stands before it where the type is known.
const ALLOCATES: &[u8] = b"  backtrace (";
const TYPE: &[u8] = b"  type ";
/// What stands behind a function that is no frame of its own.
const INLINED: &[u8] = b" [inlined]";

/// Lines that are kept back at most.
const MOST_KEPT: usize = 256;

/// A line that is kept back, with its end.
struct Kept {
    text: Vec<u8>,
    is_skipped: bool,
}

/// A call stack whose frames come.
struct Open {
    /// Bytes before each of its lines.
    prefix: usize,
    /// Frames that may still come.
    left: usize,
    /// Its first line, and what came after it; `None` once that is written.
    kept: Option<Waiting>,
}

/// What waits for the type, and for the first frame that is not skipped.
struct Waiting {
    header: Vec<u8>,
    prefix: usize,
    crc_end: usize,
    skipped: usize,
    block_type: TypeSoFar,
    /// Whether a frame that is not skipped is among the lines.
    has_shown: bool,
    lines: Vec<Kept>,
}

/// Writes a log with names in its reports.
pub struct Rewriter<N, W> {
    names: N,
    out: W,
    frames: FramesShown,
    lines: LinesShown,
    open: Option<Open>,
    /// The line before the present one.
    before: Vec<u8>,
    found: Found,
}

impl<N: Names, W: Write> Rewriter<N, W> {
    /// Takes names from `names`, and writes to `out`.
    pub fn new(names: N, out: W, frames: FramesShown, lines: LinesShown) -> Self {
        Self {
            names,
            out,
            frames,
            lines,
            open: None,
            before: Vec::new(),
            found: Found::default(),
        }
    }

    /// Reads a log to its end. What has come is written before it waits for more.
    pub fn run(mut self, log: impl Read) -> io::Result<(Found, N)> {
        let mut log = BufReader::with_capacity(1 << 16, log);
        let mut line = Vec::new();
        loop {
            if log.buffer().is_empty() {
                self.out.flush()?;
            }
            line.clear();
            if log.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            self.line(&line)?;
            std::mem::swap(&mut self.before, &mut line);
        }
        self.close()?;
        self.out.flush()?;
        Ok((self.found, self.names))
    }

    /// A line, with its end if it has one.
    fn line(&mut self, whole: &[u8]) -> io::Result<()> {
        let ending = match whole.last() {
            Some(b'\n') => Ending::Complete,
            _ => Ending::Cut,
        };
        let line = whole.trim_ascii_end_of_line();
        let end = &whole[line.len()..];
        match Line::of(line, ending) {
            Line::Header {
                prefix,
                crc_end,
                skipped,
            } => {
                self.close()?;
                self.found.call_stacks += 1;
                self.open = Some(Open {
                    prefix,
                    left: MAX_FRAMES,
                    kept: Some(Waiting {
                        header: whole.to_vec(),
                        prefix,
                        crc_end,
                        skipped,
                        block_type: self.type_of(whole, prefix, skipped),
                        has_shown: false,
                        lines: Vec::new(),
                    }),
                });
                Ok(())
            }
            Line::Frame(number) if self.open.is_some() => self.frame(line, end, number),
            Line::Origin(number) => {
                self.close()?;
                let name = self.look_up(number).call_site(CALL_SITE);
                self.call_site(line, number, name, end)
            }
            Line::Row(number) => {
                self.close()?;
                let name = self.look_up(number).columns(COLUMN);
                self.call_site(line, number, name, end)
            }
            Line::Json(at) => {
                self.close()?;
                self.json(line, at, end)
            }
            Line::Report => {
                self.close()?;
                match fields::in_text(line, &mut self.names) {
                    Some(named) => self.write(&[&named, end].concat()),
                    None => self.write(whole),
                }
            }
            Line::Frame(_) | Line::Other => self.other(whole),
        }
    }

    /// A line that ends with the function that allocated an object.
    fn call_site(
        &mut self,
        line: &[u8],
        number: Number,
        name: Option<String>,
        end: &[u8],
    ) -> io::Result<()> {
        self.found.call_stacks += 1;
        let name = name.as_ref();
        let name = name.map_or(&line[number.at..], |name| name.as_bytes());
        self.write(&[&line[..number.at], name, end].concat())
    }

    /// What is known of the type when the first line of a call stack has come, in which the kernel has skipped so many frames.
    fn type_of(&self, header: &[u8], prefix: usize, skipped: usize) -> TypeSoFar {
        let is_told = self
            .before
            .get(prefix..)
            .is_some_and(|line| line.starts_with(TYPE));
        match header[prefix..].starts_with(ALLOCATES) && skipped == 0 && !is_told {
            true => TypeSoFar::BEGIN,
            false => TypeSoFar::UNKNOWN,
        }
    }

    /// A frame that has no name yet.
    fn frame(&mut self, line: &[u8], end: &[u8], number: Number) -> io::Result<()> {
        let frame = self.look_up(number);
        let text = named(&frame, line, end, number);
        let is_machinery = frame.is_machinery && self.frames == FramesShown::FromCaller;
        let waiting = self.open.as_mut().and_then(|open| open.kept.as_mut());
        let Some(waiting) = waiting else {
            self.write(&text)?;
            return self.one_frame_less();
        };
        waiting.block_type.add(&frame);
        waiting.has_shown |= !is_machinery;
        waiting.lines.push(Kept {
            text,
            is_skipped: !waiting.has_shown,
        });
        if waiting.has_shown && waiting.block_type.is_decided() {
            self.settle()?;
        }
        self.one_frame_less()
    }

    /// A line that is none of those that are changed.
    fn other(&mut self, whole: &[u8]) -> io::Result<()> {
        let Some(open) = &mut self.open else {
            return self.write(whole);
        };
        // The platform has named this frame itself. The last line of a log may be cut: it proves nothing.
        if is_indented(whole, open.prefix) && whole.ends_with(b"\n") {
            self.settle()?;
            self.write(whole)?;
            return match whole.trim_ascii_end().ends_with(INLINED) {
                true => Ok(()),
                false => self.one_frame_less(),
            };
        }
        let Some(waiting) = &mut open.kept else {
            return self.write(whole);
        };
        waiting.lines.push(Kept {
            text: whole.to_vec(),
            is_skipped: false,
        });
        match waiting.lines.len() < MOST_KEPT {
            true => Ok(()),
            false => self.close(),
        }
    }

    fn one_frame_less(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        open.left -= 1;
        match open.left {
            0 => self.close(),
            _ => Ok(()),
        }
    }

    /// All is known of the call stack, or a frame has come that is shown: writes what waits, without the frames that are skipped.
    fn settle(&mut self) -> io::Result<()> {
        let waiting = self.open.as_mut().and_then(|open| open.kept.take());
        let Some(waiting) = waiting else {
            return Ok(());
        };
        if let Some(line) = waiting.type_line() {
            self.write(&line)?;
        }
        let skipped = waiting.lines.iter().filter(|line| line.is_skipped);
        let skipped = skipped.count();
        match skipped {
            0 => self.write(&waiting.header)?,
            _ => self.write(&waiting.header_with(skipped))?,
        }
        let mut lines = waiting.lines.iter().filter(|line| !line.is_skipped);
        lines.try_for_each(|line| self.write(&line.text))
    }

    /// The call stack ends: if all of its frames were to be skipped, none is.
    fn close(&mut self) -> io::Result<()> {
        let waiting = self.open.as_mut().and_then(|open| open.kept.as_mut());
        if let Some(waiting) = waiting
            && !waiting.has_shown
        {
            waiting
                .lines
                .iter_mut()
                .for_each(|line| line.is_skipped = false);
        }
        self.settle()?;
        self.open = None;
        Ok(())
    }

    /// What is known of an address.
    fn look_up(&mut self, number: Number) -> Rc<Frame> {
        let frame = self.names.frame(number.address);
        self.found.count(number.address, &frame);
        frame
    }

    fn json(&mut self, line: &[u8], at: usize, end: &[u8]) -> io::Result<()> {
        let (prefix, object) = line.split_at(at);
        let named = json::with_names(object, &mut self.names, &mut self.found);
        if named == Err(Unchanged::Damaged) {
            self.found.damaged += 1;
            return self.write(&[line, end].concat());
        }
        let text = match &named {
            Ok(text) => text.as_bytes(),
            Err(_) => object,
        };
        if self.lines == LinesShown::All {
            self.out.write_all(prefix)?;
        }
        self.out.write_all(text)?;
        self.out.write_all(end)
    }

    /// Writes a line that is no JSON.
    fn write(&mut self, whole: &[u8]) -> io::Result<()> {
        match self.lines {
            LinesShown::All => self.out.write_all(whole),
            LinesShown::Json => Ok(()),
        }
    }
}

impl Waiting {
    /// The line that says the type, with the prefix and the end of the first line.
    fn type_line(&self) -> Option<Vec<u8>> {
        let text = self.block_type.text()?;
        let end = &self.header[self.header.trim_ascii_end_of_line().len()..];
        Some([&self.header[..self.prefix], TYPE, text.as_bytes(), end].concat())
    }

    /// The first line, where so many more frames are skipped than the kernel has skipped.
    fn header_with(&self, more: usize) -> Vec<u8> {
        let skipped = self.skipped + more;
        let ending = if skipped == 1 { "" } else { "s" };
        let mut header = self.header[..self.crc_end].to_vec();
        header.extend(format!(", {skipped} frame{ending} skipped").into_bytes());
        let close = self.header[self.crc_end..]
            .iter()
            .position(|byte| *byte == b')');
        header.extend(&self.header[self.crc_end + close.unwrap_or(0)..]);
        header
    }
}

/// The lines of a frame that has come as an address.
fn named(frame: &Frame, line: &[u8], end: &[u8], number: Number) -> Vec<u8> {
    if frame.functions.is_empty() {
        return [line, end].concat();
    }
    // The last line of a log may have no end, and all before it must have one.
    let between = if end.is_empty() { b"\n" } else { end };
    let before = &line[..number.at];
    let lines: Vec<_> = frame
        .lines(COLUMNS - INDENT.len())
        .map(|name| [before, name.as_bytes()].concat())
        .collect();
    let mut text = lines.join(between);
    text.extend(end);
    text
}

/// Whether a line has the four blanks of a frame behind this prefix, and text behind them.
fn is_indented(line: &[u8], prefix: usize) -> bool {
    let rest = line
        .get(prefix..)
        .and_then(|rest| rest.strip_prefix(INDENT));
    rest.and_then(|rest| rest.first())
        .is_some_and(u8::is_ascii_graphic)
}

/// A line without the bytes that end it.
trait WithoutEnd {
    fn trim_ascii_end_of_line(&self) -> &Self;
}

impl WithoutEnd for [u8] {
    fn trim_ascii_end_of_line(&self) -> &Self {
        let line = self.strip_suffix(b"\n").unwrap_or(self);
        line.strip_suffix(b"\r").unwrap_or(line)
    }
}
