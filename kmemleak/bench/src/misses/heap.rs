//! The allocator under the load: slabs with a list of free blocks for each size, the last freed first, as kernels' have. Each block has a type.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use clap::ValueEnum;
use kmemleak::AllocOptions;
use kmemleak_emulated::Machine;

use crate::world::Measuree;

pub const WORD: usize = 8;
/// Bytes that are taken from the machine at once.
const SLAB: usize = 64 * 1024;

/// What becomes of the contents of a freed block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Freed {
    Kept,
    Cleared,
}

/// Whether the detector is told which words of a block are pointers by its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Types {
    Ignored,
    Used,
}

impl fmt::Display for Freed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "kept",
            Self::Cleared => "cleared",
        })
    }
}

impl fmt::Display for Types {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ignored => "ignored",
            Self::Used => "used",
        })
    }
}

/// The type of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Two pointers to its like, then numbers.
    Node,
    /// Numbers.
    Numbers,
    /// Pointers, as the memory of a `Vec` that has them.
    Pointers,
}

impl Kind {
    /// Words at its beginning that are pointers by the type, of so many.
    fn pointers(self, words: usize) -> usize {
        match self {
            Self::Node => words.min(2),
            Self::Numbers => 0,
            Self::Pointers => words,
        }
    }
}

/// A block that its owner frees or loses.
#[derive(Debug)]
pub struct Block {
    pub start: usize,
    pub words: usize,
}

/// The allocator, and the detector that is told of its blocks.
pub struct Heap {
    machine: Arc<Machine>,
    detector: &'static Measuree,
    freed: Freed,
    types: Types,
    free: BTreeMap<usize, Vec<usize>>,
    /// Blocks that are not free, by their starts.
    kinds: BTreeMap<usize, (Kind, usize)>,
}

impl Heap {
    pub fn new(
        machine: Arc<Machine>,
        detector: &'static Measuree,
        freed: Freed,
        types: Types,
    ) -> Self {
        Self {
            machine,
            detector,
            freed,
            types,
            free: BTreeMap::new(),
            kinds: BTreeMap::new(),
        }
    }

    /// A block of so many words. Those of a node are small numbers; those of others are what the last owner left there.
    pub fn alloc(&mut self, kind: Kind, words: usize) -> Block {
        let free = self.free.entry(words).or_default();
        let start = free.pop().unwrap_or_else(|| {
            let slab = self.machine.arena(SLAB);
            let count = SLAB / (words * WORD);
            free.extend((1..count).rev().map(|slot| slab + slot * words * WORD));
            slab
        });
        self.detector
            .alloc(start, words * WORD, AllocOptions::new());
        let pointers = kind.pointers(words);
        if self.types == Types::Used && pointers == 0 {
            self.detector.no_scan(start);
        } else if self.types == Types::Used && pointers < words {
            self.detector.scan_area(start, pointers * WORD);
        }
        self.kinds.insert(start, (kind, words));
        let block = Block { start, words };
        if kind == Kind::Node {
            (0..words).for_each(|word| self.write(&block, word, word));
        }
        block
    }

    pub fn free(&mut self, block: Block) {
        self.detector.free(block.start);
        if self.freed == Freed::Cleared {
            (0..block.words).for_each(|word| self.write(&block, word, 0));
        }
        self.kinds.remove(&block.start);
        self.free.entry(block.words).or_default().push(block.start);
    }

    pub fn write(&self, block: &Block, word: usize, value: usize) {
        assert!(word < block.words);
        self.machine.write(block.start + word * WORD, value);
    }

    /// Memory of so many words that is no block, and is a root.
    pub fn root(&self, words: usize) -> usize {
        self.machine.arena(words * WORD)
    }

    /// Writes a word of a root.
    pub fn write_root(&self, address: usize, value: usize) {
        self.machine.write(address, value);
    }

    /// These words are scanned from now on.
    pub fn add_root(&self, start: usize, words: usize) {
        self.detector.region_add(start, words * WORD);
    }

    /// How many blocks are not free.
    pub fn blocks(&self) -> usize {
        self.kinds.len()
    }

    /// Whether the word at an address is a number by the type of its block.
    pub fn is_number(&self, address: usize) -> bool {
        let block = self.kinds.range(..=address).next_back();
        block
            .is_some_and(|(start, (kind, words))| (address - start) / WORD >= kind.pointers(*words))
    }
}
