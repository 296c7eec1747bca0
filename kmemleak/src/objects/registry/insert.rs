//! Records new blocks, and refuses those that overlap known ones.

use core::sync::atomic::Ordering;

use super::Registry;
use crate::metadata::MetaAlloc;
use crate::metadata::kept::Kept;
use crate::objects::access::{Access, Locked, OpenChunk};
use crate::objects::chunk::{self, Chunk, GRANULE, MAX_SPACING, granule_of, info, share_at};
use crate::objects::object::object_in;
use crate::objects::page_map::{
    Blocked, Budget, CHUNK, ChunkNumber, NextChunk, address_of, chunk_of, leaf_of,
};
use crate::objects::record::{Record, flag};
use crate::platform::address::Extent;

/// Why a block can't be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    NoMemory,
    /// The byte at this address belongs to another object.
    Overlaps(usize),
}

/// Whether a new object is marked from the start, for the current pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marked {
    Yes,
    No,
}

impl Registry {
    /// Records a block. `marked` is for the current pass. `stride` is asked where records have to be provided: the distance in
    /// bytes between such blocks, if it is known.
    #[inline(always)]
    pub(crate) fn insert(
        &self,
        extent: Extent,
        record: &Record,
        marked: Marked,
        stride: impl FnOnce() -> Option<usize>,
        meta: &MetaAlloc<'_>,
    ) -> Result<(), Refused> {
        let reach = extent.reach();
        if reach.last != reach.first {
            self.look_beyond(reach.first, extent.last().get())?;
        }
        self.insert_start(extent, record, marked, stride, meta)?;
        if reach.last != reach.first {
            self.spread(extent, meta)?;
        }
        Ok(())
    }

    /// Records the start of a block. It is not known yet that it reaches into the chunks after its first one, and nobody has
    /// looked whether they are free.
    #[inline(always)]
    pub(crate) fn insert_start(
        &self,
        extent: Extent,
        record: &Record,
        marked: Marked,
        stride: impl FnOnce() -> Option<usize>,
        meta: &MetaAlloc<'_>,
    ) -> Result<(), Refused> {
        let (start, last) = (extent.start().get(), extent.last().get());
        let number = chunk_of(start);
        let chunk = match self.map.entry(number, meta) {
            Ok(chunk) => chunk,
            Err(Blocked::NoMemory) => return Err(Refused::NoMemory),
            Err(Blocked::Run) => return Err(Refused::Overlaps(start)),
        };
        if chunk.reach() != 0 {
            self.look_before(start)?;
        }
        let chunk = Locked.open(number, chunk);
        if let Some(other) = self.conflict(&chunk, start, last) {
            return Err(Refused::Overlaps(other));
        }
        let granule = granule_of(start);
        if !start.is_multiple_of(GRANULE) {
            self.add_unaligned(&chunk, start, record, marked, meta)?;
        } else {
            let starts = chunk.starts().load(Ordering::Relaxed);
            if starts == 0 && chunk.has(info::LOOK) {
                chunk.clear(info::LOOK);
            }
            if chunk_of(last) != number {
                chunk.set(info::LOOK);
            }
            let fits = if starts == 0 {
                chunk.serves(extent.size())
            } else {
                starts & chunk.share(granule) == 0
            };
            if !fits {
                let wanted = chunk::spacing_for(extent.size(), stride());
                make_fit(&chunk, start, starts, wanted, meta)?;
            }
            // SAFETY: there are records, and the chunk is locked.
            let place = unsafe { chunk.record(granule) };
            place.write(record);
            place.set_start(start);
            if !chunk.now().agrees(extent.size()) {
                chunk.note_size(extent.size(), starts);
            }
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
        }
        drop(chunk);
        if !start > self.inverted_lowest.load(Ordering::Relaxed)
            || last > self.highest.load(Ordering::Relaxed)
        {
            self.widen(start, last, record);
        }
        Ok(())
    }

    #[cold]
    fn widen(&self, start: usize, last: usize, record: &Record) {
        // Nothing points to physical memory by its physical address.
        if !record.has(flag::PHYS) {
            self.widen_to(start, last);
        }
        self.inverted_first_leaf
            .fetch_max(!leaf_of(start), Ordering::Relaxed);
        self.end_leaf
            .fetch_max(leaf_of(last) + 1, Ordering::Relaxed);
    }

    /// Notes that objects may lie from here to there.
    pub(super) fn widen_to(&self, first: usize, last: usize) {
        self.inverted_lowest.fetch_max(!first, Ordering::Relaxed);
        self.highest.fetch_max(last, Ordering::Relaxed);
    }

    #[cold]
    fn add_unaligned(
        &self,
        chunk: &OpenChunk<Locked>,
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
        if self.side_table.add_unaligned(start, &record, mark, meta) == Kept::NoMemory {
            return Err(Refused::NoMemory);
        }
        if !chunk.has(info::UNALIGNED) {
            chunk.add_user();
        }
        chunk.set(info::UNALIGNED | info::SPECIAL);
        if marked == Marked::Yes {
            chunk.set(info::BORN);
        }
        Ok(())
    }

    /// An address in an object of this chunk that overlaps the bytes from `start` to `last`, if there is such an object.
    #[inline(always)]
    fn conflict(&self, chunk: &OpenChunk<Locked>, start: usize, last: usize) -> Option<usize> {
        if chunk.has(info::UNALIGNED) || !start.is_multiple_of(GRANULE) {
            return self.unaligned_conflict(chunk, start, last);
        }
        let end = if chunk_of(last) == chunk.number() {
            granule_of(last)
        } else {
            63
        };
        // The last object that starts before the block's end: it starts in the block, or before it and may reach into it.
        let before = chunk.starts().load(Ordering::Relaxed) & (u64::MAX >> (63 - end));
        if before == 0 {
            return None;
        }
        let granule = 63 - before.leading_zeros();
        // SAFETY: one of the starts, and the chunk is open.
        let other = unsafe { object_in(chunk.number(), chunk.chunk(), granule) };
        let reaches = other.start >= start || self.has_byte(other, start);
        reaches.then_some(other.start)
    }

    /// Does what `conflict` does, where objects start at no multiple of eight bytes.
    #[cold]
    fn unaligned_conflict(
        &self,
        chunk: &OpenChunk<Locked>,
        start: usize,
        last: usize,
    ) -> Option<usize> {
        if let Some(before) = self.last_start(chunk, start)
            && self.has_byte(before, start)
        {
            return Some(before.start);
        }
        let end = last.min(address_of(chunk.number()) + (CHUNK - 1));
        let within = self.last_start(chunk, end)?;
        (within.start > start).then_some(within.start)
    }

    /// An object reaches into the chunk of `start`: refuses if it reaches as far as `start`.
    #[cold]
    fn look_before(&self, start: usize) -> Result<(), Refused> {
        match self.containing(Locked, start, |object| object.start) {
            Some(other) => Err(Refused::Overlaps(other)),
            None => Ok(()),
        }
    }

    /// Refuses unless the memory after the chunk `first` is free, up to the byte `last`.
    #[inline(never)]
    pub(crate) fn look_beyond(&self, first: ChunkNumber, last: usize) -> Result<(), Refused> {
        self.look_from(first + 1, last, &mut Budget::unlimited())
            .map(|_| ())
    }

    /// Refuses unless the memory from the chunk `from` on is free, up to the byte `last`. Returns the chunk to go on with if the
    /// budget was spent first.
    pub(crate) fn look_from(
        &self,
        from: ChunkNumber,
        last: usize,
        budget: &mut Budget,
    ) -> Result<Option<ChunkNumber>, Refused> {
        let (mut number, end) = (from, chunk_of(last) + 1);
        // Empty chunks that are still in service go out of service, so that their table can be covered.
        let pass = |entry: Option<Chunk>| {
            entry.is_some_and(|chunk| chunk.is_blank() && !chunk.has(info::SERVES))
        };
        loop {
            let (at, entry) = match self.map.next_but(number, end, pass, budget) {
                NextChunk::Chunk(at, entry) => (at, entry),
                NextChunk::Paused(at) => return Ok(Some(at)),
                NextChunk::End => return Ok(None),
            };
            let Some(chunk) = entry else {
                return Err(Refused::Overlaps(address_of(at)));
            };
            self.look_in(at, chunk, last)?;
            number = at + 1;
        }
    }

    /// Refuses unless a chunk is free, up to the byte `last`.
    fn look_in(&self, number: ChunkNumber, chunk: Chunk, last: usize) -> Result<(), Refused> {
        let first = address_of(number);
        let reached = chunk.reach() != 0
            && self
                .containing(Locked, first, |object| object.start)
                .is_some();
        if reached {
            return Err(Refused::Overlaps(first));
        }
        let chunk = Locked.open(number, chunk);
        let other = self
            .last_start(&chunk, last.min(first + (CHUNK - 1)))
            .map(|object| object.start);
        chunk.end_service();
        match other {
            Some(other) => Err(Refused::Overlaps(other)),
            None => Ok(()),
        }
    }

    /// Notes for the chunks after the first one that the object reaches into them.
    #[inline(never)]
    pub(crate) fn spread(&self, extent: Extent, meta: &MetaAlloc<'_>) -> Result<(), Refused> {
        let first = extent.reach().first;
        self.spread_from(extent, first + 1, &mut Budget::unlimited(), meta)
            .map(|_| ())
    }

    /// Notes for the chunks from `from` on that the object reaches into them. Returns the chunk to go on with if the budget was
    /// spent first. If it fails, the object is removed.
    pub(crate) fn spread_from(
        &self,
        extent: Extent,
        from: ChunkNumber,
        budget: &mut Budget,
        meta: &MetaAlloc<'_>,
    ) -> Result<Option<ChunkNumber>, Refused> {
        let reach = extent.reach();
        let ends = extent.last().get() % CHUNK == CHUNK - 1;
        let whole = reach.last + usize::from(ends);
        let reached = self.map.reach(reach, from, whole, budget, meta);
        reached.map_err(|blocked| {
            self.remove(extent.start(), meta);
            // `remove` may not know the size, if a note was to hold it and is not added yet.
            self.map.unreach(reach);
            match blocked {
                Blocked::NoMemory => Refused::NoMemory,
                Blocked::Run => Refused::Overlaps(extent.last().get()),
            }
        })
    }
}

/// Provides a record for an object at `start`, and puts its chunk into service. The chunk is locked, and has these starts.
///
/// The first object of a chunk gets one record alone, since it may stay alone. With the second one there are records at the
/// spacing that is wanted, or finer ones where that is not enough.
#[cold]
#[inline(never)]
fn make_fit(
    chunk: &OpenChunk<Locked>,
    start: usize,
    starts: u64,
    wanted: u32,
    meta: &MetaAlloc<'_>,
) -> Result<(), Refused> {
    let granule = granule_of(start);
    let mut spacing = MAX_SPACING;
    let mut fits = false;
    if starts == 0 {
        if chunk.is_covered() {
            return Err(Refused::Overlaps(start));
        }
        fits = chunk.has_records() && chunk.spacing() >= wanted;
    } else {
        spacing = wanted.min(chunk.spacing());
        while spacing > 0 && starts & share_at(spacing, granule) != 0 {
            spacing -= 1;
        }
    }
    // If there is no memory, existing records at another spacing are good enough for the only object.
    let in_need = || starts == 0 && chunk.has_records();
    if !fits && !chunk.respace(spacing, meta) && !in_need() {
        return Err(Refused::NoMemory);
    }
    chunk.start_service();
    Ok(())
}
