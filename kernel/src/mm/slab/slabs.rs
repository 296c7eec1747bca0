//! A cache's slabs: blocks of pages with a header and objects behind it.

use core::cell::Cell;
use core::ops::Deref;
use core::ptr::{self, NonNull};
use core::sync::atomic::AtomicU64;

use super::SlabCache;
use crate::mm::frame;
use crate::mm::misuse::Misuse;

/// Objects that a slab holds at most: the bits of its bitmaps.
pub(super) const MAX_OBJECTS: usize = 512;
pub(super) const WORDS: usize = MAX_OBJECTS / 64;

/// The header of a slab.
#[repr(C)]
pub(super) struct Slab {
    pub(super) cache: &'static SlabCache,
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

impl Slab {
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

/// The slab that holds `address`, if any.
fn slab_of(address: usize) -> Option<SlabRef> {
    let start = frame::frame_of(address)?.slab()?;
    NonNull::new(ptr::with_exposed_provenance_mut::<Slab>(start)).map(SlabRef)
}

/// The slab in which an object begins at `address`, and the object's place in it.
pub(super) fn locate(address: usize) -> Result<(SlabRef, usize), Misuse> {
    let slab = slab_of(address).ok_or(Misuse::NotABlock)?;
    let cache = slab.cache;
    let offset = address
        .checked_sub(slab.address() + cache.first_object())
        .ok_or(Misuse::NotABlock)?;
    let index = offset / cache.object_size;
    if !offset.is_multiple_of(cache.object_size) || index >= cache.objects_per_slab() {
        return Err(Misuse::NotABlock);
    }
    Ok((slab, index))
}

/// The cache whose slab holds `address`, if any.
pub fn cache_of(address: usize) -> Option<&'static SlabCache> {
    slab_of(address).map(|slab| slab.cache)
}
