//! Of which allocations the call stack is taken.
//!
//! A call stack tells more of a leak than anything else, and costs as much as the rest of a callback. A kernel in production may
//! want to pay for few: for those of a Poisson [sample](crate::tracker::poisson) of allocations by bytes. All other blocks are
//! recorded as well, with a call site of one frame, so that the set of leaks is the same. What is alive at a call stack is
//! then estimated from the sample. Or no call stack is taken at all.
//!
//! Each CPU counts down the bytes to its next point: a subtraction for each allocation.
//!
//! # Locks
//!
//! None. A CPU uses its own countdown, with interrupts off; if two CPUs share one, points are lost. Relaxed: no word orders anything.

use core::sync::atomic::Ordering::Relaxed;

use crate::atomic::AtomicU64;
use crate::objects::record::Record;
use crate::platform::Platform;
use crate::tracker::Tracker;
use crate::tracker::mode_word::Unusual;
use crate::tracker::poisson::{self, gap, random};

/// Of which allocations the call stack is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StacksTaken {
    /// Of all.
    All,
    /// Of a Poisson sample, in the mean one for each so many allocated bytes; all others have a call site of one frame.
    Sample { every: u64 },
    /// Of none.
    None,
}

/// CPUs with a countdown of their own.
const CPUS: usize = 64;

/// A CPU's way to its next point.
#[repr(align(64))]
struct Countdown {
    /// Bytes up to the next point, which lies on the last one of them; zero before the first gap was drawn.
    bytes: AtomicU64,
    /// The state of its random numbers; zero before it is seeded.
    random: AtomicU64,
}

/// The sample: how large it is, and since when.
pub(super) struct Sampling {
    cpus: [Countdown; CPUS],
    /// The mean distance of points, in bytes: of the last sample there was.
    every: AtomicU64,
    /// The first microsecond of that sample, and the first one after it, by the detector's clock. Zero: not yet.
    since_us: AtomicU64,
    until_us: AtomicU64,
}

impl Sampling {
    pub(super) const fn new() -> Self {
        Self {
            cpus: [const {
                Countdown {
                    bytes: AtomicU64::new(0),
                    random: AtomicU64::new(0),
                }
            }; CPUS],
            every: AtomicU64::new(0),
            since_us: AtomicU64::new(0),
            until_us: AtomicU64::new(0),
        }
    }

    /// Counts a block of `size` bytes. Whether it is in the sample. Interrupts are off.
    #[inline(always)]
    fn takes(&self, size: usize, cpu: u32) -> bool {
        let countdown = &self.cpus[cpu as usize % CPUS];
        let (bytes, size) = (countdown.bytes.load(Relaxed), size as u64);
        if bytes > size {
            countdown.bytes.store(bytes - size, Relaxed);
            return false;
        }
        self.reach(countdown, size, cpu)
    }

    /// A point lies on the block, or none is drawn yet.
    #[cold]
    #[inline(never)]
    fn reach(&self, countdown: &Countdown, size: u64, cpu: u32) -> bool {
        // Any number but zero, another one for each CPU.
        let seed = (u64::from(cpu) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut state = match countdown.random.load(Relaxed) {
            0 => seed,
            state => state,
        };
        let mut draw = || gap(random(&mut state), self.every.load(Relaxed));
        let begins = countdown.bytes.load(Relaxed) == 0;
        let mut left = draw();
        let taken = !begins || left <= size;
        if !taken {
            left -= size;
        } else if begins {
            left = draw();
        }
        countdown.bytes.store(left, Relaxed);
        countdown.random.store(state, Relaxed);
        taken
    }
}

/// What an object stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StandsFor {
    /// For itself.
    Itself,
    /// It is in the sample: for so many like it, as a [weight](poisson::ONE).
    Sampled(u64),
    /// For nothing: others, which are in the sample, stand for it.
    Others,
}

impl<P: Platform> Tracker<P> {
    /// Of which allocations the call stack is taken.
    #[inline]
    pub(crate) fn stacks(&self) -> StacksTaken {
        if self.word.has(Unusual::NO_STACKS) {
            StacksTaken::None
        } else if self.word.has(Unusual::SAMPLE) {
            let every = self.sampling.every.load(Relaxed);
            StacksTaken::Sample { every }
        } else {
            StacksTaken::All
        }
    }

    /// Whether call stacks are taken of any allocations, where they are not taken of all.
    #[inline(always)]
    pub(super) fn takes_some_stacks(&self) -> bool {
        !self.word.has(Unusual::NO_STACKS)
    }

    /// Counts a block of `size` bytes: whether its call stack is taken. Interrupts are off.
    #[inline(always)]
    pub(super) fn is_sampled(&self, size: usize, cpu: u32) -> bool {
        self.sampling.takes(size, cpu)
    }

    /// Takes call stacks of these allocations from now on. One caller at a time.
    pub(crate) fn take_stacks(&self, stacks: StacksTaken) {
        let (sampling, now_us) = (&self.sampling, self.now_us());
        if self.word.has(Unusual::SAMPLE) {
            self.word.end(Unusual::SAMPLE);
            sampling.until_us.store(now_us, Relaxed);
        }
        self.word.end(Unusual::NO_STACKS);
        match stacks {
            StacksTaken::All => {}
            StacksTaken::None => self.word.begin(Unusual::NO_STACKS),
            StacksTaken::Sample { every } => {
                sampling.every.store(every, Relaxed);
                // Within a microsecond nothing tells what came before: then an object stands for itself.
                sampling.since_us.store(now_us + 1, Relaxed);
                sampling.until_us.store(u64::MAX, Relaxed);
                sampling
                    .cpus
                    .iter()
                    .for_each(|cpu| cpu.bytes.store(0, Relaxed));
                self.word.begin(Unusual::SAMPLE);
            }
        }
    }

    /// What an object of `size` bytes stands for in a count of call sites. Objects that an earlier sample than the last one took stand for themselves.
    pub(crate) fn stands_for(&self, record: &Record, size: usize) -> StandsFor {
        let sampling = &self.sampling;
        let sampled = sampling.since_us.load(Relaxed)..sampling.until_us.load(Relaxed);
        if !sampled.contains(&record.birth_us()) {
            return StandsFor::Itself;
        }
        // What is not in the sample has a call site of one frame, or none.
        if self.depot.get(record.stack_id()).as_slice().len() < 2 {
            return StandsFor::Others;
        }
        let every = sampling.every.load(Relaxed);
        StandsFor::Sampled(poisson::weight(size as u64, every))
    }

    /// The mean distance of points of the last sample, in bytes; `None` if there was none.
    pub(crate) fn sampled_every(&self) -> Option<u64> {
        match self.sampling.every.load(Relaxed) {
            0 => None,
            every => Some(every),
        }
    }
}
