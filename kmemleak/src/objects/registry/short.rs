//! Records and forgets the blocks of nearly all callbacks in few steps: plain ones that lie in one chunk, which is in service and
//! which nothing reaches into. All other blocks are left to [`insert`](Registry::insert) and [`take`](Registry::take).

use core::sync::atomic::Ordering;

use super::Registry;
use crate::objects::access::{Locked, OpenChunk};
use crate::objects::chunk::{Chunk, GRANULE, granule_of, info, share_at};
use crate::objects::page_map::{CHUNK, Leaf, Look, chunk_of};
use crate::objects::record::{Record, RecordRef};
use crate::platform::address::Extent;

/// The callback was none of these: nothing has been done.
pub(crate) struct NotShort;

/// Whether `size` bytes at `start` are at least one, and lie in one chunk.
#[inline(always)]
fn fits_chunk(start: usize, size: usize) -> bool {
    size.wrapping_sub(1) <= CHUNK - 1 - start % CHUNK
}

impl Registry {
    /// Records a plain block, of which `chunk` is the entry: one of a table that [`short_table`](Self::short_table) has returned.
    /// `record` lacks what is known of the place.
    #[inline(always)]
    pub(crate) fn insert_short(
        &self,
        chunk: Chunk,
        start: usize,
        size: usize,
        mut record: Record,
    ) -> Result<(), NotShort> {
        const ODD: u32 = info::UNALIGNED | info::LOOK;
        if !fits_chunk(start, size) || !start.is_multiple_of(GRANULE) {
            return Err(NotShort);
        }
        let chunk = Locked.try_open(chunk_of(start), chunk).ok_or(NotShort)?;
        let granule = granule_of(start);
        let starts = chunk.starts().load(Ordering::Relaxed);
        let now = chunk.now();
        if starts == 0 {
            // If the objects before had the same size, the spacing is right.
            if !now.is_only(info::SERVES, ODD) || !now.agrees(size) {
                return Err(NotShort);
            }
        } else {
            let changes_size = !now.agrees(size) && now.common_words() != 0;
            if now.has(info::UNALIGNED)
                || changes_size
                || !has_room(&chunk, start, size, starts, now.spacing())
            {
                return Err(NotShort);
            }
        }
        // SAFETY: a chunk in service has records, as has one in which an object starts at a granule.
        let place = unsafe { chunk.record_alone(granule, now.spacing()) }.ok_or(NotShort)?;
        record.set_place(start, size as u32);
        place.write(&record);
        let starts = starts | 1 << granule;
        chunk.starts().store(starts, Ordering::Release);
        Ok(())
    }

    /// Takes out a plain block, of which `chunk` is the entry.
    #[inline(always)]
    pub(crate) fn take_short(&self, chunk: Chunk, start: usize) -> Result<(), NotShort> {
        const ODD: u32 = info::SPECIAL | info::LOOK;
        if !start.is_multiple_of(GRANULE) {
            return Err(NotShort);
        }
        let chunk = Locked.try_open(chunk_of(start), chunk).ok_or(NotShort)?;
        let starts = chunk.starts().load(Ordering::Relaxed);
        let now = chunk.now();
        let left = starts & !(1 << granule_of(start));
        let goes_empty = left == 0 && !now.has(info::WAITS);
        if left == starts || now.has(ODD) || goes_empty {
            return Err(NotShort);
        }
        // Only what starts is marked. The record that is left says where its object started.
        let marks = chunk.marks().load(Ordering::Relaxed);
        chunk.marks().store(marks & left, Ordering::Relaxed);
        chunk.starts().store(left, Ordering::Release);
        Ok(())
    }

    /// The table for the short path of a block that has been recorded, if blocks may start wherever the table stands for: from
    /// `lowest` to `highest`.
    #[cold]
    #[inline(never)]
    pub(crate) fn short_table(
        &self,
        extent: Extent,
        lowest: usize,
        highest: usize,
    ) -> Option<Leaf> {
        let (first, last) = Leaf::range_of(extent.start().get());
        if first < lowest || last > highest {
            return None;
        }
        self.widen_to(first, last);
        match self.map.look(extent.start().chunk()) {
            Look::Entry(chunk) => Some(Leaf::of(chunk)),
            _ => None,
        }
    }
}

/// Whether a block finds a record in a chunk, and overlaps no object that starts there. Some do: `starts`.
#[inline(always)]
fn has_room(
    chunk: &OpenChunk<Locked>,
    start: usize,
    size: usize,
    starts: u64,
    spacing: u32,
) -> bool {
    let granule = granule_of(start);
    if starts & share_at(spacing, granule) != 0 {
        return false;
    }
    // The last object that starts before the block's end.
    let before = starts & (u64::MAX >> (63 - granule_of(start + size - 1)));
    if before == 0 {
        return true;
    }
    let other = 63 - before.leading_zeros();
    // SAFETY: an object starts there.
    let record = unsafe { chunk.record_alone(other, spacing) };
    let ends =
        |record: RecordRef| record.short_size() as usize <= (granule - other) as usize * GRANULE;
    other < granule && record.is_some_and(ends)
}
