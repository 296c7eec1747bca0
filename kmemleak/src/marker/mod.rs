//! The marker: finds what the roots reach.
//!
//! A pass has these phases, each done by all CPUs that mark together, from shared cursors, with a barrier between:
//!
//! 1. *Whiten*: all marks and counts are cleared; gray objects are marked and queued, black ones marked only, so that they are
//!    not looked at again.
//! 2. *Overlay*: objects that lie inside a root are marked: their words are scanned with the root, once ([`roots`]).
//! 3. *Roots*: each word of each root; then each word of each queued object, until all queues are empty, and no object is left that
//!    found no room in one ([`Spill`](crate::objects::spill)).
//! 4. *Interior*: objects with pointers only to their middle have waited so far, marked by flags, which a walk over the index finds;
//!    now they are marked, and the queues run once more. An object that is first marked from here on is alive through interior pointers only: no chain
//!    from a root leads there by start pointers alone. The exception is an object that needs several references, some of which
//!    pointed to its start and were found before: such objects are found at the end, with what they reach.
//!
//! Then an object is unreferenced if it is not marked. A word points at an object if it is an address of any
//! of its bytes. An object that is being scanned is marked already, so a pointer to itself changes nothing.
//!
//! # Excess references
//!
//! An *area* is an object that describes a block of virtually contiguous memory ([`vmalloc`](crate::Detector::vmalloc)). All
//! pointers to it are counted: so it is never marked, but has a flag when it is alive. Of `c` pointers to an area that needs `m`,
//! `m` are its own and the others, `max(0, c - m)`, count for its block, as pointers to no particular place of it. Where the area
//! lies and what keeps it alive makes no difference; a black one passes nothing on. A block that is an area itself passes on in
//! the same way the pointers that it does not need.
//!
//! So what counts for an object is a sum over the words of the roots and of live objects: the words that point to it, and what
//! each area before it passes on, which grows with what counts for that area and depends on nothing else. More live objects add
//! words and take none away, so the set of live objects is the least fixed point of a monotone rule, in whatever order words are
//! read. Counting one pointer at a time finds it: a pointer that comes when an object has all that it needs is passed on; which
//! pointer that is makes no difference, for pointers are only counted.
//!
//! There is one marker. With the world stopped it runs on all CPUs and takes no lock. While other code runs, one task runs it, it
//! locks the chunks that it looks at, a little at a time ([`window`]), and lets others run after so much work ([`Marker::pause`]).
//!
//! # How it is fast
//!
//! Each word is first compared with the range of all objects, in place ([`RangeFilter`]). A candidate then takes some cache misses,
//! and waits until there are others, so that these overlap ([`batch`]); the words of an object are prefetched some objects ahead.
//!
//! # Invariants
//!
//! - A block is not read after its free has returned: while other code runs, the marker says which block it reads
//!   ([`Hazard`]) under the lock of the block's chunk, and reads it with interrupts off, a page at most; a
//!   free takes the block out under that lock, and waits then while the marker reads it.
//! - The mark of an object is set by one CPU, which queues it.

pub(crate) mod queue;
pub(crate) mod suspects;
pub(crate) mod words;

mod batch;
mod candidates;
mod checkpoint;
mod encoded;
mod frozen;
mod guarded;
pub(crate) mod objects;
pub(crate) mod own_stack;
mod phases;
pub(crate) mod places;
mod root_changes;
mod root_piece;
mod root_words;
pub(crate) mod roots;
mod shared;
mod stacks;
mod sweep;
pub(crate) mod task_table;
mod tasks;
mod window;

use core::ops::Range;
use core::sync::atomic::Ordering;

use self::batch::Batch;
use self::checkpoint::Work;
use self::own_stack::OwnStack;
use self::roots::RootWalk;
pub(crate) use self::shared::{Figures, SharedPass, Stacks};
use self::sweep::InUse;
use self::task_table::TaskTable;
use crate::atomic::{AtomicBool, Lock};
use crate::marker::queue::{Entry, Queue, WorkQueues};
use crate::metadata::MetaAlloc;
use crate::objects::access::Access;
use crate::objects::chunk::{Chunk, GRANULE, info};
use crate::objects::frozen::Frozen;
use crate::objects::hazard::Hazard;
use crate::objects::moves::Moves;
use crate::objects::page_map::{ChunkNumber, LEAF_BITS, Leaf, WalkCache, address_of};
use crate::objects::registry::Registry;
use crate::objects::root_ranges::RootRanges;
use crate::objects::vouching::Strangers;
use crate::platform::arch::RangeFilter;
use crate::platform::{Platform, Words};

/// How many objects are scanned, while the words of as many others are prefetched.
const AHEAD: usize = 8;

/// How many bytes of these words are prefetched.
const AHEAD_BYTES: usize = 256;

const LINE: usize = 64;

/// A pass was given up: the platform asked for it, or the detector was turned off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GivenUp;

/// What follows when the pass is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolve {
    MayGiveUp,
    GoesOn,
}

/// Which pointers a pass follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PointerPass {
    /// Pointers to the start of an object; other pointers wait.
    Starts,
    /// All pointers, from objects that interior pointers alone have reached.
    Interiors,
}

/// What the marker works with.
pub(crate) struct Tools<'a, P> {
    pub(crate) platform: &'a P,
    pub(crate) strangers: &'a Strangers,
    pub(crate) registry: &'a Registry,
    pub(crate) root_ranges: &'a RootRanges,
    pub(crate) queues: &'a WorkQueues,
    pub(crate) hazard: &'a Hazard,
    pub(crate) moves: &'a Moves,
    pub(crate) frozen: &'a Frozen,
    pub(crate) stopping: &'a AtomicBool,
    /// Whether the last pass has begun and not marked all: marks and flags mean nothing then. Relaxed: the first worker stores it, and
    /// whoever has the claim reads it when the pass is over.
    pub(crate) unfinished: &'a AtomicBool,
    /// The detector's own memory, which is in no root.
    pub(crate) own: [Range<usize>; 3],
    /// The stack that the pass is made on, where the platform says where that lies.
    pub(crate) own_stack: Option<OwnStack>,
    /// The tasks that wait, where the pass asks for those that can never run again.
    pub(crate) tasks: Option<&'a Lock<TaskTable>>,
    pub(crate) meta: MetaAlloc<'a>,
}

impl<P: Platform> Tools<'_, P> {
    /// Whether the platform or a caller vouches that these bytes can be read.
    #[inline(always)]
    pub(crate) fn readable(&self, start: usize, len: usize) -> bool {
        self.strangers.or_platform(self.platform, start, len)
    }
}

/// One CPU's part of the marker.
pub(crate) struct Marker<'a, P, A> {
    tools: &'a Tools<'a, P>,
    shared: &'a SharedPass,
    worker: usize,
    workers: usize,
    queue: Queue<'a>,
    walk_cache: WalkCache,
    lowest: usize,
    span: usize,
    /// The same range, where plain words can be searched for it a stretch at a time.
    filter: Option<RangeFilter>,
    batch: Batch,
    /// Objects whose words are being prefetched, and how many these are.
    scanned_ahead: [Entry; AHEAD],
    scanned_ahead_len: usize,
    /// The object whose words are being scanned, if pointers to it count for another object.
    area: Option<usize>,
    pointers: PointerPass,
    in_use: InUse,
    resolve: Resolve,
    /// A checksum that is being computed.
    sum: u64,
    objects: u64,
    words: u64,
    /// Candidates that were looked at, and those of them that turned out not to be addresses in objects.
    candidates: u64,
    misses: u64,
    /// How many of the words lie in roots.
    root_words: u64,
    unread: u64,
    work: Work,
    access: A,
}

impl<'a, P: Platform, A: Access> Marker<'a, P, A> {
    pub(crate) fn new(
        tools: &'a Tools<'a, P>,
        shared: &'a SharedPass,
        worker: usize,
        access: A,
    ) -> Self {
        let (lowest, span) = tools.registry.span();
        Self {
            tools,
            shared,
            worker,
            workers: shared.workers(),
            queue: tools.queues.queue(worker),
            walk_cache: WalkCache::new(),
            lowest,
            span,
            filter: match tools.platform.words() {
                Words::Plain => RangeFilter::new(lowest, span),
                _ => None,
            },
            batch: Batch::new(),
            scanned_ahead: [Entry::NONE; AHEAD],
            scanned_ahead_len: 0,
            area: None,
            pointers: PointerPass::Starts,
            in_use: InUse::Reached,
            resolve: Resolve::MayGiveUp,
            sum: 0,
            objects: 0,
            words: 0,
            candidates: 0,
            misses: 0,
            root_words: 0,
            unread: 0,
            work: Work::new(),
            access,
        }
    }

    /// Clears the marks, and marks what lies in roots.
    fn begin(&mut self) -> Result<(), GivenUp> {
        if self.worker == 0 {
            self.tools.unfinished.store(true, Ordering::Relaxed);
            self.tools.root_ranges.straddling.clear();
        }
        self.whiten()?;
        self.note_figures();
        self.barrier()?;
        self.overlay()?;
        self.barrier()
    }

    /// Marks all that the roots reach.
    pub(crate) fn run(&mut self) -> Result<(), GivenUp> {
        self.begin()?;
        self.scan_roots()?;
        self.read_changed_roots()?;
        self.follow_all()?;
        if self.worker == 0 && self.shared.stacks != Stacks::Last {
            self.tools.unfinished.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Follows what the words of roots have led to.
    fn follow_all(&mut self) -> Result<(), GivenUp> {
        self.finish()?;
        if self.shared.started.load(Ordering::Acquire) {
            self.barrier()?;
            if self.worker == 0 {
                self.follow_started()?;
            }
            self.barrier()?;
        }
        Ok(())
    }

    /// Scans all that waits to be scanned, then the objects that only interior pointers reach, until nothing is left.
    pub(crate) fn finish(&mut self) -> Result<(), GivenUp> {
        self.pointers = PointerPass::Starts;
        loop {
            self.drain()?;
            self.barrier()?;
            // Read by all between two barriers, changed by none.
            let interior = self.shared.interior.load(Ordering::Acquire);
            self.barrier()?;
            if !interior {
                break;
            }
            self.shared.interior.store(false, Ordering::Release);
            self.barrier()?;
            self.pointers = PointerPass::Interiors;
            self.recover_interiors()?;
        }
        self.note_figures();
        Ok(())
    }

    fn note_figures(&mut self) {
        let shared = self.shared;
        // No candidate waits: a worker flushes its batch before it counts.
        let (candidates, misses) = (self.candidates, self.misses);
        shared.objects.fetch_add(self.objects, Ordering::Relaxed);
        shared.words.fetch_add(self.words, Ordering::Relaxed);
        shared.candidates.fetch_add(candidates, Ordering::Relaxed);
        let hits = candidates - misses;
        shared.hits.fetch_add(hits, Ordering::Relaxed);
        shared.unread.fetch_add(self.unread, Ordering::Relaxed);
        let in_objects = self.words - self.root_words;
        shared.object_words.fetch_add(in_objects, Ordering::Relaxed);
        (self.root_words, self.unread) = (0, 0);
        (self.objects, self.words, self.candidates, self.misses) = (0, 0, 0, 0);
        self.work.restart();
        self.batch.wipe();
    }

    /// Waits for all workers, unless one has given up; lets other code run, where it runs beside the pass. The last to arrive puts
    /// the shared cursors back to their start.
    pub(crate) fn barrier(&mut self) -> Result<(), GivenUp> {
        self.checkpoint()?;
        if !A::STOPPED {
            self.let_others_run()?;
        }
        let shared = self.shared;
        let generation = shared.generation.load(Ordering::Acquire);
        if shared.arrived.fetch_add(1, Ordering::AcqRel) + 1 == shared.workers() {
            shared.arrived.store(0, Ordering::Relaxed);
            shared.leaf.store(0, Ordering::Relaxed);
            shared.active.store(shared.workers(), Ordering::Relaxed);
            *shared.roots.lock() = RootWalk::NEW;
            shared.generation.store(generation + 1, Ordering::Release);
        }
        while shared.generation.load(Ordering::Acquire) == generation {
            self.go_on()?;
            self.tools.platform.spin();
        }
        Ok(())
    }

    /// The next table of entries that no worker has taken in this phase.
    pub(crate) fn take_leaf(&self) -> Option<(usize, Leaf)> {
        let cursor = &self.shared.leaf;
        let mut from = cursor.load(Ordering::Acquire);
        loop {
            let leaves = self.tools.registry.leaves();
            let from_here = from.max(leaves.start);
            let (number, leaf) = self.tools.registry.map.next_leaf(from_here, leaves.end)?;
            match cursor.compare_exchange(from, number + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some((number, leaf)),
                Err(other) => from = other,
            }
        }
    }

    /// Shows where each object starts, including further copies of per-CPU blocks. For one worker; `look` finds out whether the
    /// object is still there.
    pub(crate) fn each_object(
        &mut self,
        look: &mut dyn FnMut(&mut Self, usize) -> Result<(), GivenUp>,
    ) -> Result<(), GivenUp> {
        let registry = self.tools.registry;
        let mut leaf = None;
        for (number, chunk) in registry.chunks(0) {
            if leaf.replace(number >> LEAF_BITS) != Some(number >> LEAF_BITS) {
                self.pause()?;
            }
            self.each_object_in(number, chunk, look)?;
        }
        self.pause()
    }

    /// The same of the objects that start in tables which no other worker has taken in this phase.
    pub(crate) fn each_object_of_share(
        &mut self,
        look: &mut dyn FnMut(&mut Self, usize) -> Result<(), GivenUp>,
    ) -> Result<(), GivenUp> {
        while let Some((number, leaf)) = self.take_leaf() {
            for (chunk_number, chunk) in leaf.chunks(number) {
                self.each_object_in(chunk_number, chunk, look)?;
            }
            self.pause()?;
        }
        Ok(())
    }

    fn each_object_in(
        &mut self,
        number: ChunkNumber,
        chunk: Chunk,
        look: &mut dyn FnMut(&mut Self, usize) -> Result<(), GivenUp>,
    ) -> Result<(), GivenUp> {
        let registry = self.tools.registry;
        for granule in Chunk::granules(chunk.starts().load(Ordering::Relaxed)) {
            look(self, address_of(number) + granule as usize * GRANULE)?;
            self.work.count_scanned(1);
            self.worked(0)?;
        }
        if !chunk.has(info::UNALIGNED) {
            return Ok(());
        }
        let mut from = 0;
        while let Some(start) = self.open(number, chunk, |_, open| {
            (registry.unaligned_from(open, from)).map(|object| object.start)
        }) {
            look(self, start)?;
            from = start + 1;
        }
        Ok(())
    }

    /// Whether the platform or a caller vouches that these bytes can be read.
    pub(crate) fn is_readable(&self, start: usize, len: usize) -> bool {
        self.tools.readable(start, len)
    }

    pub(crate) fn platform(&self) -> &'a P {
        self.tools.platform
    }

    /// The right to look at chunks that the marker has.
    pub(crate) fn access(&self) -> A {
        self.access
    }

    /// What is known of memory, for other code that works with the marker.
    pub(crate) fn registry(&self) -> &'a Registry {
        self.tools.registry
    }

    pub(crate) fn meta(&self) -> &'a MetaAlloc<'a> {
        &self.tools.meta
    }
}

#[cfg(test)]
mod tests;
