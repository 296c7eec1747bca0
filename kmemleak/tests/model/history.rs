//! Histories: operations in terms of offsets, so that one can be left out and the rest still means the same.

use std::ops::Range;

use kmemleak_emulated::Stop;

use crate::random::Random;

/// Bytes of the arena: some runs of 2 MiB, wherever it lies.
pub const ARENA: usize = 12 << 20;
/// Words of `.bss` that are used.
pub const ROOTS: usize = 48;

const WORD: usize = 8;

#[derive(Clone, Debug)]
pub struct History {
    pub cpus: u32,
    pub stop: Stop,
    pub operations: Vec<Operation>,
}

/// Starts are offsets into the arena.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    /// Start, size, min_count.
    Alloc(usize, usize, i32),
    Free(usize),
    Store(Where, Value),
    NotLeak(usize),
    Ignore(usize),
    NoScan(usize),
    /// Start and length.
    ScanArea(usize, usize),
    /// Start and length.
    FreePart(usize, usize),
    /// Start and size, and the start of the area.
    Vmalloc(usize, usize, usize),
    TransientLeak(usize),
    Percpu(usize, Percpu),
    RegionAdd(usize),
    RegionRemove(usize),
    MinAge(u64),
    Check,
    Scan,
    Clear,
}

/// What is done with one of a few per-CPU blocks. Where there is none of its number, or there is one already: nothing.
#[derive(Clone, Copy, Debug)]
pub enum Percpu {
    /// Size.
    Alloc(usize),
    Free,
    MinCount(i32),
    NoScan,
    /// Offset and length.
    ScanArea(usize, usize),
    /// Offset and length.
    FreePart(usize, usize),
}

/// Per-CPU blocks that there can be at a time.
pub const PERCPU: usize = 3;

/// The regions: offsets into the arena. They touch, overlap, lie in one another, start at the same address, at no multiple of the
/// word's size, and have nothing.
pub const REGIONS: [Range<usize>; 10] = [
    0x1008..0x1240,
    0x1240..0x1400,
    0x1008..0x1028,
    0x1010..0x1300,
    0x1240..0x1240,
    0x4000..0x5018,
    0x4014..0x4044,
    0x4ff4..0x5024,
    0x20_0000 - 8..0x20_0010,
    0x20_0000 - 8..0x20_0000,
];

/// Where a word is stored.
#[derive(Clone, Copy, Debug)]
pub enum Where {
    Root(usize),
    /// At a multiple of the word's size.
    Arena(usize),
    /// In the copy of a per-CPU block: its number, a CPU, the offset.
    Percpu(usize, usize, usize),
}

/// What is stored.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    Arena(usize),
    /// Into a per-CPU block: its number, 0 for its handle or one more than a CPU, the offset.
    Percpu(usize, usize, usize),
    Raw(usize),
}

/// What a history's author remembers: not all of it is true.
struct Author {
    random: Random,
    /// Starts and sizes of blocks that are, or once were.
    blocks: Vec<(usize, usize)>,
    gone: Vec<(usize, usize)>,
}

impl History {
    pub fn random(random: Random) -> Self {
        let mut author = Author {
            random,
            blocks: Vec::new(),
            gone: Vec::new(),
        };
        let cpus = author.random.between(1, 3) as u32;
        let stop = match author.random.below(8) {
            0 => Stop::Unsupported,
            1 => Stop::Missing(0),
            _ => Stop::Works,
        };
        let len = match author.random.below(10) {
            0 => author.random.between(300, 600),
            _ => author.random.between(10, 120),
        };
        let operations = (0..len).map(|_| author.operation());
        let operations = operations.chain([Operation::Check]).collect();
        Self {
            cpus,
            stop,
            operations,
        }
    }
}

impl Author {
    fn operation(&mut self) -> Operation {
        match self.random.below(207) {
            0..66 => self.alloc(),
            66..84 => self.free(),
            84..156 => Operation::Store(self.place(), self.value()),
            156..159 => Operation::NotLeak(self.start()),
            159..162 => Operation::Ignore(self.start()),
            162..165 => Operation::NoScan(self.start()),
            165..171 => self.scan_area(),
            171..175 => self.free_part(),
            175 => self.vmalloc(),
            176 => Operation::TransientLeak(self.start()),
            177..182 => self.percpu(),
            182..186 => Operation::RegionAdd(self.random.below(REGIONS.len())),
            186 | 200 => Operation::RegionRemove(self.random.below(REGIONS.len())),
            187 => Operation::MinAge(self.random.below(20) as u64),
            188..194 => Operation::Check,
            194..198 => Operation::Scan,
            198..200 => Operation::Clear,
            _ => self.vmalloc(),
        }
    }

    fn free_part(&mut self) -> Operation {
        let (start, size) = self.block();
        let random = &mut self.random;
        let offset = match random.below(3) {
            0 => 0,
            1 => random.below(size),
            _ => random.below(size) & !7,
        };
        let len = match random.below(4) {
            0 => size - offset,
            1 => random.below(size + 64),
            _ => random.below(size - offset + 1) & !7,
        };
        Operation::FreePart(start + offset, len)
    }

    fn vmalloc(&mut self) -> Operation {
        let area = self.block().0;
        let Operation::Alloc(start, size, _) = self.alloc() else {
            return Operation::Check;
        };
        Operation::Vmalloc(start, size, area)
    }

    fn percpu(&mut self) -> Operation {
        let random = &mut self.random;
        let what = match random.below(10) {
            0..4 => Percpu::Alloc(random.between(1, 120)),
            4..6 => Percpu::Free,
            6 => Percpu::MinCount(random.below(2) as i32 - 1),
            7 => Percpu::NoScan,
            8 => Percpu::ScanArea(random.below(64), random.below(64)),
            _ => Percpu::FreePart(random.below(64), random.below(64)),
        };
        Operation::Percpu(random.below(PERCPU), what)
    }

    /// Mostly small, at times large, at the edges of what indexes are made for.
    fn size(&mut self) -> usize {
        let random = &mut self.random;
        match random.below(1000) {
            0..150 => random.between(1, 16),
            150..650 => random.between(1, 40) * WORD,
            650..800 => random.between(1, 1000),
            800..950 => random.between(1, 9000),
            950..980 => random.between(1, 8) * 4096,
            980..995 => random.between(1, 200_000),
            _ => random.between(1, 3 << 20),
        }
    }

    fn alloc(&mut self) -> Operation {
        let size = self.size();
        let near = self.random.any(&self.blocks);
        let random = &mut self.random;
        let start = match (random.below(10), near) {
            // Behind another block, before it, or a little off; on top of one at times.
            (0..3, Some((start, size))) => start + size,
            (3, Some((start, _))) => start.saturating_sub(size),
            (4, Some((start, size))) => start + size + random.below(64),
            (5, Some((start, size))) if random.below(4) == 0 => start + random.below(size),
            (6, _) => random.below(ARENA / (2 << 20)) * (2 << 20),
            (7, _) => random.below(ARENA / 4096) * 4096 + random.below(32),
            // A crowded corner; about the regions.
            (8, _) if random.below(2) == 0 => random.below(32_768),
            (8, _) => {
                let region = &REGIONS[random.below(REGIONS.len())];
                random.between(region.start - 32, region.end)
            }
            _ => random.below(ARENA / 16) * 16,
        };
        let size = size.min(ARENA / 2);
        let start = start.min(ARENA - size);
        let start = match random.below(3) {
            0 => start,
            _ => start & !7,
        };
        let min_count = match random.below(20) {
            0 => 0,
            1 => -1,
            2..5 => 2,
            5 => random.between(3, 7) as i32,
            _ => 1,
        };
        self.blocks.push((start, size));
        Operation::Alloc(start, size, min_count)
    }

    fn free(&mut self) -> Operation {
        if self.blocks.is_empty() || self.random.below(10) == 0 {
            return Operation::Free(self.start());
        }
        let at = self.random.below(self.blocks.len());
        let block = self.blocks.swap_remove(at);
        self.gone.push(block);
        Operation::Free(block.0)
    }

    /// A block, at times one that is gone, or never was.
    fn block(&mut self) -> (usize, usize) {
        let of = match self.random.below(20) {
            0 => &self.gone,
            _ => &self.blocks,
        };
        let block = self.random.any(of);
        block.unwrap_or_else(|| (self.random.below(ARENA), 1))
    }

    fn start(&mut self) -> usize {
        let (start, size) = self.block();
        match self.random.below(10) {
            0 => start + self.random.below(size),
            _ => start,
        }
    }

    fn scan_area(&mut self) -> Operation {
        let (start, size) = self.block();
        let offset = self.random.below(size);
        // At times it goes past the end.
        let len = self.random.between(1, size - offset + size / 8);
        Operation::ScanArea(start + offset, len)
    }

    fn place(&mut self) -> Where {
        if self.random.below(4) == 0 {
            return Where::Root(self.random.below(ROOTS));
        }
        if self.random.below(12) == 0 {
            let random = &mut self.random;
            return Where::Percpu(
                random.below(PERCPU),
                random.below(3),
                random.below(16) * WORD,
            );
        }
        let (start, size) = self.block();
        // Near the start, mostly; at times in the slack before it or behind.
        let offset = match self.random.below(4) {
            0 => self.random.below(size + 8),
            _ => self.random.below(size.min(128)),
        };
        Where::Arena((start + offset).min(ARENA - WORD) & !(WORD - 1))
    }

    fn value(&mut self) -> Value {
        let (start, size) = self.block();
        let random = &mut self.random;
        match random.below(20) {
            0..10 => Value::Arena(start),
            10..13 => Value::Arena(start + random.below(size)),
            13 => Value::Arena(start + size - 1),
            14 => Value::Arena(start + size),
            15 => Value::Arena(start.saturating_sub(1)),
            16 => Value::Arena(random.below(ARENA)),
            17 if random.below(2) == 0 => {
                Value::Percpu(random.below(PERCPU), random.below(4), random.below(128))
            }
            17 => Value::Raw(random.number() as usize),
            _ => Value::Raw(0),
        }
    }
}
