//! Patterns of function names, in metadata.
//!
//! A pattern is text in which `*` stands for any text, and all else for itself. It matches a name as a whole, or all of it that
//! follows one of its `::`: `arc_cycle` and `leak::arc_cycle` match `kernel::shell::leak::arc_cycle`, and `leak::arc` does not.
//! Neither a pattern nor a name has a largest length.
//!
//! # How a name is matched
//!
//! Names come from the platform piece by piece and are not kept. So what is kept is how far the pattern has been matched: a bit
//! for each of its places, set if the text so far, from the name's start or from behind one of its `::`, matches the pattern up
//! to there. A byte makes a new set of places from those before; two sets take turns.
//!
//! # Invariants
//!
//! A place that is a star is never in a set without the one behind it, since a star also matches nothing.
//!
//! # Locks
//!
//! None. A pattern has one user at a time.

use core::cell::Cell;
use core::fmt;

use crate::metadata::MetaAlloc;
use crate::metadata::list::{List, MetaBox};
use crate::metadata::page::NoMemory;

/// Bytes of a part of the text.
const PER_PART: usize = 160;
const SET_WORDS: usize = PER_PART.div_ceil(64);

/// A part of a pattern's text, with the bits of its places in each of the two sets.
struct TextPart {
    bytes: [u8; PER_PART],
    places: [[Cell<u64>; SET_WORDS]; 2],
}

impl TextPart {
    fn new(text: &[u8]) -> Self {
        let mut bytes = [0; PER_PART];
        bytes[..text.len()].copy_from_slice(text);
        let places = [const { [const { Cell::new(0) }; SET_WORDS] }; 2];
        Self { bytes, places }
    }
}

/// A pattern, and how far it has been matched. To be given back before it is dropped, as its [`List`] is.
pub(crate) struct Glob {
    text: List<TextPart>,
    len: usize,
    /// Which of the two sets is in use.
    current: Cell<usize>,
    /// Of each set: whether the end of the pattern is in it.
    ends: [Cell<bool>; 2],
    /// Of each set: whether another place is in it.
    any: [Cell<bool>; 2],
    /// Whether a name has been matched.
    hit: Cell<bool>,
}

impl Glob {
    /// The empty pattern.
    pub(super) const fn new() -> Self {
        Self {
            text: List::new(),
            len: 0,
            current: Cell::new(0),
            ends: [const { Cell::new(false) }; 2],
            any: [const { Cell::new(false) }; 2],
            hit: Cell::new(false),
        }
    }

    /// Makes it the pattern of this text. Where there is no memory it is empty again.
    pub(super) fn set_text(&mut self, text: &str, meta: &MetaAlloc<'_>) -> Result<(), NoMemory> {
        self.give_back(meta);
        for bytes in text.as_bytes().chunks(PER_PART) {
            match MetaBox::new(TextPart::new(bytes), meta) {
                Ok(part) => self.text.push_last(part),
                Err(NoMemory) => {
                    self.give_back(meta);
                    return Err(NoMemory);
                }
            }
        }
        self.len = text.len();
        Ok(())
    }

    /// Gives the text's memory back.
    pub(super) fn give_back(&mut self, meta: &MetaAlloc<'_>) {
        self.text.clear(meta);
        self.len = 0;
    }

    fn bytes(&self) -> impl Iterator<Item = u8> {
        let bytes = self.text.iter().flat_map(|part| part.bytes.iter());
        bytes.copied().take(self.len)
    }

    /// Whether it is this text.
    pub(super) fn is(&self, text: &str) -> bool {
        self.len == text.len() && self.bytes().eq(text.bytes())
    }

    /// Starts over: no text has come yet, of any name.
    pub(super) fn begin(&self) {
        self.hit.set(false);
        self.begin_name();
    }

    /// A name begins.
    fn begin_name(&self) {
        self.empty(self.current.get());
        self.begin_segment();
    }

    /// The text that comes now may also be matched from here on.
    pub(super) fn begin_segment(&self) {
        self.come_to(self.current.get(), 0);
    }

    /// The name goes on with this byte.
    pub(super) fn step(&self, byte: u8) {
        let (now, next) = (self.current.get(), 1 - self.current.get());
        // Most patterns fail on most names after the first letter.
        if !self.any[now].get() {
            return self.ends[now].set(false);
        }
        self.empty(next);
        for (index, part) in self.text.iter().enumerate() {
            for (word, places) in part.places[now].iter().enumerate() {
                let mut bits = places.get();
                while bits != 0 {
                    let at = word * 64 + bits.trailing_zeros() as usize;
                    bits &= bits - 1;
                    let place = index * PER_PART + at;
                    match part.bytes.get(at) {
                        Some(b'*') => self.come_to(next, place),
                        Some(&wanted) if wanted == byte => self.come_to(next, place + 1),
                        _ => {}
                    }
                }
            }
        }
        self.current.set(next);
    }

    /// Ends the name, and begins another one.
    pub(super) fn end_name(&self) {
        if self.ends[self.current.get()].get() {
            self.hit.set(true);
        }
        self.begin_name();
    }

    /// Whether a name has been matched since it began.
    pub(super) fn has_matched(&self) -> bool {
        self.hit.get()
    }

    fn empty(&self, set: usize) {
        self.ends[set].set(false);
        self.any[set].set(false);
        let words = self.text.iter().flat_map(|part| &part.places[set]);
        words.for_each(|word| word.set(0));
    }

    /// Puts a place into a set, with the places behind it that are reached without any text.
    fn come_to(&self, set: usize, mut place: usize) {
        let mut parts = self.text.iter().skip(place / PER_PART);
        while place < self.len
            && let Some(part) = parts.next()
        {
            let end = (place + 1).next_multiple_of(PER_PART).min(self.len);
            while place < end {
                let at = place % PER_PART;
                let (word, bit) = (&part.places[set][at / 64], 1 << (at % 64));
                if word.get() & bit != 0 {
                    return;
                }
                word.update(|places| places | bit);
                self.any[set].set(true);
                if part.bytes[at] != b'*' {
                    return;
                }
                place += 1;
            }
        }
        self.ends[set].set(true);
    }
}

/// The pattern of a suppression, as it was given. It is displayed as its text, and can be compared with text.
#[derive(Clone, Copy)]
pub struct Pattern<'a>(pub(super) &'a Glob);

impl fmt::Display for Pattern<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It was text; a character may lie in two parts.
        let (mut bytes, mut len) = ([0; 4], 0);
        for byte in self.0.bytes() {
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
        f.write_str("\"")?;
        fmt::Display::fmt(self, f)?;
        f.write_str("\"")
    }
}

impl PartialEq for Pattern<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.bytes().eq(other.0.bytes())
    }
}

impl Eq for Pattern<'_> {}

impl PartialEq<str> for Pattern<'_> {
    fn eq(&self, other: &str) -> bool {
        self.0.is(other)
    }
}

impl PartialEq<&str> for Pattern<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.0.is(other)
    }
}
