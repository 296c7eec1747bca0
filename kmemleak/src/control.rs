//! The words by which people speak to the detector: commands and boot parameters.

use core::fmt::{self, Write};
use core::sync::atomic::Ordering;

use crate::detector::Detector;
use crate::platform::Platform;
use crate::record::flag;
use crate::report::Which;
use crate::verdict::How;

/// The commands, as they are listed.
const COMMANDS: [(&str, &str); 11] = [
    ("scan", "check for leaks now, and report"),
    ("report", "the last check's report again"),
    ("status", "what the detector knows and does"),
    (
        "clear",
        "take what is reported now for granted; after off: free the metadata",
    ),
    ("dump=ADDR", "what is known of the object at an address"),
    ("stack=on", "task stacks are roots"),
    ("stack=off", "they are not"),
    ("scan=on", "scan in the background"),
    ("scan=off", "don't"),
    ("scan=SECS", "scan in the background every so many seconds"),
    ("off", "record nothing any more, for good"),
];

/// A boot parameter that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterError {
    /// There is no parameter of that name.
    Unknown,
    /// It takes other values.
    Value,
}

impl fmt::Display for ParameterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => {
                "unknown parameter; there are kmemleak=on|off, kmemleak.scan=SECS, kmemleak.verbose=on|off"
            }
            Self::Value => "a value that the parameter does not take",
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
    /// `kmemleak.verbose=on|off`. Task context, or before there are tasks.
    pub fn boot_parameter(&self, word: &str) -> Result<(), ParameterError> {
        let (name, value) = word.split_once('=').unwrap_or((word, "on"));
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
        let line = line.trim();
        let (name, value) = line
            .split_once(['=', ' '])
            .map_or((line, None), |(name, value)| (name, Some(value.trim())));
        match (name, value) {
            ("", None) => list(out),
            ("report", None) => self.report(out),
            ("status", None) => self.status(out),
            ("clear", None) => self.clear(out),
            ("dump", Some(address)) => match parse_address(address) {
                Some(address) => self.dump(address, out),
                None => writeln!(out, "kmemleak: \"{address}\" is no address"),
            },
            _ if !self.is_on() && (COMMANDS.iter().any(|(word, _)| *word == line)) => {
                writeln!(out, "kmemleak: off, for good")
            }
            ("scan", None) => self.scan_and_report(out),
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
            _ => self.unknown(line, out),
        }
    }

    fn scan_and_report(&self, out: &mut dyn Write) -> fmt::Result {
        let claim = self.claim();
        if self.check_claimed().is_err() {
            return writeln!(out, "kmemleak: off, for good");
        }
        self.report_claimed(Which::All, out)?;
        self.note_reported();
        drop(claim);
        Ok(())
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
                true => writeln!(out, "kmemleak: metadata freed"),
                false => writeln!(
                    out,
                    "kmemleak: metadata kept: the world can't be stopped to see that nobody uses it"
                ),
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
        self.with_verdict(|verdict, _| {
            verdict.list.clear();
            verdict.summary = None;
        });
        writeln!(
            out,
            "kmemleak: {cleared} reported objects are no leaks from now on"
        )
    }

    fn status(&self, out: &mut dyn Write) -> fmt::Result {
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
            if self.is_on() { "on" } else { "off" }
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
                    "last check   {} s ago, {how} for {} us, {} words, {} unreferenced objects",
                    now_us.saturating_sub(at_us) / 1_000_000,
                    summary.took_us,
                    summary.words,
                    summary.objects
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
            .map(|(name, _)| *name)
            .min_by_key(|name| distance(word, name));
        write!(out, "kmemleak: unknown word \"{word}\"")?;
        if let Some(nearest) = nearest.filter(|name| distance(word, name) <= 2) {
            write!(out, "; did you mean \"{nearest}\"?")?;
        }
        writeln!(out)?;
        list(out)
    }
}

fn list(out: &mut dyn Write) -> fmt::Result {
    COMMANDS
        .iter()
        .try_for_each(|(name, what)| writeln!(out, "  {name:<10} {what}"))
}

/// A number, in hexadecimal whether or not it begins with `0x`.
fn parse_address(text: &str) -> Option<usize> {
    usize::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
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
