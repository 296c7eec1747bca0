//! The entry of a chunk: which objects start in 512 bytes of memory, which of them are marked, where their records
//! are, and what reaches in from before.
//!
//! | word | what |
//! | --- | --- |
//! | 0 | address of the records (45 bits); whether what reaches in covers the table (1); how far down that starts (18) |
//! | 1 | a bit for each granule in which an object starts |
//! | 2 | a bit for each of these whose object is marked, or does not matter to the marker |
//! | 3 | lock (16 bits); users of the table, or spare (16); spacing and flags (16); bytes of each object (16) |
//!
//! An entry is half a cache line, so one access finds out whether a pointer points to the start of an object, and whether
//! that object is marked. The entries of two chunks share a line, those of chunks in different pages never do.
//!
//! There is a record for each `1 << spacing` granules. The *spacing* (a logarithm) says how closely objects may follow one
//! another: at 3 one may start in each 64 bytes, and there are eight records. The first object determines it; when two
//! objects start more closely, the chunk gets records at a finer spacing, and the old ones are copied.
//!
//! Objects that start at no multiple of eight bytes are kept in notes ([`crate::objects::side_table`]); a flag says
//! that there are such.
//!
//! # The table's first entry
//!
//! The first entry also describes its whole table of 64 KiB, so that a large object comes and goes without a look at every
//! chunk. It counts the table's *users*: chunks in which objects start, and some in which objects started until a moment
//! ago. A table without users that nothing reaches into is *clean*. An object that covers all of a clean table is noted in
//! the first entry alone, with the bit that says so.
//!
//! A chunk comes *into service* with its first object, and then counts as a user. It stays in service when its last
//! object goes, since most often another one comes soon, and counting would be two more writes to a line that a whole
//! table shares. It waits among the few [`Emptied`](super::emptied::Emptied) chunks of its CPU, and goes out of service when
//! another chunk takes its place there and it is still empty. (A chunk in which objects start at no multiple of eight bytes
//! counts as one more user; that is rare, and ends with the last such object.)
//!
//! # Locks
//!
//! One for each chunk. The whole entry changes under it, except for the reach, which changes by compare and exchange,
//! for marks and the marker's flags, which the marker sets by atomic `or`, and for the count of a table's users, which
//! changes under the lock of each user's chunk. Interrupts are off while it is held. No CPU holds two.
//!
//! # Orderings
//!
//! Word 0 publishes the records, as they were when they were added, and the reach: it changes by AcqRel, and is loaded with
//! Acquire. Starts, marks and flags are Relaxed: the lock orders what is done under it, and the barrier between two phases of
//! a pass orders the marks that are set without it. Whether a chunk is used at all is read without the lock: a CPU that sees
//! a change late counts as having come before it. The count of a table's users pairs with itself: a CPU that finds no users
//! (Acquire) sees what former users did (AcqRel). (Where the registry stores starts with Release, the lock would suffice.)

use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering;

use crate::atomic::{AtomicU16, AtomicU32, AtomicU64};
use crate::metadata::piece::Piece;
use crate::metadata::{Class, MetaAlloc, word_of};
pub(crate) use crate::objects::info;
use crate::objects::info::{Info, SIZE_MASK, SIZE_SHIFT, SPACING_MASK, common_size};
use crate::objects::record::{RECORD_WORDS, Record, RecordRef};
pub(crate) use crate::objects::spacing::{GRANULE, MAX_SPACING, granule_of, share_at, spacing_for};
use crate::objects::word_lock;
use crate::platform::METADATA_PAGE;

/// Words of an entry.
pub(crate) const ENTRY_WORDS: usize = 4;

/// Bits of the first word that say how far down the object starts that reaches in.
const REACH_BITS: u32 = 18;
/// The largest distance that they can hold, in chunks. An object that reaches farther is found in several steps.
pub(crate) const MAX_REACH: usize = (1 << REACH_BITS) - 1;
/// The bit of a table's first entry that says that the object that reaches in covers the whole table.
const WHOLE: u64 = 1 << REACH_BITS;
/// The bits of the first word for what reaches in; above them is the address of the records.
const REACH_MASK: u64 = WHOLE | MAX_REACH as u64;
const RECORDS_SHIFT: u32 = REACH_BITS + 1;

const LINK: usize = 0;
const STARTS: usize = 1;
const MARKS: usize = 2;
/// The indices of the lock and the users, in words of 16 bits.
const LOCK: usize = 12;
const USERS: usize = 13;
/// The index of spacing and flags, in words of 32 bits.
const INFO: usize = 7;

/// The entry of a chunk, in a table of the page map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk(NonNull<u64>);

impl Chunk {
    /// The entry that lies there.
    ///
    /// # Safety
    ///
    /// It is an entry of a table of the page map, which stays until all metadata is given back.
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
    pub(super) fn info<'a>(self) -> &'a AtomicU32 {
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

    pub(super) fn users<'a>(self) -> &'a AtomicU16 {
        self.head().quarter(USERS)
    }

    /// Of each but a table's first entry: where that one counts its users, room for what belongs to no chunk.
    pub(super) fn spare<'a>(self) -> &'a AtomicU16 {
        self.quarter(USERS)
    }

    /// Adds one to the count of the table's users, for this chunk, which is locked.
    pub(crate) fn add_user(self) {
        self.users().fetch_add(1, Ordering::AcqRel);
    }

    /// Subtracts one from the count of the table's users, for this chunk, which is locked, or the world is stopped.
    pub(crate) fn remove_user(self) {
        self.users().fetch_sub(1, Ordering::AcqRel);
    }

    /// Of a table's first entry: whether the table has users.
    pub(crate) fn has_users(self) -> bool {
        self.users().load(Ordering::Acquire) != 0
    }

    /// Whether it is in service, with records that were provided for objects of so many bytes, as far as is known.
    #[inline(always)]
    pub(crate) fn serves(self, bytes: usize) -> bool {
        let now = self.now();
        now.has(info::SERVES) && now.agrees(bytes)
    }

    /// Notes that an object of so many bytes starts here, beside these, of which some may have another size. It is locked.
    #[cold]
    #[inline(never)]
    pub(crate) fn note_size(self, bytes: usize, others: u64) {
        if others == 0 {
            self.set_common_size(common_size(bytes));
        } else if self.now().has_common_size() {
            self.forget_size();
        }
    }

    /// Forgets what is said of the size of all objects: it is not true any more. It is locked, or the world is stopped.
    pub(crate) fn forget_size(self) {
        self.set_common_size(0);
    }

    fn set_common_size(self, bytes: u32) {
        let change = |info| Some(info & !SIZE_MASK | bytes << SIZE_SHIFT);
        // Beside flags that the marker sets without the lock.
        let _ = (self.info()).fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }

    /// Sets the mark of the object that starts in this granule, and returns whether it was not set before. If several CPUs set it
    /// at once, one of them gets `true`.
    #[inline(always)]
    pub(crate) fn mark(self, granule: u32) -> bool {
        let bit = 1 << granule;
        self.marks().fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    /// Spacing, flags and common size as they are now.
    #[inline(always)]
    pub(crate) fn now(self) -> Info {
        Info(self.info().load(Ordering::Relaxed))
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
        self.link().load(Ordering::Acquire) & REACH_MASK == 0 && !self.has_users()
    }

    /// Of a table's first entry: notes that an object that starts `reach` chunks further down covers the table. False, and
    /// nothing is noted, if the table is not clean.
    pub(crate) fn cover(self, reach: usize) -> bool {
        let clean = self.is_clean();
        if clean {
            self.set_reach_bits(WHOLE | reach.min(MAX_REACH) as u64);
        }
        clean
    }

    /// Of a table's first entry: takes back that an object that starts `reach` chunks further down covers the table. False if
    /// that was not noted.
    pub(crate) fn uncover(self, reach: usize) -> bool {
        self.clear_reach_bits(WHOLE | reach.min(MAX_REACH) as u64)
    }

    /// How many chunks further down the object starts that reaches in; [`MAX_REACH`] if it is that many or more, and zero if
    /// no object reaches in.
    #[inline(always)]
    pub(crate) fn reach(self) -> usize {
        self.link().load(Ordering::Acquire) as usize & MAX_REACH
    }

    /// Notes that an object reaches in that starts `reach` chunks further down.
    pub(crate) fn set_reach(self, reach: usize) {
        self.set_reach_bits(reach.min(MAX_REACH) as u64);
    }

    /// Takes back that an object reaches in that starts `reach` chunks further down, if that was noted.
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

    /// Changes the first word, and returns whether its value changed.
    fn update(self, change: impl Fn(u64) -> u64) -> bool {
        let change = |link| Some(change(link)).filter(|&changed| changed != link);
        self.link()
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, change)
            .is_ok()
    }

    /// The records, if there are any.
    #[inline(always)]
    fn records(self) -> Option<NonNull<u32>> {
        // The address is stored without its lowest three bits, which are zero, and is sign-extended.
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
        self.now().has(flags)
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
        #[cfg(test)]
        crate::metadata::work_tests::count();
        let records = self.records().unwrap_or(NonNull::dangling());
        let first = (granule >> self.spacing()) as usize * RECORD_WORDS;
        // SAFETY: the caller's promise; there is a record for each `1 << spacing` granules.
        let record = unsafe { records.add(first) };
        // SAFETY: as above.
        unsafe { RecordRef::new(record) }
    }

    /// The record of the object that starts in this granule, if nothing reaches in.
    ///
    /// # Safety
    ///
    /// There are records, at this spacing. They stay while the chunk is open, or while an object starts in it.
    #[inline(always)]
    pub(super) unsafe fn record_alone(self, granule: u32, spacing: u32) -> Option<RecordRef> {
        #[cfg(test)]
        crate::metadata::work_tests::count();
        let link = self.link().load(Ordering::Acquire) as i64;
        if link as u64 & REACH_MASK != 0 {
            return None;
        }
        // The bits below the address are zero.
        let first = (granule >> spacing) as usize * (4 * RECORD_WORDS);
        let address = (link >> (RECORDS_SHIFT - 3)) as usize + first;
        // SAFETY: the caller's promise: there are records, and not at zero.
        let record = unsafe { NonNull::new_unchecked(ptr::with_exposed_provenance_mut(address)) };
        // SAFETY: as above.
        Some(unsafe { RecordRef::new(record) })
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

    /// Locks the chunk if it is not locked.
    #[inline(always)]
    pub(super) fn try_lock(self) -> bool {
        word_lock::try_lock(self.quarter(LOCK))
    }

    #[inline(always)]
    pub(super) fn unlock(self) {
        word_lock::unlock(self.quarter(LOCK));
    }

    /// The numbers of the granules whose bits are set in `bits`.
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
            // SAFETY: they came from such a piece, and the chunk does not use them any more.
            meta.give(unsafe { Piece::from_raw(records.cast(), class(self.spacing())) });
        }
    }
}

/// Records that belong to no chunk at the moment.
pub(crate) struct Records {
    piece: NonNull<u64>,
    spacing: u32,
}

impl Records {
    pub(crate) fn give_back(self, meta: &MetaAlloc<'_>) {
        // SAFETY: they came from such a piece, and no chunk uses them any more.
        meta.give(unsafe { Piece::from_raw(self.piece, class(self.spacing)) });
    }
}

/// A record of a piece.
fn record_in(piece: NonNull<u64>, index: usize) -> RecordRef {
    // SAFETY: inside the piece, which has a record with this index.
    let record = unsafe { piece.cast::<u32>().add(index * RECORD_WORDS) };
    // SAFETY: as above.
    unsafe { RecordRef::new(record) }
}

/// Clears records: those of former objects tell who had the memory last, so they must not come from another chunk.
fn clear_records(piece: NonNull<u64>, spacing: u32) {
    let blank = Record([0; RECORD_WORDS]);
    (0..1 << (MAX_SPACING - spacing)).for_each(|index| record_in(piece, index).write(&blank));
}

fn class(spacing: u32) -> Class {
    Class::records(MAX_SPACING - spacing)
}
