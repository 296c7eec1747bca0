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
        let bytes = size as u32;
        let is_free = if starts == 0 {
            // If the objects before had the same size, the spacing is right.
            now.is_only_of(bytes, info::SERVES, ODD)
        } else if now.is_only_of(bytes, 0, info::UNALIGNED) {
            is_window_empty(starts, granule, bytes, now.spacing())
                || has_room(&chunk, start, size, starts, now.spacing())
        } else {
            // Else its size would have to be noted.
            !now.has_common_size()
                && !now.has(info::UNALIGNED)
                && has_room(&chunk, start, size, starts, now.spacing())
        };
        if !is_free {
            return Err(NotShort);
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
        let stays = match left {
            // Only a chunk that waits already may become empty.
            0 => starts != 0 && now.flags_of(ODD | info::WAITS) == info::WAITS,
            _ => left != starts && !now.has(ODD),
        };
        if !stays {
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

/// Whether no object starts so near to a block of `bytes` bytes that it could overlap it, or share its record, where all objects
/// have as many bytes. False as well where that is not seen so simply: blocks longer than half a chunk, and some at its ends.
#[inline(always)]
fn is_window_empty(starts: u64, granule: u32, bytes: u32, spacing: u32) -> bool {
    let near = bytes.div_ceil(GRANULE as u32).max(1 << spacing);
    if near > u64::BITS / 2 {
        return false;
    }
    // All that is nearer than `near` granules lies in the lowest bits. (What is moved round from the chunk's other end is looked at
    // as well.)
    let window = starts.rotate_right(granule.wrapping_sub(near - 1));
    window << (u64::BITS + 1 - 2 * near) == 0
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
