//! Memory that is not read as plain words: which numbers in it may be pointers.
//!
//! A [`Reading`] says how pointers are stored in a block or a region. All that reads memory for its pointers (the marker, `holders`,
//! `path`, the verdict's leaders) takes it in pieces that know their reading, so a pointer that one of them sees is seen by all.
//! Plain words, which nearly all memory holds, go the fast way ([`crate::marker::words`]): what is read otherwise has a note, and is
//! never taken for a plain object.
//!
//! A number may lie across the end of a piece, into the next page. Then it belongs to the piece in which it begins; a piece
//! knows how far beyond its end may be read.

use core::ops::Range;

use super::Marker;
use super::window::SHOWN;
use crate::marker::words::{MappedWords, WordVisitor};
use crate::metadata::WORD;
use crate::objects::access::Access;
use crate::objects::record::{Record, flag};
use crate::platform::address::{Extent, end_of};
use crate::platform::descriptors::{
    DESCRIPTOR_BYTES, STACK_POINTERS, TASK_STATE_BYTES, descriptor_address,
};
use crate::platform::{Platform, Reading, Words};

/// How far beyond its end a piece is read at most: a descriptor has two words, of which only the first byte may lie in the piece.
pub(super) const BEYOND: usize = 2 * WORD - 1;

/// How memory is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoding {
    reading: Reading,
    /// Where the block, its copy or the region begins: layouts count from there.
    base: usize,
}

impl Encoding {
    pub(super) const WORDS: Self = Self {
        reading: Reading::Words,
        base: 0,
    };

    /// Of memory that is read so and begins at `base`.
    pub(super) fn new(reading: Reading, base: usize) -> Self {
        Self { reading, base }
    }

    #[inline(always)]
    pub(super) fn is_plain(self) -> bool {
        self.reading == Reading::Words
    }

    #[inline(always)]
    pub(super) fn reading(self) -> Reading {
        self.reading
    }
}

/// A part of an object's memory, and how it is read.
#[derive(Clone)]
pub(super) struct BlockPart {
    pub(super) range: Range<usize>,
    pub(super) encoding: Encoding,
}

impl BlockPart {
    /// All of a plain object.
    pub(super) fn plain(start: usize, size: usize) -> Self {
        Self {
            range: start..end_of(start, size),
            encoding: Encoding::WORDS,
        }
    }
}

/// A piece of memory that may be read, and how it is.
#[derive(Clone)]
pub(super) struct MappedPiece {
    range: Range<usize>,
    /// How far may be read.
    until: usize,
    encoding: Encoding,
}

/// Does something with a piece of memory, or with its beginning, and returns the address where it stopped: it is called again with
/// what is left. In a stopped world nothing is left.
pub(super) type PieceVisitor<'l, M> = &'l mut dyn FnMut(&mut M, &MappedPiece) -> usize;

impl MappedPiece {
    /// The bytes of `range`, and those that follow before `until`.
    ///
    /// # Safety
    ///
    /// They are mapped and may be read as long as this is used.
    #[inline(always)]
    pub(super) unsafe fn new(range: Range<usize>, until: usize, encoding: Encoding) -> Self {
        Self {
            range,
            until,
            encoding,
        }
    }

    /// The whole words from `start` to `end`.
    ///
    /// # Safety
    ///
    /// They are mapped and may be read as long as this is used.
    #[inline(always)]
    pub(super) unsafe fn of_words(start: usize, end: usize) -> Self {
        Self {
            range: start..end,
            until: end,
            encoding: Encoding::WORDS,
        }
    }

    /// Its whole words.
    #[inline(always)]
    pub(super) fn words(&self) -> MappedWords {
        // SAFETY: part of what may be read.
        unsafe { MappedWords::between(self.range.start, self.range.end) }
    }

    #[inline(always)]
    pub(super) fn is_plain(&self) -> bool {
        self.encoding.is_plain()
    }

    /// Where it ends.
    #[inline(always)]
    pub(super) fn end(&self) -> usize {
        self.range.end
    }

    /// Where those of its words begin that are left; its end if none are.
    #[inline(always)]
    pub(super) fn from(&self, left: MappedWords) -> usize {
        match left.len() {
            0 => self.range.end,
            _ => left.start(),
        }
    }

    /// All bytes that may be read.
    pub(super) fn readable(&self) -> Range<usize> {
        self.range.start..self.until
    }

    /// Shows each number that may be an address, with where it is stored. `is_tracked` tells whether a number lies in an object.
    fn each<P: Platform>(
        &self,
        platform: &P,
        words: Words<'_>,
        is_tracked: &dyn Fn(usize) -> bool,
        look: &mut dyn FnMut(usize, usize),
    ) {
        match self.encoding.reading {
            Reading::Words => {
                for (at, word) in self.words().each(words) {
                    look(at, words.untag(word));
                }
            }
            Reading::Physical { mask } => {
                for (at, word) in self.words().each(words) {
                    let plain = words.untag(word);
                    let mapped = mapped_at(platform, word & mask).filter(|&at| is_tracked(at));
                    look(at, mapped.unwrap_or(plain));
                }
            }
            Reading::Bytes => {
                for at in self.range.clone() {
                    if let Some(number) = self.number_at(words, at) {
                        look(at, words.untag(number));
                    }
                }
            }
            Reading::DescriptorTable => self.each_descriptor(words, look),
            Reading::TaskState => self.each_of_task_state(words, look),
        }
    }

    fn each_descriptor(&self, words: Words<'_>, look: &mut dyn FnMut(usize, usize)) {
        let base = self.encoding.base;
        if self.range.start == base {
            // The CPU's register for the table. (In a block that is read so, it points to the block itself, and does not count.)
            look(base, base);
        }
        let before = self.range.start.wrapping_sub(base) % DESCRIPTOR_BYTES;
        let first = (DESCRIPTOR_BYTES - before) % DESCRIPTOR_BYTES;
        for at in self.range.clone().skip(first).step_by(DESCRIPTOR_BYTES) {
            let Some(low) = self.number_at(words, at) else {
                return;
            };
            let high = self.number_at(words, end_of(at, DESCRIPTOR_BYTES));
            let address = descriptor_address(low as u64, high.unwrap_or(0) as u64);
            look(
                at,
                address.map_or(words.untag(low), |address| address as usize),
            );
        }
    }

    fn each_of_task_state(&self, words: Words<'_>, look: &mut dyn FnMut(usize, usize)) {
        let base = self.encoding.base;
        for offset in STACK_POINTERS {
            let at = end_of(base, offset);
            if self.range.contains(&at)
                && let Some(end) = self.number_at(words, at)
            {
                // A stack grows down from its end, which is in the next block, or in none.
                look(at, end.wrapping_sub(1));
            }
        }
        let behind = end_of(base, TASK_STATE_BYTES);
        for (at, word) in self.words().each(words) {
            if at >= behind {
                look(at, words.untag(word));
            }
        }
    }

    /// The eight bytes at an address, if all of them may be read. Only whole words are read where words are foreign.
    fn number_at(&self, words: Words<'_>, at: usize) -> Option<usize> {
        let left = match self.until {
            usize::MAX => at.wrapping_neg(),
            until => until.saturating_sub(at),
        };
        if at < self.range.start || left < WORD {
            return None;
        }
        let inside = at % WORD;
        if inside == 0 {
            // SAFETY: a word that may be read.
            return Some(unsafe { words.read(at) });
        }
        let first = at - inside;
        if first >= self.range.start && left >= 2 * WORD - inside {
            // SAFETY: a word that may be read.
            let low = unsafe { words.read(first) };
            // SAFETY: a word that may be read.
            let high = unsafe { words.read(first + WORD) };
            let bits = 8 * inside as u32;
            return Some(low >> bits | high << (usize::BITS - bits));
        }
        let mut bytes = [0; WORD];
        for (byte, address) in bytes.iter_mut().zip(at..) {
            // SAFETY: one of the bytes that may be read.
            *byte = unsafe { words.read_byte(address) }?;
        }
        Some(usize::from_le_bytes(bytes))
    }
}

/// Where the byte at a physical address is mapped, if memory may be there.
fn mapped_at<P: Platform>(platform: &P, number: usize) -> Option<usize> {
    if number == 0 {
        return None;
    }
    let physical = Extent::physical(number, 1)?;
    Extent::mapped(platform, physical.start().get(), 1).map(|mapped| mapped.start().get())
}

impl<P: Platform, A: Access> Marker<'_, P, A> {
    /// How an object is read.
    pub(super) fn reading_of(&mut self, start: usize, record: &Record) -> Reading {
        match record.has(flag::NOTES) {
            true => self.without_interrupts(|marker| marker.registry().reading(start)),
            false => Reading::Words,
        }
    }

    /// A piece of a block that the marker may read with the world stopped, up to `until`, if somebody vouches for it.
    pub(super) fn stopped_piece(
        &self,
        range: Range<usize>,
        until: usize,
        encoding: Encoding,
    ) -> Option<MappedPiece> {
        if !self.tools.readable(range.start, until - range.start) {
            return None;
        }
        // SAFETY: it is vouched for, and is not freed in a stopped world.
        Some(unsafe { MappedPiece::new(range, until, encoding) })
    }

    /// Follows the pointers in a piece of memory, and returns where it stopped.
    pub(super) fn scan_piece(&mut self, piece: &MappedPiece) -> usize {
        if piece.is_plain() {
            piece.from(self.scan_words(piece.words()))
        } else {
            self.scan_encoded(piece)
        }
    }

    /// Does the same where the piece is not read as words, and counts its words as read.
    #[cold]
    #[inline(never)]
    fn scan_encoded(&mut self, piece: &MappedPiece) -> usize {
        self.words += piece.words().len() as u64;
        let words = self.tools.platform.words();
        self.show_encoded(piece, words, &mut |marker, _, number| {
            marker.candidate(number)
        });
        piece.end()
    }

    /// Shows the numbers in a piece whose words are read by `words`.
    pub(super) fn show_encoded(
        &mut self,
        piece: &MappedPiece,
        words: Words<'_>,
        look: WordVisitor<'_, Self>,
    ) {
        let (platform, lowest, span) = (self.tools.platform, self.lowest, self.span);
        let (registry, access) = (self.tools.registry, self.access);
        let is_tracked = |number| registry.containing(access, number, |_| ()).is_some();
        piece.each(platform, words, &is_tracked, &mut |at, number| {
            if number.wrapping_sub(lowest) < span {
                look(self, at, number);
            }
        });
    }

    /// Shows each number in a piece of memory that may be an address in an object, and returns where it stopped.
    pub(super) fn show_piece(&mut self, piece: &MappedPiece, look: WordVisitor<'_, Self>) -> usize {
        if !piece.is_plain() {
            self.show_encoded(piece, self.tools.platform.words(), look);
            return piece.end();
        }
        let (platform, lowest, span) = (self.tools.platform, self.lowest, self.span);
        let mut words = piece.words();
        let mut shown = 0;
        while words.len() > 0 && (A::STOPPED || shown < SHOWN) {
            // As many as there are in a stopped world, where no window ends.
            let some = words.take(if A::STOPPED { usize::MAX } else { SHOWN });
            let Some(mut search) = some.search() else {
                // The last words of the address space: none are left.
                for (at, word) in some.each_within(platform, lowest, span) {
                    look(self, at, word);
                }
                break;
            };
            while let Some(word) = search.next_within(platform, lowest, span) {
                look(self, search.found_at(), word);
                shown += 1;
            }
        }
        piece.from(words)
    }
}
