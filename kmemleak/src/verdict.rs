//! The verdict: which objects nothing points to.

use crate::detector::Detector;
use crate::list::{List, Named};
use crate::marker::{Figures, GivenUp, Marker};
use crate::memory::Source;
use crate::platform::{Platform, StopError};
use crate::record::{Record, flag};
use crate::registry::{Access, Locked, Object};

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
    /// How it was come by.
    pub how: How,
    /// Blocks for which there was no record: what they own may be among the objects.
    pub unrecorded: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// Words that were read.
    pub words: u64,
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

/// Objects that were told of and are referenced again, until they are told of once more.
const REVIVED: usize = 32;

/// The last verdict. Changed by who checks.
pub(crate) struct Verdict {
    pub(crate) list: List,
    pub(crate) summary: Option<Summary>,
    /// When it was come by.
    pub(crate) at_us: u64,
    pub(crate) figures: Figures,
    /// Starts (inverted) and sizes.
    revived: [(usize, usize); REVIVED],
    revived_len: usize,
    /// More of them than there was room for.
    pub(crate) revived_lost: usize,
}

/// Which unmarked objects are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Allocated before.
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
        record.birth_us() < self.before_us && (self.flags == 0 || record.has(self.flags))
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
                words: 0,
                candidates: 0,
                hits: 0,
            },
            revived: [(0, 0); REVIVED],
            revived_len: 0,
            revived_lost: 0,
        }
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
    /// Names the unmarked objects. The verdict is locked.
    pub(crate) fn name_white(&mut self, filter: Filter, verdict: &spin::mutex::SpinMutex<Verdict>) {
        let source = self.source();
        let registry = self.registry();
        // In a stopped world nobody asks it to stop, beside others it goes on to the end.
        let _ = self.each_chunk(&mut |_, number, chunk| {
            let unmarked = chunk.starts().load(core::sync::atomic::Ordering::Relaxed)
                & !chunk.marks().load(core::sync::atomic::Ordering::Relaxed);
            if unmarked == 0 && !chunk.has(crate::chunk::info::ODD) {
                return;
            }
            registry.each_of(number, chunk, unmarked, &mut |object| {
                let record = object.record.read();
                if is_white(object, &record) && filter.lets(&record) {
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
        self.with_verdict(|verdict, _| {
            verdict.list.clear();
            verdict.summary = None;
        });
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
        self.with_verdict(|verdict, _| {
            verdict.list.clear();
            verdict.summary = None;
        });
    }

    /// Completes the verdict when its objects are named.
    pub(crate) fn complete_verdict(
        &self,
        how: How,
        start_us: u64,
        figures: Figures,
        cpus: u32,
    ) -> Summary {
        let at_us = self.platform.now_us();
        let mut summary = Summary {
            objects: 0,
            bytes: 0,
            new_objects: 0,
            new_bytes: 0,
            how,
            unrecorded: self.unrecorded.load(core::sync::atomic::Ordering::Relaxed),
            took_us: at_us.saturating_sub(start_us),
            words: figures.words,
            cpus,
        };
        self.each_named(&mut |named| {
            let size = self.size_of(named);
            summary.objects += 1;
            summary.bytes += size;
            if !named.record.has(flag::REPORTED) {
                summary.new_objects += 1;
                summary.new_bytes += size;
            }
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
        self.each_named(&mut |named| {
            self.quietly(|_| {
                self.registry
                    .starting_at::<Locked, _>(named.start, |object| {
                        if object.record.read().birth_us() == named.record.birth_us() {
                            change(object);
                        }
                    })
            });
        });
    }

    /// Shows each object of the verdict, whether it is still there or not, in the order of allocation. Where
    /// there was no memory to put them in order: those that are still there, by address. The caller has the claim.
    pub(crate) fn each_named(&self, look: &mut dyn FnMut(&Named)) {
        if self.with_verdict(|verdict, _| verdict.list.left_out) > 0 {
            let mut from = 0;
            while let Some(named) = self.next_listed(from) {
                look(&named);
                from = named.start + 1;
            }
            return;
        }
        let mut index = 0;
        while let Some(named) = self.with_verdict(|verdict, _| verdict.list.get(index)) {
            look(&named);
            index += 1;
        }
    }

    /// The first object at `from` or after that the verdict names.
    fn next_listed(&self, from: usize) -> Option<Named> {
        let range = self.registry.range();
        let mut start = from.max(range.start);
        while start < range.end {
            // A few chunks at a time, since interrupts are off meanwhile.
            let end = start.saturating_add(PART).min(range.end);
            let mut found: Option<Named> = None;
            self.quietly(|_| {
                self.registry.each_in::<Locked>(start..end, &mut |object| {
                    let first = found.is_none_or(|found| object.start < found.start);
                    if object.record.has(flag::LISTED) && first {
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
        self.each_named(&mut |named| {
            if self.is_there(named) {
                look(Unreferenced {
                    start: named.start,
                    size: self.size_of(named),
                    birth_us: named.record.birth_us(),
                });
            }
        });
    }

    /// What is tracked now, by a walk over all objects. Any context but a non-maskable interrupt.
    pub fn tracking(&self) -> Tracking {
        let mut tracking = Tracking {
            objects: 0,
            bytes: 0,
        };
        let leaves = self.registry.leaves();
        let mut next = leaves.start;
        while let Some((number, leaf)) = self.registry.map.next_leaf(next, leaves.end) {
            next = number + 1;
            for (chunk_number, chunk) in leaf.chunks(number) {
                if !chunk.is_used() {
                    continue;
                }
                self.quietly(|_| {
                    Locked::open(chunk);
                    self.registry
                        .each_of(chunk_number, chunk, u64::MAX, &mut |object| {
                            if !object.record.has(flag::ALIAS) {
                                tracking.objects += 1;
                                tracking.bytes += self.registry.size(object.start, object.record);
                            }
                        });
                    Locked::close(chunk);
                });
            }
        }
        tracking
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
