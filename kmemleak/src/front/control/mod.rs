//! The text interface of the detector: commands and boot parameters.

mod commands;
mod complete;
mod help;
mod listed;
mod options;
pub(crate) mod parameters;
mod syntax;
mod undone;
mod values;
mod wording;

use core::fmt::Write;
use core::marker::PhantomData;

use self::syntax::parse;
use crate::checker::handle::Handle;
use crate::front::outcome::Answered;
use crate::platform::Platform;

/// The table of commands of a handle.
struct Commands<P>(PhantomData<P>);

/// Runs the command in a line of text and writes the answer.
pub(super) fn command<P: Platform>(
    handle: Handle<'_, P>,
    line: &str,
    out: &mut dyn Write,
) -> Answered {
    let commands = &Commands::<P>::TABLE;
    match parse(commands, line) {
        Ok(line) => line.run(handle, out),
        Err(wrong) => wrong.write(commands, out),
    }
}

/// Offers the words that can stand at the end of the line of a command.
pub(super) fn complete<P: Platform>(
    handle: Handle<'_, P>,
    line: &str,
    offer: &mut dyn FnMut(&str),
) {
    complete::complete(&Commands::<P>::TABLE, handle, line, offer);
}
