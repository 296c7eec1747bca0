//! The load: tasks that take turns, each with a stack, and do what kernel code does with blocks.
//!
//! A task sends chains of nodes to others, fills blocks with numbers, uses a stack and a ring of blocks, and calls functions whose
//! frames have rooms that are not written to: what is left of earlier calls is live there. As long as it is asked to, each of its turns loses blocks.
//!
//! The load knows its blocks outside of the machine's memory, so it keeps none alive: a word there does that some code has left.

use std::collections::VecDeque;

use super::heap::{Block, Heap, Kind, WORD};
use crate::workload::Random;
use crate::world::Wrong;

/// Tasks, and turns of each between the last loss and the check.
const TASKS: usize = 8;
const SETTLING_TURNS: usize = 64;
/// Words of a stack.
const STACK: usize = 1024;
/// Words of a frame, and how many of them its function writes: up to so many.
const FRAME: usize = 32;
const WRITTEN: usize = 8;
/// Places where chains are handed over, and for blocks of numbers.
const MAIL: usize = 256;
const NUMBERS: usize = 64;
/// Room in each task's stack and ring of blocks.
const DEPTH: usize = 16;
/// Blocks that each task keeps whose siblings are lost.
const KEPT: usize = 64;
/// Words of nodes, and of blocks of numbers.
const NODES: [usize; 8] = [2, 3, 4, 6, 8, 12, 16, 24];
/// One of so many numbers is the address of a block in use.
const NOTED: usize = 50;

/// How blocks are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Shape {
    Single,
    Cycle,
    List,
    Tree,
    Sibling,
    Popped,
    Ring,
    Container,
    Returned,
    /// A block in use has its address as a number: in a log, as a key, as an identifier.
    Noted,
}

pub const SHAPES: [Shape; 10] = [
    Shape::Single,
    Shape::Cycle,
    Shape::List,
    Shape::Tree,
    Shape::Sibling,
    Shape::Popped,
    Shape::Ring,
    Shape::Container,
    Shape::Returned,
    Shape::Noted,
];

impl Shape {
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Cycle => "cycle",
            Self::List => "list",
            Self::Tree => "tree",
            Self::Sibling => "sibling",
            Self::Popped => "popped",
            Self::Ring => "ring",
            Self::Container => "container",
            Self::Returned => "returned",
            Self::Noted => "noted",
        }
    }
}

/// A block that was lost.
#[derive(Clone, Copy, Debug)]
pub struct Lost {
    pub start: usize,
    pub shape: Shape,
}

/// A task: its stack, which grows down, and what it owns.
struct Task {
    stack: usize,
    /// The words of the stack from this one on are live.
    top: usize,
    /// The memory of a `Vec`, and what it has.
    pushed: (Block, Vec<Block>),
    /// The memory of a ring, what it has, and where its first one lies.
    ring: (Block, VecDeque<Block>, usize),
    kept: [Option<Block>; KEPT],
}

/// Tasks, and what they share.
pub struct Load {
    heap: Heap,
    random: Random,
    tasks: Vec<Task>,
    /// The static variables: where the words of `mail` and `numbers` lie, and each task's blocks.
    statics: usize,
    mail: Vec<Vec<Block>>,
    numbers: Vec<Option<Block>>,
    lost: Vec<Lost>,
}

impl Load {
    pub fn new(mut heap: Heap) -> Self {
        let words = MAIL + NUMBERS + TASKS * (2 + KEPT);
        let statics = heap.root(words);
        heap.add_root(statics, words);
        let tasks = (0..TASKS)
            .map(|_| Task {
                stack: heap.root(STACK),
                top: STACK,
                pushed: (heap.alloc(Kind::Pointers, DEPTH), Vec::new()),
                ring: (heap.alloc(Kind::Pointers, DEPTH), VecDeque::new(), 0),
                kept: [const { None }; KEPT],
            })
            .collect();
        let load = Self {
            heap,
            random: Random::stream(0),
            tasks,
            statics,
            mail: (0..MAIL).map(|_| Vec::new()).collect(),
            numbers: (0..NUMBERS).map(|_| None).collect(),
            lost: Vec::new(),
        };
        for (number, task) in load.tasks.iter().enumerate() {
            load.set_static(load.of_task(number), task.pushed.0.start);
            load.set_static(load.of_task(number) + 1, task.ring.0.start);
        }
        load
    }

    /// Goes on until so many blocks are lost, and for a while after that.
    pub fn lose(&mut self, blocks: usize) -> Result<(), Wrong> {
        while self.lost.len() < blocks {
            for task in 0..TASKS {
                self.turn(task);
                self.plant(task, blocks);
            }
        }
        for _ in 0..SETTLING_TURNS {
            (0..TASKS).for_each(|task| self.turn(task));
        }
        Ok(())
    }

    /// Each task waits, some calls deep: the live parts of the stacks are roots.
    pub fn park(&mut self) {
        for task in 0..TASKS {
            for _ in 0..1 + self.random.below(4) {
                self.enter(task, &[]);
            }
            let Task { stack, top, .. } = self.tasks[task];
            self.heap.add_root(stack + top * WORD, STACK - top);
        }
    }

    pub fn lost(&self) -> impl Iterator<Item = Lost> {
        self.lost.iter().copied()
    }

    /// Blocks that are in use.
    pub fn live(&self) -> usize {
        self.heap.blocks() - self.lost.len()
    }

    /// Whether the word at an address is a number by the type of its block.
    pub fn is_number(&self, address: usize) -> bool {
        self.heap.is_number(address)
    }

    fn set_static(&self, word: usize, value: usize) {
        self.heap.write_root(self.statics + word * WORD, value);
    }

    /// The first static of a task.
    fn of_task(&self, task: usize) -> usize {
        MAIL + NUMBERS + task * (2 + KEPT)
    }

    /// A function begins that holds these blocks in its frame.
    fn enter(&mut self, task: usize, held: &[usize]) {
        let frame = held.len().max(4) + self.random.below(FRAME);
        let top = self.tasks[task].top - frame;
        self.tasks[task].top = top;
        let stack = self.tasks[task].stack;
        for _ in 0..self.random.below(WRITTEN) {
            let (word, number) = (self.random.below(frame), self.random.below(1 << 20));
            self.heap.write_root(stack + (top + word) * WORD, number);
        }
        for (word, start) in held.iter().enumerate() {
            self.heap.write_root(stack + (top + word) * WORD, *start);
        }
    }

    /// It returns.
    fn leave(&mut self, task: usize, top: usize) {
        self.tasks[task].top = top;
    }

    /// Does something that loses nothing.
    fn turn(&mut self, task: usize) {
        let top = self.tasks[task].top;
        match self.random.below(7) {
            0 | 1 => {
                let chain = self.chain();
                self.enter(task, &starts(&chain));
                let place = self.random.below(MAIL);
                self.set_static(place, chain.last().map_or(0, |last| last.start));
                let old = std::mem::replace(&mut self.mail[place], chain);
                self.enter(task, &starts(&old));
                old.into_iter().for_each(|block| self.heap.free(block));
            }
            2 => {
                let chain = self.chain();
                self.enter(task, &starts(&chain));
                chain.into_iter().for_each(|block| self.heap.free(block));
            }
            3 => {
                let numbers = self.numbers();
                self.enter(task, &[numbers.start]);
                let place = self.random.below(NUMBERS);
                self.set_static(MAIL + place, numbers.start);
                if let Some(old) = self.numbers[place].replace(numbers) {
                    self.heap.free(old);
                }
            }
            4 => {
                self.enter(task, &[]);
                self.enter(task, &[]);
            }
            5 => {
                self.fill_pushed(task);
                let left = self.random.below(DEPTH / 2);
                while self.tasks[task].pushed.1.len() > left {
                    let popped = self.tasks[task].pushed.1.pop();
                    popped.into_iter().for_each(|block| self.heap.free(block));
                }
            }
            _ => {
                self.fill_ring(task);
                for _ in 0..self.random.below(DEPTH) {
                    if let Some(block) = self.take_first(task) {
                        self.heap.free(block);
                    }
                }
            }
        }
        self.leave(task, top);
    }

    /// Pushes blocks until there is no more room.
    fn fill_pushed(&mut self, task: usize) {
        while self.tasks[task].pushed.1.len() < DEPTH {
            let block = self.node();
            let (memory, blocks) = &mut self.tasks[task].pushed;
            self.heap.write(memory, blocks.len(), block.start);
            blocks.push(block);
        }
    }

    fn fill_ring(&mut self, task: usize) {
        while self.tasks[task].ring.1.len() < DEPTH {
            let block = self.node();
            let (memory, blocks, first) = &mut self.tasks[task].ring;
            let place = (*first + blocks.len()) % DEPTH;
            self.heap.write(memory, place, block.start);
            blocks.push_back(block);
        }
    }

    fn take_first(&mut self, task: usize) -> Option<Block> {
        let (_, blocks, first) = &mut self.tasks[task].ring;
        let block = blocks.pop_front()?;
        *first = (*first + 1) % DEPTH;
        Some(block)
    }

    fn node(&mut self) -> Block {
        let words = NODES[self.random.below(NODES.len())];
        self.heap.alloc(Kind::Node, words)
    }

    /// Nodes each of which points to the one before.
    fn chain(&mut self) -> Vec<Block> {
        let mut chain: Vec<Block> = Vec::new();
        for _ in 0..1 + self.random.below(6) {
            let block = self.node();
            let before = chain.last().map_or(0, |before| before.start);
            self.heap.write(&block, 0, before);
            chain.push(block);
        }
        chain
    }

    /// Numbers as kernels keep them: times, hashes, counts, text, and addresses of what is in use. Not all of the block is written to: it is the
    /// memory of a `Vec` that has room for more.
    fn numbers(&mut self) -> Block {
        let words = NODES[self.random.below(NODES.len())];
        let block = self.heap.alloc(Kind::Numbers, words);
        for word in 0..=self.random.below(words) {
            let number = match self.random.below(4) {
                _ if self.random.below(NOTED) == 0 => self.statics,
                0 => self.random.next() as usize,
                1 => self.random.below(1 << 20),
                2 => usize::from_le_bytes(*b"numbers\n"),
                _ => self.random.below(1 << 31) & !7,
            };
            self.heap.write(&block, word, number);
        }
        block
    }

    /// Loses some blocks, unless so many are lost already.
    fn plant(&mut self, task: usize, most: usize) {
        let shape = SHAPES[self.random.below(SHAPES.len())];
        let top = self.tasks[task].top;
        let mut lost = self.make_lost(task, shape);
        let free = lost.split_off(lost.len().min(most.saturating_sub(self.lost.len())));
        self.enter(task, &starts(&lost));
        self.enter(task, &[]);
        self.leave(task, top);
        let starts = lost.into_iter().map(|block| block.start);
        self.lost.extend(starts.map(|start| Lost { start, shape }));
        free.into_iter().for_each(|block| self.heap.free(block));
    }

    /// Blocks that nothing in use points to, but what was left behind.
    fn make_lost(&mut self, task: usize, shape: Shape) -> Vec<Block> {
        match shape {
            Shape::Single => vec![self.node()],
            Shape::List => self.chain(),
            Shape::Cycle => {
                let chain = self.chain();
                let last = chain.last().map_or(0, |last| last.start);
                self.heap.write(&chain[0], 0, last);
                chain
            }
            Shape::Tree => {
                let mut tree = Vec::new();
                let height = 1 + self.random.below(3);
                self.tree(height, &mut tree);
                tree
            }
            Shape::Sibling => {
                let (lost, kept) = (self.node(), self.node());
                let place = self.random.below(KEPT);
                self.set_static(self.of_task(task) + 2 + place, kept.start);
                if let Some(old) = self.tasks[task].kept[place].replace(kept) {
                    self.heap.free(old);
                }
                vec![lost]
            }
            Shape::Popped => {
                self.fill_pushed(task);
                let left = DEPTH - 1 - self.random.below(DEPTH / 2);
                self.tasks[task].pushed.1.split_off(left)
            }
            Shape::Ring => {
                self.fill_ring(task);
                let count = 1 + self.random.below(DEPTH / 2);
                (0..count).filter_map(|_| self.take_first(task)).collect()
            }
            Shape::Container => {
                let container = self.heap.alloc(Kind::Pointers, DEPTH);
                let blocks = self.some();
                for (word, block) in blocks.iter().enumerate() {
                    self.heap.write(&container, word, block.start);
                }
                self.heap.free(container);
                blocks
            }
            Shape::Returned => self.some(),
            Shape::Noted => {
                let lost = self.node();
                let place = self.random.below(NUMBERS);
                if let Some(numbers) = &self.numbers[place] {
                    self.heap.write(numbers, numbers.words - 1, lost.start);
                }
                vec![lost]
            }
        }
    }

    fn some(&mut self) -> Vec<Block> {
        (0..1 + self.random.below(8)).map(|_| self.node()).collect()
    }

    fn tree(&mut self, height: usize, tree: &mut Vec<Block>) -> usize {
        let root = self.node();
        let start = root.start;
        if height > 0 {
            for child in 0..2 {
                let below = self.tree(height - 1, tree);
                self.heap.write(&root, child, below);
            }
        }
        tree.push(root);
        start
    }
}

fn starts(blocks: &[Block]) -> Vec<usize> {
    blocks.iter().map(|block| block.start).collect()
}
