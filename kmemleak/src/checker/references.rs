//! Who points where: the words that point into an object, and the way to it from a root.
//!
//! Both questions are answered in a stopped world, by one CPU; where the world can't be stopped, beside whatever runs.
//!
//! *Holders* are found by reading all: each word of each root, and of each tracked object, scanned or not, but for
//! what is dead of tasks' stacks.
//!
//! The *path* is the shortest one. First a pass, by all CPUs, marks what is alive. Then one goes out from the roots
//! in all directions at once (Moore 1959), and takes the mark from each object that it comes to, so that it comes
//! there once. The list of what was found serves as the queue: it has for each object the word by which it was found,
//! and the entry in whose object that word lies. Objects that are no leaks by decree are roots, too. That is linear
//! in what is alive, takes 48 bytes for each object on the way, and ends when the object is met.
//!
//! # Locks
//!
//! One over the list, which is reached through the claim: nobody waits for it.

use core::fmt;
use core::ops::Range;

use spin::mutex::SpinMutex;

use crate::checker::claim::{Claim, Nested, NotDone};
use crate::marker::objects::Words;
use crate::marker::queue::MAX_WORKERS;
use crate::marker::{GivenUp, Marker, Shared};
use crate::metadata::WORD;
use crate::metadata::hidden::Hidden;
use crate::metadata::page_vec::Paged;
use crate::objects::record::{Record, flag};
use crate::objects::{Access, Locked, Object, Stopped, alias_owner};
use crate::platform::address::{Extent, end_of};
use crate::platform::{Platform, Root, RootKind, StoppedCpu};
use crate::tracker::Detector;

/// A word that points into an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its address.
    pub address: usize,
    /// What it lies in.
    pub place: SlotPlace,
}

impl Slot {
    /// Where it is in its object; `None` in a root, and in another copy of a per-CPU block than the one that has its
    /// handle.
    pub(crate) fn offset(&self) -> Option<usize> {
        let SlotPlace::Object { start, size } = self.place else {
            return None;
        };
        let offset = self.address.checked_sub(start)?;
        (offset < size).then_some(offset)
    }
}

/// What a word lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotPlace {
    /// A root.
    Root(Root),
    /// A tracked object.
    Object {
        /// Its address.
        start: usize,
        /// Its bytes.
        size: usize,
    },
}

/// Why there is no answer, or none that is of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The address lies in no tracked object.
    NoObject,
    /// No chain of pointers leads to the object from a root.
    Unreached,
    /// The same, but that is as it should be: the object is no leak by decree, and is a root itself.
    IsRoot,
    /// The object lies in a root.
    InRoot,
    /// There was no memory for an answer, or not for all of it.
    NoMemory,
    /// Who asks was asked to stop.
    Stopped,
    /// The detector is off.
    Off,
    /// It was asked from inside another answer: see [`NotDone::Nested`].
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
            Self::IsRoot => "no root leads there; it is one itself, being no leak by decree",
            Self::InRoot => "it lies in a root",
            Self::NoMemory => "no memory for all of the answer",
            Self::Stopped => return NotDone::Stopped.fmt(f),
            Self::Off => return NotDone::Off.fmt(f),
            Self::Nested => return NotDone::Nested.fmt(f),
        })
    }
}

impl core::error::Error for NoAnswer {}

/// Words of a row: the address of the word, inverted; where the root or the object starts that it lies in, inverted;
/// what kind of root that is, or [`IN_OBJECT`], and in the upper bits its number, or the row by which that object was
/// found; its length; the object that the word points to, inverted; the next row of the path.
const ROW: usize = 6;
const SLOT: usize = 0;
const BASE: usize = 1;
const KIND: usize = 2;
const LEN: usize = 3;
const OBJECT: usize = 4;
const NEXT: usize = 5;

const NUMBER_SHIFT: u32 = 8;
const IN_OBJECT: u64 = 0;
/// Of an object that is a root by itself: there is no word.
const BY_DECREE: u64 = 7;

fn encode(kind: RootKind) -> u64 {
    match kind {
        RootKind::Section => 1,
        RootKind::PerCpu(cpu) => 2 | u64::from(cpu) << NUMBER_SHIFT,
        RootKind::Frames(first) => 3 | first << NUMBER_SHIFT,
        RootKind::Stack(task) => 4 | u64::from(task) << NUMBER_SHIFT,
        RootKind::Registers(cpu) => 5 | u64::from(cpu) << NUMBER_SHIFT,
        RootKind::Region => 6,
    }
}

fn decode(kind: u64) -> Option<RootKind> {
    let number = kind >> NUMBER_SHIFT;
    Some(match kind & ((1 << NUMBER_SHIFT) - 1) {
        1 => RootKind::Section,
        2 => RootKind::PerCpu(number as u32),
        3 => RootKind::Frames(number),
        4 => RootKind::Stack(number as u32),
        5 => RootKind::Registers(number as u32),
        6 => RootKind::Region,
        _ => return None,
    })
}

/// The words that were found. Used by one at a time.
pub(crate) struct References {
    rows: Paged<ROW>,
    /// Some found no room.
    short: bool,
}

/// Where a word lies.
#[derive(Clone, Copy)]
enum Origin {
    Root(Root),
    /// An object, which this row has found.
    Object {
        start: usize,
        size: usize,
        row: usize,
    },
    ByDecree,
}

impl References {
    pub(crate) const fn new() -> Self {
        Self {
            rows: Paged::new(),
            short: false,
        }
    }

    /// Forgets everything; the memory is given back by its owner.
    pub(crate) fn empty(&mut self) {
        self.rows.empty();
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.short = false;
    }

    fn slot(&self, row: usize) -> Slot {
        let rows = &self.rows;
        let hidden = |word| Hidden::from_bits(rows.get(row, word)).get();
        let (start, len) = (hidden(BASE), rows.get(row, LEN) as usize);
        Slot {
            address: hidden(SLOT),
            place: match decode(rows.get(row, KIND)) {
                Some(kind) => SlotPlace::Root(Root { kind, start, len }),
                None => SlotPlace::Object { start, size: len },
            },
        }
    }

    fn push(
        &mut self,
        slot: usize,
        origin: Origin,
        object: usize,
        meta: &crate::metadata::MetaAlloc<'_>,
    ) -> Option<usize> {
        let (base, kind, len) = match origin {
            Origin::Root(root) => (root.start, encode(root.kind), root.len),
            Origin::Object { start, size, row } => {
                (start, IN_OBJECT | (row as u64) << NUMBER_SHIFT, size)
            }
            Origin::ByDecree => (0, BY_DECREE, 0),
        };
        let mut row = [0; ROW];
        row[SLOT] = Hidden::new(slot).bits();
        row[BASE] = Hidden::new(base).bits();
        row[KIND] = kind;
        row[LEN] = len as u64;
        row[OBJECT] = Hidden::new(object).bits();
        let pushed = self.rows.push(row, meta);
        self.short |= pushed.is_none();
        pushed
    }

    /// The row by which the object was found that a row's word lies in; none if that is in a root.
    fn before(&self, row: usize) -> Option<usize> {
        let kind = self.rows.get(row, KIND);
        let in_object = kind & ((1 << NUMBER_SHIFT) - 1) == IN_OBJECT;
        let before = (kind >> NUMBER_SHIFT) as usize;
        let by_decree = in_object && self.rows.get(before, KIND) == BY_DECREE;
        (in_object && !by_decree).then_some(before)
    }
}

/// An object that is asked about.
struct Target {
    start: usize,
    size: usize,
    record: Record,
}

impl<P: Platform> Detector<P> {
    /// Shows each word that points into the object in which `address` lies, in roots and in all other tracked
    /// objects, scanned or not. Task context, with no lock held; `look` may allocate. What the caller has on its
    /// stack is among the roots: it should not keep the address where it is seen.
    pub fn holders(&self, address: usize, look: &mut dyn FnMut(Slot)) -> Result<(), NoAnswer> {
        let hidden = Hidden::new(address);
        self.claim()?.find_holders(hidden, look).map(|_| ())
    }

    /// Shows the words of the shortest chain of pointers to the object in which `address` lies: a word in a root,
    /// then one in each object on the way. From an object that is no leak by decree the chain begins in that object.
    /// Context as of [`holders`](Self::holders).
    pub fn path(&self, address: usize, look: &mut dyn FnMut(Slot)) -> Result<(), NoAnswer> {
        let hidden = Hidden::new(address);
        self.claim()?.find_path(hidden, look).map(|_| ())
    }
}

impl<P: Platform> Claim<'_, P> {
    /// Shows each word that points into the object; the object's start.
    pub(crate) fn find_holders(
        &self,
        address: Hidden,
        look: &mut dyn FnMut(Slot),
    ) -> Result<usize, NoAnswer> {
        let target = self.examine(Pass::Skip, &mut Holders { address })?;
        let _outside = self.outside();
        let trail = self.trail().lock();
        let (rows, short) = (trail.rows.len(), trail.short);
        drop(trail);
        for row in 0..rows {
            let slot = self.trail().lock().slot(row);
            look(slot);
        }
        if short {
            Err(NoAnswer::NoMemory)
        } else {
            Ok(target)
        }
    }

    /// Shows the words of the shortest chain to the object; the object's start.
    pub(crate) fn find_path(
        &self,
        address: Hidden,
        look: &mut dyn FnMut(Slot),
    ) -> Result<usize, NoAnswer> {
        let target = self.examine(
            Pass::Mark,
            &mut Path {
                address,
                target: None,
                found: false,
            },
        )?;
        let _outside = self.outside();
        let mut next = {
            let trail = self.trail().lock();
            // From the end to the root, so that it can be told the other way round.
            let mut row = trail.rows.len() - 1;
            trail.rows.set(row, NEXT, NO_ROW);
            while let Some(before) = trail.before(row) {
                trail.rows.set(before, NEXT, row as u64);
                row = before;
            }
            row as u64
        };
        while next != NO_ROW {
            let trail = self.trail().lock();
            let slot = trail.slot(next as usize);
            next = trail.rows.get(next as usize, NEXT);
            drop(trail);
            look(slot);
        }
        Ok(target)
    }

    /// Asks a question, with the world stopped or, where it can't be, beside whatever runs.
    fn examine<Q: Question>(&self, pass: Pass, question: &mut Q) -> Result<usize, NoAnswer> {
        if !self.is_on() {
            return Err(NoAnswer::Off);
        }
        if pass == Pass::Mark {
            self.prepare_desks(self.platform.cpus().clamp(1, MAX_WORKERS as u32) as usize);
        }
        let mut answer = Err(NoAnswer::Off);
        // Given up when the detector is turned off meanwhile.
        let _ = self.apart(|| {
            answer = match self.examine_stopped(pass, question) {
                Some(answer) => answer,
                None => self.examine_running(pass, question)?,
            };
            Ok(())
        });
        match answer {
            Err(NoAnswer::Off) if self.is_on() => Err(NoAnswer::Stopped),
            answer => answer,
        }
    }

    fn examine_stopped<Q: Question>(
        &self,
        pass: Pass,
        question: &mut Q,
    ) -> Option<Result<usize, NoAnswer>> {
        let answer = SpinMutex::<_>::new(None);
        let question = SpinMutex::<_>::new(question);
        let shared = Shared::new(MAX_WORKERS, self.stacks(), 0);
        let stopped = self.platform.stop_world(&|cpu: StoppedCpu| {
            let workers = (cpu.of as usize).clamp(1, MAX_WORKERS);
            let worker = cpu.index as usize;
            if worker >= workers {
                return;
            }
            shared.set_workers(workers);
            let tools = self.tools(cpu.index);
            if pass == Pass::Mark {
                let mut marker = Marker::<P, Stopped>::new(&tools, &shared, worker);
                // In a stopped world no pass is given up.
                let _ = marker.run();
                marker.barrier();
            }
            if worker == 0 {
                let alone = Shared::new(1, self.stacks(), 0);
                let mut marker = Marker::<P, Stopped>::new(&tools, &alone, 0);
                let mut trail = self.trail().lock();
                trail.clear();
                *answer.lock() = question.lock().ask(&mut marker, &mut trail).ok();
            }
        });
        stopped.ok().and(answer.into_inner())
    }

    fn examine_running<Q: Question>(
        &self,
        pass: Pass,
        question: &mut Q,
    ) -> Result<Result<usize, NoAnswer>, GivenUp> {
        self.prepare_desks(1);
        self.scanning.begin();
        let shared = Shared::new(1, self.stacks(), self.now_us());
        let tools = self.tools(0);
        let mut marker = Marker::<P, Locked>::new(&tools, &shared, 0);
        let marked = match pass {
            Pass::Mark => marker.run(),
            Pass::Skip => Ok(()),
        };
        let result = marked.and_then(|()| {
            marker.barrier();
            let mut trail = self.trail().lock();
            trail.clear();
            question.ask(&mut marker, &mut trail)
        });
        self.scanning.end();
        result
    }
}

const NO_ROW: u64 = u64::MAX;

/// What is done before a question is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Nothing.
    Skip,
    /// What is alive is marked.
    Mark,
}

/// A question about an object.
trait Question: Send {
    /// Answers with the object's start, and leaves the words in the trail.
    fn ask<P: Platform, A: Access>(
        &mut self,
        marker: &mut Marker<'_, P, A>,
        trail: &mut References,
    ) -> Result<Result<usize, NoAnswer>, GivenUp>;
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
    marker.without_interrupts(|_| {
        registry.block_containing::<A, _>(address, |object, _| seen(object))
    })
}

struct Holders {
    address: Hidden,
}

impl Question for Holders {
    fn ask<P: Platform, A: Access>(
        &mut self,
        marker: &mut Marker<'_, P, A>,
        trail: &mut References,
    ) -> Result<Result<usize, NoAnswer>, GivenUp> {
        let Some(target) = target_at(marker, self.address.get()) else {
            return Ok(Err(NoAnswer::NoObject));
        };
        let platform = marker.platform();
        // Of a per-CPU block a pointer to any copy counts, and so does the handle, which need not be one of them.
        let copies = match target.record.has(flag::PERCPU) {
            true => platform.cpus(),
            false => 0,
        };
        let points_there = |word: usize| {
            let lies_in = |copy: usize| word.wrapping_sub(copy) < target.size;
            lies_in(target.start)
                || (0..copies).any(|cpu| {
                    Extent::copy(platform, target.start, cpu, target.size)
                        .is_some_and(|copy| lies_in(copy.start().get()))
                })
        };
        marker.each_root_word(&mut |marker, root, slot, word| {
            if points_there(word) {
                trail.push(slot, Origin::Root(root), target.start, marker.meta());
            }
        })?;
        marker.each_object(&mut |marker, start| {
            if start == target.start {
                return Ok(());
            }
            let Some(holder) = target_at(marker, start).filter(|holder| holder.start == start)
            else {
                // A further copy of a per-CPU block.
                return Ok(());
            };
            let origin = Origin::Object {
                start,
                size: holder.size,
                row: 0,
            };
            let mut points = false;
            marker.each_word(start, Words::All, &mut |_, _, word| {
                points |= points_there(word)
            })?;
            // What lies below a task's stack pointer is nobody's, but has all that was called, this command first of all.
            let range = start..end_of(start, holder.size);
            if !points || marker.has_stack(range) {
                return Ok(());
            }
            marker.each_word(start, Words::All, &mut |marker, slot, word| {
                // Words in roots have been met there.
                if points_there(word) && !marker.is_in_root(slot..end_of(slot, WORD)) {
                    trail.push(slot, origin, target.start, marker.meta());
                }
            })
        })?;
        Ok(Ok(target.start))
    }
}

struct Path {
    address: Hidden,
    /// The object's start, when it is known.
    target: Option<Hidden>,
    found: bool,
}

impl Path {
    /// Comes to whatever a word points to.
    fn come<P: Platform, A: Access>(
        &mut self,
        marker: &mut Marker<'_, P, A>,
        trail: &mut References,
        slot: usize,
        word: usize,
        origin: Origin,
    ) {
        if self.found {
            return;
        }
        let (registry, target) = (marker.registry(), self.target);
        let (mut found, mut object_at) = (false, 0);
        let mut take = |object: Object<'_>| {
            object_at = object.start;
            found = target == Some(Hidden::new(object.start));
            found || take_mark(object)
        };
        let seen = registry.containing::<A, _>(word, |object| {
            let record = object.record.read();
            match record.has(flag::ALIAS) {
                true => Err(alias_owner(&record)),
                false => Ok(take(object)),
            }
        });
        let new = match seen {
            Some(Ok(new)) => new,
            Some(Err(owner)) => registry.starting_at::<A, _>(owner, take) == Some(true),
            None => false,
        };
        if new && trail.push(slot, origin, object_at, marker.meta()).is_some() {
            self.found = found;
        }
    }
}

/// Takes the mark from an object, and tells whether it had one: whether it is alive, and was not come to before.
fn take_mark(object: Object<'_>) -> bool {
    if object.record.has(flag::EXCESS) {
        let reached = object.record.has(flag::REACHED);
        object.record.clear(flag::REACHED);
        return reached;
    }
    let marked = object.mark.is_set();
    object.mark.clear();
    marked
}

impl Question for Path {
    fn ask<P: Platform, A: Access>(
        &mut self,
        marker: &mut Marker<'_, P, A>,
        trail: &mut References,
    ) -> Result<Result<usize, NoAnswer>, GivenUp> {
        let Some(target) = target_at(marker, self.address.get()) else {
            return Ok(Err(NoAnswer::NoObject));
        };
        self.target = Some(Hidden::new(target.start));
        marker.each_object(&mut |marker, start| {
            let registry = marker.registry();
            let decreed = marker.without_interrupts(|_| {
                registry.starting_at::<A, _>(start, |object| {
                    let record = object.record.read();
                    record.min_count() == 0 && !record.has(flag::ALIAS) && take_mark(object)
                })
            });
            if decreed == Some(true) && start != target.start {
                marker.without_interrupts(|marker| {
                    trail.push(0, Origin::ByDecree, start, marker.meta())
                });
            }
            Ok(())
        })?;
        marker.each_root_word(&mut |marker, root, slot, word| {
            self.come(marker, trail, slot, word, Origin::Root(root));
        })?;
        let mut row = 0;
        while row < trail.rows.len() && !self.found {
            let start = Hidden::from_bits(trail.rows.get(row, OBJECT)).get();
            let size = target_at(marker, start).map_or(0, |object| object.size);
            let origin = Origin::Object { start, size, row };
            marker.each_word(start, Words::Scanned, &mut |marker, slot, word| {
                self.come(marker, trail, slot, word, origin);
            })?;
            row += 1;
        }
        let range: Range<usize> = target.start..end_of(target.start, target.size);
        Ok(if self.found {
            Ok(target.start)
        } else if trail.short {
            Err(NoAnswer::NoMemory)
        } else if target.record.min_count() == 0 {
            Err(NoAnswer::IsRoot)
        } else if marker.is_in_root(range) {
            Err(NoAnswer::InRoot)
        } else {
            Err(NoAnswer::Unreached)
        })
    }
}
