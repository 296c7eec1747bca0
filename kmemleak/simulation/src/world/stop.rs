//! A stop of the world, as far as it has come.

use crate::StoppedCpu;

/// How requests to stop the world end in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopKind {
    /// It stops.
    Works,
    /// There is no way to stop it.
    Unsupported,
    /// Of so many requests one is given up, since a CPU does not come.
    Fails(usize),
}

pub(super) type Work = dyn Fn(StoppedCpu) + Sync;

/// How far a stop has come.
#[derive(Clone, Copy)]
pub(super) enum Phase {
    Gathering,
    /// All are here, and run this.
    Working(*const Work),
    Over,
}

/// A stop that goes on.
pub(super) struct Stop {
    pub(super) phase: Phase,
    /// CPUs whose work is done.
    pub(super) done: u32,
    pub(super) number: u64,
}

impl std::fmt::Debug for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stop").finish_non_exhaustive()
    }
}

// SAFETY: the work outlives the stop, and all tasks of a run are on one thread.
unsafe impl Send for Stop {}
