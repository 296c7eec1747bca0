//! Random layouts at addresses of the test's choice, against a list of blocks.
//!
//! What an index keeps goes by address: chunks, tables of 64 KiB, of 32 MiB, of 16 GiB, what covers one of them and what only
//! reaches in. So blocks of all kinds and sizes are put to both sides of such borders, over one another, and are taken away in
//! whole and in part; copies of per-CPU blocks lie among them, as far apart as the borders are.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::lab::many;
use crate::sparse::{BLOCKS, SparseLab};

const PAGE: usize = 4096;
const CHUNK: usize = 512;
const TABLE: usize = 64 << 10;
const LARGE: usize = 32 << 20;
const HUGE: usize = 16 << 30;
const WORDS: usize = 8;
/// What is larger is not scanned: memory that is a map of words takes its time.
const SCANNED: usize = 1 << 16;

/// Random numbers: splitmix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) as usize % end
    }

    fn any<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

struct Block {
    size: usize,
    /// Where its memory is.
    copies: Vec<usize>,
    scanned: bool,
}

struct World {
    lab: SparseLab,
    random: Random,
    blocks: BTreeMap<usize, Block>,
    words: BTreeMap<usize, usize>,
    roots: [usize; WORDS],
    distance: usize,
    border: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let lab = SparseLab::new();
        let distance = random.any(&[CHUNK, PAGE, TABLE, TABLE + 8, 3 * TABLE, LARGE]);
        lab.platform()
            .copy_distance
            .store(distance, Ordering::Relaxed);
        let unit = random.any(&[TABLE, LARGE, HUGE]);
        Self {
            lab,
            random,
            blocks: BTreeMap::new(),
            words: BTreeMap::new(),
            roots: [0; WORDS],
            distance,
            border: BLOCKS.next_multiple_of(unit) + unit,
        }
    }

    /// Near a border.
    fn place(&mut self) -> usize {
        let unit = self.random.any(&[CHUNK, PAGE, TABLE, TABLE, LARGE]);
        let border = self.border + self.random.below(4) * unit - unit;
        let off = self.random.any(&[0, 0, 8, 64, 504, PAGE - 8, 3]);
        match self.random.below(2) {
            0 => border + off,
            _ => border - off,
        }
    }

    fn size(&mut self) -> usize {
        let unit = self.random.any(&[8, 64, CHUNK, PAGE, TABLE, TABLE, LARGE]);
        let size = unit * (1 + self.random.below(3));
        match self.random.below(4) {
            0 => size - self.random.below(8),
            1 => size + 8 * self.random.below(9),
            _ => size,
        }
    }

    fn containing(&self, address: usize) -> Option<usize> {
        let within = |block: &Block| {
            let mut copies = block.copies.iter();
            copies.any(|&copy| address.wrapping_sub(copy) < block.size)
        };
        let mut found = self.blocks.iter().filter(|(_, block)| within(block));
        found.next().map(|(&start, _)| start)
    }

    /// What is in the way of a block was freed without a callback.
    fn insert(&mut self, start: usize, block: Block) {
        let meet = |old: &Block| {
            old.copies.iter().any(|&old_copy| {
                let (old_end, mut copies) = (old_copy + old.size, block.copies.iter());
                copies.any(|&copy| copy < old_end && old_copy < copy + block.size)
            })
        };
        self.blocks.retain(|_, old| !meet(old));
        self.blocks.insert(start, block);
    }

    fn some_block(&mut self) -> Option<(usize, usize)> {
        let number = self.random.below(self.blocks.len().max(1));
        let (&start, block) = self.blocks.iter().nth(number)?;
        Some((start, block.size))
    }

    fn step(&mut self) {
        let platform_time = &self.lab.platform().now_us;
        platform_time.fetch_add(1, Ordering::Relaxed);
        match self.random.below(16) {
            0..4 => {
                let (start, size) = (self.place(), self.size());
                self.lab.alloc(start, size);
                if size > SCANNED {
                    self.lab.detector.no_scan(start);
                }
                let (copies, scanned) = (vec![start], size <= SCANNED);
                let block = Block {
                    size,
                    copies,
                    scanned,
                };
                self.insert(start, block);
            }
            4..6 => {
                let (handle, size) = (self.place() & !7, 8 + 8 * self.random.below(CHUNK / 8));
                self.lab.detector.alloc_percpu(handle, size);
                let copies = vec![handle, handle + self.distance];
                let block = Block {
                    size,
                    copies,
                    scanned: true,
                };
                self.insert(handle, block);
            }
            6..8 => {
                if let Some((start, _)) = self.some_block() {
                    self.lab.detector.free(start);
                    self.blocks.remove(&start);
                }
            }
            8..10 => self.free_part(),
            10..13 => {
                let (word, address) = (self.random.below(WORDS), self.address());
                self.lab.hold(word, address);
                self.roots[word] = address;
            }
            _ => {
                let (slot, address) = (self.address() & !7, self.address());
                self.lab.platform().write(slot, address);
                self.words.insert(slot, address);
            }
        }
    }

    /// In a block, or at one of its ends.
    fn address(&mut self) -> usize {
        let Some((start, size)) = self.some_block() else {
            return 0;
        };
        let copy = self.random.any(&self.blocks[&start].copies);
        let offset = self.random.any(&[0, 0, 0, size / 2, size - 1, size]);
        match self.random.below(12) {
            0 => copy - 1,
            _ => copy + offset,
        }
    }

    fn free_part(&mut self) {
        let Some((whole, size)) = self.some_block() else {
            return;
        };
        if self.blocks[&whole].copies.len() > 1 {
            return;
        }
        let unit = self.random.any(&[8, CHUNK, PAGE, TABLE, LARGE]);
        let near = (whole + self.random.below(size)) / unit * unit;
        let start = self.random.any(&[whole, near.max(whole)]);
        let len = match self.random.below(2) {
            0 => whole + size - start,
            _ => self.size(),
        };
        self.lab.detector.free_part(start, len);
        let scanned = self.blocks.remove(&whole).is_some_and(|old| old.scanned);
        let end = whole + size;
        for (start, end) in [(whole, start), ((start + len).min(end), end)] {
            if start < end {
                let block = Block {
                    size: end - start,
                    copies: vec![start],
                    scanned,
                };
                self.blocks.insert(start, block);
            }
        }
    }

    /// What nothing leads to.
    fn lost(&self) -> Vec<usize> {
        let mut alive = Vec::new();
        let mut found: Vec<usize> = self.roots.to_vec();
        while let Some(address) = found.pop() {
            let Some(start) = self.containing(address) else {
                continue;
            };
            if alive.contains(&start) {
                continue;
            }
            alive.push(start);
            let block = &self.blocks[&start];
            for &copy in block.copies.iter().filter(|_| block.scanned) {
                let words = self.words.range(copy..copy + block.size);
                let whole = words.filter(|(slot, _)| **slot + 8 <= copy + block.size);
                found.extend(whole.map(|(_, &word)| word));
            }
        }
        let starts = self.blocks.keys().copied();
        starts.filter(|start| !alive.contains(start)).collect()
    }
}

#[test]
fn blocks_on_both_sides_of_every_border_are_what_a_list_says() {
    for seed in 0..many(50) as u64 {
        let mut world = World::new(seed);
        for step in 0..120 {
            world.step();
            let bytes = world.blocks.values().map(|block| block.size).sum();
            let tracked = world.lab.tracked();
            assert_eq!(tracked, (world.blocks.len(), bytes), "{seed}: {step}");
            if step % 4 == 0 {
                assert_eq!(world.lab.leaks(), world.lost(), "{seed}: {step}");
            }
        }
    }
}
