//! The model: what the words of the detector's documentation mean, without any thought of speed.
//!
//! Blocks in an ordered map; words that are not zero in another. A check counts words from the roots outwards.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

const WORD: usize = 8;

#[derive(Clone, Debug)]
struct Block {
    size: usize,
    min_count: i32,
    no_scan: bool,
    /// Parts that are scanned; all is, if there are none.
    areas: Vec<Range<usize>>,
    birth: u64,
}

#[derive(Default)]
pub struct Model {
    blocks: BTreeMap<usize, Block>,
    words: BTreeMap<usize, usize>,
    roots: BTreeMap<usize, usize>,
    leaks: Vec<usize>,
}

impl Model {
    /// The block that an address lies in.
    fn containing(&self, address: usize) -> Option<(usize, &Block)> {
        let (&start, block) = self.blocks.range(..=address).next_back()?;
        (address - start < block.size).then_some((start, block))
    }

    pub fn alloc(&mut self, start: usize, size: usize, min_count: i32, now: u64) {
        let end = start + size;
        let inside: Vec<usize> = self.blocks.range(start..end).map(|(&old, _)| old).collect();
        for old in inside {
            self.blocks.remove(&old);
        }
        if let Some((old, _)) = self.containing(start) {
            self.blocks.remove(&old);
        }
        self.blocks.insert(
            start,
            Block {
                size,
                min_count,
                no_scan: false,
                areas: Vec::new(),
                birth: now,
            },
        );
        self.leaks
            .retain(|leak| self.blocks.contains_key(leak) && *leak != start);
    }

    pub fn free(&mut self, start: usize) {
        self.blocks.remove(&start);
        self.leaks.retain(|&leak| leak != start);
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

    pub fn scan_area(&mut self, start: usize, len: usize) {
        let Some((block_start, block)) = self.containing(start) else {
            return;
        };
        if start + len <= block_start + block.size
            && let Some(block) = self.blocks.get_mut(&block_start)
        {
            block.areas.push(start..start + len);
        }
    }

    pub fn store(&mut self, address: usize, word: usize) {
        self.words.insert(address, word);
    }

    pub fn store_root(&mut self, index: usize, word: usize) {
        self.roots.insert(index, word);
    }

    /// Objects, and their bytes.
    pub fn tracked(&self) -> (usize, usize) {
        let sizes = self.blocks.values().map(|block| block.size);
        (self.blocks.len(), sizes.sum())
    }

    /// The words of a block that are scanned.
    fn scanned(&self, start: usize, block: &Block) -> Vec<usize> {
        if block.no_scan || block.min_count < 0 {
            return Vec::new();
        }
        let whole = start..start + block.size;
        let parts: &[Range<usize>] = match block.areas.as_slice() {
            [] => std::slice::from_ref(&whole),
            areas => areas,
        };
        let addresses: BTreeSet<usize> = parts
            .iter()
            .flat_map(|part| {
                let words = self.words.range(part.start..part.end);
                words
                    .map(|(&address, _)| address)
                    .filter(|address| address + WORD <= part.end)
            })
            .collect();
        addresses
            .into_iter()
            .map(|address| self.words[&address])
            .collect()
    }

    /// The blocks that too few words point at, in the order of allocation.
    pub fn check(&mut self) {
        let mut counts: BTreeMap<usize, i32> = BTreeMap::new();
        let mut marked: BTreeSet<usize> = BTreeSet::new();
        let mut queue: Vec<usize> = Vec::new();
        for (&start, block) in &self.blocks {
            if block.min_count == 0 {
                marked.insert(start);
                queue.push(start);
            }
        }
        // Who points, none being a root; and what word.
        let mut pointers: Vec<(Option<usize>, usize)> =
            self.roots.values().map(|&word| (None, word)).collect();
        loop {
            for (from, word) in pointers.drain(..) {
                let Some((to, block)) = self.containing(word) else {
                    continue;
                };
                if from == Some(to) {
                    continue;
                }
                let count = counts.entry(to).or_default();
                *count += 1;
                if block.min_count > 0 && *count >= block.min_count && marked.insert(to) {
                    queue.push(to);
                }
            }
            let Some(start) = queue.pop() else {
                break;
            };
            let words = self.scanned(start, &self.blocks[&start]);
            pointers.extend(words.into_iter().map(|word| (Some(start), word)));
        }
        let mut leaks: Vec<(u64, usize)> = self
            .blocks
            .iter()
            .filter(|(start, block)| block.min_count > 0 && !marked.contains(start))
            .map(|(&start, block)| (block.birth, start))
            .collect();
        leaks.sort_unstable();
        self.leaks = leaks.into_iter().map(|(_, start)| start).collect();
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
