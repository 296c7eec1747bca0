//! Records: what is known of one block.
//!
//! Records live in slots of 64 bytes in metadata pages, and are named by handles. Nobody holds a reference
//! to one: a record is copied out, or one of its fields is set. A free slot is the link to the next free one.

use crate::depot::Trace;
use crate::hidden::Hidden;
use crate::pages::{Directory, PAGE_WORDS, Source, Usage};
use crate::platform::Comm;

/// Words of a slot.
const SLOT_WORDS: usize = 8;
/// Slots of a page.
const SLOTS: u32 = (PAGE_WORDS / SLOT_WORDS) as u32;

/// The name of a record (or of another slot): its place, plus one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(crate) struct Handle(u32);

impl Handle {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn is_some(self) -> bool {
        self != Self::NONE
    }

    pub(crate) fn some(self) -> Option<Self> {
        self.is_some().then_some(self)
    }

    /// A number that looks random and is always the same for the same handle: the order of the treap.
    pub(crate) fn scrambled(self) -> u32 {
        // The finalizer of MurmurHash3.
        let mut hash = self.0;
        hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
        hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
        hash ^ hash >> 16
    }
}

/// Bits of [`Record::flags`].
pub(crate) mod flag {
    /// The slot is a record, of a block that is allocated.
    pub(crate) const ALLOCATED: u16 = 1 << 0;
    /// The slot is a record of a block that has been freed, kept since the verdict names it.
    pub(crate) const FREED: u16 = 1 << 1;
    /// Another copy of a per-CPU block; `next` names its record.
    pub(crate) const ALIAS: u16 = 1 << 2;
    /// A per-CPU block: there are aliases.
    pub(crate) const PERCPU: u16 = 1 << 3;
    /// Its contents are not scanned.
    pub(crate) const NO_SCAN: u16 = 1 << 4;
    /// Found enough references to in this pass, and queued or scanned.
    pub(crate) const MARKED: u16 = 1 << 5;
    /// Lies inside a root, so its words are scanned there.
    pub(crate) const IN_ROOT: u16 = 1 << 6;
    /// In the gray queue: its slot is not to be given back before it is taken from there.
    pub(crate) const QUEUED: u16 = 1 << 7;
    /// White in the pass before.
    pub(crate) const WHITE_BEFORE: u16 = 1 << 8;
    /// Named by the verdict.
    pub(crate) const SUSPECT: u16 = 1 << 9;
    /// Has been told of in the log.
    pub(crate) const REPORTED: u16 = 1 << 10;
    /// Was told of, and is referenced again; to be told of.
    pub(crate) const REVIVED: u16 = 1 << 12;
    /// Allocated in an interrupt.
    pub(crate) const INTERRUPT: u16 = 1 << 11;
}

/// What is known of one block.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Record {
    pub(crate) start: Hidden,
    /// Bytes; at least 1.
    pub(crate) size: usize,
    /// When it was allocated, in microseconds of the platform's clock.
    pub(crate) birth_us: u64,
    /// Children in the tree.
    pub(crate) left: Handle,
    pub(crate) right: Handle,
    /// Words that must point at it for it to be alive; 0 gray, -1 black.
    pub(crate) min_count: i32,
    /// Words found that point at it.
    pub(crate) count: u32,
    pub(crate) trace: Trace,
    pub(crate) task: u32,
    /// The next one: in the gray queue, in the verdict; of an alias its record.
    pub(crate) next: Handle,
    /// The first of its scan areas.
    pub(crate) areas: Handle,
    /// The name of its task.
    pub(crate) comm: Handle,
    pub(crate) cpu: u16,
    pub(crate) flags: u16,
}

const _: () = assert!(size_of::<Record>() == SLOT_WORDS * 8);

impl Record {
    pub(crate) fn start(&self) -> usize {
        self.start.get()
    }

    /// Address after the last byte.
    pub(crate) fn end(&self) -> usize {
        self.start().saturating_add(self.size)
    }

    pub(crate) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Whether too few words point at it.
    pub(crate) fn is_white(&self) -> bool {
        self.min_count > 0 && i64::from(self.count) < i64::from(self.min_count)
    }
}

/// A part of a block that is scanned, where not all of it is.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct ScanArea {
    pub(crate) offset: usize,
    pub(crate) len: usize,
    pub(crate) next: Handle,
    padding: [u32; 11],
}

const _: () = assert!(size_of::<ScanArea>() == SLOT_WORDS * 8);

impl ScanArea {
    pub(crate) fn new(offset: usize, len: usize, next: Handle) -> Self {
        Self {
            offset,
            len,
            next,
            padding: [0; 11],
        }
    }
}

/// A task's name, kept once for all blocks of tasks of that name.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Name {
    pub(crate) comm: Comm,
    pub(crate) next: Handle,
    padding: [u32; 10],
}

const _: () = assert!(size_of::<Name>() == SLOT_WORDS * 8);

/// All slots.
pub(crate) struct Slots {
    pages: Directory,
    free: Handle,
    /// Slots of the newest page that have never been used.
    fresh: u32,
}

impl Slots {
    pub(crate) const fn new() -> Self {
        Self {
            pages: Directory::new(),
            free: Handle::NONE,
            fresh: 0,
        }
    }

    fn place(&self, handle: Handle) -> *mut u64 {
        debug_assert!(handle.is_some());
        let slot = handle.0 - 1;
        self.pages
            .page(slot / SLOTS)
            .wrapping_add((slot % SLOTS) as usize * SLOT_WORDS)
    }

    fn take(&mut self, usage: &mut Usage, source: &Source<'_>) -> Option<Handle> {
        if let Some(handle) = self.free.some() {
            self.free = self.get(handle).next;
            return Some(handle);
        }
        if self.fresh == 0 {
            self.pages.grow(usage, source)?;
            self.fresh = SLOTS;
        }
        let handle = Handle(self.pages.len() * SLOTS - self.fresh + 1);
        self.fresh -= 1;
        Some(handle)
    }

    /// Keeps a record. `None` where there is no memory.
    pub(crate) fn add(
        &mut self,
        record: Record,
        usage: &mut Usage,
        source: &Source<'_>,
    ) -> Option<Handle> {
        let handle = self.take(usage, source)?;
        self.set(handle, record);
        Some(handle)
    }

    /// Keeps a scan area. `None` where there is no memory.
    pub(crate) fn add_area(
        &mut self,
        area: ScanArea,
        usage: &mut Usage,
        source: &Source<'_>,
    ) -> Option<Handle> {
        let handle = self.take(usage, source)?;
        // SAFETY: a slot of ours, as large as an area; the lock is held.
        unsafe { self.place(handle).cast::<ScanArea>().write(area) };
        Some(handle)
    }

    /// Keeps a name, linked to `next`. `None` where there is no memory.
    pub(crate) fn add_name(
        &mut self,
        comm: Comm,
        next: Handle,
        usage: &mut Usage,
        source: &Source<'_>,
    ) -> Option<Handle> {
        let handle = self.take(usage, source)?;
        // SAFETY: a slot of ours, as large as a name; the lock is held.
        unsafe {
            self.place(handle).cast::<Name>().write(Name {
                comm,
                next,
                padding: [0; 10],
            })
        };
        Some(handle)
    }

    pub(crate) fn name(&self, handle: Handle) -> Name {
        // SAFETY: a slot of ours that holds a name.
        unsafe { self.place(handle).cast::<Name>().read() }
    }

    /// Gives a slot back, and a record's scan areas with it.
    pub(crate) fn release(&mut self, handle: Handle) {
        let record = self.get(handle);
        let mut areas = record.areas;
        while let Some(area) = areas.some() {
            areas = self.area(area).next;
            self.link_free(area);
        }
        self.link_free(handle);
    }

    fn link_free(&mut self, handle: Handle) {
        let free = Record {
            start: Hidden::NONE,
            size: 0,
            birth_us: 0,
            left: Handle::NONE,
            right: Handle::NONE,
            min_count: 0,
            count: 0,
            trace: Trace::NONE,
            task: 0,
            next: self.free,
            areas: Handle::NONE,
            comm: Handle::NONE,
            cpu: 0,
            flags: 0,
        };
        self.set(handle, free);
        self.free = handle;
    }

    pub(crate) fn get(&self, handle: Handle) -> Record {
        // SAFETY: a slot of ours, written when it was taken; all bits make a record.
        unsafe { self.place(handle).cast::<Record>().read() }
    }

    pub(crate) fn set(&mut self, handle: Handle, record: Record) {
        // SAFETY: a slot of ours; the lock is held.
        unsafe { self.place(handle).cast::<Record>().write(record) };
    }

    /// Changes a record in place.
    pub(crate) fn update(&mut self, handle: Handle, change: impl FnOnce(&mut Record)) {
        let mut record = self.get(handle);
        change(&mut record);
        self.set(handle, record);
    }

    pub(crate) fn area(&self, handle: Handle) -> ScanArea {
        // SAFETY: a slot of ours that holds an area.
        unsafe { self.place(handle).cast::<ScanArea>().read() }
    }

    /// The handles of all slots, used or not. A slot that holds something else looks like a free one: where
    /// a record has its flags it has zeros.
    pub(crate) fn handles(&self) -> impl Iterator<Item = Handle> + use<> {
        self.handles_from(0)
    }

    /// The same without the first `skip`.
    pub(crate) fn handles_from(&self, skip: u32) -> impl Iterator<Item = Handle> + use<> {
        let end = (self.pages.len() * SLOTS).saturating_sub(self.fresh);
        (skip + 1..=end).map(Handle)
    }

    pub(crate) fn empty(&mut self, give_back: &mut dyn FnMut(core::ptr::NonNull<u8>)) {
        self.pages.empty(give_back);
        self.free = Handle::NONE;
        self.fresh = 0;
    }
}
