//! The slab allocator: objects of one size, cut from blocks of pages, cached per CPU.
//!
//! A *slab* is a block of pages with a header at its start and objects after it. Which objects are free is a
//! bitmap in the header: no link is ever written into an object, so fresh memory holds no stale one, and a
//! stray write into a freed object breaks no list. A second bitmap says which objects users have. A free first
//! clears the object's bit there, so that a second free is caught, on whatever CPU and in whatever magazine
//! the object is by then.
//!
//! Each CPU has a *magazine* for each cache: a small stack of free objects, which the CPU uses with its
//! interrupts off and without a lock. An empty magazine is loaded from the slabs, a full one is unloaded to
//! them, half a magazine at a time. A slot that is popped is zeroed.
//!
//! The end of an object is not the start of the next: see [the gap](slabs).
//!
//! Where freed blocks are poisoned, objects lie between red zones ([`guard`]), and a freed one waits in [`quarantine`] before it
//! comes back to the slabs. Where they are not, that costs a comparison in an allocation, and nothing in a free.
//!
//! Slabs and magazines come from the untracked entry of the buddy allocator: the leak detector sees the
//! objects, but not the memory that holds them.
//!
//! # Invariants
//!
//! - An object's bit is set in `free` while no magazine, no quarantine and no user has it; in `live` while a user has it.
//! - A slab is in its cache's list while it has a free object.
//! - The owner's word of each of a slab's frames is the slab's address.
//!
//! # Locks
//!
//! One for each cache, over its slabs; one over the pool of magazines. The buddy allocator's may be taken
//! under either. One for each cache's quarantine, which stands alone.

mod contents;
mod freeing;
mod guard;
mod magazine;
mod quarantine;
mod slabs;

use core::fmt;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

pub use self::contents::check_contents;
use self::freeing::Unused;
pub use self::guard::{TooLate, switch_poison_on};
use self::magazine::{MAGAZINE_LEN, Magazine, new_magazine};
use self::quarantine::Quarantine;
pub use self::quarantine::{empty_quarantines, most_bytes, quarantined};
use self::slabs::{GAP, Layout, Slab, SlabRef, Slabs, locate};
pub use self::slabs::{cache_of, leave_no_gaps};
use super::buddy::{self, Tracking};
use super::frame::{self, Owner};
use super::misuse::Misuse;
use super::release::release;
use super::{Freed, PAGE, freed};
use crate::arch::percpu::{MAX_CPUS, cpu_id};
use crate::leak::hooks;
use crate::sync::{IrqGuard, LocalIrqDisabled, SpinLock};

/// Whether the leak detector is told of a cache's objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// The detector is told.
    Trace,
    /// The detector is not told: the objects are bookkeeping, neither reported nor scanned (NOLEAKTRACE).
    NoLeakTrace,
}

/// Objects that a slab should hold at least, the header's share left out.
const MIN_OBJECTS: usize = 8;

/// Empty slabs that a cache keeps for later allocations.
const SPARE_SLABS: usize = 2;

/// Objects of one size.
pub struct SlabCache {
    name: &'static str,
    object_size: usize,
    align: usize,
    trace: Trace,
    slabs: SpinLock<Slabs, LocalIrqDisabled>,
    quarantine: SpinLock<Quarantine, LocalIrqDisabled>,
    magazines: [AtomicPtr<Magazine>; MAX_CPUS],
    /// Objects freed on a CPU that had no magazine, because there was no memory for one.
    frees: AtomicU64,
    next: AtomicPtr<SlabCache>,
}

/// Figures of a cache.
#[derive(Clone, Copy, Debug)]
pub struct CacheStats {
    /// Bytes of an object.
    pub object_size: usize,
    /// Objects that users have.
    pub in_use: u64,
    /// Objects in all slabs, free or not.
    pub total: usize,
    /// Slabs.
    pub slabs: usize,
}

static SLAB_PAGES: AtomicUsize = AtomicUsize::new(0);

/// All caches that have been used.
static CACHES: SpinLock<CacheList, LocalIrqDisabled> = SpinLock::new(CacheList(None));

struct CacheList(Option<&'static SlabCache>);

/// Pages of all slabs.
pub fn pages() -> usize {
    SLAB_PAGES.load(Ordering::Relaxed)
}

/// Runs `look` on each cache that has been used, until `look` fails.
pub fn for_each_cache<E>(
    look: &mut dyn FnMut(&'static SlabCache) -> Result<(), E>,
) -> Result<(), E> {
    let mut next = CACHES.lock().0;
    while let Some(cache) = next {
        look(cache)?;
        next = cache.next();
    }
    Ok(())
}

impl SlabCache {
    /// A cache of objects of `object_size` bytes (at least 8, at most 8192), aligned to the largest power of
    /// two that divides `object_size`, but to 16 at most.
    pub const fn new(name: &'static str, object_size: usize, trace: Trace) -> Self {
        let natural = 1 << object_size.trailing_zeros();
        Self::with_align(
            name,
            object_size,
            if natural < GAP { natural } else { GAP },
            trace,
        )
    }

    /// A cache of objects of `object_size` bytes (at least 32, at most 8192), aligned to the largest power of two that divides
    /// `object_size`. Its objects lie without gaps: a user leaves the last byte of each unused, so that no block's end
    /// is another's start.
    pub const fn aligned(name: &'static str, object_size: usize, trace: Trace) -> Self {
        let align = 1 << object_size.trailing_zeros();
        assert!(align > GAP, "aligned to more than others");
        Self::with_align(name, object_size, align, trace)
    }

    const fn with_align(
        name: &'static str,
        object_size: usize,
        align: usize,
        trace: Trace,
    ) -> Self {
        assert!(
            object_size >= 8 && object_size <= 8192,
            "objects of 8 to 8192 bytes"
        );
        Self {
            name,
            object_size,
            align,
            trace,
            slabs: SpinLock::new(Slabs::new()),
            quarantine: SpinLock::new(Quarantine::new()),
            magazines: [const { AtomicPtr::new(ptr::null_mut()) }; MAX_CPUS],
            frees: AtomicU64::new(0),
            next: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Bytes of an object.
    pub const fn object_size(&self) -> usize {
        self.object_size
    }

    /// What the objects are aligned to.
    pub const fn align(&self) -> usize {
        self.align
    }

    /// Whether its objects are [aligned](Self::aligned) to more than those of other caches.
    const fn is_aligned(&self) -> bool {
        self.align > GAP
    }

    const fn order(&self) -> u32 {
        buddy::order_of(self.object_size * MIN_OBJECTS)
    }

    /// How its slabs are divided.
    fn layout(&self) -> Layout {
        let len = PAGE << self.order();
        match freed() {
            Freed::Poisoned => Layout::guarded(self, len),
            Freed::Kept | Freed::Cleared => Layout::plain(self, len),
        }
    }

    /// Allocates an object. The user wants `size` bytes of it: the leak detector is told that size. Any context.
    #[unsafe(link_section = ".text.hooks")]
    pub fn alloc(&'static self, size: usize) -> Option<NonNull<u8>> {
        if freed() == Freed::Poisoned {
            return self.alloc_guarded(size);
        }
        let object = self.take()?;
        if self.trace == Trace::Trace {
            hooks::alloc(object.addr().get(), size);
        }
        Some(object)
    }

    /// Frees an object. If it is not an object of this cache, or is free already, the error is printed, and nothing
    /// else happens. Any context.
    #[unsafe(link_section = ".text.hooks")]
    pub fn free(&'static self, object: NonNull<u8>) {
        let _refused_or_done = release(&self, object.addr().get());
    }

    /// Frees an object that was allocated just now and never used. Where freed blocks are poisoned, it does not wait in quarantine,
    /// but is the next one that this CPU hands out. As [`free`](Self::free) otherwise.
    #[unsafe(link_section = ".text.hooks")]
    pub(super) fn free_unused(&'static self, object: NonNull<u8>) {
        let _refused_or_done = release(&Unused(self), object.addr().get());
    }

    /// Figures of the cache. They may be out of date at once if other CPUs allocate.
    pub fn stats(&'static self) -> CacheStats {
        let slabs = self.slabs.lock().count;
        let mut in_use = 0_u64.wrapping_sub(self.frees.load(Ordering::Relaxed));
        for magazine in &self.magazines {
            // SAFETY: null, or a magazine, which is never freed; only its counters are read.
            if let Some(magazine) = unsafe { magazine.load(Ordering::Acquire).as_ref() } {
                in_use = in_use
                    .wrapping_add(magazine.allocs.load(Ordering::Relaxed))
                    .wrapping_sub(magazine.frees.load(Ordering::Relaxed));
            }
        }
        let total = slabs * self.layout().objects as usize;
        CacheStats {
            object_size: self.object_size,
            in_use,
            total,
            slabs,
        }
    }

    fn next(&self) -> Option<&'static SlabCache> {
        // SAFETY: null, or a cache, and caches are static.
        unsafe { self.next.load(Ordering::Acquire).as_ref() }
    }

    /// Takes an object out of this CPU's magazine. Inlined into the way that each allocation takes.
    #[inline(always)]
    fn take(&'static self) -> Option<NonNull<u8>> {
        let mut guard = IrqGuard::new();
        let magazine = self.magazine(&mut guard)?;
        if magazine.len == 0 {
            self.load(magazine);
        }
        magazine.len = magazine.len.checked_sub(1)?;
        let object = core::mem::take(&mut magazine.objects[magazine.len]);
        let allocs = magazine.allocs.load(Ordering::Relaxed);
        magazine.allocs.store(allocs + 1, Ordering::Relaxed);
        let (slab, index) = located(object);
        slab.live[index / 64].fetch_or(1 << (index % 64), Ordering::Relaxed);
        NonNull::new(ptr::with_exposed_provenance_mut(object))
    }

    /// Puts an object that no user has into this CPU's magazine. Inlined into the way that each free takes.
    #[inline(always)]
    fn put_back(&'static self, object: usize) {
        let mut guard = IrqGuard::new();
        let Some(magazine) = self.magazine(&mut guard) else {
            self.frees.fetch_add(1, Ordering::Relaxed);
            return self.give_to_slabs(&[object]);
        };
        if magazine.len == MAGAZINE_LEN {
            self.unload(magazine);
        }
        magazine.objects[magazine.len] = object;
        magazine.len += 1;
        let frees = magazine.frees.load(Ordering::Relaxed);
        magazine.frees.store(frees + 1, Ordering::Relaxed);
    }

    /// This CPU's magazine.
    fn magazine<'a>(&'static self, _guard: &'a mut IrqGuard) -> Option<&'a mut Magazine> {
        let slot = &self.magazines[cpu_id() as usize];
        let mut magazine = slot.load(Ordering::Acquire);
        if magazine.is_null() {
            self.enlist();
            magazine = new_magazine()?.as_ptr();
            slot.store(magazine, Ordering::Release);
        }
        // SAFETY: only this CPU uses the magazine, which is never freed; interrupts are off, and the borrow of the
        // guard excludes a second reference.
        Some(unsafe { &mut *magazine })
    }

    /// Puts the cache into the list of used caches, if it is not there yet.
    fn enlist(&'static self) {
        let mut caches = CACHES.lock();
        let mut next = caches.0;
        while let Some(cache) = next {
            if ptr::eq(cache, self) {
                return;
            }
            next = cache.next();
        }
        let rest = caches
            .0
            .map_or(ptr::null_mut(), |cache| ptr::from_ref(cache).cast_mut());
        self.next.store(rest, Ordering::Release);
        caches.0 = Some(self);
    }

    /// Loads half a magazine from the slabs; fewer objects if memory is short.
    fn load(&'static self, magazine: &mut Magazine) {
        let mut slabs = self.slabs.lock();
        while magazine.len < MAGAZINE_LEN / 2 {
            let Some(slab) = slabs.partial.or_else(|| self.new_slab(&mut slabs)) else {
                return;
            };
            slab.assert_sealed();
            if slab.is_all_free() {
                slabs.empty -= 1;
            }
            while magazine.len < MAGAZINE_LEN / 2
                && let Some(index) = slab.take_free()
            {
                magazine.objects[magazine.len] = slab.object(index);
                magazine.len += 1;
            }
            if slab.free_count.get() == 0 {
                slabs.unlink(slab);
            }
        }
    }

    /// Unloads half a magazine to the slabs: the objects that have been in it longest.
    fn unload(&'static self, magazine: &mut Magazine) {
        let count = MAGAZINE_LEN / 2;
        self.give_to_slabs(&magazine.objects[..count]);
        magazine.objects.copy_within(count..magazine.len, 0);
        magazine.len -= count;
        magazine.objects[magazine.len..].fill(0);
    }

    fn give_to_slabs(&'static self, objects: &[usize]) {
        let mut slabs = self.slabs.lock();
        for &object in objects {
            let (slab, index) = located(object);
            if slab.free_count.get() == 0 {
                slabs.link(slab);
            }
            slab.give_free(index);
            if slab.is_all_free() {
                if slabs.empty < SPARE_SLABS {
                    slabs.empty += 1;
                } else {
                    slabs.unlink(slab);
                    slabs.count -= 1;
                    self.drop_slab(slab);
                }
            }
        }
    }

    fn new_slab(&'static self, slabs: &mut Slabs) -> Option<SlabRef> {
        let block = buddy::alloc(self.order(), Tracking::Untracked)?;
        let slab = block.cast::<Slab>();
        let header = Slab::new(block.addr().get(), self, self.layout());
        // SAFETY: a fresh block, aligned to its size, which is larger than a header.
        unsafe { slab.write(header) };
        if freed() == Freed::Poisoned {
            guard::begin(SlabRef(slab));
        }
        let number = frame::number_of(block.addr().get())?;
        for frame in &frame::frames()[number as usize..][..1 << self.order()] {
            frame.set_owner(Owner::Slab(block.addr().get()));
        }
        SLAB_PAGES.fetch_add(1 << self.order(), Ordering::Relaxed);
        let slab = SlabRef(slab);
        slabs.link(slab);
        slabs.count += 1;
        slabs.empty += 1;
        Some(slab)
    }

    fn drop_slab(&self, slab: SlabRef) {
        SLAB_PAGES.fetch_sub(1 << self.order(), Ordering::Relaxed);
        buddy::free(slab.0.cast(), self.order(), Tracking::Untracked);
    }

    /// Asserts that lists and bitmaps agree.
    fn check(&'static self) {
        let slabs = self.slabs.lock();
        let (mut next, mut empty) = (slabs.partial, 0);
        while let Some(slab) = next {
            slab.assert_sealed();
            assert!(
                ptr::eq(slab.cache, self),
                "{}: a slab of another cache",
                self.name
            );
            let free: usize = slab
                .free
                .iter()
                .map(|word| word.get().count_ones() as usize)
                .sum();
            assert_eq!(free, slab.free_count.get(), "{}: free objects", self.name);
            assert!(free > 0, "{}: a full slab in the list", self.name);
            for (free, live) in slab.free.iter().zip(&slab.live) {
                assert_eq!(
                    free.get() & live.load(Ordering::Relaxed),
                    0,
                    "{}: free and live",
                    self.name
                );
            }
            empty += usize::from(slab.is_all_free());
            next = slab.next.get();
        }
        assert_eq!(empty, slabs.empty, "{}: empty slabs", self.name);
    }
}

impl fmt::Debug for SlabCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlabCache")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The slab of an object that this allocator holds, and the object's place in it.
///
/// # Panics
///
/// If the slab's header was overwritten: nobody knows any more what is free in it.
#[inline]
fn located(object: usize) -> (SlabRef, usize) {
    locate(object).unwrap_or_else(|misuse| lost(object, misuse))
}

#[cold]
#[inline(never)]
fn lost(object: usize, misuse: Misuse) -> ! {
    panic!("slabs: a free object at {object:#018x} is lost: {misuse}")
}

/// Called before the first allocation.
pub(super) fn init() {
    slabs::choose_seals();
}

/// Asserts that the structures of all caches are consistent.
pub(super) fn check_invariants() {
    let checked: Result<(), core::convert::Infallible> = for_each_cache(&mut |cache| {
        cache.check();
        Ok(())
    });
    let Ok(()) = checked;
}
