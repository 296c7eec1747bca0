//! The pass over memory as it was when it was frozen, while other code runs.
//!
//! The roots are read in the stop, and the numbers in them are noted. All that is reachable from there is found afterwards: each
//! block is read as it was at that moment ([`Platform::read_frozen`]). What is allocated later is marked from the start and need
//! not be read: it can only hold pointers to what was reachable then, and to what is new. So the verdict is that of a check in a
//! world that was stopped all the time.
//!
//! Who reads a block that is freed meanwhile, and when the pass is over: [`crate::objects::frozen`].
//!
//! # Locks
//!
//! One chunk's at a time. [`PIECE_WORDS`] words at most are read and followed with interrupts off.

use core::ops::Range;
use core::sync::atomic::Ordering;

use super::window::piece_end;
use super::{GivenUp, Marker};
use crate::marker::encoded::{BEYOND, BlockPart, Encoding, MappedPiece};
use crate::marker::guarded::Guarded;
use crate::marker::words::whole_words;
use crate::metadata::WORD;
use crate::metadata::hidden::Hidden;
use crate::objects::access::{Access, Locked, OpenChunk, Stopped};
use crate::objects::chunk::info;
use crate::objects::frozen::Candidate;
use crate::objects::hazard::PIECE;
use crate::objects::record::{Record, flag};
use crate::platform::address::end_of;
use crate::platform::{ForeignWords, PIECE_WORDS, Platform, Reading, Words};

/// Bytes that are read at once.
const PIECE_BYTES: usize = PIECE_WORDS * WORD;

/// Words that a piece is read with: a number may begin in its last word and end beyond.
const WITH_BEYOND: usize = PIECE_WORDS + BEYOND.div_ceil(WORD);

/// Candidates that are noted and taken at once.
const TOGETHER: usize = 32;

impl<P: Platform> Marker<'_, P, Stopped> {
    /// Notes the numbers in the roots that may be addresses in objects. For one worker.
    pub(crate) fn note_roots(&mut self) -> Result<(), GivenUp> {
        while let Some(piece) = self.take_piece() {
            self.each_root_piece(piece, &mut |marker, piece| {
                marker.words += piece.words().len() as u64;
                let (frozen, meta) = (marker.tools.frozen, &marker.tools.meta);
                let (mut some, mut len) = ([Candidate::NONE; TOGETHER], 0);
                let stopped_at = marker.show_piece(piece, &mut |_, slot, number| {
                    some[len] = Candidate {
                        slot: Hidden::new(slot),
                        number: Hidden::new(number),
                    };
                    len += 1;
                    if len == TOGETHER {
                        frozen.note(&some, meta);
                        len = 0;
                    }
                });
                frozen.note(&some[..len], meta);
                stopped_at
            });
            self.pause()?;
        }
        self.note_figures();
        Ok(())
    }
}

impl<P: Platform> Marker<'_, P, Locked> {
    /// Clears the notes that blocks are new or have been read, which earlier passes have left. No pass runs.
    pub(crate) fn forget_read(&mut self) -> Result<(), GivenUp> {
        self.each_chunk(
            |chunk| chunk.has(info::BORN),
            |marker, number, chunk| {
                let begin = |_: &mut Self, chunk: &OpenChunk<Locked>| {
                    chunk.clear(info::BORN);
                    u64::MAX
                };
                marker.each_in_chunk(number, chunk, begin, |_, object| {
                    object.record.clear(flag::BORN);
                });
            },
        )?;
        self.barrier()
    }

    /// Marks what was reachable when memory was frozen. The roots' numbers are noted.
    pub(crate) fn run_frozen(&mut self) -> Result<(), GivenUp> {
        self.begin()?;
        loop {
            // First: what is freed later was read, or was not reachable.
            let quiet = self.tools.frozen.is_quiet();
            let found = self.follow_candidates()?;
            self.finish()?;
            if self.tools.frozen.is_lost() {
                return Err(GivenUp);
            }
            if quiet && found == 0 {
                break;
            }
            // Others have been let run meanwhile, at the barriers.
        }
        if self.shared.started.load(Ordering::Acquire) {
            self.barrier()?;
            self.follow_started()?;
            self.barrier()?;
        }
        self.tools.unfinished.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Follows all candidates, and returns how many there were.
    fn follow_candidates(&mut self) -> Result<usize, GivenUp> {
        self.pointers = super::PointerPass::Starts;
        let mut found = 0;
        loop {
            let mut some = [Candidate::NONE; TOGETHER];
            let frozen = self.tools.frozen;
            let len = self.without_interrupts(|_| frozen.take_some(&mut some));
            some[..len]
                .iter()
                .for_each(|&one| self.follow_candidate(one));
            self.flush();
            if len == 0 {
                return Ok(found);
            }
            found += len;
            self.pause()?;
            while self.queue.is_filling() {
                self.scan_next()?;
            }
        }
    }

    fn follow_candidate(&mut self, candidate: Candidate) {
        let number = candidate.number.get();
        let in_area =
            candidate.slot != Hidden::NONE && self.shared.area_in_root.load(Ordering::Acquire);
        if !in_area {
            self.candidate(number);
            return self.flush_full();
        }
        let slot = candidate.slot.get();
        self.flush();
        (self.area, _) = self.own_area_at(slot, end_of(slot, 1), Encoding::WORDS);
        self.candidate(number);
        self.flush();
        self.area = None;
    }
}

impl<P: Platform, A: Access> Marker<'_, P, A> {
    /// Reads a block as it was when memory was frozen, unless it is new or is read by who frees it.
    pub(super) fn scan_frozen(&mut self, start: usize) -> Result<(), GivenUp> {
        let (access, frozen) = (self.access, self.tools.frozen);
        let opened = self.without_interrupts(|marker| {
            let registry = marker.tools.registry;
            let opened = registry.starting_at(access, start, |object| {
                let record = object.record.read();
                let size = registry.size(start, object.record);
                let guarded = Guarded::new(start, &record, size);
                if record.is_plain() && size <= PIECE_BYTES {
                    if frozen.open_whole(object) {
                        marker.tools.hazard.set(start);
                        return Opened::Whole(guarded);
                    }
                } else if frozen.open(object) {
                    if record.is_plain() {
                        frozen.reach(start);
                    }
                    return Opened::InPieces(record, guarded);
                }
                Opened::No
            });
            if let Some(Opened::Whole(object)) = &opened {
                marker.scan_held(start..end_of(start, object.size));
            }
            opened
        });
        self.flush_full();
        let Some(Opened::InPieces(record, object)) = opened else {
            return self.pause();
        };
        self.scan_opened(&record, object)?;
        self.without_interrupts(|marker| {
            // Under the lock: if the block is still there, nobody takes it over meanwhile.
            let registry = marker.tools.registry;
            registry.starting_at(access, start, |_| {
                if frozen.is_current(start) {
                    frozen.close();
                }
            });
        });
        Ok(())
    }

    /// Follows the pointers in a plain block of a piece at most, which the hazard names.
    fn scan_held(&mut self, block: Range<usize>) {
        // SAFETY: its free waits for the marker.
        let piece = unsafe { MappedPiece::of_words(block.start, block.end) };
        self.scan_frozen_piece(&piece);
        self.tools.hazard.clear();
    }

    fn scan_opened(&mut self, record: &Record, object: Guarded) -> Result<(), GivenUp> {
        if record.is_plain() {
            return self.each_frozen_piece(object, BlockPart::plain(object.start, object.size));
        }
        self.scan_special(object.start, record, object.size, &mut |marker, part| {
            marker.each_frozen_piece(object, part)
        })
    }

    /// Follows the pointers in a part of a block, piece by piece, until all is read, or who frees the block reads the rest.
    fn each_frozen_piece(&mut self, of: Guarded, part: BlockPart) -> Result<(), GivenUp> {
        let (access, frozen) = (self.access, self.tools.frozen);
        let Range { start: mut at, end } = part.range;
        let reading = part.encoding.reading();
        if reading == Reading::Bytes && !(at.is_multiple_of(WORD) && end.is_multiple_of(WORD)) {
            // Numbers at its ends lie in words that are not its own.
            frozen.lose();
        }
        while at < end {
            let piece_end = piece_end(at, reading).min(end_of(at | (PIECE_BYTES - 1), 1));
            let next = piece_end.min(end);
            let until = match part.encoding.is_plain() {
                true => next,
                false => end_of(next, BEYOND).min(end),
            };
            let stopped_at = self.without_interrupts(|marker| {
                let tools = marker.tools;
                let held = tools.registry.starting_at(access, of.start, |object| {
                    let ours = frozen.is_current(of.start);
                    if ours {
                        if object.record.read().is_plain() {
                            frozen.reach(next);
                        }
                        tools.hazard.set(of.start);
                    }
                    ours
                });
                if held != Some(true) {
                    return None;
                }
                let mut stopped_at = next;
                if part.encoding.is_plain() && !tools.readable(at, next - at) {
                    stopped_at = marker.pass_over(next, end);
                } else {
                    // SAFETY: its free waits for the marker.
                    let piece = unsafe { MappedPiece::new(at..next, until, part.encoding) };
                    marker.scan_frozen_piece(&piece);
                }
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

    /// Follows the pointers that a piece of a block held when memory was frozen, if somebody vouches for it.
    fn scan_frozen_piece(&mut self, piece: &MappedPiece) {
        let platform = self.tools.platform;
        let Range { start, end } = piece.readable();
        if !self.tools.readable(start, end - start) {
            self.unread += 1;
            return;
        }
        let mut kept = HeldWords {
            first: 0,
            words: [0; WITH_BEYOND],
            untag: platform.words(),
        };
        let Some(count) = kept.fill(platform, piece) else {
            return self.tools.frozen.lose();
        };
        self.words += piece.words().len() as u64;
        if piece.is_plain() {
            let (lowest, span) = (self.lowest, self.span);
            for &word in &kept.words[..count] {
                let number = kept.untag.untag(word);
                if number.wrapping_sub(lowest) < span {
                    self.candidate(number);
                }
            }
        } else {
            self.show_encoded(piece, Words::Foreign(&kept), &mut |marker, _, number| {
                marker.candidate(number);
            });
        }
        kept.wipe(count);
    }
}

/// What the marker does with a block.
enum Opened {
    No,
    /// It is read at once.
    Whole(Guarded),
    InPieces(Record, Guarded),
}

/// What the words of a piece held.
struct HeldWords<'p> {
    /// The address of the first one.
    first: usize,
    words: [usize; WITH_BEYOND],
    untag: Words<'p>,
}

impl HeldWords<'_> {
    /// Reads the whole words of a piece, and tells how many there are; of one that is not plain also those beyond. `None` if they
    /// are not known any more.
    fn fill<P: Platform>(&mut self, platform: &P, piece: &MappedPiece) -> Option<usize> {
        let Range { start, end } = piece.readable();
        let (first, count) = whole_words(start, end);
        self.first = first;
        // It may reach into another page, and so may what follows it.
        let (mut at, mut from) = (first, 0);
        while from < count {
            // By the distance: the last page's end is no address.
            let to = count.min(from + (PIECE - at % PIECE) / WORD);
            // SAFETY: whole words of the piece, which may be read, all in one page.
            unsafe { platform.read_frozen(at, &mut self.words[from..to]) }.ok()?;
            at = at.wrapping_add((to - from) * WORD);
            from = to;
        }
        Some(count)
    }

    /// Leaves no addresses of blocks on the stack that this lies on.
    fn wipe(&mut self, count: usize) {
        self.words[..count].fill(0);
        core::hint::black_box(self);
    }
}

// SAFETY: reads its own words, and no others.
unsafe impl ForeignWords for HeldWords<'_> {
    unsafe fn read(&self, address: usize) -> usize {
        let index = address.wrapping_sub(self.first) / WORD;
        self.words.get(index).copied().unwrap_or(0)
    }

    fn untag(&self, word: usize) -> usize {
        self.untag.untag(word)
    }
}
