//! Walks over objects.

use core::ops::Range;
use core::sync::atomic::Ordering;

use super::Registry;
use crate::objects::access::{Access, OpenChunk};
use crate::objects::chunk::Chunk;
use crate::objects::chunk::info;
use crate::objects::object::{Object, object_in, unaligned_object};
use crate::objects::page_map::{ChunkNumber, LEAF_BITS, Leaf, PageMap, chunk_of, past_hole};

impl Registry {
    /// Calls `look` with the objects that start in `range`, chunk by chunk.
    pub(crate) fn each_in<A: Access>(
        &self,
        access: A,
        range: Range<usize>,
        look: &mut dyn FnMut(Object<'_>),
    ) {
        if range.is_empty() {
            return;
        }
        let (mut number, end) = (chunk_of(range.start), chunk_of(range.end - 1) + 1);
        while let Some((at, chunk)) = self.map.next(number, end) {
            self.each_of(&access.open(at, chunk), u64::MAX, &mut |object| {
                if range.contains(&object.start) {
                    look(object);
                }
            });
            number = at + 1;
        }
    }

    /// Calls `look` with the aligned objects of an open chunk that start in `granules`, and with all unaligned ones.
    #[inline]
    pub(crate) fn each_of<A: Access>(
        &self,
        chunk: &OpenChunk<A>,
        granules: u64,
        look: &mut dyn FnMut(Object<'_>),
    ) {
        let starts = chunk.starts().load(Ordering::Relaxed) & granules;
        for granule in Chunk::granules(starts) {
            // SAFETY: one of the starts, and the chunk is open.
            look(unsafe { object_in(chunk.number(), chunk.chunk(), granule) });
        }
        if chunk.has(info::UNALIGNED) {
            self.side_table
                .each_unaligned(chunk.number(), &mut |unaligned| {
                    look(unaligned_object(chunk.chunk(), unaligned))
                });
        }
    }

    /// The first object at `from` or after that starts in an open chunk at no multiple of eight bytes.
    pub(crate) fn unaligned_from<'a, A: Access>(
        &self,
        chunk: &'a OpenChunk<A>,
        from: usize,
    ) -> Option<Object<'a>> {
        let unaligned = self.side_table.unaligned_from(chunk.number(), from)?;
        Some(unaligned_object(chunk.chunk(), unaligned))
    }

    /// The chunks in use, from the one with this number on, table by table of the page map.
    pub(crate) fn chunks(&self, from: ChunkNumber) -> Chunks<'_> {
        let leaves = self.leaves();
        Chunks {
            map: &self.map,
            next: from.max(leaves.start << LEAF_BITS),
            end: leaves.end << LEAF_BITS,
            leaf: None,
        }
    }
}

/// A walk over chunks in use. It holds no lock between two steps, so objects may be added and removed meanwhile.
pub(crate) struct Chunks<'r> {
    map: &'r PageMap,
    next: ChunkNumber,
    end: ChunkNumber,
    /// The table that `next` is in, if the walk is in its midst.
    leaf: Option<Leaf>,
}

/// What a step of a walk comes to.
pub(crate) enum ChunkStep {
    /// A chunk in use.
    Used(ChunkNumber, Chunk),
    /// Memory in which no object starts.
    Unused,
    End,
}

impl Chunks<'_> {
    /// Goes one step further, in constant time: past a chunk, a table without objects, or what has no table.
    pub(crate) fn step(&mut self) -> ChunkStep {
        if self.leaf.is_none() {
            // The lower half may end with a table.
            self.next = past_hole(self.next);
        }
        if self.next >= self.end {
            return ChunkStep::End;
        }
        let number = self.next;
        let leaf = self
            .leaf
            .map_or_else(|| self.map.leaf(number >> LEAF_BITS), Ok);
        let next_leaf = match leaf {
            Ok(leaf) if leaf.has_users() => {
                self.next = number + 1;
                self.leaf = (self.next >> LEAF_BITS == number >> LEAF_BITS).then_some(leaf);
                let chunk = leaf.chunk(number);
                return match chunk.is_used() {
                    true => ChunkStep::Used(number, chunk),
                    false => ChunkStep::Unused,
                };
            }
            Ok(_) => (number >> LEAF_BITS) + 1,
            Err(next_leaf) => next_leaf,
        };
        (self.next, self.leaf) = (next_leaf << LEAF_BITS, None);
        ChunkStep::Unused
    }

    /// The chunk at which the walk goes on.
    pub(crate) fn next_chunk(&self) -> ChunkNumber {
        self.next
    }
}

impl Iterator for Chunks<'_> {
    type Item = (ChunkNumber, Chunk);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.step() {
                ChunkStep::Used(number, chunk) => return Some((number, chunk)),
                ChunkStep::Unused => {}
                ChunkStep::End => return None,
            }
        }
    }
}
