//! All that the detector knows, under its one lock; and how the callbacks change it.

use crate::depot::{Depot, Frames, Trace};
use crate::hidden::Hidden;
use crate::pages::{Source, Usage};
use crate::platform::{Comm, Context, Level, Platform};
use crate::record::{Handle, Record, ScanArea, Slots, flag};
use crate::registry::Registry;
use crate::scan::Pass;
use crate::verdict::Verdict;
use crate::warning::{Kind, Warning, Warnings};

/// Buckets of the table of names.
const NAME_BUCKETS: usize = 64;

/// What a block is, as its allocator says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) start: usize,
    pub(crate) size: usize,
    pub(crate) min_count: i32,
    pub(crate) copies: Copies,
}

/// How many copies of a block there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copies {
    /// The block itself.
    One,
    /// One for each CPU, where the platform says.
    PerCpu,
}

/// Where the copies of a per-CPU block lie.
pub(crate) fn copies_of(handle: usize, platform: &dyn Platform) -> impl Iterator<Item = usize> {
    (0..platform.cpus()).map(move |cpu| platform.percpu_copy(handle, cpu))
}

/// Who called, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) context: Context,
    pub(crate) now_us: u64,
    pub(crate) frames: Frames,
}

pub(crate) struct State {
    pub(crate) slots: Slots,
    pub(crate) registry: Registry,
    pub(crate) depot: Depot,
    pub(crate) usage: Usage,
    pub(crate) warnings: Warnings,
    pub(crate) pass: Pass,
    pub(crate) verdict: Verdict,
    names: [Handle; NAME_BUCKETS],
    /// Blocks for which there was no record, since the last `clear`.
    pub(crate) unrecorded: u64,
    /// The same, ever.
    pub(crate) unrecorded_total: u64,
    /// Blocks that were found overlapped, so whose free was missed.
    pub(crate) missed_frees: u64,
    /// Tracked objects; copies of a per-CPU block count once.
    pub(crate) objects: usize,
    /// Their bytes.
    pub(crate) bytes: usize,
}

impl State {
    pub(crate) const fn new() -> Self {
        Self {
            slots: Slots::new(),
            registry: Registry::new(),
            depot: Depot::new(),
            usage: Usage::new(),
            warnings: Warnings::new(),
            pass: Pass::new(),
            verdict: Verdict::new(),
            names: [Handle::NONE; NAME_BUCKETS],
            unrecorded: 0,
            unrecorded_total: 0,
            missed_frees: 0,
            objects: 0,
            bytes: 0,
        }
    }

    /// Records a block.
    pub(crate) fn add(&mut self, block: Block, caller: &Caller, source: &Source<'_>) {
        let size = block.size.max(1);
        let Some(end) = block.start.checked_add(size) else {
            return self.warn(Kind::BadSize, block.start, &caller.frames, source);
        };
        self.evict(block.start, end, caller, source);
        let trace = self.depot.store(&caller.frames, &mut self.usage, source);
        let comm = self.name(caller.context.comm, source);
        let interrupt = if caller.context.level == Level::Interrupt {
            flag::INTERRUPT
        } else {
            0
        };
        let record = Record {
            start: Hidden::new(block.start),
            size,
            birth_us: caller.now_us,
            left: Handle::NONE,
            right: Handle::NONE,
            min_count: block.min_count,
            count: 0,
            trace,
            task: caller.context.task,
            next: Handle::NONE,
            areas: Handle::NONE,
            comm,
            cpu: caller.context.cpu as u16,
            flags: flag::ALLOCATED | interrupt,
        };
        let Some(handle) = self.slots.add(record, &mut self.usage, source) else {
            return self.count_unrecorded();
        };
        self.registry.insert(&mut self.slots, handle);
        self.objects += 1;
        self.bytes += size;
        if block.copies == Copies::PerCpu && self.add_aliases(handle, caller, source).is_none() {
            // Half of its copies would not do.
            self.forget(handle, source);
            return self.count_unrecorded();
        }
        if block.min_count == 0 {
            self.pass.queue_late(&mut self.slots, handle);
        }
    }

    /// Records the further copies of a per-CPU block. `None` where there is no memory.
    fn add_aliases(&mut self, owner: Handle, caller: &Caller, source: &Source<'_>) -> Option<()> {
        self.slots
            .update(owner, |record| record.flags |= flag::PERCPU);
        let record = self.slots.get(owner);
        for copy in copies_of(record.start(), source.platform) {
            if copy == record.start() {
                continue;
            }
            self.evict(copy, copy.saturating_add(record.size), caller, source);
            let alias = Record {
                start: Hidden::new(copy),
                next: owner,
                flags: flag::ALLOCATED | flag::ALIAS,
                ..record
            };
            let alias = self.slots.add(alias, &mut self.usage, source)?;
            self.registry.insert(&mut self.slots, alias);
        }
        Some(())
    }

    /// Takes a block out, with all its copies.
    pub(crate) fn remove(
        &mut self,
        start: usize,
        frames: &mut dyn FnMut() -> Frames,
        source: &Source<'_>,
    ) {
        match self.own(start) {
            Some((handle, record)) => {
                self.warnings.bury(record.start, record.size, record.trace);
                self.forget(handle, source);
            }
            None => self.warn_unknown(Kind::UnknownFree, start, frames, source),
        }
    }

    /// The object that starts at `start`; a further copy of a per-CPU block doesn't count.
    pub(crate) fn own(&self, start: usize) -> Option<(Handle, Record)> {
        self.registry
            .starting_at(&self.slots, start)
            .filter(|(_, record)| !record.has(flag::ALIAS))
    }

    /// The object that `address` lies in, in whatever copy.
    pub(crate) fn object_at(&self, address: usize) -> Option<(Handle, Record)> {
        let (handle, record) = self.registry.containing(&self.slots, address)?;
        if record.has(flag::ALIAS) {
            return Some((record.next, self.slots.get(record.next)));
        }
        Some((handle, record))
    }

    /// Makes room: blocks that lie where a new one is were freed without a word.
    fn evict(&mut self, start: usize, end: usize, caller: &Caller, source: &Source<'_>) {
        while let Some(handle) = self.registry.overlapping(&self.slots, start, end) {
            let record = self.slots.get(handle);
            let owner = if record.has(flag::ALIAS) {
                record.next
            } else {
                handle
            };
            self.missed_frees += 1;
            let old = self.slots.get(owner);
            self.warnings.bury(old.start, old.size, old.trace);
            self.warn(Kind::Overlap, start, &caller.frames, source);
            self.forget(owner, source);
        }
    }

    /// Takes an object out of the tree, and gives its slot back as soon as nothing needs it.
    fn forget(&mut self, handle: Handle, source: &Source<'_>) {
        let record = self.slots.get(handle);
        if record.has(flag::PERCPU) {
            copies_of(record.start(), source.platform)
                .for_each(|copy| self.forget_alias(handle, copy));
        }
        self.registry.remove(&mut self.slots, handle);
        self.objects -= 1;
        self.bytes -= record.size;
        self.pass.leave(handle);
        if record.has(flag::QUEUED | flag::SUSPECT) {
            self.slots.update(handle, |record| {
                record.flags = record.flags & !flag::ALLOCATED | flag::FREED;
            });
        } else {
            self.slots.release(handle);
        }
    }

    fn forget_alias(&mut self, owner: Handle, copy: usize) {
        if let Some((alias, record)) = self.registry.starting_at(&self.slots, copy)
            && record.has(flag::ALIAS)
            && record.next == owner
        {
            self.registry.remove(&mut self.slots, alias);
            self.slots.release(alias);
        }
    }

    fn count_unrecorded(&mut self) {
        self.unrecorded += 1;
        self.unrecorded_total += 1;
    }

    /// Sets how many references an object needs.
    pub(crate) fn set_min_count(
        &mut self,
        start: usize,
        min_count: i32,
        frames: &mut dyn FnMut() -> Frames,
        source: &Source<'_>,
    ) {
        let Some((handle, _)) = self.own(start) else {
            return self.warn_unknown(Kind::UnknownObject, start, frames, source);
        };
        self.slots
            .update(handle, |record| record.min_count = min_count);
        if min_count == 0 {
            self.pass.queue_late(&mut self.slots, handle);
        }
    }

    /// Leaves an object's contents out of scans.
    pub(crate) fn set_no_scan(
        &mut self,
        start: usize,
        frames: &mut dyn FnMut() -> Frames,
        source: &Source<'_>,
    ) {
        match self.own(start) {
            Some((handle, _)) => self
                .slots
                .update(handle, |record| record.flags |= flag::NO_SCAN),
            None => self.warn_unknown(Kind::UnknownObject, start, frames, source),
        }
    }

    /// Limits the scan of an object to this area, and those named before.
    pub(crate) fn add_area(
        &mut self,
        start: usize,
        len: usize,
        frames: &mut dyn FnMut() -> Frames,
        source: &Source<'_>,
    ) {
        let Some((handle, record)) = self.registry.containing(&self.slots, start) else {
            return self.warn_unknown(Kind::UnknownObject, start, frames, source);
        };
        if len > record.end() - start {
            return self.warn(Kind::AreaTooLarge, start, &frames(), source);
        }
        let area = ScanArea::new(start - record.start(), len, record.areas);
        match self.slots.add_area(area, &mut self.usage, source) {
            Some(area) => self.slots.update(handle, |record| record.areas = area),
            // Without memory for it all of the object is scanned: that finds less, but nothing wrong.
            None => self
                .slots
                .update(handle, |record| record.areas = Handle::NONE),
        }
    }

    fn warn_unknown(
        &mut self,
        kind: Kind,
        address: usize,
        frames: &mut dyn FnMut() -> Frames,
        source: &Source<'_>,
    ) {
        // It may be one of those for which there was no record.
        if self.unrecorded == 0 {
            self.warn(kind, address, &frames(), source);
        }
    }

    fn warn(&mut self, kind: Kind, address: usize, frames: &Frames, source: &Source<'_>) {
        self.warnings.note();
        let caller = self.depot.store(frames, &mut self.usage, source);
        if self.depot.mark(caller, kind as u32) {
            let allocated = self.warnings.last_allocation(address);
            self.warnings.push(Warning {
                kind,
                address: Hidden::new(address),
                caller,
                allocated,
            });
        }
    }

    /// The name's slot; none where there is no memory for it.
    fn name(&mut self, comm: Comm, source: &Source<'_>) -> Handle {
        let bytes = comm.as_str().bytes();
        let hash = bytes.fold(0_usize, |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(byte.into())
        });
        let bucket = hash % NAME_BUCKETS;
        let first = self.names[bucket];
        let mut here = first;
        while let Some(handle) = here.some() {
            let name = self.slots.name(handle);
            if name.comm == comm {
                return handle;
            }
            here = name.next;
        }
        match self.slots.add_name(comm, first, &mut self.usage, source) {
            Some(handle) => {
                self.names[bucket] = handle;
                handle
            }
            None => Handle::NONE,
        }
    }

    /// The name of the task that allocated a block.
    pub(crate) fn comm_of(&self, record: &Record) -> Comm {
        match record.comm.some() {
            Some(handle) => self.slots.name(handle).comm,
            None => Comm::new("?"),
        }
    }

    /// What is known of a call stack.
    pub(crate) fn frames_of(&self, trace: Trace) -> Frames {
        self.depot.get(trace)
    }

    /// Forgets everything and hands all pages back. After tracking has ended.
    pub(crate) fn empty(&mut self, give_back: &mut dyn FnMut(core::ptr::NonNull<u8>)) {
        self.slots.empty(give_back);
        self.depot.empty(give_back);
        self.registry.empty();
        self.usage.reset();
        self.pass = Pass::new();
        self.verdict = Verdict::new();
        self.names = [Handle::NONE; NAME_BUCKETS];
        self.warnings = Warnings::new();
        (self.objects, self.bytes) = (0, 0);
    }
}
