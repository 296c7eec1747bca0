//! Look-ups: from a number to the object that it is an address in.

use core::sync::atomic::Ordering;

use super::Registry;
use crate::objects::access::{Access, OpenChunk};
use crate::objects::chunk::{granule_of, info};
use crate::objects::object::{Object, object_in, unaligned_object};
use crate::objects::page_map::{CHUNK, ChunkNumber, Look, address_of, chunk_of};
use crate::objects::record::flag;
use crate::platform::address::Address;

impl Registry {
    /// The last object of a chunk that starts at `address` or before.
    #[inline(always)]
    pub(crate) fn last_start<'a, A: Access>(
        &self,
        chunk: &'a OpenChunk<A>,
        address: usize,
    ) -> Option<Object<'a>> {
        let starts = chunk.starts().load(Ordering::Relaxed);
        let before = starts & (u64::MAX >> (63 - granule_of(address)));
        let found = (before != 0).then(|| {
            let granule = 63 - before.leading_zeros();
            // SAFETY: one of the starts, and the chunk is open.
            unsafe { object_in(chunk.number(), chunk.chunk(), granule) }
        });
        if chunk.has(info::UNALIGNED) {
            return self.last_of(chunk, address, found);
        }
        found
    }

    #[cold]
    fn last_of<'a, A: Access>(
        &self,
        chunk: &'a OpenChunk<A>,
        address: usize,
        even: Option<Object<'a>>,
    ) -> Option<Object<'a>> {
        let unaligned = self
            .side_table
            .unaligned_at_or_before(chunk.number(), address);
        match (even, unaligned) {
            (Some(even), Some(unaligned)) if even.start > unaligned.start => Some(even),
            (even, None) => even,
            (_, Some(unaligned)) => Some(unaligned_object(chunk.chunk(), unaligned)),
        }
    }

    /// Calls `look` with the object that a number points into, if there is one. One past the end is not in an object.
    #[inline(always)]
    pub(crate) fn containing<A: Access, R>(
        &self,
        access: A,
        number: usize,
        look: impl FnOnce(Object<'_>) -> R,
    ) -> Option<R> {
        let address = Address::new(number)?.get();
        let number = chunk_of(address);
        if let Look::Entry(chunk) = self.map.look(number)
            && chunk.is_used()
        {
            let open = access.open(number, chunk);
            if let Some(object) = self.last_start(&open, address) {
                return self.has_byte(object, address).then(|| look(object));
            }
        }
        self.reaching(access, number, address, look)
    }

    /// Whether the byte at `address`, which is not below the start of an object, belongs to the object.
    #[inline(always)]
    pub(super) fn has_byte(&self, object: Object<'_>, address: usize) -> bool {
        address - object.start < self.size(object.start, object.record)
    }

    /// Calls `look` with the object from an earlier chunk that reaches to `address`. No start in this chunk is `address` or less.
    #[inline(never)]
    fn reaching<A: Access, R>(
        &self,
        access: A,
        number: ChunkNumber,
        address: usize,
        look: impl FnOnce(Object<'_>) -> R,
    ) -> Option<R> {
        let first = self.map.reaching(number)?;
        let Look::Entry(chunk) = self.map.look(first) else {
            return None;
        };
        let open = access.open(first, chunk);
        let last = address_of(first) + (CHUNK - 1);
        self.last_start(&open, last)
            .filter(|&object| self.has_byte(object, address))
            .map(look)
    }

    /// Calls `look` with the object that starts at `start`, if there is one; `start` may be any number.
    pub(crate) fn starting_at<A: Access, R>(
        &self,
        access: A,
        start: usize,
        look: impl FnOnce(Object<'_>) -> R,
    ) -> Option<R> {
        let number = Address::new(start)?.chunk();
        let Look::Entry(chunk) = self.map.look(number) else {
            return None;
        };
        let open = access.open(number, chunk);
        self.last_start(&open, start)
            .filter(|object| object.start == start)
            .map(look)
    }

    /// Calls `look` with the block that a number points into, also if it points into a further copy of the block; and with
    /// the offset from the start of the block or the copy.
    pub(crate) fn block_containing<A: Access, R>(
        &self,
        access: A,
        number: usize,
        look: impl FnOnce(Object<'_>, usize) -> R,
    ) -> Option<R> {
        let mut look = Some(look);
        let mut show = |object: Object<'_>, offset| look.take().map(|look| look(object, offset));
        let shown = self.containing(access, number, |object| {
            let offset = number - object.start;
            match object.owner() {
                Some(owner) => Err((owner, offset)),
                None => Ok(show(object, offset)),
            }
        });
        match shown? {
            Ok(shown) => shown,
            Err((owner, offset)) => self.percpu_at(access, owner, |object| show(object, offset))?,
        }
    }

    /// Calls `look` with the block that starts at a number, or that has a further copy which starts there.
    pub(crate) fn block_starting_at<A: Access, R>(
        &self,
        access: A,
        number: usize,
        look: impl FnOnce(Object<'_>) -> R,
    ) -> Option<R> {
        let show = |object: Object<'_>, offset| (offset == 0).then(|| look(object));
        self.block_containing(access, number, show)?
    }

    /// Calls `look` with the per-CPU block at this handle. (If an alias's block is gone, another object may be at its handle.)
    pub(crate) fn percpu_at<A: Access, R>(
        &self,
        access: A,
        handle: usize,
        look: impl FnOnce(Object<'_>) -> R,
    ) -> Option<R> {
        self.starting_at(access, handle, |object| {
            object.record.has(flag::PERCPU).then(|| look(object))
        })?
    }
}
