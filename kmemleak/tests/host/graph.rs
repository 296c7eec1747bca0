//! Random object graphs, judged by a model that knows no bitmaps, queues or sweeps: sets, and loops until nothing changes.
//!
//! What is compared: leaks and their ranks, what suppressions hide and which of them, what is alive through interior
//! pointers only or through words of stacks only, who holds an object, and how far it is from a root.

use std::collections::{BTreeMap, BTreeSet};

use kmemleak::{AllocOptions, How, NoAnswer, Rank, Slot, SlotPlace, Summary};
use kmemleak_emulated::{Machine, Place, Stop};

use crate::lab::{Lab, many};
use crate::snapshots::snapshot;

/// A generator of numbers (xorshift, Marsaglia 2003).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// Bytes of a root that has objects in it.
const ARENA: usize = 4096;
/// Of these, how many an object has for itself.
const ROOM: usize = 128;

const SITES: [&str; 4] = ["probe", "open", "mount", "fork"];

struct Node {
    start: usize,
    size: usize,
    /// Where its memory lies.
    copies: Vec<usize>,
    min_count: i32,
    scanned: bool,
    areas: Vec<(usize, usize)>,
    site: usize,
    /// It lies in a root, where its words are read.
    in_root: bool,
    /// The block that it describes: for which pointers to this one count that it does not need.
    excess: Option<usize>,
}

/// A word of a root or of an object.
#[derive(Clone, Copy)]
struct Word {
    address: usize,
    /// The object that it is read in; none for one of a root.
    holder: Option<usize>,
    /// The object that it lies in.
    inside: Option<usize>,
    scanned: bool,
    /// It lies on a stack, or in a register.
    on_stack: bool,
    to: usize,
    at_start: bool,
}

/// Which words of roots are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    All,
    AllButStacks,
}

struct Graph {
    lab: Lab,
    /// Memory that is a root.
    arena: usize,
    nodes: Vec<Node>,
    words: Vec<Word>,
    /// Sites that are suppressed, in order, and their ceilings.
    suppressed: Vec<(usize, Option<usize>)>,
}

type Set = BTreeSet<usize>;

impl Graph {
    fn random(dice: &mut Dice) -> Self {
        let lab = Lab::of(Machine::builder().cpus(1 + dice.below(3) as u32));
        lab.detector.set_min_age_us(0);
        let arena = lab.machine.arena(ARENA);
        lab.machine.add_root(arena, ARENA);
        let mut graph = Self {
            lab,
            arena,
            nodes: Vec::new(),
            words: Vec::new(),
            suppressed: Vec::new(),
        };
        for _ in 0..2 + dice.below(24) {
            graph.add_node(dice);
        }
        for _ in 0..dice.below(3) {
            let site = dice.below(SITES.len());
            let max = dice.one_in(2).then(|| dice.below(4));
            if graph.suppressed.iter().any(|&(one, _)| one == site) {
                continue;
            }
            let ceiling = max.map_or(String::new(), |max| format!(":max={max}"));
            let pattern = format!("{}{ceiling}", SITES[site]);
            assert_eq!(graph.lab.detector.suppress(&pattern), Ok(()));
            graph.suppressed.push((site, max));
        }
        graph.add_words(dice);
        graph
    }

    fn add_node(&mut self, dice: &mut Dice) {
        let Lab { machine, detector } = &self.lab;
        let site = dice.below(SITES.len());
        machine.advance_us(dice.below(2) as u64);
        machine.call_from(&[SITES[site], "main"]);
        let size = 8 * (1 + dice.below(8));
        let mut node = Node {
            start: 0,
            size,
            copies: Vec::new(),
            min_count: 1,
            scanned: !dice.one_in(10),
            areas: Vec::new(),
            site,
            in_root: false,
            excess: None,
        };
        let areas: Vec<usize> = (0..self.nodes.len())
            .filter(|&one| self.nodes[one].excess.is_none())
            .collect();
        if dice.one_in(6) {
            node.start = machine.percpu(size);
            let copy = |cpu| machine.percpu_copy(node.start, cpu).expect("live");
            node.copies = (0..machine.cpus()).map(copy).collect();
            detector.alloc_percpu(node.start, size);
            if dice.one_in(8) {
                node.min_count = 0;
                detector.not_leak(node.start);
            }
        } else if dice.one_in(5) && !areas.is_empty() {
            let area = areas[dice.below(areas.len())];
            node.min_count = 2;
            node.start = machine.slab(size);
            node.copies = vec![node.start];
            detector.vmalloc(node.start, size, self.nodes[area].start);
            self.nodes[area].excess = Some(self.nodes.len());
        } else {
            node.min_count = [1, 1, 1, 1, 1, 2, 2, 3, 0, -1][dice.below(10)];
            // At no multiple of eight, now and then.
            let odd = if dice.one_in(8) { 4 } else { 0 };
            node.in_root = dice.one_in(8);
            node.start = odd
                + match node.in_root {
                    true => self.arena + ROOM * self.nodes.len(),
                    false => machine.slab(size + 8),
                };
            node.copies = vec![node.start];
            let options = AllocOptions::new().min_count(node.min_count);
            detector.alloc(node.start, size, options);
        }
        if !node.scanned {
            detector.no_scan(node.start);
        }
        for _ in 0..if dice.one_in(6) { 1 + dice.below(2) } else { 0 } {
            let offset = 8 * dice.below(size / 8);
            let area = (offset, 8 * (1 + dice.below((size - offset) / 8)));
            detector.scan_area(node.start + area.0, area.1);
            node.areas.push(area);
        }
        self.nodes.push(node);
    }

    fn add_words(&mut self, dice: &mut Dice) {
        let machine = &self.lab.machine;
        let mut slots: Vec<(usize, Option<usize>)> = Vec::new();
        let mut on_stacks = Set::new();
        let cpus = machine.cpus();
        for index in 0..dice.below(6) {
            let place = match dice.below(6) {
                0 => Place::Data(index),
                1 => Place::PerCpu(dice.below(cpus as usize) as u32, index),
                2 => Place::Page(index),
                3 => Place::Stack(index),
                4 => Place::Register(index),
                _ => Place::Bss(index),
            };
            slots.push((machine.address(place), None));
            if matches!(place, Place::Stack(_) | Place::Register(_)) {
                on_stacks.insert(machine.address(place));
            }
        }
        for (number, node) in self.nodes.iter().enumerate() {
            for &copy in &node.copies {
                let (first, end) = (copy.next_multiple_of(8), copy + node.size);
                slots.extend(
                    (first..)
                        .step_by(8)
                        .take_while(|at| at + 8 <= end && dice.one_in(3))
                        .map(|at| (at, Some(number))),
                );
            }
        }
        for (address, holder) in slots {
            let to = dice.below(self.nodes.len());
            let node = &self.nodes[to];
            let bases = [&node.copies[..], &[node.start]].concat();
            let offset = if dice.one_in(3) {
                dice.below(node.size)
            } else {
                0
            };
            machine.write(address, bases[dice.below(bases.len())] + offset);
            let inside = holder;
            let holder = inside.filter(|&one| !self.nodes[one].in_root);
            let scanned = holder.is_none_or(|holder| self.is_scanned(holder, address));
            self.words.push(Word {
                address,
                holder,
                inside,
                scanned,
                on_stack: on_stacks.contains(&address),
                to,
                at_start: offset == 0,
            });
        }
    }

    /// Changes some words in the model, and tells which number is to be written where.
    fn change_words(&mut self, dice: &mut Dice) -> Vec<(usize, usize)> {
        let mut writes = Vec::new();
        let nodes = &self.nodes;
        self.words.retain_mut(|word| {
            if !dice.one_in(3) {
                return true;
            }
            if dice.one_in(3) {
                writes.push((word.address, 0));
                return false;
            }
            word.to = dice.below(nodes.len());
            let node = &nodes[word.to];
            let offset = if dice.one_in(3) {
                dice.below(node.size)
            } else {
                0
            };
            word.at_start = offset == 0;
            writes.push((
                word.address,
                node.copies[dice.below(node.copies.len())] + offset,
            ));
            true
        });
        writes
    }

    fn is_scanned(&self, holder: usize, address: usize) -> bool {
        let node = &self.nodes[holder];
        let in_area = |&(offset, len): &(usize, usize)| {
            node.copies
                .iter()
                .any(|copy| copy + offset <= address && address + 8 <= copy + offset + len)
        };
        node.scanned
            && node.min_count >= 0
            && (node.areas.is_empty() || node.areas.iter().any(in_area))
    }

    /// What counts for each object, if these are alive: pointers to it from elsewhere, and to the area that describes it
    /// those that the area does not need. An area is older than what it describes.
    fn counts(&self, live: &Set, which: Read) -> Vec<usize> {
        let mut counts = vec![0_usize; self.nodes.len()];
        for word in &self.words {
            if word.on_stack && which == Read::AllButStacks {
                continue;
            }
            let read = word.holder.is_none_or(|holder| live.contains(&holder));
            if word.scanned && read && word.inside != Some(word.to) {
                counts[word.to] += 1;
            }
        }
        for (area, node) in self.nodes.iter().enumerate() {
            if let (Some(block), Ok(needed)) = (node.excess, usize::try_from(node.min_count)) {
                counts[block] += counts[area].saturating_sub(needed);
            }
        }
        counts
    }

    /// What is alive whatever points there.
    fn decreed(&self) -> Set {
        let numbers = 0..self.nodes.len();
        let decreed = |one: &usize| self.nodes[*one].min_count == 0 || self.nodes[*one].in_root;
        numbers.filter(decreed).collect()
    }

    /// What is alive, if these are roots as well.
    fn live(&self, roots: &Set) -> Set {
        self.live_by(roots, Read::All)
    }

    /// What is alive by these words.
    fn live_by(&self, roots: &Set, which: Read) -> Set {
        let numbers = 0..self.nodes.len();
        let mut live: Set = roots | &self.decreed();
        loop {
            let counts = self.counts(&live, which);
            let enough = |one: &usize| {
                let min_count = self.nodes[*one].min_count;
                min_count > 0 && counts[*one] >= min_count as usize && !live.contains(one)
            };
            let more: Vec<usize> = numbers.clone().filter(enough).collect();
            if more.is_empty() {
                return live;
            }
            live.extend(more);
        }
    }

    fn white(&self, roots: &Set) -> Set {
        let live = self.live(roots);
        let numbers = 0..self.nodes.len();
        numbers
            .filter(|one| self.nodes[*one].min_count > 0 && !live.contains(one))
            .collect()
    }

    /// If these are roots as well: the leaks, and for each suppression: what matches, and what it hides.
    fn verdict(&self, mut roots: Set) -> (Set, Vec<(usize, Set)>) {
        let mut hidden = Vec::new();
        let first = self.white(&roots);
        for &(site, max) in &self.suppressed {
            let before = self.white(&roots);
            let matching = |set: &Set| -> Set {
                let matches = |one: &usize| self.nodes[*one].site == site;
                set.iter().copied().filter(matches).collect()
            };
            let matched = matching(&first).len();
            if max.is_none_or(|max| matched <= max) {
                roots.extend(matching(&before));
            }
            let after = self.white(&roots);
            hidden.push((matched, before.difference(&after).copied().collect()));
        }
        (self.white(&roots), hidden)
    }

    /// Alive, but not by start pointers alone.
    fn interior(&self) -> Set {
        let live = self.live(&Set::new());
        let mut chained = self.decreed();
        loop {
            let mut more = chained.clone();
            for word in &self.words {
                let from = word.holder.is_none_or(|holder| chained.contains(&holder));
                if word.scanned && word.at_start && from && live.contains(&word.to) {
                    more.insert(word.to);
                }
            }
            if more == chained {
                return live.difference(&chained).copied().collect();
            }
            chained = more;
        }
    }

    /// What is alive by words of stacks only; of that, to what such words point.
    fn stack_only(&self) -> (Set, Set) {
        let without = self.live_by(&Set::new(), Read::AllButStacks);
        let only = &self.live(&Set::new()) - &without;
        let pointed_to = self.words.iter().filter(|word| word.on_stack);
        let pointed_to: Set = pointed_to.map(|word| word.to).collect();
        (only.clone(), &only & &pointed_to)
    }

    /// What an object reaches among these, itself included.
    fn reach(&self, from: usize, among: &Set) -> Set {
        let mut reached = Set::from([from]);
        loop {
            let before = reached.len();
            for word in &self.words {
                let from = word.holder.is_some_and(|holder| reached.contains(&holder));
                if from && word.scanned && among.contains(&word.to) {
                    reached.insert(word.to);
                }
            }
            if reached.len() == before {
                return reached;
            }
        }
    }

    /// The order of allocation, ties by address.
    fn order(&self) -> Vec<usize> {
        // Births are not kept here; the detector's are reported with each leak, but the nodes are in order up to ties.
        let mut births = BTreeMap::new();
        self.lab
            .detector
            .for_each_unreferenced(&mut |object| {
                births.insert(object.start, object.birth_us);
            })
            .expect("asked from outside");
        let mut numbers: Vec<usize> = (0..self.nodes.len()).collect();
        numbers.sort_by_key(|&one| {
            let start = self.nodes[one].start;
            (births.get(&start).copied().unwrap_or(0), start)
        });
        numbers
    }

    /// Each leak's leader.
    fn leaders(&self, leaks: &Set) -> BTreeMap<usize, usize> {
        let order: Vec<usize> = self.order();
        let order: Vec<usize> = order
            .into_iter()
            .filter(|one| leaks.contains(one))
            .collect();
        let reach: BTreeMap<usize, Set> = leaks
            .iter()
            .map(|&one| (one, self.reach(one, leaks)))
            .collect();
        let is_leader = |one: usize| {
            let place = |of: usize| order.iter().position(|&other| other == of);
            leaks.iter().all(|other| {
                !reach[other].contains(&one)
                    || reach[&one].contains(other) && place(*other) >= place(one)
            })
        };
        let leaders: Vec<usize> = order
            .iter()
            .copied()
            .filter(|&one| is_leader(one))
            .collect();
        let of = |one: usize| {
            leaders
                .iter()
                .copied()
                .find(|leader| reach[leader].contains(&one))
        };
        leaks
            .iter()
            .map(|&one| (one, of(one).expect("each has one")))
            .collect()
    }

    fn check_verdict(&self, summary: &Summary) {
        self.check_verdict_from(Set::new(), summary);
    }

    /// The verdict is right, if these are alive.
    fn check_verdict_from(&self, live: Set, summary: &Summary) {
        let (leaks, hidden) = self.verdict(live);
        let leaders = self.leaders(&leaks);
        let (mut listed, mut groups) = (Vec::new(), Set::new());
        self.lab
            .detector
            .for_each_unreferenced(&mut |object| {
                let number = self.number(object.start);
                listed.push(number);
                groups.insert(self.nodes[number].site);
                let leader = leaders[&number];
                let owned = leaders
                    .iter()
                    .filter(|&(&one, of)| *of == number && one != number);
                let owned: Vec<usize> = owned.map(|(&one, _)| one).collect();
                let rank = if leader == number {
                    Rank::Leader {
                        owned_objects: owned.len(),
                        owned_bytes: owned.iter().map(|&one| self.nodes[one].size).sum(),
                    }
                } else {
                    Rank::Owned {
                        leader: self.nodes[leader].start,
                    }
                };
                assert_eq!(object.rank, Some(rank), "node {number}");
            })
            .expect("asked from outside");
        let set: Set = listed.iter().copied().collect();
        assert_eq!(set, leaks);
        assert_eq!(summary.listed(), leaks.len());
        let bytes = |set: &Set| -> usize { set.iter().map(|&one| self.nodes[one].size).sum() };
        assert_eq!(summary.listed_bytes(), bytes(&leaks));
        let leading: Set = leaders.values().copied().collect();
        assert_eq!(summary.leaders, Some(leading.len()));
        assert_eq!(summary.leader_bytes, bytes(&leading));
        assert_eq!(summary.groups, Some(groups.len()));
        let all_hidden: Set = hidden.iter().flat_map(|(_, set)| set).copied().collect();
        assert_eq!(summary.suppressed_objects, all_hidden.len());
        assert_eq!(summary.suppressed_bytes, bytes(&all_hidden));
        let mut suppressed = Set::new();
        self.lab
            .detector
            .for_each_suppressed(&mut |object| _ = suppressed.insert(self.number(object.start)))
            .expect("asked from outside");
        assert_eq!(suppressed, all_hidden);
        let mut figures = Vec::new();
        self.lab
            .detector
            .for_each_suppression(&mut |one| {
                figures.push((
                    one.matched as usize,
                    one.objects as usize,
                    one.bytes as usize,
                ));
            })
            .expect("asked from outside");
        let wanted = hidden
            .iter()
            .map(|(matched, set)| (*matched, set.len(), bytes(set)));
        assert_eq!(figures, wanted.collect::<Vec<_>>());
        self.check_interior();
    }

    fn check_interior(&self) {
        let mut interior = Set::new();
        self.lab
            .detector
            .for_each_interior(&mut |block| _ = interior.insert(self.number(block.start)))
            .expect("asked from outside");
        assert_eq!(interior, self.interior());
    }

    fn check_stack_only(&self) {
        let (mut found, mut bytes) = (Set::new(), 0);
        let sums = self.lab.detector.for_each_stack_only(&mut |object| {
            let number = self.number(object.start);
            let word = |word: &&Word| word.address == object.held_by.address;
            let word = self.words.iter().find(word).expect("a word");
            assert!(word.on_stack && word.to == number);
            assert!(found.insert(number), "once");
            bytes += object.size;
        });
        let sums = sums.expect("the world can be stopped");
        let (only, pointed_to) = self.stack_only();
        assert_eq!(found, pointed_to);
        let all: usize = only.iter().map(|&one| self.nodes[one].size).sum();
        assert!(sums.complete && sums.doubt.is_none());
        assert_eq!((sums.objects, sums.bytes), (found.len(), bytes));
        assert_eq!(sums.behind_objects, only.len() - found.len());
        assert_eq!(sums.behind_bytes, all - bytes);
    }

    fn number(&self, start: usize) -> usize {
        let mut nodes = self.nodes.iter();
        nodes.position(|node| node.start == start).expect("a node")
    }

    fn check_holders(&self) {
        for (number, node) in self.nodes.iter().enumerate() {
            let mut held = Vec::new();
            let last = node.start + node.size - 1;
            let answer = self.lab.detector.holders(last, &mut |slot| held.push(slot));
            assert_eq!(answer, Ok(()));
            let mut addresses: Vec<usize> = held.iter().map(|slot| slot.address).collect();
            addresses.sort_unstable();
            // A root's are told whatever they lie in.
            let holds = |word: &&Word| word.to == number && word.holder != Some(number);
            let mut wanted: Vec<usize> = self
                .words
                .iter()
                .filter(holds)
                .map(|word| word.address)
                .collect();
            wanted.sort_unstable();
            assert_eq!(addresses, wanted, "holders of {number}");
            held.iter().for_each(|slot| self.check_place(slot));
        }
    }

    fn check_place(&self, slot: &Slot) {
        let word = self.words.iter().find(|word| word.address == slot.address);
        let holder = word.expect("a word").holder;
        match slot.place {
            SlotPlace::Root(root) => {
                assert!((root.start..root.start + root.len).contains(&slot.address));
                assert_eq!(holder, None);
            }
            SlotPlace::Object { start, size } => {
                let number = self.number(start);
                assert_eq!(holder, Some(number));
                assert_eq!(size, self.nodes[number].size);
            }
        }
    }

    /// Where in a node a word points.
    fn into(&self, node: &Node, word: usize) -> u64 {
        let bases = [&node.copies[..], &[node.start]].concat();
        let offsets = bases.iter().filter_map(|base| word.checked_sub(*base));
        let into = offsets.min().filter(|offset| *offset < node.size);
        into.expect("it points there") as u64
    }

    /// A snapshot has each word that is followed, and what it reaches is what the model says is alive.
    fn check_snapshot(&self) {
        let heap = snapshot(&self.lab.detector);
        let live = self.live(&Set::new());
        let start_of = |number: &usize| self.nodes[*number].start;
        let numbers = 0..self.nodes.len();
        // Black objects are never leaks, and keep nothing alive.
        let black = |one: &usize| self.nodes[*one].min_count < 0;
        let mut wanted: Set = live.iter().map(start_of).collect();
        wanted.extend(numbers.clone().filter(black).map(|one| start_of(&one)));
        assert_eq!(heap.reached(), wanted);
        let is_live = |one: &usize| live.contains(one) || black(one);
        let (mut roots, mut words) = (BTreeSet::new(), BTreeMap::<_, Vec<_>>::new());
        for word in self.words.iter().filter(|word| word.scanned) {
            let node = &self.nodes[word.to];
            let into = self.into(node, self.lab.machine.read(word.address));
            match word.holder {
                None if is_live(&word.to) => {
                    roots.insert((word.address, node.start, into));
                }
                Some(holder) if holder != word.to => {
                    let from = &self.nodes[holder];
                    if is_live(&word.to) || !is_live(&holder) {
                        let offset = self.into(from, word.address);
                        let of_holder = words.entry(from.start).or_default();
                        of_holder.push((offset, node.start, into));
                    }
                }
                _ => {}
            }
        }
        assert_eq!(heap.roots, roots);
        // An area that passes a pointer on has one word more, behind its last byte.
        let counts = self.counts(&live, Read::All);
        for (number, area) in self.nodes.iter().enumerate() {
            if let (Some(block), Ok(needed)) = (area.excess, usize::try_from(area.min_count))
                && counts[number] > needed
                && is_live(&number)
                && is_live(&block)
            {
                let of_area = words.entry(area.start).or_default();
                of_area.push((area.size as u64, self.nodes[block].start, 0));
            }
        }
        words.values_mut().for_each(|of_one| of_one.sort_unstable());
        assert_eq!(heap.words, words);
        let held: Set = heap.held.iter().map(|(start, _)| *start).collect();
        let decreed = self.decreed();
        let wanted = numbers.filter(|one| decreed.contains(one) || black(one));
        assert_eq!(held, wanted.map(|one| start_of(&one)).collect());
    }

    /// How many words the shortest chain to an object has.
    fn distance(&self, target: usize) -> Option<usize> {
        let live = self.live(&Set::new());
        let mut reached: Set = (0..self.nodes.len())
            .filter(|&one| self.nodes[one].min_count == 0 && one != target)
            .collect();
        let mut from_root = true;
        for steps in 1..=self.nodes.len() + 1 {
            let mut next = reached.clone();
            for word in &self.words {
                let from = match word.holder {
                    None => from_root || steps > 1,
                    Some(holder) => reached.contains(&holder) && holder != target,
                };
                let passes = live.contains(&word.to) || word.to == target;
                if word.scanned && from && passes {
                    next.insert(word.to);
                }
            }
            from_root = false;
            if next.contains(&target) {
                return Some(steps);
            }
            reached = next;
        }
        None
    }

    fn check_paths(&self) {
        for (number, node) in self.nodes.iter().enumerate() {
            let mut path = Vec::new();
            let answer = self
                .lab
                .detector
                .path(node.start, &mut |slot| path.push(slot));
            match self.distance(number) {
                Some(steps) => {
                    assert_eq!((answer, path.len()), (Ok(()), steps), "path to {number}");
                }
                None => {
                    let why = match node.min_count {
                        0 => NoAnswer::IsRoot,
                        _ if node.in_root => NoAnswer::InRoot,
                        _ => NoAnswer::Unreached,
                    };
                    assert_eq!((answer, path.len()), (Err(why), 0), "path to {number}");
                }
            }
            // Each word leads to the object of the next.
            let mut at = None;
            for slot in &path {
                self.check_place(slot);
                let word = self.words.iter().find(|word| word.address == slot.address);
                let word = word.expect("a word");
                assert!(word.scanned);
                if at.is_some() {
                    assert_eq!(word.holder, at);
                } else if let Some(first) = word.holder {
                    assert_eq!(self.nodes[first].min_count, 0);
                }
                at = Some(word.to);
            }
            assert!(path.is_empty() || at == Some(number));
        }
    }
}

fn each_graph(seed: u64, count: usize, look: impl Fn(&mut Graph)) {
    for round in 0..count {
        let mut dice = Dice((seed * 10_000 + round as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        (0..8).for_each(|_| _ = dice.below(2));
        let mut graph = Graph::random(&mut dice);
        graph.lab.machine.advance_us(1);
        if let Err(panic) =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| look(&mut graph)))
        {
            eprintln!("round {round} of seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn a_check_agrees_with_the_model() {
    each_graph(1, many(500), |graph| {
        let summary = graph.lab.detector.check().expect("on");
        graph.check_verdict(&summary);
    });
}

#[test]
fn the_scan_agrees_with_the_model() {
    each_graph(2, many(100), |graph| {
        let scan = || graph.lab.detector.scan().expect("on");
        scan();
        graph.check_verdict(&scan());
        graph.check_verdict(&scan());
    });
}

#[test]
fn passes_beside_what_runs_agree_with_the_model() {
    each_graph(3, many(200), |graph| {
        graph.lab.machine.set_stop(Stop::Unsupported);
        let summary = graph.lab.detector.check().expect("on");
        graph.check_verdict(&summary);
    });
}

#[test]
fn answers_agree_with_the_model_and_change_nothing() {
    for stop in [Stop::Works, Stop::Unsupported] {
        each_graph(4, many(100), |graph| {
            graph.lab.machine.set_stop(stop);
            let summary = graph.lab.detector.check().expect("on");
            let report = graph.lab.say("report --all");
            graph.check_holders();
            graph.check_paths();
            assert_eq!(graph.lab.say("report --all"), report);
            graph.check_verdict(&summary);
        });
    }
}

/// In a stopped world on one to three CPUs, and beside what runs.
#[test]
fn a_snapshot_agrees_with_the_model() {
    for stop in [Stop::Works, Stop::Unsupported] {
        each_graph(6, many(300), |graph| {
            graph.lab.machine.set_stop(stop);
            graph.check_snapshot();
        });
    }
}

#[test]
fn what_only_stacks_hold_agrees_with_the_model_and_changes_nothing() {
    each_graph(9, many(300), |graph| {
        let summary = graph.lab.detector.check().expect("on");
        let report = graph.lab.say("report --all");
        graph.check_stack_only();
        assert_eq!(graph.lab.say("report --all"), report);
        graph.check_verdict(&summary);
        graph.check_stack_only();
    });
}

#[test]
fn a_scan_goes_on_where_it_was_after_questions() {
    each_graph(5, many(100), |graph| {
        let scan = || graph.lab.detector.scan().expect("on");
        scan();
        graph.check_paths();
        graph.check_holders();
        // What the first has seen unreferenced, the second reports.
        graph.check_verdict(&scan());
    });
}

/// Checks, scans and questions that are given up at any moment, however many: what comes next agrees with the model. The interior
/// pointers are those of a pass that was made since.
#[test]
fn what_is_given_up_changes_no_answer() {
    for stop in [Stop::Works, Stop::Unsupported] {
        each_graph(7, many(150), |graph| {
            let Lab { machine, detector } = &graph.lab;
            let mut dice = Dice(graph.arena as u64 | 1);
            machine.set_stop(stop);
            let nodes = graph.nodes.len();
            for _ in 0..1 + dice.below(4) {
                machine.checkpoints.stop_at(1 + dice.below(24));
                let asked = graph.nodes[dice.below(nodes)].start;
                match dice.below(8) {
                    0 => _ = detector.check(),
                    1 => _ = detector.scan(),
                    2 => _ = detector.path(asked, &mut |_| ()),
                    3 => _ = detector.holders(asked, &mut |_| ()),
                    4 => _ = detector.why(asked, &mut |_| ()),
                    5 => _ = graph.lab.say("snapshot"),
                    6 => _ = graph.lab.say("stack-only"),
                    _ => _ = detector.background_step(&mut String::new()),
                }
            }
            machine.checkpoints.go_on();
            match dice.below(4) {
                0 => graph.check_snapshot(),
                1 => graph.check_paths(),
                2 => graph.check_holders(),
                _ => {}
            }
            let summary = detector.check().expect("on");
            graph.check_verdict(&summary);
            graph.check_interior();
        });
    }
}

/// Between the pass and the stop other code moves pointers, and declares objects to be no leaks. What the pass has not suspected counts
/// as in use in the stop; all else is as in a check.
#[test]
fn a_confirmed_scan_agrees_with_the_model() {
    let counts = std::cell::Cell::new((0, 0));
    each_graph(8, many(1500), |graph| {
        let seed = 1 + graph.words.len() as u64 + 4099 * graph.nodes.len() as u64;
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        (0..8).for_each(|_| _ = dice.below(2));
        graph.lab.detector.scan().expect("on");
        let suspects = graph.white(&Set::new());
        let mut in_use: Set = (0..graph.nodes.len()).collect();
        in_use.retain(|one| !suspects.contains(one));
        let writes = if dice.one_in(4) {
            Vec::new()
        } else {
            graph.change_words(&mut dice)
        };
        let declared: Vec<usize> = suspects
            .iter()
            .copied()
            .filter(|_| dice.one_in(8))
            .collect();
        for &one in &declared {
            graph.nodes[one].min_count = 0;
        }
        let starts: Vec<usize> = declared.iter().map(|&one| graph.nodes[one].start).collect();
        let detector = std::sync::Arc::downgrade(&graph.lab.detector);
        graph.lab.machine.at_stop(move |machine| {
            writes
                .iter()
                .for_each(|&(address, word)| machine.write(address, word));
            let detector = detector.upgrade().expect("it scans");
            starts.iter().for_each(|&start| detector.not_leak(start));
        });
        graph.lab.machine.advance_us(1);
        let summary = graph.lab.detector.scan_and_confirm().expect("on");
        if suspects.is_empty() {
            assert_eq!(summary.how, How::Scanned { passes: 1 });
            return;
        }
        assert_eq!((summary.how, summary.doubt()), (How::Confirmed, None));
        graph.check_verdict_from(in_use, &summary);
        let (count, sum) = counts.get();
        counts.set((count + 1, sum + summary.objects));
        // All that a check finds, and no more: the sweep has left nothing behind.
        graph.lab.machine.at_stop(|_| ());
        let listed: Vec<usize> = graph.lab.listed();
        let summary = graph.lab.detector.check().expect("on");
        graph.check_verdict(&summary);
        let now = graph.lab.listed();
        assert!(listed.iter().all(|one| now.contains(one)));
    });
    let (confirmed, leaks) = counts.get();
    assert!(
        confirmed > many(1000) && leaks > many(2000),
        "{confirmed} {leaks}"
    );
}
