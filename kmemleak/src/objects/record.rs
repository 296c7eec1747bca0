//! Records: what is known of one object, in 28 bytes.
//!
//! A record lies in the chunk that its object starts in ([`crate::objects::chunk`]), or in a note beside it; its place
//! gives the object's address. Its seven words are atomics: they change under the lock of the chunk, but the marker reads them, and
//! sets flags and counts, on several CPUs at once. All of these accesses are Relaxed: the lock of the chunk orders what is written
//! under it, and the barriers of a pass order what one phase leaves to the next; a flag or a count publishes no other data.
//!
//! | word | what |
//! | --- | --- |
//! | 0 | bytes of the object; all ones where a note has them |
//! | 1 | call stack that allocated it |
//! | 2 | where it starts ([`start_note`]); once it was seen unreferenced, the checksum of its contents then |
//! | 3 | birth, in microseconds of the detector's time: low 32 bits |
//! | 4 | birth: the next 16 bits; flags in the upper half |
//! | 5 | task |
//! | 6 | name of the task (11 bits), whether its start was pointed to (1), CPU (12), birth: high 4 bits, references (4) |
//!
//! Births have 52 bits, 142 years of microseconds. So the number of references that an object needs and the number that a pass
//! has found share four bits ([`code`]), with a code for each pair that occurs. An object that needs more than [`MAX_INLINE`] has a
//! note with both numbers ([`crate::objects::side_table`]).

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use crate::atomic::AtomicU32;
use crate::stacks::depot::StackId;
use crate::stacks::task_names::Who;

/// Words of a record.
pub(crate) const RECORD_WORDS: usize = 7;

const _: () = assert!(size_of::<Record>() == 28);

/// Flags of a record.
pub(crate) mod flag {
    /// A further copy of a per-CPU block: the birth holds the address of the first copy.
    pub(crate) const ALIAS: u16 = 1 << 0;
    /// A per-CPU block: its further copies are aliases.
    pub(crate) const PERCPU: u16 = 1 << 1;
    /// Its contents are not scanned.
    pub(crate) const NO_SCAN: u16 = 1 << 2;
    /// The object has notes: areas, how it is read, the size, an excess reference.
    pub(crate) const NOTES: u16 = 1 << 3;
    /// Marked, but there was no room in the queue.
    pub(crate) const PENDING: u16 = 1 << 4;
    /// So far, only interior pointers to it were found; they are followed after the start pointers. It stays beside
    /// [`INTERIOR_ONLY`] where such a pointer comes from what start pointers reach: the object is held so first-hand.
    pub(crate) const INTERIOR: u16 = 1 << 5;
    /// The previous scan found it unreferenced; the record has the checksum from then.
    pub(crate) const PRIMED: u16 = 1 << 6;
    /// Suspected by all passes so far.
    pub(crate) const SUSPECT: u16 = 1 << 7;
    /// Listed in the verdict.
    pub(crate) const LISTED: u16 = 1 << 8;
    /// Has been reported. It stays on an object that `clear` has made gray.
    pub(crate) const REPORTED: u16 = 1 << 9;
    /// Reachable, but nothing points to its start: only interior pointers lead to it, from objects that start pointers reach.
    pub(crate) const INTERIOR_ONLY: u16 = 1 << 10;
    /// Allocated in an interrupt.
    pub(crate) const INTERRUPT: u16 = 1 << 11;
    /// Physical memory, which the platform maps.
    pub(crate) const PHYS: u16 = 1 << 12;

    /// On an object with [`EXCESS`]: reachable, but never marked, so that all pointers to it are counted. On another gray
    /// object: it lies in a root, and its words are read there.
    pub(crate) const REACHED: u16 = 1 << 13;

    /// Pointers to it beyond those that it needs count for another object: see [`crate::marker`].
    pub(crate) const EXCESS: u16 = 1 << 14;

    /// Allocated while a scan goes on, or what is left of one that was freed in part meanwhile: marked, and still to
    /// be scanned.
    pub(crate) const BORN: u16 = 1 << 15;

    /// In the record of an object that is gone and was no alias: the call stack that freed it is stored in place of the
    /// checksum.
    pub(crate) const FREED: u16 = ALIAS;

    /// The flags that passes set.
    pub(crate) const OF_PASSES: u16 = PENDING | INTERIOR | INTERIOR_ONLY | REACHED | BORN;

    /// The flags that the marker must look at before it marks or scans.
    pub(crate) const SPECIAL: u16 = ALIAS | PERCPU | NO_SCAN | NOTES | PHYS;
}

/// How many references an object needs, and how many of them were found.
pub(super) mod code {
    /// It is gray: no leak, however many references are found.
    pub(super) const GRAY: u32 = 0;
    pub(super) const ONE: u32 = 1;
    /// It is black: neither scanned nor reported.
    pub(super) const BLACK: u32 = 2;
    /// More than there are codes for: a note says how many.
    pub(super) const MANY: u32 = 3;
    /// Two, three or four are needed: the code for none found. The next codes stand for one found, two, and so on.
    const FEW: [u32; 3] = [4, 7, 11];

    /// The code of an object that needs `min_count` references (-1 for a black one), of which none was found.
    pub(super) const fn of(min_count: i32) -> u32 {
        match min_count {
            ..0 => BLACK,
            0 => GRAY,
            1 => ONE,
            2..=4 => FEW[min_count as usize - 2],
            5.. => MANY,
        }
    }

    /// How many are needed, as it was given to [`of`], and how many were found.
    pub(super) const fn parts(code: u32) -> (i32, u32) {
        match code {
            GRAY => (0, 0),
            ONE => (1, 0),
            BLACK => (-1, 0),
            MANY => (super::MANY, 0),
            4..7 => (2, code - FEW[0]),
            7..11 => (3, code - FEW[1]),
            _ => (4, code - FEW[2]),
        }
    }

    /// The code with the number needed of this one, and none found.
    pub(super) const fn whitened(code: u32) -> u32 {
        of(parts(code).0)
    }
}

/// The largest number of references needed for which a record has room.
pub(crate) const MAX_INLINE: i32 = 4;
/// What [`Record::min_count`] returns if the object needs more than [`MAX_INLINE`].
pub(crate) const MANY: i32 = MAX_INLINE + 1;
/// The largest number of references that an object may need.
pub(crate) const MAX_MIN_COUNT: i32 = 255;

/// Set in the last word if the pass has found a pointer to the start of the object. Used for objects that need several
/// references, or that interior pointers reached.
const STARTED: u32 = 1 << 11;
const BIRTH_SHIFT: u32 = 24;
const CODE_SHIFT: u32 = 28;
/// The bits of the last word that hold the birth's highest bits, and the code of the references.
const BIRTH_MASK: u32 = 0xf << BIRTH_SHIFT;
const CODE_MASK: u32 = 0xf << CODE_SHIFT;

const _: () = assert!(Who::MASK ^ STARTED ^ BIRTH_MASK ^ CODE_MASK == u32::MAX);

/// Bits of a time of birth, in microseconds: 142 years.
pub(crate) const BIRTH_BITS: u32 = 52;

/// What a record says of where its object starts: the lowest bits are enough, as only places of one chunk share a record.
/// Inverted, as all addresses in metadata.
#[inline(always)]
const fn start_note(start: usize) -> u32 {
    !start as u32
}

/// A copy of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record(pub(crate) [u32; RECORD_WORDS]);

impl Record {
    #[inline(always)]
    pub(crate) fn new(
        size: usize,
        stack_id: StackId,
        birth_us: u64,
        min_count: i32,
        flags: u16,
    ) -> Self {
        let mut record = Self([0; RECORD_WORDS]);
        record.set_size(size);
        record.0[1] = stack_id.0;
        record.set_birth(birth_us);
        record.0[4] |= u32::from(flags) << 16;
        record.set_min_count(min_count);
        record
    }

    /// The size, if it fits.
    pub(crate) fn set_size(&mut self, size: usize) {
        self.0[0] = u32::try_from(size).unwrap_or(u32::MAX);
    }

    /// Sets the birth, of which [`BIRTH_BITS`] bits are stored: the detector's time has no more.
    pub(crate) fn set_birth(&mut self, birth_us: u64) {
        self.0[3] = birth_us as u32;
        self.0[4] = self.0[4] & 0xffff_0000 | (birth_us >> 32) as u32 & 0xffff;
        let high = ((birth_us >> 48) as u32) << BIRTH_SHIFT;
        self.0[6] = self.0[6] & !BIRTH_MASK | high & BIRTH_MASK;
    }

    /// Sets the size, and notes where the object starts, until a checksum is noted.
    #[inline(always)]
    pub(super) fn set_place(&mut self, start: usize, size: u32) {
        self.0[0] = size;
        self.0[2] = start_note(start);
    }

    #[inline(always)]
    pub(crate) fn set_who(&mut self, task: u32, who: Who) {
        self.0[5] = task;
        self.0[6] |= who.word();
    }

    pub(crate) fn set_task_name(&mut self, name: u32) {
        let who = Who::of(name, self.cpu());
        self.0[6] = self.0[6] & !Who::MASK | who.word();
    }

    pub(crate) fn set_min_count(&mut self, min_count: i32) {
        self.0[6] = self.0[6] & !CODE_MASK | code::of(min_count) << CODE_SHIFT;
    }

    fn code(&self) -> u32 {
        self.0[6] >> CODE_SHIFT
    }

    /// Bytes of the object, or `u32::MAX` where a note has them.
    pub(crate) fn short_size(&self) -> u32 {
        self.0[0]
    }

    pub(crate) fn stack_id(&self) -> StackId {
        StackId(self.0[1])
    }

    pub(crate) fn checksum(&self) -> u32 {
        self.0[2]
    }

    pub(crate) fn birth_us(&self) -> u64 {
        birth_of(self.0[3], self.0[4], self.0[6])
    }

    pub(crate) fn flags(&self) -> u16 {
        (self.0[4] >> 16) as u16
    }

    pub(crate) fn has(&self, flag: u16) -> bool {
        self.flags() & flag != 0
    }

    pub(crate) fn task(&self) -> u32 {
        self.0[5]
    }

    pub(crate) fn task_name(&self) -> u32 {
        Who::from_word(self.0[6]).number()
    }

    pub(crate) fn cpu(&self) -> u32 {
        Who::from_word(self.0[6]).cpu()
    }

    /// The record with these flags set.
    pub(crate) fn with(mut self, flags: u16) -> Self {
        self.0[4] |= u32::from(flags) << 16;
        self
    }

    /// The record for the object at another place, or for a part of it: without the flags that passes set, and without notes.
    pub(crate) fn part(mut self, size: usize) -> Self {
        const LEFT: u16 = flag::OF_PASSES
            | flag::NOTES
            | flag::EXCESS
            | flag::LISTED
            | flag::PRIMED
            | flag::SUSPECT
            | flag::REPORTED;
        self.0[4] &= !(u32::from(LEFT) << 16);
        self.0[6] = whitened(self.0[6]);
        self.set_size(size);
        self
    }

    /// How many references it needs: 0 if it is gray, -1 if black, [`MANY`] if a note has the number.
    pub(crate) fn min_count(&self) -> i32 {
        code::parts(self.code()).0
    }

    /// How many references the last pass found, if the object needs two to four; else 0.
    pub(crate) fn count(&self) -> u32 {
        code::parts(self.code()).1
    }

    /// Whether the marker need not look at the record.
    pub(crate) fn is_plain(&self) -> bool {
        !self.has(flag::SPECIAL) && self.code() == code::ONE
    }
}

/// The birth, put together from the words of a record that hold it: the fourth, the fifth and the last.
pub(crate) fn birth_of(low: u32, middle: u32, high: u32) -> u64 {
    let high = (high & BIRTH_MASK) >> BIRTH_SHIFT;
    u64::from(low) | u64::from(middle & 0xffff) << 32 | u64::from(high) << 48
}

/// The last word of a record, without what a pass has found.
fn whitened(word: u32) -> u32 {
    word & !(CODE_MASK | STARTED) | code::whitened(word >> CODE_SHIFT) << CODE_SHIFT
}

/// A record in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordRef(NonNull<u32>);

impl RecordRef {
    /// The record whose first word this is, in metadata.
    ///
    /// # Safety
    ///
    /// There is a record, which stays as long as the result is used.
    #[inline(always)]
    pub(crate) const unsafe fn new(first: NonNull<u32>) -> Self {
        Self(first)
    }

    pub(crate) fn address(self) -> usize {
        self.0.addr().get()
    }

    #[inline(always)]
    fn word<'a>(self, index: usize) -> &'a AtomicU32 {
        debug_assert!(index < RECORD_WORDS);
        // SAFETY: a place is made for seven words of metadata, which live until all is given back.
        unsafe { AtomicU32::from_ptr(self.0.as_ptr().wrapping_add(index)) }
    }

    #[inline(always)]
    pub(crate) fn write(self, record: &Record) {
        for (index, word) in record.0.iter().enumerate() {
            self.word(index).store(*word, Ordering::Relaxed);
        }
    }

    #[inline(always)]
    pub(crate) fn read(self) -> Record {
        Record(core::array::from_fn(|index| {
            self.word(index).load(Ordering::Relaxed)
        }))
    }

    #[inline(always)]
    pub(crate) fn short_size(self) -> u32 {
        self.word(0).load(Ordering::Relaxed)
    }

    /// Notes where its object starts, until a checksum is noted.
    #[inline(always)]
    pub(crate) fn set_start(self, start: usize) {
        self.word(2).store(start_note(start), Ordering::Relaxed);
    }

    /// Notes that the object at `start` is gone, of which a checksum may have been noted; the record stays for a while.
    #[inline(always)]
    pub(crate) fn set_left_by(self, start: usize) {
        self.word(0).store(start_note(start), Ordering::Relaxed);
    }

    /// Whether this record, which has no object any more, is that of the object at `start`.
    pub(crate) fn is_left_by(self, start: usize) -> bool {
        [0, 2]
            .map(|index| self.word(index).load(Ordering::Relaxed))
            .contains(&start_note(start))
    }

    pub(crate) fn set_stack_id(self, stack_id: StackId) {
        self.word(1).store(stack_id.0, Ordering::Relaxed);
    }

    pub(crate) fn set_checksum(self, checksum: u32) {
        self.word(2).store(checksum, Ordering::Relaxed);
    }

    #[inline(always)]
    pub(crate) fn flags(self) -> u16 {
        (self.word(4).load(Ordering::Relaxed) >> 16) as u16
    }

    #[inline(always)]
    pub(crate) fn has(self, flag: u16) -> bool {
        self.flags() & flag != 0
    }

    /// Sets flags, and returns which were set before.
    pub(crate) fn set(self, flags: u16) -> u16 {
        let before = self
            .word(4)
            .fetch_or(u32::from(flags) << 16, Ordering::Relaxed);
        (before >> 16) as u16
    }

    pub(crate) fn clear(self, flags: u16) {
        self.word(4)
            .fetch_and(!(u32::from(flags) << 16), Ordering::Relaxed);
    }

    pub(crate) fn min_count(self) -> i32 {
        code::parts(self.word(6).load(Ordering::Relaxed) >> CODE_SHIFT).0
    }

    pub(crate) fn set_min_count(self, min_count: i32) {
        let word = self.word(6);
        let others = word.load(Ordering::Relaxed) & !CODE_MASK;
        word.store(
            others | code::of(min_count) << CODE_SHIFT,
            Ordering::Relaxed,
        );
    }

    /// Sets the number of references found to zero, for a new pass. The object's chunk is open.
    pub(crate) fn reset_count(self) {
        let word = self.word(6);
        word.store(whitened(word.load(Ordering::Relaxed)), Ordering::Relaxed);
    }

    /// Notes that a pointer to the object's start was found.
    pub(crate) fn set_started(self) {
        self.word(6).fetch_or(STARTED, Ordering::Relaxed);
    }

    /// Whether a pointer to the object's start was found.
    pub(crate) fn is_started(self) -> bool {
        self.word(6).load(Ordering::Relaxed) & STARTED != 0
    }

    /// One more reference was found. Whether there are as many as the object needs; `None` where a note counts them.
    pub(crate) fn count_reference(self) -> Option<bool> {
        let word = self.word(6);
        let mut now = word.load(Ordering::Relaxed);
        loop {
            let (needed, found) = match code::parts(now >> CODE_SHIFT) {
                (MANY, _) => return None,
                (-1, _) => return Some(false),
                (..=1, _) => return Some(true),
                (needed, found) => (needed as u32, found),
            };
            if found == needed {
                return Some(true);
            }
            let next = now + (1 << CODE_SHIFT);
            match word.compare_exchange_weak(now, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(found + 1 == needed),
                Err(other) => now = other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_states_have_one_code() {
        let mut seen = 0_u32;
        for min_count in -1..=MANY {
            let code = code::of(min_count);
            assert_eq!(code::parts(code), (min_count, 0));
            let found = if min_count > 1 && min_count < MANY {
                0..=min_count as u32
            } else {
                0..=0
            };
            for found in found {
                assert_eq!(code::parts(code + found), (min_count, found));
                assert_eq!(code::whitened(code + found), code);
                assert_eq!(seen & 1 << (code + found), 0);
                seen |= 1 << (code + found);
            }
        }
        assert_eq!(seen, 0xffff, "no code means nothing");
    }

    /// Each part of a record keeps its value, whatever the other parts hold.
    #[test]
    fn parts_keep_to_their_bits() {
        for ones in [false, true] {
            let all = |bits: u32| if ones { u64::MAX >> (64 - bits) } else { 0 };
            let birth_us = all(BIRTH_BITS);
            let (task, name, cpu) = (all(32) as u32, all(11) as u32, all(12) as u32);
            for min_count in -1..=MANY {
                let flags = all(16) as u16;
                let mut record = Record::new(77, StackId(5), birth_us, min_count, flags);
                record.set_who(task, Who::of(name, cpu));
                let parts = (record.birth_us(), record.min_count(), record.flags());
                assert_eq!(parts, (birth_us, min_count, flags));
                assert_eq!(
                    (record.task(), record.task_name(), record.cpu()),
                    (task, name, cpu)
                );
                record.set_birth(!birth_us);
                let left = (1 << BIRTH_BITS) - 1 - birth_us;
                assert_eq!((record.birth_us(), record.cpu()), (left, cpu));
                assert_eq!(record.min_count(), min_count);
            }
        }
    }
}
