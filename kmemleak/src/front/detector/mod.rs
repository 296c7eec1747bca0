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
/// Its metadata comes from a [pool](Self::with_pool) first, then from [`Platform::metadata_alloc`], and where that gives none, from
/// what was [added](Self::add_metadata).
///
/// A [new](Self::new) one is all zeros (if the platform is), so that its static lies in `.bss`.
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

    /// Adds memory for metadata that is used first. It is for blocks that are allocated before the kernel can call
    /// [`add_metadata`](Self::add_metadata) and before the platform can give pages.
    ///
    /// A detector with a pool, or with suppressions from the source, is not all zeros. So its static lies in `.data`, and the
    /// kernel's image is larger by its size, about 200 KiB. `add_metadata` and [`suppress`](Self::suppress) do not make the
    /// image larger.
    pub const fn with_pool<const PAGES: usize>(
        mut self,
        pool: &'static BootstrapPool<PAGES>,
    ) -> Self {
        self.tracker.set_pool(pool);
        self
    }

    /// Gives the detector memory for its metadata; it is never given back. The detector uses the whole pages (4096 bytes,
    /// aligned) in `memory`, which itself needs no alignment, and returns how many bytes they have: 0 if there is no whole page,
    /// or if the detector is off. May be called any number of times. Any context.
    ///
    /// This memory is used when [`Platform::metadata_alloc`] returns `None`: it is all the metadata of a kernel that does not
    /// implement that method, and a reserve of one that does. It is left out of all roots, and [`Platform::metadata_free`] never
    /// gets it. It may be a tracked block of the heap (from `Box::leak`), which is declared to be no leak then.
    /// [`Load`](crate::Load) says how much is needed, and a [`BootstrapPool`] is memory that can be
    /// [given](BootstrapPool::take).
    ///
    /// ```
    /// # use kmemleak::{BootstrapPool, Detector, IrqState, Platform, Root, RootCursor};
    /// # struct Kernel;
    /// # // SAFETY: there are no roots, interrupts or blocks.
    /// # unsafe impl Platform for Kernel {
    /// #     fn now_us(&self) -> u64 { 0 }
    /// #     fn irq_save(&self) -> IrqState { IrqState(0) }
    /// #     fn irq_restore(&self, _: IrqState) {}
    /// #     fn next_root(&self, _: &mut RootCursor) -> Option<Root> { None }
    /// # }
    /// static POOL: BootstrapPool<16> = BootstrapPool::new();
    /// static KMEMLEAK: Detector<Kernel> = Detector::new(Kernel);
    ///
    /// // Before the first allocation:
    /// assert_eq!(KMEMLEAK.add_metadata(POOL.take()), 16 * 4096);
    /// ```
    pub fn add_metadata(&self, memory: &'static mut [u8]) -> usize {
        self.tracker.add_metadata(memory)
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

    /// Sets for how long the background scan may stop the world to confirm its suspects; zero for not at all. A stop that takes longer is
    /// abandoned. At first it is 100 000, a tenth of a second. Any context.
    pub fn set_stop_max_us(&self, us: u64) {
        self.tracker.settings().stop_max.set(us);
    }

    /// For how long the background scan may stop the world. Any context.
    pub fn stop_max_us(&self) -> u64 {
        self.tracker.settings().stop_max.get()
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
