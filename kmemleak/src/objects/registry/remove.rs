//! Removes objects, and keeps what is remembered of them afterwards.

use core::sync::atomic::Ordering;

use super::Registry;
use crate::metadata::MetaAlloc;
use crate::objects::access::{Access, Locked, OpenChunk};
use crate::objects::chunk::{GRANULE, granule_of, info};
use crate::objects::object::{Object, alias_owner};
use crate::objects::page_map::{Look, Reach, address_of, chunk_of};
use crate::objects::record::{Record, RecordRef, flag};
use crate::objects::side_table::Loose;
use crate::platform::address::Address;
use crate::stacks::depot::StackId;

impl Registry {
    /// Takes out an object that is no alias. From here on the marker does not begin to read it.
    #[inline(never)]
    pub(crate) fn remove(&self, start: Address, meta: &MetaAlloc<'_>) -> Option<Record> {
        let mut removed = None;
        self.take(start, meta, |record, _| {
            removed = Some(record);
        })?;
        removed
    }

    /// Takes out an object that is no alias, and returns its record's flags. `keep` gets the record and the size.
    #[inline(always)]
    pub(crate) fn take(
        &self,
        start: Address,
        meta: &MetaAlloc<'_>,
        keep: impl FnOnce(Record, usize),
    ) -> Option<u16> {
        let unreach = |reach| self.map.unreach(reach);
        self.take_if(
            start,
            |_, flags| flags & flag::ALIAS == 0,
            meta,
            keep,
            unreach,
        )
    }

    /// Takes out an object that is no alias, and returns its record's flags. If it is a long one, `leave` gets the chunks for
    /// which is still noted that it reaches in.
    #[inline(always)]
    pub(crate) fn take_leaving(
        &self,
        start: Address,
        meta: &MetaAlloc<'_>,
        leave: impl FnOnce(Reach),
    ) -> Option<u16> {
        let unreach = |reach: Reach| match reach.is_long() {
            true => leave(reach),
            false => self.map.unreach(reach),
        };
        let wanted = |_, flags| flags & flag::ALIAS == 0;
        self.take_if(start, wanted, meta, |_, _| {}, unreach)
    }

    /// Takes out a block that is nothing but one range of memory: its record, its size, and its notes but for one with the size.
    #[cold]
    #[inline(never)]
    pub(crate) fn take_with_notes(
        &self,
        start: Address,
        meta: &MetaAlloc<'_>,
    ) -> Option<(Record, usize, Loose)> {
        const OTHER: u16 = flag::ALIAS | flag::PERCPU | flag::PHYS;
        let detach = |object: Object<'_>| {
            let flags = object.record.flags();
            let noted = flags & (flag::NOTES | flag::EXCESS) != 0;
            (flags & OTHER == 0).then(|| noted.then(|| self.side_table.detach(object.start)))
        };
        let notes = self.starting_at(Locked, start.get(), detach)??;
        let mut taken = None;
        self.take(start, meta, |record, size| taken = Some((record, size)));
        let notes = notes.unwrap_or(Loose::NONE);
        match taken {
            Some((record, size)) => Some((record, size, notes)),
            None => {
                // Another CPU has taken it out: an error of a caller.
                self.side_table.give_back(notes, meta);
                None
            }
        }
    }

    /// Takes out the alias at `copy` of the per-CPU block with the handle `owner`. False if there was none.
    #[cold]
    pub(crate) fn remove_alias(&self, copy: Address, owner: usize, meta: &MetaAlloc<'_>) -> bool {
        let is_copy = |place: RecordRef, flags: u16| {
            flags & flag::ALIAS != 0 && alias_owner(&place.read()) == owner
        };
        let unreach = |reach| self.map.unreach(reach);
        self.take_if(copy, is_copy, meta, |_, _| {}, unreach)
            .is_some()
    }

    /// Takes out the object that starts at `start`, if `wanted` is true for its record. If it reaches into chunks behind its
    /// first one, `unreach` takes back what is noted of that.
    #[inline(always)]
    fn take_if(
        &self,
        start: Address,
        wanted: impl FnOnce(RecordRef, u16) -> bool,
        meta: &MetaAlloc<'_>,
        keep: impl FnOnce(Record, usize),
        unreach: impl FnOnce(Reach),
    ) -> Option<u16> {
        let (start, number) = (start.get(), start.chunk());
        let Look::Entry(chunk) = self.map.look(number) else {
            return None;
        };
        let chunk = Locked.open(number, chunk);
        let granule = granule_of(start);
        let starts = chunk.starts().load(Ordering::Relaxed);
        if starts >> granule & 1 == 0 || !start.is_multiple_of(GRANULE) {
            return self.take_unaligned(chunk, start, wanted, meta, keep, unreach);
        }
        // SAFETY: an object starts there, and the chunk is locked.
        let place = unsafe { chunk.record(granule) };
        let (flags, short) = (place.flags(), place.short_size());
        if !wanted(place, flags) {
            return None;
        }
        let record = place.read();
        let (bit, marks) = (1 << granule, chunk.marks().load(Ordering::Relaxed));
        chunk.marks().store(marks & !bit, Ordering::Relaxed);
        // The record that is left says who had the memory last.
        place.set_left_by(start);
        let left = starts & !bit;
        chunk.starts().store(left, Ordering::Release);
        if left == 0 && !chunk.has(info::WAITS) {
            self.emptied.push_unlocking(chunk, meta.cpu);
        } else {
            drop(chunk);
        }
        let size = self.forget(start, short, flags, meta, unreach);
        keep(record, size);
        Some(flags)
    }

    /// Takes out an object that starts at no multiple of eight.
    #[cold]
    #[inline(never)]
    fn take_unaligned(
        &self,
        chunk: OpenChunk<Locked>,
        start: usize,
        wanted: impl FnOnce(RecordRef, u16) -> bool,
        meta: &MetaAlloc<'_>,
        keep: impl FnOnce(Record, usize),
        unreach: impl FnOnce(Reach),
    ) -> Option<u16> {
        let unaligned = self
            .side_table
            .unaligned_at_or_before(chunk.number(), start)
            .filter(|unaligned| {
                unaligned.start == start && wanted(unaligned.record, unaligned.record.flags())
            });
        let record = unaligned.map(|unaligned| unaligned.record.read());
        if record.is_some() {
            self.side_table.drop_unaligned(start, meta);
            if !self.side_table.has_unaligned(chunk.number()) {
                chunk.clear(info::UNALIGNED);
                chunk.remove_user();
            }
        }
        drop(chunk);
        let record = record?;
        let (short, flags) = (record.short_size(), record.flags());
        let size = self.forget(start, short, flags, meta, unreach);
        keep(record, size);
        Some(flags)
    }

    /// Forgets the notes and the reach of an object whose start has been taken out, and returns its size.
    #[inline(always)]
    fn forget(
        &self,
        start: usize,
        short: u32,
        flags: u16,
        meta: &MetaAlloc<'_>,
        unreach: impl FnOnce(Reach),
    ) -> usize {
        let mut size = short as usize;
        if flags & flag::NOTES != 0 {
            size = self.drop_notes(start, size, meta);
        }
        let (first, last) = (chunk_of(start), chunk_of(start + (size - 1)));
        if last != first {
            unreach(Reach { first, last });
        }
        size
    }

    #[cold]
    fn drop_notes(&self, start: usize, short: usize, meta: &MetaAlloc<'_>) -> usize {
        let size = self.side_table.size(start).unwrap_or(short);
        self.side_table.drop_all(start, meta);
        size
    }

    /// The call stacks that allocated and freed the last object at `start`, as far as they are remembered.
    pub(crate) fn last_stack_ids(&self, start: usize) -> (StackId, StackId) {
        let stack_ids = self.with_dead_record(start, |place| {
            let record = place.read();
            let freed = match record.has(flag::FREED) {
                true => StackId(record.checksum()),
                false => StackId::NONE,
            };
            (record.stack_id(), freed)
        });
        stack_ids.unwrap_or((StackId::NONE, StackId::NONE))
    }

    /// The start of the freed object that an address may lie in, with the call stacks that allocated and freed it, as far as they
    /// are remembered: the last one at the address or before, in its chunk, if no other object has used its record since.
    pub(crate) fn freed_at_or_before(&self, address: usize) -> Option<(usize, StackId, StackId)> {
        let first = address_of(Address::new(address)?.chunk());
        let start = (first..=address)
            .step_by(GRANULE)
            .filter(|&start| self.with_dead_record(start, |_| ()).is_some())
            .last()?;
        let (allocated, freed) = self.last_stack_ids(start);
        Some((start, allocated, freed))
    }

    /// Remembers the call stack that freed the object at `start`, until another object needs the record.
    pub(crate) fn note_free(&self, start: usize, stack_id: StackId) {
        self.with_dead_record(start, |place| {
            place.set_checksum(stack_id.0);
            place.set(flag::FREED);
        });
    }

    /// Calls `look` with the record of the object that is gone from `start`, if no other object has used the record since.
    fn with_dead_record<R>(&self, start: usize, look: impl FnOnce(RecordRef) -> R) -> Option<R> {
        let number = Address::new(start)?.chunk();
        let Look::Entry(chunk) = self.map.look(number) else {
            return None;
        };
        let chunk = Locked.open(number, chunk);
        let granule = granule_of(start);
        let others = chunk.starts().load(Ordering::Relaxed) & chunk.share(granule);
        let dead = others == 0 && chunk.has_records() && start.is_multiple_of(GRANULE);
        // SAFETY: there are records, and the chunk is locked.
        let record = dead.then(|| unsafe { chunk.record(granule) });
        record.filter(|record| record.is_left_by(start)).map(look)
    }
}
