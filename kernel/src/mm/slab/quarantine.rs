//! The quarantine: where freed blocks are poisoned, a freed object waits before it can be used again.
//!
//! Without it the next allocation takes the object that was freed last: a second free would then free what another user has, and a
//! late write would hit that user. Each cache has a queue of freed objects; the oldest leaves when the queue has more bytes than a
//! share of the machine's memory. The queue is linked through the objects' tracks, so it takes no memory. When an allocation finds
//! none, all queues are emptied, and it is tried again. The leak detector has forgotten the objects in a queue, as it has those in a
//! free list.
//!
//! # Locks
//!
//! One for each cache's queue; none is taken under it.

use core::convert::Infallible;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use super::guard::Guarded;
use super::{SlabCache, Trace, for_each_cache, located};
use crate::leak::hooks;
use crate::mm::page::{Freed, freed};
use crate::mm::{PAGE, buddy};

/// Bytes that a cache's quarantine holds at most.
const MOST: usize = 1 << 20;

/// The part of the machine's memory, one in so many, that a cache's quarantine holds at most.
const SHARE: usize = 512;

/// Objects that were freed, the oldest first.
pub(super) struct Quarantine {
    oldest: Link,
    newest: Link,
    /// Bytes of all slots.
    bytes: usize,
}

/// The address of an object with all bits inverted, so that it is no pointer; zero at the end.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Link(usize);

impl Link {
    const NONE: Self = Self(0);

    fn to(object: usize) -> Self {
        Self(!object)
    }

    fn object(self) -> Option<usize> {
        (self != Self::NONE).then_some(!self.0)
    }
}

impl Quarantine {
    pub(super) const fn new() -> Self {
        Self {
            oldest: Link::NONE,
            newest: Link::NONE,
            bytes: 0,
        }
    }

    fn push(&mut self, object: usize) {
        let link = Link::to(object);
        let guarded = at(object);
        guarded.track().next.store(Link::NONE.0, Ordering::Relaxed);
        match self.newest.object() {
            Some(before) => at(before).track().next.store(link.0, Ordering::Relaxed),
            None => self.oldest = link,
        }
        self.newest = link;
        self.bytes += guarded.slot_len();
    }

    /// Takes the oldest object out, if there are more than `most` bytes.
    fn pop(&mut self, most: usize) -> Option<usize> {
        if self.bytes <= most {
            return None;
        }
        let object = self.oldest.object()?;
        let guarded = at(object);
        self.oldest = Link(guarded.track().next.load(Ordering::Relaxed));
        if self.oldest == Link::NONE {
            self.newest = Link::NONE;
        }
        self.bytes -= guarded.slot_len();
        Some(object)
    }
}

/// An object of this allocator's.
///
/// # Panics
///
/// If the header of its slab was overwritten.
fn at(object: usize) -> Guarded {
    let (slab, index) = located(object);
    Guarded::new(slab, index)
}

/// Bytes that a cache's quarantine holds at most on this machine.
pub fn most_bytes() -> usize {
    (buddy::total_pages() * PAGE / SHARE).min(MOST)
}

/// Bytes in the quarantines of all caches. Any context.
pub fn quarantined() -> usize {
    let mut bytes = 0;
    let looked: Result<(), Infallible> = for_each_cache(&mut |cache| {
        bytes += cache.quarantine.lock().bytes;
        Ok(())
    });
    let Ok(()) = looked;
    bytes
}

/// Lets all objects in quarantine go. Returns whether there were any. Any context, with no allocator lock held.
pub fn empty_quarantines() -> bool {
    if freed() != Freed::Poisoned {
        return false;
    }
    let mut any = false;
    let emptied: Result<(), Infallible> = for_each_cache(&mut |cache| {
        while cache.let_oldest_go(0) {
            any = true;
        }
        Ok(())
    });
    let Ok(()) = emptied;
    any
}

impl SlabCache {
    /// Allocates an object, if need be one of those in quarantine, where freed blocks are poisoned.
    #[unsafe(link_section = ".text.hooks")]
    #[inline(never)]
    #[cold]
    pub(super) fn alloc_guarded(&'static self, size: usize) -> Option<NonNull<u8>> {
        let take = || self.take_here();
        let object = take().or_else(|| empty_quarantines().then(take)?)?;
        at(object.addr().get()).hand_out(size);
        if self.trace == Trace::Trace {
            hooks::alloc(object.addr().get(), size);
        }
        Some(object)
    }

    #[inline(never)]
    fn take_here(&'static self) -> Option<NonNull<u8>> {
        self.take()
    }

    /// Puts an object that was taken from its user into quarantine.
    #[unsafe(link_section = ".text.hooks")]
    #[inline(never)]
    #[cold]
    pub(super) fn keep_for_a_while(&'static self, object: usize) {
        at(object).take_back();
        self.frees.fetch_add(1, Ordering::Relaxed);
        self.quarantine.lock().push(object);
        while self.let_oldest_go(most_bytes()) {}
    }

    /// Lets the oldest object of the quarantine be used again, if that holds more than `most` bytes.
    fn let_oldest_go(&'static self, most: usize) -> bool {
        let oldest = self.quarantine.lock().pop(most);
        if let Some(object) = oldest {
            at(object).let_go();
            self.give_to_slabs(&[object]);
        }
        oldest.is_some()
    }
}
