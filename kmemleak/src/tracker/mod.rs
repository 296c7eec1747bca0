//! The tracker: all that the callbacks touch, by which allocators tell of their blocks.
//!
//! It records what is allocated, with the call stack and the task that asked, and forgets what is freed. It does not read blocks,
//! and does not know of checks: it is only told that a pass runs ([`Tracker::begin_pass`]), since what is allocated meanwhile is
//! marked from the start.
//!
//! Its fields are private to this folder. Layers above work with what it lends them: the registry, the depot, the names of tasks,
//! and metadata while there is any ([`mode`]).
//!
//! The tracker makes no verdict, takes no claim and writes no text.

pub(crate) mod call_stack;
mod callbacks;
mod clock;
mod disabled;
mod evict;
mod frozen;
mod last_table;
mod long;
mod mode;
mod mode_word;
mod moving;
mod names_in_use;
mod parts;
mod percpu;
pub(crate) mod poisson;
mod record;
mod regions;
pub(crate) mod sampling;
mod short;
mod usage;
mod walk;
pub(crate) mod warnings;

use core::ops::Range;
use core::sync::atomic::Ordering;

use self::clock::Clock;
use self::last_table::LastTables;
pub(crate) use self::mode::Mode;
use self::mode_word::{ModeWord, Unusual};
pub(crate) use self::moving::Moving;
use self::sampling::Sampling;
pub use self::usage::Metadata;
pub use self::walk::Tracking;
use self::warnings::Warnings;
use crate::atomic::{AtomicU64, AtomicUsize, Lock};
use crate::metadata::Memory;
use crate::metadata::keyed_list::KeyedList;
use crate::metadata::pool::BootstrapPool;
use crate::objects::frozen::Frozen;
use crate::objects::hazard::Hazard;
use crate::objects::moves::Moves;
use crate::objects::registry::Registry;
use crate::objects::root_ranges::RootRanges;
use crate::objects::vouching::Strangers;
use crate::platform::Platform;
use crate::settings::Settings;
use crate::stacks::depot::{Depot, StackId};
use crate::stacks::task_names::TaskNames;

/// What an allocator says of a block besides its address and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocOptions {
    min_count: i32,
}

impl AllocOptions {
    /// A block of which one reference must be found.
    pub const fn new() -> Self {
        Self { min_count: 1 }
    }

    /// A block of which `min_count` references must be found: 2 for one that the allocator's own scanned
    /// bookkeeping points to as well; 0 for one that is no leak whatever is found (gray); -1 for one that
    /// is neither scanned nor reported (black). Up to 255 can be counted. Any other number is refused with a warning, and the
    /// block is recorded as one that needs one reference.
    pub const fn min_count(self, min_count: i32) -> Self {
        Self { min_count }
    }
}

impl Default for AllocOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Nothing is remembered of the block at an address: neither the call stack that allocated it nor the one that freed it.
const NO_STACKS: (StackId, StackId) = (StackId::NONE, StackId::NONE);

/// What is tracked, and where it was allocated.
pub(crate) struct Tracker<P> {
    platform: P,
    word: ModeWord,
    settings: Settings,
    clock: Clock,
    registry: Registry,
    last_tables: LastTables,
    depot: Depot,
    sampling: Sampling,
    task_names: TaskNames,
    memory: Memory,
    root_ranges: RootRanges,
    strangers: Strangers,
    /// Tasks whose allocations are no leaks.
    disabled: KeyedList,
    hazard: Hazard,
    moves: Moves,
    frozen: Frozen,
    warnings: Lock<Warnings>,
    /// What found no room in metadata, since the last `clear`. Only counted, like the next one and `missed_frees`.
    unrecorded: AtomicU64,
    /// What found no room, ever.
    unrecorded_total: AtomicU64,
    /// Blocks that a new block was found to overlap, so their free was missed.
    missed_frees: AtomicU64,
    /// Users of metadata that may outlive a claim ([`Borrow`]). They count down with Release; the task that frees all memory
    /// loads it with Acquire.
    borrowed: AtomicUsize,
}

impl<P: Platform> Tracker<P> {
    /// A tracker that knows no blocks. It is on.
    pub(crate) const fn new(platform: P) -> Self {
        Self {
            platform,
            word: ModeWord::new(),
            settings: Settings::new(),
            clock: Clock::new(),
            registry: Registry::new(),
            last_tables: LastTables::new(),
            depot: Depot::new(),
            sampling: Sampling::new(),
            task_names: TaskNames::new(),
            memory: Memory::new(),
            root_ranges: RootRanges::new(),
            strangers: Strangers::new(),
            disabled: KeyedList::new(),
            hazard: Hazard::new(),
            moves: Moves::new(),
            frozen: Frozen::new(),
            warnings: Lock::new(Warnings::new()),
            unrecorded: AtomicU64::new(0),
            unrecorded_total: AtomicU64::new(0),
            missed_frees: AtomicU64::new(0),
            borrowed: AtomicUsize::new(0),
        }
    }

    /// Takes its first metadata from `pool`.
    pub(crate) const fn set_pool<const PAGES: usize>(
        &mut self,
        pool: &'static BootstrapPool<PAGES>,
    ) {
        self.memory.set_pool(pool.erased());
    }

    /// The kernel.
    pub(crate) fn platform(&self) -> &P {
        &self.platform
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether text has colours now.
    pub(crate) fn has_colours(&self) -> bool {
        self.settings().has_colours()
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn depot(&self) -> &Depot {
        &self.depot
    }

    pub(crate) fn task_names(&self) -> &TaskNames {
        &self.task_names
    }

    pub(crate) fn root_ranges(&self) -> &RootRanges {
        &self.root_ranges
    }

    pub(crate) fn strangers(&self) -> &Strangers {
        &self.strangers
    }

    pub(crate) fn hazard(&self) -> &Hazard {
        &self.hazard
    }

    /// The blocks that allocators are moving.
    pub(crate) fn moves(&self) -> &Moves {
        &self.moves
    }

    /// The pass over frozen memory.
    pub(crate) fn frozen(&self) -> &Frozen {
        &self.frozen
    }

    /// Where its own memory lies, which is in no root: itself, and its pool.
    pub(crate) fn own(&self) -> [Range<usize>; 2] {
        let start = core::ptr::from_ref(self).addr();
        [start..start + size_of_val(self), self.memory.pool_range()]
    }

    /// Begins a pass: from here on what is allocated is marked, and it is noted where roots come and go. The start of the pass has been
    /// noted.
    pub(crate) fn begin_pass(&self) {
        self.without_interrupts(|_| self.root_ranges.forget_changes());
        self.word.begin(Unusual::PASS);
    }

    /// Ends the pass.
    pub(crate) fn end_pass(&self) {
        self.word.end(Unusual::PASS);
    }

    /// Registers one more user of metadata, for longer than a callback and without the claim.
    pub(crate) fn borrow(&self) -> Borrow<'_, P> {
        self.borrowed.fetch_add(1, Ordering::Relaxed);
        Borrow(self)
    }

    /// Whether metadata has any registered user.
    pub(crate) fn is_borrowed(&self) -> bool {
        self.borrowed.load(Ordering::Acquire) > 0
    }

    /// Forgets everything, and gives all metadata back to the platform.
    ///
    /// # Safety
    ///
    /// The mode is [`Mode::Gone`], and no code runs that saw another one: the world was stopped since.
    pub(crate) unsafe fn empty(&self) {
        self.last_tables.empty();
        self.registry.empty();
        self.task_names.empty();
        self.root_ranges.empty();
        self.disabled.empty();
        self.frozen.empty();
        *self.warnings.lock() = Warnings::new();
        // SAFETY: it is not used any more.
        unsafe { self.depot.empty() };
        // SAFETY: it is not used any more; everything that named metadata has just been emptied.
        unsafe { self.meta_for_marker(0).empty() };
    }
}

/// As long as this lives, metadata stays. Its holder gives back its own metadata before it drops this.
pub(crate) struct Borrow<'t, P>(&'t Tracker<P>);

impl<'t, P> Borrow<'t, P> {
    pub(crate) fn tracker(&self) -> &'t Tracker<P> {
        self.0
    }
}

impl<P> Drop for Borrow<'_, P> {
    fn drop(&mut self) {
        self.0.borrowed.fetch_sub(1, Ordering::Release);
    }
}
