//! A machine with a detector, and what most tests do with them.

use std::sync::Arc;

use kmemleak::{AllocOptions, BootstrapPool, CommandError, Detector, Platform};
use kmemleak_emulated::{Builder, Emulated, Machine, Place};

/// The tests' detector.
pub type Subject = Detector<Emulated>;

/// A bootstrap pool for one detector.
pub fn pool<const PAGES: usize>() -> &'static BootstrapPool<PAGES> {
    Box::leak(Box::new(BootstrapPool::new()))
}

/// The answer to a command, whether or not it was done.
pub fn answer<P: Platform>(detector: &Detector<P>, line: &str) -> String {
    try_to(detector, line).1
}

/// Runs a command: how it ended, and the answer.
pub fn try_to<P: Platform>(
    detector: &Detector<P>,
    line: &str,
) -> (Result<(), CommandError>, String) {
    let mut answer = String::new();
    let done = detector.command(line, &mut answer);
    assert!(!matches!(done, Err(CommandError::Write(_))), "{line}");
    (done, answer)
}

/// So many of something; fewer under Miri, which takes its time.
pub const fn many(count: usize) -> usize {
    if cfg!(miri) { count / 50 } else { count }
}

pub struct Lab {
    pub machine: Arc<Machine>,
    pub detector: Arc<Subject>,
}

impl Lab {
    pub fn new() -> Self {
        Self::of(Machine::builder())
    }

    pub fn of(builder: Builder) -> Self {
        let machine = builder.build();
        let detector = Detector::new(Emulated::of(&machine)).with_pool(pool::<16>());
        let detector = Arc::new(detector);
        Self { machine, detector }
    }

    /// A tracked block of a slab.
    pub fn block(&self, size: usize) -> usize {
        self.block_with(size, AllocOptions::new())
    }

    /// A tracked block of a slab, with options.
    pub fn block_with(&self, size: usize, options: AllocOptions) -> usize {
        let start = self.machine.slab(size);
        self.machine.advance_us(1);
        self.detector.alloc(start, size, options);
        start
    }

    /// Gives a block back, as an allocator does.
    pub fn free(&self, start: usize) {
        self.detector.free(start);
        self.machine.free(start);
    }

    /// Word `index` of `.bss` is this.
    pub fn hold(&self, index: usize, word: usize) {
        self.machine.store(Place::Bss(index), word);
    }

    /// What a check finds, in the order of allocation.
    pub fn leaks(&self) -> Vec<usize> {
        self.machine.advance_us(1);
        self.detector.check().expect("the detector is on");
        self.listed()
    }

    /// What the last one found, and is still there.
    pub fn listed(&self) -> Vec<usize> {
        let mut starts = Vec::new();
        self.detector
            .for_each_unreferenced(&mut |object| starts.push(object.start))
            .expect("asked from outside");
        starts
    }

    /// The answer to a command, whether or not it was done.
    pub fn say(&self, line: &str) -> String {
        answer(&self.detector, line)
    }

    /// The warnings since the last time.
    pub fn warnings(&self) -> String {
        let mut text = String::new();
        self.detector.drain_warnings(&mut text);
        text
    }

    /// What the status says under this title.
    pub fn status(&self, title: &str) -> String {
        let status = self.say("status");
        let line = status.lines().find_map(|line| line.strip_prefix(title));
        line.unwrap_or_else(|| panic!("no {title} in {status}"))
            .trim()
            .into()
    }

    /// The report of the last check, in full.
    pub fn report(&self) -> String {
        self.say("report --full")
    }

    /// How many objects are tracked.
    pub fn tracked(&self) -> usize {
        self.detector.tracking().objects
    }
}
