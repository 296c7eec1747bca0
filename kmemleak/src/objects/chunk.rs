//! The entry of a chunk: which objects start in 512 bytes of memory, which of them are marked, where their records
//! are, and what reaches in from before.
//!
//! | word | what |
//! | --- | --- |
//! | 0 | address of the records (45 bits); whether what reaches in covers the table (1); how far down that starts (18) |
//! | 1 | a bit for each granule in which an object starts |
//! | 2 | a bit for each of these that is marked, or of no interest to the marker |
//! | 3 | lock (16 bits); users of the table (16); spacing and flags (32) |
//!
//! An entry is half a cache line: whether a pointer points to the start of an object, and whether that is marked, is
//! one look. The memory of two chunks shares a line, that of two pages never does.
//!
//! There is a record for each `1 << spacing` granules. The *spacing* (a logarithm) says how closely objects may follow one another:
//! at 3 one may start in each 64 bytes, and there are eight records. It is chosen by the first object; a chunk where two
//! objects start more closely gets records at a finer spacing, and the old ones are copied.
//!
//! Objects that start at no multiple of eight bytes are kept in notes ([`crate::objects::side_table`]); a flag says
//! that there are such.
//!
//! # The table's first entry
//!
//! It speaks for its table's 64 KiB as well, so that a large object comes and goes without a look at every chunk. It
//! counts the table's *users*: chunks in which objects start, and some in which objects started until a moment ago. A
//! table without users that nothing reaches into is *clean*. An object that covers a clean table wholly is noted in
//! the first entry alone: as what reaches in there, and covers all.
//!
//! A chunk comes *into service* with its first object, and then counts as a user. It stays in service when its last
//! object goes, for in most of these another one comes at once, and counting would be two more writes to a line that a whole
//! table shares. It waits among the [`Emptied`](super::emptied::Emptied) of its CPU, of which there are a few, and goes out of service when
//! others push it out there and it is still empty. (A chunk in which objects start at no multiple of eight bytes counts once
//! more; that is rare, and exact.)
//!
//! # Locks
//!
//! One for each chunk: all of its entry changes under it, but for the reach, which changes by compare and exchange,
//! for marks and the marker's flags, which the marker sets by atomic `or`, and for the count of a table's users, which
//! changes under the lock of each user's chunk. Interrupts are off while it is held. Nobody holds two.
//!
//! # Orderings
//!
//! Word 0 publishes the records, with what they held when they came, and what is reached: it changes by AcqRel, and is loaded with
//! Acquire. Starts, marks and flags are Relaxed: what is done under the lock it orders, what marks without it are left by
//! one phase of a pass to the next is ordered by the barrier between. Whether a chunk is used at all is asked without the lock:
//! who sees a change late has come before it. The count of a table's users pairs with itself: who finds none (Acquire) sees what those
//! did who left (AcqRel). (Where the registry stores starts with Release, the lock does the same.)

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::metadata::piece::Piece;
use crate::metadata::{Class, MetaAlloc, word_of};
use crate::objects::record::{RECORD_WORDS, Record, RecordRef};
use crate::objects::word_lock;
use crate::platform::METADATA_PAGE;

/// Words of an entry.
pub(crate) const ENTRY_WORDS: usize = 4;

/// log2 of the bytes of a granule.
pub(crate) const GRANULE_SHIFT: u32 = 3;
/// Bytes of a granule.
pub(crate) const GRANULE: usize = 1 << GRANULE_SHIFT;
/// log2 of the granules of a chunk.
const GRANULES_SHIFT: u32 = 6;
/// The coarsest spacing: one object.
pub(crate) const MAX_SPACING: u32 = GRANULES_SHIFT;

/// Bits of the first word that say how far down the object starts that reaches in.
const REACH_BITS: u32 = 18;
/// The farthest that they can say, in chunks. An object that reaches farther is followed in several steps.
pub(crate) const MAX_REACH: usize = (1 << REACH_BITS) - 1;
/// It covers all that the table stands for.
const WHOLE: u64 = 1 << REACH_BITS;
/// All that the first word says of what reaches in; above are the records.
const REACH_MASK: u64 = WHOLE | MAX_REACH as u64;
const RECORDS_SHIFT: u32 = REACH_BITS + 1;

const LINK: usize = 0;
const STARTS: usize = 1;
const MARKS: usize = 2;
/// As numbers of words of 16 bits.
const LOCK: usize = 12;
const USERS: usize = 13;
/// As a number of words of 32 bits.
const INFO: usize = 7;

const SPACING_MASK: u32 = 7;

/// Flags of a chunk.
pub(crate) mod info {
    /// Some records are not plain: see [`crate::objects::record::Record::is_plain`].
    pub(crate) const SPECIAL: u32 = 1 << 8;
    /// Some records have [`crate::objects::record::flag::PENDING`].
    pub(crate) const PENDING: u32 = 1 << 9;
    /// Some records have [`crate::objects::record::flag::INTERIOR`], and are not marked.
    pub(crate) const INTERIOR: u32 = 1 << 10;
    /// Something was allocated here during the scan that goes on.
    pub(crate) const BORN: u32 = 1 << 11;
    /// Some objects are kept in notes.
    pub(crate) const UNALIGNED: u32 = 1 << 12;
    /// Some records have [`crate::objects::record::flag::INTERIOR_ONLY`].
    pub(crate) const INTERIOR_ONLY: u32 = 1 << 13;
    /// The chunk is in service: there are records, and it counts as a user of its table.
    pub(crate) const SERVES: u32 = 1 << 14;
    /// It is among the emptied ones of a CPU.
    pub(crate) const WAITS: u32 = 1 << 15;
}

/// The granule of its chunk that an address lies in.
#[inline(always)]
pub(crate) const fn granule_of(address: usize) -> u32 {
    (address >> GRANULE_SHIFT) as u32 & ((1 << GRANULES_SHIFT) - 1)
}

/// The granules that share a record with this one, at a spacing.
#[inline(always)]
pub(crate) const fn share_at(spacing: u32, granule: u32) -> u64 {
    // All ones in the end for the coarsest spacing, which a shift by 64 would not give.
    (u64::MAX >> (64 - (1 << spacing))) << (granule >> spacing << spacing)
}

/// The entry of a chunk, in a table of the page map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk(NonNull<u64>);

impl Chunk {
    /// The entry that lies there.
    ///
    /// # Safety
    ///
    /// It is one of a table of the page map, which stays until all is given back.
    #[inline(always)]
    pub(crate) const unsafe fn at(entry: NonNull<u64>) -> Self {
        Self(entry)
    }

    /// Where the entry lies.
    pub(crate) fn entry(self) -> NonNull<u64> {
        self.0
    }

    #[inline(always)]
    fn link<'a>(self) -> &'a AtomicU64 {
        // SAFETY: a word of the entry, which is metadata.
        unsafe { word_of(self.0, LINK) }
    }

    #[inline(always)]
    pub(crate) fn starts<'a>(self) -> &'a AtomicU64 {
        // SAFETY: a word of the entry, which is metadata.
        unsafe { word_of(self.0, STARTS) }
    }

    #[inline(always)]
    pub(crate) fn marks<'a>(self) -> &'a AtomicU64 {
        // SAFETY: a word of the entry, which is metadata.
        unsafe { word_of(self.0, MARKS) }
    }

    #[inline(always)]
    fn quarter<'a>(self, index: usize) -> &'a AtomicU16 {
        // SAFETY: inside the entry, which is metadata that lives until all is given back.
        unsafe { AtomicU16::from_ptr(self.0.as_ptr().cast::<u16>().wrapping_add(index)) }
    }

    #[inline(always)]
    fn info<'a>(self) -> &'a AtomicU32 {
        // SAFETY: inside the entry, which is metadata that lives until all is given back.
        unsafe { AtomicU32::from_ptr(self.0.as_ptr().cast::<u32>().wrapping_add(INFO)) }
    }

    /// The first entry of the table that this one is in.
    #[inline(always)]
    pub(crate) fn head(self) -> Self {
        // A table is a page, and none lies at zero.
        let page = |entry: usize| entry & !(METADATA_PAGE - 1);
        let head = self.0.as_ptr().map_addr(page);
        Self(NonNull::new(head).unwrap_or(self.0))
    }

    fn users<'a>(self) -> &'a AtomicU16 {
        self.head().quarter(USERS)
    }

    /// The chunk uses its table, or uses it once more. It is locked.
    pub(crate) fn add_user(self) {
        self.users().fetch_add(1, Ordering::AcqRel);
    }

    /// No more, or once less. It is locked.
    pub(crate) fn remove_user(self) {
        self.users().fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether it is in service, with records at this spacing.
    #[inline(always)]
    pub(crate) fn serves(self, spacing: u32) -> bool {
        self.info().load(Ordering::Relaxed) & (SPACING_MASK | info::SERVES)
            == spacing | info::SERVES
    }

    /// Comes into service, if it is not. It is locked, and has records.
    pub(crate) fn start_service(self) {
        if !self.has(info::SERVES) {
            self.add_user();
            self.set(info::SERVES);
        }
    }

    /// Goes out of service, if no object starts in it. It is locked, or the world is stopped.
    pub(crate) fn end_service(self) {
        if self.has(info::SERVES) && self.starts().load(Ordering::Relaxed) == 0 {
            self.clear(info::SERVES);
            self.remove_user();
        }
    }

    /// Goes out of service, and gives its records back. The world is stopped, and nothing starts in it.
    pub(crate) fn retire(self, meta: &MetaAlloc<'_>) {
        self.end_service();
        self.drop_records(meta);
    }

    /// Whether an object covers all that the table of this one stands for.
    #[inline(always)]
    pub(crate) fn is_covered(self) -> bool {
        self.head().link().load(Ordering::Acquire) & WHOLE != 0
    }

    /// Of a table's first entry: whether no object starts in the table, and none reaches into it from before.
    pub(crate) fn is_clean(self) -> bool {
        self.link().load(Ordering::Acquire) & REACH_MASK == 0
            && self.users().load(Ordering::Acquire) == 0
    }

    /// Of a table's first entry: an object that starts so many chunks further down covers the table. False, and
    /// nothing is noted, if the table is not clean.
    pub(crate) fn cover(self, reach: usize) -> bool {
        let clean = self.is_clean();
        if clean {
            self.set_reach_bits(WHOLE | reach.min(MAX_REACH) as u64);
        }
        clean
    }

    /// It covers it no more, if it is the one that starts so far down; whether it was.
    pub(crate) fn uncover(self, reach: usize) -> bool {
        self.clear_reach_bits(WHOLE | reach.min(MAX_REACH) as u64)
    }

    /// How many chunks further down the object starts that reaches in, or a chunk that it reaches into as well;
    /// zero if none does.
    #[inline(always)]
    pub(crate) fn reach(self) -> usize {
        self.link().load(Ordering::Acquire) as usize & MAX_REACH
    }

    /// An object reaches in that starts so many chunks further down.
    pub(crate) fn set_reach(self, reach: usize) {
        self.set_reach_bits(reach.min(MAX_REACH) as u64);
    }

    /// It does no more, if it is the one that starts so far down.
    pub(crate) fn clear_reach(self, reach: usize) {
        self.clear_reach_bits(reach.min(MAX_REACH) as u64);
    }

    fn set_reach_bits(self, bits: u64) {
        self.update(|link| link & !REACH_MASK | bits);
    }

    fn clear_reach_bits(self, bits: u64) -> bool {
        self.update(|link| match link & REACH_MASK == bits {
            true => link & !REACH_MASK,
            false => link,
        })
    }

    /// Changes the first word, and tells whether that was a change.
    fn update(self, change: impl Fn(u64) -> u64) -> bool {
        let change = |link| Some(change(link)).filter(|&changed| changed != link);
        self.link()
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, change)
            .is_ok()
    }

    /// The records, if there are any.
    #[inline(always)]
    fn records(self) -> Option<NonNull<u32>> {
        // The address without its lowest three bits, which are zero; the highest repeat the last that counts.
        let link = self.link().load(Ordering::Acquire) as i64;
        let address = (link >> (RECORDS_SHIFT - 3)) as usize & !7;
        NonNull::new(ptr::with_exposed_provenance_mut(address))
    }

    fn set_records(self, records: Option<NonNull<u64>>) {
        let address = records.map_or(0, |records| records.expose_provenance().get());
        let bits = (address as u64 >> 3) << RECORDS_SHIFT;
        self.update(|link| link & REACH_MASK | bits);
    }

    /// log2 of the granules for each record.
    #[inline(always)]
    pub(crate) fn spacing(self) -> u32 {
        self.info().load(Ordering::Relaxed) & SPACING_MASK
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
    ///
    /// # Safety
    ///
    /// There are records. They stay while the chunk is open, or while an object starts in it.
    #[inline(always)]
    pub(crate) unsafe fn record(self, granule: u32) -> RecordRef {
        let records = self.records().unwrap_or(NonNull::dangling());
        let first = (granule >> self.spacing()) as usize * RECORD_WORDS;
        // SAFETY: the caller's promise; there is a record for each spacing.
        let record = unsafe { records.add(first) };
        // SAFETY: as above.
        unsafe { RecordRef::new(record) }
    }

    /// The granules that share the record of this one.
    #[inline(always)]
    pub(crate) fn share(self, granule: u32) -> u64 {
        share_at(self.spacing(), granule)
    }

    /// Whether there are records.
    #[inline(always)]
    pub(crate) fn has_records(self) -> bool {
        self.link().load(Ordering::Relaxed) > REACH_MASK
    }

    /// Whether objects start here.
    #[inline(always)]
    pub(crate) fn is_used(self) -> bool {
        self.starts().load(Ordering::Relaxed) != 0 || self.has(info::UNALIGNED)
    }

    /// Whether objects neither start here nor reach in.
    pub(crate) fn is_blank(self) -> bool {
        !self.is_used() && self.reach() == 0 && !self.is_covered()
    }

    /// Locks the chunk. Interrupts are off.
    #[inline(always)]
    pub(super) fn lock(self) {
        word_lock::lock(self.quarter(LOCK));
    }

    /// Locks the chunk if nobody has it locked.
    pub(super) fn try_lock(self) -> bool {
        word_lock::try_lock(self.quarter(LOCK))
    }

    #[inline(always)]
    pub(super) fn unlock(self) {
        word_lock::unlock(self.quarter(LOCK));
    }

    /// The granules of `bits`.
    pub(crate) fn granules(mut bits: u64) -> impl Iterator<Item = u32> {
        core::iter::from_fn(move || {
            let granule = bits.trailing_zeros();
            bits &= bits.wrapping_sub(1);
            (granule < 64).then_some(granule)
        })
    }

    /// Takes records at another spacing, and copies those that are in use. False where there is no memory. The chunk is
    /// locked.
    pub(crate) fn respace(self, spacing: u32, meta: &MetaAlloc<'_>) -> bool {
        let Ok(piece) = meta.take(class(spacing)) else {
            return false;
        };
        let piece = piece.into_raw();
        clear_records(piece, spacing);
        let starts = self.starts().load(Ordering::Relaxed);
        for granule in Self::granules(starts) {
            // SAFETY: an object starts there, and the chunk is locked.
            let record = unsafe { self.record(granule) }.read();
            record_in(piece, (granule >> spacing) as usize).write(&record);
        }
        self.drop_records(meta);
        let flags = self.info().load(Ordering::Relaxed) & !SPACING_MASK;
        self.info().store(flags | spacing, Ordering::Relaxed);
        self.set_records(Some(piece));
        true
    }

    /// Goes out of service and takes its records, none of which is in use, for another chunk. It is locked.
    pub(crate) fn take_records(self) -> Option<Records> {
        self.end_service();
        let piece = self.records()?.cast();
        let spacing = self.spacing();
        self.set_records(None);
        Some(Records { piece, spacing })
    }

    /// Takes another chunk's records, if it has none itself. The chunk is locked.
    pub(crate) fn lend_records(self, lent: Records) -> Result<(), Records> {
        if self.has_records() {
            return Err(lent);
        }
        clear_records(lent.piece, lent.spacing);
        let flags = self.info().load(Ordering::Relaxed) & !SPACING_MASK;
        self.info().store(flags | lent.spacing, Ordering::Relaxed);
        self.set_records(Some(lent.piece));
        Ok(())
    }

    /// Gives the records back. The chunk is locked, or the world is stopped.
    fn drop_records(self, meta: &MetaAlloc<'_>) {
        if let Some(records) = self.records() {
            self.set_records(None);
            // SAFETY: they came from such a piece, and are no chunk's any more.
            meta.give(unsafe { Piece::from_raw(records.cast(), class(self.spacing())) });
        }
    }
}

/// Records that are no chunk's at the moment.
pub(crate) struct Records {
    piece: NonNull<u64>,
    spacing: u32,
}

impl Records {
    pub(crate) fn give_back(self, meta: &MetaAlloc<'_>) {
        // SAFETY: they came from such a piece, and are no chunk's any more.
        meta.give(unsafe { Piece::from_raw(self.piece, class(self.spacing)) });
    }
}

/// A record of a piece.
fn record_in(piece: NonNull<u64>, index: usize) -> RecordRef {
    // SAFETY: inside the piece: there is a record for each spacing.
    let record = unsafe { piece.cast::<u32>().add(index * RECORD_WORDS) };
    // SAFETY: as above.
    unsafe { RecordRef::new(record) }
}

/// Records of objects that are gone tell who had the memory last, so there must be none of elsewhere.
fn clear_records(piece: NonNull<u64>, spacing: u32) {
    let blank = Record([0; RECORD_WORDS]);
    (0..1 << (MAX_SPACING - spacing)).for_each(|index| record_in(piece, index).write(&blank));
}

fn class(spacing: u32) -> Class {
    Class::records(MAX_SPACING - spacing)
}

/// The spacing for objects of `size` bytes, or where it is known, `stride` bytes apart.
#[inline(always)]
pub(crate) fn spacing_for(size: usize, stride: Option<usize>) -> u32 {
    let granules = (stride.unwrap_or(size) / GRANULE).clamp(1, 1 << MAX_SPACING);
    granules.ilog2()
}
