//! Objects in the place of a new block were freed without a callback: they are taken out, and counted.

use core::sync::atomic::Ordering::Relaxed;

use crate::metadata::MetaAlloc;
use crate::objects::access::Locked;
use crate::objects::object::alias_owner;
use crate::objects::page_map::chunk_of;
use crate::objects::record::{Record, flag};
use crate::objects::registry::Refused;
use crate::platform::Platform;
use crate::platform::address::{Address, Extent};
use crate::stacks::depot::StackId;
use crate::tracker::Tracker;
use crate::tracker::warnings::Kind;

/// What became of an object in the way of a new block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evicted {
    /// An object was taken out.
    Some,
    /// No object was taken out.
    None,
    /// The object is the new one itself: a copy that a per-CPU block has on several CPUs.
    Itself,
}

impl<P: Platform> Tracker<P> {
    /// Takes out the objects in the way of a new block, beginning with the one that `address` lies in. One walk over the block's
    /// memory finds them all; if it began anew after each, many small ones under a large one would take as many walks.
    #[cold]
    pub(super) fn evict_from(
        &self,
        new: Extent,
        record: &Record,
        address: usize,
        meta: &MetaAlloc<'_>,
    ) -> Evicted {
        let first = self.evict(new, record, address, meta);
        if first != Evicted::Some {
            return first;
        }
        let mut next = address;
        loop {
            let from = new.start().chunk().max(chunk_of(next).saturating_sub(1));
            match self.registry.look_beyond(from, new.last().get()) {
                Err(Refused::Overlaps(address)) => next = address,
                _ => return Evicted::Some,
            }
            if self.evict(new, record, next, meta) != Evicted::Some {
                // The next insertion finds out why.
                return Evicted::Some;
            }
        }
    }

    /// Takes out the block that `address` lies in, which was freed without a callback.
    #[cold]
    fn evict(&self, new: Extent, record: &Record, address: usize, meta: &MetaAlloc<'_>) -> Evicted {
        let old = self
            .registry
            .containing(Locked, address, |object| (object.start, object.owner()));
        let Some((start, owner)) = old else {
            return match self.registry.make_way(address, meta) {
                true => Evicted::Some,
                false => Evicted::None,
            };
        };
        let block = owner.unwrap_or(start);
        let own = record.has(flag::ALIAS) && alias_owner(record) == block;
        if own && start == new.start().get() {
            return Evicted::Itself;
        }
        // A block does not make room for its own copies. And an object with the handle of an alias whose block is gone may be
        // another block.
        let goes = !own
            && match owner {
                Some(owner) => self.registry.percpu_at(Locked, owner, |_| ()).is_some(),
                None => true,
            };
        let block_gone = goes && self.evict_block(new, block, meta);
        // The platform may know nothing any more of a block that was freed without a callback.
        let alias_gone = owner.is_some_and(|owner| {
            Address::new(start).is_some_and(|copy| self.registry.remove_alias(copy, owner, meta))
        });
        if block_gone || alias_gone {
            Evicted::Some
        } else {
            Evicted::None
        }
    }

    /// Takes out the block at `start`, which was freed without a callback. False if it is not there any more.
    #[cold]
    fn evict_block(&self, new: Extent, start: usize, meta: &MetaAlloc<'_>) -> bool {
        let Some(address) = Address::new(start) else {
            return false;
        };
        self.before_free(start);
        let Some(removed) = self.registry.remove(address, meta) else {
            return false;
        };
        self.hazard.wait(start);
        if removed.has(flag::PERCPU) {
            self.remove_copies(address, meta);
        }
        self.missed_frees.fetch_add(1, Relaxed);
        let stack_ids = (removed.stack_id(), StackId::NONE);
        self.warn(Kind::Overlap, new.start().get(), stack_ids, meta);
        true
    }
}
