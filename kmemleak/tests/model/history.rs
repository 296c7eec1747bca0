//! Histories: operations in terms of offsets, so that one can be left out and the rest still means the same.

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
    Check,
    Clear,
}

/// Where a word is stored.
#[derive(Clone, Copy, Debug)]
pub enum Where {
    Root(usize),
    /// At a multiple of the word's size.
    Arena(usize),
}

/// What is stored.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    Arena(usize),
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
    pub fn random(seed: u64) -> Self {
        let mut author = Author {
            random: Random::new(seed),
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
        match self.random.below(100) {
            0..36 => self.alloc(),
            36..46 => self.free(),
            46..84 => Operation::Store(self.place(), self.value()),
            84..86 => Operation::NotLeak(self.start()),
            86..88 => Operation::Ignore(self.start()),
            88..90 => Operation::NoScan(self.start()),
            90..93 => self.scan_area(),
            93..99 => Operation::Check,
            _ => Operation::Clear,
        }
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
            // A crowded corner.
            (8, _) => random.below(32_768),
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
            5 => 3,
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
            17 => Value::Raw(random.next() as usize),
            _ => Value::Raw(0),
        }
    }
}
