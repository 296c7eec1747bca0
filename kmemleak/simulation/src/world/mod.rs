//! The emulated kernel, as the detector's platform sees it.
//!
//! There is one world a thread of the host, and all tasks of a run are on that thread: so the world is a cell, which is borrowed for
//! a few lines at a time ([`with`]), never across a [moment](crate::schedule).
//!
//! # CPUs and tasks
//!
//! Each thread of `shuttle` is a task. There may be more tasks than CPUs: then some wait for one. At a moment with interrupts on a
//! task may be interrupted (a handler runs on top of it, and may allocate), give its CPU to another task, or join a stop of the world.
//! With interrupts off nothing of that happens, but other CPUs go on.
//!
//! # What it demands of the detector
//!
//! It panics where the detector does what the platform's documentation excludes: waits, stops the world or gives metadata back with
//! interrupts off; reads memory that no block has any more, whose free has returned; restores interrupts in another order; gives
//! back a page that it does not have.

pub(crate) mod between;
pub mod failures;
pub mod memory;
pub mod metadata;
pub mod platform;
pub mod stacks;
pub mod stop;
mod stopping;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::ptr::NonNull;

use crate::oracle::random::Random;
use crate::oracle::{Op, Oracle};
use crate::owned::{Kind, Owned};
use crate::schedule::{me, wait};

use self::failures::Failures;
use self::memory::Memory;
use self::metadata::Metadata;
use self::stacks::Stacks;
use self::stop::{Stop, StopKind};

/// Interrupts of a run: what takes them takes longer, and gets more of them.
const MOST_INTERRUPTS: u64 = 300;

/// Pieces of memory in no block of which a pass asks whether they can be read. One that asks of more has lost its way, and comes to no
/// moment on it.
const MOST_UNKNOWN: u64 = 2_000_000;

/// Words of each root section.
pub const ROOT_WORDS: usize = 24;
/// Where the kernel's section of variables lies. No block does.
pub const SECTION: usize = 0xffff_ffff_8100_0000;
/// Where the static per-CPU areas lie, one a page.
pub const PERCPU: usize = 0xffff_ffff_8200_0000;
/// Where the stacks of tasks lie, one a page.
pub const STACKS: usize = 0xffff_c900_0000_0000;

/// Where physical memory is mapped.
pub const PHYSICAL: usize = 0xffff_a000_0000_0000;
/// Bytes at a corner in which regions lie. They can always be read.
pub const ARENA: usize = 0x1800;

/// How a run's kernel is, by its seed.
#[derive(Clone, Debug)]
pub struct Setting {
    /// CPUs.
    pub cpus: u32,
    /// Tasks, at least as many.
    pub tasks: usize,
    /// Operations of each task.
    pub operations: usize,
    /// Moments of which one is used, in the mean.
    pub pace: u32,
    /// Of so many chances one brings an interrupt.
    pub interrupts: usize,
    /// How requests to stop the world end.
    pub stop: StopKind,
    /// The clock's first time.
    pub origin_us: u64,
    /// Addresses about which blocks lie.
    pub corners: Vec<usize>,
    /// Where memory for regions lies.
    pub arenas: Vec<usize>,
    /// What the platform fails at.
    pub failures: Failures,
    /// Stacks of tasks that sleep.
    pub stacks: Stacks,
}

/// What is known of a task.
#[derive(Clone, Copy, Debug, Default)]
pub struct Task {
    /// How often interrupts are off.
    pub irqs_off: usize,
    /// Its CPU, while it has one.
    pub cpu: Option<u32>,
    /// An interrupt handler runs on top of it.
    pub interrupted: bool,
    /// It is not to be interrupted, preempted or stopped: it looks at the world from outside.
    pub outside: bool,
    /// The number of the stop that it has joined.
    pub joined: Option<u64>,
    /// It waits for a CPU.
    pub waits: bool,
    /// It is between two calls, and waits for another task to end what it does alone.
    pub parked: bool,
    /// It has nothing to do any more.
    pub over: bool,
}

/// The world.
#[derive(Debug)]
pub struct World {
    /// How it is.
    pub setting: Setting,
    /// What an interrupt handler does.
    pub handler: fn(),
    /// What decides all but the interleaving.
    pub random: Random,
    /// The tasks.
    pub tasks: Vec<Task>,
    /// Memory.
    pub memory: Memory,
    /// Pages of metadata.
    pub metadata: Metadata,
    /// Whether a request for one was refused, so that something may not have been recorded.
    pub refused: bool,
    /// Whether a checkpoint of the pass that goes on has asked to end.
    pub asked_to_end: bool,
    /// Microseconds.
    pub now_us: u64,
    /// What is known of the graph.
    pub oracle: Oracle,
    /// Blocks that were handed out.
    pub blocks: Vec<Owned>,
    stop: Option<Stop>,
    /// Where the copies of per-CPU blocks lie: the first one, and the distance.
    pub percpu: BTreeMap<usize, (usize, usize)>,
    /// Tasks, and where their regions start.
    pub regions: Vec<(usize, usize)>,
    /// A task makes a verdict, and looks at it.
    passing: bool,
    /// How often it was asked meanwhile whether memory can be read that lies in no block.
    unknown: u64,
    /// This task is to be alone.
    alone: Option<usize>,
    /// It is: time stands still, and no interrupts come.
    calm: bool,
    /// What happened, for people and for comparing two runs of one seed.
    pub log: Log,
}

/// Counts, and a number that differs as soon as anything differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// A checksum of all that happened.
    pub sum: u64,
    /// Callbacks of allocators.
    pub callbacks: u64,
    /// Checks and scans.
    pub passes: u64,
    /// Interrupts that came.
    pub interrupts: u64,
    /// Of them, in the midst of one of the detector's functions.
    pub nested: u64,
    /// Stops of the world.
    pub stops: u64,
    /// Stops that were given up.
    pub given_up: u64,
    /// How often a task gave its CPU to another.
    pub preemptions: u64,
    /// Requests for metadata that were refused.
    pub refusals: u64,
    /// Verdicts that said so.
    pub incomplete: u64,
    /// How often all that was not recorded was freed and cleared.
    pub recoveries: u64,
    /// Reads of frozen memory that was lost.
    pub lost_images: u64,
    /// Checks and scans that were ended.
    pub ended: u64,
    /// Tasks that ended while a check or a scan walked over their stacks.
    pub reaped: u64,
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} callbacks, {} checks and scans, {} interrupts ({} inside of callbacks), {} stops ({} given up), {} preemptions, \
             {} requests for metadata refused ({} verdicts incomplete, {} recoveries), {} images lost, {} passes ended, {} tasks ended beside one",
            self.callbacks,
            self.passes,
            self.interrupts,
            self.nested,
            self.stops,
            self.given_up,
            self.preemptions,
            self.refusals,
            self.incomplete,
            self.recoveries,
            self.lost_images,
            self.ended,
            self.reaped
        )
    }
}

impl Log {
    /// A callback was called.
    pub fn note_op(&mut self, op: &Op) {
        self.note(match *op {
            Op::Alloc(start, size, _) => start ^ size.rotate_left(20),
            Op::Free(start) => !start,
            Op::FreePart(start, len) => start ^ len.rotate_left(40),
            _ => 1,
        });
    }

    /// Adds what happened in another run.
    pub fn add(&mut self, other: &Self) {
        self.sum ^= other.sum;
        self.callbacks += other.callbacks;
        self.passes += other.passes;
        self.interrupts += other.interrupts;
        self.nested += other.nested;
        self.stops += other.stops;
        self.given_up += other.given_up;
        self.preemptions += other.preemptions;
        self.refusals += other.refusals;
        self.incomplete += other.incomplete;
        self.recoveries += other.recoveries;
        self.lost_images += other.lost_images;
        self.ended += other.ended;
        self.reaped += other.reaped;
    }

    /// Something happened.
    pub fn note(&mut self, what: usize) {
        let mixed = (self.sum ^ what as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.sum = mixed.rotate_left(29);
    }
}

thread_local! {
    static WORLD: RefCell<Option<Box<World>>> = const { RefCell::new(None) };
}

/// Does something with the world. No moment may come in between.
pub fn with<R>(action: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with_borrow_mut(|world| action(world.as_mut().expect("a run goes on")))
}

/// Begins a run.
pub(crate) fn create(setting: Setting, random: Random, handler: fn()) {
    let tasks = vec![Task::default(); setting.tasks];
    let mut world = World {
        metadata: Metadata::default(),
        refused: false,
        asked_to_end: false,
        now_us: setting.origin_us,
        oracle: Oracle::default(),
        memory: Memory::default(),
        stop: None,
        passing: false,
        unknown: 0,
        percpu: BTreeMap::new(),
        regions: Vec::new(),
        alone: None,
        calm: false,
        blocks: Vec::new(),
        log: Log::default(),
        tasks,
        random,
        setting,
        handler,
    };
    for (task, cpu) in world.tasks.iter_mut().zip(0..world.setting.cpus) {
        task.cpu = Some(cpu);
    }
    let bytes = ROOT_WORDS * 8;
    world.memory.map(SECTION, bytes);
    for cpu in 0..world.setting.cpus as usize {
        world.memory.map(PERCPU + cpu * 4096, bytes);
    }
    for task in 0..world.setting.tasks {
        world.memory.map(STACKS + task * 4096, bytes);
    }
    for arena in world.setting.arenas.clone() {
        world.memory.map_always(arena, ARENA);
    }
    WORLD.set(Some(Box::new(world)));
}

/// Ends a run.
pub(crate) fn end() -> Option<Box<World>> {
    WORLD.take()
}

/// Moments that pass before the next one is used.
pub(crate) fn gap() -> u32 {
    with(|world| match world.setting.pace {
        0 => 0,
        pace => world.random.below(2 * pace as usize) as u32,
    })
}

/// From here on no other task makes a verdict, until [`end_pass`]: what is asked of this one's is of this one.
pub(crate) fn begin_pass() {
    while with(|world| world.passing) {
        wait_parked();
    }
    with(|world| {
        world.passing = true;
        world.unknown = 0;
    });
}

/// Waits at a place between two calls.
fn wait_parked() {
    with(|world| world.tasks[me()].parked = true);
    idle();
    with(|world| world.tasks[me()].parked = false);
}

/// Where a task stands still as long as another one is to be alone.
pub(crate) fn park() {
    while with(|world| world.alone.is_some()) {
        wait_parked();
    }
}

/// From here on all other tasks stand still between two calls, until [`end_calm`].
pub(crate) fn begin_calm() {
    with(|world| world.alone = Some(me()));
    let alone = |world: &mut World| {
        let others = world.tasks.iter().enumerate();
        let mut others = others.filter(|(task, _)| *task != me());
        others.all(|(_, task)| (task.parked || task.over) && !task.interrupted)
    };
    while !with(alone) {
        idle();
    }
    with(|world| {
        assert!(world.oracle.is_calm(), "no call is under way");
        world.calm = true;
    });
}

pub(crate) fn end_calm() {
    with(|world| {
        world.alone = None;
        world.calm = false;
    });
}

pub(crate) fn end_pass() {
    with(|world| world.passing = false);
}

/// The task has nothing to do now.
pub(crate) fn idle() {
    match with(|world| world.is_waited_for() && !world.is_stopping()) {
        true => preempt(),
        false => wait(),
    }
}

/// The task gives its CPU to one that waits, and waits itself.
pub(super) fn preempt() {
    with(|world| {
        let waiting: Vec<usize> = (0..world.tasks.len())
            .filter(|&task| world.wants_cpu(task))
            .collect();
        let next = world.random.any(&waiting).expect("some wait");
        let cpu = world.tasks[me()].cpu.take();
        world.tasks[next].cpu = cpu;
        world.tasks[next].waits = false;
        world.log.preemptions += 1;
    });
    wait_for_cpu();
}

/// Waits until the task has a CPU.
pub(crate) fn wait_for_cpu() {
    with(|world| world.tasks[me()].waits = world.tasks[me()].cpu.is_none());
    while with(|world| world.tasks[me()].waits && !world.is_over()) {
        with(|world| world.tasks[me()].outside = true);
        wait();
        with(|world| world.tasks[me()].outside = false);
    }
}

impl World {
    /// Whether a task waits for a CPU, and has something to do there.
    fn wants_cpu(&self, task: usize) -> bool {
        let task = &self.tasks[task];
        let held_up = task.parked && (self.passing || self.alone.is_some());
        task.waits && !task.over && !held_up
    }

    /// Whether a task that has something to do waits for a CPU.
    fn is_waited_for(&self) -> bool {
        (0..self.tasks.len()).any(|task| self.wants_cpu(task))
    }

    /// Whether no task has anything to do.
    pub fn is_over(&self) -> bool {
        self.tasks.iter().all(|task| task.over)
    }

    /// A page of metadata, unless the request is refused. Where all stand still none is.
    fn take_page(&mut self) -> Option<NonNull<u8>> {
        if !self.calm && self.setting.failures.refuse_page() {
            self.refused = true;
            self.log.refusals += 1;
            return None;
        }
        self.metadata.take()
    }

    /// From here on all is recorded, until a request for metadata is refused again.
    pub(crate) fn note_recovery(&mut self) {
        self.setting.failures.begin_again();
        self.refused = false;
    }

    /// Whether some of `len` bytes lies in a block that is not mapped now: of physical memory by its number, or in any other by address.
    fn is_dark(&self, start: usize, len: usize, kind: Kind) -> bool {
        let cpus = self.setting.cpus as usize;
        let mut dark = self.blocks.iter().filter(|block| block.dark);
        dark.any(|block| {
            (block.kind == Kind::Phys) == (kind == Kind::Phys) && block.meets(start, len, cpus)
        })
    }

    /// Panics where a word may not be read.
    fn assert_mapped(&self, address: usize) {
        self.memory.assert_mapped(address);
        let dark = self.is_dark(address, 8, Kind::Plain)
            || self.is_dark(address.wrapping_sub(PHYSICAL), 8, Kind::Phys);
        assert!(
            !dark,
            "the detector reads {address:#x}, which is not mapped now"
        );
    }

    /// A little time passes, or none.
    fn pass_time(&mut self) {
        if !self.calm && self.random.below(4) == 0 {
            self.now_us = self.now_us.saturating_add(self.random.below(3) as u64);
        }
    }

    /// Whether the task that runs now is at a place where interrupts are on.
    pub fn assert_may_wait(&self, what: &str) {
        assert_eq!(self.tasks[me()].irqs_off, 0, "{what} with interrupts off");
    }
}
