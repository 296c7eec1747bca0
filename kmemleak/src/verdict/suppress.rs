//! Suppressions: leaks that are known, and not to be reported.
//!
//! A suppression is a pattern of function names ([`Pattern`]). It is compared with the name of each function of the call stack
//! that allocated an object, inlined functions included. An unreferenced object with a matching name counts as a root after all
//! other roots: it and what it leads to are suppressed, and are no leaks. With `PATTERN:max=N`, if there are more than N such
//! objects, they are reported all the same. The number of suppressions is limited by memory only.
//!
//! Patterns come from a list in the kernel's source ([`with_suppressions`](crate::Detector::with_suppressions)), from the boot
//! parameter `kmemleak.suppress=`, and from the command `suppress`.
//!
//! # When names are looked up
//!
//! Naming a function takes long, sleeps and allocates, so it is not done while the world is stopped. Call stacks are *judged*
//! beforehand: a table keeps which suppressions match. If a check in a stopped world finds leaks with call stacks that were not
//! judged yet, these are judged next and, if a pattern matches any of them, one more check follows. So only the call stacks of
//! objects that seem lost are ever named, and none is without suppressions.
//!
//! # Locks
//!
//! None: the holder of the claim hands them down here.

use core::cell::Cell;
use core::fmt::{self, Write};

use crate::marker::{GivenUp, Marker};
use crate::metadata::MetaAlloc;
use crate::metadata::list::{List, MetaBox};
use crate::metadata::page::NoMemory;
use crate::metadata::page_vec::PageVec;
use crate::objects::access::Access;
use crate::objects::object::Object;
use crate::objects::record::flag;
use crate::platform::Platform;
use crate::stacks::depot::StackId;
use crate::stacks::stack_table::StackTable;
use crate::tracker::Tracker;
use crate::verdict::leak_list::{LeakList, Named, fate};
use crate::verdict::pattern::{Glob, Pattern};

/// Why a suppression was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuppressError {
    /// The pattern is empty.
    Empty,
    /// The text after `:max=` is not a number.
    Ceiling,
    /// There is no memory for it.
    NoMemory,
    /// It was requested from code that the detector calls: see [`NotDone::Nested`](crate::NotDone::Nested).
    Nested,
}

impl fmt::Display for SuppressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a pattern has at least one byte"),
            Self::Ceiling => f.write_str("max= takes a number of objects"),
            Self::NoMemory => f.write_str("no memory for one more suppression"),
            Self::Nested => f.write_str("asked from inside another answer"),
        }
    }
}

impl core::error::Error for SuppressError {}

impl From<NoMemory> for SuppressError {
    fn from(NoMemory: NoMemory) -> Self {
        Self::NoMemory
    }
}

/// A suppression, and what it hid from the last verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suppression<'a> {
    /// The pattern.
    pub pattern: Pattern<'a>,
    /// The largest number of unreferenced objects that it hides; if there are more it hides none.
    pub max: Option<u64>,
    /// Unreferenced objects whose call stacks match.
    pub matched: u64,
    /// Objects that were hidden: these, and what they lead to.
    pub objects: u64,
    /// Bytes of the hidden objects.
    pub bytes: u64,
}

/// No ceiling.
const NO_MAX: u64 = u64::MAX;

/// A suppression as it is stored.
struct Known {
    glob: Glob,
    max: u64,
    matched: Cell<u64>,
    objects: Cell<u64>,
    bytes: Cell<u64>,
}

impl Known {
    const fn new(max: u64) -> Self {
        Self {
            glob: Glob::new(),
            max,
            matched: Cell::new(0),
            objects: Cell::new(0),
            bytes: Cell::new(0),
        }
    }

    fn is_over(&self) -> bool {
        self.matched.get() > self.max
    }

    fn shown(&self) -> Suppression<'_> {
        Suppression {
            pattern: Pattern(&self.glob),
            max: Some(self.max).filter(|&max| max != NO_MAX),
            matched: self.matched.get(),
            objects: self.objects.get(),
            bytes: self.bytes.get(),
        }
    }

    /// Notes that no verdict hides anything.
    fn forget_hidden(&self) {
        for count in [&self.matched, &self.objects, &self.bytes] {
            count.set(0);
        }
    }
}

/// Compares names, a line each, with all patterns at once.
struct Matcher<'a> {
    all: &'a List<Known>,
    /// The preceding byte of the same name.
    before: u8,
}

impl Matcher<'_> {
    fn each(&self, look: impl FnMut(&Glob)) {
        self.all.iter().map(|one| &one.glob).for_each(look);
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

/// A suppression that matches a call stack.
struct Match {
    /// Its number in the list.
    suppression: usize,
    /// The row of the next one that matches.
    next: Option<u32>,
}

/// The suppressions, and which call stacks they match.
pub(crate) struct Suppressions {
    all: List<Known>,
    /// How many of the list in the kernel's source have been added.
    taken: usize,
    /// For each call stack that was judged: the first row of the suppressions that match.
    judged: StackTable<Option<u32>>,
    matches: PageVec<Match>,
}

impl Suppressions {
    pub(crate) const fn new() -> Self {
        Self {
            all: List::new(),
            taken: 0,
            judged: StackTable::new(),
            matches: PageVec::new(),
        }
    }

    /// Adds a suppression, `PATTERN` or `PATTERN:max=N`. One with the same pattern gets the new ceiling.
    pub(crate) fn add(&mut self, text: &str, meta: &MetaAlloc<'_>) -> Result<(), SuppressError> {
        let (pattern, max) = parse(text)?;
        let max = max.unwrap_or(NO_MAX);
        if let Some(one) = self.all.find_mut(|one| one.glob.is(pattern)) {
            one.max = max;
            return Ok(());
        }
        let mut one = MetaBox::new(Known::new(max), meta)?;
        if let Err(error) = one.glob.set_text(pattern, meta) {
            one.give_back(meta);
            return Err(error.into());
        }
        self.all.push_last(one);
        self.forget_judgements();
        Ok(())
    }

    /// Removes the suppression with this pattern, with or without a ceiling after it; false if there is none.
    pub(crate) fn remove(&mut self, text: &str, meta: &MetaAlloc<'_>) -> bool {
        let bare = parse(text).map_or(text, |(bare, _)| bare);
        let mut take = |text: &str| self.all.take_first(|one| one.glob.is(text));
        let found = take(text).or_else(|| take(bare));
        found.map(|one| self.drop_one(one, meta)).is_some()
    }

    /// Removes all.
    pub(crate) fn remove_all(&mut self, meta: &MetaAlloc<'_>) {
        while let Some(one) = self.all.pop() {
            self.drop_one(one, meta);
        }
    }

    fn drop_one(&mut self, mut one: MetaBox<Known>, meta: &MetaAlloc<'_>) {
        one.glob.give_back(meta);
        one.give_back(meta);
        self.forget_judgements();
    }

    fn forget_judgements(&mut self) {
        self.judged.clear();
        self.matches.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.all.iter().count()
    }

    /// The suppression with this text: its number in the list, and its ceiling.
    pub(super) fn find(&self, text: &str) -> Option<(usize, Option<u64>)> {
        let (pattern, _) = parse(text).ok()?;
        let mut all = self.all.iter().enumerate();
        let (number, one) = all.find(|(_, one)| one.glob.is(pattern))?;
        Some((number, one.shown().max))
    }

    fn is_judged(&self, stack_id: StackId) -> bool {
        self.judged.find(stack_id).is_some()
    }

    /// The numbers of the suppressions that match a call stack, as far as it has been judged.
    pub(super) fn matching(&self, stack_id: StackId) -> impl Iterator<Item = usize> {
        let row = |number: u32| self.matches.get(number as usize);
        let judged = self.judged.find(stack_id);
        let first = judged.and_then(|number| *self.judged.get(number)?);
        let rows = core::iter::successors(first.and_then(row), move |one| one.next.and_then(row));
        rows.map(|one| one.suppression)
    }

    /// Notes which suppressions match a call stack's names, and returns whether any does. Where there is no memory, the call
    /// stack counts as matched by none, and what it allocated is reported: better than hiding a leak.
    fn note_judgement(
        &mut self,
        stack_id: StackId,
        meta: &MetaAlloc<'_>,
    ) -> Result<bool, NoMemory> {
        let mut first = None;
        for (suppression, one) in self.all.iter().enumerate() {
            if one.glob.has_matched() {
                let next = first;
                let row = self.matches.push(Match { suppression, next }, meta)?;
                first = Some(row as u32);
            }
        }
        let number = self.judged.find_or_add(stack_id, meta)?;
        if let Some(judged) = self.judged.get_mut(number) {
            *judged = first;
        }
        Ok(first.is_some())
    }

    /// Forgets everything; its owner gives the memory back.
    pub(crate) fn empty(&mut self) {
        self.judged.empty();
        self.matches.empty();
        self.all.empty();
        self.taken = 0;
    }
}

/// A pattern and its ceiling.
fn parse(text: &str) -> Result<(&str, Option<u64>), SuppressError> {
    let (pattern, max) = match text.rsplit_once(":max=") {
        None => (text, None),
        Some((pattern, max)) => {
            let max = max.parse().ok().filter(|&max| max < NO_MAX);
            (pattern, Some(max.ok_or(SuppressError::Ceiling)?))
        }
    };
    if pattern.is_empty() {
        return Err(SuppressError::Empty);
    }
    Ok((pattern, max))
}

/// Whether this text is a suppression. There may still be no memory for it.
pub(crate) fn is_one(text: &str) -> bool {
    parse(text).is_ok()
}

/// What suppressions hide from a verdict.
pub(crate) struct Concealed {
    pub(crate) objects: usize,
    pub(crate) bytes: usize,
}

impl Suppressions {
    /// Adds those of the kernel's source that were not added yet. Those for which there is no memory are tried again.
    pub(crate) fn take<P: Platform>(
        &mut self,
        source: &'static [&'static str],
        tracker: &Tracker<P>,
    ) {
        tracker.without_interrupts(|meta| {
            while let Some(text) = source.get(self.taken) {
                if self.add(text, meta) == Err(SuppressError::NoMemory) {
                    return;
                }
                self.taken += 1;
            }
        });
    }

    /// Shows each suppression, with what it hid from the last verdict.
    pub(crate) fn each(&self, look: &mut dyn FnMut(Suppression<'_>)) {
        self.all.iter().map(Known::shown).for_each(look);
    }

    /// Notes that no verdict hides anything.
    pub(crate) fn forget_hidden(&self) {
        self.all.iter().for_each(Known::forget_hidden);
    }

    /// Judges the call stacks of the listed objects that were not judged yet, also of those that are hidden since a suppressed one
    /// leads to them: what matches counts for a ceiling. Returns whether a suppression matches any of them. `functions` writes the names of the functions that an address leads into, a line each. Task context.
    pub(crate) fn judge<P: Platform>(
        &mut self,
        tracker: &Tracker<P>,
        list: &LeakList,
        functions: &mut dyn FnMut(usize, &mut dyn Write),
    ) -> bool {
        if self.all.is_empty() {
            return false;
        }
        let (mut news, mut room) = (false, true);
        let mut judge = |named: &Named| {
            let stack_id = named.record.stack_id();
            if !room || self.is_judged(stack_id) {
                return;
            }
            self.match_names(tracker.depot().get(stack_id).as_slice(), functions);
            let any = tracker.without_interrupts(|meta| self.note_judgement(stack_id, meta));
            room = any.is_ok();
            news |= any == Ok(true);
        };
        list.each(tracker, &mut |named, _| judge(named));
        list.each_suppressed(&mut judge);
        news
    }

    /// Judges one call stack, as [`judge`](Self::judge) does. Task context.
    pub(crate) fn judge_one<P: Platform>(
        &mut self,
        tracker: &Tracker<P>,
        stack_id: StackId,
        functions: &mut dyn FnMut(usize, &mut dyn Write),
    ) {
        if !self.all.is_empty() && !self.is_judged(stack_id) {
            self.match_names(tracker.depot().get(stack_id).as_slice(), functions);
            // Without memory for it the call stack counts as matched by none.
            let _ = tracker.without_interrupts(|meta| self.note_judgement(stack_id, meta));
        }
    }

    /// The first suppression that hides what this call stack allocated, as far as it has been judged.
    pub(crate) fn hiding(&self, stack_id: StackId) -> Option<Suppression<'_>> {
        let known = |number| self.all.iter().nth(number);
        let mut matching = self.matching(stack_id).filter_map(known);
        matching.find(|one| !one.is_over()).map(Known::shown)
    }

    /// Compares the functions of a call stack with all patterns.
    fn match_names(&self, frames: &[usize], functions: &mut dyn FnMut(usize, &mut dyn Write)) {
        let mut matcher = Matcher {
            all: &self.all,
            before: 0,
        };
        matcher.each(Glob::begin);
        for &address in frames {
            functions(address, &mut matcher);
            matcher.end_line();
        }
        if frames.is_empty() {
            matcher.end_line();
        }
    }

    /// Marks what is suppressed and what that leads to, and takes it out of the list's leaks. For one worker, after a pass whose
    /// unmarked objects are listed.
    pub(crate) fn hide<P: Platform, A: Access>(
        &mut self,
        tracker: &Tracker<P>,
        marker: &mut Marker<'_, P, A>,
        list: &LeakList,
    ) -> Result<Concealed, GivenUp> {
        let mut all = Concealed {
            objects: 0,
            bytes: 0,
        };
        self.forget_hidden();
        if self.all.is_empty() {
            return Ok(all);
        }
        let each_unmarked = |look: &mut dyn FnMut(Object<'_>)| {
            list.each_there(tracker, &mut |_, object| {
                if !is_marked(object) {
                    look(object);
                }
            });
        };
        each_unmarked(&mut |object| {
            for number in self.matching(object.record.read().stack_id()) {
                if let Some(one) = self.all.iter().nth(number) {
                    one.matched.update(|matched| matched + 1);
                }
            }
        });
        for (number, one) in self.all.iter().enumerate() {
            if one.matched.get() == 0 || one.is_over() {
                continue;
            }
            each_unmarked(&mut |object| {
                let mut matching = self.matching(object.record.read().stack_id());
                if matching.any(|other| other == number) {
                    marker.keep(object);
                }
            });
            marker.finish()?;
            let hidden = take_marked(tracker, list);
            one.objects.set(hidden.objects as u64);
            one.bytes.set(hidden.bytes as u64);
            all.objects += hidden.objects;
            all.bytes += hidden.bytes;
        }
        Ok(all)
    }
}

fn is_marked(object: Object<'_>) -> bool {
    object.mark.is_set() || object.record.has(flag::REACHED)
}

/// Takes marked objects out of the list's leaks.
fn take_marked<P: Platform>(tracker: &Tracker<P>, list: &LeakList) -> Concealed {
    let mut hidden = Concealed {
        objects: 0,
        bytes: 0,
    };
    list.each_there(tracker, &mut |place, object| {
        if !is_marked(object) {
            return;
        }
        object
            .record
            .clear(flag::LISTED | flag::SUSPECT | flag::INTERIOR_ONLY);
        hidden.objects += 1;
        hidden.bytes += tracker.registry().size(object.start, object.record);
        if let Some(index) = place {
            list.set_fate(index, fate::SUPPRESSED);
        }
    });
    hidden
}
