//! An entry of an answer: a word, and where it lies.

use crate::platform::Root;

/// A word that points into an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its address.
    pub address: usize,
    /// What the word lies in.
    pub place: SlotPlace,
}

impl Slot {
    /// Its offset in its object; `None` in a root, and in a copy of a per-CPU block other than the one whose address is the
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
