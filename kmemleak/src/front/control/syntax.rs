//! How a line of text becomes a command.
//!
//! The type of the function that runs a command says what the command takes ([`Action`]): the function gets a value of the right
//! kind, or is not called. A command may have several forms, which differ in their argument; an error in a line is explained for
//! all forms that the line may mean. The [options](super::options) that a form takes are listed in the table.

use core::fmt::{self, Display, Formatter, Write};

use self::Action::{
    Address, Alone, CallSite, Listed, Milliseconds, Number, Pattern, Seconds, Stacks, Suppression,
    Switch, Word,
};
use super::options::{self, CommandOption, Given, Options};
use super::undone::{Done, Undone};
use super::values::{LISTED, SiteName, handle, site_name, stacks, switch, topic};
use super::wording::{distance, write_one_of};
use crate::checker::claim::{Claim, Nested, NotDone};
use crate::checker::handle::Handle;
use crate::checker::numbers::Topic;
use crate::front::outcome::{Answered, CommandError};
use crate::front::report::{Because, Format, complain, refuse};
use crate::platform::Platform;
use crate::tracker::sampling::StacksTaken;
use crate::verdict::handles::ShortHandle;
use crate::verdict::suppress;

/// What a command works with: the detector, its options, and where the answer goes.
pub(super) struct Call<'c, P: Platform> {
    pub(super) handle: Handle<'c, P>,
    pub(super) options: Options,
    pub(super) out: &'c mut dyn Write,
}

impl<'c, P: Platform> Call<'c, P> {
    /// Takes the claim, for an answer with the colours that were asked for.
    pub(super) fn claim(&self) -> Result<Claim<'c, P>, Nested> {
        let claim = self.handle.claim()?;
        claim.set_colours(self.options.color);
        Ok(claim)
    }

    /// Takes the claim of a detector that is on, for an answer with the colours that were asked for.
    pub(super) fn claim_on(&self) -> Result<Claim<'c, P>, NotDone> {
        let claim = self.handle.claim_on()?;
        claim.set_colours(self.options.color);
        Ok(claim)
    }
}

/// What a command does, which also says what it takes.
pub(super) enum Action<P: Platform> {
    Alone(fn(Call<'_, P>) -> Done),
    /// The name of a command, or none.
    Word(fn(Call<'_, P>, Option<&str>) -> Done),
    /// A number, or none.
    Number(fn(Call<'_, P>, Option<usize>) -> Done),
    /// An address, or the handle of something that was listed.
    Address(fn(Call<'_, P>, Topic) -> Done),
    /// The handle of something that was listed.
    Listed(fn(Call<'_, P>, ShortHandle) -> Done),
    /// A call site, by the checksum of its call stack or by a handle.
    CallSite(fn(Call<'_, P>, SiteName) -> Done),
    /// The rest of the line with its blanks, unless there are options in it: names of functions have blanks.
    Pattern(fn(Call<'_, P>, &str) -> Done),
    /// A pattern, perhaps with a ceiling: the rest of the line with its blanks.
    Suppression(fn(Call<'_, P>, &str) -> Done),
    /// `on` or `off`, after an equals sign; the next two have one, too.
    Switch(fn(Call<'_, P>, bool) -> Done),
    Seconds(fn(Call<'_, P>, u64) -> Done),
    Milliseconds(fn(Call<'_, P>, u64) -> Done),
    /// `on`, `off`, or a sample.
    Stacks(fn(Call<'_, P>, StacksTaken) -> Done),
}

impl<P: Platform> Action<P> {
    /// How the argument is written in a list of commands.
    const fn form(&self) -> &'static str {
        match self {
            Alone(_) => "",
            Word(_) => " [COMMAND]",
            Number(_) => " [N]",
            Address(_) => " ADDR|#N",
            Listed(_) => " #N",
            CallSite(_) => " CRC|#N",
            Pattern(_) => " PATTERN",
            Suppression(_) => " PATTERN|#N[:max=N]",
            Switch(_) => "=on|off",
            Seconds(_) => "=SECS",
            Milliseconds(_) => "=MS",
            Stacks(_) => "=on|off|sample:BYTES",
        }
    }

    /// What it expects, one of these.
    const fn expects(&self) -> &'static [&'static str] {
        match self {
            Alone(_) => &[],
            Word(_) => &["a command"],
            Number(_) => &["a number"],
            Address(_) => &["an address in hexadecimal", LISTED],
            Listed(_) => &[LISTED],
            CallSite(_) => &[options::CHECKSUM, LISTED],
            Pattern(_) => &["a pattern"],
            Suppression(_) => &["PATTERN", "PATTERN:max=N", LISTED],
            Switch(_) => &["on", "off"],
            Seconds(_) => &["a number of seconds"],
            Milliseconds(_) => &["a number of milliseconds"],
            Stacks(_) => &["on", "off", "sample:BYTES"],
        }
    }

    const fn takes_rest(&self) -> bool {
        matches!(self, Pattern(_) | Suppression(_))
    }

    /// Whether a line with this value, or without one, may mean this form.
    fn suits(&self, value: Option<&str>) -> bool {
        match self {
            Alone(_) => value.is_none(),
            Number(_) | Word(_) => true,
            _ => value.is_some(),
        }
    }

    /// The action with its value; `None` if it does not take that value.
    fn bind<'l>(&self, value: Option<&'l str>) -> Option<Bound<'l, P>> {
        Some(match (self, value) {
            (Alone(run), None) => Bound::Alone(*run),
            (Word(run), value) => Bound::Word(*run, value),
            (Number(run), value) => Bound::Number(*run, value.map(str::parse).transpose().ok()?),
            (Address(run), Some(value)) => Bound::Address(*run, topic(value)?),
            (Listed(run), Some(value)) => Bound::Listed(*run, handle(value)?),
            (CallSite(run), Some(value)) => Bound::CallSite(*run, site_name(value)?),
            (Pattern(run), Some(value)) => Bound::Text(*run, value),
            (Suppression(run), Some(value)) if suppress::is_one(value) => Bound::Text(*run, value),
            (Switch(run), Some(value)) => Bound::Switch(*run, switch(value)?),
            (Seconds(run) | Milliseconds(run), Some(time)) => Bound::Time(*run, time.parse().ok()?),
            (Stacks(run), Some(value)) => Bound::Stacks(*run, stacks(value)?),
            _ => return None,
        })
    }
}

/// What a command does, and with what.
enum Bound<'l, P: Platform> {
    Alone(fn(Call<'_, P>) -> Done),
    Word(fn(Call<'_, P>, Option<&str>) -> Done, Option<&'l str>),
    Number(fn(Call<'_, P>, Option<usize>) -> Done, Option<usize>),
    Address(fn(Call<'_, P>, Topic) -> Done, Topic),
    Listed(fn(Call<'_, P>, ShortHandle) -> Done, ShortHandle),
    CallSite(fn(Call<'_, P>, SiteName) -> Done, SiteName),
    Text(fn(Call<'_, P>, &str) -> Done, &'l str),
    Switch(fn(Call<'_, P>, bool) -> Done, bool),
    Time(fn(Call<'_, P>, u64) -> Done, u64),
    Stacks(fn(Call<'_, P>, StacksTaken) -> Done, StacksTaken),
}

impl<P: Platform> Bound<'_, P> {
    fn run(&self, call: Call<'_, P>) -> Done {
        match *self {
            Bound::Alone(run) => run(call),
            Bound::Word(run, word) => run(call, word),
            Bound::Number(run, number) => run(call, number),
            Bound::Address(run, topic) => run(call, topic),
            Bound::Listed(run, handle) => run(call, handle),
            Bound::CallSite(run, name) => run(call, name),
            Bound::Text(run, text) => run(call, text),
            Bound::Switch(run, on) => run(call, on),
            Bound::Time(run, time) => run(call, time),
            Bound::Stacks(run, stacks) => run(call, stacks),
        }
    }
}

/// A form of a command.
pub(super) struct Command<P: Platform> {
    pub(super) name: &'static str,
    pub(super) action: Action<P>,
    what: &'static str,
    /// The options that it takes.
    pub(super) takes: &'static [CommandOption],
    /// Those of them that exclude each other.
    one_of: &'static [CommandOption],
    /// Whether it can be used once the detector is off.
    after_off: bool,
}

impl<P: Platform> Command<P> {
    pub(super) const fn new(name: &'static str, action: Action<P>, what: &'static str) -> Self {
        Self {
            name,
            action,
            what,
            takes: &[],
            one_of: &[],
            after_off: false,
        }
    }

    pub(super) const fn takes(mut self, options: &'static [CommandOption]) -> Self {
        self.takes = options;
        self
    }

    pub(super) const fn one_of(mut self, options: &'static [CommandOption]) -> Self {
        self.one_of = options;
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
        write!(f, "  {}{}", self.name, self.action.form())?;
        let mut len = self.name.len() + self.action.form().len();
        for option in self.takes {
            let (name, form) = (option.name(), option.form());
            write!(f, " [{name}{form}]")?;
            len += name.len() + form.len() + 3;
        }
        if len > WIDTH {
            // What it does stands in a line of its own.
            writeln!(f)?;
            len = 0;
            f.write_str("  ")?;
        }
        writeln!(f, "{:rest$}{}", "", self.what, rest = WIDTH + 1 - len)
    }
}

/// Writes which commands there are, and what goes with all of them.
pub(super) fn write_list<P: Platform>(commands: &[Command<P>], out: &mut dyn Write) -> fmt::Result {
    let mut each = commands.iter();
    each.try_for_each(|command| write!(out, "{command}"))?;
    out.write_str("  --color always|never      with any command: text with colours, or without\n")
}

/// A line that is a valid command.
pub(super) struct Line<'l, P: Platform> {
    bound: Bound<'l, P>,
    after_off: bool,
    options: Options,
}

impl<P: Platform> Line<'_, P> {
    pub(super) fn run(&self, handle: Handle<'_, P>, out: &mut dyn Write) -> Answered {
        let call = Call {
            handle,
            options: self.options,
            out: &mut *out,
        };
        let done = match handle.tracker.is_on() || self.after_off {
            true => self.bound.run(call),
            false => Err(NotDone::Off.into()),
        };
        done.or_else(|undone| match undone {
            Undone::Untold(why) => refuse(self.options.format, &why, out),
            Undone::NoTarget(why) => refuse(self.options.format, &why, out),
            Undone::Answered(error) => Err(error),
        })
    }
}

/// A line that is no valid command.
pub(super) struct Wrong<'l> {
    /// The name of the command, or the unknown word.
    name: &'l str,
    /// The option that it is about.
    option: Option<CommandOption>,
    what: WhatIsWrong<'l>,
    format: Format,
}

enum WhatIsWrong<'l> {
    NoCommand,
    Missing,
    Invalid(&'l str),
    Unexpected(&'l str),
    /// Two options of which one may be given.
    Excluded {
        one: CommandOption,
        other: CommandOption,
    },
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
            option: None,
            what: WhatIsWrong::NoCommand,
            format: match words.any(|word| word == CommandOption::Json.name()) {
                true => Format::Json,
                false => Format::Text,
            },
        });
    }
    let (mut value, mut given, mut extra) = (set, Given::NONE, None);
    let rest = line.trim().strip_prefix(name).unwrap_or_default();
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim();
    let (pattern, json) = without_json(rest);
    let has_options = pattern
        .split_whitespace()
        .any(|word| word.starts_with("--"));
    if named().any(|command| command.action.takes_rest()) && !pattern.is_empty() && !has_options {
        value = Some(pattern);
        words = json.split_whitespace();
    }
    while let Some(word) = words.next() {
        let is_option = word.starts_with("--");
        if is_option && given.take(word, &mut words) {
            continue;
        }
        if !is_option && value.is_none() {
            value = Some(word);
        } else {
            extra = extra.or(Some(word));
        }
    }
    let format = given.format();
    let wrong = |option, what| Wrong {
        name,
        option,
        what,
        format,
    };
    let suiting = || named().filter(|command| command.action.suits(value));
    let taken = suiting().find_map(|command| Some((command, command.action.bind(value)?)));
    let nearest = taken.as_ref().map(|(command, _)| *command);
    let Some(command) = nearest.or(suiting().next()) else {
        let what = match value {
            Some(value) => WhatIsWrong::Unexpected(value),
            None => WhatIsWrong::Missing,
        };
        return Err(wrong(None, what));
    };
    let beside = given.beside(command.takes).map(CommandOption::name);
    if let Some(word) = extra.or(beside) {
        return Err(wrong(None, WhatIsWrong::Unexpected(word)));
    }
    if let Some((one, other)) = given.conflict(command.one_of) {
        return Err(wrong(None, WhatIsWrong::Excluded { one, other }));
    }
    let options = given.check().map_err(|(option, value)| {
        let what = match value {
            "" => WhatIsWrong::Missing,
            _ => WhatIsWrong::Invalid(value),
        };
        wrong(Some(option), what)
    })?;
    let Some((_, bound)) = taken else {
        let value = value.unwrap_or_default();
        return Err(wrong(None, WhatIsWrong::Invalid(value)));
    };
    Ok(Line {
        bound,
        after_off: command.after_off,
        options,
    })
}

/// A pattern without the option `--json` before or behind it, and that option, or nothing.
fn without_json(rest: &str) -> (&str, &'static str) {
    let json = CommandOption::Json.name();
    let before = rest.strip_prefix(json);
    let behind = rest.strip_suffix(json);
    let before = before.filter(|rest| rest.starts_with(char::is_whitespace));
    let behind = behind.filter(|rest| rest.ends_with(char::is_whitespace));
    match before.or(behind) {
        Some(pattern) => (pattern.trim(), json),
        None => (rest, ""),
    }
}

impl Wrong<'_> {
    /// Says what is wrong.
    pub(super) fn write<P: Platform>(
        &self,
        commands: &[Command<P>],
        out: &mut dyn Write,
    ) -> Answered {
        let said = Said { commands, of: self };
        complain(self.format, &Because(self.what.code(), said), out)?;
        Err(CommandError::NotUnderstood)
    }
}

impl WhatIsWrong<'_> {
    const fn code(&self) -> &'static str {
        match self {
            Self::NoCommand => "unknown_command",
            Self::Missing => "missing_argument",
            Self::Invalid(_) => "invalid_value",
            Self::Unexpected(_) | Self::Excluded { .. } => "unexpected_argument",
        }
    }
}

/// What is said of a line that is wrong.
struct Said<'c, P: Platform> {
    commands: &'c [Command<P>],
    of: &'c Wrong<'c>,
}

impl<P: Platform> Display for Said<'_, P> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            commands,
            of: wrong,
        } = *self;
        let name = wrong.name;
        let (asked, expected) = (
            Asked(wrong),
            Expected {
                commands,
                of: wrong,
            },
        );
        match wrong.what {
            WhatIsWrong::NoCommand => {
                write!(f, "unknown command `{name}`")?;
                let names = commands.iter().map(|command| command.name);
                let nearest = names.min_by_key(|near| distance(name, near));
                match nearest.filter(|near| distance(name, near) <= 2) {
                    Some(nearest) => write!(f, "; did you mean `{nearest}`?"),
                    None => f.write_str("; `help` lists all"),
                }
            }
            WhatIsWrong::Missing => write!(f, "{asked}: missing argument: expected {expected}"),
            WhatIsWrong::Invalid(value) => {
                write!(f, "{asked}: invalid value `{value}`: expected {expected}")
            }
            WhatIsWrong::Unexpected(word) => {
                write!(f, "{name}: unexpected argument `{word}`")?;
                let named = commands.iter().filter(|command| command.name == name);
                let options = named
                    .flat_map(|command| command.takes)
                    .map(|one| one.name());
                let nearest = options.min_by_key(|near| distance(word, near));
                match nearest.filter(|near| distance(word, near) == 1) {
                    Some(nearest) => write!(f, "; did you mean `{nearest}`?"),
                    None => Ok(()),
                }
            }
            WhatIsWrong::Excluded { one, other } => {
                write!(
                    f,
                    "{name}: {} does not go with {}",
                    other.name(),
                    one.name()
                )
            }
        }
    }
}

/// The command that was typed; with the option, if that is what is wrong.
struct Asked<'w>(&'w Wrong<'w>);

impl Display for Asked<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)?;
        match self.0.option {
            Some(option) => write!(f, " {}", option.name()),
            None => Ok(()),
        }
    }
}

/// The values that the option takes, or the arguments that the forms of the command take.
struct Expected<'c, P: Platform> {
    commands: &'c [Command<P>],
    of: &'c Wrong<'c>,
}

impl<P: Platform> Display for Expected<'_, P> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(option) = self.of.option {
            return write_one_of(option.expects().iter(), f);
        }
        let named = (self.commands.iter()).filter(|command| command.name == self.of.name);
        write_one_of(named.flat_map(|command| command.action.expects()), f)
    }
}
