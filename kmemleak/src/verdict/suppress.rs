//! Suppressions: leaks that are known, and not to be told of.
//!
//! A suppression is a pattern of function names ([`Pattern`]). It is held against the name of
//! each function of the call stack that allocated an object, inlined ones included. An unreferenced object with a
//! matching one counts as a root after all others: it and what it leads to are suppressed, and no leaks. With
//! `PATTERN:max=N` more than N such objects are told of all the same. There may be as many suppressions as memory takes.
//!
//! Patterns come from a list in the kernel's source ([`Detector::with_suppressions`]), from the boot parameter
//! `kmemleak.suppress=`, and from the command `suppress`.
//!
//! # When names are looked up
//!
//! Naming a function takes long, sleeps and allocates, so it is not done while the world is stopped. Call stacks are
//! *judged* beforehand: which suppressions match is kept in a table. A check in a stopped world whose leaks have call
//! stacks that were not judged yet is followed by their judgement and, if a pattern matches any of them, by one more
//! check. So only the call stacks of what seems lost are ever named, and without suppressions none is.
//!
//! # Locks
//!
//! One, which nobody holds while names are looked up. It is reached through the claim.

use core::fmt::{self, Write};

use crate::checker::claim::{Claim, Nested, NotDone};
use crate::marker::{GivenUp, Marker};
use crate::metadata::hidden::Hidden;
use crate::metadata::page_vec::Paged;
use crate::metadata::{Class, MetaAlloc, Piece};
use crate::objects::record::flag;
use crate::objects::{Access, Object};
use crate::platform::Platform;
use crate::stacks::depot::Trace;
use crate::stacks::stack_table::StackTable;
use crate::tracker::Detector;
use crate::verdict::Verdict;
use crate::verdict::leak_list::fate;
use crate::verdict::pattern::{self, Glob, Pattern};

/// Why a suppression was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuppressError {
    /// The pattern is empty.
    Empty,
    /// What follows `:max=` is no number.
    Ceiling,
    /// There is no memory for it.
    NoMemory,
    /// It was asked for from inside an answer: see [`NotDone::Nested`].
    Nested,
}

impl fmt::Display for SuppressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a pattern has at least one byte"),
            Self::Ceiling => f.write_str("max= takes a number of objects"),
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
    pub pattern: Pattern<'a>,
    /// Unreferenced objects that it hides at most; with more it hides none.
    pub max: Option<u64>,
    /// Unreferenced objects whose call stacks match.
    pub matched: u64,
    /// Objects that were hidden: these, and what they lead to.
    pub objects: u64,
    /// Bytes of the hidden objects.
    pub bytes: u64,
}

/// Words of a suppression's piece: the next piece, the ceiling, what it has matched and hidden. The others are the pattern's.
const MAX: usize = 2;
const MATCHED: usize = 3;
const OBJECTS: usize = 4;
const BYTES: usize = 5;
const PIECE: Class = pattern::HEAD;

/// No ceiling.
const NO_MAX: u64 = u64::MAX;

/// One suppression, in metadata.
#[derive(Clone, Copy, PartialEq, Eq)]
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

    fn glob(self) -> Glob {
        Glob::of(self.0)
    }

    fn max(self) -> Option<u64> {
        Some(self.get(MAX)).filter(|&max| max != NO_MAX)
    }

    fn is_over(self) -> bool {
        self.max().is_some_and(|max| self.get(MATCHED) > max)
    }
}

/// Holds names, a line each, against all patterns at once.
struct Matcher<'a> {
    all: &'a Suppressions,
    /// The byte before, in the same name.
    before: u8,
}

impl Matcher<'_> {
    fn each(&self, look: impl FnMut(Glob)) {
        self.all.each().map(One::glob).for_each(look);
    }

    fn end_line(&mut self) {
        self.each(Glob::end_name);
        self.before = 0;
    }
}

impl Write for Matcher<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.end_line();
                continue;
            }
            self.each(|glob| glob.step(byte));
            if (self.before, byte) == (b':', b':') {
                self.each(Glob::begin_segment);
            }
            self.before = byte;
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
    /// For each call stack that was looked at: the first row of those of the suppressions that match, by its number plus
    /// one.
    judged: StackTable<2>,
    /// Matches: where the suppression lies, inverted, and the next row, by its number plus one.
    matches: Paged<2>,
}

impl Suppressed {
    pub(crate) const fn new() -> Self {
        Self {
            all: Suppressions {
                first: Hidden::NONE,
            },
            taken: 0,
            judged: StackTable::new(),
            matches: Paged::new(),
        }
    }

    fn add(
        &mut self,
        pattern: &str,
        max: Option<u64>,
        meta: &MetaAlloc<'_>,
    ) -> Result<(), SuppressError> {
        if pattern.is_empty() {
            return Err(SuppressError::Empty);
        }
        if let Some(one) = self.find(pattern) {
            one.set(MAX, max.unwrap_or(NO_MAX));
            return Ok(());
        }
        let piece = meta.take(PIECE).ok_or(SuppressError::NoMemory)?;
        let one = One(Piece(piece));
        if !Glob::keep(one.0, pattern, meta) {
            meta.give(PIECE, piece);
            return Err(SuppressError::NoMemory);
        }
        one.0.set_next(Hidden::NONE);
        for word in [MATCHED, OBJECTS, BYTES] {
            one.set(word, 0);
        }
        one.set(MAX, max.unwrap_or(NO_MAX));
        match self.all.each().last() {
            Some(last) => last.0.set_next(one.0.hidden()),
            None => self.all.first = one.0.hidden(),
        }
        self.forget_judgements();
        Ok(())
    }

    fn find(&self, pattern: &str) -> Option<One> {
        self.all.each().find(|one| one.glob().is(pattern))
    }

    /// False if there is none.
    fn remove(&mut self, found: Option<One>, meta: &MetaAlloc<'_>) -> bool {
        let Some(found) = found else {
            return false;
        };
        let after = found.0.link();
        let mut each = self.all.each();
        match each.find(|one| one.0.next() == Some(found.0)) {
            Some(before) => before.0.set_next(after),
            None => self.all.first = after,
        }
        found.glob().drop_text(meta);
        meta.give(PIECE, found.0.0);
        self.forget_judgements();
        true
    }

    fn forget_judgements(&mut self) {
        self.judged.clear();
        self.matches.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.all.each().count()
    }

    fn is_judged(&self, trace: Trace) -> bool {
        self.judged.find(trace).is_some()
    }

    /// The suppressions that match a call stack, as far as it has been judged.
    fn matching(&self, trace: Trace) -> impl Iterator<Item = One> {
        let row = self.judged.find(trace);
        let first = row.map_or(0, |row| self.judged.rows.get(row, 1));
        let rows = core::iter::successors(first.checked_sub(1), |row| {
            self.matches.get(*row as usize, 1).checked_sub(1)
        });
        rows.filter_map(|row| {
            let hidden = Hidden::from_bits(self.matches.get(row as usize, 0));
            Piece::at(hidden).map(One)
        })
    }

    /// Notes which suppressions have matched a call stack's names; whether any has. `None` where there is no memory: then
    /// the call stack counts as one that none matches, and what it allocated is told of, which is the lesser evil.
    fn note_judgement(&mut self, trace: Trace, meta: &MetaAlloc<'_>) -> Option<bool> {
        let mut first = 0;
        for one in self.all.each().filter(|one| one.glob().has_matched()) {
            let row = self.matches.push([one.0.hidden().bits(), first], meta)?;
            first = row as u64 + 1;
        }
        let row = self.judged.find_or_add(trace, meta)?;
        self.judged.rows.set(row, 1, first);
        Some(first != 0)
    }

    /// Forgets everything; the memory is given back by its owner.
    pub(crate) fn empty(&mut self) {
        self.judged.empty();
        self.matches.empty();
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

/// Whether this text is a suppression, for which there may be no memory.
pub(crate) fn is_one(text: &str) -> bool {
    parse(text).is_ok_and(|(pattern, _)| !pattern.is_empty())
}

impl<P: Platform> Detector<P> {
    /// From the next verdict on, unreferenced objects are not told of that have a function in their call stack whose name
    /// matches `pattern` (`*` stands for any text) as a whole, or all of it that stands behind one of its `::`, with what
    /// they lead to: `PATTERN`, or `PATTERN:max=N` for as long as there are no more than N. What was added before gets the
    /// new ceiling. Task context, or before there are tasks.
    pub fn suppress(&self, pattern: &str) -> Result<(), SuppressError> {
        let (pattern, max) = parse(pattern)?;
        let claim = self.claim().map_err(|Nested| SuppressError::Nested)?;
        claim.take_suppressions();
        claim.with_suppressed(|suppressed, meta| suppressed.add(pattern, max, meta))
    }

    /// Takes a suppression back, whether or not `pattern` has a ceiling behind it; false if there is none with this
    /// pattern. Task context.
    pub fn unsuppress(&self, pattern: &str) -> Result<bool, NotDone> {
        let claim = self.claim()?;
        claim.take_suppressions();
        let bare = parse(pattern).map_or(pattern, |(bare, _)| bare);
        Ok(claim.with_suppressed(|suppressed, meta| {
            let found = suppressed.find(pattern).or(suppressed.find(bare));
            suppressed.remove(found, meta)
        }))
    }

    /// Takes all suppressions back. Task context.
    pub fn unsuppress_all(&self) -> Result<(), NotDone> {
        let claim = self.claim()?;
        claim.take_suppressions();
        claim.with_suppressed(
            |suppressed, meta| {
                while suppressed.remove(suppressed.all.each().next(), meta) {}
            },
        );
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

impl<P: Platform> Claim<'_, P> {
    fn with_suppressed<R>(&self, work: impl FnOnce(&mut Suppressed, &MetaAlloc<'_>) -> R) -> R {
        self.without_interrupts(|meta| work(&mut self.suppressed().lock(), meta))
    }

    /// How many suppressions there are.
    pub(crate) fn count_suppressions(&self) -> usize {
        self.with_suppressed(|suppressed, _| suppressed.len())
    }

    /// Shows each suppression, with what it hid from the last verdict.
    pub(crate) fn each_suppression(&self, look: &mut dyn FnMut(Suppression<'_>)) {
        self.take_suppressions();
        // The claim keeps them.
        let all = self.with_suppressed(|suppressed, _| suppressed.all);
        for one in all.each() {
            look(Suppression {
                pattern: Pattern::new(one.glob()),
                max: one.max(),
                matched: one.get(MATCHED),
                objects: one.get(OBJECTS),
                bytes: one.get(BYTES),
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
        self.with_suppressed(|suppressed, meta| {
            while let Some(text) = self.const_suppressions.get(suppressed.taken) {
                let added =
                    parse(text).and_then(|(pattern, max)| suppressed.add(pattern, max, meta));
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
            if self.with_suppressed(|suppressed, _| suppressed.is_judged(trace)) {
                return;
            }
            self.match_names(trace, &all);
            let any =
                self.with_suppressed(|suppressed, meta| suppressed.note_judgement(trace, meta));
            room = any.is_some();
            news |= any == Some(true);
        });
        news
    }

    /// Holds the functions of a call stack against all patterns.
    fn match_names(&self, trace: Trace, all: &Suppressions) {
        let mut matcher = Matcher { all, before: 0 };
        matcher.each(Glob::begin);
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
        if suppressed.all.each().next().is_none() {
            return Ok(());
        }
        self.each_unmarked(verdict, &mut |_, object| {
            let matching = suppressed.matching(object.record.read().trace());
            matching.for_each(|one| one.set(MATCHED, one.get(MATCHED) + 1));
        });
        for one in suppressed.all.each() {
            if one.get(MATCHED) == 0 || one.is_over() {
                continue;
            }
            self.each_unmarked(verdict, &mut |_, object| {
                let mut matching = suppressed.matching(object.record.read().trace());
                if matching.any(|other| other == one) {
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
