//! References: the words that point into an object, and the way to it from a root.
//!
//! Both questions are answered in a stopped world, by one CPU; if the world can't be stopped, while other code runs.
//!
//! *Holders* are found by reading all: each word of each root, and of each tracked object, scanned or not, except the unused
//! parts of task stacks.
//!
//! The *path* is the shortest one. First a pass, by all CPUs, marks what is alive. Then a breadth-first search (Moore 1959) goes
//! out from the roots, and takes the mark from each object that it visits, so that it visits each once. The list of visited
//! objects serves as the queue: it has for each object the word by which it was found, and the entry in whose object that word
//! lies. Objects that are declared to be no leaks are roots, too. The search is linear in the live objects, takes 48 bytes for
//! each visited object, and ends when it finds the object.
//!
//! *Why* an address is, or is not, reported is one answer made of both, of the last verdict, and of [near misses](near_misses).

mod answer;
mod holders;
mod near_misses;
mod path;
mod rows;
mod slot;
mod sound;
mod why;

use core::fmt;

pub use self::answer::{
    Answer, Clue, HeldBy, LiesIn, NearMiss, Reached, Unreported, Untracked, Why,
};
use self::holders::Holders;
use self::path::Path;
pub(super) use self::rows::References;
pub use self::slot::{Slot, SlotPlace};
pub(crate) use self::why::Explanation;
use crate::checker::claim::{Claim, Nested, NotDone};
use crate::checker::pass::NotSeen;
use crate::marker::{GivenUp, Marker};
use crate::metadata::hidden::Hidden;
use crate::objects::access::Access;
use crate::objects::object::Object;
use crate::objects::record::{Record, flag};
use crate::platform::{Platform, StopError};

/// Why there is no answer, or no complete one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The address lies in no tracked object.
    NoObject,
    /// No chain of pointers leads to the object from a root.
    Unreached,
    /// No chain of pointers leads to the object, but it is declared to be no leak, and so a root itself.
    IsRoot,
    /// No chain of pointers leads to the object, but it is a root itself since `clear` acknowledged it.
    Acknowledged,
    /// The object lies in a root.
    InRoot,
    /// Allocators were reallocating blocks however often the question waited: what only these hold would seem to be lost.
    InFlight,
    /// There was no memory for an answer, or not for all of it.
    NoMemory,
    /// The task was asked to stop.
    Stopped,
    /// The detector is off.
    Off,
    /// It was asked from code that the detector calls: see [`NotDone::Nested`].
    Nested,
}

impl From<Nested> for NoAnswer {
    fn from(_: Nested) -> Self {
        Self::Nested
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoObject => "no object there",
            Self::Unreached => "no root leads there",
            Self::IsRoot => {
                "no root leads there; it is itself a root, as it is declared to be no leak"
            }
            Self::Acknowledged => {
                "no root leads there; it is itself a root, as it was acknowledged by clear"
            }
            Self::InRoot => "it lies in a root",
            Self::InFlight => "blocks were being reallocated all the time: ask again",
            Self::NoMemory => "no memory for all of the answer",
            Self::Stopped => return NotDone::Stopped.fmt(f),
            Self::Off => return NotDone::Off.fmt(f),
            Self::Nested => return NotDone::Nested.fmt(f),
        })
    }
}

impl core::error::Error for NoAnswer {}

/// An object that is asked about.
struct Target {
    start: usize,
    size: usize,
    record: Record,
}

/// What is done before a question is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// What is alive is marked.
    Mark,
}

/// A question about an object.
trait Query: Send {
    const BEFORE: Before;

    /// Leaves the words that answer it in the trail.
    fn ask<P: Platform, A: Access>(
        &mut self,
        marker: &mut Marker<'_, P, A>,
        target: &Target,
        trail: &mut References,
    ) -> Result<Result<(), NoAnswer>, GivenUp>;

    /// What is found where no object is: asked instead.
    fn ask_of_nothing<P: Platform, A: Access>(
        &mut self,
        marker: &mut Marker<'_, P, A>,
        address: usize,
    ) -> NoAnswer {
        let _ = (marker, address);
        NoAnswer::NoObject
    }
}

/// The object that an address lies in.
fn target_at<P: Platform, A: Access>(
    marker: &mut Marker<'_, P, A>,
    address: usize,
) -> Option<Target> {
    let registry = marker.registry();
    let seen = |object: Object<'_>| Target {
        start: object.start,
        size: registry.size(object.start, object.record),
        record: object.record.read(),
    };
    marker.without_interrupts(|marker| {
        registry.block_containing(marker.access(), address, |object, _| seen(object))
    })
}

/// Whether an object is alive, after a pass.
fn is_alive<P: Platform, A: Access>(marker: &mut Marker<'_, P, A>, start: usize) -> bool {
    let registry = marker.registry();
    let alive = |object: Object<'_>| object.mark.is_set() || object.record.has(flag::REACHED);
    marker.without_interrupts(|marker| registry.starting_at(marker.access(), start, alive))
        == Some(true)
}

impl<P: Platform> Claim<'_, P> {
    /// Shows each word that points into the object; the object's start.
    pub(crate) fn find_holders(
        &mut self,
        address: Hidden,
        look: &mut dyn FnMut(Slot),
    ) -> Result<usize, NoAnswer> {
        let (target, _) = self.examine(address, &mut Holders)?;
        let _outside = self.outside();
        let references = &self.findings.references;
        let slots = (0..references.len()).filter_map(|row| references.slot(row));
        slots.for_each(look);
        if references.short {
            Err(NoAnswer::NoMemory)
        } else {
            Ok(target)
        }
    }

    /// A word of the answer of [`find_holders`](Self::find_holders), by its number.
    pub(crate) fn holder(&self, number: usize) -> Option<Slot> {
        self.findings.references.slot(number)
    }

    /// Shows the words of the shortest chain to the object; the object's start.
    pub(crate) fn find_path(
        &mut self,
        address: Hidden,
        look: &mut dyn FnMut(Slot),
    ) -> Result<usize, NoAnswer> {
        let (target, _) = self.examine(address, &mut Path::default())?;
        let _outside = self.outside();
        let references = &mut self.findings.references;
        // It was found from the end to the root, and is shown from the root to the end.
        let mut row = references.link_path();
        while let Some(here) = row {
            references.slot(here).into_iter().for_each(&mut *look);
            row = references.next(here);
        }
        Ok(target)
    }

    /// Asks a question, with the world stopped or, where it can't be, while other code runs. Answers with the object's start, and
    /// why the world was not stopped.
    fn examine<Q: Query>(
        &mut self,
        address: Hidden,
        question: &mut Q,
    ) -> Result<(usize, Option<StopError>), NoAnswer> {
        let tracker = self.tracker();
        if !tracker.is_on() {
            return Err(NoAnswer::Off);
        }
        let answer = self.on_unscanned_stack(|claim| {
            let handle = claim.handle();
            let references = &mut claim.findings.references;
            let stopped = handle.stopped(
                &|marker, _| {
                    if Q::BEFORE == Before::Mark {
                        marker.run()?;
                    }
                    marker.barrier()
                },
                |marker| ask(marker, address, question, references),
            );
            match stopped {
                Ok(seen) if seen.figures.in_flight > 0 => Ok(Err(NoAnswer::InFlight)),
                Ok(seen) => Ok(seen.result.map(|start| (start, None))),
                Err(NotSeen::GivenUp) => Err(GivenUp),
                Err(NotSeen::Unstopped(reason)) => {
                    let running = handle.running(|marker, _| {
                        if Q::BEFORE == Before::Mark {
                            marker.run()?;
                        }
                        marker.barrier()?;
                        ask(marker, address, question, references)
                    });
                    running.map(|(answer, _)| answer.map(|start| (start, Some(reason))))
                }
            }
        });
        match answer {
            Ok(answer) => answer,
            Err(GivenUp) if tracker.is_on() => Err(NoAnswer::Stopped),
            Err(GivenUp) => Err(NoAnswer::Off),
        }
    }
}

/// Answers with the start of the object that the address lies in.
fn ask<P: Platform, A: Access, Q: Query>(
    marker: &mut Marker<'_, P, A>,
    address: Hidden,
    question: &mut Q,
    references: &mut References,
) -> Result<Result<usize, NoAnswer>, GivenUp> {
    references.clear();
    let Some(target) = target_at(marker, address.get()) else {
        return Ok(Err(question.ask_of_nothing(marker, address.get())));
    };
    let answer = question.ask(marker, &target, references)?;
    Ok(answer.map(|()| target.start))
}
