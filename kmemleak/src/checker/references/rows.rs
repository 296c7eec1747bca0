//! The words of an answer, in metadata.

use crate::checker::references::{Slot, SlotPlace};
use crate::metadata::MetaAlloc;
use crate::metadata::hidden::Hidden;
use crate::metadata::page_vec::Paged;
use crate::platform::{Root, RootKind};

/// Words of a row: the address of the word, inverted; where the root or the object starts that it lies in, inverted;
/// what kind of root that is, or [`IN_OBJECT`], and in the upper bits its number, or the row by which that object was
/// found; its length; the object that the word points to, inverted; the next row of the path.
const ROW: usize = 6;
const SLOT: usize = 0;
const BASE: usize = 1;
const KIND: usize = 2;
const LEN: usize = 3;
const OBJECT: usize = 4;
const NEXT: usize = 5;

const NUMBER_SHIFT: u32 = 8;
const IN_OBJECT: u64 = 0;
/// Of an object that is a root by itself: there is no word.
const BY_DECREE: u64 = 7;

fn encode(kind: RootKind) -> u64 {
    match kind {
        RootKind::Section => 1,
        RootKind::PerCpu(cpu) => 2 | u64::from(cpu) << NUMBER_SHIFT,
        RootKind::Frames(first) => 3 | first << NUMBER_SHIFT,
        RootKind::Stack(task) => 4 | u64::from(task) << NUMBER_SHIFT,
        RootKind::Registers(cpu) => 5 | u64::from(cpu) << NUMBER_SHIFT,
        RootKind::Region => 6,
    }
}

fn decode(kind: u64) -> Option<RootKind> {
    let number = kind >> NUMBER_SHIFT;
    Some(match kind & ((1 << NUMBER_SHIFT) - 1) {
        1 => RootKind::Section,
        2 => RootKind::PerCpu(number as u32),
        3 => RootKind::Frames(number),
        4 => RootKind::Stack(number as u32),
        5 => RootKind::Registers(number as u32),
        6 => RootKind::Region,
        _ => return None,
    })
}

/// The words that were found.
pub(crate) struct References {
    rows: Paged<ROW>,
    /// Some found no room.
    pub(super) short: bool,
}

/// Where a word lies.
#[derive(Clone, Copy)]
pub(super) enum Origin {
    Root(Root),
    /// An object, which this row has found.
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
            rows: Paged::new(),
            short: false,
        }
    }

    /// Forgets everything; the memory is given back by its owner.
    pub(crate) fn empty(&mut self) {
        self.rows.empty();
    }

    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.short = false;
    }

    pub(super) fn slot(&self, row: usize) -> Slot {
        let rows = &self.rows;
        let hidden = |word| Hidden::from_bits(rows.get(row, word)).get();
        let (start, len) = (hidden(BASE), rows.get(row, LEN) as usize);
        Slot {
            address: hidden(SLOT),
            place: match decode(rows.get(row, KIND)) {
                Some(kind) => SlotPlace::Root(Root { kind, start, len }),
                None => SlotPlace::Object { start, size: len },
            },
        }
    }

    pub(super) fn push(
        &mut self,
        slot: usize,
        origin: Origin,
        object: usize,
        meta: &MetaAlloc<'_>,
    ) -> Option<usize> {
        let (base, kind, len) = match origin {
            Origin::Root(root) => (root.start, encode(root.kind), root.len),
            Origin::Object { start, size, row } => {
                (start, IN_OBJECT | (row as u64) << NUMBER_SHIFT, size)
            }
            Origin::ByDecree => (0, BY_DECREE, 0),
        };
        let mut row = [0; ROW];
        row[SLOT] = Hidden::new(slot).bits();
        row[BASE] = Hidden::new(base).bits();
        row[KIND] = kind;
        row[LEN] = len as u64;
        row[OBJECT] = Hidden::new(object).bits();
        let pushed = self.rows.push(row, meta);
        self.short |= pushed.is_none();
        pushed
    }

    /// The row by which the object was found that a row's word lies in; none if that is in a root.
    fn before(&self, row: usize) -> Option<usize> {
        let kind = self.rows.get(row, KIND);
        let in_object = kind & ((1 << NUMBER_SHIFT) - 1) == IN_OBJECT;
        let before = (kind >> NUMBER_SHIFT) as usize;
        let by_decree = in_object && self.rows.get(before, KIND) == BY_DECREE;
        (in_object && !by_decree).then_some(before)
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Where the object starts that the word of a row points to.
    pub(super) fn object(&self, row: usize) -> usize {
        Hidden::from_bits(self.rows.get(row, OBJECT)).get()
    }

    /// Links the rows of the way that ends with the last row, from its beginning on, and gives the first one.
    pub(super) fn link_path(&mut self) -> Option<usize> {
        let mut row = self.rows.len().checked_sub(1)?;
        self.rows.set(row, NEXT, NO_ROW);
        while let Some(before) = self.before(row) {
            self.rows.set(before, NEXT, row as u64);
            row = before;
        }
        Some(row)
    }

    /// The row behind a row of the way.
    pub(super) fn next(&self, row: usize) -> Option<usize> {
        Some(self.rows.get(row, NEXT))
            .filter(|&next| next != NO_ROW)
            .map(|next| next as usize)
    }
}

const NO_ROW: u64 = u64::MAX;
