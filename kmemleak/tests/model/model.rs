//! The model: what the words of the detector's documentation mean, without any thought of speed.
//!
//! Blocks in an ordered map; words that are not zero in another. A check counts words from the roots outwards. Blocks may lie anywhere, up
//! to the last byte of the address space, so all goes by starts and distances: an end may be no number.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

#[path = "beside.rs"]
mod beside;

const WORD: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Block {
    size: usize,
    min_count: i32,
    no_scan: bool,
    /// Its memory can't be read.
    dark: bool,
    /// Parts that are scanned, as offsets; all is, if there are none.
    areas: Vec<Range<usize>>,
    birth: u64,
    /// Where its memory is: itself, the copies of a per-CPU block, or where physical memory is mapped.
    copies: Vec<usize>,
    /// Physical memory: its start is no address, so nothing points to it.
    phys: bool,
    /// A block that pointers to this one count for as well.
    excess: Option<usize>,
    /// What a scan has found in it when it was unreferenced.
    seen: Option<Vec<(usize, usize)>>,
    /// Scans have reported it ever since it was lost.
    told: bool,
}

impl Block {
    /// Whether its memory is elsewhere.
    fn is_elsewhere(&self, start: usize) -> bool {
        self.copies != [start]
    }
}

/// Whether all of `len` bytes at `start` lies in one of some ranges.
fn is_in(ranges: &[Range<usize>], start: usize, len: usize) -> bool {
    ranges.iter().any(|range| {
        let distance = start.wrapping_sub(range.start);
        distance < range.len() && len <= range.len() - distance
    })
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    blocks: BTreeMap<usize, Block>,
    /// Copies of per-CPU blocks, and whose they are.
    copies: BTreeMap<usize, usize>,
    words: BTreeMap<usize, usize>,
    roots: BTreeMap<usize, usize>,
    /// Registered regions, in the order in which they were.
    regions: Vec<Range<usize>>,
    leaks: Vec<usize>,
    pub min_age: u64,
}

/// The areas of a part: cut to it; an empty one, where none reaches in.
fn areas_of(areas: &[Range<usize>], part: Range<usize>) -> Vec<Range<usize>> {
    let cut = areas.iter().map(|area| {
        let within = area.start.max(part.start)..area.end.min(part.end);
        within.start.saturating_sub(part.start)..within.end.saturating_sub(part.start)
    });
    let mut cut: Vec<_> = cut.filter(|area| !area.is_empty()).collect();
    if cut.is_empty() && !areas.is_empty() {
        cut.push(0..0);
    }
    cut
}

/// A pass in the making.
#[derive(Default)]
struct Pass {
    /// Pointers to a block that it has had a need of.
    counts: BTreeMap<usize, i32>,
    alive: BTreeSet<usize>,
    queue: Vec<usize>,
}

impl Pass {
    /// A block is alive, and is to be scanned if that is new.
    fn keep(&mut self, start: usize) {
        if self.alive.insert(start) {
            self.queue.push(start);
        }
    }
}

impl Model {
    /// The block that an address lies in; a per-CPU block by any of its copies.
    fn containing(&self, address: usize) -> Option<(usize, &Block)> {
        let block = self.blocks.range(..=address).next_back();
        if let Some((&start, block)) = block
            && address - start < block.size
            && !block.phys
        {
            return Some((start, block));
        }
        let (&copy, owner) = self.copies.range(..=address).next_back()?;
        let block = &self.blocks[owner];
        (address - copy < block.size).then_some((*owner, block))
    }

    pub fn alloc(&mut self, start: usize, size: usize, min_count: i32, now: u64) {
        let last = start + (size - 1);
        let inside = self.blocks.range(start..=last).map(|(&old, _)| old);
        for old in inside.collect::<Vec<usize>>() {
            self.free(old);
        }
        if let Some((old, _)) = self.containing(start) {
            self.free(old);
        }
        self.insert(start, size, min_count, now, vec![start]);
    }

    fn insert(
        &mut self,
        start: usize,
        size: usize,
        min_count: i32,
        birth: u64,
        copies: Vec<usize>,
    ) {
        self.blocks.insert(
            start,
            Block {
                size,
                min_count,
                no_scan: false,
                dark: false,
                areas: Vec::new(),
                birth,
                copies,
                phys: false,
                excess: None,
                seen: None,
                told: false,
            },
        );
        self.leaks
            .retain(|leak| self.blocks.contains_key(leak) && *leak != start);
    }

    /// A block of which each CPU has a zeroed copy.
    pub fn alloc_percpu(&mut self, handle: usize, size: usize, copies: &[usize], now: u64) {
        for &copy in copies {
            self.clear_words(copy, size);
        }
        self.add_percpu(handle, size, copies, now);
    }

    /// A block of which each CPU has a copy, with what memory held.
    pub fn add_percpu(&mut self, handle: usize, size: usize, copies: &[usize], now: u64) {
        for &copy in copies {
            self.copies.insert(copy, handle);
        }
        self.insert(handle, size, 1, now, copies.into());
    }

    /// A block of physical memory that is mapped there.
    #[allow(dead_code, reason = "the simulation's kernel has some")]
    pub fn alloc_phys(&mut self, start: usize, size: usize, mapped: usize, now: u64) {
        self.insert(start, size, 0, now, vec![mapped]);
        self.blocks
            .entry(start)
            .and_modify(|block| block.phys = true);
    }

    pub fn free(&mut self, start: usize) {
        if let Some(block) = self.blocks.remove(&start) {
            block.copies.iter().for_each(|copy| {
                self.copies.remove(copy);
            });
        }
        self.leaks.retain(|&leak| leak != start);
    }

    pub fn free_part(&mut self, start: usize, len: usize) {
        let Some((whole, block)) = self.containing(start) else {
            return;
        };
        if block.is_elsewhere(whole) || len == 0 {
            return;
        }
        let block = block.clone();
        self.blocks.remove(&whole);
        let front = start - whole;
        let tail = front.saturating_add(len).min(block.size);
        for part in [0..front, tail..block.size] {
            if part.is_empty() {
                continue;
            }
            self.blocks.insert(
                whole + part.start,
                Block {
                    size: part.len(),
                    areas: areas_of(&block.areas, part.clone()),
                    copies: vec![whole + part.start],
                    // It stays with what has the old start, or goes with all that is left.
                    excess: block.excess.filter(|_| part.start == 0 || front == 0),
                    seen: None,
                    told: false,
                    ..block.clone()
                },
            );
        }
        self.leaks.retain(|leak| self.blocks.contains_key(leak));
    }

    /// A block to which the one at `area` points, and for which further pointers to that one count.
    pub fn vmalloc(&mut self, start: usize, size: usize, area: usize, now: u64) {
        self.alloc(start, size, 2, now);
        self.set_excess(area, start);
    }

    /// Pointers to a block that it does not need count for another.
    pub fn set_excess(&mut self, area: usize, start: usize) {
        if let Some(block) = self.blocks.get_mut(&area) {
            block.excess = Some(start);
        }
    }

    pub fn set_min_count(&mut self, start: usize, min_count: i32) {
        if let Some(block) = self.blocks.get_mut(&start) {
            block.min_count = min_count;
        }
    }

    pub fn no_scan(&mut self, start: usize) {
        if let Some(block) = self.blocks.get_mut(&start) {
            block.no_scan = true;
        }
    }

    #[allow(dead_code, reason = "the simulation's kernel unmaps some")]
    pub fn set_dark(&mut self, start: usize, dark: bool) {
        if let Some(block) = self.blocks.get_mut(&start) {
            block.dark = dark;
        }
    }

    pub fn transient_leak(&mut self, start: usize) {
        if let Some(block) = self.blocks.get_mut(&start) {
            block.seen = None;
            block.told = false;
        }
    }

    pub fn scan_area(&mut self, start: usize, len: usize) {
        let Some((block_start, block)) = self.containing(start) else {
            return;
        };
        let offset = start - block_start;
        if len <= block.size - offset
            && let Some(block) = self.blocks.get_mut(&block_start)
        {
            block.areas.push(offset..offset + len);
        }
    }

    pub fn store(&mut self, address: usize, word: usize) {
        self.words.insert(address, word);
    }

    /// All words of `len` bytes are zero.
    pub fn clear_words(&mut self, start: usize, len: usize) {
        self.words
            .retain(|&address, _| address.wrapping_sub(start) >= len);
    }

    pub fn store_root(&mut self, index: usize, word: usize) {
        self.roots.insert(index, word);
    }

    pub fn region_add(&mut self, start: usize, len: usize) {
        self.regions.push(start..start + len);
    }

    /// Takes back the last one of those that start here.
    pub fn region_remove(&mut self, start: usize) {
        let last = self.regions.iter().rposition(|one| one.start == start);
        if let Some(last) = last {
            self.regions.remove(last);
        }
    }

    /// What the regions cover, each as long as it is, by address.
    fn covered(&self) -> Vec<Range<usize>> {
        let mut regions = self.regions.clone();
        regions.sort_by_key(|region| region.start);
        let mut covered: Vec<Range<usize>> = Vec::new();
        for region in regions {
            match covered.last_mut() {
                Some(last) if region.start <= last.end => last.end = last.end.max(region.end),
                _ => covered.push(region),
            }
        }
        covered
    }

    /// Where blocks start.
    pub fn starts(&self) -> Vec<usize> {
        self.blocks.keys().copied().collect()
    }

    /// Objects, and their bytes.
    pub fn tracked(&self) -> (usize, usize) {
        let sizes = self.blocks.values().map(|block| block.size);
        (self.blocks.len(), sizes.sum())
    }

    /// The whole words of `len` bytes that are not zero, with their addresses.
    fn words_in(&self, start: usize, len: usize) -> impl Iterator<Item = (usize, usize)> {
        let words = self.words.range(start..=start.saturating_add(len));
        words
            .map(|(&address, &word)| (address, word))
            .filter(move |&(address, word)| address - start + WORD <= len && word != 0)
    }

    /// The words of a block that are scanned: not those of regions, which are read there.
    fn scanned(&self, block: &Block) -> Vec<usize> {
        if block.no_scan || block.dark || block.min_count < 0 {
            return Vec::new();
        }
        let whole = 0..block.size;
        let parts: &[Range<usize>] = match block.areas.as_slice() {
            [] => std::slice::from_ref(&whole),
            areas => areas,
        };
        let words: BTreeMap<usize, usize> = parts
            .iter()
            .flat_map(|part| {
                block
                    .copies
                    .iter()
                    .flat_map(move |copy| self.words_in(copy + part.start, part.len()))
            })
            .collect();
        let covered = self.covered();
        words
            .into_iter()
            .filter(|&(address, _)| !is_in(&covered, address, WORD))
            .map(|(_, word)| word)
            .collect()
    }

    /// All that a block holds: what tells whether it has changed.
    fn contents(&self, block: &Block) -> Vec<(usize, usize)> {
        if block.dark {
            return Vec::new();
        }
        let copies = block.copies.iter();
        copies
            .flat_map(|&copy| self.words_in(copy, block.size))
            .collect()
    }

    /// Whether a block lies in a root.
    fn is_in_root(&self, start: usize, block: &Block) -> bool {
        !block.is_elsewhere(start) && is_in(&self.covered(), start, block.size)
    }

    /// A word that points somewhere, and belongs to this block.
    fn point(&self, pass: &mut Pass, from: Option<usize>, word: usize) {
        let Some((to, _)) = self.containing(word) else {
            return;
        };
        if from == Some(to) {
            return;
        }
        // What a block does not need counts for the next, once; what goes round in a circle for none.
        let (mut next, mut seen) = (Some(to), BTreeSet::new());
        while let Some(to) = next.filter(|&to| seen.insert(to)) {
            // By the address alone.
            let Some(block) = self.blocks.get(&to) else {
                return;
            };
            next = self.refer(pass, to, block);
        }
    }

    /// One more pointer to a block. The one that it counts for, if this has no need of it.
    fn refer(&self, pass: &mut Pass, to: usize, block: &Block) -> Option<usize> {
        let count = pass.counts.entry(to).or_default();
        if *count == block.min_count {
            return block.excess;
        }
        // A black one, with a count below zero, takes all.
        *count += 1;
        if *count == block.min_count {
            pass.keep(to);
        }
        None
    }

    fn drain(&self, pass: &mut Pass) {
        while let Some(start) = pass.queue.pop() {
            for word in self.scanned(&self.blocks[&start]) {
                self.point(pass, Some(start), word);
            }
        }
    }

    /// The block in a root that a word of that root belongs to.
    fn holder_in_root(&self, address: usize) -> Option<usize> {
        let (start, block) = self.containing(address)?;
        let offset = address.wrapping_sub(start);
        let whole = offset < block.size && WORD <= block.size - offset;
        (whole && self.is_in_root(start, block)).then_some(start)
    }

    /// What is alive.
    fn trace(&self) -> Pass {
        let mut pass = Pass::default();
        for (&start, block) in &self.blocks {
            if self.is_in_root(start, block) {
                pass.alive.insert(start);
            } else if block.min_count == 0 {
                pass.keep(start);
            }
        }
        let covered = self.covered().into_iter();
        let in_regions: Vec<(usize, usize)> = covered
            .flat_map(|region| self.words_in(region.start, region.len()))
            .collect();
        for (address, word) in in_regions {
            self.point(&mut pass, self.holder_in_root(address), word);
        }
        for &word in self.roots.values() {
            self.point(&mut pass, None, word);
        }
        self.drain(&mut pass);
        pass
    }

    /// The blocks that are not alive, in the order of allocation.
    fn white(&self, pass: &Pass) -> Vec<usize> {
        let mut white: Vec<(u64, usize)> = self
            .blocks
            .iter()
            .filter(|(start, block)| block.min_count > 0 && !pass.alive.contains(start))
            .map(|(&start, block)| (block.birth, start))
            .collect();
        white.sort_unstable();
        white.into_iter().map(|(_, start)| start).collect()
    }

    /// The blocks that too few words point at, in the order of allocation.
    pub fn check(&mut self) {
        let pass = self.trace();
        self.judge(&pass);
    }

    /// What is unmarked is lost; what is not is as if it had never been.
    fn judge(&mut self, pass: &Pass) {
        self.leaks = self.white(pass);
        for (start, block) in &mut self.blocks {
            block.told &= self.leaks.contains(start);
        }
    }

    /// The verdict of repeated passes, each of which looks at what the unreferenced ones hold.
    pub fn check_by_passes(&mut self) {
        self.check();
        for start in self.leaks.clone() {
            self.see(start);
        }
    }

    /// Remembers what a block holds, and tells whether that is what it held before.
    fn see(&mut self, start: usize) -> bool {
        let contents = self.contents(&self.blocks[&start]);
        match self.blocks.get_mut(&start) {
            Some(block) => block.seen.replace(contents.clone()) == Some(contents),
            None => false,
        }
    }

    /// One pass while other code runs, at this time: what it lists counts as told.
    pub fn scan(&mut self, now: u64) {
        self.scan_untold(now);
        for start in &self.leaks {
            if let Some(block) = self.blocks.get_mut(start) {
                block.told = true;
            }
        }
    }

    /// One pass while other code runs, at this time: what is young or has changed is as good as referenced, unless a scan has
    /// told of it.
    pub fn scan_untold(&mut self, now: u64) {
        let mut pass = self.trace();
        for start in self.white(&pass) {
            let still = self.see(start);
            let block = &self.blocks[&start];
            if !block.told && (!still || block.birth + self.min_age > now) {
                pass.keep(start);
            }
        }
        self.drain(&mut pass);
        self.judge(&pass);
    }

    pub fn clear(&mut self) {
        for leak in std::mem::take(&mut self.leaks) {
            self.set_min_count(leak, 0);
        }
    }

    /// What the last check found and is still there: starts and sizes.
    pub fn leaks(&self) -> Vec<(usize, usize)> {
        let starts = self.leaks.iter();
        starts
            .map(|start| (*start, self.blocks[start].size))
            .collect()
    }
}
