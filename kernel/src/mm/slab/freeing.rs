//! How objects are freed: what is checked, and where they go.

use core::ptr;
use core::sync::atomic::Ordering;

use super::guard::Guarded;
use super::slabs::locate;
use super::{SlabCache, Trace};
use crate::leak::hooks;
use crate::mm::misuse::{Audience, Misuse};
use crate::mm::page::{Freed, freed};
use crate::mm::poison::tell_refused_free;
use crate::mm::release::{Allocator, Retired};

impl Allocator for &'static SlabCache {
    type Block = usize;
    type Done = ();

    fn name(&self) -> &'static str {
        self.name
    }

    #[inline]
    fn audience(&self) -> Audience {
        match self.trace {
            Trace::Trace => Audience::Detector,
            Trace::NoLeakTrace => Audience::Nobody,
        }
    }

    #[inline(always)]
    fn retire(&self, address: usize) -> Result<usize, Misuse> {
        let (slab, index) = locate(address)?;
        if !ptr::eq(slab.cache, *self) {
            return Err(Misuse::WrongSize);
        }
        let bit = 1 << (index % 64);
        match slab.live[index / 64].fetch_and(!bit, Ordering::Relaxed) & bit {
            0 => Err(Misuse::DoubleFree),
            _ => Ok(address),
        }
    }

    #[inline(always)]
    fn tell(&self, retired: &Retired<usize>) {
        hooks::free(retired);
    }

    #[unsafe(link_section = ".text.hooks")]
    #[inline(never)]
    #[cold]
    fn tell_more(&self, address: usize) {
        if freed() == Freed::Poisoned
            && let Some(guarded) = Guarded::at(address)
        {
            tell_refused_free();
            guarded.tell_history();
        }
    }

    #[inline(always)]
    fn put(&self, object: usize) {
        match freed() {
            Freed::Kept => self.put_back(object),
            other => put_changed(self, object, other),
        }
    }
}

/// Puts an object that was taken from its user where freed ones go, and does to its contents what is to be done.
#[unsafe(link_section = ".text.hooks")]
#[inline(never)]
#[cold]
fn put_changed(cache: &'static SlabCache, object: usize, freed: Freed) {
    if freed == Freed::Poisoned {
        return cache.keep_for_a_while(object);
    }
    if let Some(byte) = freed.fill() {
        let start: *mut u8 = ptr::with_exposed_provenance_mut(object);
        // SAFETY: an object of this cache that was taken from its user, and is not free yet.
        unsafe { start.write_bytes(byte, cache.object_size) };
    }
    cache.put_back(object);
}

/// How objects are freed that nobody has used.
pub(super) struct Unused(pub(super) &'static SlabCache);

impl Allocator for Unused {
    type Block = usize;
    type Done = ();

    fn name(&self) -> &'static str {
        self.0.name
    }

    fn audience(&self) -> Audience {
        self.0.audience()
    }

    fn retire(&self, address: usize) -> Result<usize, Misuse> {
        self.0.retire(address)
    }

    #[inline(always)]
    fn tell(&self, retired: &Retired<usize>) {
        hooks::free(retired);
    }

    #[inline(always)]
    fn put(&self, object: usize) {
        if freed() == Freed::Poisoned
            && let Some(guarded) = Guarded::at(object)
        {
            guarded.take_back();
        }
        self.0.put_back(object);
    }
}
