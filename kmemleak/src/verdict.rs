//! The verdict: which objects nothing points to.
//!
//! The suspects are chained through their records, in the order of their allocation, ties by address. A suspect that
//! is freed stays in the chain, as freed, until the next pass begins.

use crate::detector::Detector;
use crate::platform::{Platform, StopError};
use crate::record::{Handle, Record, Slots, flag};
use crate::scan::Figures;
use crate::state::State;

/// How a verdict was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// In one pass, with the world stopped: exact.
    Stopped,
    /// In repeated passes, since the world could not be stopped.
    Repeated {
        /// Why not.
        reason: StopError,
        /// How many passes it took.
        passes: u32,
    },
}

/// A verdict in figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Objects that nothing points to.
    pub objects: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Those of them that no verdict before has named.
    pub new_objects: usize,
    /// Bytes of these.
    pub new_bytes: usize,
    /// How it was come by.
    pub how: How,
    /// Blocks for which there was no record: what they own may be among the objects.
    pub unrecorded: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

/// An object that nothing points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreferenced {
    /// Its address.
    pub start: usize,
    /// Its bytes.
    pub size: usize,
    /// When it was allocated, in microseconds of the platform's clock.
    pub birth_us: u64,
}

/// What is tracked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracking {
    /// Objects; a per-CPU block counts once.
    pub objects: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl<P: Platform, const BOOTSTRAP: usize> Detector<P, BOOTSTRAP> {
    /// Shows each object of the last verdict to `look`, in the order of allocation; those that have been freed
    /// since are left out. Task context, with no lock held; `look` may allocate.
    pub fn for_each_unreferenced(&self, look: &mut dyn FnMut(Unreferenced)) {
        let _claim = self.claim();
        let mut here = self.with_state(|state, _| state.verdict.first);
        while let Some(handle) = here.some() {
            let record = self.with_state(|state, _| state.slots.get(handle));
            here = record.next;
            if !record.has(flag::FREED) {
                look(Unreferenced {
                    start: record.start(),
                    size: record.size,
                    birth_us: record.birth_us,
                });
            }
        }
    }

    /// What is tracked now. Any context but a non-maskable interrupt.
    pub fn tracking(&self) -> Tracking {
        self.with_state(|state, _| Tracking {
            objects: state.objects,
            bytes: state.bytes,
        })
    }
}

pub(crate) struct Verdict {
    /// Grows with each verdict.
    pub(crate) number: u64,
    pub(crate) first: Handle,
    pub(crate) summary: Option<Summary>,
    /// When it was come by.
    pub(crate) at_us: u64,
    pub(crate) figures: Figures,
}

impl Verdict {
    pub(crate) const fn new() -> Self {
        Self {
            number: 0,
            first: Handle::NONE,
            summary: None,
            at_us: 0,
            figures: Figures {
                words: 0,
                candidates: 0,
                hits: 0,
            },
        }
    }
}

impl State {
    /// Whether an object is white at the end of a pass, and may be judged: was there when it began.
    fn is_suspect(&self, record: &Record, judged_before_us: u64) -> bool {
        record.has(flag::ALLOCATED)
            && !record.has(flag::ALIAS | flag::MARKED)
            && record.is_white()
            && record.birth_us < judged_before_us
    }

    /// After a pass beside which others ran: how many objects have been white in all passes so far.
    /// `first` forgets the passes before.
    pub(crate) fn narrow(&mut self, first: First) -> usize {
        let mut white = 0;
        for handle in self.slots.handles() {
            let record = self.slots.get(handle);
            let before = first == First::Yes || record.has(flag::WHITE_BEFORE);
            if before && self.is_suspect(&record, self.pass.start_us) {
                white += 1;
                self.slots
                    .update(handle, |record| record.flags |= flag::WHITE_BEFORE);
            } else if record.has(flag::WHITE_BEFORE) {
                self.slots
                    .update(handle, |record| record.flags &= !flag::WHITE_BEFORE);
            }
        }
        white
    }

    /// Makes the verdict of the pass that is at its end: what is white, was allocated before `judged_before_us`,
    /// and was white in all passes, where there were several.
    pub(crate) fn judge(&mut self, how: How, judged_before_us: u64, now_us: u64) -> Summary {
        let mut suspects = Chain::new();
        let mut summary = Summary {
            objects: 0,
            bytes: 0,
            new_objects: 0,
            new_bytes: 0,
            how,
            unrecorded: self.unrecorded,
            took_us: now_us.saturating_sub(self.pass.start_us),
        };
        for handle in self.slots.handles() {
            let record = self.slots.get(handle);
            let white_throughout = how == How::Stopped || record.has(flag::WHITE_BEFORE);
            if !white_throughout || !self.is_suspect(&record, judged_before_us) {
                if record.has(flag::REPORTED) && record.has(flag::ALLOCATED) {
                    self.slots.update(handle, |record| {
                        record.flags = record.flags & !flag::REPORTED | flag::REVIVED;
                    });
                }
                continue;
            }
            summary.objects += 1;
            summary.bytes += record.size;
            if !record.has(flag::REPORTED) {
                summary.new_objects += 1;
                summary.new_bytes += record.size;
            }
            self.slots
                .update(handle, |record| record.flags |= flag::SUSPECT);
            suspects.push(&mut self.slots, handle);
        }
        self.verdict.number += 1;
        self.verdict.first = sort(&mut self.slots, suspects.first, summary.objects);
        self.verdict.summary = Some(summary);
        self.verdict.at_us = now_us;
        self.verdict.figures = self.pass.figures;
        summary
    }
}

impl State {
    /// The suspects have been told of: the next verdicts don't count them as new.
    pub(crate) fn note_reported(&mut self) {
        let mut here = self.verdict.first;
        while let Some(handle) = here.some() {
            self.slots
                .update(handle, |record| record.flags |= flag::REPORTED);
            here = self.slots.get(handle).next;
        }
    }

    /// The suspects become gray: they are scanned from now on, and not suspected again.
    pub(crate) fn gray_suspects(&mut self) {
        let mut here = core::mem::replace(&mut self.verdict.first, Handle::NONE);
        while let Some(handle) = here.some() {
            let record = self.slots.get(handle);
            here = record.next;
            if record.has(flag::FREED) {
                self.slots.release(handle);
            } else {
                self.slots.update(handle, |record| {
                    record.min_count = 0;
                    record.flags &= !(flag::SUSPECT | flag::REPORTED);
                });
            }
        }
        self.verdict.number += 1;
        self.verdict.summary = None;
    }

    /// Takes the note that an object was told of and is referenced again, from the first that has one.
    pub(crate) fn take_revived(&mut self) -> Option<(usize, usize)> {
        let handle = self
            .slots
            .handles()
            .find(|&handle| self.slots.get(handle).has(flag::REVIVED))?;
        let record = self.slots.get(handle);
        self.slots
            .update(handle, |record| record.flags &= !flag::REVIVED);
        Some((record.start(), record.size))
    }
}

/// Whether a pass is the first one of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    Yes,
    No,
}

/// Records linked by `next`.
struct Chain {
    first: Handle,
    last: Handle,
}

impl Chain {
    const fn new() -> Self {
        Self {
            first: Handle::NONE,
            last: Handle::NONE,
        }
    }

    fn push(&mut self, slots: &mut Slots, handle: Handle) {
        slots.update(handle, |record| record.next = Handle::NONE);
        match self.last.some() {
            Some(last) => slots.update(last, |record| record.next = handle),
            None => self.first = handle,
        }
        self.last = handle;
    }
}

/// Sorts a chain of `len` records by birth, ties by address: merge sort from the bottom up, in place.
fn sort(slots: &mut Slots, mut first: Handle, len: usize) -> Handle {
    let mut width = 1;
    while width < len {
        let mut sorted = Chain::new();
        let mut rest = first;
        while rest.is_some() {
            let mut left = rest;
            let mut right = skip(slots, left, width);
            rest = skip(slots, right, width);
            let (mut left_len, mut right_len) = (width, width);
            loop {
                let take_left = match (
                    left_len > 0 && left.is_some(),
                    right_len > 0 && right.is_some(),
                ) {
                    (false, false) => break,
                    (true, false) => true,
                    (false, true) => false,
                    (true, true) => order(slots, left) <= order(slots, right),
                };
                let from = if take_left { &mut left } else { &mut right };
                let taken = *from;
                *from = slots.get(taken).next;
                if take_left {
                    left_len -= 1;
                } else {
                    right_len -= 1;
                }
                sorted.push(slots, taken);
            }
        }
        first = sorted.first;
        width *= 2;
    }
    first
}

fn order(slots: &Slots, handle: Handle) -> (u64, usize) {
    let record = slots.get(handle);
    (record.birth_us, record.start())
}

fn skip(slots: &Slots, mut handle: Handle, count: usize) -> Handle {
    for _ in 0..count {
        match handle.some() {
            Some(here) => handle = slots.get(here).next,
            None => break,
        }
    }
    handle
}
