//! The verdict: which objects nothing points to. How it is made, kept and retired; [`crate::walks`] shows it.

use crate::claim::Claim;
use crate::groups::Groups;
use crate::leaders;
use crate::list::{List, Named, fate};
use crate::marker::{Figures, GivenUp, Marker};
use crate::platform::{Platform, StopError};
use crate::record::{Record, flag};
use crate::registry::{Access, Object};
use crate::walks::Rank;

/// How a verdict was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// In one pass, with the world stopped: exact.
    Stopped,
    /// By passes of the background scan, unconfirmed, which leave out what is young or has changed of late. Where its
    /// suspects were confirmed in a stopped world, that counts.
    Scanned {
        /// How many passes it took.
        passes: u32,
    },
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
    /// Those of them that have not been told of.
    pub unreported_objects: usize,
    /// Bytes of these.
    pub unreported_bytes: usize,
    /// The leaders among them: the rest was lost with these. `None` where there was no memory to find out.
    pub direct_objects: Option<usize>,
    /// Bytes of the leaders; those of all where there are none.
    pub direct_bytes: usize,
    /// Call stacks that allocated them. `None` where there was no memory to count.
    pub groups: Option<usize>,
    /// Objects that suppressions hide.
    pub suppressed_objects: usize,
    /// Bytes of these.
    pub suppressed_bytes: usize,
    /// How it was come by.
    pub how: How,
    /// Blocks for which there was no record: what they own may be among the objects.
    pub unrecorded: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// For how long the world was stopped, in microseconds; zero if it was not.
    pub stopped_us: u64,
    /// Objects that were tracked.
    pub tracked: u64,
    /// Words that were read.
    pub words: u64,
    /// Of these, the ones that might be addresses in objects.
    pub candidates: u64,
    /// And those that are. The others are misses.
    pub hits: u64,
    /// CPUs that marked together.
    pub cpus: u32,
}

/// Objects that were told of and are referenced again, until they are told of once more.
const REVIVED: usize = 32;

/// The last verdict. Changed by who checks.
pub(crate) struct Verdict {
    pub(crate) list: List,
    pub(crate) summary: Option<Summary>,
    /// When it was come by.
    pub(crate) at_us: u64,
    pub(crate) groups: Groups,
    pub(crate) suppressed_objects: usize,
    pub(crate) suppressed_bytes: usize,
    /// Starts (inverted) and sizes.
    revived: [(usize, usize); REVIVED],
    revived_len: usize,
    /// More of them than there was room for.
    pub(crate) revived_lost: usize,
}

/// Which unmarked objects are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Allocated before, or told of already.
    pub(crate) before_us: u64,
    /// With this flag, if it is not zero.
    pub(crate) flags: u16,
}

impl Filter {
    pub(crate) const ALL: Self = Self {
        before_us: u64::MAX,
        flags: 0,
    };

    fn lets(self, record: &Record) -> bool {
        let old = record.birth_us() < self.before_us || record.has(flag::REPORTED);
        old && (self.flags == 0 || record.has(self.flags))
    }
}

/// Whether an object is unreferenced at the end of a pass, and no leak by decree.
pub(crate) fn is_white(object: Object<'_>, record: &Record) -> bool {
    !object.mark.is_set() && !record.has(flag::ALIAS | flag::REACHED) && record.min_count() > 0
}

impl Verdict {
    pub(crate) const fn new() -> Self {
        Self {
            list: List::new(),
            summary: None,
            at_us: 0,
            groups: Groups::new(),
            suppressed_objects: 0,
            suppressed_bytes: 0,
            revived: [(0, 0); REVIVED],
            revived_len: 0,
            revived_lost: 0,
        }
    }

    /// There is none.
    pub(crate) fn forget(&mut self) {
        self.list.clear();
        self.groups.clear();
        self.summary = None;
        (self.suppressed_objects, self.suppressed_bytes) = (0, 0);
    }

    /// Forgets everything; the memory is given back by its owner.
    pub(crate) fn empty(&mut self) {
        self.list.empty();
        self.groups.empty();
        self.summary = None;
        (self.suppressed_objects, self.suppressed_bytes) = (0, 0);
    }

    fn note_revived(&mut self, start: usize, size: usize) {
        if self.revived_len == REVIVED {
            self.revived_lost += 1;
            return;
        }
        self.revived[self.revived_len] = (!start, size);
        self.revived_len += 1;
    }

    /// Takes one object that was told of and is referenced again.
    pub(crate) fn take_revived(&mut self) -> Option<(usize, usize)> {
        self.revived_len = self.revived_len.checked_sub(1)?;
        let (start, size) = self.revived[self.revived_len];
        Some((!start, size))
    }
}

impl<'a, P: Platform, A: Access> Marker<'a, P, A> {
    /// Lists the unmarked objects.
    pub(crate) fn name_white(&mut self, verdict: &spin::mutex::SpinMutex<Verdict>) {
        let source = self.source();
        let registry = self.registry();
        // In a stopped world nobody asks it to stop, beside others it goes on to the end.
        let _ = self.each_chunk(|_, number, chunk| {
            let unmarked = chunk.starts().load(core::sync::atomic::Ordering::Relaxed)
                & !chunk.marks().load(core::sync::atomic::Ordering::Relaxed);
            if unmarked == 0 && !chunk.has(crate::chunk::info::ODD) {
                return;
            }
            registry.each_of(number, chunk, unmarked, &mut |object| {
                let record = object.record.read();
                if is_white(object, &record) {
                    object.record.set(flag::LISTED);
                    let named = Named {
                        start: object.start,
                        record: object.record.read(),
                    };
                    verdict.lock().list.push(named, source);
                }
            });
        });
    }
}

impl<P: Platform, const BOOTSTRAP: usize> Claim<'_, P, BOOTSTRAP> {
    /// Before objects are named: forgets the verdict before, and notes which of its objects have been told of and
    /// are referenced again.
    pub(crate) fn retire_verdict(&self) {
        self.each_named(&mut |named| {
            let mut revived = false;
            self.change_named(named, &mut |object| {
                let record = object.record.read();
                object.record.clear(flag::LISTED);
                if !is_white(object, &record) {
                    object.record.clear(flag::REPORTED | flag::SUSPECT);
                    revived = record.has(flag::REPORTED) && record.min_count() > 0;
                }
            });
            if revived {
                let size = self.size_of(named);
                self.with_verdict(|verdict, _| verdict.note_revived(named.start, size));
            }
        });
        self.each_suppressed(&mut |named| {
            self.change_named(named, &mut |object| {
                // Nobody is told that it is referenced again, but when it is lost once more, that is news.
                if !is_white(object, &object.record.read()) {
                    object.record.clear(flag::REPORTED | flag::SUSPECT);
                }
            });
        });
        self.with_verdict(|verdict, _| verdict.forget());
    }

    /// Makes a verdict of the unmarked objects that are listed: takes out what is suppressed and what `filter`
    /// doesn't let, and finds the leaders of the others. For one worker, while the others wait; the caller has the
    /// claim. (So nobody waits for the verdict's lock, which is held throughout: who has no claim only tries it.)
    pub(crate) fn conclude<A: Access>(
        &self,
        marker: &mut Marker<'_, P, A>,
        filter: Filter,
    ) -> Result<(), GivenUp> {
        let verdict = &mut *self.verdict().lock();
        verdict.list.sort();
        self.mark_suppressed(marker, verdict)?;
        self.each_listed_in(verdict, &mut |place, object| {
            if !filter.lets(&object.record.read()) {
                object.record.clear(flag::LISTED);
                if let Some(index) = place {
                    verdict.list.set_fate(index, fate::LEFT);
                }
            }
        });
        if verdict.list.left_out == 0 {
            leaders::find(marker, &verdict.list)?;
        }
        Ok(())
    }

    /// Where passes were given up half way, what they suspect is no verdict.
    pub(crate) fn or_no_verdict<T>(&self, result: Result<T, GivenUp>) -> Result<T, GivenUp> {
        if result.is_err() && self.with_verdict(|verdict, _| verdict.summary.is_none()) {
            self.drop_verdict();
        }
        result
    }

    /// Forgets the verdict.
    pub(crate) fn drop_verdict(&self) {
        self.each_listed(&mut |object| object.record.clear(flag::LISTED | flag::SUSPECT));
        self.with_verdict(|verdict, _| verdict.forget());
    }

    /// How many objects are leaks.
    pub(crate) fn count_named(&self) -> usize {
        let mut count = 0;
        self.each_named(&mut |_| count += 1);
        count
    }

    /// Completes the verdict when its objects are named.
    pub(crate) fn complete_verdict(
        &self,
        how: How,
        start_us: u64,
        figures: Figures,
        cpus: u32,
        stopped_us: u64,
    ) -> Summary {
        let at_us = self.platform.now_us();
        self.group();
        let (groups, suppressed, flat) = self.with_verdict(|verdict, _| {
            let groups = (!verdict.groups.incomplete).then(|| verdict.groups.len());
            let suppressed = (verdict.suppressed_objects, verdict.suppressed_bytes);
            (groups, suppressed, verdict.list.left_out > 0)
        });
        let mut summary = Summary {
            objects: 0,
            bytes: 0,
            unreported_objects: 0,
            unreported_bytes: 0,
            direct_objects: (!flat).then_some(0),
            direct_bytes: 0,
            groups,
            suppressed_objects: suppressed.0,
            suppressed_bytes: suppressed.1,
            stopped_us,
            tracked: figures.objects,
            candidates: figures.candidates,
            hits: figures.hits,
            how,
            unrecorded: self.unrecorded.load(core::sync::atomic::Ordering::Relaxed),
            took_us: at_us.saturating_sub(start_us),
            words: figures.words,
            cpus,
        };
        self.each_named_at(&mut |named, index| {
            let size = self.size_of(named);
            summary.objects += 1;
            summary.bytes += size;
            if !named.record.has(flag::REPORTED) {
                summary.unreported_objects += 1;
                summary.unreported_bytes += size;
            }
            if let Some(Rank::Indirect { .. }) = index.map(|index| self.rank_of(index)) {
                return;
            }
            summary.direct_bytes += size;
            summary.direct_objects = summary.direct_objects.map(|direct| direct + 1);
        });
        self.with_verdict(|verdict, _| {
            verdict.summary = Some(summary);
            verdict.at_us = at_us;
        });
        summary
    }

    /// The objects of the verdict are what further passes may name.
    pub(crate) fn suspect_listed(&self) {
        self.each_listed(&mut |object| {
            object.record.set(flag::SUSPECT);
        });
    }

    /// Nothing is suspected.
    pub(crate) fn forget_suspects(&self) {
        self.each_listed(&mut |object| object.record.clear(flag::SUSPECT));
    }

    /// The objects have been told of: the next verdicts don't count them as new.
    pub(crate) fn note_reported(&self) {
        self.each_listed(&mut |object| {
            object.record.set(flag::REPORTED);
        });
    }
}
