//! What can be typed next: the names, options and values of the table that lines are parsed by.

use core::fmt::{self, Write};

use super::options::CommandOption;
use super::syntax::Action::{
    Address, CallSite, Listed, Pattern, Stacks, Suppression, Switch, Word,
};
use super::syntax::Command;
use crate::checker::handle::Handle;
use crate::platform::Platform;
use crate::verdict::iter::Rank;

/// Bytes of the longest word that is offered.
const WORD_LEN: usize = 256;

/// The most addresses, and the most handles, that are offered.
const MOST: usize = 20;

/// Offers the words that can stand at the end of a line, which is what was typed up to the cursor. They may be offered more than
/// once, and do not all begin with what was typed of the last word.
pub(super) fn complete<P: Platform>(
    commands: &[Command<P>],
    handle: Handle<'_, P>,
    line: &str,
    offer: &mut dyn FnMut(&str),
) {
    let (before, last) = match line.rfind(char::is_whitespace) {
        Some(blank) => (&line[..blank], line[blank..].trim_start()),
        None => ("", line),
    };
    let Some(name) = before.split_whitespace().next() else {
        return commands
            .iter()
            .for_each(|command| offer_command(command, offer));
    };
    let forms = || commands.iter().filter(|command| command.name == name);
    let previous = before.split_whitespace().next_back();
    if let Some(option) = option_named(previous).filter(|option| option.has_value()) {
        return option.words().iter().for_each(|word| offer(word));
    }
    if let Some((option, _)) = last.split_once('=') {
        return offer_assigned(option, offer);
    }
    for command in forms() {
        let given = |option: CommandOption| before.split_whitespace().any(|word| option.is(word));
        let options = command.takes.iter().filter(|option| !given(**option));
        options.for_each(|option| offer(option.name()));
        if before.split_whitespace().count() == 1 {
            match command.action {
                Word(_) => commands.iter().for_each(|command| offer(command.name)),
                _ => offer_values(command, handle, offer),
            }
        }
    }
}

fn option_named(word: Option<&str>) -> Option<CommandOption> {
    let mut all = CommandOption::EACH.into_iter();
    all.find(|option| Some(option.name()) == word)
}

fn offer_command<P: Platform>(command: &Command<P>, offer: &mut dyn FnMut(&str)) {
    match command.action {
        Switch(_) | Stacks(_) => offer_switch(command.name, offer),
        _ => offer(command.name),
    }
}

/// The values of a switch.
const SWITCH: [&str; 2] = ["on", "off"];
/// The values that say of which allocations call stacks are taken; the number of bytes is one that suits most kernels.
const STACKS: [&str; 3] = ["on", "off", "sample:524288"];

fn offer_switch(name: &str, offer: &mut dyn FnMut(&str)) {
    for value in SWITCH {
        offer_text(format_args!("{name}={value}"), offer);
    }
}

/// The values of an option that stand behind its equals sign.
fn offer_assigned(option: &str, offer: &mut dyn FnMut(&str)) {
    let words = option_named(Some(option)).map_or(&[][..], CommandOption::words);
    for word in words {
        offer_text(format_args!("{option}={word}"), offer);
    }
}

/// The arguments of the command that are known.
fn offer_values<P: Platform>(
    command: &Command<P>,
    handle: Handle<'_, P>,
    offer: &mut dyn FnMut(&str),
) {
    match command.action {
        Address(_) => {
            offer_handles(handle, offer);
            offer_addresses(handle, offer);
        }
        Listed(_) | CallSite(_) | Suppression(_) => offer_handles(handle, offer),
        Pattern(_) => offer_patterns(handle, offer),
        Switch(_) => SWITCH.into_iter().for_each(offer),
        Stacks(_) => STACKS.into_iter().for_each(offer),
        _ => {}
    }
}

/// The numbers that were given to what was listed; none while a check runs.
fn offer_handles<P: Platform>(handle: Handle<'_, P>, offer: &mut dyn FnMut(&str)) {
    let given = handle.try_claim().map_or(0, |claim| claim.handles_given());
    for number in 1..=given.min(MOST) {
        offer_text(format_args!("#{number}"), offer);
    }
}

/// The leaders of the last verdict. None while a check runs: completion does not wait for it.
fn offer_addresses<P: Platform>(handle: Handle<'_, P>, offer: &mut dyn FnMut(&str)) {
    let Some(claim) = handle.try_claim() else {
        return;
    };
    let mut left = MOST;
    // Where there is no verdict there is nothing to offer.
    let _ = claim.show_unreferenced(&mut |leak| {
        if left > 0 && !matches!(leak.rank, Some(Rank::Owned { .. })) {
            left -= 1;
            offer_text(format_args!("0x{:016x}", leak.start), offer);
        }
    });
}

/// The suppressions that there are.
fn offer_patterns<P: Platform>(handle: Handle<'_, P>, offer: &mut dyn FnMut(&str)) {
    let Some(mut claim) = handle.try_claim() else {
        return;
    };
    // It fails where the detector cannot be asked; then nothing is offered.
    let _ = claim.show_suppressions(&mut |suppression| {
        offer_text(format_args!("{}", suppression.pattern), offer);
    });
}

fn offer_text(text: fmt::Arguments<'_>, offer: &mut dyn FnMut(&str)) {
    let mut whole = OfferedWord {
        bytes: [0; WORD_LEN],
        len: 0,
    };
    // What has no room is not offered.
    if whole.write_fmt(text).is_ok()
        && let Ok(word) = core::str::from_utf8(&whole.bytes[..whole.len])
    {
        offer(word);
    }
}

/// A word as it is put together.
struct OfferedWord {
    bytes: [u8; WORD_LEN],
    len: usize,
}

impl Write for OfferedWord {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes[self.len..].get_mut(..text.len());
        room.ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}
