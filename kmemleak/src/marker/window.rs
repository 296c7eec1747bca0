//! Windows: what the marker does at a stretch with interrupts off, while other code runs.
//!
//! Each lock is held with interrupts off, and so is each block while it is read ([`Hazard`](crate::objects::hazard::Hazard)). How long
//! that takes must not depend on what the heap holds. So a window ends after so much *work*, not after so many bytes, and no loop
//! over a part of the heap lies in one:
//!
//! | in a window | at most |
//! | --- | --- |
//! | words that are searched for candidates, in place | two pages, or until [as many wait](super::batch) as are looked at together |
//! | candidates that are marked, which are known to be the start of a plain object | [`MARKS`] |
//! | other look-ups, each of which goes on with what it finds in the next window | 1 |
//! | numbers in memory that is not read as plain words | [`NUMBERS`] |
//! | words that are shown to a question, which looks them up | [`SHOWN`] |
//! | pages that nobody vouches for, and that are not read | [`PASSED_OVER`] |
//! | objects of a chunk that a phase looks at | [`OBJECTS`] |
//! | objects that start at no multiple of eight, which are found one by one in notes | 1 |
//!
//! Little does grow: a look at an object with many scan areas walks the list of these; where regions that are read on their own overlap, all
//! that do are looked at together. Other looks at regions or exclusions take [so many steps](crate::metadata::range_tree) as an address
//! has bits, and what is noted of an object is in a bucket of a [hash table](crate::objects::side_table) that grows.
//!
//! In a stopped world interrupts are off from the beginning to the end, and there is nothing to divide.

use core::marker::PhantomData;
use core::ops::Range;
use core::sync::atomic::Ordering;

use super::checkpoint::LEAF;
use super::{GivenUp, Marker};
use crate::objects::access::{Access, OpenChunk};
use crate::objects::chunk::{Chunk, info};
use crate::objects::hazard::PIECE;
use crate::objects::object::{Object, object_in};
use crate::objects::page_map::{ChunkNumber, Leaf, chunk_of};
use crate::platform::address::end_of;
use crate::platform::{IrqState, Platform, Reading};

/// Candidates that are marked in a window.
pub(super) const MARKS: usize = 16;

/// Numbers that are read in a window where memory is not read as plain words: a question looks up each of them.
const NUMBERS: usize = 16;

/// So many words that may be pointers are shown in a window, or up to twice as many.
pub(super) const SHOWN: usize = 8;

/// Objects of a chunk that are looked at in a window.
const OBJECTS: usize = 16;

/// Pages that nobody vouches for and that are passed over in a window.
pub(super) const PASSED_OVER: usize = 64;

/// Words that are summed up, or compared with an address, in a window.
pub(super) const COMPARED: usize = 64;

/// Does something with an object, whose chunk is open.
pub(super) type ObjectVisitor<'l, M> = &'l mut dyn FnMut(&mut M, Object<'_>);

/// Interrupts are off as long as this lives. In a stopped world they are off already.
pub(super) struct Off<'p, P: Platform, A: Access> {
    platform: &'p P,
    interrupts: Option<IrqState>,
    access: PhantomData<A>,
}

impl<'p, P: Platform, A: Access> Off<'p, P, A> {
    #[inline(always)]
    pub(super) fn new(platform: &'p P) -> Self {
        Self {
            platform,
            interrupts: (!A::STOPPED).then(|| platform.irq_save()),
            access: PhantomData,
        }
    }
}

impl<P: Platform, A: Access> Drop for Off<'_, P, A> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(interrupts) = self.interrupts.take() {
            self.platform.irq_restore(interrupts);
        }
    }
}

/// Runs `work` with interrupts off.
#[inline(always)]
pub(super) fn uninterrupted<P: Platform, A: Access, R>(
    platform: &P,
    work: impl FnOnce() -> R,
) -> R {
    let _off = Off::<P, A>::new(platform);
    work()
}

/// The end of the page that an address lies in: no word lies in two pages.
#[inline(always)]
pub(super) fn page_end(address: usize) -> usize {
    end_of(address | (PIECE - 1), 1)
}

/// The end of the piece that an address lies in: of its page, or, where memory is not read as words, of what holds so many numbers.
#[inline(always)]
pub(super) fn piece_end(address: usize, reading: Reading) -> usize {
    let bytes = match reading {
        Reading::Words => return page_end(address),
        Reading::Bytes => NUMBERS,
        Reading::Physical { .. } | Reading::DescriptorTable | Reading::TaskState => {
            NUMBERS * size_of::<usize>()
        }
    };
    end_of(address | (bytes - 1), 1)
}

impl<P: Platform, A: Access> Marker<'_, P, A> {
    /// Runs `work` with interrupts off, if other code runs beside the pass.
    #[inline(always)]
    pub(crate) fn without_interrupts<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> R {
        let tools = self.tools;
        uninterrupted::<P, A, _>(tools.platform, || work(self))
    }

    /// Looks at each chunk for which `wanted` is true, with all workers. The chunk is not open: it may change.
    #[inline(always)]
    pub(super) fn each_chunk(
        &mut self,
        wanted: impl Fn(Chunk) -> bool,
        mut look: impl FnMut(&mut Self, ChunkNumber, Chunk),
    ) -> Result<(), GivenUp> {
        while let Some((number, leaf)) = self.take_leaf() {
            self.each_chunk_in(number, leaf, &wanted, &mut look)?;
        }
        Ok(())
    }

    /// Does the same with the chunks of a table.
    #[inline(always)]
    pub(super) fn each_chunk_in(
        &mut self,
        number: usize,
        leaf: Leaf,
        wanted: &impl Fn(Chunk) -> bool,
        look: &mut impl FnMut(&mut Self, ChunkNumber, Chunk),
    ) -> Result<(), GivenUp> {
        for (chunk_number, chunk) in leaf.chunks(number) {
            if !A::STOPPED && !wanted(chunk) {
                continue;
            }
            if !chunk.is_used() {
                if A::STOPPED && chunk.has_records() {
                    // Nothing is in it any more, and nothing else has it locked.
                    chunk.retire(&self.tools.meta);
                }
                continue;
            }
            if !A::STOPPED || wanted(chunk) {
                look(self, chunk_number, chunk);
            }
        }
        self.pause_after(LEAF)
    }

    /// Opens a chunk, and does something with it that takes as long whatever lies there.
    #[inline(always)]
    pub(super) fn open<R>(
        &mut self,
        number: ChunkNumber,
        chunk: Chunk,
        look: impl FnOnce(&mut Self, &OpenChunk<A>) -> R,
    ) -> R {
        self.without_interrupts(|marker| look(marker, &marker.access.open(number, chunk)))
    }

    /// Opens a chunk, and looks at objects there: those that start in the granules that `begin` returns, and all that start at no
    /// multiple of eight. Between two windows others may come and go.
    #[inline(always)]
    pub(super) fn each_in_chunk(
        &mut self,
        number: ChunkNumber,
        chunk: Chunk,
        begin: impl FnOnce(&mut Self, &OpenChunk<A>) -> u64,
        mut look: impl FnMut(&mut Self, Object<'_>),
    ) {
        let mut left = self.open(number, chunk, |marker, open| {
            let granules = begin(marker, open);
            marker.some_of(open, granules, &mut look)
        });
        while left != 0 {
            left = self.open(number, chunk, |marker, open| {
                marker.some_of(open, left, &mut look)
            });
        }
        if chunk.has(info::UNALIGNED) {
            self.each_unaligned(number, chunk, &mut look);
        }
    }

    /// Looks at the first objects that start in these granules, and returns the granules that are left.
    #[inline(always)]
    fn some_of(
        &mut self,
        chunk: &OpenChunk<A>,
        granules: u64,
        look: &mut impl FnMut(&mut Self, Object<'_>),
    ) -> u64 {
        let mut left = chunk.starts().load(Ordering::Relaxed) & granules;
        let mut looked = 0;
        while left != 0 && (A::STOPPED || looked < OBJECTS) {
            // SAFETY: one of the starts, and the chunk is open.
            let object = unsafe { object_in(chunk.number(), chunk.chunk(), left.trailing_zeros()) };
            look(self, object);
            left &= left - 1;
            looked += 1;
        }
        left
    }

    #[cold]
    #[inline(never)]
    fn each_unaligned(&mut self, number: ChunkNumber, chunk: Chunk, look: ObjectVisitor<'_, Self>) {
        let registry = self.tools.registry;
        let mut from = Some(0);
        while let Some(first) = from {
            from = self.open(number, chunk, |marker, open| {
                let object = registry.unaligned_from(open, first)?;
                look(marker, object);
                object.start.checked_add(1)
            });
        }
    }

    /// Looks at the objects that start in a range, chunk by chunk.
    pub(super) fn each_start_in(&mut self, range: Range<usize>, look: ObjectVisitor<'_, Self>) {
        if range.is_empty() {
            return;
        }
        let registry = self.tools.registry;
        let (mut number, end) = (chunk_of(range.start), chunk_of(range.end - 1) + 1);
        while let Some((at, chunk)) = registry.map.next(number, end) {
            self.each_in_chunk(
                at,
                chunk,
                |_, _| u64::MAX,
                |marker, object| {
                    if range.contains(&object.start) {
                        look(marker, object);
                    }
                },
            );
            number = at + 1;
        }
    }
}

/// The granules of a chunk in which an object starts that is not marked.
#[inline(always)]
pub(super) fn unmarked(chunk: Chunk) -> u64 {
    chunk.starts().load(Ordering::Relaxed) & !chunk.marks().load(Ordering::Relaxed)
}

/// Whether an object may start in a chunk that is not marked.
#[inline(always)]
pub(super) fn may_be_white(chunk: Chunk) -> bool {
    unmarked(chunk) != 0 || chunk.has(info::UNALIGNED)
}
