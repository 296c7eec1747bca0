//! How objects are read whose pointers are not stored as plain words.

use super::SideTable;
use super::note::{FIRST, Note, READING, SECOND};
use crate::metadata::MetaAlloc;
use crate::metadata::kept::Kept;
use crate::platform::Reading;

const PHYSICAL: u64 = 1;
const BYTES: u64 = 2;
const DESCRIPTOR_TABLE: u64 = 3;
const TASK_STATE: u64 = 4;

fn write(note: Note, reading: Reading) {
    let (kind, mask) = match reading {
        Reading::Words => (0, 0),
        Reading::Physical { mask } => (PHYSICAL, mask),
        Reading::Bytes => (BYTES, 0),
        Reading::DescriptorTable => (DESCRIPTOR_TABLE, 0),
        Reading::TaskState => (TASK_STATE, 0),
    };
    note.set(FIRST, kind);
    note.set(SECOND, mask as u64);
}

fn read(note: Note) -> Reading {
    match note.get(FIRST) {
        PHYSICAL => Reading::Physical {
            mask: note.get(SECOND) as usize,
        },
        BYTES => Reading::Bytes,
        DESCRIPTOR_TABLE => Reading::DescriptorTable,
        TASK_STATE => Reading::TaskState,
        _ => Reading::Words,
    }
}

impl SideTable {
    /// Notes how an object is read. It may have such a note already. No memory is needed to forget it.
    pub(crate) fn set_reading(&self, start: usize, reading: Reading, meta: &MetaAlloc<'_>) -> Kept {
        if reading == Reading::Words {
            self.drop_where(start, |kind| kind == READING, meta);
            return Kept::Yes;
        }
        let changed = self.with_note(start, READING, |note| write(note, reading));
        match changed {
            Some(()) => Kept::Yes,
            None => self.add(start, READING, meta, |note| write(note, reading)),
        }
    }

    /// How an object is read.
    pub(crate) fn reading(&self, start: usize) -> Reading {
        self.with_note(start, READING, read).unwrap_or_default()
    }
}
