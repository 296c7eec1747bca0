//! Divides an object's notes when it is freed in part.

use super::SideTable;
use super::note::{
    AREA, EXCESS, FIRST, KIND, Loose, Note, READING, REFERENCES, SECOND, SIZE, UNALIGNED,
};
use crate::metadata::MetaAlloc;
use crate::metadata::kept::Kept;

/// What remains of an object that is freed in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The bytes of the object.
    pub(crate) size: usize,
    /// How many bytes remain at its start, the front; zero if none.
    pub(crate) front: usize,
    /// The offset at which the part that remains at its end begins, the tail; the object's size if there is none.
    pub(crate) tail: usize,
}

/// The result of dividing the notes of an object that is cut.
pub(crate) struct Divided {
    /// Whether all notes of the front were kept.
    pub(crate) front: Kept,
    /// The notes of the tail, which are in no bucket yet.
    pub(crate) tail: Loose,
    /// Whether all notes of the tail were kept.
    pub(crate) kept: Kept,
    /// Whether the tail has an excess reference, for the flag in its record.
    pub(crate) excess: bool,
    /// Whether the tail should have a note of how many references it needs, but there was no memory for one.
    pub(crate) uncounted: bool,
}

/// Areas of a part, and whether they are complete.
type PartAreas = (Loose, bool);

/// Adds the areas of a part to its notes. If they are not complete, the part gets none, and all of it is scanned.
fn keep((mut areas, complete): PartAreas, side_table: &mut Loose, spare: &mut Loose) -> Kept {
    while let Some(note) = areas.pop() {
        if complete {
            &mut *side_table
        } else {
            &mut *spare
        }
        .push(note);
    }
    match complete {
        true => Kept::Yes,
        false => Kept::NoMemory,
    }
}

impl SideTable {
    /// Divides the notes of an object that is cut, and leaves it those of its front. Its chunk is locked, or the object has
    /// been taken out of it. Code that looks for its areas meanwhile may find none, and scan all of the object.
    ///
    /// If only one part remains, no memory is needed: so the end of a block can be trimmed without memory.
    pub(crate) fn divide(&self, start: usize, cut: Cut, meta: &MetaAlloc<'_>) -> Divided {
        let mut all = self.take_where(start, |kind| kind != UNALIGNED);
        let (mut areas, mut front) = (Loose::NONE, Loose::NONE);
        let mut divided = Divided {
            front: Kept::Yes,
            tail: Loose::NONE,
            kept: Kept::Yes,
            excess: false,
            uncounted: false,
        };
        // Whether there was no memory to note how the tail is read.
        let mut unread = false;
        let mut spare = Loose::NONE;
        while let Some(note) = all.pop() {
            match note.get(KIND) {
                AREA => areas.push(note),
                SIZE => {
                    let (part, size) = match cut.front {
                        0 => (&mut divided.tail, cut.size - cut.tail),
                        bytes => (&mut front, bytes),
                    };
                    note.set(FIRST, size as u64);
                    let short = u32::try_from(size).is_ok_and(|size| size < u32::MAX);
                    if short { &mut spare } else { part }.push(note);
                }
                kind if cut.front == 0 => {
                    divided.excess |= kind == EXCESS;
                    divided.tail.push(note);
                }
                kind => {
                    // What holds for both parts.
                    if matches!(kind, REFERENCES | READING) && cut.tail < cut.size {
                        match self.make(kind, meta) {
                            Some(copy) => {
                                copy.set(FIRST, note.get(FIRST));
                                let found = kind == REFERENCES;
                                copy.set(SECOND, if found { 0 } else { note.get(SECOND) });
                                divided.tail.push(copy);
                            }
                            None if kind == REFERENCES => divided.uncounted = true,
                            None => unread = true,
                        }
                    }
                    front.push(note);
                }
            }
        }
        if !areas.is_empty() {
            let parts = [
                (cut.front > 0).then_some((0, cut.front)),
                (cut.tail < cut.size).then_some((cut.tail, cut.size)),
            ];
            let (of_front, of_tail) = self.divide_areas(areas, parts, &mut spare, meta);
            divided.front = keep(of_front, &mut front, &mut spare);
            divided.kept = keep(of_tail, &mut divided.tail, &mut spare);
        }
        if divided.uncounted || unread {
            divided.kept = Kept::NoMemory;
        }
        self.give_back(spare, meta);
        self.attach(front, start);
        divided
    }

    /// The areas of each part, cut to it. A part that no area reaches into gets an empty one, since all of a part without
    /// areas is scanned. If there is no memory for an area, those of its part are not complete.
    fn divide_areas(
        &self,
        mut areas: Loose,
        parts: [Option<(usize, usize)>; 2],
        spare: &mut Loose,
        meta: &MetaAlloc<'_>,
    ) -> (PartAreas, PartAreas) {
        let mut lists = [Loose::NONE, Loose::NONE];
        let mut complete = [true; 2];
        let set = |note: Note, (first, last): (usize, usize), from: usize| {
            note.set(FIRST, (first - from) as u64);
            note.set(SECOND, (last - first) as u64);
        };
        while let Some(note) = areas.pop() {
            let offset = note.get(FIRST) as usize;
            let area = (offset, offset + note.get(SECOND) as usize);
            // The note itself goes to the first part that the area reaches into.
            let mut own = Some(note);
            for (index, part) in parts.into_iter().enumerate() {
                let Some(part) = part else { continue };
                let within = (area.0.max(part.0), area.1.min(part.1));
                if within.0 >= within.1 {
                    continue;
                }
                match own.take().or_else(|| self.make(AREA, meta)) {
                    Some(note) => {
                        set(note, within, part.0);
                        lists[index].push(note);
                    }
                    None => complete[index] = false,
                }
            }
            if let Some(note) = own {
                spare.push(note);
            }
        }
        for (index, part) in parts.into_iter().enumerate() {
            if part.is_some() && lists[index].is_empty() {
                match spare.pop().or_else(|| self.make(AREA, meta)) {
                    Some(note) => {
                        note.set(KIND, AREA);
                        set(note, (0, 0), 0);
                        lists[index].push(note);
                    }
                    None => complete[index] = false,
                }
            }
        }
        let [front, tail] = lists;
        ((front, complete[0]), (tail, complete[1]))
    }
}
