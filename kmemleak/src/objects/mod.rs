//! The registry: which objects there are, by address.
//!
//! The page map leads to the index of a chunk, which has the records of the objects that start there; notes have
//! what is rare. Looking an object up takes the same time however many there are, and who allocates or frees in
//! one chunk has nothing to do with who does in another: no common lock, no common cache line.
//!
//! It is asked by numbers: by whatever word was scanned, or by what a person or an allocator has named. A look-up is where such a
//! number becomes an [`Address`] or finds nothing; what is put in or taken out is named by an address from the start.
//!
//! A per-CPU block has one object, and an *alias* for each further copy of its memory. An address in a copy means the block
//! ([`Registry::block_containing`]).
//!
//! # Invariants
//!
//! - One byte belongs to one object at most. [`Registry::insert`] refuses a block that overlaps one that is
//!   known, and names it.
//! - An object is taken out in one place ([`Registry::take_if`]), which knows where starts are kept.
//! - Of an object, the start is in its chunk before other chunks are said to be reached into, and is taken
//!   out of it before they are said not to be.
//! - Objects are looked at under the lock of the chunk they start in, or with the world stopped ([`Access`]).

pub(crate) mod chunk;
pub(crate) mod hazard;
pub(crate) mod page_map;
pub(crate) mod record;
pub(crate) mod root_ranges;
pub(crate) mod side_table;
pub(crate) mod vouching;
pub(crate) mod word_lock;

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::metadata::MetaAlloc;
use crate::metadata::kept::Kept;
use crate::objects::chunk::{Chunk, Emptied, GRANULE, granule_of, info, share_at};
use crate::objects::page_map::{
    Blocked, CHUNK, ChunkNumber, Look, PageMap, address_of, chunk_of, leaf_of,
};
use crate::objects::record::{MANY, Record, RecordRef, flag};
use crate::objects::side_table::{Area, Odd, SideTable};
use crate::platform::address::{Address, Extent};
use crate::stacks::depot::StackId;

/// How chunks are opened and closed.
pub(crate) trait Access {
    /// Whether the world is stopped.
    const STOPPED: bool;
    /// Before it is looked at.
    fn open(chunk: Chunk);
    /// Done with it.
    fn close(chunk: Chunk);
}

/// Others allocate and free meanwhile: chunks are locked. Interrupts are off.
pub(crate) struct Locked;

/// Nobody does: the world is stopped.
pub(crate) struct Stopped;

impl Access for Locked {
    const STOPPED: bool = false;

    #[inline(always)]
    fn open(chunk: Chunk) {
        chunk.lock();
    }

    #[inline(always)]
    fn close(chunk: Chunk) {
        chunk.unlock();
    }
}

impl Access for Stopped {
    const STOPPED: bool = true;

    #[inline(always)]
    fn open(_: Chunk) {}

    #[inline(always)]
    fn close(_: Chunk) {}
}

/// Where the mark of an object is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark<'a> {
    word: &'a AtomicU64,
    bit: u64,
}

impl Mark<'_> {
    #[inline(always)]
    pub(crate) fn is_set(self) -> bool {
        self.word.load(Ordering::Relaxed) & self.bit != 0
    }

    #[inline(always)]
    pub(crate) fn clear(self) {
        self.word.fetch_and(!self.bit, Ordering::Relaxed);
    }

    /// Sets it, and tells whether it was not set before: to one CPU of all that try.
    #[inline(always)]
    pub(crate) fn set(self) -> bool {
        self.word.fetch_or(self.bit, Ordering::Relaxed) & self.bit == 0
    }
}

/// An object that is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object<'a> {
    pub(crate) start: usize,
    pub(crate) record: RecordRef,
    pub(crate) mark: Mark<'a>,
    pub(crate) chunk: Chunk,
}

impl Object<'_> {
    /// Sets how many references it needs.
    pub(crate) fn set_min_count(&self, min_count: i32) {
        self.record.set_min_count(min_count);
        self.chunk.set(info::SPECIAL);
    }

    /// One more reference was found. Whether there are as many as it needs.
    pub(crate) fn count_reference(&self, side_table: &SideTable) -> bool {
        let enough = self.record.count_reference();
        // Where there was no memory for a note, or is none yet, the object is no leak.
        enough.unwrap_or_else(|| side_table.count_reference(self.start).unwrap_or(true))
    }

    /// A pass begins: no reference has been found.
    pub(crate) fn reset_count(&self, side_table: &SideTable) {
        self.record.reset_count();
        if self.record.min_count() == MANY {
            side_table.reset_count(self.start);
        }
    }

    /// Sets flags of its record.
    pub(crate) fn set(&self, flags: u16) {
        self.record.set(flags);
        if flags & flag::SPECIAL != 0 {
            self.chunk.set(info::SPECIAL);
        }
    }

    /// Of an alias: the handle of the block that it is a copy of.
    pub(crate) fn owner(&self) -> Option<usize> {
        self.record
            .has(flag::ALIAS)
            .then(|| alias_owner(&self.record.read()))
    }
}

/// An object that has been taken out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Removed {
    pub(crate) record: Record,
}

/// Why a block can't be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    NoMemory,
    /// The byte at this address is another's.
    Overlaps(usize),
}

/// All objects.
pub(crate) struct Registry {
    pub(crate) map: PageMap,
    pub(crate) side_table: SideTable,
    emptied: Emptied,
    /// The lowest byte of all objects that there ever were. Relaxed, as the three below: they only widen. A pass reads them at
    /// its start. In a stopped world the stop has ordered all that was recorded; what is recorded beside a pass and not seen is
    /// new, and is judged by its birth.
    lowest: AtomicUsize,
    /// The last byte of the highest object.
    highest: AtomicUsize,
    /// The tables that all objects are in, physical memory's included: the first, and the one after the last.
    first_leaf: AtomicUsize,
    end_leaf: AtomicUsize,
}

impl Registry {
    pub(crate) const fn new() -> Self {
        Self {
            map: PageMap::new(),
            side_table: SideTable::new(),
            emptied: Emptied::new(),
            lowest: AtomicUsize::new(usize::MAX),
            highest: AtomicUsize::new(0),
            first_leaf: AtomicUsize::new(usize::MAX),
            end_leaf: AtomicUsize::new(0),
        }
    }

    /// All objects that there ever were lie in so many bytes from this address on.
    pub(crate) fn span(&self) -> (usize, usize) {
        let lowest = self.lowest.load(Ordering::Relaxed);
        let highest = self.highest.load(Ordering::Relaxed);
        // No block lies in the first page, so the sum is a number.
        let bytes = highest.checked_sub(lowest).map_or(0, |bytes| bytes + 1);
        (lowest, bytes)
    }

    /// The numbers of the page map's tables that all objects are in.
    pub(crate) fn leaves(&self) -> core::ops::Range<usize> {
        self.first_leaf.load(Ordering::Relaxed)..self.end_leaf.load(Ordering::Relaxed)
    }

    /// The size of an object.
    #[inline(always)]
    pub(crate) fn size(&self, start: usize, record: RecordRef) -> usize {
        self.size_from(start, record.short_size())
    }

    /// The same, of what the object's record says.
    #[inline(always)]
    pub(crate) fn size_from(&self, start: usize, short: u32) -> usize {
        match short {
            u32::MAX => self.long_size(start),
            size => size as usize,
        }
    }

    #[cold]
    fn long_size(&self, start: usize) -> usize {
        self.side_table.size(start).unwrap_or(u32::MAX as usize)
    }

    /// How many references an object needs, 0 for a gray and -1 for a black one; and how many were found, where it
    /// needs several.
    pub(crate) fn references(&self, start: usize, record: &Record) -> (i32, u32) {
        let noted = (record.min_count() == MANY).then(|| self.side_table.references(start));
        noted
            .flatten()
            .unwrap_or((record.min_count(), record.count()))
    }

    /// The last object of a chunk that starts at `address` or before.
    #[inline(always)]
    pub(crate) fn last_start<'a>(
        &self,
        number: ChunkNumber,
        chunk: Chunk,
        address: usize,
    ) -> Option<Object<'a>> {
        let starts = chunk.starts().load(Ordering::Relaxed);
        let before = starts & (u64::MAX >> (63 - granule_of(address)));
        let found = (before != 0).then(|| object_in(number, chunk, 63 - before.leading_zeros()));
        if chunk.has(info::ODD) {
            return self.last_of(number, chunk, address, found);
        }
        found
    }

    #[cold]
    fn last_of<'a>(
        &self,
        number: ChunkNumber,
        chunk: Chunk,
        address: usize,
        even: Option<Object<'a>>,
    ) -> Option<Object<'a>> {
        let odd = self.side_table.odd_at_or_before(number, address);
        match (even, odd) {
            (Some(even), Some(odd)) if even.start > odd.start => Some(even),
            (even, None) => even,
            (_, Some(odd)) => Some(odd_object(chunk, odd)),
        }
    }

    /// Shows the object that a number points into, if it is an address in one. One past the end is not in it.
    #[inline(always)]
    pub(crate) fn containing<A: Access, R>(
        &self,
        number: usize,
        look: impl FnOnce(Object<'_>) -> R,
    ) -> Option<R> {
        let address = Address::new(number)?.get();
        let number = chunk_of(address);
        if let Look::Entry(chunk) = self.map.look(number)
            && chunk.is_used()
        {
            A::open(chunk);
            if let Some(object) = self.last_start(number, chunk, address) {
                let result = self.has_byte(object, address).then(|| look(object));
                A::close(chunk);
                return result;
            }
            A::close(chunk);
        }
        self.reaching::<A, R>(number, address, look)
    }

    /// Whether a byte at the start of an object or after it is one of the object's.
    #[inline(always)]
    fn has_byte(&self, object: Object<'_>, address: usize) -> bool {
        address - object.start < self.size(object.start, object.record)
    }

    /// The same where no object starts in the chunk at `address` or before.
    #[inline(never)]
    fn reaching<A: Access, R>(
        &self,
        number: ChunkNumber,
        address: usize,
        look: impl FnOnce(Object<'_>) -> R,
    ) -> Option<R> {
        let first = self.map.reaching(number)?;
        let Look::Entry(chunk) = self.map.look(first) else {
            return None;
        };
        A::open(chunk);
        let last = address_of(first) + (CHUNK - 1);
        let result = self
            .last_start(first, chunk, last)
            .filter(|&object| self.has_byte(object, address))
            .map(look);
        A::close(chunk);
        result
    }

    /// Shows the object that starts at a number, if it is an address where one starts.
    pub(crate) fn starting_at<A: Access, R>(
        &self,
        start: usize,
        look: impl FnOnce(Object<'_>) -> R,
    ) -> Option<R> {
        let number = Address::new(start)?.chunk();
        let Look::Entry(chunk) = self.map.look(number) else {
            return None;
        };
        A::open(chunk);
        let found = self
            .last_start(number, chunk, start)
            .filter(|object| object.start == start);
        let result = found.map(look);
        A::close(chunk);
        result
    }

    /// Shows the block that a number points into, or into a further copy of it; and how far from the start of the block or
    /// the copy.
    pub(crate) fn block_containing<A: Access, R>(
        &self,
        number: usize,
        look: impl FnOnce(Object<'_>, usize) -> R,
    ) -> Option<R> {
        let mut look = Some(look);
        let mut show = |object: Object<'_>, offset| look.take().map(|look| look(object, offset));
        let shown = self.containing::<A, _>(number, |object| {
            let offset = number - object.start;
            match object.owner() {
                Some(owner) => Err((owner, offset)),
                None => Ok(show(object, offset)),
            }
        });
        match shown? {
            Ok(shown) => shown,
            Err((owner, offset)) => self.percpu_at::<A, _>(owner, |object| show(object, offset))?,
        }
    }

    /// Shows the block that starts at a number, or of which a further copy does.
    pub(crate) fn block_starting_at<A: Access, R>(
        &self,
        number: usize,
        look: impl FnOnce(Object<'_>) -> R,
    ) -> Option<R> {
        let show = |object: Object<'_>, offset| (offset == 0).then(|| look(object));
        self.block_containing::<A, _>(number, show)?
    }

    /// Shows the per-CPU block with this handle. What has the handle of an alias whose block is gone may be another's.
    pub(crate) fn percpu_at<A: Access, R>(
        &self,
        handle: usize,
        look: impl FnOnce(Object<'_>) -> R,
    ) -> Option<R> {
        self.starting_at::<A, _>(handle, |object| {
            object.record.has(flag::PERCPU).then(|| look(object))
        })?
    }

    /// Records a block. `marked`: for the pass that goes on. `stride`: how far apart such blocks lie, where that is
    /// known.
    #[inline(always)]
    pub(crate) fn insert(
        &self,
        extent: Extent,
        record: &Record,
        marked: Marked,
        stride: Option<usize>,
        meta: &MetaAlloc<'_>,
    ) -> Result<(), Refused> {
        let (start, last) = (extent.start().get(), extent.last().get());
        let number = chunk_of(start);
        if chunk_of(last) != number {
            self.look_beyond(number, last)?;
        }
        let chunk = match self.map.entry(number, meta) {
            Ok(chunk) => chunk,
            Err(Blocked::NoMemory) => return Err(Refused::NoMemory),
            Err(Blocked::Run(_)) => return Err(Refused::Overlaps(start)),
        };
        if chunk.reach() != 0 {
            self.look_before(start)?;
        }
        chunk.lock();
        if let Some(other) = self.conflict(number, chunk, start, last) {
            chunk.unlock();
            return Err(Refused::Overlaps(other));
        }
        let granule = granule_of(start);
        if !start.is_multiple_of(GRANULE) {
            let added = self.add_odd(chunk, start, record, marked, meta);
            chunk.unlock();
            added?;
        } else {
            let starts = chunk.starts().load(Ordering::Relaxed);
            let wanted = chunk::pace_for(extent.size(), stride);
            let fits = if starts == 0 {
                chunk.serves(wanted)
            } else {
                starts & chunk.share(granule) == 0
            };
            if !fits {
                let made = make_fit(chunk, start, starts, wanted, meta);
                if made.is_err() {
                    chunk.unlock();
                    return made;
                }
            }
            let place = chunk.record(granule);
            place.write(record);
            let bit = 1 << granule;
            if marked == Marked::Yes {
                place.set(flag::BORN);
                chunk.set(info::BORN);
                chunk.marks().fetch_or(bit, Ordering::Relaxed);
            }
            if !record.is_plain() {
                chunk.set(info::SPECIAL);
            }
            chunk.starts().store(starts | bit, Ordering::Release);
            chunk.unlock();
        }
        if start < self.lowest.load(Ordering::Relaxed)
            || last > self.highest.load(Ordering::Relaxed)
        {
            self.widen(start, last, record);
        }
        if chunk_of(last) != number {
            self.spread(extent, meta)?;
        }
        Ok(())
    }

    #[cold]
    fn widen(&self, start: usize, last: usize, record: &Record) {
        // Nothing points to physical memory by its physical address.
        if !record.has(flag::PHYS) {
            self.lowest.fetch_min(start, Ordering::Relaxed);
            self.highest.fetch_max(last, Ordering::Relaxed);
        }
        self.first_leaf.fetch_min(leaf_of(start), Ordering::Relaxed);
        self.end_leaf
            .fetch_max(leaf_of(last) + 1, Ordering::Relaxed);
    }

    #[cold]
    fn add_odd(
        &self,
        chunk: Chunk,
        start: usize,
        record: &Record,
        marked: Marked,
        meta: &MetaAlloc<'_>,
    ) -> Result<(), Refused> {
        let (record, mark) = match marked {
            Marked::Yes => (record.with(flag::BORN), 1),
            Marked::No => (*record, 0),
        };
        if !chunk.is_used() && chunk.is_covered() {
            return Err(Refused::Overlaps(start));
        }
        if self.side_table.add_odd(start, &record, mark, meta) == Kept::NoMemory {
            return Err(Refused::NoMemory);
        }
        if !chunk.has(info::ODD) {
            chunk.add_user();
        }
        chunk.set(info::ODD | info::SPECIAL);
        if marked == Marked::Yes {
            chunk.set(info::BORN);
        }
        Ok(())
    }

    /// An object in this chunk, where a block is to be, from `start` to `last`: an address in it.
    #[inline(always)]
    fn conflict(
        &self,
        number: ChunkNumber,
        chunk: Chunk,
        start: usize,
        last: usize,
    ) -> Option<usize> {
        if chunk.has(info::ODD) || !start.is_multiple_of(GRANULE) {
            return self.odd_conflict(number, chunk, start, last);
        }
        let end = if chunk_of(last) == number {
            granule_of(last)
        } else {
            63
        };
        // The last object that starts before the block's end: in the block, or before it and perhaps into it.
        let before = chunk.starts().load(Ordering::Relaxed) & (u64::MAX >> (63 - end));
        if before == 0 {
            return None;
        }
        let other = object_in(number, chunk, 63 - before.leading_zeros());
        let reaches = other.start >= start || self.has_byte(other, start);
        reaches.then_some(other.start)
    }

    /// The same where objects start at no multiple of eight bytes.
    #[cold]
    fn odd_conflict(
        &self,
        number: ChunkNumber,
        chunk: Chunk,
        start: usize,
        last: usize,
    ) -> Option<usize> {
        if let Some(before) = self.last_start(number, chunk, start)
            && self.has_byte(before, start)
        {
            return Some(before.start);
        }
        let end = last.min(address_of(number) + (CHUNK - 1));
        if let Some(within) = self.last_start(number, chunk, end)
            && within.start > start
        {
            return Some(within.start);
        }
        self.odd_within(number, start, last)
    }

    #[cold]
    fn odd_within(&self, number: ChunkNumber, start: usize, last: usize) -> Option<usize> {
        let mut within = None;
        self.side_table.each_odd(number, &mut |odd| {
            if (start..=last).contains(&odd.start) {
                within = Some(odd.start);
            }
        });
        within
    }

    /// Something reaches into the chunk: as far as `start`?
    #[cold]
    fn look_before(&self, start: usize) -> Result<(), Refused> {
        match self.containing::<Locked, _>(start, |object| object.start) {
            Some(other) => Err(Refused::Overlaps(other)),
            None => Ok(()),
        }
    }

    /// Whether the chunks after this one are free, up to the byte `last`.
    #[inline(never)]
    pub(crate) fn look_beyond(&self, first: ChunkNumber, last: usize) -> Result<(), Refused> {
        let (mut number, end) = (first + 1, chunk_of(last) + 1);
        // What is empty, but still in service, goes out of it, so that its table can be covered.
        let pass = |chunk: Chunk| chunk.is_blank() && !chunk.has(info::SERVES);
        while let Some((at, look)) = self.map.next_but(number, end, pass) {
            let Look::Entry(chunk) = look else {
                return Err(Refused::Overlaps(address_of(at)));
            };
            let first = address_of(at);
            let reached = chunk.reach() != 0
                && self
                    .containing::<Locked, _>(first, |object| object.start)
                    .is_some();
            if reached {
                return Err(Refused::Overlaps(first));
            }
            chunk.lock();
            let other = self
                .last_start(at, chunk, last.min(first + (CHUNK - 1)))
                .map(|object| object.start);
            chunk.end_service();
            chunk.unlock();
            if let Some(other) = other {
                return Err(Refused::Overlaps(other));
            }
            number = at + 1;
        }
        Ok(())
    }

    /// Says of the chunks after the first one that the object reaches into them.
    #[inline(never)]
    pub(crate) fn spread(&self, extent: Extent, meta: &MetaAlloc<'_>) -> Result<(), Refused> {
        let (first, last) = (extent.start().chunk(), extent.last().chunk());
        let ends = extent.last().get() % CHUNK == CHUNK - 1;
        let whole = last + usize::from(ends);
        let reached = self.map.reach(first, last, whole, meta);
        reached.map_err(|blocked| {
            self.remove(extent.start(), meta);
            // Of the record alone the size can't be told, where a note is to have it.
            self.map.unreach(first, last);
            match blocked {
                Blocked::NoMemory => Refused::NoMemory,
                Blocked::Run(_) => Refused::Overlaps(extent.last().get()),
            }
        })
    }

    /// Takes an object out, but no alias. From here on the marker does not begin to read it.
    #[inline(never)]
    pub(crate) fn remove(&self, start: Address, meta: &MetaAlloc<'_>) -> Option<Removed> {
        let mut removed = None;
        self.take(start, meta, |record, _| {
            removed = Some(Removed { record });
        })?;
        removed
    }

    /// The same, and what its record's flags were; `keep` gets the record and the size.
    #[inline(always)]
    pub(crate) fn take(
        &self,
        start: Address,
        meta: &MetaAlloc<'_>,
        keep: impl FnOnce(Record, usize),
    ) -> Option<u16> {
        self.take_if(start, |_, flags| flags & flag::ALIAS == 0, meta, keep)
    }

    /// Takes out the alias at `copy` of the per-CPU block with the handle `owner`. Whether there was one.
    #[cold]
    pub(crate) fn remove_alias(&self, copy: Address, owner: usize, meta: &MetaAlloc<'_>) -> bool {
        let is_copy = |place: RecordRef, flags: u16| {
            flags & flag::ALIAS != 0 && alias_owner(&place.read()) == owner
        };
        self.take_if(copy, is_copy, meta, |_, _| {}).is_some()
    }

    /// Takes out what starts at `start`, if its record is wanted.
    #[inline(always)]
    fn take_if(
        &self,
        start: Address,
        wanted: impl FnOnce(RecordRef, u16) -> bool,
        meta: &MetaAlloc<'_>,
        keep: impl FnOnce(Record, usize),
    ) -> Option<u16> {
        let (start, number) = (start.get(), start.chunk());
        let Look::Entry(chunk) = self.map.look(number) else {
            return None;
        };
        chunk.lock();
        let granule = granule_of(start);
        let starts = chunk.starts().load(Ordering::Relaxed);
        if starts >> granule & 1 == 0 || !start.is_multiple_of(GRANULE) {
            return self.take_odd(number, chunk, start, wanted, meta, keep);
        }
        let place = chunk.record(granule);
        let (flags, short) = (place.flags(), place.short_size());
        if !wanted(place, flags) {
            chunk.unlock();
            return None;
        }
        let record = place.read();
        let (bit, marks) = (1 << granule, chunk.marks().load(Ordering::Relaxed));
        chunk.marks().store(marks & !bit, Ordering::Relaxed);
        // What is left tells who had the memory last.
        place.set_left_by(start);
        let left = starts & !bit;
        chunk.starts().store(left, Ordering::Release);
        if left == 0 && !chunk.has(info::WAITS) {
            self.emptied.push_unlocking(chunk, meta.cpu);
        } else {
            chunk.unlock();
        }
        let size = self.forget(start, short, flags, meta);
        keep(record, size);
        Some(flags)
    }

    /// The same, of one that starts at no multiple of eight.
    #[cold]
    #[inline(never)]
    fn take_odd(
        &self,
        number: ChunkNumber,
        chunk: Chunk,
        start: usize,
        wanted: impl FnOnce(RecordRef, u16) -> bool,
        meta: &MetaAlloc<'_>,
        keep: impl FnOnce(Record, usize),
    ) -> Option<u16> {
        let odd = self
            .side_table
            .odd_at_or_before(number, start)
            .filter(|odd| odd.start == start && wanted(odd.record, odd.record.flags()));
        let record = odd.map(|odd| odd.record.read());
        if record.is_some() {
            self.side_table.drop_odd(start, meta);
            if !self.side_table.has_odd(number) {
                chunk.clear(info::ODD);
                chunk.remove_user();
            }
        }
        chunk.unlock();
        let record = record?;
        let size = self.forget(start, record.short_size(), record.flags(), meta);
        keep(record, size);
        Some(record.flags())
    }

    /// What remains to be done when the start is gone. The object's size.
    #[inline(always)]
    fn forget(&self, start: usize, short: u32, flags: u16, meta: &MetaAlloc<'_>) -> usize {
        let mut size = short as usize;
        if flags & flag::NOTES != 0 {
            size = self.drop_notes(start, size, meta);
        }
        let last = start + (size - 1);
        if chunk_of(last) != chunk_of(start) {
            self.map.unreach(chunk_of(start), chunk_of(last));
        }
        size
    }

    #[cold]
    fn drop_notes(&self, start: usize, short: usize, meta: &MetaAlloc<'_>) -> usize {
        let size = self.side_table.size(start).unwrap_or(short);
        self.side_table.drop_all(start, meta);
        size
    }

    /// The call stacks that allocated what was at `start` last, and that freed it, as far as they are remembered.
    pub(crate) fn last_traces(&self, start: usize) -> (StackId, StackId) {
        let traces = self.with_dead_record(start, |place| {
            let record = place.read();
            let freed = match record.has(flag::FREED) {
                true => StackId(record.checksum()),
                false => StackId::NONE,
            };
            (record.trace(), freed)
        });
        traces.unwrap_or((StackId::NONE, StackId::NONE))
    }

    /// Keeps the call stack that freed what was at `start`, as long as nothing else needs its record.
    pub(crate) fn note_free(&self, start: usize, trace: StackId) {
        self.with_dead_record(start, |place| {
            place.set_checksum(trace.0);
            place.set(flag::FREED);
        });
    }

    /// Shows the record of what started at `start` and is gone, if no object has had it since.
    fn with_dead_record<R>(&self, start: usize, look: impl FnOnce(RecordRef) -> R) -> Option<R> {
        let Look::Entry(chunk) = self.map.look(Address::new(start)?.chunk()) else {
            return None;
        };
        chunk.lock();
        let granule = granule_of(start);
        let others = chunk.starts().load(Ordering::Relaxed) & chunk.share(granule);
        let dead = others == 0 && chunk.has_records() && start.is_multiple_of(GRANULE);
        let record = dead.then(|| chunk.record(granule));
        let result = record.filter(|record| record.is_left_by(start)).map(look);
        chunk.unlock();
        result
    }

    /// Shows the objects that start in `range`, chunk by chunk.
    pub(crate) fn each_in<A: Access>(
        &self,
        range: core::ops::Range<usize>,
        look: &mut dyn FnMut(Object<'_>),
    ) {
        if range.is_empty() {
            return;
        }
        let (mut number, end) = (chunk_of(range.start), chunk_of(range.end - 1) + 1);
        while let Some((at, entry)) = self.map.next(number, end) {
            if let Look::Entry(chunk) = entry {
                A::open(chunk);
                self.each_of(at, chunk, u64::MAX, &mut |object| {
                    if range.contains(&object.start) {
                        look(object);
                    }
                });
                A::close(chunk);
            }
            number = at + 1;
        }
    }

    /// Shows the objects of an open chunk, of those that start at granules only the ones in `granules`.
    #[inline]
    pub(crate) fn each_of(
        &self,
        number: ChunkNumber,
        chunk: Chunk,
        granules: u64,
        look: &mut dyn FnMut(Object<'_>),
    ) {
        let starts = chunk.starts().load(Ordering::Relaxed) & granules;
        for granule in Chunk::granules(starts) {
            look(object_in(number, chunk, granule));
        }
        if chunk.has(info::ODD) {
            self.side_table
                .each_odd(number, &mut |odd| look(odd_object(chunk, odd)));
        }
    }

    /// The first object at `from` or after that starts in this chunk at no multiple of eight bytes.
    pub(crate) fn next_odd(&self, number: ChunkNumber, chunk: Chunk, from: usize) -> Option<usize> {
        let mut next: Option<usize> = None;
        chunk.lock();
        self.side_table.each_odd(number, &mut |odd| {
            if odd.start >= from && next.is_none_or(|next| odd.start < next) {
                next = Some(odd.start);
            }
        });
        chunk.unlock();
        next
    }

    /// The area of an object with this number.
    pub(crate) fn area(&self, start: usize, number: usize) -> Option<Area> {
        self.side_table.area(start, number)
    }

    /// Forgets everything; the memory is given back by its owner.
    pub(crate) fn empty(&self) {
        self.map.empty();
        self.side_table.empty();
        self.emptied.empty();
        self.lowest.store(usize::MAX, Ordering::Relaxed);
        self.highest.store(0, Ordering::Relaxed);
        self.first_leaf.store(usize::MAX, Ordering::Relaxed);
        self.end_leaf.store(0, Ordering::Relaxed);
    }
}

/// Whether a new object is marked from the start, for the pass that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marked {
    Yes,
    No,
}

/// Sees to a record for an object at `start`, and that its chunk is in service. The chunk is locked, and has these starts.
#[cold]
#[inline(never)]
fn make_fit(
    chunk: Chunk,
    start: usize,
    starts: u64,
    wanted: u32,
    meta: &MetaAlloc<'_>,
) -> Result<(), Refused> {
    let granule = granule_of(start);
    let mut pace = wanted;
    let mut fits = false;
    if starts == 0 {
        if chunk.is_covered() {
            return Err(Refused::Overlaps(start));
        }
        fits = chunk.has_records() && chunk.pace() == wanted;
    } else {
        pace = chunk.pace();
        while pace > 0 && starts & share_at(pace, granule) != 0 {
            pace -= 1;
        }
    }
    // Where there is no memory, records at another pace will do for the only object.
    let in_need = || starts == 0 && chunk.has_records();
    if !fits && !chunk.repace(pace, meta) && !in_need() {
        return Err(Refused::NoMemory);
    }
    chunk.start_service();
    Ok(())
}

/// The object that starts in this granule of a chunk.
#[inline(always)]
pub(crate) fn object_in<'a>(number: ChunkNumber, chunk: Chunk, granule: u32) -> Object<'a> {
    Object {
        start: address_of(number) + granule as usize * GRANULE,
        record: chunk.record(granule),
        mark: Mark {
            word: chunk.marks(),
            bit: 1 << granule,
        },
        chunk,
    }
}

fn odd_object<'a>(chunk: Chunk, odd: Odd<'a>) -> Object<'a> {
    Object {
        start: odd.start,
        record: odd.record,
        mark: Mark {
            word: odd.mark,
            bit: 1,
        },
        chunk,
    }
}

/// The record of a further copy of a per-CPU block: where the birth would be is the address of the first.
pub(crate) fn alias_record(owner: usize, size: usize) -> Record {
    let mut record = Record::new(size, StackId::NONE, 0, 1, flag::ALIAS);
    // Inverted, as all addresses in metadata.
    record.set_birth(!owner as u64);
    record
}

/// The first copy that an alias's record names.
pub(crate) fn alias_owner(record: &Record) -> usize {
    let inverted = !record.birth_us() & ((1 << 48) - 1);
    ((inverted << 16) as i64 >> 16) as usize
}
