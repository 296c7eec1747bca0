//! The registry beside a list of blocks: after random callbacks, both know the same blocks, and nothing else is left.
//!
//! What is compared is more than what a look-up shows: also the chunks for which is noted that an object reaches in, the users
//! that a table counts, and the flags by which the short paths judge. A note too many costs time only, and is found here alone.

extern crate std;

use core::ops::Range;
use core::sync::atomic::Ordering::Relaxed;
use std::boxed::Box;
use std::vec::Vec;

use crate::AllocOptions;
use crate::objects::access::Locked;
use crate::objects::chunk::{GRANULE, granule_of, info};
use crate::objects::page_map::{CHUNK, Look, chunk_of};
use crate::platform::bare::Bare;
use crate::tracker::Tracker;

const BASE: usize = 0xffff_8880_0000_0000;
/// Bytes that a table of the lowest level stands for, and one of the level above.
const TABLE: usize = 128 * CHUNK;
const MIDDLE: usize = 512 * TABLE;

/// Where blocks lie, and how large they are: multiples of `unit`, most of them exactly.
#[derive(Clone, Copy)]
struct Ground {
    unit: usize,
    units: usize,
    /// Blocks of `unit` times this at most.
    largest: usize,
    /// Bytes by which starts and ends are more or less than multiples; the first is the most frequent.
    jitter: [usize; 4],
    parts: bool,
}

/// Small blocks in a few chunks.
const SMALL: Ground = Ground {
    unit: 64,
    units: 64,
    largest: 12,
    jitter: [0, 8, 40, 3],
    parts: true,
};

/// Blocks of which most start at no multiple of eight.
const ODD: Ground = Ground {
    unit: 64,
    units: 40,
    largest: 16,
    jitter: [3, 5, 0, 9],
    parts: true,
};

/// Blocks of some chunks, and smaller ones.
const CHUNKS: Ground = Ground {
    unit: CHUNK,
    units: 300,
    largest: 150,
    jitter: [0, 8, 488, 511],
    parts: false,
};

/// Blocks that cover tables.
const TABLES: Ground = Ground {
    unit: TABLE / 2,
    units: 24,
    largest: 9,
    jitter: [0, 8, 264, 3],
    parts: false,
};

/// Blocks that cover tables of the level above, and reach farther than a chunk's entry can say.
const HUGE: Ground = Ground {
    unit: MIDDLE / 2,
    units: 24,
    largest: 14,
    jitter: [0, 40, TABLE, TABLE + 4096],
    parts: false,
};

const fn with_parts(ground: Ground) -> Ground {
    Ground {
        parts: true,
        ..ground
    }
}

/// Numbers that look random (Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % limit
    }
}

/// A block of the list: its memory, and a number that its record has.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Block {
    range: Range<usize>,
    number: i32,
}

struct History {
    tracker: Box<Tracker<Bare>>,
    random: Random,
    ground: Ground,
    blocks: Vec<Block>,
}

impl History {
    fn new(ground: Ground, seed: u64) -> Self {
        Self {
            tracker: Box::new(Tracker::new(Bare)),
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            ground,
            blocks: Vec::new(),
        }
    }

    /// A number of bytes, and a little more or less.
    fn about(&mut self, bytes: usize) -> usize {
        // Mostly the first one, so that blocks touch.
        let jitter = self.ground.jitter[self.random.below(8) % 4 * self.random.below(2)];
        match self.random.below(2) {
            0 => bytes + jitter,
            _ => bytes.saturating_sub(jitter),
        }
    }

    fn step(&mut self) {
        match self.random.below(8) {
            0..=3 => self.alloc(),
            4 => self.free(),
            5 => self.free_what_is_none(),
            6 if self.ground.parts => self.free_part(),
            _ => self.free_and_alloc_again(),
        }
    }

    fn alloc(&mut self) {
        let ground = self.ground;
        let at = (1 + self.random.below(ground.units)) * ground.unit;
        let start = BASE + self.about(at);
        let units = match self.random.below(3) {
            0 => 1,
            _ => 1 + self.random.below(ground.largest),
        };
        let size = match self.random.below(4) {
            0 => 1 + self.random.below(64),
            _ => self.about(units * ground.unit),
        };
        self.alloc_at(start..start + size);
    }

    fn alloc_at(&mut self, range: Range<usize>) {
        // The number of a plain block is 1; short paths know no others.
        let number = 1 + (self.random.below(6) / 4) as i32;
        let options = AllocOptions::new().min_count(number);
        self.tracker.alloc(range.start, range.len(), options);
        let apart =
            |block: &Block| block.range.end <= range.start || range.end <= block.range.start;
        self.blocks.retain(apart);
        self.blocks.push(Block { range, number });
    }

    fn free(&mut self) {
        if self.blocks.is_empty() {
            return;
        }
        let index = self.random.below(self.blocks.len());
        self.free_at(index);
    }

    fn free_at(&mut self, index: usize) {
        let block = self.blocks.swap_remove(index);
        self.tracker.free(block.range.start);
    }

    /// The address of no block's start.
    fn free_what_is_none(&mut self) {
        if self.blocks.is_empty() {
            return;
        }
        let index = self.random.below(self.blocks.len());
        let address = self.blocks[index].range.start + [1, 3, 8, 64][self.random.below(4)];
        if self.blocks.iter().all(|block| block.range.start != address) {
            self.tracker.free(address);
        }
    }

    fn free_and_alloc_again(&mut self) {
        if self.blocks.is_empty() {
            return;
        }
        let index = self.random.below(self.blocks.len());
        let range = self.blocks[index].range.clone();
        self.free_at(index);
        self.alloc_at(range);
    }

    fn free_part(&mut self) {
        if self.blocks.is_empty() {
            return;
        }
        let index = self.random.below(self.blocks.len());
        let Block { range, number } = self.blocks.swap_remove(index);
        let unit = self.ground.unit;
        let units = range.len() / unit;
        let front = match self.random.below(3) {
            0 => 0,
            _ => {
                let front = self.random.below(units + 1) * unit;
                self.about(front).min(range.len() - 1)
            }
        };
        let len = (1 + self.random.below(units + 1)) * unit;
        let len = self.about(len);
        self.tracker.free_part(range.start + front, len);
        let behind = (range.start + front).saturating_add(len).min(range.end);
        for rest in [range.start..range.start + front, behind..range.end] {
            if !rest.is_empty() {
                let range = rest;
                self.blocks.push(Block { range, number });
            }
        }
    }

    /// The block of the list that has a byte.
    fn known_at(&self, address: usize) -> Option<&Block> {
        self.blocks
            .iter()
            .find(|block| block.range.contains(&address))
    }

    /// The block of the registry that has a byte.
    fn found_at(&self, address: usize) -> Option<Block> {
        let registry = self.tracker.registry();
        registry.containing(Locked, address, |object| Block {
            range: object.start..object.start + registry.size(object.start, object.record),
            number: object.record.min_count(),
        })
    }

    /// Addresses at which a look-up may go wrong.
    fn edges(&self) -> Vec<usize> {
        let mut edges = Vec::new();
        for Block { range, .. } in &self.blocks {
            let (start, last) = (range.start, range.end - 1);
            let within = [CHUNK, TABLE, MIDDLE].map(|unit| start.next_multiple_of(unit));
            let to_end = [CHUNK, TABLE, MIDDLE].map(|unit| last / unit * unit);
            edges.extend([start, start - 1, last, last + 1, start.midpoint(last)]);
            edges.extend(within.into_iter().chain(to_end));
            edges.extend(within.map(|edge| edge - 1));
        }
        edges
    }

    /// Registry and list know the same.
    fn check(&self) {
        for address in self.edges() {
            let known = self.known_at(address).cloned();
            assert_eq!(self.found_at(address), known, "at {address:#x}");
            self.check_reach(address);
        }
        let objects = self.tracker.tracking();
        assert_eq!(objects.objects, self.blocks.len());
    }

    /// What is noted for the chunk of an address is what reaches in.
    fn check_reach(&self, address: usize) {
        let chunk = chunk_of(address);
        let first = chunk * CHUNK;
        let before = self
            .known_at(first)
            .filter(|block| block.range.start < first);
        let before = before.map(|block| chunk_of(block.range.start));
        let noted = self.tracker.registry().map.reaching(chunk);
        let run = matches!(self.tracker.registry().map.look(chunk), Look::Run(_));
        if !(self.ground.parts && run) {
            assert_eq!(noted, before, "at {address:#x}");
        }
    }

    /// The chunks that have entries: users are counted right, and flags say what they say.
    fn check_chunks(&self) {
        let registry = self.tracker.registry();
        let mut leaf = registry.leaves().start;
        while let Some((number, table)) = registry.map.next_leaf(leaf, registry.leaves().end) {
            let mut users = 0;
            for (chunk_number, chunk) in table.chunks(number) {
                users += u16::from(chunk.has(info::SERVES)) + u16::from(chunk.has(info::UNALIGNED));
                let range = chunk_number * CHUNK..(chunk_number + 1) * CHUNK;
                let here = || {
                    self.blocks
                        .iter()
                        .filter(|block| range.contains(&block.range.start))
                };
                let aligned = || here().filter(|block| block.range.start.is_multiple_of(GRANULE));
                let starts = aligned().fold(0, |starts, block| {
                    starts | 1_u64 << granule_of(block.range.start)
                });
                assert_eq!(chunk.starts().load(Relaxed), starts, "{range:x?}");
                let unaligned = here().count() - aligned().count();
                assert_eq!(chunk.has(info::UNALIGNED), unaligned > 0, "{range:x?}");
                let reaches_out = aligned().any(|block| block.range.end > range.end);
                assert!(chunk.has(info::LOOK) || !reaches_out, "{range:x?}");
                let special =
                    here().count() > aligned().count() || here().any(|one| one.number != 1);
                assert!(chunk.has(info::SPECIAL) || !special, "{range:x?}");
                assert!(chunk.has(info::SERVES) || starts == 0, "{range:x?}");
            }
            let head = table.chunk(number << 7);
            let counted = head.users().load(Relaxed);
            assert_eq!(counted, users, "table {number:#x}");
            leaf = number + 1;
        }
    }

    /// Frees all; nothing is left.
    fn end(mut self) {
        while !self.blocks.is_empty() {
            self.free();
        }
        self.check_chunks();
        let registry = self.tracker.registry();
        let mut leaf = registry.leaves().start;
        while let Some((number, table)) = registry.map.next_leaf(leaf, registry.leaves().end) {
            for (chunk_number, chunk) in table.chunks(number) {
                assert!(chunk.is_blank(), "chunk {chunk_number:#x} is not blank");
                assert_eq!(chunk.marks().load(Relaxed), 0, "chunk {chunk_number:#x}");
            }
            leaf = number + 1;
        }
    }
}

/// Random histories on a ground.
fn run(ground: Ground, seeds: Range<u64>, steps: usize) {
    for seed in seeds {
        let mut history = History::new(ground, seed + 1);
        for step in 0..steps {
            history.step();
            history.check();
            if step % 16 == 15 {
                history.check_chunks();
            }
        }
        history.end();
    }
}

#[test]
fn small_blocks_are_those_of_a_list() {
    run(SMALL, 0..12, 160);
    run(ODD, 0..12, 100);
}

#[test]
fn blocks_of_some_chunks_are_those_of_a_list() {
    run(CHUNKS, 0..6, 100);
    run(with_parts(CHUNKS), 6..12, 100);
}

#[test]
fn blocks_that_cover_tables_are_those_of_a_list() {
    run(TABLES, 0..6, 80);
    run(with_parts(TABLES), 6..12, 80);
    // Where most lie in memory of which nothing was known.
    let units = 200;
    run(
        Ground {
            units,
            ..with_parts(TABLES)
        },
        12..20,
        50,
    );
}

#[test]
fn huge_blocks_are_those_of_a_list() {
    run(HUGE, 0..4, 60);
    run(with_parts(HUGE), 4..8, 60);
    let units = 200;
    run(
        Ground {
            units,
            ..with_parts(HUGE)
        },
        8..12,
        50,
    );
}

/// The spacing of the chunk at `BASE` once these blocks have been recorded there.
fn spacing(blocks: &[(usize, usize)]) -> u32 {
    let tracker = Box::new(Tracker::new(Bare));
    for &(offset, size) in blocks {
        tracker.alloc(BASE + offset, size, AllocOptions::new());
    }
    match tracker.registry().map.look(chunk_of(BASE)) {
        Look::Entry(chunk) => chunk.spacing(),
        _ => panic!("there is an entry"),
    }
}

#[test]
fn records_are_as_far_apart_as_blocks_lie() {
    for (bytes, spaced) in [
        (8, 0),
        (16, 1),
        (24, 2),
        (32, 2),
        (64, 3),
        (96, 4),
        (256, 5),
    ] {
        let step = usize::next_power_of_two(bytes);
        let blocks: Vec<_> = (0..CHUNK)
            .step_by(step)
            .map(|offset| (offset, bytes))
            .collect();
        assert_eq!(spacing(&blocks[..1]), 6, "one of {bytes} bytes");
        assert_eq!(spacing(&blocks[..2]), spaced, "two of {bytes} bytes");
        assert_eq!(spacing(&blocks), spaced, "all of {bytes} bytes");
    }
    // Closer than their sizes say, as far as it takes.
    assert_eq!(spacing(&[(0, 64), (72, 64), (144, 64)]), 3);
    assert_eq!(spacing(&[(0, 64), (64, 24), (96, 32)]), 2);
    assert_eq!(spacing(&[(0, 256), (256, 8), (264, 8)]), 0);
    // Records that are there from before are used again, where they are coarse enough.
    let tracker = Box::new(Tracker::new(Bare));
    let look = || match tracker.registry().map.look(chunk_of(BASE)) {
        Look::Entry(chunk) => chunk.spacing(),
        _ => panic!("there is an entry"),
    };
    for (offset, size, spaced) in [(0, 8, 6), (8, 8, 0)] {
        tracker.alloc(BASE + offset, size, AllocOptions::new());
        assert_eq!(look(), spaced);
    }
    tracker.free(BASE);
    tracker.free(BASE + 8);
    tracker.alloc(BASE, 16, AllocOptions::new());
    assert_eq!(look(), 6, "one record for one block");
}

#[test]
fn what_is_forgotten_gives_its_metadata_back() {
    let tracker = Box::new(Tracker::new(Bare));
    let round = |number: usize| {
        // In fresh chunks each time, of few tables.
        let start = BASE + number % 100 * 5 * CHUNK;
        for (offset, size) in [(0, 2000), (3, 1500)] {
            let start = start + offset;
            // Its front goes, then its tail, then its middle.
            tracker.alloc(start, size, AllocOptions::new().min_count(3));
            tracker.free_part(start, 520);
            tracker.free_part(start + 1000, 2000);
            tracker.free_part(start + 700, 100);
            tracker.free(start + 520);
            tracker.free(start + 800);
        }
        // Finer and finer records.
        for offset in [0, 256, 128, 64, 32, 16, 8] {
            tracker.alloc(start + offset, 8, AllocOptions::new());
        }
        for offset in [0, 256, 128, 64, 32, 16, 8] {
            tracker.free(start + offset);
        }
    };
    (0..200).for_each(round);
    let pages = tracker.metadata().bytes;
    (0..4000).for_each(round);
    assert_eq!(tracker.tracking().objects, 0);
    assert_eq!(tracker.metadata().bytes, pages);
}
