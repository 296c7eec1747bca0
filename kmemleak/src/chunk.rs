//! The index of a chunk: which objects start in 512 bytes of memory, which of them are marked, and their
//! records.
//!
//! | word | what |
//! | --- | --- |
//! | 0 | a bit for each granule in which an object starts |
//! | 1 | a bit for each of these that is marked, or of no interest to the marker |
//! | 2 | lock (32 bits); pace and flags (32) |
//! | 3 … | records, one for each `1 << pace` granules |
//!
//! The *pace* says how closely objects may follow one another: at pace 3 one may start in each 64 bytes, and there
//! are eight records. It is chosen by the first object; a chunk where two objects start more closely gets an index
//! of a finer pace, into which the records are copied.
//!
//! Objects that start at no multiple of eight bytes are kept in notes ([`crate::notes`]); a flag says
//! that there are such.
//!
//! # Locks
//!
//! One for each chunk: its index changes under it, but for marks and the marker's flags, which the marker
//! sets by atomic `or`. Interrupts are off while it is held. Nobody holds two.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::memory::{Class, Source, word_of};
use crate::record::{Place, RECORD_WORDS, Record};

/// log2 of the bytes of a granule.
pub(crate) const GRANULE_SHIFT: u32 = 3;
/// Bytes of a granule.
pub(crate) const GRANULE: usize = 1 << GRANULE_SHIFT;
/// log2 of the granules of a chunk.
const GRANULES_SHIFT: u32 = 6;
/// The coarsest pace: one object.
pub(crate) const MAX_PACE: u32 = GRANULES_SHIFT;

const STARTS: usize = 0;
const MARKS: usize = 1;
/// As a number of words of 32 bits.
const LOCK: usize = 4;
const INFO: usize = 5;
const RECORDS: usize = 6;

const PACE_MASK: u32 = 7;

/// Flags of a chunk.
pub(crate) mod info {
    /// Some records are not plain: see [`crate::record::Record::is_plain`].
    pub(crate) const SPECIAL: u32 = 1 << 8;
    /// Some records have [`crate::record::flag::PENDING`].
    pub(crate) const PENDING: u32 = 1 << 9;
    /// Some records have [`crate::record::flag::INTERIOR`], and are not marked.
    pub(crate) const INTERIOR: u32 = 1 << 10;
    /// Some records have [`crate::record::flag::INTERIOR_ONLY`].
    pub(crate) const INTERIOR_ONLY: u32 = 1 << 13;
    /// Something was allocated here during the scan that goes on.
    pub(crate) const BORN: u32 = 1 << 11;
    /// Some objects are kept in notes.
    pub(crate) const ODD: u32 = 1 << 12;
}

/// The granule of its chunk that an address lies in.
#[inline(always)]
pub(crate) const fn granule_of(address: usize) -> u32 {
    (address >> GRANULE_SHIFT) as u32 & ((1 << GRANULES_SHIFT) - 1)
}

/// The index of a chunk, in metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk(NonNull<u64>);

impl Chunk {
    /// The index that lies there.
    #[inline(always)]
    pub(crate) fn at(piece: NonNull<u64>) -> Self {
        Self(piece)
    }

    pub(crate) fn address(self) -> usize {
        self.0.expose_provenance().get()
    }

    /// An index without objects.
    pub(crate) fn take(pace: u32, source: &Source<'_>) -> Option<Self> {
        let chunk = Self(source.take(class(pace))?);
        chunk.starts().store(0, Ordering::Relaxed);
        chunk.marks().store(0, Ordering::Relaxed);
        chunk.info().store(pace, Ordering::Relaxed);
        // Records of objects that are gone tell who had the memory last, so there must be none of elsewhere.
        for granule in (0..1 << GRANULES_SHIFT).step_by(1 << pace) {
            chunk.record(granule).write(&Record([0; RECORD_WORDS]));
        }
        Some(chunk)
    }

    /// Gives the index back. No entry names it.
    pub(crate) fn give(self, source: &Source<'_>) {
        source.give(class(self.pace()), self.0);
    }

    #[inline(always)]
    pub(crate) fn starts<'a>(self) -> &'a AtomicU64 {
        word_of(self.0, STARTS)
    }

    #[inline(always)]
    pub(crate) fn marks<'a>(self) -> &'a AtomicU64 {
        word_of(self.0, MARKS)
    }

    #[inline(always)]
    fn half<'a>(self, index: usize) -> &'a AtomicU32 {
        // SAFETY: inside the index, which is metadata that lives until all is given back.
        unsafe { AtomicU32::from_ptr(self.0.as_ptr().cast::<u32>().wrapping_add(index)) }
    }

    #[inline(always)]
    fn info<'a>(self) -> &'a AtomicU32 {
        self.half(INFO)
    }

    /// log2 of the granules for each record.
    #[inline(always)]
    pub(crate) fn pace(self) -> u32 {
        self.info().load(Ordering::Relaxed) & PACE_MASK
    }

    #[inline(always)]
    pub(crate) fn has(self, flag: u32) -> bool {
        self.info().load(Ordering::Relaxed) & flag != 0
    }

    pub(crate) fn set(self, flags: u32) {
        if self.info().load(Ordering::Relaxed) & flags != flags {
            self.info().fetch_or(flags, Ordering::Relaxed);
        }
    }

    pub(crate) fn clear(self, flag: u32) {
        self.info().fetch_and(!flag, Ordering::Relaxed);
    }

    /// The record of the object that starts in this granule.
    #[inline(always)]
    pub(crate) fn record(self, granule: u32) -> Place {
        let index = (granule >> self.pace()) as usize;
        let first = RECORDS + index * RECORD_WORDS;
        // SAFETY: inside the index: there is a record for each pace.
        Place::new(unsafe { self.0.cast::<u32>().add(first) })
    }

    /// The granules that share the record of this one.
    #[inline(always)]
    pub(crate) fn share(self, granule: u32) -> u64 {
        let pace = self.pace();
        let first = granule >> pace << pace;
        // All ones in the end for the coarsest pace, which a shift by 64 would not give.
        (u64::MAX >> (64 - (1 << pace))) << first
    }

    /// Locks the index. Interrupts are off.
    #[inline(always)]
    pub(crate) fn lock(self) {
        let lock = self.half(LOCK);
        while lock
            .compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            while lock.load(Ordering::Relaxed) != 0 {
                core::hint::spin_loop();
            }
        }
    }

    #[inline(always)]
    pub(crate) fn unlock(self) {
        self.half(LOCK).store(0, Ordering::Release);
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(self) -> bool {
        self.starts().load(Ordering::Relaxed) == 0 && !self.has(info::ODD)
    }

    /// The granules of `bits`.
    pub(crate) fn granules(mut bits: u64) -> impl Iterator<Item = u32> {
        core::iter::from_fn(move || {
            let granule = bits.trailing_zeros();
            bits &= bits.wrapping_sub(1);
            (granule < 64).then_some(granule)
        })
    }

    /// Copies all records into an index of a finer pace, with starts, marks and flags.
    pub(crate) fn copy_to(self, finer: Self) {
        let starts = self.starts().load(Ordering::Relaxed);
        for granule in Self::granules(starts) {
            finer.record(granule).write(&self.record(granule).read());
        }
        let marks = self.marks().load(Ordering::Relaxed);
        finer.starts().store(starts, Ordering::Relaxed);
        finer.marks().store(marks, Ordering::Relaxed);
        let flags = self.info().load(Ordering::Relaxed) & !PACE_MASK;
        finer.info().fetch_or(flags, Ordering::Relaxed);
    }
}

fn class(pace: u32) -> Class {
    Class::chunk(MAX_PACE - pace)
}

/// The pace for objects of `size` bytes, or where it is known, `stride` bytes apart.
pub(crate) fn pace_for(size: usize, stride: Option<usize>) -> u32 {
    let distance = stride.unwrap_or(size);
    let granules = (distance / GRANULE).clamp(1, 1 << MAX_PACE);
    granules.ilog2()
}
