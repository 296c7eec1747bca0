//! The verdict: which objects nothing points to.

use crate::detector::Detector;
use crate::groups::Groups;
use crate::leaders;
use crate::list::{List, Named, fate};
use crate::marker::{Figures, GivenUp, Marker};
use crate::memory::Source;
use crate::page_map::{address_of, chunk_of};
use crate::platform::{Platform, StopError};
use crate::record::{Record, flag};
use crate::registry::{Access, Locked, Object};
use crate::remembered::Remembered;

/// How a verdict was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// In one pass, with the world stopped: exact.
    Stopped,
    /// By one pass of the background scan, which leaves out what is young or has changed of late.
    Scanned,
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
    pub new_objects: usize,
    /// Bytes of these.
    pub new_bytes: usize,
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

/// An object that nothing points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreferenced {
    /// Its address.
    pub start: usize,
    /// Its bytes.
    pub size: usize,
    /// When it was allocated, in microseconds of the platform's clock.
    pub birth_us: u64,
    /// A number that stands for the call stack that allocated it.
    pub call_stack: u32,
    /// Its place in the graph of what is lost. `None` where there was no memory to find out.
    pub rank: Option<Rank>,
}

/// Whether an unreferenced object was lost by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// A leader: nothing that is not itself reached from it points to it.
    Direct {
        /// Objects that it owns: that were lost with it.
        owned_objects: usize,
        /// Bytes of these.
        owned_bytes: usize,
    },
    /// It was lost with a leader.
    Indirect {
        /// Where that starts.
        leader: usize,
    },
}

/// A tracked object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
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

/// Bytes of memory whose objects are looked at together.
const PART: usize = 64 * 1024;

/// Objects of the list that are looked at together, interrupts being off.
pub(crate) const STEP: usize = 64;

/// Objects that were told of and are referenced again, until they are told of once more.
const REVIVED: usize = 32;

/// The last verdict. Changed by who checks.
pub(crate) struct Verdict {
    pub(crate) list: List,
    pub(crate) summary: Option<Summary>,
    /// When it was come by.
    pub(crate) at_us: u64,
    pub(crate) figures: Figures,
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
            figures: Figures {
                objects: 0,
                words: 0,
                candidates: 0,
                hits: 0,
            },
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

impl<P: Platform, const BOOTSTRAP: usize> Detector<P, BOOTSTRAP> {
    /// Runs `work` on the verdict, with interrupts off.
    pub(crate) fn with_verdict<R>(&self, work: impl FnOnce(&mut Verdict, &Source<'_>) -> R) -> R {
        self.quietly(|source| work(&mut self.verdict.lock(), source))
    }

    /// Before objects are named: forgets the verdict before, and notes which of its objects have been told of and
    /// are referenced again.
    pub(crate) fn retire_verdict(&self) {
        self.each_named(&mut |named| {
            let revived = self.quietly(|_| {
                self.registry
                    .starting_at::<Locked, _>(named.start, |object| {
                        let record = object.record.read();
                        if record.birth_us() != named.record.birth_us() {
                            return false;
                        }
                        object.record.clear(flag::LISTED);
                        if is_white(object, &record) {
                            return false;
                        }
                        object.record.clear(flag::REPORTED | flag::SUSPECT);
                        record.has(flag::REPORTED) && record.min_count() > 0
                    })
            });
            if revived == Some(true) {
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
        let verdict = &mut *self.verdict.lock();
        verdict.list.sort();
        (verdict.suppressed_objects, verdict.suppressed_bytes) = (0, 0);
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
            new_objects: 0,
            new_bytes: 0,
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
                summary.new_objects += 1;
                summary.new_bytes += size;
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
            verdict.figures = figures;
        });
        summary
    }

    /// Bytes of a named object.
    pub(crate) fn size_of(&self, named: &Named) -> usize {
        match named.record.short_size() {
            u32::MAX => self
                .quietly(|_| self.registry.notes.size(named.start))
                .unwrap_or(u32::MAX as usize),
            size => size as usize,
        }
    }

    /// Whether a named object is still there.
    pub(crate) fn is_there(&self, named: &Named) -> bool {
        let birth = self.quietly(|_| {
            self.registry
                .starting_at::<Locked, _>(named.start, |object| object.record.read().birth_us())
        });
        birth == Some(named.record.birth_us())
    }

    /// Does something with each object of the verdict that is still there. The caller has the claim.
    pub(crate) fn each_listed(&self, change: &mut dyn FnMut(Object<'_>)) {
        self.each_named(&mut |named| self.change_named(named, change));
    }

    /// Does something with a named object, if it is still there.
    pub(crate) fn change_named(&self, named: &Named, change: &mut dyn FnMut(Object<'_>)) {
        self.quietly(|_| {
            self.registry
                .starting_at::<Locked, _>(named.start, |object| {
                    if object.record.read().birth_us() == named.record.birth_us() {
                        change(object);
                    }
                })
        });
    }

    /// Shows each object of the verdict, whether it is still there or not, in the order of allocation. Where
    /// there was no memory to put them in order: those that are still there, by address. The caller has the claim.
    pub(crate) fn each_named(&self, look: &mut dyn FnMut(&Named)) {
        self.each_named_at(&mut |named, _| look(named));
    }

    /// The same, with their numbers in the list, if they have any.
    pub(crate) fn each_named_at(&self, look: &mut dyn FnMut(&Named, Option<usize>)) {
        if self.with_verdict(|verdict, _| verdict.list.left_out) > 0 {
            let mut from = 0;
            while let Some(named) = self.next_listed(from) {
                look(&named, None);
                from = named.start + 1;
            }
            return;
        }
        let mut index = 0;
        let len = self.with_verdict(|verdict, _| verdict.list.len());
        while index < len {
            let named = self.with_verdict(|verdict, _| {
                let list = &verdict.list;
                let end = len.min(index + STEP);
                while index < end && list.has(index, fate::NO_LEAK) {
                    index += 1;
                }
                if index == end { None } else { list.get(index) }
            });
            let Some(named) = named else { continue };
            look(&named, Some(index));
            index += 1;
        }
    }

    /// The place in the graph of what is lost of the leak with this number in the list.
    pub(crate) fn rank_of(&self, index: usize) -> Rank {
        self.with_verdict(|verdict, _| {
            let list = &verdict.list;
            let leader = list.leader(index) as usize;
            if leader == index {
                Rank::Direct {
                    owned_objects: list.owned(index),
                    owned_bytes: list.owned_bytes(index),
                }
            } else {
                Rank::Indirect {
                    leader: list.start(leader),
                }
            }
        })
    }

    /// The first object at `from` or after that the verdict names.
    pub(crate) fn next_listed(&self, from: usize) -> Option<Named> {
        self.next_with(from, flag::LISTED)
    }

    /// The first object at `from` or after that has a flag.
    fn next_with(&self, from: usize, flags: u16) -> Option<Named> {
        let range = self.registry.range();
        let mut start = from.max(range.start);
        while start < range.end {
            // Where there is nothing, far ahead at once: between two objects may be most of the address space.
            let last = chunk_of(range.end - 1);
            let (chunk, _) = self.registry.map.next(chunk_of(start), last + 1)?;
            start = start.max(address_of(chunk));
            // A few chunks at a time, since interrupts are off meanwhile.
            let end = start.saturating_add(PART).min(range.end);
            let mut found: Option<Named> = None;
            self.quietly(|_| {
                self.registry.each_in::<Locked>(start..end, &mut |object| {
                    let first = found.is_none_or(|found| object.start < found.start);
                    if object.record.has(flags) && first {
                        found = Some(Named {
                            start: object.start,
                            record: object.record.read(),
                        });
                    }
                });
            });
            if found.is_some() {
                return found;
            }
            start = end;
        }
        None
    }

    /// Shows each object of the last verdict to `look`, in the order of allocation; those that have been freed
    /// since are left out. Task context, with no lock held; `look` may allocate.
    pub fn for_each_unreferenced(&self, look: &mut dyn FnMut(Unreferenced)) {
        let _claim = self.claim();
        self.each_named_at(&mut |named, index| {
            if self.is_there(named) {
                look(self.unreferenced(named, index));
            }
        });
    }

    fn unreferenced(&self, named: &Named, index: Option<usize>) -> Unreferenced {
        Unreferenced {
            start: named.start,
            size: self.size_of(named),
            birth_us: named.record.birth_us(),
            call_stack: named.record.trace().0,
            rank: index.map(|index| self.rank_of(index)),
        }
    }

    /// Shows each object that suppressions hide from the last verdict, in the order of allocation; those that have
    /// been freed since are left out, and those that there was no memory to list. Task context, with no lock held;
    /// `look` may allocate.
    pub fn for_each_suppressed(&self, look: &mut dyn FnMut(Unreferenced)) {
        let _claim = self.claim();
        self.each_suppressed(&mut |named| {
            if self.is_there(named) {
                look(self.unreferenced(named, None));
            }
        });
    }

    /// Shows each object in the list that suppressions hide, whether it is still there or not. The caller has the claim.
    pub(crate) fn each_suppressed(&self, look: &mut dyn FnMut(&Named)) {
        let mut index = 0;
        loop {
            let next = self.with_verdict(|verdict, _| {
                let named = verdict.list.get(index)?;
                Some((named, verdict.list.has(index, fate::SUPPRESSED)))
            });
            let Some((named, suppressed)) = next else {
                return;
            };
            if suppressed {
                look(&named);
            }
            index += 1;
        }
    }

    /// Shows each object that the last pass found alive through interior pointers only: no chain of pointers leads
    /// there from a root that uses start pointers alone. By address. Task context, with no lock held; `look` may
    /// allocate.
    pub fn for_each_interior(&self, look: &mut dyn FnMut(Block)) {
        let _claim = self.claim();
        let mut from = 0;
        while let Some(named) = self.next_with(from, flag::INTERIOR_ONLY) {
            look(Block {
                start: named.start,
                size: self.size_of(&named),
                birth_us: named.record.birth_us(),
            });
            from = named.start + 1;
        }
    }

    /// Remembers the leaks of the last verdict, and what is alive at each call site, for
    /// [`for_each_new`](Self::for_each_new) and [`for_each_site`](Self::for_each_site). False where there was no
    /// memory for it: then what was remembered is forgotten. Task context, with no lock held.
    pub fn mark(&self) -> bool {
        let _claim = self.claim();
        self.mark_claimed()
    }

    /// The same, for who has the claim.
    pub(crate) fn mark_claimed(&self) -> bool {
        self.unmark_claimed();
        let remembered = self.remember(&self.marked);
        let noted = self.mark_sites();
        if !remembered || !noted {
            self.unmark_claimed();
        }
        remembered && noted
    }

    /// Forgets what [`mark`](Self::mark) remembered. Task context, with no lock held.
    pub fn unmark(&self) {
        let _claim = self.claim();
        self.unmark_claimed();
    }

    fn unmark_claimed(&self) {
        self.quietly(|source| self.marked.lock().clear(source));
        self.unmark_sites();
    }

    /// Remembers the leaks of the verdict. False where there was no memory for all.
    pub(crate) fn remember(&self, remembered: &spin::mutex::SpinMutex<Remembered>) -> bool {
        self.remember_those(remembered, fate::NO_LEAK)
    }

    /// The same, with what suppressions hide: should there be more of these than a ceiling allows, they are no news.
    pub(crate) fn remember_all(&self, remembered: &spin::mutex::SpinMutex<Remembered>) -> bool {
        self.remember_those(remembered, fate::LEFT)
    }

    fn remember_those(
        &self,
        remembered: &spin::mutex::SpinMutex<Remembered>,
        without: u32,
    ) -> bool {
        let (len, short) = self.with_verdict(|verdict, _| {
            let list = &verdict.list;
            (list.len(), list.left_out > 0)
        });
        let mut all = !short;
        for index in 0..len {
            let named = self.with_verdict(|verdict, _| {
                let list = &verdict.list;
                (!list.has(index, without))
                    .then(|| list.get(index))
                    .flatten()
            });
            if let Some(named) = named {
                all = all && self.quietly(|source| remembered.lock().push(&named, source));
            }
        }
        all
    }

    /// Shows each object of the last verdict that the verdict before the last [`mark`](Self::mark) did not have, in
    /// the order of allocation; those that have been freed since are left out. Task context, with no lock held;
    /// `look` may allocate.
    pub fn for_each_new(&self, look: &mut dyn FnMut(Unreferenced)) {
        let _claim = self.claim();
        self.each_new(&self.marked, &mut |named, index| {
            if self.is_there(named) {
                look(self.unreferenced(named, index));
            }
        });
    }

    /// Shows each leak that is not remembered.
    pub(crate) fn each_new(
        &self,
        remembered: &spin::mutex::SpinMutex<Remembered>,
        look: &mut dyn FnMut(&Named, Option<usize>),
    ) {
        let mut cursor = self.quietly(|_| remembered.lock().cursor());
        // Those that are not in order, for want of memory, are looked for from the first on.
        let first = cursor;
        self.each_named_at(&mut |named, index| {
            if index.is_none() {
                cursor = first;
            }
            if !cursor.has(named) {
                look(named, index);
            }
        });
    }

    /// What is tracked now, by a walk over all objects. Any context but a non-maskable interrupt.
    pub fn tracking(&self) -> Tracking {
        let mut tracking = Tracking {
            objects: 0,
            bytes: 0,
        };
        self.each_tracked(&mut |object, _| {
            tracking.objects += 1;
            tracking.bytes += self.registry.size(object.start, object.record);
        });
        tracking
    }

    /// Shows all objects, under the locks of their chunks.
    pub(crate) fn each_tracked(&self, look: &mut dyn FnMut(Object<'_>, &Source<'_>)) {
        let leaves = self.registry.leaves();
        let mut next = leaves.start;
        while let Some((number, leaf)) = self.registry.map.next_leaf(next, leaves.end) {
            next = number + 1;
            for (chunk_number, chunk) in leaf.chunks(number) {
                if !chunk.is_used() {
                    continue;
                }
                self.quietly(|source| {
                    Locked::open(chunk);
                    self.registry
                        .each_of(chunk_number, chunk, u64::MAX, &mut |object| {
                            if !object.record.has(flag::ALIAS) {
                                look(object, source);
                            }
                        });
                    Locked::close(chunk);
                });
            }
        }
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
