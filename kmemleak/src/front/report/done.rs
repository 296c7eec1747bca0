//! The answers of commands that change something.

use core::fmt::{self, Display, Write};

use super::json::{begin, slot_json, string};
use super::{Format, Question};
use crate::checker::references::Slot;
use crate::platform::Platform;
use crate::tracker::Tracker;

/// Says what a command has done.
pub(in crate::front) fn write_done(
    format: Format,
    command: &str,
    what: &dyn Display,
    out: &mut dyn Write,
) -> fmt::Result {
    match format {
        Format::Text => writeln!(out, "kmemleak: {what}"),
        Format::Json => {
            begin("done", out)?;
            write!(out, ",\"command\":\"{command}\",\"text\":")?;
            string(what, out)?;
            writeln!(out, "}}")
        }
    }
}

/// Writes the result of a self-test as JSON, with the word that holds a planted leak, if that was found, and what to do.
pub(in crate::front) fn write_selftest_json<P: Platform>(
    tracker: &Tracker<P>,
    outcome: &str,
    what: &dyn Display,
    advice: Option<(Option<Slot>, &str)>,
    out: &mut dyn Write,
) -> fmt::Result {
    if let Some((Some(slot), _)) = advice {
        slot_json(tracker, Question::Path, slot, out)?;
    }
    begin("selftest", out)?;
    write!(out, ",\"outcome\":\"{outcome}\",\"text\":")?;
    string(what, out)?;
    write!(out, ",\"advice\":")?;
    match advice {
        Some((_, advice)) => string(&advice, out)?,
        None => write!(out, "null")?,
    }
    writeln!(out, "}}")
}
