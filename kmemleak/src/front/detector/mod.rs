//! The detector: the functions of the tracker and the checker, under the names that a kernel calls.
//!
//! All of `impl Detector` is in this folder; each method only calls the function that does the work. Here: how a detector is made
//! and what it takes for itself. Then what [allocators tell](callbacks), and what a [shell asks](questions).

mod callbacks;
mod questions;

use core::ops::Range;

use crate::checker::Checker;
use crate::checker::handle::Handle;
use crate::metadata::pool::BootstrapPool;
use crate::platform::Platform;
use crate::tracker::{Metadata, Tracker};

/// A leak detector, for a static.
///
/// Its first metadata comes from a [pool](Self::with_pool), then from [`Platform::metadata_alloc`].
///
/// # Callbacks
///
/// The methods that say "Any context" may be called in any context but a non-maskable interrupt, on several CPUs at once, from
/// the first instruction on, with no lock of the allocator held. They never sleep, print, allocate or panic. Errors of callers
/// are counted and told by [`drain_warnings`](Self::drain_warnings), including a number that is not an address, or at which no
/// block can be (null, an error code, what [`Platform::block_addresses`] leaves out).
///
/// An address in a further copy of a per-CPU block means the block, except in `free`.
///
/// An allocator calls `alloc` when a block is out of all free lists and `free` before it returns to one. It does not tell of
/// blocks for its own bookkeeping (Linux calls that NOLEAKTRACE): the detector does not see them, and pointers in them keep
/// nothing alive.
pub struct Detector<P> {
    tracker: Tracker<P>,
    checker: Checker,
}

impl<P: Platform> Detector<P> {
    /// A detector that knows no blocks. It is on.
    pub const fn new(platform: P) -> Self {
        Self {
            tracker: Tracker::new(platform),
            checker: Checker::new(),
        }
    }

    /// Adds memory for what is allocated before the platform can give any.
    pub const fn with_pool<const PAGES: usize>(
        mut self,
        pool: &'static BootstrapPool<PAGES>,
    ) -> Self {
        self.tracker.set_pool(pool);
        self
    }

    /// Adds suppressions, as [`suppress`](Self::suppress) takes them. One that can't be added is left out.
    pub const fn with_suppressions(mut self, patterns: &'static [&'static str]) -> Self {
        self.checker.set_suppressions(patterns);
        self
    }

    /// Whether blocks are recorded. Once the detector is off, it never records again.
    ///
    /// A callback may ask this first, as the cheapest way out; the answer is certain only with interrupts off.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.tracker.is_on()
    }

    /// Sets how old an object must be for the background scan to report it. Any context.
    pub fn set_min_age_us(&self, us: u64) {
        self.tracker.settings().min_age.set(us);
    }

    /// From now on nothing can be recorded, as if there were no memory, or it can again: free metadata counts as used up, and the
    /// platform is not asked. For tests of a kernel in that state. Any context.
    pub fn exhaust_metadata(&self, exhausted: bool) {
        self.tracker.exhaust_metadata(exhausted);
    }

    /// Refuses the detector's own requests for memory, pages or parts of them, that have these numbers, counted from now on: for
    /// tests of each request that may fail. Any context.
    pub fn refuse_metadata(&self, numbers: Range<u64>) {
        self.tracker.refuse_metadata(numbers);
    }

    /// How many requests there were since [`refuse_metadata`](Self::refuse_metadata). Any context.
    pub fn metadata_requests(&self) -> u64 {
        self.tracker.metadata_requests()
    }

    /// How much memory the detector takes for itself. Any context.
    pub fn metadata(&self) -> Metadata {
        self.tracker.metadata()
    }

    /// The kernel as the detector sees it.
    pub fn platform(&self) -> &P {
        self.tracker.platform()
    }

    /// The tracker, for the allocator that is wrapped.
    pub(in crate::front) fn tracker(&self) -> &Tracker<P> {
        &self.tracker
    }

    fn handle(&self) -> Handle<'_, P> {
        Handle::new(&self.tracker, &self.checker)
    }
}
