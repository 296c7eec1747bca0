//! A cache's slabs: blocks of pages with a header and objects behind it.
//!
//! # The seal
//!
//! A slab's header lies at the start of its pages, where a write past the end of the memory before it goes first. With another
//! cache or other bitmaps in it, a free would give back what was never taken. So a header begins with a *seal*: a number that
//! depends on this boot, on where the slab is, and on whose it is. A write that runs into the header breaks the seal before it
//! reaches the rest, and a write that hits the cache's address alone breaks it as well. The frames' descriptors say which pages
//! belong to a slab; what they say is believed only if the seal is whole. A free into a slab with a broken seal is refused. A
//! cache that would have to go on with its bitmaps panics, since they no longer say what is free.
//!
//! The alternative, headers in pages of their own, would move the header out of the way of most such writes, but would notice none.
//!
//! # The gap
//!
//! The end of a block, one past its last byte, is a word that programs keep: each iterator over a slice does. If the next block began
//! there, the word would keep that one alive as well, and no detector could tell which of the two is meant. So objects lie at a
//! *stride* that is larger than they are, with 16 bytes between them, or 8 behind those of 8 bytes. What that costs:
//!
//! | bytes of an object | 8 | 16 | 32 | 64 | 128 | 256 | 384 | 512 and more |
//! | --- | --- | --- | --- | --- | --- | --- | --- | --- |
//! | objects a slab, without gaps | 489 | 244 | 122 | 61 | 30 | 15 | 10 | 7 |
//! | with gaps | 244 | 122 | 81 | 48 | 27 | 14 | 9 | 7 |
//!
//! Large objects cost nothing: the gaps lie where the alignment of the first object left memory unused. That alignment is given up: an
//! object is aligned to 16 bytes, unless more is asked for. Caches of [aligned](SlabCache::aligned) objects have no room for a
//! gap in their stride, so their users leave the last byte of an object unused. A mixed heap of 500 000 blocks takes 4 % more slabs.
//! (A byte of padding in each block would send those of 64 bytes to objects of 96: 66 % more.)
//!
//! A machine whose detector is off from the boot on has no use for gaps, and leaves none. Blocks of pages lie without gaps in any case:
//! a page that nobody uses would be a gap for each.

use core::cell::Cell;
use core::ops::Deref;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::SlabCache;
use crate::dev::time;
use crate::mm::frame::{self, Frame};
use crate::mm::misuse::Misuse;

/// Objects that a slab holds at most: the bits of its bitmaps.
pub(super) const MAX_OBJECTS: usize = 512;
pub(super) const WORDS: usize = MAX_OBJECTS / 64;

/// What objects of unaligned caches are aligned to at most, and the bytes between two of them.
pub(super) const GAP: usize = 16;

/// Whether the end of an object may be the start of the next one.
static IS_DENSE: AtomicBool = AtomicBool::new(false);

/// Lets objects lie without gaps from now on. Called on the boot CPU while it runs alone, before there are slabs.
pub fn leave_no_gaps() {
    if super::pages() == 0 {
        IS_DENSE.store(true, Ordering::Relaxed);
    }
}

/// What the seals of this boot depend on.
static SECRET: AtomicUsize = AtomicUsize::new(0);

/// Chooses the seals of this boot. Called before there are slabs.
pub(super) fn choose_seals() {
    /// 2^64 divided by the golden ratio: spreads the few bits in which two boots differ over the word.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    SECRET.store(time::tsc().wrapping_mul(SPREAD) as usize, Ordering::Relaxed);
}

/// The header of a slab.
#[repr(C)]
pub(super) struct Slab {
    /// First in memory: see the seal, above.
    seal: usize,
    pub(super) cache: &'static SlabCache,
    pub(super) layout: Layout,
    pub(super) next: Cell<Option<SlabRef>>,
    pub(super) previous: Cell<Option<SlabRef>>,
    pub(super) free_count: Cell<usize>,
    pub(super) free: [Cell<u64>; WORDS],
    pub(super) live: [AtomicU64; WORDS],
}

/// A slab in use. Its cells are touched under its cache's lock only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct SlabRef(pub(super) NonNull<Slab>);

// SAFETY: a slab's cells are touched under the lock of its cache only.
unsafe impl Send for SlabRef {}

impl Deref for SlabRef {
    type Target = Slab;
    fn deref(&self) -> &Slab {
        // SAFETY: the block begins with an initialized header, which stays while the slab is in use.
        unsafe { self.0.as_ref() }
    }
}

pub(super) struct Slabs {
    /// Head of the list of slabs that have a free object.
    pub(super) partial: Option<SlabRef>,
    /// Number of slabs of which all objects are free.
    pub(super) empty: usize,
    pub(super) count: usize,
}

impl Slabs {
    pub(super) const fn new() -> Self {
        Self {
            partial: None,
            empty: 0,
            count: 0,
        }
    }
}

/// Where the objects of a slab lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Bytes from the start of the slab to its first object.
    pub(super) first: u32,
    /// Bytes from one object to the next.
    pub(super) stride: u32,
    /// Objects in the slab.
    pub(super) objects: u32,
}

impl Layout {
    /// As many objects as fit behind a header into `slab_len` bytes.
    pub(super) fn plain(cache: &SlabCache, slab_len: usize) -> Self {
        let stride = match cache.is_aligned() || IS_DENSE.load(Ordering::Relaxed) {
            true => cache.object_size,
            false => (cache.object_size + 1).next_multiple_of(GAP),
        };
        let first = size_of::<Slab>().next_multiple_of(1 << stride.trailing_zeros());
        Self {
            first: first as u32,
            stride: stride as u32,
            objects: ((slab_len - first) / stride).min(MAX_OBJECTS) as u32,
        }
    }
}

/// The seal of the slab that begins at `address` and belongs to `cache`.
#[inline]
fn seal_of(address: usize, cache: &SlabCache) -> usize {
    SECRET.load(Ordering::Relaxed) ^ address ^ ptr::from_ref(cache).addr()
}

impl Slab {
    /// The header of a slab at `address`, of which all objects are free.
    pub(super) fn new(address: usize, cache: &'static SlabCache, layout: Layout) -> Self {
        let objects = layout.objects as usize;
        let free = |word: usize| match objects.saturating_sub(word * 64) {
            64.. => u64::MAX,
            rest => (1 << rest) - 1,
        };
        Self {
            seal: seal_of(address, cache),
            cache,
            layout,
            next: Cell::new(None),
            previous: Cell::new(None),
            free_count: Cell::new(objects),
            free: core::array::from_fn(|word| Cell::new(free(word))),
            live: [const { AtomicU64::new(0) }; WORDS],
        }
    }

    /// Whether nothing has written over the header.
    #[inline]
    fn is_sealed(&self) -> bool {
        self.seal == seal_of(self.address(), self.cache)
    }

    /// For code that can't go on without the header.
    ///
    /// # Panics
    ///
    /// If something has written over it.
    pub(super) fn assert_sealed(&self) {
        assert!(
            self.is_sealed(),
            "slab at {:#018x}: its header was overwritten, probably by a write past the end of what lies before it",
            self.address()
        );
    }

    /// Whether all objects are free.
    pub(super) fn is_all_free(&self) -> bool {
        self.free_count.get() == self.layout.objects as usize
    }

    /// Where an object begins.
    pub(super) fn object(&self, index: usize) -> usize {
        self.address() + self.layout.first as usize + index * self.layout.stride as usize
    }

    pub(super) fn address(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    pub(super) fn take_free(&self) -> Option<usize> {
        let (word, bits) = self
            .free
            .iter()
            .enumerate()
            .find(|(_, bits)| bits.get() != 0)?;
        let bit = bits.get().trailing_zeros() as usize;
        bits.set(bits.get() & !(1 << bit));
        self.free_count.set(self.free_count.get() - 1);
        Some(word * 64 + bit)
    }

    pub(super) fn give_free(&self, index: usize) {
        let bits = &self.free[index / 64];
        bits.set(bits.get() | 1 << (index % 64));
        self.free_count.set(self.free_count.get() + 1);
    }
}

impl Slabs {
    pub(super) fn link(&mut self, slab: SlabRef) {
        slab.previous.set(None);
        slab.next.set(self.partial);
        if let Some(first) = self.partial {
            first.previous.set(Some(slab));
        }
        self.partial = Some(slab);
    }

    pub(super) fn unlink(&mut self, slab: SlabRef) {
        let (next, previous) = (slab.next.take(), slab.previous.take());
        match previous {
            Some(previous) => previous.next.set(next),
            None => self.partial = next,
        }
        if let Some(next) = next {
            next.previous.set(previous);
        }
    }
}

/// The slab that holds `address`.
#[inline]
pub(super) fn slab_of(address: usize) -> Result<SlabRef, Misuse> {
    let start = frame::frame_of(address).and_then(Frame::slab);
    let start = start.and_then(|start| NonNull::new(ptr::with_exposed_provenance_mut(start)));
    let slab = SlabRef(start.ok_or(Misuse::NotABlock)?);
    match slab.is_sealed() {
        true => Ok(slab),
        false => Err(Misuse::BrokenSlab),
    }
}

/// The slab in which an object begins at `address`, and the object's place in it.
#[inline]
pub(super) fn locate(address: usize) -> Result<(SlabRef, usize), Misuse> {
    let slab = slab_of(address)?;
    let Layout {
        first,
        stride,
        objects,
    } = slab.layout;
    // A slab has less than 4 GiB.
    let offset = address.wrapping_sub(slab.address()) as u32;
    let offset = offset.checked_sub(first).ok_or(Misuse::NotABlock)?;
    let index = offset / stride;
    if !offset.is_multiple_of(stride) || index >= objects {
        return Err(Misuse::NotABlock);
    }
    Ok((slab, index as usize))
}

/// Whose slab holds `address`, if any does, and how far apart its objects are.
pub fn cache_of(address: usize) -> Option<(&'static SlabCache, usize)> {
    let slab = slab_of(address).ok()?;
    Some((slab.cache, slab.layout.stride as usize))
}
