//! Where a pass tells how far it has come, asks whether to go on, and is given up.
//!
//! A worker comes to a checkpoint after so much work, never after so much time: in a stopped world nothing interrupts it, and a
//! clock would cost more than the words that are read meanwhile. Each barrier is one, too.
//!
//! # All or none
//!
//! A pass in a stopped world is given up by all its workers, or by none. The worker that is told to stop says so in what all
//! share, and the others see it at their next checkpoint, or while they wait for work or at a barrier. It does so before it
//! comes to a barrier, so no worker has passed that barrier, nor will. Behind the last barrier of what may be given up, all
//! workers [go on to the end](Marker::go_on_to_the_end), and none says it any more.
//!
//! # What is left behind
//!
//! Marks, counts and flags as they were at that moment. The next pass begins by clearing them, in all chunks; and its queues
//! begin empty. Who reads them without a pass before asks whether the last one is `unfinished`. The verdict is not touched before
//! the pass can no longer be given up.

use core::sync::atomic::Ordering;

use super::{GivenUp, Marker, Resolve};
use crate::objects::access::Access;
use crate::platform::{Platform, Progress};

/// Work between two checkpoints of a worker, in words that are read: less than a millisecond on any machine, and so much that a
/// clock and an atomic operation do not count.
const EVERY: u64 = 16 << 10;

/// What it takes to look at an object, or at a piece of a root, in words that are read meanwhile.
pub(super) const LOOK: u64 = 16;

/// What it takes to look at a table of the index with its chunks.
pub(super) const LEAF: u64 = 512;

/// Work after which other code is let run, where it runs beside the pass, in words that are read: some ten thousand instructions.
const TURN: u64 = 2 << 10;

/// Words that a worker reads in a microsecond, where no clock says it. A tenth of what a sweep reads on a machine of today: better a
/// stop that is too short.
const WORDS_A_US: u64 = 50;

/// How far a worker has come, since its figures were noted last.
pub(super) struct Work {
    /// Looks at objects and chunks, in words.
    looks: u64,
    /// The work at which the next checkpoint is.
    next: u64,
    /// The work at which other code is let run next.
    next_turn: u64,
    /// Objects that were scanned and have not been told yet.
    scanned: u64,
    /// When the pass has to be over, if that was said.
    deadline: Option<Deadline>,
}

/// When a worker gives up a pass that stops the world.
struct Deadline {
    start_us: u64,
    max_us: u64,
    /// What it has done since the start, in words.
    done: u64,
}

impl Deadline {
    /// Whether it is over. A clock may stand still while the world is stopped, if an interrupt moves it: then time is measured in
    /// work.
    fn is_over(&self, now_us: u64) -> bool {
        match now_us.saturating_sub(self.start_us) {
            0 => self.done / WORDS_A_US > self.max_us,
            us => us > self.max_us,
        }
    }
}

impl Work {
    pub(super) const fn new() -> Self {
        Self {
            looks: 0,
            next: EVERY,
            next_turn: TURN,
            scanned: 0,
            deadline: None,
        }
    }

    /// Counts from zero again.
    pub(super) fn restart(&mut self) {
        (self.looks, self.next, self.next_turn) = (0, EVERY, TURN);
    }

    /// Counts objects that were looked at.
    #[inline(always)]
    pub(super) fn count_scanned(&mut self, objects: usize) {
        self.scanned += objects as u64;
        self.looks += objects as u64 * LOOK;
    }
}

impl<P: Platform, A: Access> Marker<'_, P, A> {
    /// Counts work, and comes to a checkpoint if it has been enough.
    #[inline(always)]
    pub(super) fn worked(&mut self, words: u64) -> Result<(), GivenUp> {
        self.work.looks += words;
        match self.words + self.work.looks < self.work.next {
            true => Ok(()),
            false => self.checkpoint(),
        }
    }

    /// Counts work, and lets other code run if it has been enough, where that runs beside the pass.
    #[inline(always)]
    pub(super) fn pause_after(&mut self, words: u64) -> Result<(), GivenUp> {
        self.worked(words)?;
        match A::STOPPED || self.words + self.work.looks < self.work.next_turn {
            true => Ok(()),
            false => self.let_others_run(),
        }
    }

    /// Does the same after a look at something.
    #[inline(always)]
    pub(crate) fn pause(&mut self) -> Result<(), GivenUp> {
        self.pause_after(LOOK)
    }

    /// Lets other code run.
    #[cold]
    #[inline(never)]
    pub(super) fn let_others_run(&mut self) -> Result<(), GivenUp> {
        self.work.next_turn = self.words + self.work.looks + TURN;
        let tools = self.tools;
        let asked = tools.platform.relax().is_break() || tools.stopping.load(Ordering::Acquire);
        match asked && self.resolve == Resolve::MayGiveUp {
            true => Err(GivenUp),
            false => Ok(()),
        }
    }

    /// Tells how far the pass has come, and asks whether to go on.
    #[cold]
    #[inline(never)]
    pub(super) fn checkpoint(&mut self) -> Result<(), GivenUp> {
        let done = self.words + self.work.looks;
        let since = done + EVERY - self.work.next;
        self.work.next = done + EVERY;
        let (shared, tools) = (self.shared, self.tools);
        let scanned = core::mem::take(&mut self.work.scanned);
        let before = shared.scanned.fetch_add(scanned, Ordering::Relaxed);
        // Known to all once all have cleared their marks.
        let counted = shared.generation.load(Ordering::Relaxed) > 0;
        let asked = tools.platform.checkpoint(Progress {
            objects: before + scanned,
            of: counted.then(|| shared.objects.load(Ordering::Relaxed)),
        });
        if self.resolve == Resolve::GoesOn {
            return Ok(());
        }
        if asked.is_break() || tools.stopping.load(Ordering::Acquire) {
            shared.given_up.store(true, Ordering::Relaxed);
        }
        if let Some(deadline) = &mut self.work.deadline {
            deadline.done += since;
            if deadline.is_over(tools.platform.now_us()) {
                shared.overran.store(true, Ordering::Relaxed);
                shared.given_up.store(true, Ordering::Relaxed);
            }
        }
        self.go_on()
    }

    /// From now on all workers give up once so much time is over, at their next checkpoints. To be said before the first one.
    pub(crate) fn give_up_after(&mut self, max_us: u64) {
        self.work.deadline = Some(Deadline {
            start_us: self.tools.platform.now_us(),
            max_us,
            done: 0,
        });
    }

    /// Whether the pass was given up since its time was over.
    pub(crate) fn has_overrun(&self) -> bool {
        self.shared.overran.load(Ordering::Relaxed)
    }

    /// Whether no worker has given up. For loops that wait for others.
    pub(super) fn go_on(&self) -> Result<(), GivenUp> {
        match self.shared.given_up.load(Ordering::Relaxed) {
            true => Err(GivenUp),
            false => Ok(()),
        }
    }

    /// From now on the pass is not given up, even if it is asked to stop: half of what follows would be worse than none.
    pub(crate) fn go_on_to_the_end(&mut self) {
        self.resolve = Resolve::GoesOn;
    }
}

#[cfg(test)]
mod tests;
