//! Options of commands: words that begin with `--`, some of which have a value (`--by growth`, or `--by=growth`).
//!
//! The table of commands says which options a command takes. While a line is read, the options in it are only collected
//! ([`Given`]): which command is meant, and so which options it takes, is not known before the line ends. Then all values are
//! checked together and become [`Options`].
//!
//! A new option is a variant of [`CommandOption`], with its three answers, a field of [`Options`] and the line that fills it.

use core::str::{FromStr, SplitWhitespace};

use self::CommandOption::{All, By, Color, Full, Json, Older, Site, Task, Top};
use crate::front::report::{Form, Format};
use crate::verdict::call_sites::SiteOrder;
use crate::verdict::order::Which;

/// What a checksum of a call stack looks like.
pub(super) const CHECKSUM: &str = "a checksum in hexadecimal (crc)";

/// An option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommandOption {
    All,
    By,
    Color,
    Full,
    Json,
    Older,
    Site,
    Task,
    Top,
}

impl CommandOption {
    pub(super) const EACH: [Self; 9] = [All, By, Color, Full, Json, Older, Site, Task, Top];

    /// The option as it is typed.
    pub(super) const fn name(self) -> &'static str {
        match self {
            All => "--all",
            By => "--by",
            Color => "--color",
            Full => "--full",
            Json => "--json",
            Older => "--older",
            Site => "--site",
            Task => "--task",
            Top => "--top",
        }
    }

    /// How its value is written in a list of commands; empty if it has none.
    pub(super) const fn form(self) -> &'static str {
        match self {
            All | Full | Json => "",
            By => " bytes|growth|count",
            Color => " always|never",
            Older => " SECS",
            Site => " CRC",
            Task => " PID",
            Top => " N",
        }
    }

    /// What its value may be, one of these.
    pub(super) const fn expects(self) -> &'static [&'static str] {
        match self {
            All | Full | Json => &[],
            By => &["bytes", "growth", "count"],
            Color => &["always", "never"],
            Older => &["a number of seconds"],
            Site => &[CHECKSUM],
            Task => &["a task's number"],
            Top => &["a number"],
        }
    }

    /// What it does.
    pub(super) const fn what(self) -> &'static str {
        match self {
            All => {
                "all leaks, not only leaders; all counts, not only those that are certainly wrong"
            }
            By => "the order: most live bytes, most growth in bytes, or most live objects first",
            Color => "text with colours, or without",
            Full => "all that is known of each, instead of a table",
            Json => "JSON, one record per line",
            Older => "only objects that are at least so many seconds old",
            Site => "only objects of this call site, named by the crc of its call stack",
            Task => "only objects that the task with this number allocated",
            Top => "how many are shown",
        }
    }

    pub(super) const fn has_value(self) -> bool {
        !self.form().is_empty()
    }

    /// The words that its value may be, if it is one of a few.
    pub(super) const fn words(self) -> &'static [&'static str] {
        match self {
            By | Color => self.expects(),
            _ => &[],
        }
    }

    /// Whether a word that was typed is this option, perhaps with its value.
    pub(super) fn is(self, word: &str) -> bool {
        word.split('=').next() == Some(self.name())
    }
}

/// The options of a line, checked.
#[derive(Clone, Copy)]
pub(super) struct Options {
    /// `--all`: all leaks instead of the leaders.
    pub(super) which: Which,
    /// `--json`.
    pub(super) format: Format,
    /// `--full`: each object, instead of a table.
    pub(super) full: bool,
    /// `--by`: the order of call sites.
    pub(super) by: Option<SiteOrder>,
    /// `--color`: whether text has colours; `None` leaves that to the settings.
    pub(super) color: Option<bool>,
    /// `--older`: the least age of objects, in seconds.
    pub(super) older_s: Option<u64>,
    /// `--site`: the checksum of a call stack.
    pub(super) site: Option<u32>,
    /// `--task`: a task's number.
    pub(super) task: Option<u32>,
    /// `--top`: how many are shown.
    pub(super) top: Option<usize>,
}

/// The options of a line as they were typed: the value of each that was given, empty where it has none.
#[derive(Clone, Copy)]
pub(super) struct Given<'l>([Option<&'l str>; CommandOption::EACH.len()]);

impl Options {
    /// How a list is to be written.
    pub(super) const fn form(&self) -> Form {
        match (self.format, self.full) {
            (Format::Json, _) => Form::Json,
            (Format::Text, true) => Form::Each,
            (Format::Text, false) => Form::Table,
        }
    }
}

impl<'l> Given<'l> {
    pub(super) const NONE: Self = Self([None; CommandOption::EACH.len()]);

    /// Takes an option, and its value from the words that follow. False if the word is no option, or one that was given before.
    pub(super) fn take(&mut self, word: &'l str, rest: &mut SplitWhitespace<'l>) -> bool {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let Some(option) = (CommandOption::EACH.into_iter()).find(|option| option.name() == name)
        else {
            return false;
        };
        let again = self.value(option).is_some();
        if !option.has_value() {
            if value.is_none() {
                self.0[option as usize] = Some("");
            }
            return value.is_none();
        }
        let value = value.or_else(|| {
            let next = rest.clone().next().filter(|next| !next.starts_with("--"))?;
            rest.next();
            Some(next)
        });
        self.0[option as usize] = Some(value.unwrap_or_default());
        !again
    }

    fn value(&self, option: CommandOption) -> Option<&'l str> {
        self.0[option as usize]
    }

    pub(super) fn format(&self) -> Format {
        match self.value(Json) {
            Some(_) => Format::Json,
            None => Format::Text,
        }
    }

    /// An option that was given, and is not among these. All commands take `--color`.
    pub(super) fn beside(&self, taken: &[CommandOption]) -> Option<CommandOption> {
        let given = CommandOption::EACH.into_iter();
        let mut given = given.filter(|option| self.value(*option).is_some());
        given.find(|option| *option != Color && !taken.contains(option))
    }

    /// The second one of two options that were given and exclude each other.
    pub(super) fn conflict(
        &self,
        one_of: &[CommandOption],
    ) -> Option<(CommandOption, CommandOption)> {
        let mut given = one_of
            .iter()
            .filter(|option| self.value(**option).is_some());
        Some((*given.next()?, *given.next()?))
    }

    /// The options with their values; or the first with a value that it does not take, which is empty where there is none.
    pub(super) fn check(&self) -> Result<Options, (CommandOption, &'l str)> {
        Ok(Options {
            which: match self.value(All) {
                Some(_) => Which::All,
                None => Which::Leaders,
            },
            format: self.format(),
            full: self.value(Full).is_some(),
            by: self.parsed(By, site_order)?,
            color: self.parsed(Color, always)?,
            older_s: self.parsed(Older, number)?,
            site: self.parsed(Site, checksum)?,
            task: self.parsed(Task, number)?,
            top: self.parsed(Top, number)?,
        })
    }

    fn parsed<T>(
        &self,
        option: CommandOption,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, (CommandOption, &'l str)> {
        let value = self.value(option);
        value
            .map(|value| parse(value).ok_or((option, value)))
            .transpose()
    }
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

/// A checksum of a call stack, as reports show it.
pub(super) fn checksum(text: &str) -> Option<u32> {
    // A sign would be taken as well.
    let digits = text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let crc = u32::from_str_radix(text, 16).ok();
    crc.filter(|_| digits)
}

fn site_order(text: &str) -> Option<SiteOrder> {
    match text {
        "bytes" => Some(SiteOrder::Bytes),
        "growth" => Some(SiteOrder::Growth),
        "count" => Some(SiteOrder::Count),
        _ => None,
    }
}

fn always(text: &str) -> Option<bool> {
    match text {
        "always" => Some(true),
        "never" => Some(false),
        _ => None,
    }
}
