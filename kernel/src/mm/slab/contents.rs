//! A look at all slots of all slabs, where freed blocks are poisoned.

use core::ptr;

use super::guard::Guarded;
use super::slabs::slab_of;
use crate::mm::frame;
use crate::mm::page::{Freed, freed};

/// Looks at all objects of slabs, those in use and the free ones, and tells what was overwritten. Returns how many there are;
/// `None` where freed blocks are not poisoned. Task context: it takes a while, with interrupts off for as long as one slab takes.
pub fn check_contents() -> Option<usize> {
    if freed() != Freed::Poisoned {
        return None;
    }
    let mut objects = 0;
    for number in 0..frame::frames().len() as u32 {
        objects += check_slab(frame::address_of(number));
    }
    Some(objects)
}

/// Looks at the objects of the slab that begins at `address`, if one does, and returns how many there are.
fn check_slab(address: usize) -> usize {
    let begins_here = || frame::frame_of(address).and_then(frame::Frame::slab) == Some(address);
    if !begins_here() {
        return 0;
    }
    let Ok(slab) = slab_of(address) else { return 0 };
    let cache = slab.cache;
    let _stays = cache.slabs.lock();
    // It may have been given back before the lock was taken; under it, it is not.
    if !begins_here() || !ptr::eq(slab.cache, cache) {
        return 0;
    }
    let objects = slab.layout.objects as usize;
    (0..objects).for_each(|index| Guarded::new(slab, index).check());
    objects
}
