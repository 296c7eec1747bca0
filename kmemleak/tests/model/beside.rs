//! What the model says to those who can't know all: of the order of births, of leaders, of what stayed as it was.

#![allow(dead_code, reason = "the simulation asks for it")]

use std::collections::{BTreeMap, BTreeSet};

use super::Model;

impl Model {
    /// A block was born at this moment.
    pub fn set_birth(&mut self, start: usize, birth: u64) {
        if let Some(block) = self.blocks.get_mut(&start) {
            block.birth = birth;
        }
    }

    /// The addresses of words in a range that are not zero.
    pub fn words_at(&self, start: usize, len: usize) -> Vec<usize> {
        let words = self.words.range(start..=start.saturating_add(len - 1));
        words.map(|(&address, _)| address).collect()
    }

    /// Starts and sizes of all blocks.
    pub fn all(&self) -> Vec<(usize, usize)> {
        let blocks = self.blocks.iter();
        blocks.map(|(&start, block)| (start, block.size)).collect()
    }

    /// The blocks to which pointers lead that were there all the time: without the words at these addresses, without anything in blocks
    /// that meet these ranges, and without regions if any have come or gone.
    pub fn steady(
        &self,
        written: &BTreeSet<usize>,
        touched: &[(usize, usize)],
        regions: &BTreeSet<usize>,
    ) -> BTreeSet<usize> {
        let mut model = self.clone();
        model.words.retain(|address, _| !written.contains(address));
        model.roots.retain(|address, _| !written.contains(address));
        // Where one comes or goes, what is read of those beside it may differ.
        if !regions.is_empty() {
            model.regions.clear();
        }
        let meets = |start: usize, size: usize| {
            touched.iter().any(|&(from, len)| {
                from.wrapping_sub(start) < size || start.wrapping_sub(from) < len
            })
        };
        for (&start, block) in &mut model.blocks {
            if meets(start, block.size) {
                (block.no_scan, block.excess) = (true, None);
            }
        }
        let mut alive = model.trace().alive;
        alive.retain(|&start| !meets(start, model.blocks[&start].size));
        alive
    }

    /// The words that point to a block, each with the block that it lies in.
    pub fn holders(&self, start: usize) -> Vec<(usize, usize, Option<usize>)> {
        let words = self.words.iter().chain(&self.roots);
        let there =
            words.filter(|(_, word)| self.containing(**word).is_some_and(|to| to.0 == start));
        let holder = |address| Some(self.containing(address)?.0);
        there
            .map(|(&address, &word)| (address, word, holder(address)))
            .collect()
    }

    /// Those blocks for which `first` is true, and what they lead to. A pointer to a block may count for the one that it has an excess
    /// reference to.
    pub fn led_to(&self, first: impl Fn((usize, usize)) -> bool) -> BTreeSet<usize> {
        let first = self.all().into_iter().filter(|&one| first(one));
        let mut left: Vec<usize> = first.map(|one| one.0).collect();
        let mut led: BTreeSet<usize> = left.iter().copied().collect();
        while let Some(from) = left.pop() {
            let block = &self.blocks[&from];
            let contents = self.contents(block).into_iter();
            let pointed = contents.filter_map(|(_, word)| Some(self.containing(word)?.0));
            let excess = block.excess.filter(|to| self.blocks.contains_key(to));
            for to in pointed.chain(excess) {
                if led.insert(to) {
                    left.push(to);
                }
            }
        }
        led
    }

    /// Of what the last verdict lists: each leader, with what it owns. A leader is reached from none but those that it reaches and that
    /// are younger; what several reach belongs to the eldest.
    pub fn leaders(&self) -> BTreeMap<usize, BTreeSet<usize>> {
        let mut reach: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for &leak in &self.leaks {
            let (mut seen, mut left) = (BTreeSet::new(), vec![leak]);
            while let Some(from) = left.pop() {
                for word in self.scanned(&self.blocks[&from]) {
                    if let Some((to, _)) = self.containing(word)
                        && self.leaks.contains(&to)
                        && to != from
                        && seen.insert(to)
                    {
                        left.push(to);
                    }
                }
            }
            reach.insert(leak, seen);
        }
        // The list is in the order of births.
        let leads = |place: usize| {
            let leader = self.leaks[place];
            self.leaks.iter().enumerate().all(|(other, leak)| {
                !reach[leak].contains(&leader)
                    || other == place
                    || place < other && reach[&leader].contains(leak)
            })
        };
        let leaders: Vec<usize> = (0..self.leaks.len())
            .filter(|&place| leads(place))
            .map(|place| self.leaks[place])
            .collect();
        let mut owned: BTreeMap<usize, BTreeSet<usize>> = leaders
            .iter()
            .map(|&leader| (leader, BTreeSet::new()))
            .collect();
        for leak in self.leaks.iter().filter(|leak| !leaders.contains(leak)) {
            let eldest = leaders.iter().find(|leader| reach[leader].contains(leak));
            let eldest = eldest.expect("all that is lost is reached from a leader");
            owned.entry(*eldest).or_default().insert(*leak);
        }
        owned
    }
}
