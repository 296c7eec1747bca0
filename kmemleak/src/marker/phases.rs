//! The phases in which all is looked at: clearing the marks, what lies inside roots, the roots, and what was left in flags.

use core::ops::Range;
use core::sync::atomic::Ordering;

use super::candidates::{note_interior_only, postpone};
use super::objects::Words;
use super::{GivenUp, Marker, RootWalk, Stacks, next_piece, uninterrupted};
use crate::chunk::{Chunk, info};
use crate::memory::WORD;
use crate::page_map::ChunkNumber;
use crate::platform::{Platform, Root, RootCursor, RootKind};
use crate::queue::Entry;
use crate::record::flag;
use crate::registry::{Access, Object, alias_owner};

/// The parts of `root` before and after `own`; the first is not empty unless both are.
pub(super) fn without(root: &Range<usize>, own: &Range<usize>) -> (Range<usize>, Range<usize>) {
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

impl<'a, P: Platform, A: Access> Marker<'a, P, A> {
    pub(super) fn whiten(&mut self) -> Result<(), GivenUp> {
        const LOOK: u32 = info::SPECIAL
            | info::PENDING
            | info::INTERIOR
            | info::INTERIOR_ONLY
            | info::BORN
            | info::ODD;
        self.each_chunk(|marker, number, chunk| {
            if chunk.has(LOOK) {
                marker.whiten_records(number, chunk);
            } else {
                let starts = chunk.starts().load(Ordering::Relaxed);
                marker.objects += u64::from(starts.count_ones());
                chunk.marks().store(0, Ordering::Relaxed);
            }
        })
    }

    #[inline(never)]
    pub(super) fn whiten_records(&mut self, number: ChunkNumber, chunk: Chunk) {
        let registry = self.tools.registry;
        let (mut special, mut born) = (chunk.has(info::ODD), false);
        chunk.clear(info::PENDING | info::INTERIOR | info::INTERIOR_ONLY);
        registry.each_of(number, chunk, u64::MAX, &mut |object| {
            let record = object.record.read();
            special |= !record.is_plain();
            self.objects += u64::from(!record.has(flag::ALIAS));
            if record.has(flag::BORN) && self.is_born(record.birth_us()) && !record.has(flag::ALIAS)
            {
                // Marked when it was allocated, and still to be scanned.
                born = true;
                return;
            }
            object.record.clear(flag::OF_PASSES);
            object.record.reset_count();
            if record.has(flag::EXCESS) {
                registry.notes.reset_arrivals(object.start);
            }
            object.mark.clear();
            match record.min_count() {
                0 if record.has(flag::EXCESS) => {
                    // Not queued before it is known whether it lies in a root.
                    object.enliven();
                    postpone(object.record, object.chunk, &self.shared.overflowed);
                }
                0 => {
                    self.keep(object);
                }
                min_count if min_count < 0 => {
                    object.mark.set();
                }
                _ => {}
            }
        });
        if !special {
            chunk.clear(info::SPECIAL);
        }
        if !born {
            chunk.clear(info::BORN);
        }
    }

    /// Whether something was allocated since the pass began.
    pub(super) fn is_born(&self, birth_us: u64) -> bool {
        !A::STOPPED && birth_us >= self.shared.start_us
    }

    /// Scans what was allocated since the pass began, and what is left of what was freed in part.
    pub(crate) fn scan_born(&mut self) -> Result<(), GivenUp> {
        self.each_chunk(|marker, number, chunk| {
            if !chunk.has(info::BORN) {
                return;
            }
            chunk.clear(info::BORN);
            let registry = marker.tools.registry;
            registry.each_of(number, chunk, u64::MAX, &mut |object| {
                if object.record.has(flag::BORN) {
                    object.record.clear(flag::BORN);
                    object.mark.set();
                    marker.enqueue(object);
                }
            });
        })?;
        self.barrier();
        self.finish()
    }

    /// Marks the objects that lie inside a root.
    pub(super) fn overlay(&mut self) -> Result<(), GivenUp> {
        while let Some((_, piece, whole)) = self.claim_root() {
            self.quietly(|marker| {
                let registry = marker.tools.registry;
                registry.each_in::<A>(piece, &mut |object| {
                    // Copies of per-CPU blocks are no objects, and physical addresses are no addresses in a root.
                    let elsewhere = object.record.has(flag::ALIAS | flag::PERCPU | flag::PHYS);
                    let end = object.start + registry.size(object.start, object.record);
                    if end <= whole && !elsewhere {
                        marker.lies_in_root(object);
                    }
                });
            });
            self.pause()?;
        }
        Ok(())
    }

    /// An object is alive because it lies in a root, and its words are read there.
    fn lies_in_root(&self, object: Object<'_>) {
        let record = object.record.read();
        object.enliven();
        if record.has(flag::EXCESS) {
            object.record.clear(flag::PENDING | flag::BORN);
            self.shared.area_in_root.store(true, Ordering::Release);
        } else if record.min_count() == 0 {
            // It is queued already.
            object.record.set(flag::REACHED);
        }
    }

    /// The next piece of a root, with the root and where that ends.
    pub(super) fn claim_root(&self) -> Option<(Root, Range<usize>, usize)> {
        self.next_piece_of(&mut self.shared.roots.lock())
    }

    fn next_piece_of(&self, walk: &mut RootWalk) -> Option<(Root, Range<usize>, usize)> {
        loop {
            if walk.rest.is_empty() {
                walk.rest = core::mem::take(&mut walk.after);
            }
            if !walk.rest.is_empty() {
                let start = walk.rest.start;
                let end = next_piece(start).min(walk.rest.end);
                walk.rest.start = end;
                return Some((walk.root, start..end, walk.rest.end));
            }
            let root = match self.tools.platform.next_root(&mut walk.cursor) {
                Some(root) => root,
                None => {
                    let from = walk.next_region;
                    let region = uninterrupted::<P, A, _>(self.tools.platform, || {
                        self.tools.regions.first_from(from)
                    })?;
                    walk.next_region = region.key.checked_add(1)?;
                    Root {
                        kind: RootKind::Region,
                        start: region.key,
                        len: region.value,
                    }
                }
            };
            let is_stack = matches!(root.kind, RootKind::Stack(_) | RootKind::Registers(_));
            if is_stack && self.shared.stacks == Stacks::Skip {
                continue;
            }
            if root.len > 0 && self.tools.platform.readable(root.start, root.len) {
                let range = root.start..root.start.saturating_add(root.len);
                walk.root = root;
                (walk.rest, walk.after) = without(&range, &self.tools.own);
            }
        }
    }

    pub(super) fn scan_roots(&mut self) -> Result<(), GivenUp> {
        while let Some((root, piece, _)) = self.claim_root() {
            self.each_root_piece(root, piece, &mut Self::scan_root_words);
            self.pause()?;
            while self.queue.is_filling() {
                self.scan_next()?;
            }
        }
        Ok(())
    }

    /// The words of a piece of a root.
    fn scan_root_words(&mut self, start: usize, end: usize) {
        if !self.shared.area_in_root.load(Ordering::Acquire) {
            return self.scan_words(start, end);
        }
        // Objects with an excess reference lie in some: their pointers to themselves don't count.
        let mut at = start.next_multiple_of(WORD);
        while at < end {
            let (area, next) = self.area_at(at, end);
            self.flush();
            self.area = area;
            self.scan_words(at, next);
            self.flush();
            self.area = None;
            at = next;
        }
    }

    /// The object with an excess reference that the word at `at` belongs to, if it does to one, and where, from there to `end`, the
    /// words begin that do not belong to the same.
    fn area_at(&self, at: usize, end: usize) -> (Option<usize>, usize) {
        let registry = self.tools.registry;
        let words_end = |object: Object<'_>| {
            let end = object.start + registry.size(object.start, object.record);
            (object.record.has(flag::EXCESS)).then_some((object.start, end & !(WORD - 1)))
        };
        if let Some(Some((area, words_end))) = registry.containing::<A, _>(at, words_end)
            && at < words_end
        {
            return (Some(area), words_end.min(end));
        }
        let mut next = end;
        registry.each_in::<A>(at..end, &mut |object| {
            let first = object.start.next_multiple_of(WORD);
            if object.record.has(flag::EXCESS) && first > at {
                next = next.min(first);
            }
        });
        (None, next)
    }

    /// Shows each word of the roots that may be an address in an object, with the root and the word's own address. By
    /// one worker.
    pub(crate) fn each_root_word(
        &mut self,
        look: &mut dyn FnMut(&mut Self, Root, usize, usize),
    ) -> Result<(), GivenUp> {
        while let Some((root, piece, _)) = self.claim_root() {
            self.each_root_piece(root, piece, &mut |marker, from, to| {
                marker.show_words(from, to, &mut |marker, slot, word| {
                    look(marker, root, slot, word);
                });
            });
            self.pause()?;
        }
        Ok(())
    }

    /// Whether all of a range lies in a root. By one worker, between two walks over the roots.
    pub(crate) fn is_in_root(&self, range: Range<usize>) -> bool {
        let mut walk = RootWalk::NEW;
        while let Some((_, piece, end)) = self.next_piece_of(&mut walk) {
            if (piece.start..end).contains(&range.start) && range.end <= end {
                return true;
            }
            // The rest of the root is of no interest.
            walk.rest.start = walk.rest.end;
        }
        false
    }

    /// Whether a range has some of a task's stack, be stacks roots or not. By one worker.
    pub(crate) fn has_stack(&self, range: Range<usize>) -> bool {
        let mut cursor = RootCursor::default();
        while let Some(root) = self.tools.platform.next_root(&mut cursor) {
            let meet = root.start < range.end && range.start < root.start.saturating_add(root.len);
            if meet && matches!(root.kind, RootKind::Stack(_)) {
                return true;
            }
        }
        false
    }

    /// Does something with a piece of a root.
    #[inline(always)]
    fn each_root_piece(
        &mut self,
        root: Root,
        piece: Range<usize>,
        work: &mut dyn FnMut(&mut Self, usize, usize),
    ) {
        if !A::STOPPED && matches!(root.kind, RootKind::Stack(_)) {
            self.stack_piece(piece, work);
        } else {
            self.quietly(|marker| work(marker, piece.start, piece.end));
        }
    }

    /// A piece of a stack beside whatever runs: its task may end meanwhile, and the stack be freed.
    fn stack_piece(&mut self, piece: Range<usize>, work: &mut dyn FnMut(&mut Self, usize, usize)) {
        self.quietly(|marker| {
            let tools = marker.tools;
            let held = tools
                .registry
                .containing::<A, _>(piece.start, |object| tools.hazard.set(object.start));
            if held.is_some() || tools.platform.stays_readable(piece.start, piece.len()) {
                work(marker, piece.start, piece.end);
            }
            tools.hazard.clear();
        });
    }

    /// Queues what has the record's flag, in chunks that have the chunk's, and is to be scanned.
    pub(super) fn recover(&mut self, in_chunk: u32, in_record: u16) -> Result<(), GivenUp> {
        while let Some((number, leaf)) = self.claim_leaf() {
            for (chunk_number, chunk) in leaf.chunks(number) {
                if !chunk.has(in_chunk) {
                    continue;
                }
                self.quietly(|marker| {
                    A::open(chunk);
                    marker.recover_chunk(chunk_number, chunk, in_chunk, in_record);
                    A::close(chunk);
                });
                // One chunk's objects at a time, lest the queue is filled by what was in flags already.
                while self.queue.is_filling() {
                    self.scan_next()?;
                }
            }
            self.pause()?;
        }
        Ok(())
    }

    pub(super) fn recover_chunk(
        &mut self,
        number: ChunkNumber,
        chunk: Chunk,
        in_chunk: u32,
        in_record: u16,
    ) {
        chunk.clear(in_chunk);
        let registry = self.tools.registry;
        registry.each_of(number, chunk, u64::MAX, &mut |object| {
            if !object.record.has(in_record) {
                return;
            }
            object.record.clear(in_record);
            if in_record == flag::INTERIOR {
                if !object.enliven() {
                    // Its start was pointed to as well.
                    return;
                }
                note_interior_only(object.record, object.chunk);
            }
            self.enqueue(object);
        });
    }

    /// What was marked late for want of references, but has its start pointed to by what was marked early, is reached
    /// by start pointers alone; and so is what it points to the start of. For one worker, while the others wait.
    ///
    /// An object that is to be followed has both flags, and most are in the queue; one that found no room there
    /// is met by the next walk.
    pub(super) fn follow_started(&mut self) -> Result<(), GivenUp> {
        loop {
            let mut found = false;
            while let Some((number, leaf)) = self.claim_leaf() {
                for (chunk_number, chunk) in leaf.chunks(number) {
                    if !chunk.has(info::INTERIOR_ONLY) {
                        continue;
                    }
                    let registry = self.tools.registry;
                    self.quietly(|marker| {
                        A::open(chunk);
                        registry.each_of(chunk_number, chunk, u64::MAX, &mut |object| {
                            if object.record.has(flag::INTERIOR_ONLY) && object.record.is_started()
                            {
                                found = true;
                                marker.queue.push(Entry::new(object.start, object.record));
                            }
                        });
                        A::close(chunk);
                    });
                    while let Some(entry) = self.queue.pop() {
                        self.follow(entry.start())?;
                    }
                }
                self.pause()?;
            }
            if !found {
                return Ok(());
            }
            self.shared.leaf.store(0, Ordering::Release);
        }
    }

    fn follow(&mut self, start: usize) -> Result<(), GivenUp> {
        let late = self.quietly(|marker| {
            let registry = marker.tools.registry;
            registry.starting_at::<A, _>(start, |object| {
                let late = object.record.has(flag::INTERIOR_ONLY);
                object.record.clear(flag::INTERIOR_ONLY);
                late
            })
        });
        if late != Some(true) {
            // It was in the queue twice.
            return Ok(());
        }
        self.each_word(start, Words::Scanned, &mut |marker, _, word| {
            let registry = marker.tools.registry;
            let late = |object: Object<'_>| {
                if object.record.has(flag::INTERIOR_ONLY) {
                    object.record.set_started();
                    return Some(Entry::new(object.start, object.record));
                }
                None
            };
            let found = registry.starting_at::<A, _>(word, |object| {
                let record = object.record.read();
                match record.has(flag::ALIAS) {
                    true => Err(alias_owner(&record)),
                    false => Ok(late(object)),
                }
            });
            let entry = match found {
                Some(Ok(entry)) => entry,
                Some(Err(owner)) => registry.starting_at::<A, _>(owner, late).flatten(),
                None => None,
            };
            if let Some(entry) = entry {
                marker.queue.push(entry);
            }
        })
    }
}
