//! How a line of text becomes a command.
//!
//! The type of the function that runs a command says what the command takes ([`Action`]): the function gets a value of the right
//! kind, or is not called. A command may have several forms, which differ in their argument; an error in a line is explained for
//! all forms that the line may mean.

use core::fmt::{self, Display, Formatter, Write};

use self::Action::{Address, Alone, Number, Pattern, Seconds, Suppression, Switch};
use crate::checker::claim::NotDone;
use crate::checker::handle::Handle;
use crate::front::report::{Format, Typed, complain};
use crate::metadata::hidden::Hidden;
use crate::platform::Platform;
use crate::verdict::order::Which;
use crate::verdict::suppress;

/// Whether the command was done; if so, whether the answer could be written.
pub(super) type Done = Result<fmt::Result, NotDone>;

/// What a command works with: the detector, its flags, and where the answer goes.
pub(super) struct Call<'c, P: Platform> {
    pub(super) handle: Handle<'c, P>,
    pub(super) which: Which,
    pub(super) format: Format,
    pub(super) out: &'c mut dyn Write,
}

/// What a command does, which also says what it takes.
pub(super) enum Action<P: Platform> {
    Alone(fn(Call<'_, P>) -> Done),
    /// A number, or none.
    Number(fn(Call<'_, P>, Option<usize>) -> Done),
    Address(fn(Call<'_, P>, Hidden) -> Done),
    /// The rest of the line with its blanks, unless there are flags in it: names of functions have blanks.
    Pattern(fn(Call<'_, P>, &str) -> Done),
    /// A pattern, perhaps with a ceiling: the rest of the line with its blanks.
    Suppression(fn(Call<'_, P>, &str) -> Done),
    /// `on` or `off`, after an equals sign; `Seconds` has one, too.
    Switch(fn(Call<'_, P>, bool) -> Done),
    Seconds(fn(Call<'_, P>, u64) -> Done),
}

impl<P: Platform> Action<P> {
    /// How the argument is written in a list of commands.
    const fn form(&self) -> &'static str {
        match self {
            Alone(_) => "",
            Number(_) => " [N]",
            Address(_) => " ADDR",
            Pattern(_) => " PATTERN",
            Suppression(_) => " PATTERN[:max=N]",
            Switch(_) => "=on|off",
            Seconds(_) => "=SECS",
        }
    }

    /// What it expects, one of these.
    const fn expects(&self) -> &'static [&'static str] {
        match self {
            Alone(_) => &[],
            Number(_) => &["a number"],
            Address(_) => &["an address in hexadecimal"],
            Pattern(_) => &["a pattern"],
            Suppression(_) => &["PATTERN", "PATTERN:max=N"],
            Switch(_) => &["on", "off"],
            Seconds(_) => &["a number of seconds"],
        }
    }

    const fn takes_rest(&self) -> bool {
        matches!(self, Pattern(_) | Suppression(_))
    }

    /// Whether a line with this value, or without one, may mean this form.
    fn suits(&self, value: Option<&str>) -> bool {
        match self {
            Alone(_) => value.is_none(),
            Number(_) => true,
            _ => value.is_some(),
        }
    }

    /// The action with its value; `None` if it does not take that value.
    fn bind<'l>(&self, value: Option<&'l str>) -> Option<Bound<'l, P>> {
        Some(match (self, value) {
            (Alone(run), None) => Bound::Alone(*run),
            (Number(run), value) => Bound::Number(*run, value.map(str::parse).transpose().ok()?),
            (Address(run), Some(value)) => Bound::Address(*run, parse_hidden(value)?),
            (Pattern(run), Some(value)) => Bound::Text(*run, value),
            (Suppression(run), Some(value)) if suppress::is_one(value) => Bound::Text(*run, value),
            (Switch(run), Some(value)) => Bound::Switch(*run, switch(value)?),
            (Seconds(run), Some(value)) => Bound::Seconds(*run, value.parse().ok()?),
            _ => return None,
        })
    }
}

/// What a command does, and with what.
enum Bound<'l, P: Platform> {
    Alone(fn(Call<'_, P>) -> Done),
    Number(fn(Call<'_, P>, Option<usize>) -> Done, Option<usize>),
    Address(fn(Call<'_, P>, Hidden) -> Done, Hidden),
    Text(fn(Call<'_, P>, &str) -> Done, &'l str),
    Switch(fn(Call<'_, P>, bool) -> Done, bool),
    Seconds(fn(Call<'_, P>, u64) -> Done, u64),
}

impl<P: Platform> Bound<'_, P> {
    fn run(&self, call: Call<'_, P>) -> Done {
        match *self {
            Bound::Alone(run) => run(call),
            Bound::Number(run, number) => run(call, number),
            Bound::Address(run, address) => run(call, address),
            Bound::Text(run, text) => run(call, text),
            Bound::Switch(run, on) => run(call, on),
            Bound::Seconds(run, seconds) => run(call, seconds),
        }
    }
}

/// A form of a command.
pub(super) struct Command<P: Platform> {
    name: &'static str,
    action: Action<P>,
    what: &'static str,
    /// Whether it takes `--all`.
    all: bool,
    /// Whether it takes `--json`.
    json: bool,
    /// Whether it can be used once the detector is off.
    after_off: bool,
}

impl<P: Platform> Command<P> {
    pub(super) const fn new(name: &'static str, action: Action<P>, what: &'static str) -> Self {
        Self {
            name,
            action,
            what,
            all: false,
            json: false,
            after_off: false,
        }
    }

    pub(super) const fn all(mut self) -> Self {
        self.all = true;
        self
    }

    pub(super) const fn json(mut self) -> Self {
        self.json = true;
        self
    }

    pub(super) const fn after_off(mut self) -> Self {
        self.after_off = true;
        self
    }
}

impl<P: Platform> Display for Command<P> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const WIDTH: usize = 25;
        let form = [
            self.name,
            self.action.form(),
            if self.all { " [--all]" } else { "" },
            if self.json { " [--json]" } else { "" },
        ];
        let len: usize = form.iter().map(|part| part.len()).sum();
        f.write_str("  ")?;
        form.iter().try_for_each(|part| f.write_str(part))?;
        let rest = (WIDTH + 1).saturating_sub(len).max(1);
        writeln!(f, "{:rest$}{}", "", self.what)
    }
}

/// A line that is a valid command.
pub(super) struct Line<'l, P: Platform> {
    bound: Bound<'l, P>,
    after_off: bool,
    which: Which,
    format: Format,
}

impl<P: Platform> Line<'_, P> {
    pub(super) fn run(&self, handle: Handle<'_, P>, out: &mut dyn Write) -> fmt::Result {
        let call = Call {
            handle,
            which: self.which,
            format: self.format,
            out: &mut *out,
        };
        let done = match handle.tracker.is_on() || self.after_off {
            true => self.bound.run(call),
            false => Err(NotDone::Off),
        };
        match done {
            Ok(written) => written,
            Err(why) => complain(self.format, &why, out),
        }
    }
}

/// A line that is not.
pub(super) struct Wrong<'l> {
    /// The name of the command, or the unknown word.
    name: &'l str,
    what: WhatIsWrong<'l>,
    format: Format,
}

enum WhatIsWrong<'l> {
    NoCommand,
    Missing,
    Invalid(&'l str),
    Unexpected(&'l str),
}

/// Parses a line.
pub(super) fn parse<'l, P: Platform>(
    commands: &'l [Command<P>],
    line: &'l str,
) -> Result<Line<'l, P>, Wrong<'l>> {
    let mut words = line.split_whitespace();
    let first = words.next().unwrap_or("help");
    let (name, set) = match first.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (first, None),
    };
    let named = || commands.iter().filter(|command| command.name == name);
    if named().next().is_none() {
        return Err(Wrong {
            name: first,
            what: WhatIsWrong::NoCommand,
            format: Format::Text,
        });
    }
    let (mut value, mut all, mut format, mut extra) = (set, false, Format::Text, None);
    let rest = line.trim().strip_prefix(name).unwrap_or_default();
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim();
    let has_flags = words.clone().any(|word| word.starts_with("--"));
    if named().any(|command| command.action.takes_rest()) && !rest.is_empty() && !has_flags {
        value = Some(rest);
        words = "".split_whitespace();
    }
    for word in words {
        match word {
            "--all" => all = true,
            "--json" => format = Format::Json,
            _ if value.is_none() && !word.starts_with("--") => value = Some(word),
            _ => extra = extra.or(Some(word)),
        }
    }
    let wrong = |what| Wrong { name, what, format };
    let suiting = || named().filter(|command| command.action.suits(value));
    let taken = suiting().find_map(|command| Some((command, command.action.bind(value)?)));
    let nearest = taken.as_ref().map(|(command, _)| *command);
    let Some(command) = nearest.or(suiting().next()) else {
        return Err(wrong(match value {
            Some(value) => WhatIsWrong::Unexpected(value),
            None => WhatIsWrong::Missing,
        }));
    };
    let extra = extra
        .or((all && !command.all).then_some("--all"))
        .or((format == Format::Json && !command.json).then_some("--json"));
    if let Some(word) = extra {
        return Err(wrong(WhatIsWrong::Unexpected(word)));
    }
    let Some((_, bound)) = taken else {
        return Err(wrong(WhatIsWrong::Invalid(value.unwrap_or_default())));
    };
    Ok(Line {
        bound,
        after_off: command.after_off,
        which: if all { Which::All } else { Which::Leaders },
        format,
    })
}

impl Wrong<'_> {
    pub(super) fn write<P: Platform>(
        &self,
        commands: &[Command<P>],
        out: &mut dyn Write,
    ) -> fmt::Result {
        let (name, format) = (self.name, self.format);
        let expected = Expected { commands, name };
        match self.what {
            WhatIsWrong::NoCommand => {
                let names = commands.iter().map(|command| command.name);
                let nearest = names.min_by_key(|near| distance(name, near));
                write!(out, "kmemleak: unknown command `{}`", Typed(name))?;
                if let Some(nearest) = nearest.filter(|near| distance(name, near) <= 2) {
                    write!(out, "; did you mean `{nearest}`?")?;
                }
                writeln!(out)?;
                commands
                    .iter()
                    .try_for_each(|command| write!(out, "{command}"))
            }
            WhatIsWrong::Missing => complain(
                format,
                &format_args!("{name}: missing argument: expected {expected}"),
                out,
            ),
            WhatIsWrong::Invalid(value) => complain(
                format,
                &format_args!("{name}: invalid value `{value}`: expected {expected}"),
                out,
            ),
            WhatIsWrong::Unexpected(word) => complain(
                format,
                &format_args!("{name}: unexpected argument `{word}`"),
                out,
            ),
        }
    }
}

/// The arguments that the forms of a command take.
struct Expected<'c, P: Platform> {
    commands: &'c [Command<P>],
    name: &'c str,
}

impl<P: Platform> Display for Expected<'_, P> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let named = (self.commands.iter()).filter(|command| command.name == self.name);
        let all = named.flat_map(|command| command.action.expects());
        let count = all.clone().count();
        for (place, one) in all.enumerate() {
            let before = match place {
                0 => "",
                _ if place + 1 == count => " or ",
                _ => ", ",
            };
            write!(f, "{before}{one}")?;
        }
        Ok(())
    }
}

/// How many letters must be changed, added or taken away to turn one word into the other (Levenshtein), counted for words of up
/// to 15 letters.
fn distance(one: &str, other: &str) -> usize {
    const MAX: usize = 15;
    let other = &other.as_bytes()[..other.len().min(MAX)];
    let mut row: [usize; MAX + 1] = core::array::from_fn(|at| at);
    for (line, letter) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, &wanted) in other.iter().enumerate() {
            let change = diagonal + usize::from(wanted != letter);
            diagonal = row[column + 1];
            row[column + 1] = change.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

/// A switch.
pub(super) fn switch(value: &str) -> Option<bool> {
    match value {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

/// A number, in hexadecimal whether or not it begins with `0x`. It is kept inverted from the first digit on, since a word that
/// holds the address would be a pointer to it.
pub(super) fn parse_hidden(text: &str) -> Option<Hidden> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    let mut inverted = usize::MAX;
    for digit in digits.chars() {
        let digit = digit.to_digit(16)? as usize;
        inverted = inverted << 4 | (0xf - digit);
    }
    Some(Hidden::from_bits(inverted as u64))
}
