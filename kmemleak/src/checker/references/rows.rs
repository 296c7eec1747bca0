//! The words of an answer, in metadata.

use core::cell::Cell;

use super::near_misses::NearMisses;
use super::slot::{Slot, SlotPlace};
use crate::metadata::MetaAlloc;
use crate::metadata::hidden::Hidden;
use crate::metadata::page_vec::PageVec;
use crate::platform::{Root, RootKind};

/// A word that was found.
struct FoundWord {
    /// Where it lies.
    slot: Hidden,
    /// The start and the size of what it lies in.
    start: Hidden,
    len: usize,
    found_in: FoundIn,
    /// The object that it points to.
    object: Hidden,
    /// The next row of the path.
    next: Cell<Option<u32>>,
}

/// What a word lies in.
enum FoundIn {
    Root(RootKind),
    /// An object, which the row with this number has found.
    Object(u32),
    /// None: the object that the word would point to is a root itself.
    ByDecree,
}

/// The words that were found.
pub(crate) struct References {
    rows: PageVec<FoundWord>,
    /// Whether some found no room.
    pub(super) short: bool,
    /// Words that almost lead to the object that was asked about.
    pub(super) near_misses: NearMisses,
}

/// Where a word lies.
#[derive(Clone, Copy)]
pub(super) enum Origin {
    Root(Root),
    /// An object, which the row with this number has found.
    Object {
        start: usize,
        size: usize,
        row: usize,
    },
    ByDecree,
}

impl References {
    pub(crate) const fn new() -> Self {
        Self {
            rows: PageVec::new(),
            short: false,
            near_misses: NearMisses::new(),
        }
    }

    /// Forgets everything; its owner gives the memory back.
    pub(crate) fn empty(&mut self) {
        self.rows.empty();
        self.near_misses.empty();
    }

    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.short = false;
        self.near_misses.clear();
    }

    pub(super) fn slot(&self, row: usize) -> Option<Slot> {
        let word = self.rows.get(row)?;
        let (start, len) = (word.start.get(), word.len);
        Some(Slot {
            address: word.slot.get(),
            place: match word.found_in {
                FoundIn::Root(kind) => SlotPlace::Root(Root { kind, start, len }),
                FoundIn::Object(_) | FoundIn::ByDecree => SlotPlace::Object { start, size: len },
            },
        })
    }

    pub(super) fn push(
        &mut self,
        slot: usize,
        origin: Origin,
        object: usize,
        meta: &MetaAlloc<'_>,
    ) -> Option<usize> {
        let (start, len, found_in) = match origin {
            Origin::Root(root) => (root.start, root.len, FoundIn::Root(root.kind)),
            Origin::Object { start, size, row } => (start, size, FoundIn::Object(row as u32)),
            Origin::ByDecree => (0, 0, FoundIn::ByDecree),
        };
        let word = FoundWord {
            slot: Hidden::new(slot),
            start: Hidden::new(start),
            len,
            found_in,
            object: Hidden::new(object),
            next: Cell::new(None),
        };
        let pushed = self.rows.push(word, meta);
        self.short |= pushed.is_err();
        pushed.ok()
    }

    /// The row of the object that a row's word lies in; none if the word lies in a root.
    fn before(&self, row: usize) -> Option<usize> {
        let FoundIn::Object(before) = self.rows.get(row)?.found_in else {
            return None;
        };
        let found_in = &self.rows.get(before as usize)?.found_in;
        (!matches!(found_in, FoundIn::ByDecree)).then_some(before as usize)
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The start of the object that the word of a row points to.
    pub(super) fn object(&self, row: usize) -> Option<usize> {
        self.rows.get(row).map(|word| word.object.get())
    }

    /// Links the rows of the path that ends with the last row, from its beginning on, and returns the first one.
    pub(super) fn link_path(&mut self) -> Option<usize> {
        let mut row = self.rows.len().checked_sub(1)?;
        while let Some(before) = self.before(row) {
            self.rows.get(before)?.next.set(Some(row as u32));
            row = before;
        }
        Some(row)
    }

    /// The row that follows a row of the path.
    pub(super) fn next(&self, row: usize) -> Option<usize> {
        self.rows.get(row)?.next.get().map(|next| next as usize)
    }
}
