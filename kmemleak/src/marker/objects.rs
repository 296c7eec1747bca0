//! Scanning objects: whole ones with the world stopped, piece by piece while other code runs.

use core::ops::Range;
use core::sync::atomic::Ordering;

use super::checkpoint::LOOK;
use super::{AHEAD_BYTES, GivenUp, LINE, Marker};
use crate::marker::encoded::{BEYOND, BlockPart, Encoding, MappedPiece, PieceVisitor};
use crate::marker::queue::{Entry, Segment};
use crate::marker::words::{MappedWords, WordVisitor, words_in};
use crate::metadata::WORD;
use crate::objects::access::Access;
use crate::objects::record::{Record, flag};
use crate::objects::side_table::Area;
use crate::platform::Platform;
use crate::platform::address::{Extent, end_of};
use crate::platform::arch::prefetch;

/// Bytes of a block that is read at once in a stopped world, if it is not plain or has more than a queue's entry can say.
const STRETCH: usize = 64 << 10;

/// Which words of an object are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WordSet {
    /// Those that the marker scans.
    Scanned,
    /// All of them.
    All,
}

/// Does something with a part of an object.
pub(super) type PartVisitor<'l, M> = &'l mut dyn FnMut(&mut M, BlockPart) -> Result<(), GivenUp>;

/// The whole words of an area, of the copy of its object at `copy`.
fn words_of(copy: usize, area: Area) -> Range<usize> {
    let start = copy + area.offset;
    words_in(start..end_of(start, area.len))
}

impl<'a, P: Platform, A: Access> Marker<'a, P, A> {
    /// Scans objects until no queue and no steal buffer has any left, and none waits that found no room in one.
    pub(super) fn drain(&mut self) -> Result<(), GivenUp> {
        let (shared, queues) = (self.shared, self.tools.queues);
        loop {
            while self.queue.len() > 0 {
                self.scan_next()?;
            }
            self.scan_waiting()?;
            self.flush();
            if self.queue.len() > 0 {
                continue;
            }
            if shared.workers() > 1 && queues.steal(shared.workers(), &mut self.queue) {
                continue;
            }
            if self.take_spilled()? {
                continue;
            }
            if shared.workers() == 1 {
                return Ok(());
            }
            shared.active.fetch_sub(1, Ordering::AcqRel);
            loop {
                if queues.any_offered(shared.workers()) || shared.spill.is_any_waiting() {
                    shared.active.fetch_add(1, Ordering::AcqRel);
                    break;
                }
                // A worker that offers entries, or leaves some that have no room, is active; so when no worker is active, none is left.
                if shared.active.load(Ordering::Acquire) == 0 {
                    return Ok(());
                }
                self.go_on()?;
                self.tools.platform.spin();
            }
        }
    }

    /// Scans some of the objects that have waited longest.
    #[inline(always)]
    pub(super) fn scan_next(&mut self) -> Result<(), GivenUp> {
        if self.workers > 1 {
            self.queue.offer();
        }
        let (now, now_len) = (self.scanned_ahead, self.scanned_ahead_len);
        let (len, segment) = self.queue.pop_some(&mut self.scanned_ahead);
        self.scanned_ahead_len = len;
        for entry in &self.scanned_ahead[..len] {
            let (start, end) = entry.extent_to_prefetch(AHEAD_BYTES);
            let mut line = start;
            while line < end {
                prefetch(line);
                line += LINE;
            }
        }
        self.scan_entries(&now[..now_len])?;
        match segment {
            Segment::Ended => self.end_segment(),
            Segment::GoesOn => Ok(()),
        }
    }

    /// As many objects were scanned as a segment of the queue has entries.
    #[cold]
    #[inline(never)]
    fn end_segment(&mut self) -> Result<(), GivenUp> {
        self.work.count_scanned(self.queue.segment_len());
        self.worked(0)
    }

    /// Scans the objects that still wait for their words to be in the cache.
    pub(super) fn scan_waiting(&mut self) -> Result<(), GivenUp> {
        let (waiting, len) = (
            self.scanned_ahead,
            core::mem::take(&mut self.scanned_ahead_len),
        );
        self.scan_entries(&waiting[..len])
    }

    #[inline(always)]
    fn scan_entries(&mut self, entries: &[Entry]) -> Result<(), GivenUp> {
        if A::STOPPED {
            entries.iter().for_each(|entry| self.scan_stopped(*entry));
            return Ok(());
        }
        if self.tools.frozen.is_on() {
            return (entries.iter()).try_for_each(|entry| self.scan_frozen(entry.start()));
        }
        self.scan_together(entries)?;
        self.pause_after(entries.len() as u64 * LOOK)
    }

    #[inline(always)]
    fn scan_stopped(&mut self, entry: Entry) {
        match entry.plain() {
            Some((start, len)) => {
                if self.tools.readable(start, len) {
                    // SAFETY: plain blocks start at whole words; it is vouched for, and is not freed in a stopped world.
                    let words = unsafe { MappedWords::new(start, len / WORD) };
                    self.scan_words(words);
                } else {
                    self.unread += 1;
                }
            }
            None => self.scan_unplain(entry.start()),
        }
    }

    #[inline(never)]
    pub(super) fn scan_unplain(&mut self, start: usize) {
        let Some((record, object)) = self.guarded(start) else {
            return;
        };
        if record.has(flag::NOTES) && self.is_withheld(start) {
            return;
        }
        // If it is given up, all workers know, and this one leaves when it has scanned some more.
        let _ = self.scan_special(start, &record, object.size, &mut |marker, part| {
            marker.each_stretch(part, &mut |marker, stretch| match stretch {
                Some(piece) => _ = marker.scan_piece(&piece),
                None => marker.unread += 1,
            })
        });
    }

    /// Does something with a part of a block in a stopped world, a stretch at a time, if somebody vouches for it.
    fn each_stretch(
        &mut self,
        part: BlockPart,
        work: &mut dyn FnMut(&mut Self, Option<MappedPiece>),
    ) -> Result<(), GivenUp> {
        let Range { start: mut at, end } = part.range;
        while at < end {
            let next = end_of(at | (STRETCH - 1), 1).min(end);
            let until = match part.encoding.is_plain() {
                true => next,
                false => end_of(next, BEYOND).min(end),
            };
            let piece = self.stopped_piece(at..next, until, part.encoding);
            work(self, piece);
            self.worked(LOOK)?;
            at = next;
        }
        Ok(())
    }

    /// Scans an object that is not plain: copy by copy, area by area.
    #[inline(never)]
    pub(super) fn scan_special(
        &mut self,
        object: usize,
        record: &Record,
        size: usize,
        scan: PartVisitor<'_, Self>,
    ) -> Result<(), GivenUp> {
        let tools = self.tools;
        if record.has(flag::NO_SCAN | flag::ALIAS) || record.min_count() < 0 {
            return Ok(());
        }
        if record.has(flag::REACHED) && !record.has(flag::EXCESS) {
            // It is read as part of a root.
            return Ok(());
        }
        if record.has(flag::EXCESS) && self.area.is_none() {
            // Its pointers to itself don't count. It is never marked, so they are told by which object is scanned.
            self.flush();
            self.area = Some(object);
            let result = self.scan_special(object, record, size, scan);
            self.flush();
            self.area = None;
            return result;
        }
        let reading = self.reading_of(object, record);
        self.each_copy(object, record, size, &mut |marker, copy| {
            let encoding = Encoding::new(reading, copy);
            let mut scan = |marker: &mut Self, start: usize, len: usize| {
                let range = start..end_of(start, len);
                scan(marker, BlockPart { range, encoding })
            };
            let mut number = 0;
            while let Some(area) =
                marker.without_interrupts(|_| tools.registry.area(object, number))
            {
                // A word in several areas is read once.
                let Range { start: mut at, end } = words_of(copy, area);
                let end = end.min(end_of(copy, size));
                while at < end {
                    let (skip, next) = marker.covered(object, copy, number, at, end);
                    if !skip {
                        marker.each_part_outside(at..next, &mut scan)?;
                    }
                    at = next;
                }
                number += 1;
            }
            if number == 0 {
                marker.each_part_outside(copy..end_of(copy, size), &mut scan)?;
            }
            Ok(())
        })
    }

    /// Whether the word at `at` is in one of an object's first areas, `number` of them, and how far that goes.
    fn covered(
        &mut self,
        object: usize,
        copy: usize,
        number: usize,
        at: usize,
        end: usize,
    ) -> (bool, usize) {
        let mut next = end;
        for earlier in 0..number {
            let area =
                self.without_interrupts(|marker| marker.tools.registry.area(object, earlier));
            let Some(area) = area else {
                break;
            };
            let words = words_of(copy, area);
            if words.contains(&at) {
                return (true, words.end.min(end));
            }
            if words.start > at && !words.is_empty() {
                next = next.min(words.start);
            }
        }
        (false, next)
    }

    /// Shows each word of the object at `start` that may be an address in an object.
    pub(crate) fn each_word(
        &mut self,
        start: usize,
        words: WordSet,
        look: WordVisitor<'_, Self>,
    ) -> Result<(), GivenUp> {
        self.each_piece_of(start, words, &mut |marker, piece| {
            marker.show_piece(piece, look)
        })
    }

    /// Shows the memory of the object at `start`, in pieces.
    pub(super) fn each_piece_of(
        &mut self,
        start: usize,
        words: WordSet,
        look: PieceVisitor<'_, Self>,
    ) -> Result<(), GivenUp> {
        let Some((record, object)) = self.guarded(start) else {
            return Ok(());
        };
        let mut show = |marker: &mut Self, part: BlockPart| {
            if A::STOPPED {
                return marker.each_stretch(part, &mut |marker, stretch| {
                    if let Some(piece) = stretch {
                        let _ = look(marker, &piece);
                    }
                });
            }
            marker.each_piece(object, part, look)
        };
        match words {
            WordSet::Scanned if record.is_plain() => {
                show(self, BlockPart::plain(object.start, object.size))
            }
            WordSet::Scanned => self.scan_special(start, &record, object.size, &mut show),
            WordSet::All => {
                let reading = self.reading_of(start, &record);
                self.each_copy(start, &record, object.size, &mut |marker, copy| {
                    let range = copy..end_of(copy, object.size);
                    let encoding = Encoding::new(reading, copy);
                    show(marker, BlockPart { range, encoding })
                })
            }
        }
    }

    /// Does something with each place where an object's memory is.
    fn each_copy(
        &mut self,
        object: usize,
        record: &Record,
        size: usize,
        look: &mut dyn FnMut(&mut Self, usize) -> Result<(), GivenUp>,
    ) -> Result<(), GivenUp> {
        let platform = self.tools.platform;
        if record.has(flag::ALIAS) {
            return Ok(());
        }
        if record.has(flag::PHYS) {
            return match Extent::mapped(platform, object, size) {
                Some(memory) => look(self, memory.start().get()),
                None => Ok(()),
            };
        }
        if !record.has(flag::PERCPU) {
            return look(self, object);
        }
        (0..platform.cpus()).try_for_each(|cpu| match Extent::copy(platform, object, cpu, size) {
            Some(copy) => look(self, copy.start().get()),
            None => Ok(()),
        })
    }

    /// A checksum of an object's contents; `None` if it was freed. For use while other code runs.
    pub(crate) fn checksum(&mut self, start: usize) -> Result<Option<u32>, GivenUp> {
        self.sum = 0;
        let Some((record, object)) = self.guarded(start) else {
            return Ok(None);
        };
        self.each_copy(start, &record, object.size, &mut |marker, copy| {
            let memory = BlockPart::plain(copy, object.size);
            marker.each_piece(object, memory, &mut |marker, piece| {
                marker.sum_words(piece.words());
                piece.end()
            })
        })?;
        Ok(Some((self.sum ^ self.sum >> 32) as u32))
    }

    /// Adds words to the checksum.
    fn sum_words(&mut self, words: MappedWords) {
        for (_, word) in words.each(self.tools.platform.words()) {
            // Like FNV-1a with bytes, but rotated, so that upper bits count as well.
            self.sum = (self.sum.rotate_left(5) ^ word as u64).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Scans words, and returns those that are left: none in a stopped world.
    #[inline(always)]
    pub(super) fn scan_words(&mut self, words: MappedWords) -> MappedWords {
        self.words += words.len() as u64;
        let left = self.find_candidates(words);
        if !A::STOPPED {
            self.words -= left.len() as u64;
        }
        left
    }
}
