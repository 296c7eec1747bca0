//! The verdict: which objects nothing points to. How it is made, kept and retired.
//!
//! A verdict belongs to the holder of the claim, who hands it down here: it stays while it is read. But blocks are freed
//! meanwhile, so it names an object by its address and birth, and a reader that needs to know whether the object is still there
//! asks the registry.
//!
//! This folder writes no text. A suppression's pattern reads the names that are written to it.

pub(crate) mod baseline;
pub(crate) mod call_sites;
pub(crate) mod foreseen;
pub(crate) mod groups;
pub(crate) mod handles;
pub(crate) mod history;
pub(crate) mod iter;
pub(crate) mod leaders;
pub(crate) mod leak_list;
pub(crate) mod order;
pub(crate) mod pattern;
pub(crate) mod shares;
pub(crate) mod summary;
pub(crate) mod suppress;
pub(crate) mod type_sums;

use crate::atomic::Lock;
use crate::marker::suspects::{Flagged, is_white};
use crate::marker::{Figures, GivenUp, Marker};
use crate::metadata::hidden::Hidden;
use crate::objects::access::Access;
use crate::objects::record::{Record, flag};
use crate::platform::Platform;
use crate::stacks::task_names::Round;
use crate::tracker::Tracker;
use crate::verdict::groups::Groups;
use crate::verdict::iter::Rank;
use crate::verdict::leak_list::{LeakList, fate};
use crate::verdict::summary::{How, LastSummary, Summary};
use crate::verdict::suppress::Suppressions;

/// Whether the suspects of several passes stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    Yes,
    No,
}

/// How a verdict was made.
pub(crate) struct Making {
    pub(crate) how: How,
    pub(crate) settled: Settled,
    pub(crate) start_us: u64,
    pub(crate) figures: Figures,
    pub(crate) cpus: u32,
    pub(crate) stopped_us: u64,
}

/// How many objects are kept that were reported and are referenced again, until that is reported too.
const REVIVED: usize = 32;

/// Objects that had been reported, and are referenced again.
pub(crate) struct Revived {
    /// Starts and sizes.
    objects: [(Hidden, usize); REVIVED],
    len: usize,
    /// How many more there were than there was room for.
    lost: usize,
}

impl Revived {
    const fn new() -> Self {
        Self {
            objects: [(Hidden::NONE, 0); REVIVED],
            len: 0,
            lost: 0,
        }
    }

    fn note(&mut self, start: usize, size: usize) {
        match self.objects.get_mut(self.len) {
            Some(place) => {
                *place = (Hidden::new(start), size);
                self.len += 1;
            }
            None => self.lost += 1,
        }
    }

    /// Takes one: its start, and its size.
    pub(crate) fn take(&mut self) -> Option<(usize, usize)> {
        self.len = self.len.checked_sub(1)?;
        let (start, size) = self.objects[self.len];
        Some((start.get(), size))
    }

    /// Takes the number of those for which there was no room.
    pub(crate) fn take_lost(&mut self) -> usize {
        core::mem::take(&mut self.lost)
    }
}

/// The last verdict.
pub(crate) struct Verdict {
    pub(crate) list: LeakList,
    pub(crate) summary: LastSummary,
    /// When it was made.
    pub(crate) at_us: u64,
    /// Which one it is, counted from one; zero before the first.
    pub(crate) number: u32,
    pub(crate) groups: Groups,
    /// Objects left by the last passes.
    pub(crate) flagged: Flagged,
    pub(crate) suppressed_objects: usize,
    pub(crate) suppressed_bytes: usize,
    pub(crate) revived: Revived,
}

/// Which unmarked objects are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Objects that were allocated before this time, or reported already.
    pub(crate) before_us: u64,
    /// Objects with this flag, if it is not zero.
    pub(crate) flags: u16,
}

impl Filter {
    pub(crate) const ALL: Self = Self {
        before_us: u64::MAX,
        flags: 0,
    };

    /// Those that the passes before have suspected.
    pub(crate) const SUSPECTS: Self = Self {
        before_us: u64::MAX,
        flags: flag::SUSPECT,
    };

    fn lets(self, record: &Record) -> bool {
        let old = record.birth_us() < self.before_us || record.has(flag::REPORTED);
        old && (self.flags == 0 || record.has(self.flags))
    }
}

impl Verdict {
    pub(crate) const fn new() -> Self {
        Self {
            list: LeakList::new(),
            summary: LastSummary::None,
            at_us: 0,
            number: 0,
            groups: Groups::new(),
            flagged: Flagged::None,
            suppressed_objects: 0,
            suppressed_bytes: 0,
            revived: Revived::new(),
        }
    }

    /// The verdict before any check.
    pub(crate) fn forget(&mut self, now: Round) {
        self.list.clear(now);
        self.groups.clear();
        self.summary = LastSummary::None;
        (self.suppressed_objects, self.suppressed_bytes) = (0, 0);
    }

    /// Forgets everything; its owner gives the memory back.
    pub(crate) fn empty(&mut self) {
        self.list.empty();
        self.groups.empty();
        self.summary = LastSummary::None;
        (self.suppressed_objects, self.suppressed_bytes) = (0, 0);
    }
}

/// Lists the unmarked objects, with all CPUs that mark together.
pub(crate) fn list_white<P: Platform, A: Access>(
    marker: &mut Marker<'_, P, A>,
    verdict: &Lock<&mut Verdict>,
) {
    list_white_that(marker, verdict, Filter::ALL);
}

/// Lists the unmarked objects that `filter` lets through.
pub(crate) fn list_white_that<P: Platform, A: Access>(
    marker: &mut Marker<'_, P, A>,
    verdict: &Lock<&mut Verdict>,
    filter: Filter,
) {
    let meta = marker.meta();
    // In a stopped world it is not asked to stop; while other code runs it goes on to the end.
    let _ = marker.each_white(&mut |object| {
        let record = object.record.read();
        if filter.lets(&record) {
            object.record.set(flag::LISTED);
            let record = record.with(flag::LISTED);
            verdict.lock().list.push(object.start, record, meta);
        }
    });
}

impl Verdict {
    /// Called before objects are named: forgets the verdict before, and notes which of its objects have been reported and are
    /// referenced again.
    pub(crate) fn retire<P: Platform>(&mut self, tracker: &Tracker<P>) {
        let Self { list, revived, .. } = self;
        list.each(tracker, &mut |named, _| {
            let mut again = false;
            named.change(tracker, &mut |object| {
                let record = object.record.read();
                object.record.clear(flag::LISTED);
                if !is_white(object, &record) {
                    object.record.clear(flag::REPORTED | flag::SUSPECT);
                    again = record.has(flag::REPORTED) && record.min_count() > 0;
                }
            });
            if again {
                revived.note(named.start, named.size(tracker));
            }
        });
        list.each_suppressed(&mut |named| {
            named.change(tracker, &mut |object| {
                // It is not reported that this object is referenced again, but if it is lost once more, it is reported as new.
                if !is_white(object, &object.record.read()) {
                    object.record.clear(flag::REPORTED | flag::SUSPECT);
                }
            });
        });
        self.forget(tracker.task_names().now());
    }

    /// Makes a verdict of the unmarked objects that are listed: takes out what is suppressed and what `filter` does not let
    /// through, and finds the leaders of the others. For one worker, while the others wait.
    pub(crate) fn conclude<P: Platform, A: Access>(
        &mut self,
        tracker: &Tracker<P>,
        suppressions: &mut Suppressions,
        marker: &mut Marker<'_, P, A>,
        filter: Filter,
    ) -> Result<(), GivenUp> {
        self.list.sort();
        let hidden = suppressions.hide(tracker, marker, &self.list)?;
        (self.suppressed_objects, self.suppressed_bytes) = (hidden.objects, hidden.bytes);
        self.list.each_there(tracker, &mut |place, object| {
            if !filter.lets(&object.record.read()) {
                object.record.clear(flag::LISTED);
                if let Some(index) = place {
                    self.list.set_fate(index, fate::LEFT);
                }
            }
        });
        if self.list.left_out == 0 {
            leaders::find(marker, &self.list)?;
        }
        Ok(())
    }

    /// Completes the verdict when its objects have been named.
    pub(crate) fn complete<P: Platform>(
        &mut self,
        tracker: &Tracker<P>,
        making: Making,
    ) -> Summary {
        let figures = making.figures;
        let at_us = tracker.now_us();
        tracker.recycle_names();
        self.groups.form(&self.list, tracker);
        let flat = self.list.left_out > 0;
        let mut summary = Summary {
            objects: 0,
            bytes: 0,
            suspects: 0,
            suspect_bytes: 0,
            unreported_objects: 0,
            unreported_bytes: 0,
            leaders: (!flat).then_some(0),
            leader_bytes: 0,
            groups: (!self.groups.incomplete).then(|| self.groups.len()),
            suppressed_objects: self.suppressed_objects,
            suppressed_bytes: self.suppressed_bytes,
            stopped_us: making.stopped_us,
            tracked: figures.objects,
            candidates: figures.candidates,
            hits: figures.hits,
            how: making.how,
            settled: making.settled == Settled::Yes,
            unrecorded: tracker.unrecorded(),
            missing_bytes: tracker.missing_bytes(figures.objects as usize),
            took_us: at_us.saturating_sub(making.start_us),
            words: figures.words,
            unread: figures.unread,
            in_flight: figures.in_flight,
            in_sections: figures.in_sections,
            stacks: figures.stacks,
            cpus: making.cpus,
        };
        let certain = summary.doubt().is_none();
        self.list.each(tracker, &mut |named, index| {
            let size = named.size(tracker);
            let (objects, bytes) = match certain {
                true => (&mut summary.objects, &mut summary.bytes),
                false => (&mut summary.suspects, &mut summary.suspect_bytes),
            };
            *objects += 1;
            *bytes += size;
            if !named.record.has(flag::REPORTED) {
                summary.unreported_objects += 1;
                summary.unreported_bytes += size;
            }
            if let Some(Rank::Owned { .. }) = index.map(|index| self.list.rank(index)) {
                return;
            }
            summary.leader_bytes += size;
            summary.leaders = summary.leaders.map(|leaders| leaders + 1);
        });
        self.summary = LastSummary::Some(summary);
        self.at_us = at_us;
        self.number = self.number.wrapping_add(1);
        summary
    }

    /// Notes that all that it lists has been reported.
    pub(crate) fn note_reported<P: Platform>(&self, tracker: &Tracker<P>) {
        self.list.each_there(tracker, &mut |_, object| {
            object.record.set(flag::REPORTED);
        });
    }

    /// Makes gray all objects that it lists, and returns how many there were. There is no verdict then.
    pub(crate) fn acknowledge<P: Platform>(&mut self, tracker: &Tracker<P>) -> usize {
        let mut objects = 0;
        self.list.each_there(tracker, &mut |_, object| {
            object.set_min_count(0);
            object.record.clear(flag::LISTED | flag::SUSPECT);
            // So that questions can tell what is a root since then.
            object.record.set(flag::REPORTED);
            objects += 1;
        });
        // No later verdict tells when one of these is referenced again, so they count as not reported.
        self.list.each_suppressed(&mut |named| {
            named.change(tracker, &mut |object| object.record.clear(flag::REPORTED));
        });
        self.forget(tracker.task_names().now());
        objects
    }
}
