//! From text to statements.
//!
//! One line at a time, by its words. A line with a slot and the word `=` stores; of any other the first word
//! tells what it is.

use alloc::format;
use alloc::vec::Vec;

mod words;

use self::words::{FEW, PAGE, Parsed, SLAB_MAX, WORD, Words, number, signed};
use crate::failure::{Failure, Reason};
use crate::statement::{Allocator, Counting, Expectation, Expected, Scope, Statement, Waiter};

/// Bytes of the smallest block that is looked at for its counts: these, and one word more.
const COUNTED: usize = 3 * WORD;

/// The only place where a script runs.
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
    /// The only place where it runs, if it names one.
    pub only: Option<Only>,
    /// CPUs that it needs.
    pub cpus: u32,
}

impl<'s> Script<'s> {
    /// Reads a script.
    pub fn parse(text: &'s str) -> Result<Self, Failure> {
        // The byte order mark, which some editors write.
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
/// run by mistake where its author did not want it to.
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

impl<'s> Words<'s> {
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
            "strong" => Statement::Strong(self.name()?, self.signed("a count")?),
            "weak" => Statement::Weak(self.name()?, self.signed("a count")?),
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
            "blocked" => self.blocked()?,
            "woken" => Statement::Woken(match self.peek() {
                None => Waiter::Parked,
                Some(_) => Waiter::Object(self.name()?),
            }),
            "task_list" => Statement::TaskList(self.name()?),
            "expect" => Statement::Expect(self.expectation()?),
            word => return Err(format!("\"{word}\" is no statement")),
        })
    }

    fn blocked(&mut self) -> Parsed<Statement<'s>> {
        let task = match self.peek() {
            Some("on") => Waiter::Parked,
            _ => Waiter::Object(self.name()?),
        };
        match self.word("\"on\"")? {
            "on" => {}
            word => return Err(format!("\"{word}\" is not \"on\"")),
        }
        if self.peek() != Some("end") {
            return Ok(Statement::Blocked(task, self.slot()?));
        }
        self.next();
        Ok(Statement::Joins(task, self.waiter()?))
    }

    /// `parked`, or the name of an object.
    fn waiter(&mut self) -> Parsed<Waiter<'s>> {
        if self.peek() == Some("parked") {
            self.next();
            return Ok(Waiter::Parked);
        }
        self.name().map(Waiter::Object)
    }

    fn waiters(&mut self) -> Parsed<Vec<Waiter<'s>>> {
        if self.peek() == Some("none") {
            self.next();
            return Ok(Vec::new());
        }
        let mut waiters = Vec::from([self.waiter()?]);
        while self.peek().is_some() {
            waiters.push(self.waiter()?);
        }
        Ok(waiters)
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
        let (mut block_type, mut counted) = (None, Counting::None);
        while let Some(word) = self.next() {
            if word == "counted" {
                counted = Counting::Arc;
                continue;
            }
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
                Some(("type", name)) if !name.is_empty() => block_type = Some(name),
                _ => return Err(format!("\"{word}\" is nothing that alloc takes")),
            }
        }
        size_suits(from, size)?;
        let is_arc = size >= COUNTED && block_type.is_none() && from != Allocator::Percpu;
        if counted == Counting::Arc && !is_arc {
            return Err(format!(
                "a counted block has {COUNTED} bytes or more, no other type, and one copy"
            ));
        }
        Ok(Statement::Alloc {
            name: object,
            size,
            align,
            min_count,
            from,
            site,
            block_type,
            counted,
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
            "stacks" => Expectation::Stacks(self.names()?),
            "suppressed" => Expectation::Suppressed(self.names()?),
            "new" => Expectation::New(self.names()?),
            "growth" => Expectation::Growth(
                self.word("a label")?,
                self.signed("bytes")?,
                self.signed("blocks")?,
            ),
            "holders" => Expectation::Holders(self.name()?, self.slots()?),
            "path" => Expectation::Path(self.name()?, self.slots()?),
            "counts" => Expectation::Counts(self.differences()?),
            "type" => Expectation::Type(
                self.name()?,
                Some(self.word("a type")?).filter(|name| *name != "none"),
            ),
            "cycle" => Expectation::Cycle(self.name()?, self.names()?),
            "warning" => Expectation::Warning(self.text("a text")?),
            "quiet" => Expectation::Quiet,
            "tracked" => Expectation::Tracked(self.size("a number")?),
            "state" => Expectation::State(match self.word("a state")? {
                "enabled" => Expected::Enabled,
                "disabled" => Expected::Disabled,
                "incomplete" => Expected::Incomplete,
                word => return Err(format!("\"{word}\" is no state")),
            }),
            "lost" => Expectation::Lost(self.waiters()?),
            "retains" => {
                Expectation::Retains(self.waiter()?, self.size("bytes")?, self.size("blocks")?)
            }
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

#[cfg(test)]
mod tests;
