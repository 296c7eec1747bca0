//! Slots: words that name recently used entries, which are found without a walk.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::atomic::AtomicU64;
use crate::metadata::hidden::Hidden;
use crate::stacks::depot::entry::StackEntry;

/// A word that names an entry with links, or no entry. It publishes the entry: [`name`](Self::name) stores it with Release,
/// [`get`](Self::get) loads it with Acquire.
pub(super) struct StackSlot(AtomicU64);

impl StackSlot {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(Hidden::NONE.bits()))
    }

    #[inline(always)]
    pub(super) fn get(&self) -> Option<StackEntry> {
        match Hidden::from_bits(self.0.load(Acquire)) {
            Hidden::NONE => None,
            entry => {
                // SAFETY: `name` has hidden it.
                let place = unsafe { entry.place() };
                // SAFETY: it is the place of an entry.
                Some(unsafe { StackEntry::from_place(place) })
            }
        }
    }

    /// Makes the slot name an entry; does nothing if the entry has no links.
    pub(super) fn name(&self, entry: StackEntry) {
        if entry.has_links() {
            self.0.store(Hidden::of(entry.place()).bits(), Release);
        }
    }

    pub(super) fn clear(&self) {
        self.0.store(Hidden::NONE.bits(), Relaxed);
    }
}
