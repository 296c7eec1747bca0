//! The detector, and the callbacks by which allocators tell it of their blocks.

pub(crate) mod clock;
pub(crate) mod mode;
pub(crate) mod names_in_use;
pub(crate) mod parts;
pub(crate) mod running_pass;
pub(crate) mod warnings;

use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use spin::mutex::SpinMutex;

use crate::checker::claim::{Claim, Findings, Holder, Nested};
use crate::front::background::MIN_AGE_US;
use crate::marker::Tools;
use crate::marker::queue::WorkQueues;
use crate::marker::roots::RootRanges;
use crate::metadata::kept::Kept;
use crate::metadata::keyed_list::KeyedList;
use crate::metadata::pool::{BootstrapPool, Pool};
use crate::metadata::{Memory, MetaAlloc};
use crate::objects::hazard::Hazard;
use crate::objects::page_map::chunk_of;
use crate::objects::record::{MANY, MAX_INLINE, MAX_MIN_COUNT, Record, flag};
use crate::objects::side_table::Area;
use crate::objects::vouching::Strangers;
use crate::objects::{Locked, Marked, Object, Refused, Registry, alias_owner, alias_record};
use crate::platform::address::{Address, Extent};
use crate::platform::{Context, Level, MAX_FRAMES, Platform};
use crate::stacks::depot::{Depot, Frames, Trace};
use crate::stacks::frame_walk::frame_pointer_walk;
use crate::stacks::task_names::TaskNames;
use crate::tracker::clock::Clock;
use crate::tracker::mode::{Mode, Modes};
use crate::tracker::running_pass::RunningPass;
use crate::tracker::warnings::{Kind, Warnings};

/// What an allocator says of a block beside its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocOptions {
    min_count: i32,
}

impl AllocOptions {
    /// A block of which one reference must be found.
    pub const fn new() -> Self {
        Self { min_count: 1 }
    }

    /// A block of which `min_count` references must be found: 2 for one that the allocator's own scanned
    /// bookkeeping points to as well; 0 for one that is no leak whatever is found (gray); -1 for one that
    /// is neither scanned nor reported (black). Up to 255 can be counted. Any other number is refused with a warning, and the
    /// block is recorded as one that needs one reference.
    pub const fn min_count(self, min_count: i32) -> Self {
        Self { min_count }
    }
}

impl Default for AllocOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// A leak detector, for a static.
///
/// Its first metadata comes from a [pool](Self::with_pool), then from [`Platform::metadata_alloc`].
///
/// # Callbacks
///
/// The methods that say "Any context" may be called in any context but a non-maskable interrupt, on several CPUs at
/// once, from the first instruction on, with no lock of the allocator held. They never sleep, print, allocate
/// or panic. What is wrong with a call is counted and told by [`drain_warnings`](Self::drain_warnings): so is a number
/// that is no address, or at which no block can be (null, an error code, what [`Platform::block_addresses`] leaves out).
///
/// An address in a further copy of a per-CPU block means the block, but for `free`.
///
/// An allocator calls `alloc` when a block is out of all free lists and `free` before it returns to one. What
/// an allocator does for its own bookkeeping it doesn't tell (Linux calls that NOLEAKTRACE): it is then
/// unseen, and pointers in it keep nothing alive.
pub struct Detector<P> {
    pub(crate) platform: P,
    pub(crate) modes: Modes,
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    /// Who has the claim, and what it leads to.
    pub(crate) holder: Holder,
    pub(crate) findings: Findings,
    /// Whether the check that goes on is asked to stop. Release and Acquire pair, though nothing is read by it: it is one word.
    pub(crate) stopping: AtomicBool,
    /// A pass goes on beside what runs: new blocks are marked.
    pub(crate) scanning: RunningPass,
    /// Nothing is recorded, as if memory were used up: see [`exhaust_metadata`](Self::exhaust_metadata). One word: Relaxed.
    exhausted: AtomicBool,
    pub(crate) registry: Registry,
    pub(crate) depot: Depot,
    pub(crate) task_names: TaskNames,
    pub(crate) memory: Memory,
    /// What is a root beside what the platform names, and what is none.
    pub(crate) root_ranges: RootRanges,
    /// Whether the platform is asked what can be read.
    pub(crate) strangers: Strangers,
    /// Tasks whose allocations are no leaks.
    disabled: KeyedList,
    pub(crate) queues: WorkQueues,
    pub(crate) hazard: Hazard,
    /// Suppressions from the kernel's source.
    pub(crate) const_suppressions: &'static [&'static str],
    pub(crate) warnings: SpinMutex<Warnings>,
    /// What found no room in metadata, since the last `clear`. Only counted, as the next, and `missed_frees`.
    pub(crate) unrecorded: AtomicU64,
    /// What found no room, ever.
    pub(crate) unrecorded_total: AtomicU64,
    /// Scopes and their reports, which have memory of ours. Whoever gives theirs back counts down with Release; who
    /// frees all memory loads it with Acquire.
    pub(crate) borrowed: AtomicUsize,
    /// Blocks that were found overlapped, so whose free was missed.
    pub(crate) missed_frees: AtomicU64,
    pub(crate) pool: Pool,
}

/// How much memory the detector takes for itself, beside the static that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Bytes of all its pages.
    pub bytes: usize,
    /// Of these, the records of objects, with the bitmaps that lead to them and what is noted beside.
    pub objects: usize,
    /// And the call stacks. The rest are the tables of the page map, queues, verdicts, and what is in store.
    pub call_stacks: usize,
}

/// What can be set at run time. One word each: Relaxed.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) skip_stacks: AtomicBool,
    pub(crate) background_off: AtomicBool,
    pub(crate) verbose: AtomicBool,
    pub(crate) free_stacks: AtomicBool,
    pub(crate) scan_every_us: AtomicU64,
    pub(crate) next_scan_us: AtomicU64,
    pub(crate) min_age_us: AtomicU64,
}

/// What became of what was in the way of a new block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evicted {
    /// Something was taken out.
    Some,
    /// Nothing was.
    None,
    /// It is the new one itself: a copy that a per-CPU block has on several CPUs.
    Itself,
}

/// Of what was at an address nothing is remembered: neither who allocated it nor who freed it.
const NO_TRACES: (Trace, Trace) = (Trace::NONE, Trace::NONE);

/// When the background task scans first.
pub(crate) const FIRST_SCAN_US: u64 = clock::FIRST_US + 60_000_000;
/// And how long it waits then.
pub(crate) const SCAN_EVERY_US: u64 = 600_000_000;

impl<P: Platform> Detector<P> {
    /// A detector that knows no blocks. It is on.
    pub const fn new(platform: P) -> Self {
        Self {
            platform,
            modes: Modes::new(),
            clock: Clock::new(),
            settings: Settings {
                skip_stacks: AtomicBool::new(false),
                background_off: AtomicBool::new(false),
                verbose: AtomicBool::new(false),
                free_stacks: AtomicBool::new(false),
                scan_every_us: AtomicU64::new(SCAN_EVERY_US),
                next_scan_us: AtomicU64::new(FIRST_SCAN_US),
                min_age_us: AtomicU64::new(MIN_AGE_US),
            },
            holder: Holder::new(),
            findings: Findings::new(),
            stopping: AtomicBool::new(false),
            scanning: RunningPass::new(),
            exhausted: AtomicBool::new(false),
            registry: Registry::new(),
            depot: Depot::new(),
            task_names: TaskNames::new(),
            memory: Memory::new(),
            root_ranges: RootRanges::new(),
            strangers: Strangers::new(),
            disabled: KeyedList::new(),
            queues: WorkQueues::new(),
            hazard: Hazard::new(),
            const_suppressions: &[],
            warnings: SpinMutex::new(Warnings::new()),
            unrecorded: AtomicU64::new(0),
            unrecorded_total: AtomicU64::new(0),
            borrowed: AtomicUsize::new(0),
            missed_frees: AtomicU64::new(0),
            pool: Pool::NONE,
        }
    }

    /// The same with memory for what is allocated before the platform can give any.
    pub const fn with_pool<const PAGES: usize>(
        mut self,
        pool: &'static BootstrapPool<PAGES>,
    ) -> Self {
        self.pool = pool.erased();
        self
    }

    /// The same with suppressions, as [`suppress`](Self::suppress) takes them. One that can't be taken is
    /// passed over.
    pub const fn with_suppressions(mut self, patterns: &'static [&'static str]) -> Self {
        self.const_suppressions = patterns;
        self
    }

    /// A block was handed out: `size` bytes at `start`. Any context.
    ///
    /// It is read only if [`Platform::readable`] vouches for it: the caller's word is not enough, but for that of a
    /// [`Tracked`](crate::Tracked).
    ///
    /// Where it overlaps blocks that are known, those were freed without a word: they are forgotten, and
    /// counted. It is white until a reference is found, unless `options` or a disabled scope say otherwise.
    #[inline(always)]
    pub fn alloc(&self, start: usize, size: usize, options: AllocOptions) {
        if !self.is_on() {
            return;
        }
        self.strangers.note();
        match options.min_count {
            -1..=MAX_INLINE => self.record(start, size, options.min_count),
            many => self.record_many(start, size, many),
        }
    }

    /// As [`alloc`](Self::alloc), of a block that needs no platform to vouch for it.
    ///
    /// # Safety
    ///
    /// The block is memory that can be read until it has been [freed](Self::free).
    #[inline(always)]
    pub(crate) unsafe fn alloc_vouched(&self, start: usize, size: usize) {
        if self.is_on() {
            self.record(start, size, 1);
        }
    }

    /// The block at `start` is given back. Its address must be the one it was handed out with. Any context.
    ///
    /// When it returns, the detector does not read the block any more.
    #[inline(always)]
    pub fn free(&self, start: usize) {
        if self.is_on() {
            self.forget(start);
        }
    }

    /// An allocator was told to free `address` and has refused: no block that a user has begins there, or it is to be freed
    /// in another way. Nothing that is known changes. A warning names the call stacks of the caller and of who allocated
    /// the block in which the address lies, or last lay. Any context.
    #[cold]
    pub fn refused_free(&self, address: usize) {
        self.callback(|meta| {
            let trace = |object: Object<'_>, _| object.record.read().trace();
            let traces = match self.registry.block_containing::<Locked, _>(address, trace) {
                Some(allocated) => (allocated, Trace::NONE),
                None => self.registry.last_traces(address),
            };
            self.warn(Kind::RefusedFree, address, traces, meta);
        });
    }

    /// The bytes from `start` on, `len` of them, are given back, of the block in which `start` lies. What remains
    /// before and after goes on as blocks of its own, with the age, the colour and the call stack of the whole, and its scan areas
    /// cut to what remains: a part that none of them reaches into is not scanned. Any context.
    ///
    /// Where there is no memory for metadata, what remains of a block that loses an end stays known, and so does
    /// what lies before a hole in its middle.
    pub fn free_part(&self, start: usize, len: usize) {
        self.callback(|meta| self.take_part(start, len, meta));
    }

    /// A per-CPU block was handed out: `size` bytes for each CPU, where [`Platform::percpu_copy`] says. A
    /// pointer to any copy, or the handle, keeps it alive; all copies are scanned; its size counts once. Any context.
    #[inline(always)]
    pub fn alloc_percpu(&self, handle: usize, size: usize) {
        if self.is_on() {
            self.strangers.note();
            self.record_percpu(handle, size);
        }
    }

    /// The per-CPU block with this handle is given back. Any context.
    #[inline(always)]
    pub fn free_percpu(&self, handle: usize) {
        if self.is_on() {
            self.forget(handle);
        }
    }

    /// The per-CPU block with this handle is neither scanned nor reported: it becomes black. Any context.
    pub fn ignore_percpu(&self, handle: usize) {
        self.ignore(handle);
    }

    /// A block of virtually contiguous memory was handed out, `size` bytes at `start`, and the object at `area`
    /// describes it and points to it: so it needs two references. Any context.
    ///
    /// Pointers to `area` beyond as many as that needs itself ([`AllocOptions::min_count`]) count for the block: of one
    /// that needs one, all but one. That is so wherever `area` lies and whatever keeps it alive, but for a black one, which passes
    /// nothing on. Where the block is an area itself, what it does not need goes on to its own block.
    ///
    /// For kernels whose bookkeeping is scanned; where it is not, [`alloc`](Self::alloc) will do.
    pub fn vmalloc(&self, start: usize, size: usize, area: usize) {
        if !self.is_on() {
            return;
        }
        self.strangers.note();
        self.record(start, size, 2);
        let mut kept = Kept::Yes;
        self.change(area, |object, meta| {
            kept = self
                .registry
                .side_table
                .add_excess(object.start, start, meta);
            if kept == Kept::Yes {
                object.set(flag::NOTES | flag::EXCESS);
            }
        });
        if !self.counted(kept) {
            // One of its references can't be told any more.
            self.callback(|_| {
                let change = |block: Object<'_>| block.set_min_count(1);
                self.registry.starting_at::<Locked, _>(start, change)
            });
        }
    }

    /// A block of physical memory was handed out, `size` bytes at physical address `start`: it is scanned where
    /// [`Platform::phys_to_virt`] says it is mapped, and is never reported (gray). Any context.
    pub fn alloc_phys(&self, start: usize, size: usize) {
        if self.is_on() {
            self.strangers.note();
            self.record_phys(start, size);
        }
    }

    /// As [`free_part`](Self::free_part), of a block of physical memory. Any context.
    pub fn free_part_phys(&self, start: usize, len: usize) {
        self.free_part(start, len);
    }

    /// The block of physical memory at `start` is not scanned any more: it becomes black. Any context.
    pub fn ignore_phys(&self, start: usize) {
        self.ignore(start);
    }

    /// The block at `start` is no leak, whatever is found: it becomes gray, and is scanned. Any context.
    pub fn not_leak(&self, start: usize) {
        self.change(start, |object, _| object.set_min_count(0));
    }

    /// The block at `start` is neither scanned nor reported: it becomes black. Any context.
    pub fn ignore(&self, start: usize) {
        self.change(start, |object, _| object.set_min_count(-1));
    }

    /// The block at `start` is reported when it is lost, but holds no pointers: it is not scanned. Its colour stays.
    /// Any context.
    pub fn no_scan(&self, start: usize) {
        self.change(start, |object, _| object.set(flag::NO_SCAN));
    }

    /// Of the block in which `start` lies, only these `len` bytes, and such as were named before, are
    /// scanned. An area that goes past the block's end is refused with a warning. Where there is no memory for it, all
    /// of the block is scanned. Any context.
    pub fn scan_area(&self, start: usize, len: usize) {
        enum Told {
            Done(Kept),
            TooLarge,
        }
        self.callback(|meta| {
            let add = |object: Object<'_>, offset: usize| {
                if len > self.registry.size(object.start, object.record) - offset {
                    return Told::TooLarge;
                }
                let side_table = &self.registry.side_table;
                let kept = side_table.add_area(object.start, Area { offset, len }, meta);
                match kept {
                    Kept::Yes => object.set(flag::NOTES),
                    Kept::NoMemory => side_table.drop_areas(object.start, meta),
                }
                Told::Done(kept)
            };
            match self.registry.block_containing::<Locked, _>(start, add) {
                Some(Told::Done(kept)) => _ = self.counted(kept),
                Some(Told::TooLarge) => self.warn(Kind::AreaTooLarge, start, NO_TRACES, meta),
                None => self.warn_unknown(Kind::UnknownObject, start, meta),
            }
        });
    }

    /// The block at `start` is unreachable for a while, as a node is that moves from one list to another: the
    /// background scan takes it for referenced once more, also if it has told of it. Any context.
    pub fn transient_leak(&self, start: usize) {
        self.change(start, |object, _| {
            object.record.clear(flag::PRIMED | flag::REPORTED);
        });
    }

    /// The block in which `start` lies now belongs to the caller: its call stack is the present one. For
    /// blocks that were allocated ahead of their use. Any context.
    pub fn update_trace(&self, start: usize) {
        self.callback(|meta| {
            let trace = self.trace(meta);
            let set = |object: Object<'_>, _| object.record.set_trace(trace);
            let there = self.registry.block_containing::<Locked, _>(start, set);
            if there.is_none() {
                self.warn_unknown(Kind::UnknownObject, start, meta);
            }
        });
    }

    /// `len` bytes at `start` are a root from now on. Any context. False where there is no memory to note it, and where it is
    /// no memory: in the first page, or not in one half of the address space. What a region holds that could not be noted may seem
    /// to be lost, so verdicts are incomplete then.
    ///
    /// Regions may overlap, touch, and lie in other roots or in tracked objects: each word of them is read once a pass,
    /// whatever covers it. A region that is added again, longer or shorter or the same, must be removed as often; as long as
    /// any of them is there, what they cover together is a root. Its memory must stay readable
    /// ([`Platform::readable`]).
    pub fn region_add(&self, start: usize, len: usize) -> bool {
        let add = |meta: &MetaAlloc<'_>| {
            if Extent::memory(start, len.max(1)).is_none() {
                self.warn(Kind::NoRegion, start, NO_TRACES, meta);
                return false;
            }
            self.strangers.note();
            self.counted(self.root_ranges.regions.add(start, len, meta))
        };
        self.callback(add) == Some(true)
    }

    /// Takes back the last [`region_add`](Self::region_add) of those that name this start. When it returns nothing is
    /// read there that a check or scan has not begun to read. Any context.
    pub fn region_remove(&self, start: usize) {
        self.callback(|meta| {
            // It may be what there was no memory for, if it can be one.
            let is_missing = self.is_incomplete() && Extent::memory(start, 1).is_some();
            if !self.root_ranges.regions.remove(start, meta) && !is_missing {
                self.warn(Kind::UnknownRegion, start, NO_TRACES, meta);
            }
        });
    }

    /// `len` bytes at `start` are in no root from now on, whatever names them, be it the platform or a region: memory in which an
    /// allocator keeps its own state, say, that lies among variables which are roots. Tracked objects that lie there are objects
    /// as any other. What is excluded again must be [included](Self::include) as often. Any context. False where
    /// there is no memory to note it.
    pub fn exclude(&self, start: usize, len: usize) -> bool {
        let excluded = &self.root_ranges.excluded;
        let add = |meta: &MetaAlloc<'_>| excluded.add(start, len, meta) == Kept::Yes;
        self.callback(add) == Some(true)
    }

    /// Takes back the last [`exclude`](Self::exclude) of those that name this start; false if there is none. Any context.
    pub fn include(&self, start: usize) -> bool {
        let excluded = &self.root_ranges.excluded;
        self.callback(|meta| excluded.remove(start, meta)) == Some(true)
    }

    /// From here on, what the running task allocates is no leak (gray), until as many
    /// [`disabled_end`](Self::disabled_end). Task context.
    pub fn disabled_begin(&self) {
        self.callback(|meta| {
            let task = self.platform.context().task;
            self.counted(self.disabled.add(task as usize, 0, meta));
        });
    }

    /// Ends what [`disabled_begin`](Self::disabled_begin) has begun. Task context.
    pub fn disabled_end(&self) {
        self.callback(|meta| {
            let task = self.platform.context().task;
            // Its beginning may be what there was no memory for.
            if !self.disabled.remove(task as usize, meta) && !self.is_incomplete() {
                self.warn(Kind::NotDisabled, 0, NO_TRACES, meta);
            }
        });
    }

    /// Clears a variable that holds a pointer which is to keep nothing alive, such as a slot of an
    /// allocator's cache that was emptied.
    ///
    /// # Safety
    ///
    /// The variable can be written to, and nobody else does.
    pub unsafe fn erase(&self, variable: *mut usize) {
        // SAFETY: the caller's promise.
        unsafe { variable.write_volatile(0) };
    }

    /// The kernel as the detector sees it.
    pub fn platform(&self) -> &P {
        &self.platform
    }

    /// Sets how old an object must be for the background scan to report it. Any context.
    pub fn set_min_age_us(&self, us: u64) {
        self.settings.min_age_us.store(us, Ordering::Relaxed);
    }

    /// From now on nothing can be recorded for want of memory, or it can again: what is in store counts as used up,
    /// and the platform is not asked. To try what a kernel does then. Any context.
    pub fn exhaust_metadata(&self, exhausted: bool) {
        self.exhausted.store(exhausted, Ordering::Relaxed);
        if exhausted {
            self.memory.refuse(0..u64::MAX);
        } else {
            self.memory.refuse_nothing();
        }
    }

    /// Refuses the detector's own requests for memory, pages or parts of them, that have these numbers, counted from
    /// now on: to try what becomes of each that may fail. Any context.
    pub fn refuse_metadata(&self, numbers: Range<u64>) {
        self.memory.refuse(numbers);
    }

    /// How many requests there were since [`refuse_metadata`](Self::refuse_metadata). Any context.
    pub fn metadata_requests(&self) -> u64 {
        self.memory.requests()
    }

    /// How much memory the detector takes for itself. Any context.
    pub fn metadata(&self) -> Metadata {
        Metadata {
            bytes: self.memory.bytes(),
            objects: self.memory.piece_bytes(),
            call_stacks: self.depot.bytes(),
        }
    }

    #[inline(never)]
    fn record(&self, start: usize, size: usize, min_count: i32) {
        let place = |size| Extent::block(&self.platform, start, size);
        self.record_at(start, size, min_count, 0, place);
    }

    #[inline(never)]
    fn record_phys(&self, start: usize, size: usize) {
        let place = |size| Extent::physical(start, size);
        self.record_at(start, size, 0, flag::PHYS, place);
    }

    /// Records a block, of one byte at least, if it has a place.
    #[inline(always)]
    fn record_at(
        &self,
        start: usize,
        size: usize,
        min_count: i32,
        flags: u16,
        place: impl FnOnce(usize) -> Option<Extent>,
    ) {
        let Some(entered) = self.enter() else { return };
        let context = self.platform.context();
        let meta = entered.meta_for(context.cpu);
        let trace = self.trace(&meta);
        let size = size.max(1);
        let Some(extent) = place(size) else {
            return self.warn_no_block(start, &meta);
        };
        let record = self.new_record(size, min_count, flags, trace, &context, &meta);
        self.counted(self.add(extent, &record, &meta));
    }

    /// The same for a block that needs more references than a record has room for, or more than there can be.
    #[cold]
    #[inline(never)]
    fn record_many(&self, start: usize, size: usize, min_count: i32) {
        let Some(entered) = self.enter() else { return };
        let context = self.platform.context();
        let meta = entered.meta_for(context.cpu);
        let trace = self.trace(&meta);
        let min_count = match min_count {
            -1..=MAX_MIN_COUNT => min_count,
            _ => {
                self.warn(Kind::BadMinCount, start, NO_TRACES, &meta);
                1
            }
        };
        let size = size.max(1);
        let Some(extent) = Extent::block(&self.platform, start, size) else {
            return self.warn_no_block(start, &meta);
        };
        let record = self.new_record(size, min_count, 0, trace, &context, &meta);
        let kept = self.add(extent, &record, &meta);
        self.counted(kept.and(|| match record.min_count() {
            MANY => self.note_references(start, min_count, &meta),
            _ => Kept::Yes,
        }));
    }

    /// Notes how many references a block needs that has been recorded. Where there is no memory, it needs as many as a
    /// record has room for: with fewer it would be no leak either.
    #[cold]
    fn note_references(&self, start: usize, needed: i32, meta: &MetaAlloc<'_>) -> Kept {
        let noted = self.registry.starting_at::<Locked, _>(start, |object| {
            let side_table = &self.registry.side_table;
            let kept = side_table.add_references(object.start, needed, meta);
            match kept {
                Kept::Yes => object.set(flag::NOTES),
                Kept::NoMemory => object.set_min_count(MAX_INLINE),
            }
            kept
        });
        // None where it was refused.
        noted.unwrap_or(Kept::Yes)
    }

    #[inline(always)]
    fn new_record(
        &self,
        size: usize,
        min_count: i32,
        mut flags: u16,
        trace: Trace,
        context: &Context,
        meta: &MetaAlloc<'_>,
    ) -> Record {
        let mut min_count = min_count;
        if context.level == Level::Interrupt {
            flags |= flag::INTERRUPT;
        } else if self.disabled.has(context.task as usize) {
            min_count = min_count.min(0);
        }
        let mut record = Record::new(size, trace, self.now_us(), min_count, flags);
        let comm = match self.task_names.remembered(context.task, context.cpu) {
            Some(number) => number,
            None => self.name_of_another(context, meta),
        };
        record.set_who(context.task, comm, context.cpu);
        record
    }

    /// The number of a task's name that its CPU does not remember.
    #[cold]
    #[inline(never)]
    fn name_of_another(&self, context: &Context, meta: &MetaAlloc<'_>) -> u32 {
        let comm = || self.platform.comm();
        self.task_names
            .number(context.task, context.cpu, comm, meta, &self.registry)
    }

    /// Records a block, in the place of whatever is said to be there.
    #[inline(always)]
    pub(crate) fn add(&self, extent: Extent, record: &Record, meta: &MetaAlloc<'_>) -> Kept {
        if self.exhausted.load(Ordering::Relaxed) {
            // Also where an index has room for one record more.
            return Kept::NoMemory;
        }
        let marked = self.marked();
        let stride = self.platform.slab_stride(extent.start().get());
        let inserted = self.registry.insert(extent, record, marked, stride, meta);
        if inserted.is_ok() && record.short_size() != u32::MAX {
            return Kept::Yes;
        }
        self.add_slow(extent, record, marked, meta, inserted)
    }

    /// Whether what is recorded now is marked.
    #[inline(always)]
    pub(crate) fn marked(&self) -> Marked {
        if self.scanning.goes_on() {
            Marked::Yes
        } else {
            Marked::No
        }
    }

    /// Goes on where there is no memory, where something is in the way, or where a note is to be kept.
    #[cold]
    #[inline(never)]
    fn add_slow(
        &self,
        extent: Extent,
        record: &Record,
        marked: Marked,
        meta: &MetaAlloc<'_>,
        mut inserted: Result<(), Refused>,
    ) -> Kept {
        /// How often what is in the way may be gone when it is looked at: another CPU takes it out just now.
        const VAIN: usize = 16;
        let stride = self.platform.slab_stride(extent.start().get());
        let mut vain = 0;
        // Each round takes an object out, or is one of a few that don't: so there is an end.
        while let Err(Refused::Overlaps(address)) = inserted {
            match self.evict_from(extent, record, address, meta) {
                Evicted::Some => {}
                Evicted::None if vain < VAIN => vain += 1,
                Evicted::None => break,
                Evicted::Itself => return Kept::Yes,
            }
            inserted = self.registry.insert(extent, record, marked, stride, meta);
        }
        match inserted {
            Err(_) => Kept::NoMemory,
            Ok(()) if record.short_size() == u32::MAX => self.note_size(extent, meta),
            Ok(()) => Kept::Yes,
        }
    }

    #[cold]
    fn note_size(&self, extent: Extent, meta: &MetaAlloc<'_>) -> Kept {
        let start = extent.start();
        let noted = self
            .registry
            .side_table
            .add_size(start.get(), extent.size(), meta);
        if noted == Kept::Yes {
            let mark = |object: Object<'_>| object.set(flag::NOTES);
            self.registry.starting_at::<Locked, _>(start.get(), mark);
        } else {
            self.registry.remove(start, meta);
            // Of the record alone the size can't be told.
            self.registry
                .map
                .unreach(start.chunk(), extent.last().chunk());
        }
        noted
    }

    #[inline(never)]
    fn record_percpu(&self, handle: usize, size: usize) {
        let Some(entered) = self.enter() else { return };
        let context = self.platform.context();
        let meta = entered.meta_for(context.cpu);
        let trace = self.trace(&meta);
        let size = size.max(1);
        match self.percpu_block(handle, size) {
            Ok(block) => {
                let record = self.new_record(size, 1, flag::PERCPU, trace, &context, &meta);
                self.counted(self.add_percpu(block, &record, &meta));
            }
            Err(number) => self.warn_no_block(number, &meta),
        }
    }

    /// A per-CPU block with this handle. All copies must lie where a block can be; else the number that is refused.
    fn percpu_block(&self, handle: usize, size: usize) -> Result<Extent, usize> {
        for cpu in 0..self.platform.cpus() {
            let copy = Extent::copy(&self.platform, handle, cpu, size);
            copy.ok_or_else(|| self.platform.percpu_copy(handle, cpu))?;
        }
        Extent::handle(handle, size).ok_or(handle)
    }

    fn add_percpu(&self, block: Extent, record: &Record, meta: &MetaAlloc<'_>) -> Kept {
        let (handle, size) = (block.start(), block.size());
        let mut kept = self.add(block, record, meta);
        let alias = alias_record(handle.get(), size);
        for cpu in 0..self.platform.cpus() {
            let copy = Extent::copy(&self.platform, handle.get(), cpu, size);
            // All copies have a place: that was looked at before.
            let Some(copy) = copy.filter(|copy| copy.start() != handle) else {
                continue;
            };
            kept = kept.and(|| self.add(copy, &alias, meta));
        }
        // Half of its copies would not do.
        if kept == Kept::NoMemory && self.registry.remove(handle, meta).is_some() {
            self.remove_copies(handle, meta);
        }
        kept
    }

    #[inline(never)]
    fn forget(&self, start: usize) {
        let Some(entered) = self.enter() else { return };
        let meta = entered.meta();
        let taken = Address::new(start).and_then(|address| {
            let flags = self.registry.take(address, &meta, |_, _| {})?;
            Some((address, flags))
        });
        match taken {
            Some((address, flags)) => {
                self.hazard.wait(start);
                if flags & flag::PERCPU != 0 {
                    self.remove_copies(address, &meta);
                }
                if self.settings.free_stacks.load(Ordering::Relaxed) {
                    self.note_free(start, &meta);
                }
            }
            None => self.warn_unknown(Kind::UnknownFree, start, &meta),
        }
    }

    /// Keeps the call stack that frees a block, for the day when it is freed again.
    #[cold]
    #[inline(never)]
    fn note_free(&self, start: usize, meta: &MetaAlloc<'_>) {
        let trace = self.depot.store(self.frames().as_slice(), meta);
        self.registry.note_free(start, trace);
    }

    /// Takes out the further copies of a per-CPU block that has been taken out.
    #[cold]
    fn remove_copies(&self, handle: Address, meta: &MetaAlloc<'_>) {
        for cpu in 0..self.platform.cpus() {
            let copy = self.platform.percpu_copy(handle.get(), cpu);
            if let Some(copy) = Address::new(copy).filter(|&copy| copy != handle) {
                self.registry.remove_alias(copy, handle.get(), meta);
            }
        }
    }

    /// Takes out what is in the way of a new block, from the one that `address` lies in on. One walk over the block's memory
    /// finds them all; if it began anew after each, many small ones under a large one would take as many walks.
    #[cold]
    fn evict_from(
        &self,
        new: Extent,
        record: &Record,
        address: usize,
        meta: &MetaAlloc<'_>,
    ) -> Evicted {
        let first = self.evict(new, record, address, meta);
        if first != Evicted::Some {
            return first;
        }
        let mut next = address;
        loop {
            let from = new.start().chunk().max(chunk_of(next).saturating_sub(1));
            match self.registry.look_beyond(from, new.last().get()) {
                Err(Refused::Overlaps(address)) => next = address,
                _ => return Evicted::Some,
            }
            if self.evict(new, record, next, meta) != Evicted::Some {
                // The next insertion tells why.
                return Evicted::Some;
            }
        }
    }

    /// The block that `address` lies in was freed without a word.
    #[cold]
    fn evict(&self, new: Extent, record: &Record, address: usize, meta: &MetaAlloc<'_>) -> Evicted {
        let old = self
            .registry
            .containing::<Locked, _>(address, |object| (object.start, object.owner()));
        let Some((start, owner)) = old else {
            return match self.registry.make_way(address, meta) {
                true => Evicted::Some,
                false => Evicted::None,
            };
        };
        let block = owner.unwrap_or(start);
        let own = record.has(flag::ALIAS) && alias_owner(record) == block;
        if own && start == new.start().get() {
            return Evicted::Itself;
        }
        // A block does not make room for its own copies. And what has the handle of an alias whose block is gone may be
        // another's.
        let goes = !own
            && match owner {
                Some(owner) => self
                    .registry
                    .percpu_at::<Locked, _>(owner, |_| ())
                    .is_some(),
                None => true,
            };
        let block_gone = goes && self.evict_block(new, block, meta);
        // The platform may know nothing of a block any more that was freed without a word.
        let alias_gone = owner.is_some_and(|owner| {
            Address::new(start).is_some_and(|copy| self.registry.remove_alias(copy, owner, meta))
        });
        if block_gone || alias_gone {
            Evicted::Some
        } else {
            Evicted::None
        }
    }

    /// The block at `start` was freed without a word. False if it is there no more.
    #[cold]
    fn evict_block(&self, new: Extent, start: usize, meta: &MetaAlloc<'_>) -> bool {
        let Some(address) = Address::new(start) else {
            return false;
        };
        let Some(removed) = self.registry.remove(address, meta) else {
            return false;
        };
        self.hazard.wait(start);
        if removed.record.has(flag::PERCPU) {
            self.remove_copies(address, meta);
        }
        self.missed_frees.fetch_add(1, Ordering::Relaxed);
        let traces = (removed.record.trace(), Trace::NONE);
        self.warn(Kind::Overlap, new.start().get(), traces, meta);
        true
    }

    /// Changes the block that starts at `start`, or of which a copy does.
    #[inline]
    fn change(&self, start: usize, change: impl FnOnce(Object<'_>, &MetaAlloc<'_>)) {
        self.callback(|meta| {
            let changed = self
                .registry
                .block_starting_at::<Locked, _>(start, |object| change(object, meta));
            if changed.is_none() {
                self.warn_unknown(Kind::UnknownObject, start, meta);
            }
        });
    }

    /// The name of the call stack that leads here. To be called from one place of each callback.
    #[inline(always)]
    fn trace(&self, meta: &MetaAlloc<'_>) -> Trace {
        match self.platform.stack_walk() {
            // SAFETY: the platform's promise: its own stack, all of which can be read.
            Some(walk) => unsafe { self.depot.record(&walk, meta.cpu, meta) },
            None => self.given_trace(meta),
        }
    }

    #[inline(never)]
    fn given_trace(&self, meta: &MetaAlloc<'_>) -> Trace {
        let mut frames = [0; MAX_FRAMES];
        let count = self.platform.call_stack(&mut frames).min(MAX_FRAMES);
        self.depot.store(&frames[..count], meta)
    }

    /// The call stack of a callback that is told of, from wherever it is asked for: without the detector's and the
    /// hooks' own frames.
    pub(crate) fn frames(&self) -> Frames {
        /// Frames of the detector itself, at most, before those that are kept.
        const OWN: usize = 8;
        let mut frames = Frames::NONE;
        let Some(walk) = self.platform.stack_walk() else {
            frames.len = self.platform.call_stack(&mut frames.addresses);
            return frames;
        };
        let mut all = [0; MAX_FRAMES + OWN];
        // SAFETY: the platform's promise: its own stack, all of which can be read.
        let count = unsafe { frame_pointer_walk(walk.frame_pointer, walk.stack, &mut all) };
        let skip = all[..count]
            .iter()
            .rposition(|address| walk.skip.contains(address))
            .map_or(0, |last| last + 1);
        frames.len = (count - skip).min(MAX_FRAMES);
        frames.addresses[..frames.len].copy_from_slice(&all[skip..skip + frames.len]);
        frames
    }

    /// Whether what the running task allocates is no leak.
    pub(crate) fn is_disabled(&self) -> bool {
        let task = self.platform.context().task as usize;
        self.without_interrupts(|_| self.disabled.has(task))
    }

    /// What the marker works with.
    pub(crate) fn tools(&self, cpu: u32) -> Tools<'_, P> {
        let start = core::ptr::from_ref(self).addr();
        let own = [start..start + size_of_val(self), self.pool.range()];
        Tools {
            platform: &self.platform,
            strangers: &self.strangers,
            registry: &self.registry,
            root_ranges: &self.root_ranges,
            queues: &self.queues,
            hazard: &self.hazard,
            stopping: &self.stopping,
            own,
            meta: self.claimed_meta(cpu),
        }
    }

    /// Records nothing from now on. For good.
    pub(crate) fn turn_off(&self) -> Result<(), Nested> {
        self.stopping.store(true, Ordering::Release);
        let claim = self.claim();
        if claim.is_ok() && self.is_on() {
            self.modes.set(Mode::Off);
        }
        self.stopping.store(false, Ordering::Release);
        claim.map(|_| ())
    }
}

impl<P: Platform> Claim<'_, P> {
    /// Gives all metadata back to the platform. Task context, after [`turn_off`](Detector::turn_off). Or tells why it stays: because a scope is open, or nobody can tell whether all callbacks have returned.
    pub(crate) fn free_metadata(&self) -> Result<(), &'static str> {
        if self.borrowed.load(Ordering::Acquire) > 0 {
            return Err("a scope or its report is in use");
        }
        // Once the world has stopped, nobody looks at metadata but who has the claim: see `mode`.
        self.modes.set(Mode::Gone);
        if self.platform.stop_world(&|_| {}).is_err() {
            self.modes.set(Mode::Off);
            return Err("the world can't be stopped to see that nobody uses it");
        }
        self.empty_findings();
        self.registry.empty();
        self.task_names.empty();
        self.root_ranges.empty();
        self.disabled.empty();
        self.queues.empty();
        *self.warnings.lock() = Warnings::new();
        // SAFETY: nobody uses it any more. Its pages are among those that are given back below.
        unsafe { self.depot.empty(&mut |_| {}) };
        self.claimed_meta(0).empty();
        Ok(())
    }
}
