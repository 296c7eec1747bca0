//! Patterns of function names, in metadata.
//!
//! A pattern is text in which `*` stands for any text, and all else for itself. It matches a name as a whole, or all of it
//! that stands behind one of its `::`: `arc_cycle` and `leak::arc_cycle` match `kernel::shell::leak::arc_cycle`, and
//! `leak::arc` does not. Neither what a pattern may say nor a name has a largest length.
//!
//! # How it is held against a name
//!
//! Names come from the platform piece by piece and are not kept. So what is kept is how far the pattern has been matched: a
//! bit for each of its places, set if what has come, from the name's start or from behind one of its `::`, matches
//! the pattern up to there. A byte makes a new set of places from those before; two sets take turns.
//!
//! # Invariants
//!
//! A place that is a star is never in a set without the one behind it, since a star also matches nothing.
//!
//! # Locks
//!
//! None. Who changes a pattern or holds it against a name has the claim.

use core::fmt::{self, Write};
use core::marker::PhantomData;

use crate::metadata::hidden::Hidden;
use crate::metadata::{Class, MetaAlloc, Piece};

/// Words of the piece that stands for a pattern; all others are its owner's.
const LEN: usize = 0;
const STATE: usize = 6;
const TEXT: usize = 7;
/// The class of that piece.
pub(crate) const HEAD: Class = Class::NOTE;
const _: () = assert!(TEXT < HEAD.words());

/// Bits of the state: which of the two sets is in use; for each, whether the end of the pattern is in it, and whether another
/// place is; and whether a name has been matched.
const SECOND: u64 = 1;
const ENDS: [u64; 2] = [2, 4];
const PLACES: [u64; 2] = [8, 16];
const HIT: u64 = 32;

/// Words of a piece of the text: bytes of it, and their bits in each of the two sets.
const CLASS: Class = Class::PATTERN_TEXT;
const BYTES: usize = 2;
const BYTE_WORDS: usize = 20;
const PER_PIECE: usize = 8 * BYTE_WORDS;
const SET_WORDS: usize = PER_PIECE.div_ceil(64);
const SETS: [usize; 2] = [BYTES + BYTE_WORDS, BYTES + BYTE_WORDS + SET_WORDS];
const _: () = assert!(SETS[1] + SET_WORDS <= CLASS.words());

/// A pattern, by the piece that stands for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Glob(Piece);

impl Glob {
    /// Keeps a pattern, for which this piece is to stand. False where there is no memory; then nothing is kept.
    pub(crate) fn keep(head: Piece, text: &str, meta: &MetaAlloc<'_>) -> bool {
        let glob = Self(head);
        head.set(LEN, text.len() as u64);
        head.set(STATE, 0);
        head.set(TEXT, Hidden::NONE.bits());
        let mut last = None;
        for bytes in text.as_bytes().chunks(PER_PIECE) {
            let Some(piece) = Piece::take(CLASS, meta) else {
                glob.drop_text(meta);
                return false;
            };
            piece.set_next(Hidden::NONE);
            for (word, bytes) in bytes.chunks(8).enumerate() {
                let mut padded = [0; 8];
                padded[..bytes.len()].copy_from_slice(bytes);
                piece.set(BYTES + word, u64::from_le_bytes(padded));
            }
            match last {
                None => head.set(TEXT, piece.hidden().bits()),
                Some(last) => Piece::set_next(last, piece.hidden()),
            }
            last = Some(piece);
        }
        true
    }

    /// The pattern for which a piece stands.
    pub(crate) fn of(head: Piece) -> Self {
        Self(head)
    }

    /// Gives the text's memory back; the head is its owner's.
    pub(crate) fn drop_text(self, meta: &MetaAlloc<'_>) {
        let mut next = self.first();
        while let Some(piece) = next {
            next = piece.next();
            piece.give(CLASS, meta);
        }
        self.0.set(TEXT, Hidden::NONE.bits());
        self.0.set(LEN, 0);
    }

    fn first(self) -> Option<Piece> {
        Piece::at(Hidden::from_bits(self.0.get(TEXT)))
    }

    fn pieces(self) -> impl Iterator<Item = Piece> {
        core::iter::successors(self.first(), |piece| piece.next())
    }

    fn len(self) -> usize {
        self.0.get(LEN) as usize
    }

    fn bytes(self) -> impl Iterator<Item = u8> {
        let bytes = |piece: Piece| (0..PER_PIECE).map(move |at| byte_of(piece, at));
        self.pieces().flat_map(bytes).take(self.len())
    }

    /// Whether it is this text.
    pub(crate) fn is(self, text: &str) -> bool {
        self.len() == text.len() && self.bytes().eq(text.bytes())
    }

    fn has(self, bits: u64) -> bool {
        self.0.get(STATE) & bits != 0
    }

    fn set(self, bits: u64) {
        self.0.set(STATE, self.0.get(STATE) | bits);
    }

    fn clear(self, bits: u64) {
        self.0.set(STATE, self.0.get(STATE) & !bits);
    }

    /// Which set is in use.
    fn current(self) -> usize {
        usize::from(self.has(SECOND))
    }

    /// Nothing has come yet, of any name.
    pub(crate) fn begin(self) {
        self.clear(HIT);
        self.begin_name();
    }

    /// A name begins.
    fn begin_name(self) {
        self.empty(self.current());
        self.begin_segment();
    }

    /// What comes now may be all that there is to match, too.
    pub(crate) fn begin_segment(self) {
        self.come_to(self.current(), 0);
    }

    /// The name goes on with this byte.
    pub(crate) fn step(self, byte: u8) {
        let (now, next) = (self.current(), 1 - self.current());
        // Most patterns are through with most names after the first letter.
        if !self.has(PLACES[now]) {
            return self.clear(ENDS[now]);
        }
        self.empty(next);
        for (index, piece) in self.pieces().enumerate() {
            for word in 0..SET_WORDS {
                let mut bits = piece.get(SETS[now] + word);
                while bits != 0 {
                    let at = word * 64 + bits.trailing_zeros() as usize;
                    bits &= bits - 1;
                    let place = index * PER_PIECE + at;
                    match byte_of(piece, at) {
                        b'*' => self.come_to(next, place),
                        wanted if wanted == byte => self.come_to(next, place + 1),
                        _ => {}
                    }
                }
            }
        }
        self.0.set(STATE, self.0.get(STATE) ^ SECOND);
    }

    /// The name has ended, and another one begins.
    pub(crate) fn end_name(self) {
        if self.has(ENDS[self.current()]) {
            self.set(HIT);
        }
        self.begin_name();
    }

    /// Whether a name has been matched since it began.
    pub(crate) fn has_matched(self) -> bool {
        self.has(HIT)
    }

    fn empty(self, set: usize) {
        self.clear(ENDS[set] | PLACES[set]);
        for piece in self.pieces() {
            (0..SET_WORDS).for_each(|word| piece.set(SETS[set] + word, 0));
        }
    }

    /// Puts a place into a set, with those behind it that are come to by nothing.
    fn come_to(self, set: usize, mut place: usize) {
        let Some(mut piece) = self.pieces().nth(place / PER_PIECE) else {
            return self.set(ENDS[set]);
        };
        while place < self.len() {
            let at = place % PER_PIECE;
            let (word, bit) = (SETS[set] + at / 64, 1 << (at % 64));
            let before = piece.get(word);
            if before & bit != 0 {
                return;
            }
            piece.set(word, before | bit);
            self.set(PLACES[set]);
            if byte_of(piece, at) != b'*' {
                return;
            }
            place += 1;
            if place.is_multiple_of(PER_PIECE) {
                match piece.next() {
                    Some(next) => piece = next,
                    None => break,
                }
            }
        }
        self.set(ENDS[set]);
    }
}

fn byte_of(piece: Piece, at: usize) -> u8 {
    (piece.get(BYTES + at / 8) >> (8 * (at % 8))) as u8
}

/// The pattern of a suppression, as it was given. Shows itself as its text, and can be compared with text.
#[derive(Clone, Copy)]
pub struct Pattern<'a> {
    glob: Glob,
    shown: PhantomData<&'a ()>,
}

impl Pattern<'_> {
    /// While the caller has the claim.
    pub(crate) fn new(glob: Glob) -> Self {
        Self {
            glob,
            shown: PhantomData,
        }
    }
}

impl fmt::Display for Pattern<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It was text; a character may lie in two pieces.
        let (mut bytes, mut len) = ([0; 4], 0);
        for byte in self.glob.bytes() {
            bytes[len] = byte;
            len += 1;
            if let Ok(character) = core::str::from_utf8(&bytes[..len]) {
                f.write_str(character)?;
                len = 0;
            }
            len %= bytes.len();
        }
        Ok(())
    }
}

impl fmt::Debug for Pattern<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        fmt::Display::fmt(self, f)?;
        f.write_char('"')
    }
}

impl PartialEq for Pattern<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.glob.bytes().eq(other.glob.bytes())
    }
}

impl Eq for Pattern<'_> {}

impl PartialEq<str> for Pattern<'_> {
    fn eq(&self, other: &str) -> bool {
        self.glob.is(other)
    }
}

impl PartialEq<&str> for Pattern<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.glob.is(other)
    }
}
