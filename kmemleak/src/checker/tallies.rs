//! What an answer lists, counted by where it comes from: an object with a thousand holders has only a few call sites that
//! allocated these holders.
//!
//! # Memory
//!
//! A row for each call site or root, in pages that stay until all metadata is given back. Without memory for all of them the answer
//! is a list of its words.

use core::cmp::Reverse;

use crate::checker::claim::Claim;
use crate::metadata::hidden::Hidden;
use crate::metadata::keyed_table::{Key, KeyedTable};
use crate::metadata::page::NoMemory;
use crate::platform::Platform;
use crate::stacks::depot::StackId;
use crate::tracker::Tracker;
use crate::verdict::handles::{ShortHandle, Thing};
use crate::verdict::leak_list::Named;

/// Where something comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whence {
    /// This call stack allocated it.
    CallSite(StackId),
    /// It is a word of a root whose name has this checksum.
    Root(u32),
}

impl Key for Whence {
    fn bits(self) -> u32 {
        match self {
            Self::CallSite(stack_id) => stack_id.0,
            Self::Root(name) => !name,
        }
    }
}

/// What comes from one place.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FromPlace {
    pub(crate) words: usize,
    pub(crate) objects: usize,
    /// Bytes of the objects.
    pub(crate) bytes: usize,
    /// The oldest object, and its birth.
    pub(crate) oldest: Option<(Hidden, u64)>,
    /// The number of its first word in the answer.
    pub(crate) first: usize,
}

impl FromPlace {
    /// Counts an object.
    pub(crate) fn add(&mut self, object: &Named, bytes: usize) {
        self.objects += 1;
        self.bytes += bytes;
        let birth_us = object.record.birth_us();
        if self
            .oldest
            .is_none_or(|(_, oldest_us)| birth_us < oldest_us)
        {
            self.oldest = Some((Hidden::new(object.start), birth_us));
        }
    }
}

/// All places.
pub(crate) struct Tallies(KeyedTable<Whence, FromPlace>);

impl Tallies {
    pub(crate) const fn new() -> Self {
        Self(KeyedTable::new())
    }

    /// How many places there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The places, where most comes from first: words, then bytes.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = (Whence, &FromPlace)> {
        self.0.order_by(|place| (place.words, place.bytes));
        self.0.in_order()
    }

    /// The places, that with the oldest object first.
    pub(crate) fn oldest_first(&self) -> impl Iterator<Item = (Whence, &FromPlace)> {
        self.0
            .order_by(|place| place.oldest.map(|(_, birth_us)| Reverse(birth_us)));
        self.0.in_order()
    }

    /// What comes from this place so far; it is blank where nothing has come.
    pub(super) fn of<P: Platform>(
        &mut self,
        tracker: &Tracker<P>,
        whence: Whence,
    ) -> Result<&mut FromPlace, NoMemory> {
        let number = tracker.without_interrupts(|meta| self.0.find_or_add(whence, meta))?;
        self.0.get_mut(number).ok_or(NoMemory)
    }

    /// Forgets everything; its owner gives the memory back.
    pub(crate) fn empty(&mut self) {
        self.0.empty();
    }
}

impl<P: Platform> Claim<'_, P> {
    /// Begins to count.
    pub(crate) fn clear_tallies(&mut self) {
        self.findings.tallies.0.clear();
    }

    /// What comes from this place so far, to be counted on; it is blank where nothing has come.
    pub(crate) fn tally(&mut self, whence: Whence) -> Result<&mut FromPlace, NoMemory> {
        let tracker = self.tracker();
        self.findings.tallies.of(tracker, whence)
    }

    /// The handle of the oldest object that comes from a place; `None` if that is a root, or without memory.
    pub(crate) fn handle_of_place(&self, place: &FromPlace) -> Option<ShortHandle> {
        let (start, birth_us) = place.oldest?;
        self.handle_of(Thing::Object { start, birth_us })
    }

    pub(crate) fn tallies(&self) -> &Tallies {
        &self.findings.tallies
    }
}
