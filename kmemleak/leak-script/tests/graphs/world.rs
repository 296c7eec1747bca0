//! The oracle's world: what a script has built so far.
//!
//! It reads the text of a script by itself and keeps what each statement means, in the words of the format: objects,
//! words, and what points where. An address is the block that it belongs to and a distance from its start, so nothing
//! here depends on where a block lies. It also holds scripts to the rules that keep them free of such
//! luck: no stale pointer when memory is given out, none beside an object that may have a neighbour, no expectation
//! that is not about the verdict just made.

use std::collections::{BTreeMap, BTreeSet};

use crate::tasks::Tasks;
use crate::types;
use crate::verdict::Verdict;

pub type Told<T> = Result<T, String>;

const WORD: usize = 8;
/// Bytes of the smallest block that is looked at for its counts.
const COUNTED: usize = 24;
/// Places outside of objects, and whether two numbers follow their names.
const PLACES: [(&str, bool); 8] = [
    ("data", false),
    ("bss", false),
    ("percpu", true),
    ("page", false),
    ("stack", false),
    ("dead", false),
    ("reg", false),
    ("region", true),
];

/// Where a word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// Outside of objects: the kind of place, and its one or two numbers.
    Place(&'static str, usize, usize),
    /// In a block, in this copy of it.
    Block {
        block: usize,
        cpu: usize,
        offset: usize,
    },
}

/// What a word holds. One that holds 0 is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// An address, so far from where a block starts.
    At(usize, i64),
    /// Such an address, inverted.
    Hidden(usize, i64),
    Number(usize),
}

/// What can be live or lost. Its number is its place in the list of all that ever were.
#[derive(Clone, Debug)]
pub struct Object {
    pub name: String,
    pub block: usize,
    /// Where in the block it starts: parts of a block are objects, too.
    pub start: usize,
    pub size: usize,
    pub min_count: i64,
    pub percpu: bool,
    pub pages: bool,
    pub no_scan: bool,
    /// What its call stack says of its type.
    pub block_type: Option<String>,
    pub areas: Vec<(usize, usize)>,
    pub label: String,
    /// Its place in the order of allocation.
    pub order: usize,
    pub born_us: u64,
    pub freed: bool,
    /// There was memory for its record.
    pub tracked: bool,
    /// What the last scan that found it unreferenced saw.
    pub seen: Option<Vec<(Slot, Value)>>,
    /// The format doesn't say whether that counts: the scan suppressed it, or it lost a part since.
    pub seen_in_doubt: bool,
}

impl Object {
    pub fn is_gray(&self) -> bool {
        self.min_count == 0
    }

    pub fn is_black(&self) -> bool {
        self.min_count < 0
    }

    /// All its words are scanned, and it has one copy.
    pub fn is_scanned_as_a_whole(&self) -> bool {
        !self.no_scan && !self.percpu && self.areas.is_empty()
    }

    /// Its first words are counts.
    fn is_counted(&self) -> bool {
        self.block_type.as_deref().is_some_and(types::is_counted)
    }

    /// The names in its call stack: the label, and of a block that has a type the constructor that was inlined there.
    pub fn functions(&self) -> Vec<String> {
        let constructor = self.block_type.as_deref().map(types::constructor);
        constructor
            .into_iter()
            .chain([self.label.clone()])
            .collect()
    }

    fn contains(&self, block: usize, distance: i64) -> bool {
        self.block == block
            && distance >= self.start as i64
            && distance < (self.start + self.size) as i64
    }
}

/// A word that points into an object.
#[derive(Clone, Copy, Debug)]
pub struct Pointer {
    pub slot: Slot,
    /// The object that it lies in; none if it lies in a root.
    pub from: Option<usize>,
    pub to: usize,
    pub at_start: bool,
    pub scanned: bool,
}

/// A block, and where an object in it begins and ends.
pub type Part = (usize, usize, usize);

/// What was when `mark` was called.
#[derive(Clone, Debug, Default)]
pub struct Mark {
    pub leaks: Vec<usize>,
    /// Where they begin and end.
    pub parts: Vec<Part>,
    pub sites: BTreeMap<String, (i64, i64)>,
}

#[derive(Default)]
pub struct World {
    pub objects: Vec<Object>,
    pub words: BTreeMap<Slot, Value>,
    /// Original size of each block.
    blocks: Vec<usize>,
    /// Some memory was freed.
    gave_back: bool,
    /// How often each region was added.
    regions: BTreeMap<usize, usize>,
    stack_off: bool,
    disabled: usize,
    pub metadata_off: bool,
    pub off: bool,
    pub tasks: Tasks,
    pub patterns: Vec<String>,
    pub min_age_us: u64,
    pub now_us: u64,
    pub verdict: Option<Verdict>,
    /// What the last scan reported.
    pub reported: BTreeSet<usize>,
    /// What one reported before, of which the format doesn't say whether that counts still.
    pub reported_in_doubt: BTreeSet<usize>,
    /// Nothing but marks and expectations came after the verdict.
    pub fresh: bool,
    pub mark: Option<Mark>,
}

impl World {
    /// One line of a script; an expectation is compared.
    pub fn line(&mut self, line: &str) -> Told<()> {
        let line = line.split('#').next().unwrap_or("").trim();
        if line.is_empty() {
            return Ok(());
        }
        self.now_us += 1;
        let words: Vec<&str> = line.split_whitespace().collect();
        if words[0] == "expect" {
            return self.expect(&words[1..]);
        }
        if let Some(sign) = words.iter().position(|&word| word == "=") {
            self.fresh = false;
            let slot = self.slot(&words[..sign])?;
            let value = self.value(&words[sign + 1..])?;
            self.set(slot, value);
            return Ok(());
        }
        self.fresh &= words[0] == "mark";
        self.statement(&words)
    }

    fn statement(&mut self, words: &[&str]) -> Told<()> {
        match *words {
            ["alloc", name, size, ref options @ ..] => self.alloc(name, number(size)?, options)?,
            ["free", name] => {
                let id = self.named(name)?;
                self.objects[id].freed = true;
                self.gave_back = true;
            }
            ["realloc", name, size] => self.realloc(name, number(size)?)?,
            ["free_part", name, offset, len] => {
                self.free_part(name, number(offset)?, number(len)?)?;
            }
            ["not_leak", name] => self.change(name, |object| object.min_count = 0)?,
            ["ignore", name] => self.change(name, |object| object.min_count = -1)?,
            ["no_scan", name] => self.change(name, |object| object.no_scan = true)?,
            ["transient_leak", name] => {
                // It is as if no scan had ever met it.
                if let Ok(id) = self.live_named(name) {
                    self.reported.remove(&id);
                    self.reported_in_doubt.remove(&id);
                }
                self.change(name, |object| object.seen = None)?;
            }
            ["scan_area", name, offset, len] => {
                let (offset, len) = (number(offset)?, number(len)?);
                self.change(name, |object| {
                    if offset + len <= object.size {
                        object.areas.push((offset, len));
                    }
                })?;
            }
            ["update_trace", name, site] => {
                let label = site.strip_prefix("site=").ok_or("no site=")?;
                self.change(name, |object| {
                    // The label alone says no type.
                    object.block_type = None;
                    object.label = label.into();
                })?;
            }
            ["strong", name, count] => self.set_count(name, 0, count)?,
            ["weak", name, count] => self.set_count(name, WORD, count)?,
            ["erase", ref slot @ ..] => {
                let slot = self.slot(slot)?;
                self.words.remove(&slot);
            }
            // It is not noted.
            ["region", "add", _] if self.metadata_off => {}
            ["region", "add", region] => *self.regions.entry(number(region)?).or_default() += 1,
            ["region", "remove", region] => {
                let count = self.regions.entry(number(region)?).or_default();
                *count = count.saturating_sub(1);
            }
            ["disabled", "begin"] => self.disabled += 1,
            ["disabled", "end"] => self.disabled = self.disabled.saturating_sub(1),
            ["suppress", pattern] => self.patterns.push(pattern.into()),
            ["stack", switch] => self.stack_off = switch == "off",
            ["min_age", ms] => self.min_age_us = number(ms)? as u64 * 1000,
            ["advance", ms] => self.now_us += number(ms)? as u64 * 1000,
            ["check"] => self.judge(Verdict::of_check)?,
            ["scan"] => self.judge(Verdict::of_scan)?,
            ["clear"] => {
                let leaks = self.verdict.as_ref().map(|verdict| verdict.leaks.clone());
                for id in leaks.unwrap_or_default() {
                    self.objects[id].min_count = 0;
                }
            }
            // It fails, and the one before stays.
            ["mark"] if self.metadata_off => {}
            ["mark"] => {
                let leaks = self.verdict.as_ref().map(|verdict| verdict.leaks.clone());
                let leaks = leaks.unwrap_or_default();
                self.mark = Some(Mark {
                    parts: leaks.iter().map(|&id| self.part(id)).collect(),
                    leaks,
                    sites: self.sites(),
                });
            }
            ["off"] => self.off = true,
            ["metadata", switch] => self.metadata_off = switch == "off",
            _ => {
                let told = self.task_statement(words);
                return told.unwrap_or_else(|| Err(format!("{words:?} is no statement")));
            }
        }
        Ok(())
    }

    fn judge(&mut self, verdict: fn(&mut Self) -> Verdict) -> Told<()> {
        self.beside_a_neighbour()?;
        if !self.off {
            self.verdict = Some(verdict(self));
        }
        self.fresh = true;
        Ok(())
    }

    /// Refuses pointers that lie just outside of an object while there are others.
    fn beside_a_neighbour(&self) -> Told<()> {
        if self.live().count() < 2 {
            return Ok(());
        }
        for value in self.words.values() {
            let Value::At(block, distance) = *value else {
                continue;
            };
            let size = self.blocks[block];
            let slack = size.next_multiple_of(WORD);
            let gone = self.live().all(|id| self.objects[id].block != block);
            if !gone && !(0..slack as i64).contains(&distance) {
                return Err("a pointer lies where a neighbour may be".into());
            }
        }
        Ok(())
    }

    /// Words that point at memory that was freed.
    pub fn stale(&self) -> Vec<Slot> {
        if !self.gave_back {
            return Vec::new();
        }
        let is_stale = |value: &Value| match *value {
            Value::At(block, distance) => !self
                .live()
                .any(|id| self.objects[id].contains(block, distance) || !self.cut(block)),
            _ => false,
        };
        let words = self.words.iter();
        words
            .filter(|(slot, value)| is_stale(value) && self.is_memory(**slot))
            .map(|(&slot, _)| slot)
            .collect()
    }

    /// Whether a block or a part of it was freed.
    fn cut(&self, block: usize) -> bool {
        let objects = self.live().map(|id| &self.objects[id]);
        let left: usize = objects
            .filter(|object| object.block == block)
            .map(|object| object.size)
            .sum();
        left < self.blocks[block]
    }

    /// Whether a slot is not in a freed object.
    pub fn is_memory(&self, slot: Slot) -> bool {
        matches!(slot, Slot::Place(..)) || self.owner(slot).is_some()
    }

    /// The object that a slot lies in.
    pub fn owner(&self, slot: Slot) -> Option<usize> {
        match slot {
            Slot::Block { block, offset, .. } => self
                .live()
                .find(|&id| self.objects[id].contains(block, offset as i64)),
            Slot::Place(..) => None,
        }
    }

    /// Objects that were not freed, tracked or not.
    pub fn live(&self) -> impl Iterator<Item = usize> {
        (0..self.objects.len()).filter(|&id| !self.objects[id].freed)
    }

    /// Those of them that the detector knows.
    pub fn tracked(&self) -> impl Iterator<Item = usize> {
        self.live().filter(|&id| self.objects[id].tracked)
    }

    pub fn part(&self, id: usize) -> Part {
        let object = &self.objects[id];
        (object.block, object.start, object.start + object.size)
    }

    /// The latest object of this name.
    fn named(&self, name: &str) -> Told<usize> {
        let found = self.objects.iter().rposition(|object| object.name == name);
        found.ok_or_else(|| format!("nothing was ever named {name}"))
    }

    pub fn live_named(&self, name: &str) -> Told<usize> {
        let id = self.named(name)?;
        if self.objects[id].freed {
            return Err(format!("{name} is not live"));
        }
        Ok(id)
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Object)) -> Told<()> {
        let id = self.named(name)?;
        change(&mut self.objects[id]);
        Ok(())
    }

    fn alloc(&mut self, name: &str, size: usize, options: &[&str]) -> Told<()> {
        if self.live_named(name).is_ok() {
            return Err(format!("{name} is live"));
        }
        let (mut min_count, mut from, mut label) = (1, "slab", name);
        let mut block_type = None;
        let counted = options.contains(&"counted");
        for option in options {
            match option.split_once('=') {
                Some(("min_count", count)) => {
                    min_count = count.parse().map_err(|_| format!("{count}?"))?;
                }
                Some(("from", place)) => from = place,
                Some(("site", site)) => label = site,
                Some(("type", text)) => block_type = Some(text.to_owned()),
                Some(("align", _)) => {}
                None if *option == "counted" => {}
                _ => return Err(format!("{option}?")),
            }
        }
        if counted {
            block_type = Some(format!("alloc::sync::ArcInner<{label}>"));
        }
        if self.disabled > 0 {
            // Of a black one it is no leak either.
            min_count = min_count.min(0);
        }
        self.blocks.push(size);
        self.add(Object {
            name: name.into(),
            block: self.blocks.len() - 1,
            start: 0,
            size,
            min_count,
            percpu: from == "percpu",
            pages: from == "pages",
            no_scan: false,
            block_type,
            areas: Vec::new(),
            label: label.into(),
            order: self.objects.len(),
            born_us: self.now_us,
            freed: false,
            tracked: !self.metadata_off,
            seen: None,
            seen_in_doubt: false,
        })?;
        if counted {
            self.set_count(name, 0, "1")?;
            self.set_count(name, WORD, "1")?;
        }
        Ok(())
    }

    /// Stores a count, which may be negative.
    fn set_count(&mut self, name: &str, offset: usize, count: &str) -> Told<()> {
        let slot = self.slot(&[&format!("{name}+{offset}")])?;
        let count: i64 = count.parse().map_err(|_| format!("{count}?"))?;
        self.set(slot, Value::Number(count as usize));
        Ok(())
    }

    fn add(&mut self, object: Object) -> Told<()> {
        if !self.stale().is_empty() {
            return Err("a word still points at freed memory".into());
        }
        if !self.stale_waits().is_empty() {
            return Err("a task still waits for freed memory".into());
        }
        self.objects.push(object);
        Ok(())
    }

    /// An alloc, a copy and a free.
    fn realloc(&mut self, name: &str, size: usize) -> Told<()> {
        let id = self.live_named(name)?;
        let old = self.objects[id].clone();
        self.blocks.push(size);
        let block = self.blocks.len() - 1;
        self.add(Object {
            block,
            start: 0,
            size,
            no_scan: false,
            areas: Vec::new(),
            order: self.objects.len(),
            born_us: self.now_us,
            tracked: !self.metadata_off,
            seen: None,
            seen_in_doubt: false,
            ..old.clone()
        })?;
        for (slot, value) in self.contents(id) {
            if let Slot::Block { cpu, offset, .. } = slot
                && offset - old.start + WORD <= size
            {
                let offset = offset - old.start;
                self.words.insert(Slot::Block { block, cpu, offset }, value);
            }
        }
        self.tasks.moved(id, self.objects.len() - 1);
        self.objects[id].freed = true;
        self.gave_back = true;
        Ok(())
    }

    fn free_part(&mut self, name: &str, offset: usize, len: usize) -> Told<()> {
        let id = self.live_named(name)?;
        self.objects[id].seen_in_doubt = self.objects[id].seen.is_some();
        let whole = self.objects[id].clone();
        if !whole.pages || offset + len > whole.size {
            return Err(format!("{name} has no such pages"));
        }
        let (start, size) = (whole.start + offset + len, whole.size - offset - len);
        if size > 0 {
            // The order of allocation is that of the whole. Where there is no memory only what lies at one end stays known.
            self.objects.push(Object {
                name: format!("{name}.tail"),
                start,
                size,
                areas: areas_of(&whole.areas, offset + len, whole.size),
                tracked: whole.tracked && (offset == 0 || !self.metadata_off),
                ..whole.clone()
            });
        }
        self.gave_back = true;
        self.objects[id].areas = areas_of(&whole.areas, 0, offset);
        self.objects[id].size = offset;
        self.objects[id].freed = offset == 0;
        Ok(())
    }

    fn set(&mut self, slot: Slot, value: Value) {
        match value {
            Value::Number(0) => self.words.remove(&slot),
            value => self.words.insert(slot, value),
        };
    }

    /// The slot that all these words name.
    pub fn slot(&self, words: &[&str]) -> Told<Slot> {
        match self.slots(words)?[..] {
            [slot] => Ok(slot),
            _ => Err(format!("{words:?} is not one slot")),
        }
    }

    pub fn slots(&self, mut words: &[&str]) -> Told<Vec<Slot>> {
        let mut slots = Vec::new();
        while let [first, rest @ ..] = words {
            let place = PLACES.iter().find(|(name, _)| name == first);
            words = match (place, rest) {
                (Some(&(name, true)), [one, two, rest @ ..]) => {
                    slots.push(Slot::Place(name, number(one)?, number(two)?));
                    rest
                }
                (Some(&(name, false)), [one, rest @ ..]) => {
                    slots.push(Slot::Place(name, number(one)?, 0));
                    rest
                }
                (None, rest) => {
                    slots.push(self.word(first)?);
                    rest
                }
                _ => return Err(format!("{words:?} end too soon")),
            };
        }
        Ok(slots)
    }

    /// `NAME`, `NAME+OFF`, `NAME[cpu]+OFF`.
    fn word(&self, word: &str) -> Told<Slot> {
        let (name, offset) = match word.split_once('+') {
            Some((name, offset)) => (name, number(offset)?),
            None => (word, 0),
        };
        let (name, cpu) = match name.split_once('[') {
            Some((name, cpu)) => (name, Some(number(cpu.trim_end_matches(']'))?)),
            None => (name, None),
        };
        let object = &self.objects[self.live_named(name)?];
        let in_it = offset.is_multiple_of(WORD) && offset + WORD <= object.size;
        if !in_it || object.percpu != cpu.is_some() {
            return Err(format!("{word} is no word of an object"));
        }
        Ok(Slot::Block {
            block: object.block,
            cpu: cpu.unwrap_or(0),
            offset: object.start + offset,
        })
    }

    /// How a script writes a slot.
    pub fn written(&self, slot: Slot) -> String {
        match slot {
            Slot::Place(kind, one, two) if matches!(kind, "percpu" | "region") => {
                format!("{kind} {one} {two}")
            }
            Slot::Place(kind, word, _) => format!("{kind} {word}"),
            Slot::Block { cpu, offset, .. } => {
                let Some(id) = self.owner(slot) else {
                    return "a freed word".into();
                };
                let object = &self.objects[id];
                let (name, offset) = (&object.name, offset - object.start);
                if object.percpu {
                    format!("{name}[{cpu}]+{offset}")
                } else {
                    format!("{name}+{offset}")
                }
            }
        }
    }

    fn value(&self, words: &[&str]) -> Told<Value> {
        let object = |name: &str| self.named(name).map(|id| &self.objects[id]);
        Ok(match *words {
            ["end", name] => {
                let object = object(name)?;
                Value::At(object.block, (object.start + object.size) as i64)
            }
            ["hidden", name] => {
                let object = object(name)?;
                Value::Hidden(object.block, object.start as i64)
            }
            [word] if word.starts_with(|digit: char| digit.is_ascii_digit()) => {
                Value::Number(number(word)?)
            }
            [word] => {
                let sign = word.find(['+', '-']).unwrap_or(word.len());
                let (name, distance) = word.split_at(sign);
                let mut offset = match distance.get(1..) {
                    Some(distance) => number(distance)? as i64,
                    None => 0,
                };
                if distance.starts_with('-') {
                    offset = -offset;
                }
                let object = object(name)?;
                Value::At(object.block, object.start as i64 + offset)
            }
            _ => return Err(format!("{words:?} is no target")),
        })
    }

    // What points where.

    /// Whether a place is a root now.
    fn is_root(&self, kind: &str, number: usize) -> bool {
        match kind {
            "dead" => false,
            "stack" | "reg" => !self.stack_off,
            "region" => self.regions.get(&number).is_some_and(|&count| count > 0),
            _ => true,
        }
    }

    /// Whether a word in an object is scanned while the object is.
    fn is_scanned(&self, object: &Object, offset: usize) -> bool {
        let offset = offset - object.start;
        let within =
            |&(start, len): &(usize, usize)| offset >= start && offset + WORD <= start + len;
        !object.no_scan
            && !object.is_black()
            && (object.areas.is_empty() || object.areas.iter().any(within))
    }

    /// The tracked object that an address lies in.
    fn pointee(&self, value: Value) -> Option<usize> {
        match value {
            Value::At(block, distance) => self
                .tracked()
                .find(|&id| self.objects[id].contains(block, distance)),
            _ => None,
        }
    }

    /// The counted objects of which the count is wrong, with what it is too high, as scripts write that. None where a count is a
    /// pointer.
    pub fn miscounts(&self) -> Told<Option<Vec<String>>> {
        let is_complete = self.live().all(|id| self.objects[id].tracked);
        if !is_complete || self.off || self.stack_off {
            return Err("there is no answer".into());
        }
        let counted = self.tracked().filter(|&id| {
            let object = &self.objects[id];
            object.is_counted() && object.min_count > 0 && object.size >= COUNTED
        });
        let mut wrong = Vec::new();
        for id in counted {
            let (Some(strong), Some(weak)) = (self.count(id, 0), self.count(id, WORD)) else {
                return Ok(None);
            };
            if let Some(more) = self.miscount(id, strong, weak) {
                wrong.push(format!("{}{more:+}", self.objects[id].name));
            }
        }
        wrong.sort();
        Ok(Some(wrong))
    }

    fn count(&self, id: usize, offset: usize) -> Option<i64> {
        let object = &self.objects[id];
        let slot = Slot::Block {
            block: object.block,
            cpu: 0,
            offset: object.start + offset,
        };
        match self.words.get(&slot) {
            None => Some(0),
            Some(Value::Number(number)) => Some(*number as i64),
            Some(Value::At(..) | Value::Hidden(..)) => None,
        }
    }

    fn miscount(&self, id: usize, strong: i64, weak: i64) -> Option<i64> {
        let object = &self.objects[id];
        let (mut words, mut starts) = (0, 0);
        for (&slot, &value) in &self.words {
            if self.pointee(value) != Some(id) {
                continue;
            }
            match slot {
                Slot::Place(kind, number, _) if !self.is_root(kind, number) => continue,
                Slot::Place("stack" | "reg" | "region", ..) => return None,
                Slot::Place(..) => {}
                Slot::Block { .. } if self.owner(slot).is_none() => continue,
                Slot::Block { .. } => {}
            }
            words += 1;
            starts += i64::from(value == Value::At(object.block, object.start as i64));
        }
        if strong < 0 || strong > words {
            return Some(strong - words);
        }
        let most = match (strong, weak) {
            (_, ..0) => return None,
            (0, weak) => weak,
            (strong, weak) => strong + weak.max(1) - 1,
        };
        (starts > most).then_some(most - starts)
    }

    /// Every word that points into a tracked object, in roots and in other tracked objects, scanned or not.
    pub fn pointers(&self) -> Vec<Pointer> {
        self.pointers_with(&|kind, number| self.is_root(kind, number))
    }

    /// As above, with those of the stacks, be they roots or not.
    pub fn pointers_with_stacks(&self) -> Vec<Pointer> {
        self.pointers_with(&|kind, number| {
            matches!(kind, "stack" | "reg") || self.is_root(kind, number)
        })
    }

    fn pointers_with(&self, is_root: &dyn Fn(&str, usize) -> bool) -> Vec<Pointer> {
        let mut pointers = Vec::new();
        for (&slot, &value) in &self.words {
            let Some(to) = self.pointee(value) else {
                continue;
            };
            let (from, scanned) = match slot {
                Slot::Place(kind, number, _) if is_root(kind, number) => (None, true),
                Slot::Place(..) => continue,
                Slot::Block { offset, .. } => match self.owner(slot) {
                    Some(id) if id != to && self.objects[id].tracked => {
                        (Some(id), self.is_scanned(&self.objects[id], offset))
                    }
                    _ => continue,
                },
            };
            let object = &self.objects[to];
            pointers.push(Pointer {
                slot,
                from,
                to,
                at_start: value == Value::At(object.block, object.start as i64),
                scanned,
            });
        }
        pointers
    }

    /// All words of an object that are not 0.
    pub fn contents(&self, id: usize) -> Vec<(Slot, Value)> {
        let object = &self.objects[id];
        let is_in = |slot: &Slot| match *slot {
            Slot::Block { block, offset, .. } => object.contains(block, offset as i64),
            Slot::Place(..) => false,
        };
        let words = self.words.iter().filter(|(slot, _)| is_in(slot));
        words.map(|(&slot, &value)| (slot, value)).collect()
    }

    /// Bytes and blocks at each site.
    pub fn sites(&self) -> BTreeMap<String, (i64, i64)> {
        let mut sites = BTreeMap::new();
        for id in self.tracked() {
            let object = &self.objects[id];
            let (bytes, blocks) = sites.entry(object.label.clone()).or_insert((0, 0));
            *bytes += object.size as i64;
            *blocks += 1;
        }
        sites
    }
}

/// Decimal or hexadecimal.
pub fn number(word: &str) -> Told<usize> {
    let number = match word.strip_prefix("0x") {
        Some(digits) => usize::from_str_radix(digits, 16),
        None => word.parse(),
    };
    number.map_err(|_| format!("{word} is no number"))
}

/// The areas of a part: cut to it; an empty one, where none reaches in.
fn areas_of(areas: &[(usize, usize)], first: usize, end: usize) -> Vec<(usize, usize)> {
    let mut cut = Vec::new();
    for &(start, len) in areas {
        let (from, to) = (start.max(first), (start + len).min(end));
        if from < to {
            cut.push((from - first, to - from));
        }
    }
    if cut.is_empty() && !areas.is_empty() {
        cut.push((0, 0));
    }
    cut
}
