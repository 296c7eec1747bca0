//! Random scripts: what each number stands for.
//!
//! A graph is laid out in shapes (chains, rings, trees, single pointers), some of them hang from roots; then its
//! objects are coloured, freed, moved, and so on; then comes a verdict, and in many a second part with changes and
//! another one. The oracle's world reads along, and says what there is to change.

use crate::random::Random;
use crate::world::{Slot, World};

/// Call sites that several objects share; they match the patterns in many ways.
const SITES: [&str; 9] = [
    "probe",
    "net_rx",
    "net_tx",
    "net",
    "usb_probe",
    "firmware_load",
    "x_rx_tx",
    "usb::net_rx",
    "net::driver::probe",
];
const PATTERNS: [&str; 13] = [
    "net*",
    "*probe",
    "*_*x",
    "probe",
    "*ware*",
    "net_*",
    "*_rx*",
    "f*_*d",
    "x*x",
    "nowhere*",
    "driver::probe",
    "driver*",
    "net",
];
/// Types, as debug information writes them. Patterns match some of them.
const TYPES: [&str; 10] = [
    "u64",
    "kernel::Node",
    "[u8;24]",
    "alloc::sync::ArcInner<kernel::net_rx>",
    "alloc::rc::RcInner<core::cell::Cell<u8>>",
    "alloc::rc::RcBox<[kernel::Node;2]>",
    "alloc::collections::btree::node::LeafNode<u64,kernel::Task>",
    "core::option::Option<usb::net_rx>",
    "(net::driver::probe,&str)",
    "hashbrown::raw::Bucket<(u8,kernel::x_rx_tx)>",
];
/// Bytes of the smallest block that is looked at for its counts.
const COUNTED: usize = 24;
const SIZES: [usize; 11] = [8, 16, 24, 32, 40, 64, 100, 129, 513, 1337, 4096];

struct Generator {
    random: Random,
    world: World,
    lines: Vec<String>,
    /// Names that were given.
    named: usize,
    /// Numbers for types and tasks: a graph is what it would be without them.
    apart: Random,
    /// There are tasks that wait.
    waits: bool,
    /// Patterns are used. Then every object wants one reference: how the references of suppressed objects count for
    /// one that wants more the format doesn't say.
    suppresses: bool,
}

/// The statements of a script, without expectations.
pub fn script(seed: u64) -> Vec<String> {
    let mut random = Random::new(seed);
    let suppresses = random.percent(40);
    let mut apart = Random::new(!seed);
    let waits = apart.percent(40);
    let mut generator = Generator {
        random,
        world: World::default(),
        lines: Vec::new(),
        named: 0,
        apart,
        waits,
        suppresses,
    };
    generator.generate();
    if waits {
        generator.more_of_parked();
    }
    generator.lines
}

impl Generator {
    fn say(&mut self, line: String) {
        let told = self.world.line(&line);
        told.unwrap_or_else(|why| panic!("{why}: {line}\n{:#?}", self.lines));
        self.lines.push(line);
    }

    fn generate(&mut self) {
        let objects = match self.random.below(100) {
            0..85 => self.random.between(2, 12),
            85..93 => self.random.between(13, 30),
            93..96 => self.random.between(31, 60),
            _ => return self.long_chain(),
        };
        (0..objects).for_each(|_| self.alloc());
        let rooted = self.random.between(0, objects.div_ceil(3));
        (0..rooted).for_each(|_| self.root());
        for _ in 0..self.random.between(1, 4) {
            self.shape();
        }
        let pointers = self.random.between(0, objects + objects / 2);
        (0..pointers).for_each(|_| self.pointer());
        for _ in 0..self.random.between(0, 1 + objects / 3) {
            self.change();
        }
        self.verdict();
        if self.random.percent(40) {
            if self.random.percent(20) {
                self.say("clear".into());
            }
            self.say("mark".into());
            for _ in 0..self.random.between(1, 1 + objects / 2) {
                match self.random.below(4) {
                    0 => self.alloc(),
                    1 => self.pointer(),
                    2 => self.cut(),
                    _ => self.change(),
                }
            }
            self.verdict();
        }
    }

    /// The chain is what matters: one in all, from a root or from nowhere.
    fn long_chain(&mut self) {
        let objects = self.random.between(20, 60);
        (0..objects).for_each(|_| self.alloc());
        let mut order = self.shuffled();
        if self.random.percent(50) {
            order.reverse();
        }
        if self.random.percent(60) {
            let place = self.place();
            let target = self.target_in(order[0]);
            self.say(format!("{place} = {target}"));
        }
        self.chain(&order);
        for _ in 0..self.random.between(0, 4) {
            self.pointer();
        }
        self.verdict();
        if self.random.percent(50) {
            self.cut();
            self.verdict();
        }
    }

    fn verdict(&mut self) {
        if self.waits {
            self.tasks();
        }
        if self.suppresses && self.random.percent(70) {
            let pattern = self.random.any(&PATTERNS);
            self.say(format!("suppress {pattern}"));
        }
        match self.random.below(100) {
            0..25 => {
                self.say("scan".into());
                self.say("scan".into());
            }
            // Some have changed when the second one comes.
            25..35 => {
                self.say("scan".into());
                self.pointer();
                self.cut();
                self.say("scan".into());
            }
            _ => self.say("check".into()),
        }
    }

    fn live(&self) -> Vec<usize> {
        self.world.live().collect()
    }

    fn some_object(&mut self) -> Option<usize> {
        let live = self.live();
        (!live.is_empty()).then(|| self.random.any(&live))
    }

    fn name(&self, id: usize) -> &str {
        &self.world.objects[id].name
    }

    fn shuffled(&mut self) -> Vec<usize> {
        let mut order = self.live();
        for last in (1..order.len()).rev() {
            order.swap(last, self.random.below(last + 1));
        }
        order
    }

    // Objects.

    fn alloc(&mut self) {
        self.overwrite_stale();
        let name = match self.named {
            letter @ 0..26 => char::from(b'A' + letter as u8).to_string(),
            number => format!("N{number}"),
        };
        self.named += 1;
        let (from, size) = match self.random.below(100) {
            0..84 => ("slab", self.random.any(&SIZES)),
            84..89 => ("pages", self.random.any(&[4096, 8192, 16384])),
            89..92 => ("vmalloc", self.random.any(&[4096, 12288])),
            _ => ("percpu", self.random.any(&[8, 24, 64])),
        };
        let mut line = format!("alloc {name} {size}");
        if from != "slab" || self.random.percent(5) {
            line += &format!(" from={from}");
        }
        let count = match self.random.below(100) {
            0..8 if from != "percpu" && !self.suppresses => 2,
            8..11 if from != "percpu" && !self.suppresses => 3,
            11..15 => 0,
            15..18 => -1,
            _ => 1,
        };
        if count != 1 {
            line += &format!(" min_count={count}");
        }
        if self.random.percent(60) {
            line += &format!(" site={}", self.random.any(&SITES));
        }
        if from == "slab" && self.random.percent(3) {
            line += " align=64";
        }
        // By their number, so that graphs are as they would be without counts.
        let strong = (from == "slab" && size >= COUNTED && self.named.is_multiple_of(4))
            .then_some(self.named / 4 % 4);
        let block_type = self.apart.any(&TYPES);
        let fits = !(block_type.contains("Inner<") || block_type.contains("RcBox<"))
            || (from == "slab" && size >= COUNTED);
        if strong.is_some() {
            line += " counted";
        } else if fits && self.apart.percent(30) {
            line += &format!(" type={block_type}");
        }
        let scoped = self.random.percent(2) && count == 1;
        if scoped {
            self.say("disabled begin".into());
        }
        self.say(line);
        if scoped {
            self.say("disabled end".into());
        }
        if let Some(strong) = strong {
            self.say(format!("strong {name} {}", strong as isize - 1));
        }
    }

    /// What scripts have to do before memory is given out.
    fn overwrite_stale(&mut self) {
        for slot in self.world.stale() {
            let slot = self.world.written(slot);
            if self.random.percent(50) {
                self.say(format!("{slot} = 0"));
            } else {
                self.say(format!("erase {slot}"));
            }
        }
        for task in self.world.stale_waits() {
            self.say(format!("woken {task}").trim().to_owned());
        }
    }

    fn change(&mut self) {
        let Some(id) = self.some_object() else {
            return;
        };
        let (name, object) = (self.name(id).to_owned(), &self.world.objects[id]);
        let (size, pages) = (object.size, object.pages);
        let (plain, percpu) = (object.min_count == 1, object.percpu);
        let words = size / 8;
        if pages && size > 4096 && self.random.percent(60) {
            // At one end: of two remains neither was allocated first.
            let len = 4096 * self.random.between(1, size / 4096 - 1);
            let offset = self.random.any(&[0, size - len]);
            return self.say(format!("free_part {name} {offset} {len}"));
        }
        match self.random.below(100) {
            0..15 => self.say(format!("no_scan {name}")),
            15..30 if words > 0 && !percpu => {
                for _ in 0..self.random.between(1, 2) {
                    let first = self.random.below(words);
                    let count = self.random.between(1, words - first);
                    self.say(format!("scan_area {name} {} {}", first * 8, count * 8));
                }
            }
            30..38 if plain => self.say(format!("not_leak {name}")),
            38..46 if plain => self.say(format!("ignore {name}")),
            46..60 => self.say(format!("free {name}")),
            60..66 if plain && !percpu && !pages && size <= 4096 => {
                self.overwrite_stale();
                let from_slab = self.random.any(&SIZES);
                let size = if size == 4096 { 4096 } else { from_slab };
                self.say(format!("realloc {name} {size}"));
            }
            66..72 => {
                let site = self.random.any(&SITES);
                self.say(format!("update_trace {name} site={site}"));
            }
            72..76 => self.say(format!("transient_leak {name}")),
            76..79 => {
                let switch = self.random.any(&["on", "off"]);
                self.say(format!("stack {switch}"));
            }
            79..84 => {
                let region = self.random.below(4);
                self.say(format!("region add {region}"));
            }
            _ => self.cut(),
        }
    }

    /// Overwrites a word.
    fn cut(&mut self) {
        let slots: Vec<Slot> = self.world.words.keys().copied().collect();
        if slots.is_empty() {
            return;
        }
        let slot = self.random.any(&slots);
        if self.world.owner(slot).is_some() || matches!(slot, Slot::Place(..)) {
            let slot = self.world.written(slot);
            self.say(format!("{slot} = 0"));
        }
    }

    // Tasks.

    /// Some tasks wait from now on, for what others hold, and some no more.
    fn tasks(&mut self) {
        let objects = self.live().len();
        for _ in 0..self.apart.between(1, 2 + objects / 2) {
            let Some(task) = self.some_task() else {
                continue;
            };
            match self.apart.below(100) {
                0..8 => self.say(format!("woken {task}").trim().to_owned()),
                _ => {
                    let on = self.awaited();
                    self.say(format!("blocked {task} on {on}").replace("  ", " "));
                }
            }
        }
        if self.apart.percent(25)
            && let Some(id) = self.apart_object()
            && !self.world.objects[id].percpu
        {
            self.say(format!("task_list {}", self.name(id)));
        }
    }

    /// The parked task holds more, and waits; the verdicts before do not know of it.
    fn more_of_parked(&mut self) {
        for _ in 0..self.apart.between(1, 4) {
            let Some(to) = self.apart_object() else {
                continue;
            };
            let to = self.name(to).to_owned();
            let place = match self.apart.below(3) {
                0 => format!("reg {}", self.apart.below(4)),
                _ => format!("stack {}", self.apart.below(64)),
            };
            self.say(format!("{place} = {to}"));
        }
        let on = self.awaited();
        self.say(format!("blocked on {on}"));
    }

    fn apart_object(&mut self) -> Option<usize> {
        let live = self.live();
        (!live.is_empty()).then(|| self.apart.any(&live))
    }

    /// The name of an object that can be a task, or no name, which is the parked one's.
    fn some_task(&mut self) -> Option<String> {
        if self.apart.percent(25) {
            return Some(String::new());
        }
        let id = self.apart_object()?;
        (!self.world.objects[id].percpu).then(|| self.name(id).to_owned())
    }

    /// What a task may wait for.
    fn awaited(&mut self) -> String {
        let kind = self.apart.below(100);
        if kind < 20
            && let Some(task) = self.some_task()
        {
            let name = if task.is_empty() { "parked" } else { &task };
            return format!("end {name}");
        }
        if kind >= 27
            && let Some(id) = self.apart_object()
        {
            let object = &self.world.objects[id];
            let (name, percpu, words) = (object.name.clone(), object.percpu, object.size / 8);
            if words > 0 {
                let offset = 8 * self.apart.below(words);
                return match percpu {
                    true => format!("{name}[{}]+{offset}", self.apart.below(2)),
                    false => format!("{name}+{offset}"),
                };
            }
        }
        match self.apart.below(3) {
            0 => format!("bss {}", self.apart.below(64)),
            1 => format!("data {}", self.apart.below(64)),
            _ => format!("region {} {}", self.apart.below(4), self.apart.below(64)),
        }
    }

    // Words.

    /// A word outside of objects.
    fn place(&mut self) -> String {
        // Few of each kind, so that they are overwritten at times.
        let word = self.random.below(12) * 5;
        match self.random.below(100) {
            0..20 => format!("data {word}"),
            20..45 => format!("bss {word}"),
            45..58 => format!("percpu {} {word}", self.random.below(2)),
            58..68 => format!("page {}", word % 4),
            68..78 => format!("stack {word}"),
            78..84 => format!("reg {}", word % 4),
            84..89 => format!("dead {word}"),
            _ => format!("region {} {word}", self.random.below(4)),
        }
    }

    /// A word of an object, if it has one.
    fn word_in(&mut self, id: usize) -> Option<String> {
        let object = &self.world.objects[id];
        let (name, percpu, words) = (object.name.clone(), object.percpu, object.size / 8);
        if words == 0 {
            return None;
        }
        let word = match self.random.below(4) {
            0 => 0,
            1 => words - 1,
            _ => self.random.below(words),
        };
        Some(if percpu {
            format!("{name}[{}]+{}", self.random.below(2), word * 8)
        } else {
            format!("{name}+{}", word * 8)
        })
    }

    /// An address in an object.
    fn target_in(&mut self, id: usize) -> String {
        let object = &self.world.objects[id];
        let (name, size) = (object.name.clone(), object.size);
        match self.random.below(100) {
            0..70 => name,
            70..78 => format!("{name}+{}", size - 1),
            _ => format!("{name}+{}", self.random.below(size)),
        }
    }

    fn target(&mut self, id: usize) -> String {
        let object = &self.world.objects[id];
        let (name, slack) = (&object.name, !object.size.is_multiple_of(8));
        match self.random.below(100) {
            0..4 => format!("hidden {name}"),
            4..8 if slack && !object.percpu => format!("end {name}"),
            8..11 => self.random.below(4096).to_string(),
            _ => self.target_in(id),
        }
    }

    fn root(&mut self) {
        if let Some(id) = self.some_object() {
            let (place, target) = (self.place(), self.target(id));
            self.say(format!("{place} = {target}"));
        }
    }

    fn pointer(&mut self) {
        let (Some(from), Some(to)) = (self.some_object(), self.some_object()) else {
            return;
        };
        let to = if self.random.percent(8) { from } else { to };
        if let Some(word) = self.word_in(from) {
            let target = self.target(to);
            self.say(format!("{word} = {target}"));
        }
    }

    /// A pointer from one to the other, in a word that holds none if one is soon found.
    fn link(&mut self, from: usize, to: usize) {
        let mut word = self.word_in(from);
        for _ in 0..4 {
            let slot = word
                .as_deref()
                .and_then(|word| self.world.slot(&[word]).ok());
            if slot.is_some_and(|slot| self.world.words.contains_key(&slot)) {
                word = self.word_in(from);
            }
        }
        if let Some(word) = word {
            let target = self.target_in(to);
            self.say(format!("{word} = {target}"));
        }
    }

    fn chain(&mut self, order: &[usize]) {
        for pair in order.windows(2) {
            self.link(pair[0], pair[1]);
        }
    }

    fn shape(&mut self) {
        let mut order = self.shuffled();
        if order.len() < 2 {
            return;
        }
        order.truncate(self.random.between(2, order.len()));
        match self.random.below(8) {
            0 => self.chain(&order),
            1 | 2 => {
                self.chain(&order);
                self.link(order[order.len() - 1], order[0]);
            }
            // A tree.
            3 => {
                for child in 1..order.len() {
                    self.link(order[(child - 1) / 2], order[child]);
                }
            }
            // Two rings, one hanging off the other.
            4 | 5 => {
                let (one, other) = order.split_at(order.len() / 2);
                for ring in [one, other] {
                    self.chain(ring);
                    if let [first, .., last] = *ring {
                        self.link(last, first);
                    }
                }
                self.link(one[0], other[0]);
            }
            // Many that share one.
            _ => {
                for &from in &order[1..] {
                    self.link(from, order[0]);
                }
            }
        }
    }
}
