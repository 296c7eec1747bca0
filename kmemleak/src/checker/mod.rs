//! Checks: which task may check, how a pass is made, and how questions about the memory that was found are answered.
//!
//! The [`Checker`] is a lock. Its holder, the [claim], owns the findings: the verdict, the suppressions, the baseline, the call
//! sites, and the words and objects of the last answers. All that makes or uses them is a method of the claim's guard, so no task
//! ever waits for a part of them.
//!
//! This folder writes no text.

pub(crate) mod claim;
mod concurrent;
mod confirm;
pub(crate) mod counts;
pub(crate) mod cycle;
mod findings;
mod frozen;
mod ground;
pub(crate) mod handle;
pub(crate) mod live;
pub(crate) mod numbers;
mod pass;
pub(crate) mod references;
mod show;
pub(crate) mod snapshot;
pub(crate) mod stack_only;
mod stopped;
pub(crate) mod tallies;
pub(crate) mod tasks;

use core::cell::RefCell;
use core::sync::atomic::Ordering;

use self::claim::{Claim, Holder, Nested};
use self::counts::Counts;
use self::cycle::CycleSearch;
use self::ground::Ground;
use self::handle::Handle;
use self::live::LiveObjects;
use self::stack_only::StackWords;
use self::tallies::Tallies;
use self::tasks::LostTasks;
use crate::atomic::{AtomicBool, Lock};
use crate::marker::queue::WorkQueues;
use crate::platform::Platform;
use crate::tracker::Mode;
use crate::verdict::Verdict;
use crate::verdict::baseline::Baseline;
use crate::verdict::call_sites::CallSites;
use crate::verdict::handles::Handles;
use crate::verdict::suppress::Suppressions;
use crate::verdict::type_sums::TypeSums;

use self::references::References;
use self::snapshot::SnapshotRows;

/// What checks leave behind.
struct Findings {
    verdict: Verdict,
    suppressions: Suppressions,
    /// The leaks at the last mark; `None` if there was no mark.
    baseline: Option<Baseline>,
    call_sites: CallSites,
    references: References,
    live: LiveObjects,
    tallies: Tallies,
    types: TypeSums,
    counts: Counts,
    /// Searched while other findings are shown.
    cycle: RefCell<CycleSearch>,
    stack_only: StackWords,
    tasks: LostTasks,
    /// The numbers of what was listed: given out while other findings are shown.
    handles: RefCell<Handles>,
    snapshot: SnapshotRows,
}

impl Findings {
    const fn new() -> Self {
        Self {
            verdict: Verdict::new(),
            suppressions: Suppressions::new(),
            baseline: None,
            call_sites: CallSites::new(),
            references: References::new(),
            live: LiveObjects::new(),
            tallies: Tallies::new(),
            types: TypeSums::new(),
            counts: Counts::new(),
            cycle: RefCell::new(CycleSearch::new()),
            stack_only: StackWords::new(),
            tasks: LostTasks::new(),
            handles: RefCell::new(Handles::new()),
            snapshot: SnapshotRows::new(),
        }
    }

    /// Forgets everything; its owner gives the memory back.
    fn empty(&mut self) {
        self.verdict.empty();
        self.suppressions.empty();
        self.baseline = None;
        self.call_sites.empty();
        self.references.empty();
        self.live.empty();
        self.tallies.empty();
        self.types.empty();
        self.counts.empty();
        self.cycle.get_mut().empty();
        self.stack_only.empty();
        self.tasks.empty();
        self.handles.get_mut().empty();
        self.snapshot.empty();
    }
}

/// The claim, and what it guards.
pub(crate) struct Checker {
    holder: Holder,
    /// Locked as long as a task has the claim.
    findings: Lock<Findings>,
    queues: WorkQueues,
    ground: Ground,
    /// Whether the running check is asked to stop. Release and Acquire pair, though they order nothing else: it is one word.
    stopping: AtomicBool,
    /// Whether the last pass was given up while it marked.
    unfinished: AtomicBool,
    /// Suppressions from the kernel's source; `None` is zero bits.
    suppressions: Option<&'static [&'static str]>,
}

impl Checker {
    /// A checker before its first check.
    pub(crate) const fn new() -> Self {
        Self {
            holder: Holder::new(),
            findings: Lock::new(Findings::new()),
            queues: WorkQueues::new(),
            ground: Ground::new(),
            stopping: AtomicBool::new(false),
            unfinished: AtomicBool::new(false),
            suppressions: None,
        }
    }

    /// Takes its first suppressions from a list in the kernel's source.
    pub(crate) const fn set_suppressions(&mut self, patterns: &'static [&'static str]) {
        self.suppressions = Some(patterns);
    }
}

impl<P: Platform> Handle<'_, P> {
    /// Turns the detector off: it records nothing from now on, and can't be turned on again. A running check is given up.
    pub(crate) fn turn_off(self) -> Result<(), Nested> {
        let Self { tracker, checker } = self;
        checker.stopping.store(true, Ordering::Release);
        let claim = self.claim();
        if claim.is_ok() && tracker.is_on() {
            tracker.set_mode(Mode::Off);
        }
        checker.stopping.store(false, Ordering::Release);
        claim.map(|_| ())
    }
}

impl<P: Platform> Claim<'_, P> {
    /// Gives all metadata back to the platform. Task context, once the detector is off. Returns why it stays, if so: a scope is
    /// open, or it is not certain that all callbacks have returned.
    pub(crate) fn free_metadata(&mut self) -> Result<(), Retained> {
        let tracker = self.tracker();
        if tracker.is_borrowed() {
            return Err(Retained::Borrowed);
        }
        // Once the world has stopped, only the holder of the claim uses metadata.
        tracker.set_mode(Mode::Gone);
        if tracker.platform().stop_world(&|_| {}).is_err() {
            tracker.set_mode(Mode::Off);
            return Err(Retained::InUse);
        }
        self.findings.empty();
        self.handle().checker.queues.empty();
        // SAFETY: the mode was set before the world was stopped.
        unsafe { tracker.empty() };
        Ok(())
    }
}

/// Why metadata is not given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retained {
    /// A scope or its report uses the metadata.
    Borrowed,
    /// A callback may use the metadata, since the world can't be stopped.
    InUse,
}
