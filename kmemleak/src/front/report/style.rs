//! Colours of text, for a person at a terminal.
//!
//! They are off unless the kernel or the command turns them on, and JSON has none. Names and other text from outside hold no escape
//! sequences of their own: control characters in them are escaped. The line for machines, which is last in a report, stays plain.

use core::fmt::{self, Display, Formatter, Write};

use crate::platform::Platform;
use crate::tracker::Tracker;

/// Whether text has colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Coloured,
}

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    Heading,
    Handle,
    Size,
    Function,
    Place,
    Type,
    Warning,
}

impl Ink {
    /// The parameters of "select graphic rendition" (ECMA-48, 8.3.117).
    const fn rendition(self) -> &'static str {
        match self {
            Self::Heading => "1",
            Self::Handle => "36",
            Self::Size => "33",
            Self::Function => "32",
            Self::Place => "2",
            Self::Type => "35",
            Self::Warning => "31",
        }
    }
}

impl Style {
    pub(super) fn of<P: Platform>(tracker: &Tracker<P>) -> Self {
        match tracker.has_colours() {
            true => Self::Coloured,
            false => Self::Plain,
        }
    }

    /// A piece of text in its colour. Padding belongs into the piece.
    pub(super) fn paint<T: Display>(self, ink: Ink, text: T) -> Painted<T> {
        Painted {
            style: self,
            ink,
            text,
        }
    }

    /// Where lines are written that are all of one colour.
    pub(super) fn lines(self, ink: Ink, out: &mut dyn Write) -> PaintedLines<'_> {
        PaintedLines {
            style: self,
            ink,
            out,
            is_begun: false,
        }
    }

    fn begin(self, ink: Ink, out: &mut dyn Write) -> fmt::Result {
        match self {
            Self::Plain => Ok(()),
            Self::Coloured => write!(out, "\x1b[{}m", ink.rendition()),
        }
    }

    fn end(self, out: &mut dyn Write) -> fmt::Result {
        match self {
            Self::Plain => Ok(()),
            Self::Coloured => out.write_str("\x1b[0m"),
        }
    }
}

/// Lines of one colour, each of which ends it: no colour runs on into the next line.
pub(super) struct PaintedLines<'a> {
    style: Style,
    ink: Ink,
    out: &'a mut dyn Write,
    /// Whether a line has begun.
    is_begun: bool,
}

impl Write for PaintedLines<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive('\n') {
            let line = part.strip_suffix('\n').unwrap_or(part);
            if !line.is_empty() && !core::mem::replace(&mut self.is_begun, true) {
                self.style.begin(self.ink, self.out)?;
            }
            self.out.write_str(line)?;
            if line.len() < part.len() {
                if core::mem::replace(&mut self.is_begun, false) {
                    self.style.end(self.out)?;
                }
                self.out.write_char('\n')?;
            }
        }
        Ok(())
    }
}

/// A piece of text in its colour.
pub(super) struct Painted<T> {
    style: Style,
    ink: Ink,
    text: T,
}

impl<T: Display> Display for Painted<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.style.begin(self.ink, f)?;
        write!(f, "{}", self.text)?;
        self.style.end(f)
    }
}
