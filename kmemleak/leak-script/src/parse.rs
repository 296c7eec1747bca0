//! From text to statements.
//!
//! One line at a time, by its words. A line with a slot and the word `=` stores; of any other the first word
//! tells what it is.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::failure::{Failure, Reason};
use crate::statement::{
    Allocator, Expectation, Expected, Name, Place, Scope, Slot, Statement, Switch, Target, Word,
};

/// Words of sections, stacks and regions: their numbers stay below.
const WORDS: usize = 64;
/// Page frames, registers and regions: the same.
const FEW: usize = 4;
/// CPUs: the same.
const CPUS: u32 = 2;
/// Bytes of a word.
const WORD: usize = 8;
/// Bytes of a page.
const PAGE: usize = 4096;
/// The largest block of a slab.
const SLAB_MAX: usize = 8192;

/// Words that begin a slot or a target, or say that there is none: no names.
const RESERVED: [&str; 11] = [
    "data", "bss", "percpu", "page", "stack", "dead", "reg", "region", "end", "hidden", "none",
];

/// Where alone a script runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// On the host.
    Host,
    /// In a kernel.
    Qemu,
}

/// A line with a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line<'s> {
    pub(crate) number: usize,
    pub(crate) text: &'s str,
    pub(crate) statement: Statement<'s>,
}

/// A script that has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script<'s> {
    pub(crate) lines: Vec<Line<'s>>,
    /// Where alone it runs, if it says so.
    pub only: Option<Only>,
    /// CPUs that it needs.
    pub cpus: u32,
}

impl<'s> Script<'s> {
    /// Reads a script.
    pub fn parse(text: &'s str) -> Result<Self, Failure> {
        // What some editors begin a file with.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut script = Self {
            lines: Vec::new(),
            only: only(text)?,
            cpus: 1,
        };
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or("").trim();
            if line.is_empty() {
                continue;
            }
            let failed = |what| Failure {
                line: index + 1,
                reason: Reason::Syntax(what),
            };
            let mut words = Words {
                rest: line,
                cpus: 1,
            };
            let statement = words.statement().map_err(failed)?;
            words.end().map_err(failed)?;
            script.cpus = script.cpus.max(words.cpus);
            script.lines.push(Line {
                number: index + 1,
                text: line,
                statement,
            });
        }
        Ok(script)
    }
}

/// What the comments at the head of a script say. The first one counts, but each has to say something: a script must not
/// run by mistake where it was kept away from.
fn only(text: &str) -> Result<Option<Only>, Failure> {
    let head = text.lines().map(str::trim);
    let head = head.take_while(|line| line.is_empty() || line.starts_with('#'));
    let mut only = None;
    for (index, line) in head.enumerate() {
        let comment = line.strip_prefix('#').unwrap_or_default().trim();
        let Some((word, place)) = comment.split_once(':') else {
            continue;
        };
        if !word.eq_ignore_ascii_case("only") {
            continue;
        }
        let place = match place.trim() {
            "host" => Only::Host,
            "qemu" => Only::Qemu,
            _ => {
                return Err(Failure {
                    line: index + 1,
                    reason: Reason::Syntax("only: takes host or qemu".into()),
                });
            }
        };
        only.get_or_insert(place);
    }
    Ok(only)
}

type Parsed<T> = Result<T, String>;

/// What is left of a line.
struct Words<'s> {
    rest: &'s str,
    /// CPUs that were named so far.
    cpus: u32,
}

impl<'s> Words<'s> {
    fn peek(&self) -> Option<&'s str> {
        self.rest.split_whitespace().next()
    }

    fn next(&mut self) -> Option<&'s str> {
        let word = self.peek()?;
        let (_, rest) = self.rest.split_at(self.rest.find(word)? + word.len());
        self.rest = rest;
        Some(word)
    }

    fn word(&mut self, what: &str) -> Parsed<&'s str> {
        self.next().ok_or_else(|| format!("{what} is missing"))
    }

    /// All that is left, blanks included.
    fn text(&mut self, what: &str) -> Parsed<&'s str> {
        let text = core::mem::take(&mut self.rest).trim();
        if text.is_empty() {
            return Err(format!("{what} is missing"));
        }
        Ok(text)
    }

    fn end(&mut self) -> Parsed<()> {
        match self.next() {
            Some(word) => Err(format!("\"{word}\" is one word too many")),
            None => Ok(()),
        }
    }

    fn size(&mut self, what: &str) -> Parsed<usize> {
        number(self.word(what)?)
    }

    fn signed(&mut self, what: &str) -> Parsed<i64> {
        signed(self.word(what)?)
    }

    fn below(&mut self, end: usize, what: &str) -> Parsed<usize> {
        let value = self.size(what)?;
        if value >= end {
            return Err(format!("{what} {value} is not below {end}"));
        }
        Ok(value)
    }

    fn cpu(&mut self, word: &str) -> Parsed<u32> {
        let cpu = number(word)?;
        match u32::try_from(cpu) {
            Ok(cpu) if cpu < CPUS => {
                self.cpus = self.cpus.max(cpu + 1);
                Ok(cpu)
            }
            _ => Err(format!("there is no cpu {cpu}")),
        }
    }

    fn name(&mut self) -> Parsed<Name<'s>> {
        name(self.word("a name")?)
    }

    fn names(&mut self) -> Parsed<Vec<Name<'s>>> {
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

    fn switch(&mut self) -> Parsed<Switch> {
        match self.word("\"on\" or \"off\"")? {
            "on" => Ok(Switch::On),
            "off" => Ok(Switch::Off),
            word => Err(format!("\"{word}\" is neither \"on\" nor \"off\"")),
        }
    }

    /// `site=LABEL`.
    fn site(&mut self) -> Parsed<&'s str> {
        let word = self.word("\"site=\"")?;
        match word.strip_prefix("site=") {
            Some(label) if !label.is_empty() => Ok(label),
            _ => Err(format!("\"{word}\" is no site=LABEL")),
        }
    }

    fn slot(&mut self) -> Parsed<Slot<'s>> {
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

    fn slots(&mut self) -> Parsed<Vec<Slot<'s>>> {
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
    fn word_in_object(&mut self, word: &'s str) -> Parsed<Word<'s>> {
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

    fn target(&mut self) -> Parsed<Target<'s>> {
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

    /// Whether a sign follows a slot. (Elsewhere, in a warning's text, it is a word like others.)
    fn stores(&self) -> bool {
        let words_of_slot = match self.peek() {
            Some("data" | "bss" | "page" | "stack" | "dead" | "reg") => 2,
            Some("percpu" | "region") => 3,
            _ => 1,
        };
        self.rest.split_whitespace().nth(words_of_slot) == Some("=")
    }

    fn statement(&mut self) -> Parsed<Statement<'s>> {
        if self.stores() {
            let slot = self.slot()?;
            // The sign, which was seen to be there.
            self.next();
            return Ok(Statement::Store(slot, self.target()?));
        }
        Ok(match self.word("a statement")? {
            "alloc" => self.alloc()?,
            "free" => Statement::Free(self.name()?),
            "realloc" => Statement::Realloc(self.name()?, self.positive("a size")?),
            "free_part" => {
                let (name, offset) = (self.name()?, self.size("an offset")?);
                let len = self.positive("a length")?;
                if !offset.is_multiple_of(PAGE) || !len.is_multiple_of(PAGE) {
                    return Err("a part is whole pages".into());
                }
                Statement::FreePart(name, offset, len)
            }
            "not_leak" => Statement::NotLeak(self.name()?),
            "ignore" => Statement::Ignore(self.name()?),
            "no_scan" => Statement::NoScan(self.name()?),
            "scan_area" => Statement::ScanArea(
                self.name()?,
                self.size("an offset")?,
                self.size("a length")?,
            ),
            "transient_leak" => Statement::TransientLeak(self.name()?),
            "update_trace" => Statement::UpdateTrace(self.name()?, self.site()?),
            "erase" => Statement::Erase(self.slot()?),
            "region" => match self.word("\"add\" or \"remove\"")? {
                "add" => Statement::RegionAdd(self.below(FEW, "region")?),
                "remove" => Statement::RegionRemove(self.below(FEW, "region")?),
                word => return Err(format!("\"{word}\" is neither \"add\" nor \"remove\"")),
            },
            "disabled" => match self.word("\"begin\" or \"end\"")? {
                "begin" => Statement::Disabled(Scope::Begin),
                "end" => Statement::Disabled(Scope::End),
                word => return Err(format!("\"{word}\" is neither \"begin\" nor \"end\"")),
            },
            "suppress" => Statement::Suppress(self.text("a pattern")?),
            "stack" => Statement::Stack(self.switch()?),
            "min_age" => Statement::MinAgeMs(self.size("a time")? as u64),
            "advance" => Statement::AdvanceMs(self.size("a time")? as u64),
            "scan" => Statement::Scan,
            "check" => Statement::Check,
            "clear" => Statement::Clear,
            "mark" => Statement::Mark,
            "off" => Statement::Off,
            "metadata" => Statement::Metadata(self.switch()?),
            "expect" => Statement::Expect(self.expectation()?),
            word => return Err(format!("\"{word}\" is no statement")),
        })
    }

    fn positive(&mut self, what: &str) -> Parsed<usize> {
        match self.size(what)? {
            0 => Err(format!("{what} of 0")),
            size => Ok(size),
        }
    }

    fn alloc(&mut self) -> Parsed<Statement<'s>> {
        let object = self.name()?;
        if object.contains('.') {
            return Err(format!("\"{object}\" is no name for a block"));
        }
        let size = self.positive("a size")?;
        let (mut align, mut min_count, mut from, mut site) = (WORD, 1, Allocator::Slab, object);
        while let Some(word) = self.next() {
            match word.split_once('=') {
                Some(("align", value)) => {
                    let value = number(value)?;
                    if !value.is_power_of_two() {
                        return Err(format!("alignment {value} is not a power of two"));
                    }
                    align = value.max(WORD);
                }
                Some(("min_count", value)) => {
                    let value = signed(value)?;
                    min_count = i32::try_from(value)
                        .ok()
                        .filter(|count| *count >= -1)
                        .ok_or_else(|| format!("{value} is no min_count"))?;
                }
                Some(("from", "slab")) => from = Allocator::Slab,
                Some(("from", "pages")) => from = Allocator::Pages,
                Some(("from", "vmalloc")) => from = Allocator::Vmalloc,
                Some(("from", "percpu")) => from = Allocator::Percpu,
                Some(("site", label)) if !label.is_empty() => site = label,
                _ => return Err(format!("\"{word}\" is nothing that alloc takes")),
            }
        }
        size_suits(from, size)?;
        Ok(Statement::Alloc {
            name: object,
            size,
            align,
            min_count,
            from,
            site,
        })
    }

    fn expectation(&mut self) -> Parsed<Expectation<'s>> {
        Ok(match self.word("what is expected")? {
            "leaks" => Expectation::Leaks(self.names()?),
            "direct" => Expectation::Direct(self.names()?),
            "indirect" => Expectation::Indirect(self.names()?),
            "record" => Expectation::Record(
                self.name()?,
                self.size("bytes of its own")?,
                self.size("indirect bytes")?,
            ),
            "total" => Expectation::Total {
                bytes: self.size("bytes")?,
                blocks: self.size("blocks")?,
            },
            "groups" => Expectation::Groups(self.size("a number")?),
            "interior" => Expectation::Interior(self.names()?),
            "suppressed" => Expectation::Suppressed(self.names()?),
            "new" => Expectation::New(self.names()?),
            "growth" => Expectation::Growth(
                self.word("a label")?,
                self.signed("bytes")?,
                self.signed("blocks")?,
            ),
            "holders" => Expectation::Holders(self.name()?, self.slots()?),
            "path" => Expectation::Path(self.name()?, self.slots()?),
            "warning" => Expectation::Warning(self.text("a text")?),
            "quiet" => Expectation::Quiet,
            "tracked" => Expectation::Tracked(self.size("a number")?),
            "state" => Expectation::State(match self.word("a state")? {
                "enabled" => Expected::Enabled,
                "disabled" => Expected::Disabled,
                "incomplete" => Expected::Incomplete,
                word => return Err(format!("\"{word}\" is no state")),
            }),
            word => return Err(format!("\"{word}\" is nothing to expect")),
        })
    }
}

/// Whether an allocator has blocks of this size.
pub(crate) fn size_suits(from: Allocator, size: usize) -> Parsed<()> {
    let (suits, what) = match from {
        Allocator::Slab => (size <= SLAB_MAX, "a block of a slab"),
        Allocator::Pages => (
            size.is_multiple_of(PAGE) && size.is_power_of_two(),
            "a power of two of pages",
        ),
        Allocator::Vmalloc => (size.is_multiple_of(PAGE), "whole pages"),
        Allocator::Percpu => (true, ""),
    };
    if suits {
        Ok(())
    } else {
        Err(format!("{size} bytes are not {what}"))
    }
}

/// Decimal, or hexadecimal after `0x`.
fn number(word: &str) -> Parsed<usize> {
    let (digits, radix) = match word.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (word, 10),
    };
    // What the library would take beside digits.
    if digits.starts_with('+') {
        return Err(format!("\"{word}\" is no number"));
    }
    usize::from_str_radix(digits, radix).map_err(|_| format!("\"{word}\" is no number"))
}

fn signed(word: &str) -> Parsed<i64> {
    let (digits, sign) = match word.strip_prefix('-') {
        Some(digits) => (digits, -1),
        None => (word, 1),
    };
    let value = number(digits.strip_prefix('+').unwrap_or(digits))?;
    i64::try_from(value)
        .map(|value| sign * value)
        .map_err(|_| format!("\"{word}\" is too large"))
}

/// A name, or that of what is behind a hole in the object of that name.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Statement<'_> {
        let script = Script::parse(line).unwrap();
        assert_eq!(script.lines.len(), 1);
        script.lines.into_iter().next().unwrap().statement
    }

    fn refused(line: &str) -> String {
        Script::parse(line).unwrap_err().reason_text()
    }

    impl Failure {
        fn reason_text(self) -> String {
            match self.reason {
                Reason::Syntax(text) => text,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn comments_and_blank_lines_say_nothing() {
        assert!(
            Script::parse("# a comment\n\n  \n")
                .unwrap()
                .lines
                .is_empty()
        );
        assert_eq!(one("check # now"), Statement::Check);
    }

    #[test]
    fn alloc_has_defaults_and_options() {
        let plain = Statement::Alloc {
            name: "A",
            size: 64,
            align: 8,
            min_count: 1,
            from: Allocator::Slab,
            site: "A",
        };
        assert_eq!(one("alloc A 0x40"), plain);
        let full = Statement::Alloc {
            name: "A",
            size: 4096,
            align: 64,
            min_count: -1,
            from: Allocator::Pages,
            site: "probe",
        };
        let text = "alloc A 4096 align=64 min_count=-1 from=pages site=probe";
        assert_eq!(one(text), full);
    }

    #[test]
    fn slots_of_all_kinds() {
        let slot = |text: &'static str| match one(text) {
            Statement::Erase(slot) => slot,
            other => panic!("{other:?}"),
        };
        assert_eq!(slot("erase data 3"), Slot::Place(Place::Data(3)));
        assert_eq!(slot("erase percpu 1 5"), Slot::Place(Place::PerCpu(1, 5)));
        assert_eq!(slot("erase region 3 63"), Slot::Place(Place::Region(3, 63)));
        let word = |cpu, offset| {
            Slot::Word(Word {
                name: "A",
                cpu,
                offset,
            })
        };
        assert_eq!(slot("erase A"), word(None, 0));
        assert_eq!(slot("erase A+0x10"), word(None, 16));
        assert_eq!(slot("erase A[1]+8"), word(Some(1), 8));
    }

    #[test]
    fn targets_of_all_kinds() {
        let target = |text: &'static str| match one(text) {
            Statement::Store(_, target) => target,
            other => panic!("{other:?}"),
        };
        assert_eq!(target("bss 0 = A"), Target::At("A", 0));
        assert_eq!(target("bss 0 = A+7"), Target::At("A", 7));
        assert_eq!(target("bss 0 = A.tail-8"), Target::At("A.tail", -8));
        assert_eq!(target("bss 0 = end A"), Target::End("A"));
        assert_eq!(target("bss 0 = hidden A"), Target::Hidden("A"));
        assert_eq!(target("bss 0 = 0xff"), Target::Number(255));
    }

    #[test]
    fn stack_is_a_slot_and_a_switch() {
        let store = Statement::Store(Slot::Place(Place::Stack(0)), Target::Number(1));
        assert_eq!(one("stack 0 = 1"), store);
        assert_eq!(one("stack off"), Statement::Stack(Switch::Off));
        let named = Target::At("scan", 0);
        let word = Word {
            name: "check",
            cpu: None,
            offset: 0,
        };
        assert_eq!(
            one("check = scan"),
            Statement::Store(Slot::Word(word), named)
        );
        let warning = Expectation::Warning("a = b");
        assert_eq!(one("expect warning a = b"), Statement::Expect(warning));
    }

    #[test]
    fn expectations_with_lists() {
        let holders = Expectation::Holders(
            "B",
            Vec::from([
                Slot::Place(Place::Data(1)),
                Slot::Word(Word {
                    name: "A",
                    cpu: None,
                    offset: 16,
                }),
            ]),
        );
        assert_eq!(
            one("expect holders B data 1 A+16"),
            Statement::Expect(holders)
        );
        let none = Expectation::Leaks(Vec::new());
        assert_eq!(one("expect leaks none"), Statement::Expect(none));
        let growth = Expectation::Growth("push", -256, -2);
        assert_eq!(one("expect growth push -256 -2"), Statement::Expect(growth));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let failure = Script::parse("check\n\nchek").unwrap_err();
        assert_eq!(failure.line, 3);
        assert_eq!(failure.reason_text(), "\"chek\" is no statement");
        assert_eq!(refused("alloc end 8"), "\"end\" is no name");
        assert_eq!(refused("alloc A 0"), "a size of 0");
        assert_eq!(
            refused("alloc A 9000"),
            "9000 bytes are not a block of a slab"
        );
        assert_eq!(refused("free"), "a name is missing");
        assert_eq!(refused("free A B"), "\"B\" is one word too many");
        assert_eq!(refused("A+4 = 0"), "offset 4 is not a multiple of 8");
        assert_eq!(refused("data 64 = 0"), "word 64 is not below 64");
        assert_eq!(refused("reg 4 = 0"), "register 4 is not below 4");
        assert_eq!(refused("page 4 = 0"), "page frame 4 is not below 4");
        assert_eq!(refused("percpu 2 0 = 0"), "there is no cpu 2");
        assert_eq!(refused("expect leaks"), "a name is missing");
        assert_eq!(refused("bss 0 = -1"), "\"\" is no name");
    }

    #[test]
    fn the_head_says_where_it_runs_and_the_body_on_how_many_cpus() {
        let script = Script::parse("# a test\n# only: qemu\npercpu 1 0 = 1").unwrap();
        assert_eq!((script.only, script.cpus), (Some(Only::Qemu), 2));
        assert_eq!(Script::parse("check\n# only: host").unwrap().only, None);
        let only = |text| Script::parse(text).unwrap().only;
        assert_eq!(only("#Only:host"), Some(Only::Host));
        assert_eq!(only("# Only what is lost: host"), None);
        assert_eq!(only("check\n# only: nowhere"), None);
    }

    #[test]
    fn a_head_that_names_no_place_is_wrong() {
        for place in ["", "nowhere", "host and qemu", "Host"] {
            let text = format!("# a test\n\n#  ONLY: {place}\nchek");
            let failure = Script::parse(&text).unwrap_err();
            assert_eq!(failure.line, 3);
            assert_eq!(failure.reason_text(), "only: takes host or qemu");
        }
    }

    #[test]
    fn a_mark_of_the_byte_order_says_nothing() {
        assert_eq!(one("\u{feff}check"), Statement::Check);
        let script = Script::parse("\u{feff}# only: host").unwrap();
        assert_eq!(script.only, Some(Only::Host));
    }
}
