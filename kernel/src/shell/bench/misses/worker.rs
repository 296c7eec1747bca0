//! The load: tasks that allocate, free and hand over blocks, and lose some on the way.
//!
//! Each of a worker's rounds does something that kernel code does: sends a chain of blocks to another worker, sleeps while its stack alone has one, fills
//! a block with numbers, uses a stack and a ring of blocks. As long as there is room in the list of lost blocks, each round then loses some, in
//! a way of [`Shape`]. What it does with them leaves words behind as any code does: nothing is cleared, and frames have rooms that are not written to.
//!
//! After its share of rounds with no loss, a worker has settled: a check comes some time after most leaks. It goes on until
//! the phase changes.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::hint::black_box;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::super::forest::Random;
use super::planted::{self, Block, SHAPES, Shape};
use crate::arch::percpu::running;
use crate::dev::time;
use crate::sync::SpinLock;
use crate::task::{self, JoinHandle, Priority, SpawnError};

/// Workers of each CPU.
const WORKERS: usize = 2;
/// Rounds of each worker between the last loss and the check.
const SETTLING_ROUNDS: usize = 64;
/// Places where blocks are handed over.
const PLACES: usize = 256;
/// Places for blocks of numbers.
const NUMBER_PLACES: usize = 64;
/// Blocks that each worker keeps whose siblings are lost.
const KEPT: usize = 64;
/// Room in each worker's stack and ring of blocks.
const DEPTH: usize = 16;
/// Words of a lost block.
const SIZES: [u32; 8] = [2, 3, 4, 6, 8, 12, 16, 24];
/// How long workers sleep that pause.
const PAUSE_US: u64 = 1000;

/// What the workers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Phase {
    /// They work.
    Working,
    /// They wait for the next phase, between two rounds.
    Paused,
    /// They end.
    Ended,
}

static PHASE: AtomicUsize = AtomicUsize::new(Phase::Ended as usize);
/// Workers that have settled, and workers that pause.
static SETTLED: AtomicUsize = AtomicUsize::new(0);
static PAUSED: AtomicUsize = AtomicUsize::new(0);
/// Whether there was no memory for a block that was to be lost.
static OUT_OF_MEMORY: AtomicBool = AtomicBool::new(false);

/// A chain of blocks, each with some bytes.
struct Parcel {
    bytes: Vec<u8>,
    next: Option<Box<Parcel>>,
}

static MAIL: [SpinLock<Option<Box<Parcel>>>; PLACES] = [const { SpinLock::new(None) }; PLACES];
/// Blocks without a single pointer.
static NUMBERS: [SpinLock<Option<Box<[u64]>>>; NUMBER_PLACES] =
    [const { SpinLock::new(None) }; NUMBER_PLACES];

/// Begins a phase.
pub fn enter(phase: Phase) {
    PHASE.store(phase as usize, Ordering::Release);
}

fn is_in(phase: Phase) -> bool {
    PHASE.load(Ordering::Acquire) == phase as usize
}

/// Whether a worker has found no memory.
pub fn out_of_memory() -> bool {
    OUT_OF_MEMORY.load(Ordering::Relaxed)
}

/// Whether the block that starts there holds numbers alone.
pub fn holds_numbers(start: usize) -> bool {
    let starts_there = |block: &[u64]| block.as_ptr().addr() == start;
    NUMBERS
        .iter()
        .any(|place| place.lock().as_deref().is_some_and(starts_there))
}

/// Frees what the workers have left in use.
pub fn clear_away() {
    for place in &MAIL {
        let parcel = place.lock().take();
        drop(parcel);
    }
    for place in &NUMBERS {
        let block = place.lock().take();
        drop(block);
    }
}

/// Tasks that work.
pub struct Workers(Vec<JoinHandle>);

impl Workers {
    /// Starts them, on all CPUs. There is room for what they are to lose.
    pub fn start() -> Result<Self, SpawnError> {
        SETTLED.store(0, Ordering::Relaxed);
        PAUSED.store(0, Ordering::Relaxed);
        OUT_OF_MEMORY.store(false, Ordering::Relaxed);
        enter(Phase::Working);
        let mut workers = Self(Vec::new());
        for seed in 0..running() as usize * WORKERS {
            match task::spawn("misses", Priority::Normal, move || work(seed as u64)) {
                Ok(worker) => workers.0.push(worker),
                Err(error) => {
                    enter(Phase::Ended);
                    workers.join();
                    return Err(error);
                }
            }
        }
        Ok(workers)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether enough is lost, and each has gone on for a while since.
    pub fn have_settled(&self) -> bool {
        SETTLED.load(Ordering::Acquire) == self.count()
    }

    /// Whether all pause.
    pub fn are_paused(&self) -> bool {
        PAUSED.load(Ordering::Acquire) == self.count()
    }

    /// Waits for their ends.
    pub fn join(self) {
        self.0.into_iter().for_each(JoinHandle::join);
    }
}

fn work(seed: u64) {
    let mut worker = Worker::new(seed);
    let mut since_last_loss = 0;
    while is_in(Phase::Working) {
        worker.round();
        if planted::room() > 0 && !out_of_memory() {
            if worker.plant().is_none() {
                OUT_OF_MEMORY.store(true, Ordering::Relaxed);
            }
        } else {
            since_last_loss += 1;
            if since_last_loss == SETTLING_ROUNDS {
                SETTLED.fetch_add(1, Ordering::AcqRel);
            }
        }
    }
    PAUSED.fetch_add(1, Ordering::AcqRel);
    while is_in(Phase::Paused) {
        task::sleep_us(PAUSE_US);
    }
}

struct Worker {
    random: Random,
    /// Blocks are pushed and popped here.
    pushed: Vec<Block>,
    /// Blocks go in at one end and out at the other.
    ring: VecDeque<Block>,
    /// Siblings of lost blocks.
    kept: [Option<Block>; KEPT],
}

impl Worker {
    fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            pushed: Vec::with_capacity(DEPTH),
            ring: VecDeque::with_capacity(DEPTH),
            kept: [const { None }; KEPT],
        }
    }

    /// Does something that loses nothing.
    fn round(&mut self) {
        match self.random.below(8) {
            0 | 1 => {
                let sent = self.parcel();
                let received = MAIL[self.random.below(PLACES)].lock().replace(sent);
                black_box(received.as_deref().map(bytes_of));
            }
            2 => drop(black_box(self.parcel())),
            3 => {
                let numbers = self.numbers();
                let old = NUMBERS[self.random.below(NUMBER_PLACES)]
                    .lock()
                    .replace(numbers);
                drop(old);
            }
            4 => {
                let held = self.parcel();
                sleep_in_a_wide_frame(&held, 1 + self.random.below(200) as u64);
            }
            5 => {
                for _ in 0..self.random.below(DEPTH - self.pushed.len()) {
                    let block = self.block();
                    self.pushed.extend(block);
                }
                self.pushed.truncate(self.random.below(DEPTH / 2));
            }
            6 => {
                for _ in 0..self.random.below(DEPTH - self.ring.len()) {
                    let block = self.block();
                    self.ring.extend(block);
                }
                for _ in 0..self.random.below(DEPTH) {
                    drop(self.ring.pop_front());
                }
            }
            // A block that grows, and so moves, while it holds the only pointers to others.
            _ => {
                let mut parcels = Vec::with_capacity(1);
                for _ in 0..=self.random.below(12) {
                    parcels.push(self.parcel());
                }
                task::yield_now();
                black_box(&parcels);
            }
        }
    }

    fn block(&mut self) -> Option<Block> {
        Block::new(SIZES[self.random.below(SIZES.len())])
    }

    fn parcel(&mut self) -> Box<Parcel> {
        let next = match self.random.below(4) {
            0 => None,
            _ => Some(self.parcel()),
        };
        // Not all of it is written to.
        let room = 1 + self.random.below(1000);
        let mut bytes = Vec::with_capacity(room);
        bytes.resize(self.random.below(room), 0x50);
        Box::new(Parcel { bytes, next })
    }

    /// Numbers as kernels keep them: times, hashes, counts, text, physical addresses.
    fn numbers(&mut self) -> Box<[u64]> {
        let count = 4 + self.random.below(60);
        let number = |_| match self.random.below(5) {
            0 => time::tsc(),
            1 => self.random.next(),
            2 => self.random.below(1 << 20) as u64,
            3 => u64::from_le_bytes(*b"numbers\n"),
            _ => self.random.below(1 << 31) as u64 & !7,
        };
        (0..count).map(number).collect()
    }

    /// Loses some blocks. `None` if there was no memory.
    fn plant(&mut self) -> Option<()> {
        let shape = SHAPES[self.random.below(SHAPES.len())];
        match shape {
            Shape::Single => self.block()?.lose(shape),
            Shape::List => {
                self.lose_chain(None)?;
            }
            Shape::Cycle => {
                let mut first = self.block()?;
                let last = self.lose_chain(Some(first.start()))?;
                first.point(0, last);
                first.lose(shape);
            }
            Shape::Tree => {
                let height = 1 + self.random.below(3);
                self.lose_tree(height)?;
            }
            Shape::Sibling => {
                let (lost, kept) = (self.block()?, self.block()?);
                self.kept[self.random.below(KEPT)] = Some(kept);
                lost.lose(shape);
            }
            Shape::Popped => {
                for _ in self.pushed.len()..DEPTH {
                    let block = self.block()?;
                    self.pushed.push(block);
                }
                for _ in 0..=self.random.below(DEPTH / 2) {
                    self.pushed.pop()?.lose(shape);
                }
            }
            Shape::Ring => {
                for _ in self.ring.len()..DEPTH {
                    let block = self.block()?;
                    self.ring.push_back(block);
                }
                for _ in 0..=self.random.below(DEPTH / 2) {
                    self.ring.pop_front()?.lose(shape);
                }
            }
            Shape::Container => self.lose_with_container()?,
            Shape::Returned => self.lose_from_a_wide_frame()?,
        }
        Some(())
    }

    /// Loses blocks each of which points to the one before; the last one's start. With `end`, the first points there.
    fn lose_chain(&mut self, end: Option<NonNull<usize>>) -> Option<NonNull<usize>> {
        let shape = match end {
            None => Shape::List,
            Some(_) => Shape::Cycle,
        };
        let mut before = end;
        for _ in 0..=self.random.below(4) {
            let mut block = self.block()?;
            if let Some(before) = before {
                block.point(0, before);
            }
            before = Some(block.start());
            block.lose(shape);
        }
        before
    }

    /// Loses a tree; its root's start.
    fn lose_tree(&mut self, height: usize) -> Option<NonNull<usize>> {
        let mut root = self.block()?;
        if height > 0 {
            for child in 0..2 {
                let start = self.lose_tree(height - 1)?;
                root.point(child, start);
            }
        }
        let start = root.start();
        root.lose(Shape::Tree);
        Some(start)
    }

    /// Frees a `Vec` of blocks, without the blocks.
    fn lose_with_container(&mut self) -> Option<()> {
        let count = 1 + self.random.below(8);
        let mut container = Vec::with_capacity(count);
        for _ in 0..count {
            container.push(ManuallyDrop::new(self.block()?));
        }
        for block in &mut container {
            // SAFETY: taken once: the container does not drop it.
            unsafe { ManuallyDrop::take(block) }.lose(Shape::Container);
        }
        Some(())
    }

    /// Loses blocks that an array on the stack has held.
    #[inline(never)]
    fn lose_from_a_wide_frame(&mut self) -> Option<()> {
        let mut held = [const { None }; DEPTH];
        let count = 1 + self.random.below(8);
        for place in &mut held[..count] {
            *place = Some(self.block()?);
        }
        black_box(&mut held);
        for block in held.into_iter().flatten() {
            block.lose(Shape::Returned);
        }
        Some(())
    }
}

fn bytes_of(parcel: &Parcel) -> usize {
    parcel.bytes.len() + parcel.next.as_deref().map_or(0, bytes_of)
}

/// Sleeps with a frame most of which is not written to: what calls before have left there is live stack meanwhile.
#[inline(never)]
fn sleep_in_a_wide_frame(held: &Parcel, us: u64) {
    let mut room = MaybeUninit::<[usize; 64]>::uninit();
    black_box(&mut room);
    task::sleep_us(us);
    black_box((&room, bytes_of(held)));
}
