//! The detector, and the callbacks by which allocators tell it of their blocks.

use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use spin::mutex::SpinMutex;

use crate::depot::Frames;
use crate::pages::{Bootstrap, Source};
use crate::platform::Platform;
use crate::scan::Reader;
use crate::state::{Block, Caller, Copies, State};

/// What an allocator says of a block beside its place.
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
    /// is neither scanned nor reported (black).
    pub const fn min_count(self, min_count: i32) -> Self {
        Self { min_count }
    }
}

impl Default for AllocOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// A leak detector, for a static.
///
/// `BOOTSTRAP` is the size in bytes of its bootstrap pool, memory for what is allocated before the
/// platform can give any: 64 bytes a block, and as many for each call stack. Whole pages of 4096 are used.
///
/// # Callbacks
///
/// [`alloc`](Self::alloc), [`free`](Self::free), their per-CPU forms, [`not_leak`](Self::not_leak),
/// [`ignore`](Self::ignore), [`no_scan`](Self::no_scan), [`scan_area`](Self::scan_area) and
/// [`erase`](Self::erase) may be called in any context but a non-maskable interrupt, on several CPUs at once,
/// from the first instruction on, with no lock of the allocator held. They never sleep, print, allocate
/// or panic. What is wrong with a call is counted and told by [`drain_warnings`](Self::drain_warnings).
///
/// An allocator calls `alloc` when a block is out of all free lists and `free` before it returns to one. What
/// an allocator does for its own bookkeeping it doesn't tell (Linux calls that NOLEAKTRACE): it is then
/// unseen, and pointers in it keep nothing alive.
pub struct Detector<P, const BOOTSTRAP: usize> {
    pub(crate) platform: P,
    /// Final once set.
    off: AtomicBool,
    pub(crate) settings: Settings,
    /// Somebody checks, reports or clears.
    busy: AtomicBool,
    /// Who checks is to give up.
    pub(crate) stopping: AtomicBool,
    state: SpinMutex<State>,
    bootstrap: Bootstrap<BOOTSTRAP>,
}

/// What can be set at run time.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) skip_stacks: AtomicBool,
    pub(crate) background_off: AtomicBool,
    pub(crate) verbose: AtomicBool,
    pub(crate) scan_every_us: AtomicU64,
    pub(crate) next_scan_us: AtomicU64,
}

/// When the background task scans first.
pub(crate) const FIRST_SCAN_US: u64 = 60_000_000;
/// And how long it waits then.
pub(crate) const SCAN_EVERY_US: u64 = 600_000_000;

// SAFETY: the state is under a lock; the bootstrap pool is only written to by who holds it.
unsafe impl<P: Platform, const BOOTSTRAP: usize> Sync for Detector<P, BOOTSTRAP> {}

impl<P: Platform, const BOOTSTRAP: usize> Detector<P, BOOTSTRAP> {
    /// A detector that knows no blocks. It is on.
    pub const fn new(platform: P) -> Self {
        Self {
            platform,
            off: AtomicBool::new(false),
            settings: Settings {
                skip_stacks: AtomicBool::new(false),
                background_off: AtomicBool::new(false),
                verbose: AtomicBool::new(false),
                scan_every_us: AtomicU64::new(SCAN_EVERY_US),
                next_scan_us: AtomicU64::new(FIRST_SCAN_US),
            },
            busy: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            state: SpinMutex::new(State::new()),
            bootstrap: Bootstrap::new(),
        }
    }

    /// A block was handed out: `size` bytes at `start`.
    ///
    /// Where it overlaps blocks that are known, those were freed without a word: they are forgotten, and
    /// counted.
    #[inline]
    pub fn alloc(&self, start: usize, size: usize, options: AllocOptions) {
        if self.is_on() {
            self.record(Block {
                start,
                size,
                min_count: options.min_count,
                copies: Copies::One,
            });
        }
    }

    /// The block at `start` is given back. Its address must be the one it was handed out with.
    #[inline]
    pub fn free(&self, start: usize) {
        if self.is_on() {
            self.forget(start);
        }
    }

    /// A per-CPU block was handed out: `size` bytes for each CPU, where [`Platform::percpu_copy`] says. A
    /// pointer to any copy, or the handle, keeps it alive; all copies are scanned; its size counts once.
    #[inline]
    pub fn alloc_percpu(&self, handle: usize, size: usize) {
        if self.is_on() {
            self.record(Block {
                start: handle,
                size,
                min_count: 1,
                copies: Copies::PerCpu,
            });
        }
    }

    /// The per-CPU block with this handle is given back.
    #[inline]
    pub fn free_percpu(&self, handle: usize) {
        if self.is_on() {
            self.forget(handle);
        }
    }

    /// The block at `start` is no leak, whatever is found: it becomes gray, and is scanned.
    pub fn not_leak(&self, start: usize) {
        self.with_caller(|state, frames, source| state.set_min_count(start, 0, frames, source));
    }

    /// The block at `start` is neither scanned nor reported: it becomes black.
    pub fn ignore(&self, start: usize) {
        self.with_caller(|state, frames, source| state.set_min_count(start, -1, frames, source));
    }

    /// The block at `start` is reported when it is lost, but holds no pointers: it is not scanned.
    pub fn no_scan(&self, start: usize) {
        self.with_caller(|state, frames, source| state.set_no_scan(start, frames, source));
    }

    /// Of the block in which `start` lies, only these `len` bytes, and such as were named before, are
    /// scanned. An area that goes past the block's end is refused.
    pub fn scan_area(&self, start: usize, len: usize) {
        self.with_caller(|state, frames, source| state.add_area(start, len, frames, source));
    }

    /// Clears a variable that holds a pointer which is to keep nothing alive, such as a slot of an
    /// allocator's cache that was emptied.
    ///
    /// # Safety
    ///
    /// The variable can be written to, and nobody else does.
    pub unsafe fn erase(&self, variable: *mut usize) {
        // SAFETY: the caller's promise.
        unsafe { variable.write_volatile(0) };
    }

    /// Whether blocks are recorded. `off` is final.
    #[inline]
    pub fn is_on(&self) -> bool {
        !self.off.load(Ordering::Relaxed)
    }

    fn record(&self, block: Block) {
        let context = self.platform.context();
        let caller = Caller {
            context,
            now_us: self.platform.now_us(),
            frames: self.frames(),
        };
        self.with_state(|state, source| state.add(block, &caller, source));
    }

    fn forget(&self, start: usize) {
        self.with_caller(|state, frames, source| state.remove(start, frames, source));
    }

    /// The callers' return addresses.
    fn frames(&self) -> Frames {
        let mut frames = Frames::NONE;
        frames.len = self
            .platform
            .call_stack(&mut frames.addresses)
            .min(frames.addresses.len());
        frames
    }

    fn with_caller(
        &self,
        action: impl FnOnce(&mut State, &mut dyn FnMut() -> Frames, &Source<'_>),
    ) {
        if self.is_on() {
            // The call stack is walked only if there is something to be told.
            self.with_state(|state, source| action(state, &mut || self.frames(), source));
        }
    }

    /// Runs `action` on the state, with interrupts off. Any context.
    pub(crate) fn with_state<R>(&self, action: impl FnOnce(&mut State, &Source<'_>) -> R) -> R {
        let source = Source {
            platform: &self.platform,
            bootstrap: self.bootstrap.pages(),
        };
        let interrupts = self.platform.irq_save();
        let result = action(&mut self.state.lock(), &source);
        self.platform.irq_restore(interrupts);
        result
    }

    /// What the marker reads with.
    pub(crate) fn reader(&self) -> Reader<'_> {
        let start = core::ptr::from_ref(self).addr();
        let own: Range<usize> = start..start + size_of_val(self);
        Reader {
            platform: &self.platform,
            own,
        }
    }

    /// Lets one task at a time check, report or clear; `None` while another does.
    pub(crate) fn try_claim(&self) -> Option<Claim<'_>> {
        let taken = self.busy.swap(true, Ordering::Acquire);
        // Lazily: a claim that is made and thrown away would end the other's.
        (!taken).then(|| Claim { busy: &self.busy })
    }

    /// The same, waiting for the other. Task context, with no lock held.
    pub(crate) fn claim(&self) -> Claim<'_> {
        loop {
            match self.try_claim() {
                Some(claim) => return claim,
                None => {
                    let _ = self.platform.relax();
                }
            }
        }
    }

    /// Records nothing from now on. For good.
    pub(crate) fn turn_off(&self) {
        self.stopping.store(true, Ordering::Release);
        let _claim = self.claim();
        self.off.store(true, Ordering::Release);
        self.stopping.store(false, Ordering::Release);
    }

    /// Gives all metadata back to the platform. Task context, after [`turn_off`](Self::turn_off).
    pub(crate) fn free_metadata(&self) {
        let mut chain: Option<core::ptr::NonNull<u8>> = None;
        let (own, pages) = self.bootstrap.pages();
        let own = own.addr().get()..own.addr().get() + pages * crate::METADATA_PAGE;
        self.with_state(|state, _| {
            state.empty(&mut |page| {
                if own.contains(&page.addr().get()) {
                    return;
                }
                // The pages are chained through their first words: nothing may be given back under the lock.
                // SAFETY: a page of ours that nothing is in any more.
                unsafe { page.cast::<Option<core::ptr::NonNull<u8>>>().write(chain) };
                chain = Some(page);
            });
        });
        while let Some(page) = chain {
            // SAFETY: written above.
            chain = unsafe { page.cast::<Option<core::ptr::NonNull<u8>>>().read() };
            // SAFETY: came from the platform, and nothing is in it any more.
            unsafe { self.platform.metadata_free(page) };
        }
    }
}

/// The right to check, report or clear.
pub(crate) struct Claim<'a> {
    busy: &'a AtomicBool,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.busy.store(false, Ordering::Release);
    }
}
