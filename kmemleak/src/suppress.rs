//! Suppressions: leaks that are known, and not to be told of.
//!
//! A suppression is a pattern of function names, in which `*` stands for any text. It is held against the name of
//! each function of the call stack that allocated an object, inlined ones included. An unreferenced object with a
//! matching one counts as a root after all others: it and what it leads to are suppressed, and no leaks. With
//! `PATTERN:max=N` more than N such objects are told of all the same.
//!
//! Patterns come from a list in the kernel's source ([`Detector::with_suppressions`]), from the boot parameter
//! `kmemleak.suppress=`, and from the command `suppress`.
//!
//! # When names are looked up
//!
//! Naming a function takes long, sleeps and allocates, so it is not done while the world is stopped. Call stacks are
//! *judged* beforehand: what patterns match is kept in a table. A check in a stopped world whose leaks have call
//! stacks that were not judged yet is followed by their judgement and, if a pattern matches any of them, by one more
//! check. So only the call stacks of what seems lost are ever named, and without suppressions none is.
//!
//! # Locks
//!
//! One, which nobody holds while names are looked up. It is reached through the claim.

use core::fmt::{self, Write};

use crate::claim::{Claim, Nested, NotDone};
use crate::depot::Trace;
use crate::detector::Detector;
use crate::hidden::Hidden;
use crate::list::fate;
use crate::marker::{GivenUp, Marker};
use crate::memory::{Class, Piece, Source};
use crate::platform::Platform;
use crate::record::flag;
use crate::registry::{Access, Object};
use crate::traces::Traces;
use crate::verdict::Verdict;

/// Bytes of a pattern, at most.
pub const MAX_PATTERN: usize = 255;

/// Suppressions at most: there is a bit for each in a call stack's judgement.
pub const MAX_SUPPRESSIONS: usize = 64;

/// Why a suppression was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuppressError {
    /// The pattern is empty, or longer than [`MAX_PATTERN`] bytes.
    Length,
    /// What follows `:max=` is no number.
    Ceiling,
    /// There are [`MAX_SUPPRESSIONS`] already.
    TooMany,
    /// There is no memory for it.
    NoMemory,
    /// It was asked for from inside an answer: see [`NotDone::Nested`].
    Nested,
}

impl fmt::Display for SuppressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => write!(f, "a pattern has 1 to {MAX_PATTERN} bytes"),
            Self::Ceiling => f.write_str("max= takes a number of objects"),
            Self::TooMany => write!(f, "there are {MAX_SUPPRESSIONS} suppressions already"),
            Self::NoMemory => f.write_str("no memory for one more suppression"),
            Self::Nested => NotDone::Nested.fmt(f),
        }
    }
}

impl core::error::Error for SuppressError {}

/// A suppression, and what it hid from the last verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suppression<'a> {
    /// The pattern.
    pub pattern: &'a str,
    /// Unreferenced objects that it hides at most; with more it hides none.
    pub max: Option<u64>,
    /// Unreferenced objects whose call stacks match.
    pub matched: u64,
    /// Objects that were hidden: these, and what they lead to.
    pub objects: u64,
    /// Bytes of the hidden objects.
    pub bytes: u64,
}

/// Words of a suppression's piece: the pattern's length, the next piece, the ceiling, what it has matched and hidden,
/// the state of a comparison, the text.
const LEN: usize = 0;
const MAX: usize = 2;
const MATCHED: usize = 3;
const OBJECTS: usize = 4;
const BYTES: usize = 5;
const STATE: usize = 6;
const STATE_WORDS: usize = MAX_PATTERN.div_ceil(64);
const TEXT: usize = STATE + STATE_WORDS;
const PIECE: Class = Class::SUPPRESSION;
const _: () = assert!(TEXT + MAX_PATTERN.div_ceil(8) <= PIECE.words());
const _: () = assert!(MAX_PATTERN < 64 * STATE_WORDS);

/// No ceiling.
const NO_MAX: u64 = u64::MAX;

/// One suppression, in metadata.
#[derive(Clone, Copy)]
struct One(Piece);

impl One {
    fn get(self, word: usize) -> u64 {
        self.0.get(word)
    }

    fn set(self, word: usize, value: u64) {
        self.0.set(word, value);
    }

    fn next(self) -> Option<Self> {
        self.0.next().map(Self)
    }

    fn len(self) -> usize {
        self.get(LEN) as usize
    }

    fn byte(self, index: usize) -> u8 {
        (self.get(TEXT + index / 8) >> (8 * (index % 8))) as u8
    }

    fn set_text(self, text: &str) {
        self.set(LEN, text.len() as u64);
        for (word, bytes) in text.as_bytes().chunks(8).enumerate() {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            self.set(TEXT + word, u64::from_le_bytes(padded));
        }
    }

    /// Shows the pattern's text.
    fn with_text<R>(self, look: impl FnOnce(&str) -> R) -> R {
        let mut bytes = [0; MAX_PATTERN];
        for (index, byte) in bytes.iter_mut().enumerate().take(self.len()) {
            *byte = self.byte(index);
        }
        look(core::str::from_utf8(&bytes[..self.len()]).unwrap_or("?"))
    }

    fn max(self) -> Option<u64> {
        Some(self.get(MAX)).filter(|&max| max != NO_MAX)
    }

    fn is_over(self) -> bool {
        self.max().is_some_and(|max| self.get(MATCHED) > max)
    }

    // A comparison. Bit p of the state: the text so far matches the first p bytes of the pattern, and what follows of stars
    // at once, since they also match nothing.

    fn begin(self) {
        (0..STATE_WORDS).for_each(|word| self.set(STATE + word, 0));
        self.come_to(0);
    }

    fn come_to(self, mut place: usize) {
        loop {
            let word = STATE + place / 64;
            self.set(word, self.get(word) | 1 << (place % 64));
            if place == self.len() || self.byte(place) != b'*' {
                return;
            }
            place += 1;
        }
    }

    fn step(self, byte: u8) {
        let before: [u64; STATE_WORDS] = core::array::from_fn(|word| self.get(STATE + word));
        (0..STATE_WORDS).for_each(|word| self.set(STATE + word, 0));
        for (word, bits) in before.into_iter().enumerate() {
            let mut bits = bits;
            while bits != 0 {
                let place = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                if place == self.len() {
                    continue;
                }
                match self.byte(place) {
                    b'*' => self.come_to(place),
                    wanted if wanted == byte => self.come_to(place + 1),
                    _ => {}
                }
            }
        }
    }

    fn matches(self) -> bool {
        self.get(STATE + self.len() / 64) >> (self.len() % 64) & 1 != 0
    }
}

/// Holds lines of text against all patterns at once.
struct Matcher<'a> {
    all: &'a Suppressions,
    /// A bit for each pattern that has matched a line.
    matched: u64,
}

impl Matcher<'_> {
    fn end_line(&mut self) {
        for (index, one) in self.all.each().enumerate() {
            self.matched |= u64::from(one.matches()) << index;
            one.begin();
        }
    }
}

impl Write for Matcher<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.end_line();
            } else {
                self.all.each().for_each(|one| one.step(byte));
            }
        }
        Ok(())
    }
}

/// All suppressions.
#[derive(Clone, Copy)]
struct Suppressions {
    first: Hidden,
}

impl Suppressions {
    fn each(self) -> impl Iterator<Item = One> {
        core::iter::successors(Piece::at(self.first).map(One), |one| one.next())
    }

    fn forget_hidden(self) {
        for one in self.each() {
            for word in [MATCHED, OBJECTS, BYTES] {
                one.set(word, 0);
            }
        }
    }
}

/// The suppressions, and what was found out with them. Changed by who has the claim.
pub(crate) struct Suppressed {
    all: Suppressions,
    /// Of the list in the kernel's source, those that have been taken.
    taken: usize,
    /// For each call stack that was looked at: a bit for each suppression that matches.
    judged: Traces<2>,
}

impl Suppressed {
    pub(crate) const fn new() -> Self {
        Self {
            all: Suppressions {
                first: Hidden::NONE,
            },
            taken: 0,
            judged: Traces::new(),
        }
    }

    fn add(
        &mut self,
        pattern: &str,
        max: Option<u64>,
        source: &Source<'_>,
    ) -> Result<(), SuppressError> {
        if pattern.is_empty() || pattern.len() > MAX_PATTERN {
            return Err(SuppressError::Length);
        }
        if let Some(one) = self.find(pattern) {
            one.set(MAX, max.unwrap_or(NO_MAX));
            return Ok(());
        }
        if self.len() == MAX_SUPPRESSIONS {
            return Err(SuppressError::TooMany);
        }
        let piece = source.take(PIECE).ok_or(SuppressError::NoMemory)?;
        let one = One(Piece(piece));
        one.0.set_next(Hidden::NONE);
        for word in [MATCHED, OBJECTS, BYTES] {
            one.set(word, 0);
        }
        one.set(MAX, max.unwrap_or(NO_MAX));
        one.set_text(pattern);
        match self.all.each().last() {
            Some(last) => last.0.set_next(one.0.hidden()),
            None => self.all.first = one.0.hidden(),
        }
        self.judged.clear();
        Ok(())
    }

    fn find(&self, pattern: &str) -> Option<One> {
        let mut each = self.all.each();
        each.find(|one| one.with_text(|text| text == pattern))
    }

    fn remove(&mut self, pattern: &str, source: &Source<'_>) -> bool {
        let Some(found) = self.find(pattern) else {
            return false;
        };
        let after = found.0.link();
        let mut each = self.all.each();
        match each.find(|one| one.0.next() == Some(found.0)) {
            Some(before) => before.0.set_next(after),
            None => self.all.first = after,
        }
        source.give(PIECE, found.0.0);
        self.judged.clear();
        true
    }

    pub(crate) fn len(&self) -> usize {
        self.all.each().count()
    }

    /// The suppressions that match a call stack; `None` if nobody has looked yet.
    fn judgement(&self, trace: Trace) -> Option<u64> {
        let row = self.judged.find(trace)?;
        Some(self.judged.rows.get(row, 1))
    }

    /// Forgets everything; the memory is given back by its owner.
    pub(crate) fn empty(&mut self) {
        self.judged.empty();
        (self.all.first, self.taken) = (Hidden::NONE, 0);
    }
}

/// A pattern and its ceiling.
fn parse(text: &str) -> Result<(&str, Option<u64>), SuppressError> {
    match text.rsplit_once(":max=") {
        None => Ok((text, None)),
        Some((pattern, max)) => match max.parse() {
            Ok(max) if max < NO_MAX => Ok((pattern, Some(max))),
            _ => Err(SuppressError::Ceiling),
        },
    }
}

impl<P: Platform, const BOOTSTRAP: usize> Detector<P, BOOTSTRAP> {
    /// From the next verdict on, unreferenced objects are not told of that have a function in their call stack whose name
    /// matches `pattern` (`*` stands for any text), with what they lead to: `PATTERN`, or `PATTERN:max=N` for as long
    /// as there are no more than N. What was added before gets the new ceiling. Task context, or before there are
    /// tasks.
    pub fn suppress(&self, pattern: &str) -> Result<(), SuppressError> {
        let (pattern, max) = parse(pattern)?;
        let claim = self.claim().map_err(|Nested| SuppressError::Nested)?;
        claim.take_suppressions();
        claim.with_suppressed(|suppressed, source| suppressed.add(pattern, max, source))
    }

    /// Takes a suppression back, whether or not `pattern` has a ceiling behind it; false if there is none with this
    /// pattern. Task context.
    pub fn unsuppress(&self, pattern: &str) -> Result<bool, NotDone> {
        let claim = self.claim()?;
        claim.take_suppressions();
        let bare = parse(pattern).map_or(pattern, |(bare, _)| bare);
        Ok(claim.with_suppressed(|suppressed, source| {
            suppressed.remove(pattern, source) || suppressed.remove(bare, source)
        }))
    }

    /// Takes all suppressions back. Task context.
    pub fn unsuppress_all(&self) -> Result<(), NotDone> {
        let claim = self.claim()?;
        claim.take_suppressions();
        claim.with_suppressed(|suppressed, source| {
            while let Some(one) = suppressed.all.each().next() {
                one.with_text(|pattern| suppressed.remove(pattern, source));
            }
        });
        Ok(())
    }

    /// Shows each suppression, with what it hid from the last verdict. Task context.
    pub fn for_each_suppression(
        &self,
        look: &mut dyn FnMut(Suppression<'_>),
    ) -> Result<(), NotDone> {
        let claim = self.claim()?;
        let _outside = claim.outside();
        claim.each_suppression(look);
        Ok(())
    }
}

impl<P: Platform, const BOOTSTRAP: usize> Claim<'_, P, BOOTSTRAP> {
    fn with_suppressed<R>(&self, work: impl FnOnce(&mut Suppressed, &Source<'_>) -> R) -> R {
        self.quietly(|source| work(&mut self.suppressed().lock(), source))
    }

    /// How many suppressions there are.
    pub(crate) fn count_suppressions(&self) -> usize {
        self.with_suppressed(|suppressed, _| suppressed.len())
    }

    /// Shows each suppression.
    pub(crate) fn each_suppression(&self, look: &mut dyn FnMut(Suppression<'_>)) {
        self.take_suppressions();
        // The claim keeps them.
        let all = self.with_suppressed(|suppressed, _| suppressed.all);
        for one in all.each() {
            one.with_text(|pattern| {
                look(Suppression {
                    pattern,
                    max: one.max(),
                    matched: one.get(MATCHED),
                    objects: one.get(OBJECTS),
                    bytes: one.get(BYTES),
                });
            });
        }
    }

    /// There is no verdict that anything is hidden from.
    pub(crate) fn forget_hidden(&self) {
        self.with_suppressed(|suppressed, _| suppressed.all.forget_hidden());
    }

    /// Adds those of the list in the kernel's source that have not been.
    pub(crate) fn take_suppressions(&self) {
        if !self.is_on() {
            return;
        }
        self.with_suppressed(|suppressed, source| {
            while let Some(text) = self.const_suppressions.get(suppressed.taken) {
                let added =
                    parse(text).and_then(|(pattern, max)| suppressed.add(pattern, max, source));
                if added == Err(SuppressError::NoMemory) {
                    // Next time, perhaps.
                    return;
                }
                suppressed.taken += 1;
            }
        });
    }

    /// Judges the call stacks of the unreferenced objects that were not judged yet. Whether a suppression matches any
    /// of them. Task context.
    pub(crate) fn judge(&self) -> bool {
        let all = self.with_suppressed(|suppressed, _| suppressed.all);
        if all.each().next().is_none() {
            return false;
        }
        let (mut news, mut room) = (false, true);
        self.each_named(&mut |named| {
            let trace = named.record.trace();
            if !room {
                return;
            }
            if self
                .with_suppressed(|suppressed, _| suppressed.judgement(trace))
                .is_some()
            {
                return;
            }
            let matched = self.matched(trace, &all);
            self.with_suppressed(|suppressed, source| {
                // Without memory it is told of, which is the lesser evil.
                let row = suppressed.judged.find_or_add(trace, source);
                room = row.is_some();
                if let Some(row) = row {
                    suppressed.judged.rows.set(row, 1, matched);
                    news |= matched != 0;
                }
            });
        });
        news
    }

    /// A bit for each pattern that matches a function of a call stack.
    fn matched(&self, trace: Trace, all: &Suppressions) -> u64 {
        let mut matcher = Matcher { all, matched: 0 };
        all.each().for_each(One::begin);
        let frames = self.depot.get(trace);
        let _outside = self.outside();
        for &address in frames.as_slice() {
            // The matcher takes whatever is written.
            let _ = self.platform.functions(address, &mut matcher);
            matcher.end_line();
        }
        if frames.as_slice().is_empty() {
            matcher.end_line();
        }
        matcher.matched
    }

    /// Marks what is suppressed, and what that leads to, and takes it out of the verdict's leaks. For one worker, after a
    /// pass whose unmarked objects are listed.
    pub(crate) fn mark_suppressed<A: Access>(
        &self,
        marker: &mut Marker<'_, P, A>,
        verdict: &mut Verdict,
    ) -> Result<(), GivenUp> {
        let suppressed = self.suppressed().lock();
        suppressed.all.forget_hidden();
        if suppressed.len() == 0 {
            return Ok(());
        }
        let judgement = |trace| suppressed.judgement(trace).unwrap_or(0);
        self.each_unmarked(verdict, &mut |_, object| {
            let matching = judgement(object.record.read().trace());
            for (index, one) in suppressed.all.each().enumerate() {
                one.set(MATCHED, one.get(MATCHED) + (matching >> index & 1));
            }
        });
        for (index, one) in suppressed.all.each().enumerate() {
            if one.get(MATCHED) == 0 || one.is_over() {
                continue;
            }
            self.each_unmarked(verdict, &mut |_, object| {
                if judgement(object.record.read().trace()) >> index & 1 != 0 {
                    marker.keep(object);
                }
            });
            marker.finish()?;
            let (mut objects, mut bytes) = (0, 0);
            let list = &verdict.list;
            self.each_listed_in(verdict, &mut |place, object| {
                if !object.mark.is_set() && !object.record.has(flag::REACHED) {
                    return;
                }
                object
                    .record
                    .clear(flag::LISTED | flag::SUSPECT | flag::INTERIOR_ONLY);
                objects += 1;
                bytes += self.registry.size(object.start, object.record);
                if let Some(index) = place {
                    list.set_fate(index, fate::SUPPRESSED);
                }
            });
            one.set(OBJECTS, objects as u64);
            one.set(BYTES, bytes as u64);
            verdict.suppressed_objects += objects;
            verdict.suppressed_bytes += bytes;
        }
        Ok(())
    }

    /// Shows the listed objects that are still unmarked.
    fn each_unmarked(&self, verdict: &Verdict, look: &mut dyn FnMut(Option<usize>, Object<'_>)) {
        self.each_listed_in(verdict, &mut |place, object| {
            if !object.mark.is_set() && !object.record.has(flag::REACHED) {
                look(place, object);
            }
        });
    }

    /// Shows the listed objects, with their numbers, or where the list found no room without.
    pub(crate) fn each_listed_in(
        &self,
        verdict: &Verdict,
        look: &mut dyn FnMut(Option<usize>, Object<'_>),
    ) {
        if verdict.list.left_out > 0 {
            return self.each_with(flag::LISTED, &mut |named| {
                self.change_named(named, &mut |object| look(None, object));
            });
        }
        for index in 0..verdict.list.len() {
            if verdict.list.has(index, fate::NO_LEAK) {
                continue;
            }
            let Some(named) = verdict.list.get(index) else {
                continue;
            };
            self.change_named(&named, &mut |object| look(Some(index), object));
        }
    }
}
