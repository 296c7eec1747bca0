//! The entry of a chunk: which objects start in 512 bytes of memory, which of them are marked, where their records
//! are, and what reaches in from before.
//!
//! | word | what |
//! | --- | --- |
//! | 0 | address of the records (45 bits), how far down the object starts that reaches in (19 bits) |
//! | 1 | a bit for each granule in which an object starts |
//! | 2 | a bit for each of these that is marked, or of no interest to the marker |
//! | 3 | lock (32 bits); pace and flags (32) |
//!
//! An entry is half a cache line: whether a pointer points to the start of an object, and whether that is marked, is
//! one look. The memory of two chunks shares a line, that of two pages never does.
//!
//! There is a record for each `1 << pace` granules. The *pace* says how closely objects may follow one another: at pace
//! 3 one may start in each 64 bytes, and there are eight records. It is chosen by the first object; a chunk where two
//! objects start more closely gets records at a finer pace, and the old ones are copied.
//!
//! Objects that start at no multiple of eight bytes are kept in notes ([`crate::notes`]); a flag says
//! that there are such.
//!
//! # Locks
//!
//! One for each chunk: all of its entry changes under it, but for the reach, which changes by compare and exchange,
//! and for marks and the marker's flags, which the marker sets by atomic `or`. Interrupts are off while it is held.
//! Nobody holds two.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::memory::{Class, Source, word_of};
use crate::record::{Place, RECORD_WORDS, Record};

/// Words of an entry.
pub(crate) const ENTRY_WORDS: usize = 4;

/// log2 of the bytes of a granule.
pub(crate) const GRANULE_SHIFT: u32 = 3;
/// Bytes of a granule.
pub(crate) const GRANULE: usize = 1 << GRANULE_SHIFT;
/// log2 of the granules of a chunk.
const GRANULES_SHIFT: u32 = 6;
/// The coarsest pace: one object.
pub(crate) const MAX_PACE: u32 = GRANULES_SHIFT;

/// Bits of the first word that say how far down the object starts that reaches in.
const REACH_BITS: u32 = 19;
/// The farthest that they can say, in chunks. An object that reaches farther is followed in several steps.
pub(crate) const MAX_REACH: usize = (1 << REACH_BITS) - 1;

const LINK: usize = 0;
const STARTS: usize = 1;
const MARKS: usize = 2;
/// As a number of words of 32 bits.
const LOCK: usize = 6;
const INFO: usize = 7;

const PACE_MASK: u32 = 7;

/// Flags of a chunk.
pub(crate) mod info {
    /// Some records are not plain: see [`crate::record::Record::is_plain`].
    pub(crate) const SPECIAL: u32 = 1 << 8;
    /// Some records have [`crate::record::flag::PENDING`].
    pub(crate) const PENDING: u32 = 1 << 9;
    /// Some records have [`crate::record::flag::INTERIOR`], and are not marked.
    pub(crate) const INTERIOR: u32 = 1 << 10;
    /// Something was allocated here during the scan that goes on.
    pub(crate) const BORN: u32 = 1 << 11;
    /// Some objects are kept in notes.
    pub(crate) const ODD: u32 = 1 << 12;
    /// Some records have [`crate::record::flag::INTERIOR_ONLY`].
    pub(crate) const INTERIOR_ONLY: u32 = 1 << 13;
}

/// The granule of its chunk that an address lies in.
#[inline(always)]
pub(crate) const fn granule_of(address: usize) -> u32 {
    (address >> GRANULE_SHIFT) as u32 & ((1 << GRANULES_SHIFT) - 1)
}

/// The granules that share a record with this one, at a pace.
#[inline(always)]
pub(crate) const fn share_at(pace: u32, granule: u32) -> u64 {
    // All ones in the end for the coarsest pace, which a shift by 64 would not give.
    (u64::MAX >> (64 - (1 << pace))) << (granule >> pace << pace)
}

/// The entry of a chunk, in a table of the page map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk(NonNull<u64>);

impl Chunk {
    /// The entry that lies there.
    #[inline(always)]
    pub(crate) const fn at(entry: NonNull<u64>) -> Self {
        Self(entry)
    }

    pub(crate) fn address(self) -> usize {
        self.0.addr().get()
    }

    #[inline(always)]
    fn link<'a>(self) -> &'a AtomicU64 {
        word_of(self.0, LINK)
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
        // SAFETY: inside the entry, which is metadata that lives until all is given back.
        unsafe { AtomicU32::from_ptr(self.0.as_ptr().cast::<u32>().wrapping_add(index)) }
    }

    #[inline(always)]
    fn info<'a>(self) -> &'a AtomicU32 {
        self.half(INFO)
    }

    /// How many chunks further down the object starts that reaches in, or a chunk that it reaches into as well;
    /// zero if none does.
    #[inline(always)]
    pub(crate) fn reach(self) -> usize {
        self.link().load(Ordering::Acquire) as usize & MAX_REACH
    }

    /// An object reaches in that starts so many chunks further down.
    pub(crate) fn set_reach(self, reach: usize) {
        self.update(|link| link & !(MAX_REACH as u64) | reach.min(MAX_REACH) as u64);
    }

    /// It does no more, if it is the one that starts so far down.
    pub(crate) fn clear_reach(self, reach: usize) {
        self.update(|link| {
            let same = link as usize & MAX_REACH == reach.min(MAX_REACH);
            if same {
                link & !(MAX_REACH as u64)
            } else {
                link
            }
        });
    }

    fn update(self, change: impl Fn(u64) -> u64) {
        let change = |link| Some(change(link)).filter(|&changed| changed != link);
        let _ = self
            .link()
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
    }

    /// The records, if there are any.
    #[inline(always)]
    fn records(self) -> Option<NonNull<u32>> {
        // The address without its lowest three bits, which are zero; the highest repeat the last that counts.
        let link = self.link().load(Ordering::Acquire) as i64;
        let address = (link >> (REACH_BITS - 3)) as usize & !7;
        NonNull::new(ptr::with_exposed_provenance_mut(address))
    }

    fn set_records(self, records: Option<NonNull<u64>>) {
        let address = records.map_or(0, |records| records.expose_provenance().get());
        let bits = (address as u64 >> 3) << REACH_BITS;
        self.update(|link| link & MAX_REACH as u64 | bits);
    }

    /// log2 of the granules for each record.
    #[inline(always)]
    pub(crate) fn pace(self) -> u32 {
        self.info().load(Ordering::Relaxed) & PACE_MASK
    }

    #[inline(always)]
    pub(crate) fn has(self, flags: u32) -> bool {
        self.info().load(Ordering::Relaxed) & flags != 0
    }

    pub(crate) fn set(self, flags: u32) {
        if self.info().load(Ordering::Relaxed) & flags != flags {
            self.info().fetch_or(flags, Ordering::Relaxed);
        }
    }

    pub(crate) fn clear(self, flags: u32) {
        self.info().fetch_and(!flags, Ordering::Relaxed);
    }

    /// The record of the object that starts in this granule.
    #[inline(always)]
    pub(crate) fn record(self, granule: u32) -> Place {
        let records = self.records().unwrap_or(NonNull::dangling());
        let first = (granule >> self.pace()) as usize * RECORD_WORDS;
        // SAFETY: where an object starts there are records, one for each pace.
        Place::new(unsafe { records.add(first) })
    }

    /// The granules that share the record of this one.
    #[inline(always)]
    pub(crate) fn share(self, granule: u32) -> u64 {
        share_at(self.pace(), granule)
    }

    /// Whether there are records.
    #[inline(always)]
    pub(crate) fn has_records(self) -> bool {
        self.link().load(Ordering::Relaxed) > MAX_REACH as u64
    }

    /// Whether objects start here.
    #[inline(always)]
    pub(crate) fn is_used(self) -> bool {
        self.starts().load(Ordering::Relaxed) != 0 || self.has(info::ODD)
    }

    /// Whether objects neither start here nor reach in.
    pub(crate) fn is_blank(self) -> bool {
        !self.is_used() && self.reach() == 0
    }

    /// Locks the chunk. Interrupts are off.
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

    /// The same, if nobody has it locked.
    pub(crate) fn try_lock(self) -> bool {
        let lock = self.half(LOCK);
        lock.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    #[inline(always)]
    pub(crate) fn unlock(self) {
        self.half(LOCK).store(0, Ordering::Release);
    }

    /// The granules of `bits`.
    pub(crate) fn granules(mut bits: u64) -> impl Iterator<Item = u32> {
        core::iter::from_fn(move || {
            let granule = bits.trailing_zeros();
            bits &= bits.wrapping_sub(1);
            (granule < 64).then_some(granule)
        })
    }

    /// Takes records at another pace, and copies those that are in use. False where there is no memory. The chunk is
    /// locked.
    pub(crate) fn repace(self, pace: u32, source: &Source<'_>) -> bool {
        let Some(piece) = source.take(class(pace)) else {
            return false;
        };
        let record = |index: usize| {
            // SAFETY: inside the piece: there is a record for each pace.
            Place::new(unsafe { piece.cast::<u32>().add(index * RECORD_WORDS) })
        };
        // Records of objects that are gone tell who had the memory last, so there must be none of elsewhere.
        (0..1 << (MAX_PACE - pace))
            .for_each(|index| record(index).write(&Record([0; RECORD_WORDS])));
        let starts = self.starts().load(Ordering::Relaxed);
        for granule in Self::granules(starts) {
            record((granule >> pace) as usize).write(&self.record(granule).read());
        }
        self.drop_records(source);
        let flags = self.info().load(Ordering::Relaxed) & !PACE_MASK;
        self.info().store(flags | pace, Ordering::Relaxed);
        self.set_records(Some(piece));
        true
    }

    /// Gives the records back. The chunk is locked, or the world is stopped.
    pub(crate) fn drop_records(self, source: &Source<'_>) {
        if let Some(records) = self.records() {
            self.set_records(None);
            source.give(class(self.pace()), records.cast());
        }
    }
}

fn class(pace: u32) -> Class {
    Class::records(MAX_PACE - pace)
}

/// The pace for objects of `size` bytes, or where it is known, `stride` bytes apart.
#[inline(always)]
pub(crate) fn pace_for(size: usize, stride: Option<usize>) -> u32 {
    let granules = (stride.unwrap_or(size) / GRANULE).clamp(1, 1 << MAX_PACE);
    granules.ilog2()
}
