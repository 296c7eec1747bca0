//! The words of a line: numbers, names, places.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::statement::{Name, Place, Slot, Switch, Target, Word};

/// Words of sections, stacks and regions: their numbers stay below.
pub(super) const WORDS: usize = 64;
/// Page frames, registers and regions: their numbers stay below.
pub(super) const FEW: usize = 4;
/// CPUs: their numbers stay below.
pub(super) const CPUS: u32 = 2;
/// Bytes of a word.
pub(super) const WORD: usize = 8;
/// Bytes of a page.
pub(super) const PAGE: usize = 4096;
/// The largest block of a slab.
pub(super) const SLAB_MAX: usize = 8192;

/// Words that begin a slot or a target, or say that there is none: no names.
pub(super) const RESERVED: [&str; 12] = [
    "data", "bss", "percpu", "page", "stack", "dead", "reg", "region", "end", "hidden", "none",
    "parked",
];

pub(super) type Parsed<T> = Result<T, String>;

/// What is left of a line.
pub(super) struct Words<'s> {
    pub(super) rest: &'s str,
    /// CPUs that were named so far.
    pub(super) cpus: u32,
}

impl<'s> Words<'s> {
    pub(super) fn peek(&self) -> Option<&'s str> {
        self.rest.split_whitespace().next()
    }

    pub(super) fn next(&mut self) -> Option<&'s str> {
        let word = self.peek()?;
        let (_, rest) = self.rest.split_at(self.rest.find(word)? + word.len());
        self.rest = rest;
        Some(word)
    }

    pub(super) fn word(&mut self, what: &str) -> Parsed<&'s str> {
        self.next().ok_or_else(|| format!("{what} is missing"))
    }

    /// All that is left, blanks included.
    pub(super) fn text(&mut self, what: &str) -> Parsed<&'s str> {
        let text = core::mem::take(&mut self.rest).trim();
        if text.is_empty() {
            return Err(format!("{what} is missing"));
        }
        Ok(text)
    }

    pub(super) fn end(&mut self) -> Parsed<()> {
        match self.next() {
            Some(word) => Err(format!("\"{word}\" is one word too many")),
            None => Ok(()),
        }
    }

    pub(super) fn size(&mut self, what: &str) -> Parsed<usize> {
        number(self.word(what)?)
    }

    pub(super) fn signed(&mut self, what: &str) -> Parsed<i64> {
        signed(self.word(what)?)
    }

    pub(super) fn below(&mut self, end: usize, what: &str) -> Parsed<usize> {
        let value = self.size(what)?;
        if value >= end {
            return Err(format!("{what} {value} is not below {end}"));
        }
        Ok(value)
    }

    pub(super) fn cpu(&mut self, word: &str) -> Parsed<u32> {
        let cpu = number(word)?;
        match u32::try_from(cpu) {
            Ok(cpu) if cpu < CPUS => {
                self.cpus = self.cpus.max(cpu + 1);
                Ok(cpu)
            }
            _ => Err(format!("there is no cpu {cpu}")),
        }
    }

    pub(super) fn name(&mut self) -> Parsed<Name<'s>> {
        name(self.word("a name")?)
    }

    pub(super) fn names(&mut self) -> Parsed<Vec<Name<'s>>> {
        let first = self.word("a name")?;
        if first == "none" {
            return Ok(Vec::new());
        }
        let mut names = Vec::from([name(first)?]);
        while let Some(word) = self.next() {
            let name = name(word)?;
            if names.contains(&name) {
                return Err(format!("{name} is named twice"));
            }
            names.push(name);
        }
        Ok(names)
    }

    /// `NAME+N` and `NAME-N`, or `none`.
    pub(super) fn differences(&mut self) -> Parsed<Vec<(Name<'s>, i64)>> {
        if self.peek() == Some("none") {
            self.next();
            return Ok(Vec::new());
        }
        let mut differences = Vec::new();
        while differences.is_empty() || self.peek().is_some() {
            let word = self.word("a name with a difference")?;
            let sign = word.find(['+', '-']);
            let sign = sign.ok_or_else(|| format!("\"{word}\" is no NAME+N or NAME-N"))?;
            let (object, difference) = word.split_at(sign);
            differences.push((name(object)?, signed(difference)?));
        }
        Ok(differences)
    }

    pub(super) fn switch(&mut self) -> Parsed<Switch> {
        match self.word("\"on\" or \"off\"")? {
            "on" => Ok(Switch::On),
            "off" => Ok(Switch::Off),
            word => Err(format!("\"{word}\" is neither \"on\" nor \"off\"")),
        }
    }

    /// `site=LABEL`.
    pub(super) fn site(&mut self) -> Parsed<&'s str> {
        let word = self.word("\"site=\"")?;
        match word.strip_prefix("site=") {
            Some(label) if !label.is_empty() => Ok(label),
            _ => Err(format!("\"{word}\" is no site=LABEL")),
        }
    }

    pub(super) fn slot(&mut self) -> Parsed<Slot<'s>> {
        let word = self.word("a slot")?;
        let place = match word {
            "data" => Place::Data(self.below(WORDS, "word")?),
            "bss" => Place::Bss(self.below(WORDS, "word")?),
            "percpu" => {
                let cpu = self.word("a cpu")?;
                Place::PerCpu(self.cpu(cpu)?, self.below(WORDS, "word")?)
            }
            "page" => Place::Page(self.below(FEW, "page frame")?),
            "stack" => Place::Stack(self.below(WORDS, "word")?),
            "dead" => Place::Dead(self.below(WORDS, "word")?),
            "reg" => Place::Register(self.below(FEW, "register")?),
            "region" => Place::Region(self.below(FEW, "region")?, self.below(WORDS, "word")?),
            _ => return self.word_in_object(word).map(Slot::Word),
        };
        Ok(Slot::Place(place))
    }

    pub(super) fn slots(&mut self) -> Parsed<Vec<Slot<'s>>> {
        if self.peek() == Some("none") {
            self.next();
            return Ok(Vec::new());
        }
        let mut slots = Vec::from([self.slot()?]);
        while self.peek().is_some() {
            slots.push(self.slot()?);
        }
        Ok(slots)
    }

    /// `NAME`, `NAME+OFF`, `NAME[cpu]` or `NAME[cpu]+OFF`.
    pub(super) fn word_in_object(&mut self, word: &'s str) -> Parsed<Word<'s>> {
        let (object, offset) = match word.split_once('+') {
            Some((object, offset)) => (object, number(offset)?),
            None => (word, 0),
        };
        let (object, cpu) = match object.split_once('[') {
            Some((object, cpu)) => {
                let cpu = cpu.strip_suffix(']');
                let cpu = cpu.ok_or_else(|| format!("\"{word}\" is no slot"))?;
                (object, Some(self.cpu(cpu)?))
            }
            None => (object, None),
        };
        if !offset.is_multiple_of(WORD) {
            return Err(format!("offset {offset} is not a multiple of {WORD}"));
        }
        Ok(Word {
            name: name(object)?,
            cpu,
            offset,
        })
    }

    pub(super) fn target(&mut self) -> Parsed<Target<'s>> {
        let word = self.word("a target")?;
        match word {
            "end" => return Ok(Target::End(self.name()?)),
            "hidden" => return Ok(Target::Hidden(self.name()?)),
            _ if word.starts_with(|letter: char| letter.is_ascii_digit()) => {
                return Ok(Target::Number(number(word)?));
            }
            _ => {}
        }
        let Some(sign) = word.find(['+', '-']) else {
            return Ok(Target::At(name(word)?, 0));
        };
        let (object, offset) = word.split_at(sign);
        let distance = number(&offset[1..])?.cast_signed();
        let back = offset.starts_with('-');
        let offset = if back {
            distance.wrapping_neg()
        } else {
            distance
        };
        Ok(Target::At(name(object)?, offset))
    }
}

/// Decimal, or hexadecimal after `0x`.
pub(super) fn number(word: &str) -> Parsed<usize> {
    let (digits, radix) = match word.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (word, 10),
    };
    // The library's parser would take a plus sign as well.
    if digits.starts_with('+') {
        return Err(format!("\"{word}\" is no number"));
    }
    usize::from_str_radix(digits, radix).map_err(|_| format!("\"{word}\" is no number"))
}

pub(super) fn signed(word: &str) -> Parsed<i64> {
    let (digits, sign) = match word.strip_prefix('-') {
        Some(digits) => (digits, -1),
        None => (word, 1),
    };
    let value = number(digits.strip_prefix('+').unwrap_or(digits))?;
    i64::try_from(value)
        .map(|value| sign * value)
        .map_err(|_| format!("\"{word}\" is too large"))
}

/// A name, or a name with `.tail`: what lies behind a hole in the object of that name.
fn name(word: &str) -> Parsed<Name<'_>> {
    let mut base = word;
    while let Some(shorter) = base.strip_suffix(".tail") {
        base = shorter;
    }
    let mut letters = base.chars();
    let first = letters
        .next()
        .is_some_and(|letter| letter.is_ascii_alphabetic() || letter == '_');
    let rest = letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    if !first || !rest || RESERVED.contains(&word) {
        return Err(format!("\"{word}\" is no name"));
    }
    Ok(word)
}
