//! Expectations: how the oracle states its verdict as a script would, and what it makes of a script's own.

use std::collections::{BTreeMap, BTreeSet};

use crate::types;
use crate::world::{Slot, Told, World, number};

/// Objects whose holders are asked for after a verdict.
const HELD: usize = 4;
/// As above, for paths.
const PATHS: usize = 4;
/// Counts are asked for where there were so many objects so far, or a multiple of that.
const COUNTED_EVERY: usize = 8;

impl World {
    /// Compares an expectation. Those of warnings, state and count of objects are none of the oracle's business.
    pub fn expect(&self, words: &[&str]) -> Told<()> {
        let (what, rest) = words.split_first().ok_or("nothing is expected")?;
        if matches!(*what, "warning" | "quiet" | "tracked" | "state") {
            return Ok(());
        }
        if *what == "counts" {
            let mut wanted: Vec<_> = rest.iter().filter(|word| **word != "none").collect();
            wanted.sort();
            let told = self.miscounts()?.ok_or("a count is a pointer")?;
            return match wanted
                .iter()
                .map(|word| **word)
                .eq(told.iter().map(String::as_str))
            {
                true => Ok(()),
                false => Err(format!("expected {wanted:?}, got {told:?}")),
            };
        }
        if !self.fresh && !matches!(*what, "lost" | "retains" | "type" | "stacks") {
            return Err("there was something after the verdict".into());
        }
        let told = match self.answer(words)? {
            Some(told) => told,
            None => return Err("the format leaves that open".into()),
        };
        let mut wanted: Vec<String> = match *what {
            "holders" | "path" => {
                let slots = match &rest[1..] {
                    ["none"] => Vec::new(),
                    slots => self.slots(slots)?,
                };
                slots.into_iter().map(|slot| self.written(slot)).collect()
            }
            "cycle" if rest[1..] == ["none"] => Vec::new(),
            "growth" | "cycle" | "type" => rest[1..].iter().map(ToString::to_string).collect(),
            "record" | "total" | "groups" | "retains" => {
                let names = usize::from(matches!(*what, "record" | "retains"));
                let numbers = rest.iter().skip(names);
                let numbers: Told<Vec<usize>> = numbers.map(|word| number(word)).collect();
                numbers?.iter().map(ToString::to_string).collect()
            }
            _ if *rest == ["none"] => Vec::new(),
            _ => rest.iter().map(ToString::to_string).collect(),
        };
        let is_set = matches!(
            *what,
            "leaks"
                | "direct"
                | "indirect"
                | "interior"
                | "suppressed"
                | "new"
                | "holders"
                | "lost"
        );
        if is_set {
            wanted.sort();
        }
        if wanted == told {
            Ok(())
        } else {
            Err(format!("expected {wanted:?}, got {told:?}"))
        }
    }

    /// What is to be said of this, in words: those of a set in order. None where the format leaves it open.
    fn answer(&self, words: &[&str]) -> Told<Option<Vec<String>>> {
        if words == ["counts"] {
            return self.miscounts();
        }
        if words[0] == "stacks" {
            return self.held_by_stacks().map(Some);
        }
        if matches!(words[0], "lost" | "retains") {
            return self.told_of_tasks(words).map(Some);
        }
        if let ["type", name, ..] = *words {
            let object = &self.objects[self.live_named(name)?];
            return Ok(match &object.block_type {
                Some(block_type) => types::written(block_type).map(|text| vec![text]),
                None => Some(vec!["none".into()]),
            });
        }
        let verdict = self.verdict.as_ref().ok_or("there was no verdict")?;
        let leaks: BTreeSet<usize> = verdict.leaks.iter().copied().collect();
        let words_of = |slots: &[Slot]| slots.iter().map(|&slot| self.written(slot)).collect();
        Ok(match *words {
            ["leaks", ..] => Some(self.names(&leaks)),
            ["direct", ..] => {
                let leaders = verdict.leaders.keys().copied().collect();
                Some(self.names(&leaders))
            }
            ["indirect", ..] => {
                let owned = verdict.leaders.values().flatten().copied().collect();
                Some(self.names(&owned))
            }
            ["record", name, ..] => {
                let id = self.live_named(name)?;
                let owned = verdict
                    .leaders
                    .get(&id)
                    .ok_or(format!("{name} is no leader"))?;
                let own = self.objects[id].size.to_string();
                Some(vec![own, self.bytes(owned).to_string()])
            }
            ["total", ..] => Some(vec![
                self.bytes(&leaks).to_string(),
                leaks.len().to_string(),
            ]),
            ["groups", ..] => {
                let stacks = leaks.iter().map(|&id| self.objects[id].functions());
                let stacks: BTreeSet<Vec<String>> = stacks.collect();
                Some(vec![stacks.len().to_string()])
            }
            ["interior", ..] => verdict.interior(self).map(|some| self.names(&some)),
            ["suppressed", ..] => verdict.suppressed(self).map(|some| self.names(&some)),
            ["new", ..] => self.mark.as_ref().and_then(|mark| {
                // Is the rest of a leak new?
                let is_rest = |id: &usize| {
                    let part = self.part(*id);
                    mark.parts.iter().any(|old| old.0 == part.0 && *old != part)
                };
                let new = leaks.iter().copied();
                let new = new.filter(|id| !mark.leaks.contains(id)).collect();
                (!leaks.iter().any(is_rest)).then(|| self.names(&new))
            }),
            ["growth", label, ..] => self.mark.as_ref().map(|mark| {
                let of = |sites: &BTreeMap<String, (i64, i64)>| {
                    sites.get(label).copied().unwrap_or_default()
                };
                let (before, now) = (of(&mark.sites), of(&self.sites()));
                let bytes = now.0 - before.0;
                vec![bytes.to_string(), (now.1 - before.1).to_string()]
            }),
            ["holders", name, ..] => {
                let mut holders: Vec<String> = words_of(&verdict.holders(self.live_named(name)?));
                holders.sort();
                Some(holders)
            }
            ["cycle", name, ..] => {
                let cycle = verdict.cycle(self, self.live_named(name)?);
                let name = |id: usize| self.objects[id].name.clone();
                cycle.map(|ids| ids.into_iter().map(name).collect())
            }
            ["path", name, ..] => verdict.path(self.live_named(name)?).map(words_of),
            _ => return Err(format!("{words:?} is nothing to expect")),
        })
    }

    pub fn names(&self, of: &BTreeSet<usize>) -> Vec<String> {
        let mut names: Vec<String> = of.iter().map(|&id| self.objects[id].name.clone()).collect();
        names.sort();
        names
    }

    pub fn bytes(&self, of: &BTreeSet<usize>) -> usize {
        of.iter().map(|&id| self.objects[id].size).sum()
    }

    /// An expectation of this, if there is one answer to it.
    fn stated(&self, about: &[&str]) -> Option<String> {
        let told = self.answer(about).ok()??;
        let told = if told.is_empty() {
            "none".into()
        } else {
            told.join(" ")
        };
        Some(format!("expect {} {told}", about.join(" ")))
    }

    /// All that is to be said of the verdict just made. Of many objects a few are asked about.
    pub fn expectations(&self) -> Vec<String> {
        let Some(verdict) = &self.verdict else {
            return Vec::new();
        };
        if verdict.open {
            return Vec::new();
        }
        let plain = [
            "leaks",
            "direct",
            "indirect",
            "total",
            "groups",
            "interior",
            "suppressed",
            "new",
        ];
        let mut all: Vec<String> = plain
            .iter()
            .filter_map(|what| self.stated(&[what]))
            .collect();
        // Two stops each, with waits between: now and then.
        if self.objects.len().is_multiple_of(COUNTED_EVERY) {
            all.extend(self.stated(&["counts"]));
        }
        all.extend(self.stated(&["stacks"]));
        all.extend(self.expectations_of_tasks());
        let name = |id: usize| self.objects[id].name.as_str();
        for &id in verdict.leaders.keys() {
            all.extend(self.stated(&["record", name(id)]));
            all.extend(self.stated(&["cycle", name(id)]));
        }
        if let Some(mark) = &self.mark {
            let (before, now) = (mark.sites.keys().cloned(), self.sites().into_keys());
            let sites: BTreeSet<String> = before.chain(now).collect();
            all.extend(
                sites
                    .iter()
                    .filter_map(|site| self.stated(&["growth", site])),
            );
        }
        let objects: Vec<usize> = self.tracked().collect();
        let step = objects.len().div_ceil(HELD).max(1);
        for &id in objects.iter().step_by(step) {
            all.extend(self.stated(&["holders", name(id)]));
            all.extend(self.stated(&["type", name(id)]));
        }
        let mut paths: Vec<(usize, String)> = objects
            .iter()
            .filter_map(|&id| Some((verdict.path(id)?.len(), id)))
            .filter_map(|(length, id)| Some((length, self.stated(&["path", name(id)])?)))
            .collect();
        // The longest first.
        paths.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
        all.extend(paths.into_iter().take(PATHS).map(|(_, path)| path));
        all
    }
    /// All that is to be said of tasks now.
    pub fn expectations_of_tasks(&self) -> Vec<String> {
        let questions = self.questions_of_tasks().into_iter();
        let stated = |question: String| self.stated(&question.split(' ').collect::<Vec<_>>());
        questions.filter_map(stated).collect()
    }
}
