//! How the words of roots are read, a page at a time.
//!
//! In a stopped world all roots are there until the world goes on. While other code runs, a task may end and its stack be freed,
//! and a region may be removed. Before such a piece is read, the marker says so ([`Hazard`](crate::objects::hazard::Hazard)) and
//! looks whether it is still there; whoever takes it away waits.

use core::ops::Range;
use core::sync::atomic::Ordering;

use super::root_piece::{NamedBy, RootPiece};
use super::roots::range_of;
use super::window::piece_end;
use super::{GivenUp, Marker, Stacks, Tools};
use crate::marker::encoded::{Encoding, MappedPiece, PieceVisitor};
use crate::marker::words::{whole_words, words_in};
use crate::metadata::WORD;
use crate::objects::access::Access;
use crate::objects::object::Object;
use crate::objects::page_map::CHUNK;
use crate::objects::record::flag;
use crate::objects::root_ranges::VouchedBy;
use crate::platform::address::end_of;
use crate::platform::{Platform, Root, RootCursor, RootKind};

impl<'a, P: Platform, A: Access> Marker<'a, P, A> {
    pub(super) fn scan_roots(&mut self) -> Result<(), GivenUp> {
        let stacks_wait = self.shared.stacks == Stacks::Last;
        while let Some(piece) = self.take_piece() {
            if stacks_wait && piece.is_of_stack() {
                continue;
            }
            self.scan_root(piece)?;
        }
        Ok(())
    }

    /// Follows the pointers in a piece of a root.
    pub(super) fn scan_root(&mut self, piece: RootPiece) -> Result<(), GivenUp> {
        let before = self.words;
        match self.shared.area_in_root.load(Ordering::Acquire) {
            true => self.scan_around_areas(piece),
            false => self.each_root_piece(piece, &mut Self::scan_piece),
        }
        self.root_words += self.words - before;
        self.pause()?;
        while self.queue.is_filling() {
            self.scan_next()?;
        }
        Ok(())
    }

    /// Follows the pointers in a piece of a root in which objects with an excess reference may lie: their pointers to themselves don't
    /// count.
    #[cold]
    fn scan_around_areas(&mut self, mut piece: RootPiece) {
        let Range { mut start, end } = piece.range;
        while start < end {
            // The objects of one chunk are looked at in a window.
            let end_of_chunk = end_of(start | (CHUNK - 1), 1).min(end);
            let reading = piece.encoding;
            let (area, next) = self.own_area_at(start, end_of_chunk, reading);
            piece.range = start..next;
            self.flush();
            self.area = area;
            self.each_root_piece(piece.clone(), &mut Self::scan_piece);
            self.flush();
            self.area = None;
            start = next;
        }
    }

    /// The object with an excess reference that the word at `at` of a root belongs to, if there is one, and the address, at most
    /// `end`, at which the words begin that do not belong to that object. Of an object that lies only in part in roots, the words
    /// there are the root's, as those of other objects are.
    pub(super) fn own_area_at(
        &mut self,
        at: usize,
        end: usize,
        reading: Encoding,
    ) -> (Option<usize>, usize) {
        let straddling = &self.tools.root_ranges.straddling;
        let (area, next) = self.without_interrupts(|marker| marker.area_at(at, end, reading));
        let own = area.filter(|area| !straddling.meets(area) || self.is_in_root(area.clone()));
        (own.map(|area| area.start), next)
    }

    fn area_at(&self, at: usize, end: usize, reading: Encoding) -> (Option<Range<usize>>, usize) {
        let access = self.access;
        let registry = self.tools.registry;
        let words_end = |object: Object<'_>| {
            let end = end_of(object.start, registry.size(object.start, object.record));
            (object.record.has(flag::EXCESS))
                .then_some((object.start..end, words_in(object.start..end).end))
        };
        if let Some(Some((area, words_end))) = registry.containing(access, at, words_end)
            && at < words_end
        {
            return (Some(area), words_end.min(end));
        }
        let mut next = end;
        registry.each_in(access, at..end, &mut |object| {
            let first = match reading.is_plain() {
                true => whole_words(object.start, end).0,
                false => object.start,
            };
            if object.record.has(flag::EXCESS) && first > at {
                next = next.min(first);
            }
        });
        (None, next)
    }

    /// Shows each word of the roots that may be an address in an object, with the root and the word's own address. For one
    /// worker.
    pub(crate) fn each_root_word(
        &mut self,
        look: &mut dyn FnMut(&mut Self, Root, usize, usize),
    ) -> Result<(), GivenUp> {
        while let Some(piece) = self.take_piece() {
            self.show_root_piece(piece, look)?;
        }
        Ok(())
    }

    /// Shows each such word of a piece of a root.
    pub(super) fn show_root_piece(
        &mut self,
        piece: RootPiece,
        look: &mut dyn FnMut(&mut Self, Root, usize, usize),
    ) -> Result<(), GivenUp> {
        let root = piece.root;
        self.each_root_piece(piece, &mut |marker, piece| {
            marker.show_piece(piece, &mut |marker, slot, word| {
                look(marker, root, slot, word);
            })
        });
        self.pause()
    }

    /// Whether a range overlaps a task's stack, whether or not stacks are roots. For one worker.
    pub(crate) fn has_stack(&self, range: Range<usize>) -> bool {
        let meets = |other: Range<usize>| other.start < range.end && range.start < other.end;
        if self
            .tools
            .own_stack
            .as_ref()
            .is_some_and(|own| meets(own.bounds()))
        {
            return true;
        }
        let mut cursor = RootCursor::default();
        while let Some(root) = self.tools.platform.next_root(&mut cursor) {
            if meets(range_of(root)) && matches!(root.kind, RootKind::Stack(_)) {
                return true;
            }
        }
        false
    }

    /// Does something with a piece of a root.
    pub(super) fn each_root_piece(&mut self, piece: RootPiece, work: PieceVisitor<'_, Self>) {
        let Range { start: mut at, end } = piece.range;
        while at < end {
            at = self.without_interrupts(|marker| {
                let left = RootPiece {
                    range: at..end,
                    ..piece.clone()
                };
                marker.read_root(left, work)
            });
            self.flush_full();
        }
    }

    /// Does something with a piece of a root, or with its beginning; returns where it stopped. Interrupts are off.
    #[inline(always)]
    fn read_root(&mut self, piece: RootPiece, work: PieceVisitor<'_, Self>) -> usize {
        if !A::STOPPED && piece.named_by == NamedBy::Callers {
            self.region_piece(piece.range, work)
        } else if !A::STOPPED && matches!(piece.named_by, NamedBy::Caller(_)) {
            self.single_piece(piece.range, piece.until, work)
        } else if !A::STOPPED && matches!(piece.root.kind, RootKind::Stack(_)) {
            self.stack_piece(piece.range, work)
        } else {
            // SAFETY: the platform promises that its roots can be read as long as the walk goes on, and vouches for regions.
            let mapped = unsafe { MappedPiece::new(piece.range, piece.until, piece.encoding) };
            work(self, &mapped)
        }
    }

    /// A piece of a region while other code runs: the region may be removed meanwhile.
    fn region_piece(&mut self, piece: Range<usize>, work: PieceVisitor<'_, Self>) -> usize {
        let Tools {
            hazard,
            root_ranges,
            ..
        } = self.tools;
        hazard.set_region(piece.start);
        let regions = &root_ranges.regions.common;
        let stopped_at = match regions.first_from(piece.start) {
            Some(region) if region.start < piece.end => {
                let mut end = region.end;
                // Another region may go on in the middle of a word. From the next word on it is read by itself.
                while end < piece.end && !end.is_multiple_of(WORD) {
                    match regions.end_from(end) {
                        same if same == end => break,
                        longer => end = longer,
                    }
                }
                let end = end.min(piece.end);
                // SAFETY: the platform vouches for it, and whoever removes the region waits for the marker.
                work(self, &unsafe { MappedPiece::of_words(region.start, end) })
            }
            _ => piece.end,
        };
        hazard.clear();
        stopped_at
    }

    /// A piece of a region that is read on its own, while other code runs: it may be removed meanwhile, and another one be added
    /// there. Of the bytes up to `until`, the last belong to the next piece.
    fn single_piece(
        &mut self,
        piece: Range<usize>,
        until: usize,
        work: PieceVisitor<'_, Self>,
    ) -> usize {
        let tools = self.tools;
        tools.hazard.set_region(piece.start);
        let there = tools
            .root_ranges
            .regions
            .single
            .next_single_from(piece.start);
        let stopped_at = match there {
            Some(one) if one.range.start < piece.end => {
                let encoding = Encoding::new(one.how.reading, one.start);
                let start = one.range.start;
                // Another one may be read in another way, so that less is read at once.
                let end = piece_end(start, one.how.reading)
                    .min(one.range.end)
                    .min(piece.end);
                let until = one.range.end.min(until);
                if one.how.vouched_by == VouchedBy::Caller || tools.readable(start, until - start) {
                    // SAFETY: somebody vouches for it, and whoever removes the region waits for the marker.
                    let mapped = unsafe { MappedPiece::new(start..end, until, encoding) };
                    work(self, &mapped)
                } else {
                    end
                }
            }
            _ => piece.end,
        };
        tools.hazard.clear();
        stopped_at
    }

    /// A piece of a stack while other code runs: its task may end meanwhile, and the stack be freed.
    fn stack_piece(&mut self, piece: Range<usize>, work: PieceVisitor<'_, Self>) -> usize {
        let (access, tools) = (self.access, self.tools);
        let held = tools
            .registry
            .containing(access, piece.start, |object| tools.hazard.set(object.start));
        let own = || tools.own_stack.as_ref().is_some_and(|own| own.has(&piece));
        let mut stopped_at = piece.end;
        if held.is_some() || own() || tools.platform.stays_readable(piece.start, piece.len()) {
            // SAFETY: the free of the block that holds it waits for the marker; or it is the stack that this code runs on; or
            // the platform has promised that it stays readable.
            let mapped = unsafe { MappedPiece::of_words(piece.start, piece.end) };
            stopped_at = work(self, &mapped);
        }
        tools.hazard.clear();
        stopped_at
    }
}
