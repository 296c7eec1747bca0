//! The words by which people speak to the detector: commands and boot parameters.

use core::fmt::{self, Write};
use core::sync::atomic::Ordering;

use crate::detector::Detector;
use crate::hidden::Hidden;
use crate::platform::Platform;
use crate::record::flag;
use crate::report::{
    Count, Format, Which, complain, interior_end, suppression_json, suppressions_end,
};
use crate::suppress::SuppressError;
use crate::verdict::How;

/// A command, as it is listed.
struct Command {
    name: &'static str,
    arguments: &'static str,
    what: &'static str,
    /// Whether it does something once the detector is off.
    after_off: bool,
}

const fn command(name: &'static str, arguments: &'static str, what: &'static str) -> Command {
    Command {
        name,
        arguments,
        what,
        after_off: false,
    }
}

const fn also_after_off(command: Command) -> Command {
    Command {
        after_off: true,
        ..command
    }
}

const COMMANDS: [Command; 20] = [
    command(
        "scan",
        " [--all] [--json]",
        "check for leaks now, and report",
    ),
    also_after_off(command(
        "report",
        " [--all] [--json]",
        "the last check's report again; --all: also what leaders own",
    )),
    also_after_off(command("status", "", "what the detector knows and does")),
    also_after_off(command(
        "clear",
        "",
        "take what is reported now for granted; after off: free the metadata",
    )),
    command(
        "mark",
        "",
        "check now, and remember what is lost and what is alive",
    ),
    command(
        "new",
        " [--json]",
        "check now, and report what was lost since the mark",
    ),
    command(
        "sites",
        " [N] [--json]",
        "call sites with the most live bytes (10), and their growth since the mark",
    ),
    command(
        "interior",
        " [--json]",
        "what only pointers into its middle keep alive",
    ),
    command("dump", " ADDR", "what is known of the object at an address"),
    command(
        "holders",
        " ADDR [--json]",
        "the words that point into an object",
    ),
    command(
        "path",
        " ADDR [--json]",
        "the shortest way to an object from a root",
    ),
    command(
        "suppress",
        " [--json]",
        "the suppressions, and what they hide",
    ),
    command(
        "suppress",
        " PATTERN[:max=N]",
        "hide leaks allocated by a function of that name; * is any text",
    ),
    command("unsuppress", " PATTERN", "hide them no longer"),
    command("stack", "=on|off", "whether task stacks are roots"),
    command("scan", "=on|off", "whether to scan in the background"),
    command(
        "scan",
        "=SECS",
        "scan in the background every so many seconds",
    ),
    command("selftest", "", "plant a leak, find it, remove it"),
    command("help", "", "this list"),
    command("off", "", "record nothing any more, for good"),
];

/// Call sites that are shown unless it is said how many.
const TOP_SITES: usize = 10;

/// A boot parameter that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterError {
    /// There is no parameter of that name.
    Unknown,
    /// It takes other values.
    Value,
    /// A suppression that was not added.
    Suppress(SuppressError),
}

impl fmt::Display for ParameterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => {
                "unknown parameter; there are kmemleak=on|off, kmemleak.scan=SECS, kmemleak.verbose=on|off, kmemleak.free_stacks=on|off, kmemleak.suppress=PATTERN[:max=N]"
            }
            Self::Value => "a value that the parameter does not take",
            Self::Suppress(error) => return error.fmt(f),
        })
    }
}

fn switch(value: &str) -> Option<bool> {
    match value {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

impl<P: Platform, const BOOTSTRAP: usize> Detector<P, BOOTSTRAP> {
    /// Takes a boot parameter: `kmemleak=on|off`, `kmemleak.scan=SECS` (0 for no background scan),
    /// `kmemleak.verbose=on|off`, `kmemleak.free_stacks=on|off` (whether a warning of a double free shows who freed the
    /// block first: a call stack more for each free), `kmemleak.suppress=PATTERN[:max=N]` (as often as there are patterns, with commas
    /// between several). Task context, or before there are tasks.
    pub fn boot_parameter(&self, word: &str) -> Result<(), ParameterError> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        // A switch without a value is switched on.
        let given = value.ok_or(ParameterError::Value);
        let value = value.unwrap_or("on");
        match name {
            "kmemleak" => match switch(value).ok_or(ParameterError::Value)? {
                true => {}
                false => self.turn_off(),
            },
            "kmemleak.scan" => {
                let seconds = value.parse().map_err(|_| ParameterError::Value)?;
                self.set_scan_seconds(seconds);
            }
            "kmemleak.verbose" => {
                let on = switch(value).ok_or(ParameterError::Value)?;
                self.settings.verbose.store(on, Ordering::Relaxed);
            }
            "kmemleak.free_stacks" => {
                let on = switch(value).ok_or(ParameterError::Value)?;
                self.settings.free_stacks.store(on, Ordering::Relaxed);
            }
            "kmemleak.suppress" => {
                // One that can't be taken keeps none of the others away.
                let mut all = Ok(());
                for pattern in given?.split(',') {
                    all = all.and(self.suppress(pattern).map_err(ParameterError::Suppress));
                }
                return all;
            }
            _ => return Err(ParameterError::Unknown),
        }
        Ok(())
    }

    fn set_scan_seconds(&self, seconds: u64) {
        self.settings
            .background_off
            .store(seconds == 0, Ordering::Relaxed);
        if seconds > 0 {
            let us = seconds.saturating_mul(1_000_000);
            self.settings.scan_every_us.store(us, Ordering::Relaxed);
            let next = self.platform.now_us().saturating_add(us);
            self.settings.next_scan_us.store(next, Ordering::Relaxed);
        }
    }

    /// Does what a line of text says and writes the answer; without a word, or with one that is none, what
    /// there is. Task context, with no lock held.
    pub fn command(&self, line: &str, out: &mut dyn Write) -> fmt::Result {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or("help");
        let (name, set) = match first.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (first, None),
        };
        if !COMMANDS.iter().any(|command| command.name == name) {
            return self.unknown(first, out);
        }
        let mut arguments = Arguments {
            value: set,
            all: false,
            format: Format::Text,
        };
        // Names of functions have blanks in them: the rest of the line is a pattern.
        let rest = line.trim().strip_prefix(name).unwrap_or_default();
        let rest = rest.strip_prefix('=').unwrap_or(rest).trim();
        let flags = rest.split_whitespace().any(|word| word.starts_with("--"));
        if ["suppress", "unsuppress"].contains(&name) && !flags && !rest.is_empty() {
            arguments.value = Some(rest);
            words = "".split_whitespace();
        }
        for word in words {
            match word {
                "--all" => arguments.all = true,
                "--json" => arguments.format = Format::Json,
                _ if arguments.value.is_none() && !word.starts_with("--") => {
                    arguments.value = Some(word);
                }
                _ => {
                    let what = format_args!("{name} takes no \"{word}\"");
                    return complain(arguments.format, &what, out);
                }
            }
        }
        let format = arguments.format;
        let given = [(arguments.all, "--all"), (format == Format::Json, "--json")];
        let takes = |flag: &str| {
            let mut named = COMMANDS.iter().filter(|command| command.name == name);
            named.any(|command| command.takes(flag, arguments.value))
        };
        for (_, flag) in given.into_iter().filter(|&(given, _)| given) {
            if !takes(flag) {
                return complain(format, &format_args!("{name} takes no \"{flag}\""), out);
            }
        }
        let after_off = |command: &Command| command.name == name && command.after_off;
        if !self.is_on() && !COMMANDS.iter().any(after_off) && name != "help" {
            return complain(format, &OFF, out);
        }
        self.obey(name, &arguments, out)
    }

    fn obey(&self, name: &str, arguments: &Arguments<'_>, out: &mut dyn Write) -> fmt::Result {
        let Arguments { value, all, format } = *arguments;
        let which = if all { Which::All } else { Which::Leaders };
        match (name, value) {
            ("help", None) => list(out),
            ("scan", None) => self.scan_and_report(format, which, out),
            ("report", None) => {
                let _claim = self.claim();
                self.report_claimed(format, which, out)
            }
            ("status", None) => self.status(out),
            ("clear", None) => self.clear(out),
            ("mark", None) => self.check_and_mark(out),
            ("new", None) => self.scan_and_report(format, Which::New, out),
            ("sites", _) => match value.map_or(Ok(TOP_SITES), str::parse) {
                Ok(top) => {
                    let _claim = self.claim();
                    self.write_sites(format, top, out)
                }
                Err(_) => no_number(value, format, out),
            },
            ("interior", None) => self.interior(format, out),
            ("dump", Some(address)) => match parse_hidden(address) {
                Some(address) => self.dump(address.get(), out),
                None => no_address(address, Format::Text, out),
            },
            ("holders", Some(address)) => match parse_hidden(address) {
                Some(address) => {
                    let _claim = self.claim();
                    self.write_holders(format, address, out)
                }
                None => no_address(address, format, out),
            },
            ("path", Some(address)) => match parse_hidden(address) {
                Some(address) => {
                    let _claim = self.claim();
                    self.write_path(format, address, out)
                }
                None => no_address(address, format, out),
            },
            ("suppress", None) => self.list_suppressions(format, out),
            ("suppress", Some(pattern)) => match self.suppress(pattern) {
                Ok(()) => writeln!(out, "kmemleak: hides what matches \"{pattern}\""),
                Err(error) => writeln!(out, "kmemleak: {error}"),
            },
            ("unsuppress", Some(pattern)) => match self.unsuppress(pattern) {
                true => writeln!(out, "kmemleak: \"{pattern}\" hides nothing any more"),
                false => writeln!(out, "kmemleak: no suppression \"{pattern}\""),
            },
            ("off", None) => {
                self.turn_off();
                writeln!(out, "kmemleak: off; \"clear\" frees the metadata")
            }
            ("stack", Some(value)) if let Some(on) = switch(value) => {
                self.settings.skip_stacks.store(!on, Ordering::Relaxed);
                writeln!(
                    out,
                    "kmemleak: task stacks are {}roots",
                    if on { "" } else { "no " }
                )
            }
            ("scan", Some(value)) => self.set_scan(value, out),
            ("selftest", None) => self.selftest(out),
            (_, None) => {
                writeln!(out, "kmemleak: {name} takes an argument:")?;
                list_of(name, out)
            }
            (_, Some(value)) => {
                writeln!(out, "kmemleak: {name} takes no \"{value}\":")?;
                list_of(name, out)
            }
        }
    }

    fn scan_and_report(&self, format: Format, which: Which, out: &mut dyn Write) -> fmt::Result {
        let _claim = self.claim();
        if self.check_claimed().is_err() {
            return complain(format, &self.why_given_up(), out);
        }
        self.report_claimed(format, which, out)?;
        if which != Which::New {
            self.note_reported();
        }
        Ok(())
    }

    /// Why a check has no verdict.
    pub(crate) fn why_given_up(&self) -> &'static str {
        if self.is_on() { "asked to stop" } else { OFF }
    }

    fn check_and_mark(&self, out: &mut dyn Write) -> fmt::Result {
        let _claim = self.claim();
        let Ok(summary) = self.check_claimed() else {
            return complain(Format::Text, &self.why_given_up(), out);
        };
        if !self.mark_claimed() {
            return writeln!(out, "kmemleak: no memory to remember what there is");
        }
        writeln!(
            out,
            "kmemleak: remembered {} ({} bytes), and what is alive at each call site",
            Count(summary.objects, "unreferenced object"),
            summary.bytes
        )
    }

    fn interior(&self, format: Format, out: &mut dyn Write) -> fmt::Result {
        let (mut count, mut bytes, mut written) = (0, 0, Ok(()));
        self.for_each_interior(&mut |block| {
            count += 1;
            bytes += block.size;
            if written.is_ok() {
                written = match format {
                    Format::Text => self.interior_text(&block, out),
                    Format::Json => self.interior_json(&block, out),
                };
            }
        });
        written?;
        match format {
            Format::Text => writeln!(
                out,
                "kmemleak: {} ({bytes} bytes) alive through interior pointers only",
                Count(count, "object")
            ),
            Format::Json => interior_end(count, bytes, out),
        }
    }

    fn list_suppressions(&self, format: Format, out: &mut dyn Write) -> fmt::Result {
        let (mut count, mut written) = (0, Ok(()));
        self.for_each_suppression(&mut |one| {
            count += 1;
            if written.is_err() {
                return;
            }
            if format == Format::Json {
                written = suppression_json(&one, out);
                return;
            }
            written = write!(out, "  {}", one.pattern);
            if let Some(max) = one.max {
                written = written.and_then(|()| write!(out, ":max={max}"));
            }
            let over = one.max.is_some_and(|max| one.matched > max);
            let over = if over { ", over its ceiling" } else { "" };
            written = written.and_then(|()| {
                writeln!(
                    out,
                    "  {} matched{over}, {} ({} bytes) hidden",
                    one.matched,
                    Count(one.objects as usize, "object"),
                    one.bytes
                )
            });
        });
        written?;
        match format {
            Format::Text => writeln!(out, "kmemleak: {}", Count(count, "suppression")),
            Format::Json => suppressions_end(count, out),
        }
    }

    fn set_scan(&self, value: &str, out: &mut dyn Write) -> fmt::Result {
        let every_us = self.settings.scan_every_us.load(Ordering::Relaxed);
        match (switch(value), value.parse::<u64>()) {
            (Some(true), _) => self.set_scan_seconds(every_us / 1_000_000),
            (Some(false), _) | (_, Ok(0)) => self.set_scan_seconds(0),
            (_, Ok(seconds)) => self.set_scan_seconds(seconds),
            _ => {
                return writeln!(
                    out,
                    "kmemleak: \"{value}\" is neither on, off nor a number of seconds"
                );
            }
        }
        if self.settings.background_off.load(Ordering::Relaxed) {
            return writeln!(out, "kmemleak: no background scan");
        }
        let every_us = self.settings.scan_every_us.load(Ordering::Relaxed);
        writeln!(
            out,
            "kmemleak: background scan every {} s",
            every_us / 1_000_000
        )
    }

    fn clear(&self, out: &mut dyn Write) -> fmt::Result {
        let _claim = self.claim();
        if !self.is_on() {
            return match self.free_metadata() {
                Ok(()) => writeln!(out, "kmemleak: metadata freed"),
                Err(why) => writeln!(out, "kmemleak: metadata kept: {why}"),
            };
        }
        self.unrecorded.store(0, Ordering::Relaxed);
        let mut cleared = 0;
        self.each_listed(&mut |object| {
            object.set_min_count(0);
            object
                .record
                .clear(flag::LISTED | flag::REPORTED | flag::SUSPECT);
            cleared += 1;
        });
        // Nobody will see it when one of these is referenced again, so what is told of them begins afresh.
        self.each_suppressed(&mut |named| {
            self.change_named(named, &mut |object| {
                object.record.clear(flag::REPORTED);
            });
        });
        self.with_verdict(|verdict, _| verdict.forget());
        self.forget_hidden();
        let are = if cleared == 1 {
            "is no leak"
        } else {
            "are no leaks"
        };
        let reported = Count(cleared, "reported object");
        writeln!(out, "kmemleak: {reported} {are} from now on")
    }

    fn status(&self, out: &mut dyn Write) -> fmt::Result {
        if let Some(_claim) = self.try_claim() {
            self.take_suppressions();
        }
        let now_us = self.platform.now_us();
        let tracking = self.tracking();
        let metadata = self.metadata();
        let unrecorded = self.unrecorded.load(Ordering::Relaxed);
        let last = self.quietly(|_| {
            // Who checks has it.
            let verdict = self.verdict.try_lock()?;
            Some((verdict.summary, verdict.at_us))
        });
        let incomplete = if unrecorded > 0 { ", incomplete" } else { "" };
        writeln!(
            out,
            "state        {}{incomplete}",
            if self.is_on() { "enabled" } else { "disabled" }
        )?;
        writeln!(
            out,
            "objects      {} ({} bytes)",
            tracking.objects, tracking.bytes
        )?;
        writeln!(
            out,
            "metadata     {} bytes, of which {} call stacks take {}",
            metadata.bytes,
            self.depot.len(),
            metadata.call_stacks
        )?;
        writeln!(
            out,
            "unrecorded   {unrecorded} (ever: {})",
            self.unrecorded_total.load(Ordering::Relaxed)
        )?;
        writeln!(
            out,
            "missed frees {}",
            self.missed_frees.load(Ordering::Relaxed)
        )?;
        let warnings = self.quietly(|_| self.warnings.lock().count());
        writeln!(out, "warnings     {warnings}")?;
        // Who has the claim uses them.
        let suppressions = self.quietly(|_| Some(self.suppressed.try_lock()?.len()));
        let hidden = self.quietly(|_| {
            let verdict = self.verdict.try_lock()?;
            Some((verdict.suppressed_objects, verdict.suppressed_bytes))
        });
        if let (Some(suppressions), Some((objects, bytes))) = (suppressions, hidden) {
            writeln!(
                out,
                "suppressions {suppressions}, hiding {} ({bytes} bytes)",
                Count(objects, "object")
            )?;
        }
        match last {
            None => writeln!(out, "last check   goes on")?,
            Some((None, _)) => writeln!(out, "last check   none")?,
            Some((Some(summary), at_us)) => {
                let how = match summary.how {
                    How::Stopped => "world stopped",
                    How::Scanned | How::Repeated { .. } => "world running",
                };
                writeln!(
                    out,
                    "last check   {} s ago, {how} for {} us, {} words, {}",
                    now_us.saturating_sub(at_us) / 1_000_000,
                    summary.took_us,
                    summary.words,
                    Count(summary.objects, "unreferenced object")
                )?;
            }
        }
        if !self.is_on() || self.settings.background_off.load(Ordering::Relaxed) {
            return writeln!(out, "next scan    none");
        }
        let next_us = self.settings.next_scan_us.load(Ordering::Relaxed);
        writeln!(
            out,
            "next scan    in {} s",
            next_us.saturating_sub(now_us) / 1_000_000
        )
    }

    fn unknown(&self, word: &str, out: &mut dyn Write) -> fmt::Result {
        let nearest = COMMANDS
            .iter()
            .map(|command| command.name)
            .min_by_key(|name| distance(word, name));
        write!(out, "kmemleak: unknown word \"{word}\"")?;
        if let Some(nearest) = nearest.filter(|name| distance(word, name) <= 2) {
            write!(out, "; did you mean \"{nearest}\"?")?;
        }
        writeln!(out)?;
        list(out)
    }
}

/// What is said once the detector is off.
const OFF: &str = "off, for good";

/// What follows a command's name.
struct Arguments<'a> {
    value: Option<&'a str>,
    all: bool,
    format: Format,
}

fn list(out: &mut dyn Write) -> fmt::Result {
    COMMANDS.iter().try_for_each(|command| command.write(out))
}

fn list_of(name: &str, out: &mut dyn Write) -> fmt::Result {
    let mut named = COMMANDS.iter().filter(|command| command.name == name);
    named.try_for_each(|command| command.write(out))
}

impl Command {
    /// Whether this flag may go with it, when it has this argument.
    fn takes(&self, flag: &str, value: Option<&str>) -> bool {
        let argument = self.arguments.contains(|one: char| one.is_uppercase());
        let optional = self.arguments.starts_with(" [");
        let fits = match value {
            Some(_) => argument,
            None => !argument || optional,
        };
        fits && self.arguments.contains(flag)
    }

    fn write(&self, out: &mut dyn Write) -> fmt::Result {
        const WIDTH: usize = 25;
        let width = WIDTH.saturating_sub(self.name.len());
        writeln!(
            out,
            "  {}{:<width$} {}",
            self.name, self.arguments, self.what
        )
    }
}

fn no_address(text: &str, format: Format, out: &mut dyn Write) -> fmt::Result {
    complain(format, &format_args!("\"{text}\" is no address"), out)
}

fn no_number(text: Option<&str>, format: Format, out: &mut dyn Write) -> fmt::Result {
    let text = text.unwrap_or_default();
    complain(format, &format_args!("\"{text}\" is no number"), out)
}

/// A number, in hexadecimal whether or not it begins with `0x`: inverted from the first digit on, for a word that
/// holds the address would be one that points there.
fn parse_hidden(text: &str) -> Option<Hidden> {
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
