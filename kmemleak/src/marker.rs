//! The marker: finds what the roots reach.
//!
//! A pass has these phases, each done by all CPUs that mark together, from shared cursors, with a barrier between:
//!
//! 1. *Whiten*: all marks and counts are cleared; gray objects are marked and queued, black ones marked only, so that
//!    nothing looks at them again.
//! 2. *Overlay*: objects that lie inside a root are marked: their words are scanned with the root, once.
//! 3. *Roots*: each word of each root; then each word of each queued object, until all queues are empty.
//! 4. *Recovery*: what found no room in a queue has a flag in its record, and its chunk has one; a walk over the
//!    index finds it again.
//! 5. *Interior*: what is pointed to in its middle only has waited so far, likewise by flags; now it is marked,
//!    and the queues run once more. What is first marked from here on is alive through interior pointers only.
//!
//! Then an object is unreferenced if it is not marked. A word points at an object if it is an address of any
//! of its bytes. An object that is being scanned is marked already, so a pointer to itself changes nothing.
//!
//! There is one marker. With the world stopped it runs on all CPUs and takes no lock. Beside whatever runs it is one
//! task's, it locks the chunks that it looks at, and it lets others run after each piece of work ([`Marker::pause`]).
//!
//! # How it is fast
//!
//! A word is first held against the range of all objects. A candidate's way is then three cache misses long: entry,
//! index, record. It waits in a ring at each, while the next ones are asked for; the words of an object are asked for
//! some objects ahead.
//!
//! # Invariants
//!
//! - A block is not read after its free has returned: beside whatever runs, the marker says which block it reads
//!   (`Hazard`) under the lock of the block's chunk, and reads it with interrupts off, a page at most; a
//!   free takes the block out under that lock, and waits then while the marker reads it.
//! - The mark of an object is set by one CPU, which queues it.

use core::cell::Cell;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use spin::mutex::SpinMutex;

use crate::chain::Chain;
use crate::chunk::{Chunk, granule_of, info};
use crate::memory::{Source, WORD};
use crate::notes::Area;
use crate::page_map::{self, ChunkNumber, Leaf, Look, chunk_of};
use crate::platform::{Platform, Root, RootCursor, RootKind};
use crate::prefetch::prefetch;
use crate::queue::{Desks, Found, Queue};
use crate::record::{Place, Record, flag};
use crate::registry::{Access, Object, Registry, alias_owner, object_in};

/// Bytes that are read in one piece.
const PIECE: usize = 4096;
/// Candidates that wait for their entry, and for their index.
const RING: usize = 16;
/// How many objects ahead of its scan an object's words are asked for.
const AHEAD: usize = 8;
/// Of these words, how many bytes.
const AHEAD_BYTES: usize = 512;
const LINE: usize = 64;

/// Whether task stacks are roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stacks {
    Scan,
    Skip,
}

/// A pass was given up: the detector is turned off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GivenUp;

/// What a pass has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) words: u64,
    pub(crate) candidates: u64,
    pub(crate) hits: u64,
}

/// The block that the marker reads beside whatever runs: its start, inverted; zero for none.
pub(crate) struct Hazard(AtomicUsize);

impl Hazard {
    pub(crate) const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Waits while the block at `start` is read. It has been taken out of the registry.
    #[inline(always)]
    pub(crate) fn wait(&self, start: usize) {
        while self.0.load(Ordering::Acquire) == !start {
            core::hint::spin_loop();
        }
    }

    fn set(&self, start: usize) {
        self.0.store(!start, Ordering::Release);
    }

    fn clear(&self) {
        self.0.store(0, Ordering::Release);
    }
}

/// What the CPUs that mark together share.
pub(crate) struct Shared {
    workers: AtomicUsize,
    stacks: Stacks,
    /// When the pass began.
    start_us: u64,
    leaf: AtomicUsize,
    roots: SpinMutex<RootWalk>,
    /// Workers that have something to do.
    active: AtomicUsize,
    arrived: AtomicUsize,
    generation: AtomicUsize,
    /// Something found no room in a queue.
    overflowed: AtomicBool,
    /// Something is pointed to in its middle.
    interior: AtomicBool,
    words: AtomicU64,
    candidates: AtomicU64,
    hits: AtomicU64,
}

#[derive(Clone)]
struct RootWalk {
    cursor: RootCursor,
    /// Where the next registered region may start: they are visited by address, since they come and go meanwhile.
    next_region: usize,
    kind: RootKind,
    rest: Range<usize>,
    /// The part of the root that lies after the detector's own memory.
    after: Range<usize>,
}

impl RootWalk {
    const NEW: Self = Self {
        cursor: RootCursor { stage: 0, index: 0 },
        next_region: 0,
        kind: RootKind::Section,
        rest: 0..0,
        after: 0..0,
    };
}

impl Shared {
    pub(crate) const fn new(workers: usize, stacks: Stacks, start_us: u64) -> Self {
        Self {
            workers: AtomicUsize::new(workers),
            stacks,
            start_us,
            leaf: AtomicUsize::new(0),
            roots: SpinMutex::new(RootWalk::NEW),
            active: AtomicUsize::new(0),
            arrived: AtomicUsize::new(0),
            generation: AtomicUsize::new(0),
            overflowed: AtomicBool::new(false),
            interior: AtomicBool::new(false),
            words: AtomicU64::new(0),
            candidates: AtomicU64::new(0),
            hits: AtomicU64::new(0),
        }
    }

    /// How many CPUs mark together: all say the same, before they begin.
    pub(crate) fn set_workers(&self, workers: usize) {
        self.workers.store(workers, Ordering::Release);
    }

    fn workers(&self) -> usize {
        self.workers.load(Ordering::Relaxed)
    }

    pub(crate) fn figures(&self) -> Figures {
        Figures {
            words: self.words.load(Ordering::Relaxed),
            candidates: self.candidates.load(Ordering::Relaxed),
            hits: self.hits.load(Ordering::Relaxed),
        }
    }
}

/// What the marker works with.
pub(crate) struct Tools<'a, P> {
    pub(crate) platform: &'a P,
    pub(crate) registry: &'a Registry,
    pub(crate) regions: &'a Chain,
    pub(crate) desks: &'a Desks,
    pub(crate) hazard: &'a Hazard,
    pub(crate) stopping: &'a AtomicBool,
    /// The detector's own static memory.
    pub(crate) own: Range<usize>,
    pub(crate) source: Source<'a>,
}

/// An entry of which nothing is known, for rings that are not full.
static NOTHING: AtomicU64 = AtomicU64::new(0);

/// A candidate that waits for its entry.
#[derive(Clone, Copy)]
struct AtEntry<'a> {
    word: usize,
    entry: &'a AtomicU64,
}

/// A candidate that waits for its index.
#[derive(Clone, Copy)]
struct AtIndex {
    word: usize,
    chunk: Option<Chunk>,
}

/// An object beside whatever runs: it may be freed, and its place be used again for less.
#[derive(Clone, Copy)]
struct Guarded {
    start: usize,
    size: usize,
    /// Those of its flags that say where its memory is.
    kind: u16,
}

impl Guarded {
    fn new(start: usize, record: &Record, size: usize) -> Self {
        Self {
            start,
            size,
            kind: record.flags() & (flag::PERCPU | flag::PHYS),
        }
    }
}

/// What remains to be done when the chunk of an object is closed.
enum Then {
    Nothing,
    /// It is marked now.
    Queue,
    /// It is a copy of the per-CPU block with this handle.
    Owner(usize),
    /// Another object has one more reference: the one that the notes of this one name.
    Count(usize),
}

/// One CPU's part of the marker.
pub(crate) struct Marker<'a, P, A> {
    tools: &'a Tools<'a, P>,
    shared: &'a Shared,
    workers: usize,
    queue: Queue<'a>,
    lowest: usize,
    span: usize,
    entries: [AtEntry<'a>; RING],
    next_entry: usize,
    indexes: [AtIndex; RING],
    next_index: usize,
    /// The object whose words are being scanned, if pointers to it count for another one.
    area: Option<usize>,
    /// A checksum in the making.
    sum: u64,
    words: u64,
    candidates: u64,
    hits: u64,
    access: core::marker::PhantomData<A>,
}

impl<'a, P: Platform, A: Access> Marker<'a, P, A> {
    pub(crate) fn new(tools: &'a Tools<'a, P>, shared: &'a Shared, worker: usize) -> Self {
        let range = tools.registry.range();
        Self {
            tools,
            shared,
            workers: shared.workers(),
            queue: tools.desks.queue(worker),
            lowest: range.start,
            span: range.end.saturating_sub(range.start),
            entries: [AtEntry {
                word: 0,
                entry: &NOTHING,
            }; RING],
            next_entry: 0,
            indexes: [AtIndex {
                word: 0,
                chunk: None,
            }; RING],
            next_index: 0,
            area: None,
            sum: 0,
            words: 0,
            candidates: 0,
            hits: 0,
            access: core::marker::PhantomData,
        }
    }

    /// Marks all that the roots reach.
    pub(crate) fn run(&mut self) -> Result<(), GivenUp> {
        self.whiten()?;
        self.barrier();
        self.overlay()?;
        self.barrier();
        self.scan_roots()?;
        self.finish()
    }

    /// Scans all that is queued, what found no room in the queues, and what was pointed to in its middle, until
    /// nothing is left.
    pub(crate) fn finish(&mut self) -> Result<(), GivenUp> {
        loop {
            self.drain()?;
            self.barrier();
            // Read by all between two barriers, changed by none.
            let overflowed = self.shared.overflowed.load(Ordering::Acquire);
            let interior = self.shared.interior.load(Ordering::Acquire);
            self.barrier();
            if overflowed {
                self.shared.overflowed.store(false, Ordering::Release);
                self.barrier();
                self.recover(info::PENDING, flag::PENDING)?;
            } else if interior {
                self.shared.interior.store(false, Ordering::Release);
                self.barrier();
                self.recover(info::INTERIOR, flag::INTERIOR)?;
            } else {
                break;
            }
        }
        self.note_figures();
        Ok(())
    }

    fn note_figures(&mut self) {
        let shared = self.shared;
        shared.words.fetch_add(self.words, Ordering::Relaxed);
        shared
            .candidates
            .fetch_add(self.candidates, Ordering::Relaxed);
        shared.hits.fetch_add(self.hits, Ordering::Relaxed);
        (self.words, self.candidates, self.hits) = (0, 0, 0);
    }

    /// Waits for all workers. The last to come puts the shared cursors back to their start.
    pub(crate) fn barrier(&self) {
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
            self.tools.platform.spin();
        }
    }

    /// Beside whatever runs: lets it.
    #[inline(always)]
    pub(crate) fn pause(&self) -> Result<(), GivenUp> {
        if A::STOPPED {
            return Ok(());
        }
        let asked =
            self.tools.platform.relax().is_break() || self.tools.stopping.load(Ordering::Acquire);
        if asked { Err(GivenUp) } else { Ok(()) }
    }

    /// Keeps interrupts off while others run.
    #[inline(always)]
    pub(crate) fn quietly<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> R {
        let tools = self.tools;
        uninterrupted::<P, A, _>(tools.platform, || work(self))
    }

    /// The next table of entries that nobody has taken in this phase.
    pub(crate) fn claim_leaf(&self) -> Option<(usize, Leaf)> {
        let cursor = &self.shared.leaf;
        let mut from = cursor.load(Ordering::Acquire);
        loop {
            let (number, leaf) = self.tools.registry.map.next_leaf(from)?;
            match cursor.compare_exchange(from, number + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some((number, leaf)),
                Err(other) => from = other,
            }
        }
    }

    /// Looks at all chunks, opened, with all workers.
    pub(crate) fn each_chunk(
        &mut self,
        look: &mut dyn FnMut(&mut Self, ChunkNumber, Chunk),
    ) -> Result<(), GivenUp> {
        while let Some((number, leaf)) = self.claim_leaf() {
            for (chunk_number, _) in leaf.chunks(number) {
                self.quietly(|marker| {
                    if let Some(chunk) = A::open(leaf.entry(chunk_number)) {
                        look(marker, chunk_number, chunk);
                        A::close(chunk);
                    }
                });
            }
            self.pause()?;
        }
        Ok(())
    }

    fn whiten(&mut self) -> Result<(), GivenUp> {
        const LOOK: u32 = info::SPECIAL
            | info::PENDING
            | info::INTERIOR
            | info::INTERIOR_ONLY
            | info::BORN
            | info::ODD;
        self.each_chunk(&mut |marker, number, chunk| {
            if chunk.has(LOOK) {
                marker.whiten_records(number, chunk);
            } else if A::STOPPED && chunk.is_empty() {
                marker.reclaim(number, chunk);
            } else {
                chunk.marks().store(0, Ordering::Relaxed);
            }
        })
    }

    /// Gives the index back of a chunk in which there is nothing any more. Nobody waits for its lock.
    #[cold]
    fn reclaim(&self, number: ChunkNumber, chunk: Chunk) {
        if let Look::Entry(entry) = self.tools.registry.map.look(number) {
            page_map::replace(entry, None);
            chunk.give(&self.tools.source);
        }
    }

    #[inline(never)]
    fn whiten_records(&mut self, number: ChunkNumber, chunk: Chunk) {
        let registry = self.tools.registry;
        let (mut special, mut born) = (chunk.has(info::ODD), false);
        chunk.clear(info::PENDING | info::INTERIOR | info::INTERIOR_ONLY);
        registry.each_of(number, chunk, u64::MAX, &mut |object| {
            let record = object.record.read();
            special |= !record.is_plain();
            if record.has(flag::BORN) && self.is_born(record.birth_us()) && !record.has(flag::ALIAS)
            {
                // Marked when it was allocated, and still to be scanned.
                born = true;
                return;
            }
            object.record.clear(flag::OF_PASSES);
            object.record.reset_count();
            object.mark.clear();
            match record.min_count() {
                // Not marked, so that all pointers to it count for the other object.
                0 if record.has(flag::EXCESS) => {
                    object.record.set(flag::REACHED);
                    self.enqueue(object);
                }
                0 => {
                    self.keep(object);
                }
                min_count if min_count < 0 => {
                    object.mark.set();
                }
                _ => {}
            }
        });
        if !special {
            chunk.clear(info::SPECIAL);
        }
        if !born {
            chunk.clear(info::BORN);
        }
    }

    /// Whether something was allocated since the pass began.
    fn is_born(&self, birth_us: u64) -> bool {
        !A::STOPPED && birth_us >= self.shared.start_us
    }

    /// Scans what was allocated since the pass began, and what is left of what was freed in part.
    pub(crate) fn scan_born(&mut self) -> Result<(), GivenUp> {
        self.each_chunk(&mut |marker, number, chunk| {
            if !chunk.has(info::BORN) {
                return;
            }
            chunk.clear(info::BORN);
            let registry = marker.tools.registry;
            registry.each_of(number, chunk, u64::MAX, &mut |object| {
                if object.record.has(flag::BORN) {
                    object.record.clear(flag::BORN);
                    object.mark.set();
                    marker.enqueue(object);
                }
            });
        })?;
        self.barrier();
        self.finish()
    }

    /// Marks the objects that lie inside a root.
    fn overlay(&mut self) -> Result<(), GivenUp> {
        while let Some((_, piece, whole)) = self.claim_root() {
            self.quietly(|marker| {
                let registry = marker.tools.registry;
                registry.each_in::<A>(piece, &mut |object| {
                    let record = object.record.read();
                    let end = object.start + record.short_size() as usize;
                    let copied = record.has(flag::ALIAS | flag::PERCPU);
                    if end <= whole && record.short_size() != u32::MAX && !copied {
                        object.mark.set();
                        if record.min_count() == 0 {
                            // It is queued already.
                            object.record.set(flag::REACHED);
                        }
                    }
                });
            });
            self.pause()?;
        }
        Ok(())
    }

    /// The next piece of a root, with what kind it is and where the root ends.
    fn claim_root(&self) -> Option<(RootKind, Range<usize>, usize)> {
        let mut walk = self.shared.roots.lock();
        loop {
            if walk.rest.is_empty() {
                walk.rest = core::mem::take(&mut walk.after);
            }
            if !walk.rest.is_empty() {
                let start = walk.rest.start;
                let end = next_piece(start).min(walk.rest.end);
                walk.rest.start = end;
                return Some((walk.kind, start..end, walk.rest.end));
            }
            let root = match self.tools.platform.next_root(&mut walk.cursor) {
                Some(root) => root,
                None => {
                    let from = walk.next_region;
                    let region = uninterrupted::<P, A, _>(self.tools.platform, || {
                        self.tools.regions.first_from(from)
                    })?;
                    walk.next_region = region.key.checked_add(1)?;
                    Root {
                        kind: RootKind::Region,
                        start: region.key,
                        len: region.value,
                    }
                }
            };
            let is_stack = matches!(root.kind, RootKind::Stack(_) | RootKind::Registers(_));
            if is_stack && self.shared.stacks == Stacks::Skip {
                continue;
            }
            if root.len > 0 && self.tools.platform.readable(root.start, root.len) {
                let range = root.start..root.start.saturating_add(root.len);
                walk.kind = root.kind;
                (walk.rest, walk.after) = without(&range, &self.tools.own);
            }
        }
    }

    fn scan_roots(&mut self) -> Result<(), GivenUp> {
        while let Some((kind, piece, _)) = self.claim_root() {
            if !A::STOPPED && matches!(kind, RootKind::Stack(_)) {
                self.scan_stack(piece);
            } else {
                self.quietly(|marker| marker.scan_words(piece.start, piece.end));
            }
            self.pause()?;
            while self.queue.is_filling() {
                self.scan_next()?;
            }
        }
        Ok(())
    }

    /// A piece of a stack beside whatever runs: its task may end meanwhile, and the stack be freed.
    fn scan_stack(&mut self, piece: Range<usize>) {
        self.quietly(|marker| {
            let tools = marker.tools;
            let held = tools
                .registry
                .containing::<A, _>(piece.start, |object| tools.hazard.set(object.start));
            if held.is_some() || tools.platform.readable(piece.start, piece.len()) {
                marker.scan_words(piece.start, piece.end);
            }
            tools.hazard.clear();
        });
    }

    /// Scans queued objects until there are none, anywhere.
    fn drain(&mut self) -> Result<(), GivenUp> {
        let (shared, desks) = (self.shared, self.tools.desks);
        loop {
            while self.queue.len() > 0 {
                self.scan_next()?;
            }
            self.flush();
            if self.queue.len() > 0 {
                continue;
            }
            if shared.workers() == 1 {
                return Ok(());
            }
            if desks.steal(shared.workers(), &mut self.queue) {
                continue;
            }
            shared.active.fetch_sub(1, Ordering::AcqRel);
            loop {
                if desks.any_offered(shared.workers()) {
                    shared.active.fetch_add(1, Ordering::AcqRel);
                    break;
                }
                // Who offers is active; so when nobody is, nothing is left.
                if shared.active.load(Ordering::Acquire) == 0 {
                    return Ok(());
                }
                self.tools.platform.spin();
            }
        }
    }

    /// Queues what has the record's flag, in chunks that have the chunk's, and is to be scanned.
    fn recover(&mut self, in_chunk: u32, in_record: u16) -> Result<(), GivenUp> {
        while let Some((number, leaf)) = self.claim_leaf() {
            for (chunk_number, _) in leaf.chunks(number) {
                self.quietly(|marker| {
                    if let Some(chunk) = A::open(leaf.entry(chunk_number)) {
                        marker.recover_chunk(chunk_number, chunk, in_chunk, in_record);
                        A::close(chunk);
                    }
                });
                // One chunk's objects at a time, lest the queue is filled by what was in flags already.
                while self.queue.is_filling() {
                    self.scan_next()?;
                }
            }
            self.pause()?;
        }
        Ok(())
    }

    fn recover_chunk(&mut self, number: ChunkNumber, chunk: Chunk, in_chunk: u32, in_record: u16) {
        if !chunk.has(in_chunk) {
            return;
        }
        chunk.clear(in_chunk);
        let registry = self.tools.registry;
        registry.each_of(number, chunk, u64::MAX, &mut |object| {
            if !object.record.has(in_record) {
                return;
            }
            object.record.clear(in_record);
            if in_record == flag::INTERIOR {
                if !object.mark.set() {
                    // Its start was pointed to as well.
                    return;
                }
                object.record.set(flag::INTERIOR_ONLY);
                object.chunk.set(info::INTERIOR_ONLY);
            }
            self.enqueue(object);
        });
    }

    /// Queues a marked object, or leaves a note at it.
    #[inline(always)]
    fn enqueue(&mut self, object: Object<'_>) {
        let found = Found {
            start: object.start,
            record: object.record,
        };
        if !self.queue.push(found) {
            self.postpone(object);
        }
    }

    #[cold]
    #[inline(never)]
    fn postpone(&self, object: Object<'_>) {
        object.record.set(flag::PENDING);
        object.chunk.set(info::PENDING);
        if !self.shared.overflowed.load(Ordering::Relaxed) {
            self.shared.overflowed.store(true, Ordering::Release);
        }
    }

    /// Scans the object that has waited longest.
    #[inline(always)]
    fn scan_next(&mut self) -> Result<(), GivenUp> {
        if A::STOPPED
            && let Some(next) = self.queue.ahead(AHEAD)
        {
            let len = (next.record.short_size() as usize).min(AHEAD_BYTES);
            let mut offset = LINE;
            while offset < len {
                prefetch(next.start + offset);
                offset += LINE;
            }
        }
        let Some(found) = self.queue.pop() else {
            return Ok(());
        };
        if !A::STOPPED {
            return self.scan_guarded(found);
        }
        if self.workers > 1 {
            self.queue.offer();
        }
        let size = found.record.short_size();
        if found.record.flags() & (flag::SPECIAL | flag::REACHED) == 0 && size != u32::MAX {
            self.scan_block(found.start, size as usize);
        } else {
            let record = found.record.read();
            let size = self.tools.registry.size(found.start, found.record);
            let _ = self.scan_special(found.start, &record, size, &mut |marker, start, len| {
                marker.scan_block(start, len);
                Ok(())
            });
        }
        Ok(())
    }

    /// The words of a block with the world stopped.
    #[inline(always)]
    fn scan_block(&mut self, start: usize, len: usize) {
        if self.tools.platform.readable(start, len) {
            self.scan_words(start, start.saturating_add(len));
        }
    }

    /// Scans an object that is not plain: copy by copy, area by area.
    #[inline(never)]
    fn scan_special(
        &mut self,
        object: usize,
        record: &Record,
        size: usize,
        scan: &mut dyn FnMut(&mut Self, usize, usize) -> Result<(), GivenUp>,
    ) -> Result<(), GivenUp> {
        let tools = self.tools;
        if record.has(flag::NO_SCAN | flag::ALIAS) || record.min_count() < 0 {
            return Ok(());
        }
        if record.has(flag::REACHED) && !record.has(flag::EXCESS) {
            // It lies in a root.
            return Ok(());
        }
        if record.has(flag::EXCESS) && self.area.is_none() {
            // Its pointers to itself don't count. It is never marked, so they are told by who is being scanned.
            self.flush();
            self.area = Some(object);
            let result = self.scan_special(object, record, size, scan);
            self.flush();
            self.area = None;
            return result;
        }
        let copies = if record.has(flag::PERCPU) {
            tools.platform.cpus()
        } else {
            1
        };
        for cpu in 0..copies {
            let copy = if record.has(flag::PERCPU) {
                tools.platform.percpu_copy(object, cpu)
            } else if record.has(flag::PHYS) {
                match tools.platform.phys_to_virt(object, size) {
                    Some(start) => start,
                    None => return Ok(()),
                }
            } else {
                object
            };
            let mut number = 0;
            while let Some(area) = self.quietly(|_| tools.registry.area(object, number)) {
                // A word in several areas is read once.
                let (mut at, end) = words_of(copy, area);
                let end = end.min(copy.saturating_add(size));
                while at < end {
                    let (skip, next) =
                        self.quietly(|marker| marker.covered(object, copy, number, at, end));
                    if !skip {
                        scan(self, at, next - at)?;
                    }
                    at = next;
                }
                number += 1;
            }
            if number == 0 {
                scan(self, copy, size)?;
            }
        }
        Ok(())
    }

    /// Whether the word at `at` is in one of an object's first areas, `number` of them, and how far that goes.
    fn covered(
        &self,
        object: usize,
        copy: usize,
        number: usize,
        at: usize,
        end: usize,
    ) -> (bool, usize) {
        let mut next = end;
        for earlier in 0..number {
            let Some(area) = self.tools.registry.area(object, earlier) else {
                break;
            };
            let (first, last) = words_of(copy, area);
            if (first..last).contains(&at) {
                return (true, last.min(end));
            }
            if first > at && first < last {
                next = next.min(first);
            }
        }
        (false, next)
    }

    /// Scans an object beside whatever runs, piece by piece, as long as it is not freed.
    fn scan_guarded(&mut self, found: Found) -> Result<(), GivenUp> {
        // The record may be gone with its object by now, or another's: nothing is read but by its address.
        let Some((record, object)) = self.guarded(found.start) else {
            return self.pause();
        };
        if record.is_plain() {
            let range = object.start..object.start + object.size;
            self.each_piece(object, range, Self::scan_words)
        } else {
            self.scan_special(
                object.start,
                &record,
                object.size,
                &mut |marker, start, len| {
                    let range = start..start.saturating_add(len);
                    marker.each_piece(object, range, Self::scan_words)
                },
            )
        }
    }

    /// The object that starts at an address now.
    fn guarded(&mut self, start: usize) -> Option<(Record, Guarded)> {
        self.quietly(|marker| {
            let registry = marker.tools.registry;
            registry.starting_at::<A, _>(start, |object| {
                let record = object.record.read();
                let size = registry.size(start, object.record);
                (record, Guarded::new(start, &record, size))
            })
        })
    }

    /// Does something with each piece of a range that belongs to an object, as long as that is there: or another one,
    /// in which the same may be read.
    fn each_piece(
        &mut self,
        of: Guarded,
        range: Range<usize>,
        work: fn(&mut Self, usize, usize),
    ) -> Result<(), GivenUp> {
        let mut at = range.start;
        while at < range.end {
            // Up to a page's end: no word lies in two pieces.
            let next = next_piece(at).min(range.end);
            let there = self.quietly(|marker| {
                let tools = marker.tools;
                let held = tools.registry.starting_at::<A, _>(of.start, |object| {
                    let size = tools.registry.size(of.start, object.record);
                    let now = Guarded::new(of.start, &object.record.read(), size);
                    let same = now.kind == of.kind && now.size >= of.size;
                    if same {
                        tools.hazard.set(of.start);
                    }
                    same
                });
                if held != Some(true) {
                    return false;
                }
                if tools.platform.readable(at, next - at) {
                    work(marker, at, next);
                }
                tools.hazard.clear();
                true
            });
            self.pause()?;
            if !there {
                return Ok(());
            }
            at = next;
        }
        Ok(())
    }

    /// A checksum of an object's contents, as long as it is there. Beside whatever runs.
    pub(crate) fn checksum(&mut self, start: usize) -> Result<u32, GivenUp> {
        self.sum = 0;
        let Some((_, object)) = self.guarded(start) else {
            return Ok(0);
        };
        let (platform, size) = (self.tools.platform, object.size);
        if object.kind & flag::PERCPU != 0 {
            for cpu in 0..platform.cpus() {
                let copy = platform.percpu_copy(start, cpu);
                self.each_piece(object, copy..copy.saturating_add(size), Self::sum_words)?;
            }
        } else {
            let memory = match object.kind & flag::PHYS {
                0 => Some(start),
                _ => platform.phys_to_virt(start, size),
            };
            if let Some(memory) = memory {
                self.each_piece(object, memory..memory + size, Self::sum_words)?;
            }
        }
        Ok((self.sum ^ self.sum >> 32) as u32)
    }

    /// Adds each whole word from `start` to `end` to the checksum.
    fn sum_words(&mut self, start: usize, end: usize) {
        let mut at = start.next_multiple_of(WORD);
        while at + WORD <= end {
            // SAFETY: a word of an object that is kept from being freed.
            let word = unsafe { self.tools.platform.read_word(at) } as u64;
            // As FNV-1a does with bytes, but rotated: upper bits are to count as well.
            self.sum = (self.sum.rotate_left(5) ^ word).wrapping_mul(0x0100_0000_01b3);
            at += WORD;
        }
    }

    /// What is known of memory, for others that work with the marker.
    pub(crate) fn registry(&self) -> &'a Registry {
        self.tools.registry
    }

    pub(crate) fn source(&self) -> &'a Source<'a> {
        &self.tools.source
    }

    /// Each whole word from `start` to `end`.
    #[inline(always)]
    fn scan_words(&mut self, start: usize, end: usize) {
        let mut at = start.next_multiple_of(WORD);
        let end = end & !(WORD - 1);
        if at >= end {
            return;
        }
        self.words += ((end - at) / WORD) as u64;
        let (platform, lowest, span) = (self.tools.platform, self.lowest, self.span);
        while at < end {
            // SAFETY: a word of a root, or of an object that is kept from being freed.
            let word = platform.untag(unsafe { platform.read_word(at) });
            if word.wrapping_sub(lowest) < span {
                self.candidate(word);
            }
            at += WORD;
        }
    }

    /// A word that may be an address in an object.
    #[inline(always)]
    fn candidate(&mut self, word: usize) {
        self.candidates += 1;
        if !A::STOPPED {
            return self.look_up(word);
        }
        match self.tools.registry.map.look(chunk_of(word)) {
            Look::Entry(entry) => {
                prefetch(core::ptr::from_ref(entry).addr());
                let slot = &mut self.entries[self.next_entry % RING];
                let before = core::mem::replace(slot, AtEntry { word, entry });
                self.next_entry += 1;
                self.at_entry(before);
            }
            Look::Nothing => {}
            Look::Run(_) => self.look_up(word),
        }
    }

    /// A candidate whose entry is there.
    #[inline(always)]
    fn at_entry(&mut self, candidate: AtEntry<'_>) {
        let entry = page_map::read(candidate.entry);
        let chunk = entry.chunk();
        if let Some(chunk) = chunk {
            prefetch(chunk.starts().as_ptr().addr());
        } else if entry.reach() == 0 {
            return;
        }
        let slot = &mut self.indexes[self.next_index % RING];
        let next = AtIndex {
            word: candidate.word,
            chunk,
        };
        let before = core::mem::replace(slot, next);
        self.next_index += 1;
        self.at_index(before);
    }

    /// A candidate whose index is there.
    #[inline(always)]
    fn at_index(&mut self, candidate: AtIndex) {
        let word = candidate.word;
        let Some(chunk) = candidate.chunk else {
            if word != 0 {
                self.look_up(word);
            }
            return;
        };
        let granule = granule_of(word);
        let bit = 1 << granule;
        let is_start =
            chunk.starts().load(Ordering::Relaxed) & bit != 0 && word.is_multiple_of(WORD);
        if !is_start || chunk.has(info::SPECIAL) {
            return self.look_up(word);
        }
        self.hits += 1;
        if chunk.marks().load(Ordering::Relaxed) & bit != 0 {
            return;
        }
        let object = object_in(chunk_of(word), chunk, granule);
        if object.mark.set() {
            prefetch(object.record.address());
            prefetch(object.start);
            self.enqueue(Object {
                start: word,
                ..object
            });
        }
    }

    /// A candidate that needs a closer look.
    #[inline(never)]
    fn look_up(&mut self, word: usize) {
        let place = Cell::new(None);
        let interior = &self.shared.interior;
        let hit = self.tools.registry.containing::<A, _>(word, |object| {
            place.set(Some((object.start, object.record)));
            refer(object, word, interior)
        });
        let (Some(then), Some((start, record))) = (hit, place.get()) else {
            return;
        };
        self.hits += 1;
        match then {
            Then::Nothing => {}
            Then::Queue => self.queue_found(start, record),
            Then::Owner(owner) => self.refer_to(owner),
            Then::Count(start) if self.area == Some(start) => {}
            Then::Count(start) => {
                if let Some(other) = self.tools.registry.notes.excess(start) {
                    self.refer_to(other);
                }
            }
        }
    }

    /// One more reference to the object at `start`, from elsewhere.
    #[cold]
    fn refer_to(&mut self, start: usize) {
        let place = Cell::new(None);
        let interior = &self.shared.interior;
        let then = self.tools.registry.starting_at::<A, _>(start, |object| {
            place.set(Some((object.start, object.record)));
            refer(object, start, interior)
        });
        if let (Some(Then::Queue), Some((start, record))) = (then, place.get()) {
            self.queue_found(start, record);
        }
    }

    pub(crate) fn queue_found(&mut self, start: usize, record: Place) {
        if !self.queue.push(Found { start, record }) {
            self.note_pending(start);
        }
    }

    /// No room in the queue: by the object's address, since its chunk is closed.
    #[cold]
    fn note_pending(&self, start: usize) {
        self.tools
            .registry
            .starting_at::<A, _>(start, |object| self.postpone(object));
    }

    /// Looks at all candidates that wait.
    fn flush(&mut self) {
        for _ in 0..RING {
            let nothing = AtEntry {
                word: 0,
                entry: &NOTHING,
            };
            let slot = &mut self.entries[self.next_entry % RING];
            let before = core::mem::replace(slot, nothing);
            self.next_entry += 1;
            self.at_entry(before);
        }
        for _ in 0..RING {
            let nothing = AtIndex {
                word: 0,
                chunk: None,
            };
            let slot = &mut self.indexes[self.next_index % RING];
            let before = core::mem::replace(slot, nothing);
            self.next_index += 1;
            self.at_index(before);
        }
    }

    /// Marks and queues an object whatever points to it, and tells whether that is new. Its chunk is open.
    pub(crate) fn keep(&mut self, object: Object<'_>) -> bool {
        let new = object.mark.set();
        if new {
            self.enqueue(object);
        }
        new
    }
}

/// Runs `work` with interrupts off, which they are in a stopped world.
#[inline(always)]
fn uninterrupted<P: Platform, A: Access, R>(platform: &P, work: impl FnOnce() -> R) -> R {
    if A::STOPPED {
        return work();
    }
    let interrupts = platform.irq_save();
    let result = work();
    platform.irq_restore(interrupts);
    result
}

/// A word points at an object that is open.
fn refer(object: Object<'_>, word: usize, interior: &AtomicBool) -> Then {
    if object.mark.is_set() {
        return Then::Nothing;
    }
    let record = object.record.read();
    if record.has(flag::ALIAS) {
        object.mark.set();
        return Then::Owner(alias_owner(&record));
    }
    if record.has(flag::EXCESS) {
        // Never marked, so that every pointer comes here: as many as it needs are its own, the others are the other's.
        if !record.has(flag::REACHED) {
            if record.min_count() > 1 && !object.record.count_reference() {
                return Then::Nothing;
            }
            if object.record.set(flag::REACHED) & flag::REACHED == 0 {
                return Then::Queue;
            }
        }
        return Then::Count(object.start);
    }
    if record.min_count() > 1 {
        let enough = object.record.count_reference();
        return if enough && object.mark.set() {
            Then::Queue
        } else {
            Then::Nothing
        };
    }
    if word != object.start {
        // It waits until the start pointers are through.
        object.record.set(flag::INTERIOR);
        object.chunk.set(info::INTERIOR);
        interior.store(true, Ordering::Release);
        return Then::Nothing;
    }
    if object.mark.set() {
        Then::Queue
    } else {
        Then::Nothing
    }
}

/// The end of the page that an address lies in.
fn next_piece(address: usize) -> usize {
    (address | (PIECE - 1)).saturating_add(1)
}

/// The whole words of an area, of the copy of its object at `copy`.
fn words_of(copy: usize, area: Area) -> (usize, usize) {
    let start = copy + area.offset;
    let end = start.saturating_add(area.len) & !(WORD - 1);
    (start.next_multiple_of(WORD), end)
}

/// The parts of `root` before and after `own`; the first is not empty unless both are.
fn without(root: &Range<usize>, own: &Range<usize>) -> (Range<usize>, Range<usize>) {
    if root.end <= own.start || root.start >= own.end {
        return (root.clone(), 0..0);
    }
    let before = root.start..own.start.max(root.start);
    let after = own.end.min(root.end)..root.end;
    if before.is_empty() {
        (after, 0..0)
    } else {
        (before, after)
    }
}
