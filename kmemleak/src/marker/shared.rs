//! What the CPUs that mark together share.

use core::sync::atomic::Ordering;

use super::roots::RootWalk;
use super::sweep::Suspects;
use crate::objects::spill::Spill;

use crate::atomic::{AtomicBool, AtomicU64, AtomicUsize, Lock};

/// Whether task stacks are roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stacks {
    Scan,
    Skip,
    /// They are, but their words are followed [last](super::Marker::run_stacks).
    Last,
}

/// What a pass has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Tracked objects.
    pub(crate) objects: u64,
    pub(crate) words: u64,
    pub(crate) candidates: u64,
    pub(crate) hits: u64,
    /// Blocks, or pieces of them, that were not read since nothing vouches for them; zero if any block was read.
    pub(crate) unread: u64,
    /// Blocks that an allocator was moving when it ended.
    pub(crate) in_flight: u64,
    /// Objects that can't be lost, since they lie in sections that are roots.
    pub(crate) in_sections: u64,
    /// Whether a stack or a region was among the roots, or the stacks were left out as asked.
    pub(crate) stacks: bool,
}

impl Figures {
    /// With what was seen in the stop in which memory was frozen: the roots.
    pub(crate) fn with(self, at_stop: Self) -> Self {
        Self {
            words: self.words + at_stop.words,
            in_flight: at_stop.in_flight,
            stacks: self.stacks || at_stop.stacks,
            ..self
        }
    }

    /// What a pass and a sweep after it have seen, which finds out again what is doubtful.
    pub(crate) fn with_sweep(self, sweep: Self) -> Self {
        Self {
            objects: self.objects,
            words: self.words + sweep.words,
            candidates: self.candidates + sweep.candidates,
            hits: self.hits + sweep.hits,
            in_sections: self.in_sections,
            ..sweep
        }
    }
}

/// The part of a pass that its workers share.
///
/// What one CPU does in a phase the others see in the next: `arrived` is added to with AcqRel, so the last CPU to arrive has seen
/// all; it stores `generation` with Release, which the others load with Acquire. So between two barriers the cursors, and what
/// has been seen, may be Relaxed; where an ordering is stronger, its comment names the load that it pairs with.
pub(crate) struct SharedPass {
    /// All workers store the same value before they begin, and each reads what it stored.
    pub(super) workers: AtomicUsize,
    pub(super) stacks: Stacks,
    /// When the pass began.
    pub(super) start_us: u64,
    /// The next table of entries to take: the exchange gives each table to one worker.
    pub(super) leaf: AtomicUsize,
    pub(super) roots: Lock<RootWalk>,
    /// Workers that have something to do. AcqRel, and Acquire for loads: before a worker subtracts itself, it has taken back what
    /// it had offered, or has seen it taken by a worker that is counted.
    pub(super) active: AtomicUsize,
    pub(super) arrived: AtomicUsize,
    pub(super) generation: AtomicUsize,
    /// Whether a worker was told to stop. It orders nothing: Relaxed.
    pub(super) given_up: AtomicBool,
    /// Whether that was since time was up. Relaxed: the worker that finds out reads it, and others when all have left.
    pub(super) overran: AtomicBool,
    /// Of a sweep: where the suspects lie.
    pub(super) suspects: Suspects,
    /// Objects that were scanned. Only told: Relaxed.
    pub(super) scanned: AtomicU64,
    /// Objects that found no room in a queue.
    pub(super) spill: Spill,
    /// Whether an object is pointed to in its middle. Like the next one: read behind a barrier, which orders it.
    pub(super) interior: AtomicBool,
    /// Whether an object that needs several references was marked late, though its start was pointed to early.
    pub(super) started: AtomicBool,
    /// Whether an object with an excess reference lies in a root. Set in one phase, read in later ones: a barrier orders it.
    pub(super) area_in_root: AtomicBool,
    /// Only counted, like the next.
    pub(super) objects: AtomicU64,
    pub(super) words: AtomicU64,
    pub(super) candidates: AtomicU64,
    pub(super) hits: AtomicU64,
    pub(super) unread: AtomicU64,
    pub(super) in_flight: AtomicU64,
    pub(super) in_sections: AtomicU64,
    /// Whether a root is a stack, or may be one.
    pub(super) stack_seen: AtomicBool,
    /// Words in objects.
    pub(super) object_words: AtomicU64,
}

impl SharedPass {
    pub(crate) const fn new(workers: usize, stacks: Stacks, start_us: u64) -> Self {
        Self {
            workers: AtomicUsize::new(workers),
            stacks,
            start_us,
            leaf: AtomicUsize::new(0),
            roots: Lock::new(RootWalk::NEW),
            active: AtomicUsize::new(0),
            arrived: AtomicUsize::new(0),
            generation: AtomicUsize::new(0),
            given_up: AtomicBool::new(false),
            overran: AtomicBool::new(false),
            suspects: Suspects::new(),
            scanned: AtomicU64::new(0),
            spill: Spill::new(),
            interior: AtomicBool::new(false),
            started: AtomicBool::new(false),
            area_in_root: AtomicBool::new(false),
            objects: AtomicU64::new(0),
            words: AtomicU64::new(0),
            candidates: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            unread: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            in_sections: AtomicU64::new(0),
            stack_seen: AtomicBool::new(false),
            object_words: AtomicU64::new(0),
        }
    }

    /// Sets how many CPUs mark together: all set the same number, before they begin.
    pub(crate) fn set_workers(&self, workers: usize) {
        self.workers.store(workers, Ordering::Release);
    }

    pub(super) fn workers(&self) -> usize {
        self.workers.load(Ordering::Relaxed)
    }

    pub(crate) fn figures(&self) -> Figures {
        Figures {
            objects: self.objects.load(Ordering::Relaxed),
            words: self.words.load(Ordering::Relaxed),
            candidates: self.candidates.load(Ordering::Relaxed),
            hits: self.hits.load(Ordering::Relaxed),
            unread: match self.object_words.load(Ordering::Relaxed) {
                0 => self.unread.load(Ordering::Relaxed),
                _ => 0,
            },
            in_flight: self.in_flight.load(Ordering::Relaxed),
            in_sections: self.in_sections.load(Ordering::Relaxed),
            stacks: self.stacks == Stacks::Skip || self.stack_seen.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Figures;

    /// Objects are looked at by the pass alone; blocks move, and roots are read, in the stop alone.
    #[test]
    fn a_pass_over_frozen_memory_has_seen_what_its_stop_has_seen() {
        let at_stop = Figures {
            words: 700,
            in_flight: 1,
            stacks: true,
            ..Figures::default()
        };
        let pass = Figures {
            objects: 5,
            words: 40,
            candidates: 9,
            hits: 8,
            unread: 2,
            in_sections: 3,
            ..Figures::default()
        };
        let both = Figures {
            words: 740,
            in_flight: 1,
            stacks: true,
            ..pass
        };
        assert_eq!(pass.with(at_stop), both);
    }
}
