//! The marker: finds what the roots reach.
//!
//! A pass goes through stages, each of which does a bounded piece of work at a time: so the same marker runs
//! to its end in a stopped world, and in small steps, with the lock open in between, where the world can't be
//! stopped.
//!
//! 1. *Whiten*: all counts to zero; gray objects are queued.
//! 2. *Overlay*: objects that lie inside a root are marked; their words are scanned with the root, once.
//! 3. *Roots*: each word of each root.
//! 4. *Gray*: each word of each queued object. What is found often enough is queued in turn, by a link in
//!    its record: no recursion, no memory.
//! 5. *Born*: what was allocated since the pass began is queued, and its words are scanned as well. (Not in
//!    a stopped world.)
//!
//! Then an object is a suspect if it is white: fewer words point at it than it needs.
//!
//! A word points at an object if it is an address of any of its bytes. A pointer from an object to itself does
//! not count, nor does one in the detector's own memory.

use core::ops::Range;

use crate::platform::{Platform, RootCursor, RootKind};
use crate::record::{Handle, Record, Slots, flag};
use crate::state::{State, copies_of};

/// Words that one step reads at most: 4 KiB.
const STEP_WORDS: usize = 512;
/// Records that one step looks at, at most.
const STEP_RECORDS: u32 = 256;

const WORD: usize = size_of::<usize>();

/// Whether task stacks are roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stacks {
    Scan,
    Skip,
}

/// Whether others run while the pass goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum World {
    Stopped,
    Running,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    Whiten,
    Overlay,
    Roots,
    Gray,
    Born,
}

/// Whether a pass has more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    More,
    Done,
}

/// A piece of memory that is being scanned; goes on at `start`.
type Piece = Range<usize>;

/// What a pass has seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) words: u64,
    pub(crate) candidates: u64,
    pub(crate) hits: u64,
}

/// Where a pass is.
pub(crate) struct Pass {
    stage: Stage,
    stacks: Stacks,
    world: World,
    /// When it began.
    pub(crate) start_us: u64,
    cursor: RootCursor,
    /// The number of the next record to look at, in the stages that look at all.
    record: u32,
    piece: Piece,
    /// The rest of a root that the detector lies in the middle of.
    rest: Piece,
    /// The object whose words are being scanned.
    source: Handle,
    /// Which copy of it, and which of its scan areas.
    copy: usize,
    area: Handle,
    queue_first: Handle,
    queue_last: Handle,
    pub(crate) figures: Figures,
}

impl Pass {
    pub(crate) const fn new() -> Self {
        Self {
            stage: Stage::Idle,
            stacks: Stacks::Scan,
            world: World::Stopped,
            start_us: 0,
            cursor: RootCursor { stage: 0, index: 0 },
            record: 0,
            piece: 0..0,
            rest: 0..0,
            source: Handle::NONE,
            copy: 0,
            area: Handle::NONE,
            queue_first: Handle::NONE,
            queue_last: Handle::NONE,
            figures: Figures {
                words: 0,
                candidates: 0,
                hits: 0,
            },
        }
    }

    fn push(&mut self, slots: &mut Slots, handle: Handle) {
        slots.update(handle, |record| {
            record.flags |= flag::MARKED | flag::QUEUED;
            record.next = Handle::NONE;
        });
        match self.queue_last.some() {
            Some(last) => slots.update(last, |record| record.next = handle),
            None => self.queue_first = handle,
        }
        self.queue_last = handle;
    }

    fn pop(&mut self, slots: &mut Slots) -> Option<Handle> {
        let handle = self.queue_first.some()?;
        self.queue_first = slots.get(handle).next;
        if !self.queue_first.is_some() {
            self.queue_last = Handle::NONE;
        }
        slots.update(handle, |record| record.flags &= !flag::QUEUED);
        Some(handle)
    }

    /// An object became gray: a pass that goes on is to scan it.
    pub(crate) fn queue_late(&mut self, slots: &mut Slots, handle: Handle) {
        let begun = !matches!(self.stage, Stage::Idle | Stage::Whiten);
        if begun && !slots.get(handle).has(flag::MARKED) {
            self.push(slots, handle);
        }
    }

    /// An object is freed: from here on it is not to be read.
    pub(crate) fn leave(&mut self, handle: Handle) {
        if self.source == handle {
            self.piece = 0..0;
            self.source = Handle::NONE;
        }
    }
}

/// What the marker reads with.
pub(crate) struct Reader<'a> {
    pub(crate) platform: &'a dyn Platform,
    /// The detector's own static memory.
    pub(crate) own: Range<usize>,
}

impl State {
    /// Begins a pass. The verdict before is gone with it: its records are used again.
    pub(crate) fn begin_pass(&mut self, world: World, stacks: Stacks, now_us: u64) {
        self.verdict.number += 1;
        self.verdict.first = Handle::NONE;
        self.pass = Pass {
            stage: Stage::Whiten,
            stacks,
            world,
            start_us: now_us,
            ..Pass::new()
        };
    }

    /// Gives a pass up.
    pub(crate) fn abandon_pass(&mut self) {
        while let Some(handle) = self.pass.pop(&mut self.slots) {
            if self.slots.get(handle).has(flag::FREED) {
                self.slots.release(handle);
            }
        }
        self.pass = Pass::new();
    }

    /// Does a bounded piece of the pass.
    pub(crate) fn step(&mut self, reader: &Reader<'_>) -> Step {
        match self.pass.stage {
            Stage::Idle => return Step::Done,
            Stage::Whiten => self.for_some_records(Self::whiten, Stage::Overlay),
            Stage::Overlay => self.overlay(reader),
            Stage::Roots => self.roots(reader),
            Stage::Gray => self.gray(reader),
            Stage::Born => self.for_some_records(Self::queue_born, Stage::Gray),
        }
        if self.pass.stage == Stage::Idle {
            Step::Done
        } else {
            Step::More
        }
    }

    /// Looks at some more records; after the last one goes on with `next`.
    fn for_some_records(&mut self, look: fn(&mut Self, Handle, Record), next: Stage) {
        let mut looked = 0;
        for handle in self
            .slots
            .handles_from(self.pass.record)
            .take(STEP_RECORDS as usize)
        {
            looked += 1;
            let record = self.slots.get(handle);
            if record.has(flag::ALLOCATED | flag::FREED) {
                look(self, handle, record);
            }
        }
        self.pass.record += looked;
        if looked < STEP_RECORDS {
            self.pass.record = 0;
            self.pass.stage = next;
        }
    }

    fn whiten(&mut self, handle: Handle, record: Record) {
        if record.has(flag::FREED) {
            // Kept for the verdict before.
            return self.slots.release(handle);
        }
        if record.has(flag::ALIAS) {
            return;
        }
        self.slots.update(handle, |record| {
            record.count = 0;
            record.flags &= !(flag::MARKED | flag::IN_ROOT | flag::SUSPECT | flag::QUEUED);
        });
        if record.min_count == 0 {
            self.pass.push(&mut self.slots, handle);
        }
    }

    fn queue_born(&mut self, handle: Handle, record: Record) {
        let born = record.birth_us >= self.pass.start_us && record.has(flag::ALLOCATED);
        if born && !record.has(flag::ALIAS | flag::MARKED) && record.min_count >= 0 {
            self.pass.push(&mut self.slots, handle);
        }
    }

    /// The next root that is to be scanned.
    fn next_root(&mut self, reader: &Reader<'_>) -> Option<Piece> {
        loop {
            let root = reader.platform.next_root(&mut self.pass.cursor)?;
            let is_stack = matches!(root.kind, RootKind::Stack(_) | RootKind::Registers(_));
            if is_stack && self.pass.stacks == Stacks::Skip {
                continue;
            }
            if root.len > 0 && reader.platform.readable(root.start, root.len) {
                return Some(root.start..root.start.saturating_add(root.len));
            }
        }
    }

    fn overlay(&mut self, reader: &Reader<'_>) {
        let Some(root) = self.next_root(reader) else {
            self.pass.cursor = RootCursor::default();
            self.pass.stage = Stage::Roots;
            return;
        };
        let mut from = root.start;
        while let Some((handle, record)) = self.registry.at_or_after(&self.slots, from)
            && record.start() < root.end
        {
            if record.end() <= root.end && !record.has(flag::ALIAS | flag::PERCPU) {
                self.slots.update(handle, |record| {
                    record.flags |= flag::MARKED | flag::IN_ROOT
                });
            }
            from = record.end();
        }
    }

    fn roots(&mut self, reader: &Reader<'_>) {
        if self.pass.piece.is_empty() {
            if !self.pass.rest.is_empty() {
                self.pass.piece = core::mem::take(&mut self.pass.rest);
            } else if let Some(root) = self.next_root(reader) {
                (self.pass.piece, self.pass.rest) = without(&root, &reader.own);
            } else {
                self.pass.stage = Stage::Gray;
            }
            return;
        }
        self.read_some(reader);
    }

    fn gray(&mut self, reader: &Reader<'_>) {
        if !self.pass.piece.is_empty() {
            return self.read_some(reader);
        }
        if self.pass.source.is_some() && self.next_piece(reader) {
            return;
        }
        match self.pass.pop(&mut self.slots) {
            Some(handle) => self.open(handle),
            None if self.pass.world == World::Running && self.some_are_born() => {
                self.pass.stage = Stage::Born;
            }
            None => self.pass.stage = Stage::Idle,
        }
    }

    /// Whether anything was allocated since the pass began that is not marked yet.
    fn some_are_born(&self) -> bool {
        self.slots.handles().any(|handle| {
            let record = self.slots.get(handle);
            record.has(flag::ALLOCATED)
                && !record.has(flag::ALIAS | flag::MARKED)
                && record.birth_us >= self.pass.start_us
                && record.min_count >= 0
        })
    }

    /// Begins with the words of a queued object.
    fn open(&mut self, handle: Handle) {
        let record = self.slots.get(handle);
        if record.has(flag::FREED) {
            return self.slots.release(handle);
        }
        if record.has(flag::NO_SCAN | flag::IN_ROOT) {
            return;
        }
        self.pass.source = handle;
        self.pass.copy = 0;
        self.pass.area = record.areas;
    }

    /// Goes on with the next area, or copy, of the object that is being scanned; false after the last.
    fn next_piece(&mut self, reader: &Reader<'_>) -> bool {
        let record = self.slots.get(self.pass.source);
        let copy = if record.has(flag::PERCPU) {
            copies_of(record.start(), reader.platform).nth(self.pass.copy)
        } else {
            Some(record.start()).filter(|_| self.pass.copy == 0)
        };
        let Some(copy) = copy else {
            self.pass.source = Handle::NONE;
            return false;
        };
        let (offset, len) = match self.pass.area.some() {
            Some(area) => {
                let area = self.slots.area(area);
                self.pass.area = area.next;
                (area.offset, area.len)
            }
            None => (0, record.size),
        };
        if !self.pass.area.is_some() {
            // The last area, or the whole: what comes next is another copy.
            self.pass.copy += 1;
            self.pass.area = record.areas;
        }
        let start = copy + offset;
        if len > 0 && reader.platform.readable(start, len) {
            self.pass.piece = start..start + len;
        }
        true
    }

    /// Reads some words of the piece that is being scanned.
    fn read_some(&mut self, reader: &Reader<'_>) {
        let start = self.pass.piece.start.next_multiple_of(WORD);
        let end = self.pass.piece.end;
        let mut address = start;
        let stop = start.saturating_add(STEP_WORDS * WORD);
        while address < stop && address + WORD <= end {
            // SAFETY: inside a root, or inside a tracked block: who frees it takes the lock that we hold
            // before the block can be used for anything else. Aligned.
            let word = unsafe { reader.platform.read_word(address) };
            self.look_at(reader.platform.untag(word));
            address += WORD;
        }
        self.pass.figures.words += ((address - start) / WORD) as u64;
        self.pass.piece = if address + WORD <= end {
            address..end
        } else {
            0..0
        };
    }

    /// One scanned word: does it point at an object?
    fn look_at(&mut self, word: usize) {
        if !self.registry.may_contain(word) {
            return;
        }
        self.pass.figures.candidates += 1;
        let Some((handle, record)) = self.object_at(word) else {
            return;
        };
        if handle == self.pass.source || record.min_count < 0 {
            return;
        }
        self.pass.figures.hits += 1;
        let count = record.count.saturating_add(1);
        self.slots.update(handle, |record| record.count = count);
        if !record.has(flag::MARKED) && i64::from(count) >= i64::from(record.min_count) {
            self.pass.push(&mut self.slots, handle);
        }
    }
}

/// The parts of `root` before and after `own`; the first is not empty unless both are.
fn without(root: &Piece, own: &Piece) -> (Piece, Piece) {
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
