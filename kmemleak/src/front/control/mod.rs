//! The words by which people speak to the detector: commands and boot parameters. Which commands there are, with what
//! arguments, is in `table`.

mod status;
mod table;

use core::fmt::{self, Write};
use core::sync::atomic::Ordering;

use self::table::{Line, Wrong};
use crate::checker::claim::{Claim, Nested, NotDone};
use crate::front::report::{
    Count, Format, NO_CHECK, Sum, Typed, Which, complain, interior_end, suppression_json,
    suppression_text, suppressions_end,
};
use crate::marker::GivenUp;
use crate::metadata::hidden::Hidden;
use crate::objects::record::flag;
use crate::platform::Platform;
use crate::tracker::Detector;
use crate::verdict::suppress::SuppressError;

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
    /// It was given from inside an answer: see [`NotDone::Nested`].
    Nested,
}

impl fmt::Display for ParameterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => {
                "unknown parameter; there are kmemleak=on|off, kmemleak.scan=SECS, kmemleak.verbose=on|off, kmemleak.free_stacks=on|off, kmemleak.suppress=PATTERN[:max=N]"
            }
            Self::Value => "a value that the parameter does not take",
            Self::Suppress(error) => return error.fmt(f),
            Self::Nested => return NotDone::Nested.fmt(f),
        })
    }
}

impl core::error::Error for ParameterError {}

fn switch(value: &str) -> Option<bool> {
    match value {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

impl<P: Platform> Detector<P> {
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
                false => self.turn_off().map_err(|Nested| ParameterError::Nested)?,
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
            let next = self.now_us().saturating_add(us);
            self.settings.next_scan_us.store(next, Ordering::Relaxed);
        }
    }

    /// Whether a line of text is a [`command`](Self::command) with the arguments that it takes, or nothing. Any context.
    pub fn understands(&self, line: &str) -> bool {
        table::parse(line).is_ok_and(|line| line.is_taken())
    }

    /// Does what a line of text says and writes the answer; without a word, or with one that is none, what
    /// there is. Task context, with no lock held.
    pub fn command(&self, line: &str, out: &mut dyn Write) -> fmt::Result {
        let line = match table::parse(line) {
            Ok(line) => line,
            Err(wrong) => return wrong.write(out),
        };
        if !self.is_on() && !line.after_off {
            return complain(line.format, &NotDone::Off, out);
        }
        match self.obey(&line, out) {
            Ok(written) => written,
            Err(why) => complain(line.format, &why, out),
        }
    }

    /// Does it; an error where it is not done, and nothing is written.
    fn obey(&self, line: &Line<'_>, out: &mut dyn Write) -> Result<fmt::Result, NotDone> {
        let Line {
            name,
            value,
            all,
            format,
            ..
        } = *line;
        let which = if all { Which::All } else { Which::Leaders };
        Ok(match (name, value) {
            ("help", None) => table::list(out),
            ("scan", None) => self.claim_on()?.scan_and_report(format, which, out)?,
            ("report", None) => self.claim()?.write_report(format, which, out),
            ("status", None) => self.status(out),
            ("clear", None) => self.claim()?.clear(out),
            ("mark", None) => self.claim_on()?.check_and_mark(out)?,
            ("new", None) => self.claim_on()?.scan_and_report(format, Which::New, out)?,
            ("sites", _) => match value.map_or(Ok(TOP_SITES), str::parse) {
                Ok(top) => self.claim()?.write_sites(format, top, out),
                Err(_) => no_number(value, format, out),
            },
            ("interior", None) => self.claim()?.interior(format, out),
            ("dump", Some(address)) => match parse_hidden(address) {
                Some(address) => {
                    let claim = self.claim()?;
                    let _outside = claim.outside();
                    self.dump(address.get(), out)
                }
                None => no_address(address, Format::Text, out),
            },
            ("holders", Some(address)) => match parse_hidden(address) {
                Some(address) => self.claim()?.write_holders(format, address, out),
                None => no_address(address, format, out),
            },
            ("path", Some(address)) => match parse_hidden(address) {
                Some(address) => self.claim()?.write_path(format, address, out),
                None => no_address(address, format, out),
            },
            ("suppress", None) => self.claim()?.list_suppressions(format, out),
            ("suppress", Some(pattern)) => match self.suppress(pattern) {
                Ok(()) => {
                    writeln!(
                        out,
                        "kmemleak: from the next check on, \"{}\" hides what matches",
                        Typed(pattern)
                    )
                }
                Err(error) => writeln!(out, "kmemleak: {error}"),
            },
            ("unsuppress", Some(pattern)) => match self.unsuppress(pattern)? {
                true => writeln!(
                    out,
                    "kmemleak: \"{}\" hides nothing any more",
                    Typed(pattern)
                ),
                false => writeln!(out, "kmemleak: no suppression \"{}\"", Typed(pattern)),
            },
            ("off", None) => {
                self.turn_off()?;
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
            ("selftest", None) => self.claim_on()?.selftest(out),
            // What the table lets through has been met above, but for values of switches.
            (_, value) => Wrong::Value {
                name,
                value,
                format,
            }
            .write(out),
        })
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
                    "kmemleak: \"{}\" is neither on, off nor a number of seconds",
                    Typed(value)
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
}

impl<P: Platform> Claim<'_, P> {
    fn scan_and_report(
        &self,
        format: Format,
        which: Which,
        out: &mut dyn Write,
    ) -> Result<fmt::Result, NotDone> {
        self.check_now().map_err(|GivenUp| NotDone::Stopped)?;
        let written = self.write_report(format, which, out);
        if written.is_ok() && which != Which::New {
            self.note_reported();
        }
        Ok(written)
    }

    fn check_and_mark(&self, out: &mut dyn Write) -> Result<fmt::Result, NotDone> {
        let summary = self.check_now().map_err(|GivenUp| NotDone::Stopped)?;
        let marked = self.mark_now();
        let _outside = self.outside();
        Ok(match marked {
            Ok(()) => writeln!(
                out,
                "kmemleak: remembered {}, and what is alive at each call site",
                Sum(&summary)
            ),
            // The check was one all the same.
            Err(_) => writeln!(
                out,
                "kmemleak: no memory to remember what there is: what was remembered before stays\nkmemleak: {}",
                Sum(&summary)
            ),
        })
    }

    fn interior(&self, format: Format, out: &mut dyn Write) -> fmt::Result {
        let _outside = self.outside();
        if self.with_verdict(|verdict, _| verdict.summary.is_none()) {
            return complain(format, &NO_CHECK, out);
        }
        let (mut count, mut bytes, mut written) = (0, 0, Ok(()));
        self.each_interior(&mut |block| {
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
        let _outside = self.outside();
        let (mut count, mut written) = (0, Ok(()));
        self.each_suppression(&mut |one| {
            count += 1;
            if written.is_err() {
                return;
            }
            written = match format {
                Format::Text => suppression_text(&one, out),
                Format::Json => suppression_json(&one, out),
            };
        });
        written?;
        match format {
            Format::Text => writeln!(out, "kmemleak: {}", Count(count, "suppression")),
            Format::Json => suppressions_end(count, out),
        }
    }

    fn clear(&self, out: &mut dyn Write) -> fmt::Result {
        if !self.is_on() {
            let freed = self.free_metadata();
            let _outside = self.outside();
            return match freed {
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
        self.forget_verdict();
        self.forget_hidden();
        let _outside = self.outside();
        let are = if cleared == 1 {
            "is no leak"
        } else {
            "are no leaks"
        };
        let reported = Count(cleared, "reported object");
        writeln!(out, "kmemleak: {reported} {are} from now on")
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
