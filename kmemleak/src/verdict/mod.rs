//! The verdict: which objects nothing points to. How it is made, kept and retired; [`crate::verdict::iter`] shows it.

pub(crate) mod baseline;
pub(crate) mod call_sites;
pub(crate) mod groups;
pub(crate) mod iter;
pub(crate) mod leaders;
pub(crate) mod leak_list;
pub(crate) mod pattern;
pub(crate) mod suppress;

use core::fmt;

use crate::checker::claim::Claim;
use crate::marker::{Figures, GivenUp, Marker};
use crate::objects::record::{Record, flag};
use crate::objects::{Access, Object};
use crate::platform::{Platform, StopError};
use crate::stacks::task_names::Round;
use crate::verdict::groups::Groups;
use crate::verdict::iter::Rank;
use crate::verdict::leak_list::{LeakList, fate};

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

/// Why what a verdict lists are suspects, and no leaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// So much could not be recorded for want of memory: blocks, or what was said of them. What these keep alive is among
    /// the suspects.
    Unrecorded(u64),
    /// They were found beside what runs, and no stop of the world has confirmed it: what is in use may be among them.
    Unconfirmed,
    /// Nobody vouches that blocks can be read, and so many were passed over: the platform's
    /// [`readable`](Platform::readable) is false of all. What only they point to is among the suspects.
    Unread(u64),
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unrecorded(1) => f.write_str("1 record is missing for want of memory"),
            Self::Unrecorded(missing) => {
                write!(f, "{missing} records are missing for want of memory")
            }
            Self::Unconfirmed => f.write_str("the world was not stopped to make sure"),
            Self::Unread(blocks) => write!(
                f,
                "the platform vouches for no block to be readable, and {blocks} were passed over (Platform::readable)"
            ),
        }
    }
}

/// A verdict in figures.
///
/// It lists objects that nothing was found to point to. These are *leaks* if that is certain: the world was stopped, and
/// all was recorded. Else they are *suspects*, all of them. What is said of those that are listed holds for the ones as for
/// the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Leaks: objects that nothing points to.
    pub objects: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Suspects: objects that nothing was found to point to, of which it is not certain. None where there are leaks.
    pub suspects: usize,
    /// Their bytes.
    pub suspect_bytes: usize,
    /// Those listed that have not been told of.
    pub unreported_objects: usize,
    /// Bytes of these.
    pub unreported_bytes: usize,
    /// The leaders among those listed: the rest was lost with these. `None` where there was no memory to find out.
    pub direct_objects: Option<usize>,
    /// Bytes of the leaders; those of all where there are none.
    pub direct_bytes: usize,
    /// Call stacks that allocated those listed. `None` where there was no memory to count.
    pub groups: Option<usize>,
    /// Objects that suppressions hide.
    pub suppressed_objects: usize,
    /// Bytes of these.
    pub suppressed_bytes: usize,
    /// How it was come by.
    pub how: How,
    /// Whether the suspects stood still at last. If not, the last pass there may be still took some away, and another
    /// one might take more.
    pub settled: bool,
    /// What could not be recorded for want of memory, since the last `clear`: blocks, and what was said of them.
    pub unrecorded: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// For how long the world was stopped, in microseconds; zero if it was not.
    pub stopped_us: u64,
    /// Objects that were tracked.
    pub tracked: u64,
    /// Words that were read.
    pub words: u64,
    /// Blocks that were not read, where nobody vouches for any that it can be; see [`Doubt::Unread`].
    pub unread: u64,
    /// Words among those read that might be addresses in objects.
    pub candidates: u64,
    /// Candidates that are. The others are misses.
    pub hits: u64,
    /// CPUs that marked together.
    pub cpus: u32,
}

impl Summary {
    /// Objects that the verdict lists: leaks, or suspects.
    pub fn listed(&self) -> usize {
        self.objects + self.suspects
    }

    /// Their bytes.
    pub fn listed_bytes(&self) -> usize {
        self.bytes + self.suspect_bytes
    }

    /// Why those that are listed are suspects; `None` if they are leaks.
    pub fn doubt(&self) -> Option<Doubt> {
        match self.how {
            _ if self.unrecorded > 0 => Some(Doubt::Unrecorded(self.unrecorded)),
            _ if self.unread > 0 => Some(Doubt::Unread(self.unread)),
            How::Stopped => None,
            How::Scanned { .. } | How::Repeated { .. } => Some(Doubt::Unconfirmed),
        }
    }
}

/// Whether the suspects of several passes stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    Yes,
    No,
}

/// Whether records have [`flag::SUSPECT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flagged {
    None,
    /// Some may.
    Some,
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

/// Objects that were told of and are referenced again, until they are told of once more.
const REVIVED: usize = 32;

/// The last verdict. Changed by who checks.
pub(crate) struct Verdict {
    pub(crate) list: LeakList,
    pub(crate) summary: Option<Summary>,
    /// When it was come by.
    pub(crate) at_us: u64,
    pub(crate) groups: Groups,
    /// Left by the last passes.
    pub(crate) flagged: Flagged,
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

/// Whether an object is unreferenced at the end of a pass, and no leak by decree.
pub(crate) fn is_white(object: Object<'_>, record: &Record) -> bool {
    !object.mark.is_set() && !record.has(flag::ALIAS | flag::REACHED) && record.min_count() > 0
}

impl Verdict {
    pub(crate) const fn new() -> Self {
        Self {
            list: LeakList::new(),
            summary: None,
            at_us: 0,
            groups: Groups::new(),
            flagged: Flagged::None,
            suppressed_objects: 0,
            suppressed_bytes: 0,
            revived: [(0, 0); REVIVED],
            revived_len: 0,
            revived_lost: 0,
        }
    }

    /// There is none.
    pub(crate) fn forget(&mut self, now: Round) {
        self.list.clear(now);
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
        let meta = self.meta();
        let registry = self.registry();
        // In a stopped world nobody asks it to stop, beside others it goes on to the end.
        let _ = self.each_chunk(|_, number, chunk| {
            let unmarked = chunk.starts().load(core::sync::atomic::Ordering::Relaxed)
                & !chunk.marks().load(core::sync::atomic::Ordering::Relaxed);
            if unmarked == 0 && !chunk.has(crate::objects::chunk::info::ODD) {
                return;
            }
            registry.each_of(number, chunk, unmarked, &mut |object| {
                let record = object.record.read();
                if is_white(object, &record) {
                    object.record.set(flag::LISTED);
                    let record = object.record.read();
                    verdict.lock().list.push(object.start, record, meta);
                }
            });
        });
    }
}

impl<P: Platform> Claim<'_, P> {
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
        self.forget_verdict();
    }

    pub(crate) fn forget_verdict(&self) {
        let now = self.task_names.now();
        self.with_verdict(|verdict, _| verdict.forget(now));
    }

    /// Makes a verdict of the unmarked objects that are listed: takes out what is suppressed and what `filter`
    /// doesn't let, and finds the leaders of the others. For one worker, while the others wait. (The verdict's lock is held throughout:
    /// nobody waits for it.)
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

    /// Completes the verdict when its objects are named.
    pub(crate) fn complete_verdict(&self, making: Making) -> Summary {
        let figures = making.figures;
        let at_us = self.now_us();
        self.recycle_names();
        self.group();
        let (groups, suppressed, flat) = self.with_verdict(|verdict, _| {
            let groups = (!verdict.groups.incomplete).then(|| verdict.groups.len());
            let suppressed = (verdict.suppressed_objects, verdict.suppressed_bytes);
            (groups, suppressed, verdict.list.left_out > 0)
        });
        let mut summary = Summary {
            objects: 0,
            bytes: 0,
            suspects: 0,
            suspect_bytes: 0,
            unreported_objects: 0,
            unreported_bytes: 0,
            direct_objects: (!flat).then_some(0),
            direct_bytes: 0,
            groups,
            suppressed_objects: suppressed.0,
            suppressed_bytes: suppressed.1,
            stopped_us: making.stopped_us,
            tracked: figures.objects,
            candidates: figures.candidates,
            hits: figures.hits,
            how: making.how,
            settled: making.settled == Settled::Yes,
            unrecorded: self.unrecorded.load(core::sync::atomic::Ordering::Relaxed),
            took_us: at_us.saturating_sub(making.start_us),
            words: figures.words,
            unread: figures.unread,
            cpus: making.cpus,
        };
        let certain = summary.doubt().is_none();
        self.each_named_at(&mut |named, index| {
            let size = self.size_of(named);
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

    /// The objects have been told of: the next verdicts don't count them as new.
    pub(crate) fn note_reported(&self) {
        self.each_listed(&mut |object| {
            object.record.set(flag::REPORTED);
        });
    }
}
