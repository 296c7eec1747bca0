//! Notes: what only a few objects need, stored beside the page map so that records stay small.
//!
//! - objects that start at no multiple of eight bytes, with their records;
//! - areas to which the scan of an object is limited;
//! - sizes that need more than 32 bits;
//! - how many references an object needs, and how many were found, if it needs more than a record can count;
//! - how an object is read whose pointers are not stored as plain words;
//! - excess references: the object that pointers to this one count for, beyond those it needs; how many a pass has found.
//!
//! A note is a piece of eight words in a [hash table](buckets) by granule: 0 kind, 1 next note, 2 start of the object (inverted),
//! 3 … what it says. So the notes of an object are found at once, and the unaligned objects of a chunk granule by granule.
//!
//! # Locks
//!
//! One, taken under the lock of a chunk, with interrupts off. A note that holds a record stays while the chunk's lock is held.

mod buckets;
mod divide;
mod note;
mod reading;

use core::sync::atomic::Ordering;

use self::buckets::Buckets;
pub(crate) use self::divide::Cut;
use self::note::{AREA, EXCESS, FIRST, KIND, Note, REFERENCES, SECOND, SIZE, START, UNALIGNED};
pub(crate) use self::note::{Loose, Unaligned};
use crate::atomic::{AtomicUsize, Lock};
use crate::metadata::MetaAlloc;
use crate::metadata::hidden::Hidden;
use crate::metadata::kept::Kept;
use crate::objects::chunk::GRANULE;
use crate::objects::page_map::{CHUNK, ChunkNumber, address_of};
use crate::objects::record::Record;

/// A part of an object that is scanned, if not all of the object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Area {
    pub(crate) offset: usize,
    pub(crate) len: usize,
}

/// Pointers to an object that has an excess reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// How many pointers to the object a pass has found so far.
    pub(crate) number: u64,
    /// The other object, for which pointers count that this object does not need.
    pub(crate) other: usize,
}

/// Granules of a chunk.
const CHUNK_GRANULES: usize = CHUNK / GRANULE;

/// Which granule of a chunk an address lies in; `None` if it lies behind the chunk.
fn granule_index(chunk: ChunkNumber, address: usize) -> Option<usize> {
    let index = address.saturating_sub(address_of(chunk)) / GRANULE;
    (index < CHUNK_GRANULES).then_some(index)
}

/// The notes of unaligned objects that start in a granule.
fn unaligned_in(buckets: &Buckets, granule: usize) -> impl Iterator<Item = Note> {
    let all = buckets.each(granule);
    all.filter(move |note| note.get(KIND) == UNALIGNED && note.start() & !(GRANULE - 1) == granule)
}

/// All notes.
pub(crate) struct SideTable {
    buckets: Lock<Buckets>,
    /// The number of notes; if zero, the lock is not taken. Relaxed: changed under the lock. The notes of an object are added
    /// and looked for under the lock of its chunk, or by code that has learned of the object afterwards.
    count: AtomicUsize,
}

impl SideTable {
    pub(crate) const fn new() -> Self {
        Self {
            buckets: Lock::new(Buckets::new()),
            count: AtomicUsize::new(0),
        }
    }

    fn add(&self, start: usize, kind: u64, meta: &MetaAlloc<'_>, fill: impl FnOnce(Note)) -> Kept {
        let Some(note) = Note::take(meta) else {
            return Kept::NoMemory;
        };
        note.set(KIND, kind);
        note.set(START, Hidden::new(start).bits());
        fill(note);
        let mut buckets = self.buckets.lock();
        buckets.push(note);
        if self.count.fetch_add(1, Ordering::Relaxed) >= buckets.len() {
            buckets.grow(meta);
        }
        Kept::Yes
    }

    /// Calls `look` with each note of the object at `start`, under the lock.
    fn each(&self, start: usize, look: &mut dyn FnMut(Note)) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let buckets = self.buckets.lock();
        let all = buckets.each(start);
        all.filter(|note| note.start() == start).for_each(look);
    }

    /// Takes the notes of an object whose kinds are `wanted` out of their bucket.
    fn take_where(&self, start: usize, wanted: impl Fn(u64) -> bool) -> Loose {
        let mut taken = Loose::NONE;
        if self.count.load(Ordering::Relaxed) == 0 {
            return taken;
        }
        let mut buckets = self.buckets.lock();
        let mut before = None;
        let mut next = buckets.each(start).next();
        while let Some(note) = next {
            next = Note::at(note.link());
            if note.start() == start && wanted(note.get(KIND)) {
                buckets.unlink(note, before);
                taken.push(note);
            } else {
                before = Some(note);
            }
        }
        taken
    }

    /// Puts loose notes into the bucket of the object at `start`.
    pub(crate) fn attach(&self, mut loose: Loose, start: usize) {
        // The first of several notes of a kind counts, so their order is kept.
        let mut turned = Loose::NONE;
        while let Some(note) = loose.pop() {
            turned.push(note);
        }
        let mut buckets = self.buckets.lock();
        while let Some(note) = turned.pop() {
            note.set(START, Hidden::new(start).bits());
            buckets.push(note);
        }
    }

    fn make(&self, kind: u64, meta: &MetaAlloc<'_>) -> Option<Note> {
        let note = Note::take(meta)?;
        note.set(KIND, kind);
        self.count.fetch_add(1, Ordering::Relaxed);
        Some(note)
    }

    pub(crate) fn give_back(&self, mut loose: Loose, meta: &MetaAlloc<'_>) {
        while let Some(note) = loose.pop() {
            self.count.fetch_sub(1, Ordering::Relaxed);
            note.give_back(meta);
        }
    }

    /// Takes the notes of an object whose kinds `drop` selects out of their bucket, and gives them back.
    fn drop_where(&self, start: usize, drop: impl Fn(u64) -> bool, meta: &MetaAlloc<'_>) {
        self.give_back(self.take_where(start, drop), meta);
    }

    /// Takes the notes of an object that can go with it to another place: all but its size, and the record of an unaligned one.
    pub(crate) fn detach(&self, start: usize) -> Loose {
        self.take_where(start, |kind| kind != UNALIGNED && kind != SIZE)
    }

    /// Takes out the note that holds an unaligned object's record, for use by [`SideTable::put_unaligned`].
    pub(crate) fn take_unaligned(&self, start: usize) -> Loose {
        self.take_where(start, |kind| kind == UNALIGNED)
    }

    /// Adds an unaligned object at `start`, in a note that another unaligned object had.
    pub(crate) fn put_unaligned(&self, unaligned: Loose, start: usize, record: &Record, mark: u64) {
        if let Some(note) = Note::at(unaligned.0) {
            note.set(FIRST, mark);
            note.unaligned().record.write(record);
        }
        self.attach(unaligned, start);
    }

    /// Adds an unaligned object, in a new note.
    pub(crate) fn add_unaligned(
        &self,
        start: usize,
        record: &Record,
        mark: u64,
        meta: &MetaAlloc<'_>,
    ) -> Kept {
        self.add(start, UNALIGNED, meta, |note| {
            note.set(FIRST, mark);
            note.unaligned().record.write(record);
        })
    }

    /// Removes the note of an unaligned object.
    pub(crate) fn drop_unaligned(&self, start: usize, meta: &MetaAlloc<'_>) {
        self.drop_where(start, |kind| kind == UNALIGNED, meta);
    }

    /// Calls `look` with the unaligned objects of a chunk, which is open. The table is not locked: `look` may ask for notes.
    pub(crate) fn each_unaligned(&self, chunk: ChunkNumber, look: &mut dyn FnMut(Unaligned<'_>)) {
        let mut from = address_of(chunk);
        while let Some(unaligned) = self.unaligned_from(chunk, from) {
            look(unaligned);
            from = unaligned.start + 1;
        }
    }

    /// The first unaligned object of a chunk that starts at `address` or after.
    pub(crate) fn unaligned_from<'a>(
        &self,
        chunk: ChunkNumber,
        address: usize,
    ) -> Option<Unaligned<'a>> {
        let (first, from) = (address_of(chunk), address.max(address_of(chunk)));
        let granules = (0..CHUNK_GRANULES).map(|number| first + number * GRANULE);
        let mut granules = granules.skip(granule_index(chunk, from)?);
        let buckets = self.buckets.lock();
        let found = granules.find_map(|granule| {
            let all = unaligned_in(&buckets, granule).filter(|note| note.start() >= from);
            all.min_by_key(|note| note.start())
        });
        found.map(Note::unaligned)
    }

    /// The last unaligned object of a chunk that starts at `address` or before.
    pub(crate) fn unaligned_at_or_before<'a>(
        &self,
        chunk: ChunkNumber,
        address: usize,
    ) -> Option<Unaligned<'a>> {
        let first = address_of(chunk);
        let last = granule_index(chunk, address).unwrap_or(CHUNK_GRANULES - 1);
        let granules = (0..=last).rev();
        let mut granules = granules.map(|number| first + number * GRANULE);
        let buckets = self.buckets.lock();
        let found = granules.find_map(|granule| {
            let all = unaligned_in(&buckets, granule).filter(|note| note.start() <= address);
            all.max_by_key(|note| note.start())
        });
        found.map(Note::unaligned)
    }

    /// Whether a chunk has unaligned objects.
    pub(crate) fn has_unaligned(&self, chunk: ChunkNumber) -> bool {
        self.unaligned_from(chunk, address_of(chunk)).is_some()
    }

    /// Adds an area.
    pub(crate) fn add_area(&self, start: usize, area: Area, meta: &MetaAlloc<'_>) -> Kept {
        self.add(start, AREA, meta, |note| {
            note.set(FIRST, area.offset as u64);
            note.set(SECOND, area.len as u64);
        })
    }

    /// The area of an object with this number, counted from the area that was added last.
    pub(crate) fn area(&self, start: usize, number: usize) -> Option<Area> {
        let (mut found, mut seen) = (None, 0);
        self.each(start, &mut |note| {
            if note.get(KIND) == AREA {
                if seen == number {
                    found = Some(Area {
                        offset: note.get(FIRST) as usize,
                        len: note.get(SECOND) as usize,
                    });
                }
                seen += 1;
            }
        });
        found
    }

    /// Forgets the areas of an object.
    pub(crate) fn drop_areas(&self, start: usize, meta: &MetaAlloc<'_>) {
        self.drop_where(start, |kind| kind == AREA, meta);
    }

    fn add_word(&self, start: usize, kind: u64, word: u64, meta: &MetaAlloc<'_>) -> Kept {
        self.add(start, kind, meta, |note| note.set(FIRST, word))
    }

    /// Adds a note with the size of an object.
    pub(crate) fn add_size(&self, start: usize, size: usize, meta: &MetaAlloc<'_>) -> Kept {
        self.add_word(start, SIZE, size as u64, meta)
    }

    /// The size of an object, if a note has it.
    pub(crate) fn size(&self, start: usize) -> Option<usize> {
        self.with_note(start, SIZE, |note| note.get(FIRST) as usize)
    }

    /// Adds a note with how many references an object needs.
    pub(crate) fn add_references(&self, start: usize, needed: i32, meta: &MetaAlloc<'_>) -> Kept {
        self.add(start, REFERENCES, meta, |note| {
            note.set(FIRST, needed as u64);
            note.set(SECOND, 0);
        })
    }

    /// Calls `work` with an object's note of this kind, the one that was added last, if there is one.
    fn with_note<R>(&self, start: usize, kind: u64, mut work: impl FnMut(Note) -> R) -> Option<R> {
        let mut result = None;
        self.each(start, &mut |note| {
            if result.is_none() && note.get(KIND) == kind {
                result = Some(work(note));
            }
        });
        result
    }

    /// How many references an object needs, and how many were found, if a note has the numbers.
    pub(crate) fn references(&self, start: usize) -> Option<(i32, u32)> {
        self.with_note(start, REFERENCES, |note| {
            (note.get(FIRST) as i32, note.get(SECOND) as u32)
        })
    }

    /// Counts one more reference that was found. Whether there are as many as the object needs; `None` if there is no note.
    pub(crate) fn count_reference(&self, start: usize) -> Option<bool> {
        self.with_note(start, REFERENCES, |note| {
            let found = note.get(SECOND) + 1;
            note.set(SECOND, found);
            found >= note.get(FIRST)
        })
    }

    /// Sets the number of references found to zero.
    pub(crate) fn reset_count(&self, start: usize) {
        self.with_note(start, REFERENCES, |note| note.set(SECOND, 0));
    }

    /// Notes that pointers to this object beyond those it needs count for the one at `other`.
    pub(crate) fn add_excess(&self, start: usize, other: usize, meta: &MetaAlloc<'_>) -> Kept {
        self.add(start, EXCESS, meta, |note| {
            note.set(FIRST, Hidden::new(other).bits());
            note.set(SECOND, 0);
        })
    }

    /// Counts one more pointer to an object that has an excess reference. `None` if it has none.
    pub(crate) fn arrive(&self, start: usize) -> Option<Arrival> {
        self.with_note(start, EXCESS, |note| {
            let number = note.get(SECOND) + 1;
            note.set(SECOND, number);
            Arrival {
                number,
                other: Hidden::from_bits(note.get(FIRST)).get(),
            }
        })
    }

    /// The pointers to an object with an excess reference that the last pass has found. `None` if it has no such reference.
    pub(crate) fn arrivals(&self, start: usize) -> Option<Arrival> {
        self.with_note(start, EXCESS, |note| Arrival {
            number: note.get(SECOND),
            other: Hidden::from_bits(note.get(FIRST)).get(),
        })
    }

    /// Sets the number of pointers found to an object with an excess reference to zero, for a new pass.
    pub(crate) fn reset_arrivals(&self, start: usize) {
        self.with_note(start, EXCESS, |note| note.set(SECOND, 0));
    }

    /// Removes all of an object's notes, except the one that holds the record of an unaligned object.
    pub(crate) fn drop_all(&self, start: usize, meta: &MetaAlloc<'_>) {
        self.drop_where(start, |kind| kind != UNALIGNED, meta);
    }

    /// Forgets everything; the memory is given back by its owner.
    pub(crate) fn empty(&self) {
        *self.buckets.lock() = Buckets::new();
        self.count.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
