//! The words by which people speak to the detector: commands and boot parameters.

mod commands;
pub(crate) mod parameters;
mod status;
mod syntax;

use core::fmt::{self, Write};
use core::marker::PhantomData;

use self::syntax::{Given, Wrong, parse};
use crate::front::detector::Detector;
use crate::platform::Platform;

/// The table of commands of a detector.
struct Commands<P>(PhantomData<P>);

/// Whether a line of text is a command with the arguments that it takes, or nothing.
pub(super) fn understands<P: Platform>(line: &str) -> bool {
    let commands = &Commands::<P>::TABLE;
    parse(commands, line).is_ok_and(|line| line.is_taken(commands))
}

/// Does what a line of text says and writes the answer.
pub(super) fn command<P: Platform>(
    detector: &Detector<P>,
    line: &str,
    out: &mut dyn Write,
) -> fmt::Result {
    let commands = &Commands::<P>::TABLE;
    match parse(commands, line) {
        Ok(line) => line.run(detector, out),
        Err(wrong) => wrong.write(commands, out),
    }
}

/// Says that a command takes no such value, and what it takes.
fn refuse<P: Platform>(name: &'static str, given: &Given<'_>, out: &mut dyn Write) -> fmt::Result {
    let wrong = Wrong::Value {
        name,
        value: given.value,
        format: given.format,
    };
    wrong.write(&Commands::<P>::TABLE, out)
}
