//! What an answer shows: a word, and where it lies.

use crate::platform::Root;

/// A word that points into an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its address.
    pub address: usize,
    /// What it lies in.
    pub place: SlotPlace,
}

impl Slot {
    /// Where it is in its object; `None` in a root, and in another copy of a per-CPU block than the one that has its
    /// handle.
    pub(crate) fn offset(&self) -> Option<usize> {
        let SlotPlace::Object { start, size } = self.place else {
            return None;
        };
        let offset = self.address.checked_sub(start)?;
        (offset < size).then_some(offset)
    }
}

/// What a word lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotPlace {
    /// A root.
    Root(Root),
    /// A tracked object.
    Object {
        /// Its address.
        start: usize,
        /// Its bytes.
        size: usize,
    },
}
