//! Objects while other code runs: each may be freed, and another one may take its place.
//!
//! So the marker knows an object by its address, and looks it up before each piece of it that is read: if it is there, its free waits
//! until the piece has been read ([`Hazard`](crate::objects::hazard::Hazard)).

use core::ops::Range;
use core::slice::Iter;
use core::sync::atomic::Ordering;

use super::window::{Off, PASSED_OVER, page_end, piece_end};
use super::{GivenUp, Marker};
use crate::marker::encoded::{BEYOND, BlockPart, MappedPiece, PieceVisitor};
use crate::marker::queue::Entry;
use crate::marker::words::MappedWords;
use crate::metadata::WORD;
use crate::objects::access::Access;
use crate::objects::chunk::{Chunk, granule_of, info};
use crate::objects::page_map::{Look, chunk_of};
use crate::objects::record::{Record, flag};
use crate::platform::Platform;
use crate::platform::address::end_of;

/// An object while other code runs: it may be freed, and a smaller object may take its place.
#[derive(Clone, Copy)]
pub(super) struct Guarded {
    pub(super) start: usize,
    pub(super) size: usize,
    /// Those of its flags that say where its memory is.
    pub(super) kind: u16,
}

impl Guarded {
    pub(super) fn new(start: usize, record: &Record, size: usize) -> Self {
        Self {
            start,
            size,
            kind: record.flags() & (flag::PERCPU | flag::PHYS),
        }
    }
}

/// Words of plain objects after which no other one is read in the same window.
const WORDS: u64 = 512;

/// What a window leaves of objects that are to be scanned, besides those that follow.
enum Unscanned {
    Nothing,
    /// The words of a plain object from an address on.
    Words {
        start: usize,
        len: usize,
        from: usize,
    },
    /// An object that is not scanned as a plain one.
    Object(usize),
}

impl<P: Platform, A: Access> Marker<'_, P, A> {
    /// Scans queued objects while other code runs, several plain ones in a window.
    #[inline(always)]
    pub(super) fn scan_together(&mut self, entries: &[Entry]) -> Result<(), GivenUp> {
        let mut rest = entries.iter();
        while !rest.as_slice().is_empty() {
            let left = self.read_some(&mut rest);
            self.flush_full();
            match left {
                Unscanned::Nothing => {}
                Unscanned::Words { start, len, from } => self.scan_rest(start, len, from)?,
                Unscanned::Object(start) => self.scan_guarded(start)?,
            }
        }
        Ok(())
    }

    /// Scans objects in a window.
    #[inline(always)]
    fn read_some(&mut self, rest: &mut Iter<'_, Entry>) -> Unscanned {
        let most = self.words + WORDS;
        let _off = Off::<P, A>::new(self.tools.platform);
        for entry in rest {
            let Some((start, len)) = entry.plain() else {
                return Unscanned::Object(entry.start());
            };
            match self.read_plain(start, len, start) {
                // It is another object, or is not plain any more.
                None => return Unscanned::Object(start),
                Some(from) if from != end_of(start, len) => {
                    return Unscanned::Words { start, len, from };
                }
                Some(_) if self.is_full() || self.words > most => break,
                Some(_) => {}
            }
        }
        Unscanned::Nothing
    }

    /// Scans a plain object from `at` on.
    #[cold]
    #[inline(never)]
    fn scan_rest(&mut self, start: usize, len: usize, mut at: usize) -> Result<(), GivenUp> {
        while at < end_of(start, len) {
            self.pause()?;
            let stopped_at = self.without_interrupts(|marker| marker.read_plain(start, len, at));
            let Some(stopped_at) = stopped_at else {
                break;
            };
            self.flush_full();
            at = stopped_at;
        }
        Ok(())
    }

    /// Scans a piece of a plain object of `len` bytes, from `at` on; returns where it stopped. `None` if it is not there any more.
    /// Interrupts are off.
    #[inline(always)]
    fn read_plain(&mut self, start: usize, len: usize, at: usize) -> Option<usize> {
        let tools = self.tools;
        let next = page_end(at).min(end_of(start, len));
        if !self.hold_plain(start, len) {
            return None;
        }
        let mut stopped_at = next;
        if tools.readable(at, next - at) {
            // SAFETY: plain blocks start at whole words; it is vouched for, and its free waits for the marker.
            let words = unsafe { MappedWords::new(at, (next - at) / WORD) };
            stopped_at -= self.scan_words(words).len() * WORD;
        } else {
            stopped_at = self.pass_over(next, end_of(start, len));
        }
        tools.hazard.clear();
        Some(stopped_at)
    }

    /// Notes that the marker reads the object at `start`, if that is there, is plain and has `len` bytes.
    #[inline(always)]
    fn hold_plain(&mut self, start: usize, len: usize) -> bool {
        let Some(chunk) = self.entry_of(start) else {
            return false;
        };
        let open = self.access.open(chunk_of(start), chunk);
        let granule = granule_of(start);
        if open.starts().load(Ordering::Relaxed) >> granule & 1 == 0 {
            return false;
        }
        let info = open.now();
        if info.has(info::SPECIAL) || info.common_words() as usize * WORD != len {
            // SAFETY: an object starts there, and the chunk is open.
            let record = unsafe { open.record(granule) };
            if !record.read().is_plain() || (record.short_size() as usize) < len {
                return false;
            }
        }
        self.tools.hazard.set(start);
        true
    }

    /// The entry of the chunk that an address lies in, if it has one.
    #[inline(always)]
    fn entry_of(&mut self, address: usize) -> Option<Chunk> {
        let found = self.walk_cache.entry(address);
        found.or_else(|| {
            match self
                .walk_cache
                .look(&self.tools.registry.map, chunk_of(address))
            {
                Look::Entry(chunk) => Some(chunk),
                Look::Nothing | Look::Run(_) => None,
            }
        })
    }

    /// Scans an object while other code runs, piece by piece, until it is freed.
    #[cold]
    #[inline(never)]
    fn scan_guarded(&mut self, start: usize) -> Result<(), GivenUp> {
        // The record may have been freed with its object, or be another object's by now: it is looked up by address each time.
        let Some((record, object)) = self.guarded(start) else {
            return self.pause();
        };
        if record.is_plain() {
            let all = BlockPart::plain(object.start, object.size);
            self.each_piece(object, all, &mut Self::scan_piece)
        } else {
            self.scan_special(object.start, &record, object.size, &mut |marker, part| {
                marker.each_piece(object, part, &mut Self::scan_piece)
            })
        }
    }

    /// The object that starts at an address now.
    pub(super) fn guarded(&mut self, start: usize) -> Option<(Record, Guarded)> {
        let access = self.access;
        self.without_interrupts(|marker| {
            let registry = marker.tools.registry;
            registry.starting_at(access, start, |object| {
                let record = object.record.read();
                let size = registry.size(start, object.record);
                (record, Guarded::new(start, &record, size))
            })
        })
    }

    /// Does something with each piece of a part of an object, as long as the object is there. If
    /// another object has taken its place, words are read only if they may be read in that one too.
    pub(super) fn each_piece(
        &mut self,
        of: Guarded,
        part: BlockPart,
        work: PieceVisitor<'_, Self>,
    ) -> Result<(), GivenUp> {
        let Range { start: mut at, end } = part.range;
        while at < end {
            let next = piece_end(at, part.encoding.reading()).min(end);
            let until = match part.encoding.is_plain() {
                true => next,
                false => end_of(next, BEYOND).min(end),
            };
            let stopped_at = self.without_interrupts(|marker| {
                let tools = marker.tools;
                if !marker.hold(of) {
                    return None;
                }
                let stopped_at = if tools.readable(at, until - at) {
                    // SAFETY: it is vouched for, and its free waits for the marker.
                    let piece = unsafe { MappedPiece::new(at..next, until, part.encoding) };
                    work(marker, &piece)
                } else if part.encoding.is_plain() {
                    marker.pass_over(next, end)
                } else {
                    marker.unread += 1;
                    next
                };
                tools.hazard.clear();
                Some(stopped_at)
            });
            self.flush_full();
            self.pause()?;
            match stopped_at {
                Some(stopped_at) => at = stopped_at,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Passes over pages that nobody vouches for, behind one that ends at `at`. Returns where the next piece begins. (Such a
    /// block may be gigabytes of a device's memory.)
    pub(super) fn pass_over(&mut self, mut at: usize, end: usize) -> usize {
        self.unread += 1;
        for _ in 1..PASSED_OVER {
            let next = page_end(at).min(end);
            if at >= end || self.tools.readable(at, next - at) {
                break;
            }
            self.unread += 1;
            at = next;
        }
        at
    }

    /// Notes that the marker reads an object, if that is there, or another one that can be read in the same way.
    fn hold(&mut self, of: Guarded) -> bool {
        let (access, tools) = (self.access, self.tools);
        let held = tools.registry.starting_at(access, of.start, |object| {
            let size = tools.registry.size(of.start, object.record);
            let now = Guarded::new(of.start, &object.record.read(), size);
            let same = now.kind == of.kind && now.size >= of.size;
            if same {
                tools.hazard.set(of.start);
            }
            same
        });
        held == Some(true)
    }
}

#[cfg(test)]
mod tests;
