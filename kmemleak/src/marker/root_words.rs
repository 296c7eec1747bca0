//! How the words of roots are read, a page at a time.
//!
//! In a stopped world all roots are there until the world goes on. While other code runs, a task may end and its stack be freed,
//! and a region may be removed. Before such a piece is read, the marker says so ([`Hazard`](crate::objects::hazard::Hazard)) and
//! looks whether it is still there; whoever takes it away waits.

use core::ops::Range;
use core::sync::atomic::Ordering;

use super::roots::{NamedBy, RootPiece, range_of};
use super::{GivenUp, Marker, Tools};
use crate::marker::encoded::{Encoding, MappedPiece, PieceVisitor};
use crate::marker::words::{MappedWords, whole_words, words_in};
use crate::objects::access::Access;
use crate::objects::object::Object;
use crate::objects::record::flag;
use crate::objects::root_ranges::{RegionUse, VouchedBy};
use crate::platform::address::end_of;
use crate::platform::{Platform, Root, RootCursor, RootKind};

impl<'a, P: Platform, A: Access> Marker<'a, P, A> {
    pub(super) fn scan_roots(&mut self) -> Result<(), GivenUp> {
        while let Some(piece) = self.take_piece() {
            self.each_root_piece(piece, &mut Self::scan_root_piece);
            self.pause()?;
            while self.queue.is_filling() {
                self.scan_next()?;
            }
        }
        Ok(())
    }

    /// Follows the pointers in a piece of a root.
    fn scan_root_piece(&mut self, piece: &MappedPiece) {
        let before = self.words;
        match piece.is_plain() {
            true => self.scan_words_of_root(piece.words()),
            false => self.scan_encoded_root(piece),
        }
        self.root_words += self.words - before;
    }

    fn scan_encoded_root(&mut self, piece: &MappedPiece) {
        if !self.shared.area_in_root.load(Ordering::Acquire) {
            return self.scan_piece(piece);
        }
        self.scan_encoded(piece, &mut |marker, at, number| {
            let (area, _) = marker.area_at(at, end_of(at, 1));
            marker.flush();
            marker.area = area;
            marker.candidate(number);
            marker.flush();
            marker.area = None;
        });
    }

    fn scan_words_of_root(&mut self, mut words: MappedWords) {
        if !self.shared.area_in_root.load(Ordering::Acquire) {
            return self.scan_words(words);
        }
        // Objects with an excess reference may lie in roots: their pointers to themselves don't count.
        while words.len() > 0 {
            let Range { start, end } = words.range();
            let (area, next) = self.area_at(start, end);
            self.flush();
            self.area = area;
            self.scan_words(words.take_before(next));
            self.flush();
            self.area = None;
        }
    }

    /// The object with an excess reference that the word at `at` belongs to, if there is one, and the address, at most `end`, at
    /// which the words begin that do not belong to that object.
    fn area_at(&self, at: usize, end: usize) -> (Option<usize>, usize) {
        let access = self.access;
        let registry = self.tools.registry;
        let words_end = |object: Object<'_>| {
            let end = end_of(object.start, registry.size(object.start, object.record));
            (object.record.has(flag::EXCESS))
                .then_some((object.start, words_in(object.start..end).end))
        };
        if let Some(Some((area, words_end))) = registry.containing(access, at, words_end)
            && at < words_end
        {
            return (Some(area), words_end.min(end));
        }
        let mut next = end;
        registry.each_in(access, at..end, &mut |object| {
            let (first, _) = whole_words(object.start, end);
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
            let root = piece.root;
            self.each_root_piece(piece, &mut |marker, piece| {
                marker.show_piece(piece, &mut |marker, slot, word| {
                    look(marker, root, slot, word);
                });
            });
            self.pause()?;
        }
        Ok(())
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
    #[inline(always)]
    pub(super) fn each_root_piece(&mut self, piece: RootPiece, work: PieceVisitor<'_, Self>) {
        let range = piece.range;
        if !A::STOPPED && piece.named_by == NamedBy::Callers {
            self.region_piece(range, work);
        } else if !A::STOPPED && matches!(piece.named_by, NamedBy::Caller(_)) {
            self.single_piece(range, piece.until, work);
        } else if !A::STOPPED && matches!(piece.root.kind, RootKind::Stack(_)) {
            self.stack_piece(range, work);
        } else {
            // SAFETY: the platform promises that its roots can be read as long as the walk goes on, and vouches for regions.
            let mapped = unsafe { MappedPiece::new(range, piece.until, piece.encoding) };
            self.without_interrupts(|marker| work(marker, &mapped));
        }
    }

    /// A piece of a region while other code runs: the region may be removed meanwhile.
    fn region_piece(&mut self, piece: Range<usize>, work: PieceVisitor<'_, Self>) {
        self.without_interrupts(|marker| {
            let Tools {
                hazard,
                root_ranges,
                ..
            } = marker.tools;
            hazard.set_region(piece.start);
            let mut at = piece.start;
            while let Some(region) = root_ranges.regions.next_from(at, RegionUse::is_common)
                && region.start < piece.end
            {
                let end = region.end.min(piece.end);
                // SAFETY: the platform vouches for it, and whoever removes the region waits for the marker.
                work(marker, &unsafe { MappedPiece::of_words(region.start, end) });
                at = end;
            }
            hazard.clear();
        });
    }

    /// A piece of a region that is read on its own, while other code runs: it may be removed meanwhile, and another one be added
    /// there. Of the bytes up to `until`, the last belong to the next piece.
    fn single_piece(&mut self, piece: Range<usize>, until: usize, work: PieceVisitor<'_, Self>) {
        self.without_interrupts(|marker| {
            let tools = marker.tools;
            tools.hazard.set_region(piece.start);
            let mut at = piece.start;
            while let Some(one) =
                (tools.root_ranges.regions).next_single_from(at, RegionUse::is_single)
                && one.range.start < piece.end
            {
                let (start, end) = (one.range.start, one.range.end.min(piece.end));
                let until = one.range.end.min(until);
                if one.how.vouched_by == VouchedBy::Caller || tools.readable(start, until - start) {
                    let encoding = Encoding::new(one.how.reading, one.start);
                    // SAFETY: somebody vouches for it, and whoever removes the region waits for the marker.
                    work(marker, &unsafe {
                        MappedPiece::new(start..end, until, encoding)
                    });
                }
                at = end;
            }
            tools.hazard.clear();
        });
    }

    /// A piece of a stack while other code runs: its task may end meanwhile, and the stack be freed.
    fn stack_piece(&mut self, piece: Range<usize>, work: PieceVisitor<'_, Self>) {
        let access = self.access;
        self.without_interrupts(|marker| {
            let tools = marker.tools;
            let held = tools
                .registry
                .containing(access, piece.start, |object| tools.hazard.set(object.start));
            let own = || tools.own_stack.as_ref().is_some_and(|own| own.has(&piece));
            if held.is_some() || own() || tools.platform.stays_readable(piece.start, piece.len()) {
                // SAFETY: the free of the block that holds it waits for the marker; or it is the stack that this code runs on; or
                // the platform has promised that it stays readable.
                work(marker, &unsafe {
                    MappedPiece::of_words(piece.start, piece.end)
                });
            }
            tools.hazard.clear();
        });
    }
}
