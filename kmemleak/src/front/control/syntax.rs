//! What a command takes, and how a line of text becomes one.
//!
//! A command may have several forms, which differ in their argument. What a line says is held against the form that its
//! argument makes, so that an answer to what is wrong names what is wrong.

use core::fmt::{self, Write};

use self::Argument::{Nothing, Optional, Required, Rest, Set};
use crate::checker::claim::NotDone;
use crate::front::detector::Detector;
use crate::front::report::{Format, Typed, complain};
use crate::metadata::hidden::Hidden;
use crate::platform::Platform;
use crate::verdict::order::Which;
use crate::verdict::suppress;

/// Does what a line says, and writes the answer. An error where it is not done, and nothing is written.
pub(super) type Run<P> =
    fn(&Detector<P>, &Given<'_>, &mut dyn Write) -> Result<fmt::Result, NotDone>;

/// What a line says beside the command's name.
pub(super) struct Given<'l> {
    pub(super) value: Option<&'l str>,
    pub(super) which: Which,
    pub(super) format: Format,
}

/// A form of a command.
pub(super) struct Command<P: Platform> {
    name: &'static str,
    argument: Argument,
    /// Whether it takes `--all`.
    all: bool,
    /// Whether it takes `--json`.
    json: bool,
    what: &'static str,
    /// Whether it does something once the detector is off.
    after_off: bool,
    run: Run<P>,
}

/// What follows a command's name, and what that is called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Argument {
    Nothing,
    Optional(Value),
    Required(Value),
    /// The rest of the line, blanks and all, unless there are flags in it: names of functions have blanks.
    Rest(Value),
    /// With an equals sign between.
    Set(Value),
}

/// What an argument is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    Number,
    Address,
    Pattern,
    /// A pattern, perhaps with a ceiling.
    Suppression,
    Switch,
    Seconds,
}

impl Value {
    /// What it is called.
    const fn name(self) -> &'static str {
        match self {
            Self::Number => "N",
            Self::Address => "ADDR",
            Self::Pattern => "PATTERN",
            Self::Suppression => "PATTERN[:max=N]",
            Self::Switch => "on|off",
            Self::Seconds => "SECS",
        }
    }

    /// Whether this text is one.
    fn takes(self, text: &str) -> bool {
        match self {
            Self::Number => text.parse::<usize>().is_ok(),
            Self::Address => parse_hidden(text).is_some(),
            Self::Pattern => true,
            Self::Suppression => suppress::is_one(text),
            Self::Switch => switch(text).is_some(),
            Self::Seconds => text.parse::<u64>().is_ok(),
        }
    }
}

impl Argument {
    fn takes(self, text: &str) -> bool {
        match self {
            Nothing => false,
            Optional(value) | Required(value) | Rest(value) | Set(value) => value.takes(text),
        }
    }
}

impl<P: Platform> Command<P> {
    pub(super) const fn new(
        name: &'static str,
        argument: Argument,
        what: &'static str,
        run: Run<P>,
    ) -> Self {
        Self {
            name,
            argument,
            all: false,
            json: false,
            what,
            after_off: false,
            run,
        }
    }

    pub(super) const fn all(self) -> Self {
        Self { all: true, ..self }
    }

    pub(super) const fn json(self) -> Self {
        Self { json: true, ..self }
    }

    pub(super) const fn after_off(self) -> Self {
        Self {
            after_off: true,
            ..self
        }
    }

    fn suits(&self, value: Option<&str>) -> bool {
        match self.argument {
            Nothing => value.is_none(),
            Optional(_) => true,
            Required(_) | Rest(_) | Set(_) => value.is_some(),
        }
    }

    fn write(&self, out: &mut dyn Write) -> fmt::Result {
        const WIDTH: usize = 25;
        let mut form = Form { out, len: 0 };
        write!(form, "  {}", self.name)?;
        match self.argument {
            Nothing => {}
            Optional(value) => write!(form, " [{}]", value.name())?,
            Required(value) | Rest(value) => write!(form, " {}", value.name())?,
            Set(value) => write!(form, "={}", value.name())?,
        }
        if self.all {
            write!(form, " [--all]")?;
        }
        if self.json {
            write!(form, " [--json]")?;
        }
        let rest = (WIDTH + 3).saturating_sub(form.len).max(1);
        writeln!(out, "{:rest$}{}", "", self.what)
    }
}

/// Counts what is written.
struct Form<'a> {
    out: &'a mut dyn Write,
    len: usize,
}

impl Write for Form<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.len += text.len();
        self.out.write_str(text)
    }
}

/// A line that makes a command.
pub(super) struct Line<'l, P: Platform> {
    command: &'l Command<P>,
    given: Given<'l>,
}

impl<P: Platform> Line<'_, P> {
    /// Whether the argument is such a one as the command takes. What is wrong with it the command says.
    pub(super) fn is_taken(&self, commands: &[Command<P>]) -> bool {
        let Some(value) = self.given.value else {
            return true;
        };
        let mut named = commands
            .iter()
            .filter(|command| command.name == self.command.name);
        named.any(|command| command.argument.takes(value))
    }

    /// Does it.
    pub(super) fn run(&self, detector: &Detector<P>, out: &mut dyn Write) -> fmt::Result {
        let done = if detector.is_on() || self.command.after_off {
            (self.command.run)(detector, &self.given, out)
        } else {
            Err(NotDone::Off)
        };
        match done {
            Ok(written) => written,
            Err(why) => complain(self.given.format, &why, out),
        }
    }
}

/// A line that doesn't.
pub(super) enum Wrong<'l> {
    /// There is no such command.
    Word(&'l str),
    /// The command has no form with this argument, or without one.
    Value {
        name: &'static str,
        value: Option<&'l str>,
        format: Format,
    },
    /// It takes no such thing.
    Extra {
        name: &'static str,
        word: &'l str,
        format: Format,
    },
}

/// Makes a command of a line.
pub(super) fn parse<'l, P: Platform>(
    commands: &'l [Command<P>],
    line: &'l str,
) -> Result<Line<'l, P>, Wrong<'l>> {
    let mut words = line.split_whitespace();
    let first = words.next().unwrap_or("help");
    let (word, set) = match first.split_once('=') {
        Some((word, value)) => (word, Some(value)),
        None => (first, None),
    };
    let named = || commands.iter().filter(|command| command.name == word);
    let name = named().next().ok_or(Wrong::Word(first))?.name;
    let (mut value, mut all, mut format) = (set, false, Format::Text);
    let mut extra = None;
    let takes_rest = named().any(|command| matches!(command.argument, Rest(_)));
    let rest = line.trim().strip_prefix(name).unwrap_or_default();
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim();
    if takes_rest && !rest.is_empty() && !words.clone().any(|word| word.starts_with("--")) {
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
    let Some(command) = named().find(|command| command.suits(value)) else {
        return Err(Wrong::Value {
            name,
            value,
            format,
        });
    };
    let extra = extra
        .or((all && !command.all).then_some("--all"))
        .or((format == Format::Json && !command.json).then_some("--json"));
    if let Some(word) = extra {
        return Err(Wrong::Extra { name, word, format });
    }
    let which = if all { Which::All } else { Which::Leaders };
    Ok(Line {
        command,
        given: Given {
            value,
            which,
            format,
        },
    })
}

impl Wrong<'_> {
    pub(super) fn write<P: Platform>(
        &self,
        commands: &[Command<P>],
        out: &mut dyn Write,
    ) -> fmt::Result {
        match *self {
            Wrong::Word(word) => {
                let names = commands.iter().map(|command| command.name);
                let nearest = names.min_by_key(|name| distance(word, name));
                write!(out, "kmemleak: unknown word \"{}\"", Typed(word))?;
                if let Some(nearest) = nearest.filter(|name| distance(word, name) <= 2) {
                    write!(out, "; did you mean \"{nearest}\"?")?;
                }
                writeln!(out)?;
                list(commands, out)
            }
            Wrong::Value {
                name,
                value,
                format: Format::Json,
            } => match value {
                Some(value) => complain(
                    Format::Json,
                    &format_args!("{name} takes no \"{value}\""),
                    out,
                ),
                None => complain(Format::Json, &format_args!("{name} takes an argument"), out),
            },
            Wrong::Value { name, value, .. } => {
                match value {
                    Some(value) => {
                        writeln!(out, "kmemleak: {name} takes no \"{}\":", Typed(value))?;
                    }
                    None => writeln!(out, "kmemleak: {name} takes an argument:")?,
                }
                let mut named = commands.iter().filter(|command| command.name == name);
                named.try_for_each(|command| command.write(out))
            }
            Wrong::Extra { name, word, format } => {
                complain(format, &format_args!("{name} takes no \"{word}\""), out)
            }
        }
    }
}

/// Writes what commands there are.
pub(super) fn list<P: Platform>(commands: &[Command<P>], out: &mut dyn Write) -> fmt::Result {
    commands.iter().try_for_each(|command| command.write(out))
}

/// How many letters must be changed, added or taken away to make one word of the other (Levenshtein),
/// counted for words of up to 15 letters.
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

/// A number, in hexadecimal whether or not it begins with `0x`: inverted from the first digit on, for a word that
/// holds the address would be one that points there.
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
