//! Expectations: what the detector says, held against what it must say.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use kmemleak::{NoAnswer, Platform, Rank};

use crate::detector::{Found, Leak};
use crate::hidden::Hidden;
use crate::names::Object;
use crate::run::{Run, Stop};
use crate::statement::{Expectation, Expected, Name, Slot};

impl<P: Platform> Run<'_, P> {
    pub(crate) fn verify(&mut self, expectation: &Expectation<'_>) -> Result<(), Stop> {
        let of_now = matches!(
            expectation,
            Expectation::Warning(_)
                | Expectation::Quiet
                | Expectation::Tracked(_)
                | Expectation::Type(..)
                | Expectation::Counts(_)
                | Expectation::Stacks(_)
                | Expectation::State(_)
                | Expectation::Lost(_)
                | Expectation::Retains(..)
        );
        if !of_now && !self.checked {
            return Err(String::from("there was no check so far").into());
        }
        match *expectation {
            Expectation::Leaks(ref names) => self.same_set("leaks", names, self.leaks_of(|_| true)),
            Expectation::Direct(ref names) => {
                let direct = self.leaks_of(|rank| matches!(rank, Some(Rank::Leader { .. })));
                self.same_set("direct", names, direct)
            }
            Expectation::Indirect(ref names) => {
                let indirect = self.leaks_of(|rank| matches!(rank, Some(Rank::Owned { .. })));
                self.same_set("indirect", names, indirect)
            }
            Expectation::Record(name, own, indirect) => {
                let start = self.names.get(name)?.start;
                let mut leaks = self.subject.leaks().into_iter();
                let told = match leaks.find(|leak| leak.start == start) {
                    None => "no leak".into(),
                    Some(Leak {
                        rank: Some(Rank::Leader { owned_bytes, .. }),
                        size,
                        ..
                    }) => format!("{size} {owned_bytes}"),
                    Some(_) => "no leader".into(),
                };
                same(&format!("record {name} {own} {indirect}"), told, |told| {
                    told == format!("{own} {indirect}")
                })
            }
            Expectation::Total { bytes, blocks } => {
                let mut leaks = self.subject.leaks();
                leaks.retain(|leak| self.is_ours(leak.start));
                let sum: usize = leaks.iter().map(|leak| leak.size).sum();
                let told = format!("{sum} {}", leaks.len());
                let wanted = format!("{bytes} {blocks}");
                same(&format!("total {wanted}"), told, |told| told == wanted)
            }
            Expectation::Groups(groups) => {
                let mut leaks = self.subject.leaks();
                leaks.retain(|leak| self.is_ours(leak.start));
                let stacks: BTreeSet<u32> = leaks.iter().map(|leak| leak.call_stack).collect();
                equal("groups", groups, stacks.len())
            }
            Expectation::Interior(ref names) => {
                self.same_set("interior", names, self.subject.interior())
            }
            Expectation::Stacks(ref names) => match self.subject.stack_only() {
                Ok(told) => self.same_set("stacks", names, told),
                Err(why) => Err(why.to_string().into()),
            },
            Expectation::Suppressed(ref names) => {
                self.same_set("suppressed", names, self.subject.suppressed())
            }
            Expectation::New(ref names) => self.same_set("new", names, self.subject.new_leaks()),
            Expectation::Growth(label, bytes, blocks) => {
                let (more_bytes, more_blocks) = self.subject.growth(label);
                let wanted = format!("{bytes} {blocks}");
                let told = format!("{more_bytes} {more_blocks}");
                same(&format!("growth {label} {wanted}"), told, |told| {
                    told == wanted
                })
            }
            Expectation::Holders(name, ref slots) => {
                let holders = self.subject.holders(self.names.get(name)?.start);
                let (mut told, mut wanted) = (self.described(holders), self.written(slots)?);
                told.sort();
                wanted.sort();
                same_list(&format!("holders {name}"), &wanted, &told)
            }
            Expectation::Path(name, ref slots) => {
                let path = self.subject.path(self.names.get(name)?.start);
                let (told, wanted) = (self.described(path), self.written(slots)?);
                same_list(&format!("path {name}"), &wanted, &told)
            }
            Expectation::Type(name, wanted) => {
                let told = self.subject.type_of(self.names.get(name)?.start);
                let told = told.unwrap_or_else(|| "none".into());
                let wanted = wanted.unwrap_or("none");
                same(&format!("type {name} {wanted}"), told, |told| {
                    told == wanted
                })
            }
            Expectation::Cycle(name, ref names) => {
                let cycle = self.subject.cycle(self.names.get(name)?.start);
                let told: Vec<_> = cycle.into_iter().map(|at| self.name_of(at)).collect();
                let wanted: Vec<_> = names.iter().map(ToString::to_string).collect();
                same_list(&format!("cycle {name}"), &wanted, &told)
            }
            Expectation::Counts(ref wanted) => self.counts(wanted),
            Expectation::Warning(text) => {
                let warnings = self.subject.warnings();
                let told = first_lines(&warnings);
                same(&format!("warning {text}"), told, |_| {
                    warnings.contains(text)
                })
            }
            Expectation::Quiet => {
                let warnings = self.subject.warnings();
                same("quiet", first_lines(&warnings), |_| warnings.is_empty())
            }
            Expectation::Lost(ref waiters) => self.expect_lost(waiters),
            Expectation::Retains(waiter, bytes, blocks) => {
                self.expect_retains(waiter, bytes, blocks)
            }
            Expectation::Tracked(objects) => equal("tracked", objects, self.subject.tracked()),
            Expectation::State(state) => {
                let told = self.subject.state();
                let wanted = format!("state {}", state_word(state));
                same(&wanted, state_word(told).into(), |_| told == state)
            }
        }
    }

    /// The counts that are wrong, each as a script writes it.
    fn counts(&self, wanted: &[(Name<'_>, i64)]) -> Result<(), Stop> {
        let (mut told, mut written) = (Vec::new(), Vec::new());
        match self.subject.counts() {
            Ok(wrong) => {
                let ours = wrong.into_iter().filter(|(start, _)| self.is_ours(*start));
                told.extend(ours.map(|(start, more)| format!("{}{more:+}", self.name_of(start))));
            }
            Err(why) => told.push(why.to_string()),
        }
        for (name, more) in wanted {
            self.names.get(name)?;
            written.push(format!("{name}{more:+}"));
        }
        told.sort();
        written.sort();
        same_list("counts", &written, &told)
    }

    /// The leaks whose rank satisfies `is`.
    fn leaks_of(&self, is: impl Fn(Option<Rank>) -> bool) -> Vec<Hidden> {
        let leaks = self.subject.leaks().into_iter();
        leaks
            .filter(|leak| is(leak.rank))
            .map(|leak| leak.start)
            .collect()
    }

    /// What the script calls the object that starts there.
    fn name_of(&self, start: Hidden) -> String {
        match self.names.at(start) {
            Some(Object { name, .. }) => name.clone(),
            None => format!("{start:?}"),
        }
    }

    fn is_ours(&self, start: Hidden) -> bool {
        self.names.at(start).is_some() || self.machine.is_ours(start.get())
    }

    /// Whether the objects that start at `told` are those that are named, in any order.
    fn same_set(&self, what: &str, names: &[Name<'_>], mut told: Vec<Hidden>) -> Result<(), Stop> {
        for name in names {
            self.names.get(name)?;
        }
        told.retain(|&start| self.is_ours(start));
        let mut told: Vec<_> = told.into_iter().map(|at| self.name_of(at)).collect();
        let mut wanted: Vec<String> = names.iter().map(ToString::to_string).collect();
        told.sort();
        wanted.sort();
        same_list(what, &wanted, &told)
    }

    /// The words of an answer, or why there is none.
    fn described(&self, answer: Result<Vec<Found>, NoAnswer>) -> Vec<String> {
        let found = match answer {
            Ok(found) => found,
            Err(why) => return [why.to_string()].into(),
        };
        // A word that is no slot of a script has the platform's name.
        let name = |found: Found| match self.names.describe(found.word, self.machine) {
            Some(slot) => slot,
            None if found.name.is_empty() => format!("{:?}", found.word),
            None => format!("[{}]", found.name),
        };
        found.into_iter().map(name).collect()
    }

    fn describe(&self, words: &[Hidden]) -> Vec<String> {
        let words = words.iter();
        words
            .map(|&word| {
                let slot = self.names.describe(word, self.machine);
                slot.unwrap_or_else(|| format!("{word:?}"))
            })
            .collect()
    }

    /// Slots as [`describe`](Self::describe) writes them.
    fn written(&self, slots: &[Slot<'_>]) -> Result<Vec<String>, Stop> {
        let places: Result<Vec<Hidden>, String> = slots
            .iter()
            .map(|&slot| self.names.place(slot, self.machine))
            .collect();
        Ok(self.describe(&places?))
    }
}

pub(crate) fn same(
    wanted: &str,
    told: String,
    holds: impl FnOnce(&str) -> bool,
) -> Result<(), Stop> {
    if holds(&told) {
        return Ok(());
    }
    Err(Stop::Mismatch {
        expected: wanted.into(),
        got: told,
    })
}

fn equal(what: &str, wanted: usize, told: usize) -> Result<(), Stop> {
    same(&format!("{what} {wanted}"), told.to_string(), |_| {
        wanted == told
    })
}

pub(crate) fn same_list(what: &str, wanted: &[String], told: &[String]) -> Result<(), Stop> {
    let list = |names: &[String]| match names {
        [] => String::from("none"),
        names => names.join(" "),
    };
    same(&format!("{what} {}", list(wanted)), list(told), |_| {
        wanted == told
    })
}

/// The lines of warnings that say what was wrong; those with call stacks begin with a blank.
fn first_lines(warnings: &str) -> String {
    let lines = warnings.lines().filter(|line| !line.starts_with(' '));
    let lines: Vec<&str> = lines.collect();
    if lines.is_empty() {
        return "no warning".into();
    }
    lines.join("; ")
}

fn state_word(state: Expected) -> &'static str {
    match state {
        Expected::Enabled => "enabled",
        Expected::Disabled => "disabled",
        Expected::Incomplete => "incomplete",
    }
}
