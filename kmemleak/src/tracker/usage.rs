//! How much memory the detector takes, and what happens when there is none.

use core::ops::{Range, RangeInclusive};
use core::sync::atomic::Ordering::Relaxed;

use crate::metadata::borrowed::BorrowedPages;
use crate::metadata::kept::Kept;
use crate::metadata::lent::WholePages;
use crate::objects::access::Locked;
use crate::objects::object::Object;
use crate::platform::{METADATA_PAGE, Platform};
use crate::tracker::Tracker;
use crate::tracker::mode_word::Unusual;

/// How much memory the detector takes for itself, besides the static that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Bytes of all its pages.
    pub bytes: usize,
    /// Of these, bytes of the records of objects, with the bitmaps that lead to them and the notes beside them.
    pub objects: usize,
    /// Of these, bytes of the call stacks. The rest are the tables of the page map, queues, verdicts, and free pages.
    pub call_stacks: usize,
}

impl<P: Platform> Tracker<P> {
    /// Metadata counts as used up.
    pub(crate) fn exhaust_metadata(&self, exhausted: bool) {
        if exhausted {
            self.word.begin(Unusual::EXHAUSTED);
            self.memory.refuse(0..u64::MAX);
        } else {
            self.word.end(Unusual::EXHAUSTED);
            self.memory.refuse_nothing();
        }
    }

    /// Refuses the requests for metadata with these numbers.
    pub(crate) fn refuse_metadata(&self, numbers: Range<u64>) {
        self.memory.refuse(numbers);
    }

    /// Requests since then.
    pub(crate) fn metadata_requests(&self) -> u64 {
        self.memory.requests()
    }

    /// Pages for an answer, which gives them back.
    pub(crate) fn borrowed_pages(&self) -> BorrowedPages<'_> {
        BorrowedPages::new(&self.platform, &self.memory)
    }

    /// How much memory the detector takes.
    pub(crate) fn metadata(&self) -> Metadata {
        Metadata {
            bytes: self.memory.bytes(),
            objects: self.memory.piece_bytes(),
            call_stacks: self.depot.bytes(),
        }
    }

    /// Takes the whole pages in `memory` for metadata, which are no root from now on, and no leak. Returns how many bytes these are.
    pub(crate) fn add_metadata(&self, memory: &'static mut [u8]) -> usize {
        let (start, len) = (memory.as_ptr().addr(), memory.len());
        let Some(pages) = WholePages::of(memory) else {
            return 0;
        };
        let (range, bytes) = (pages.range(), pages.bytes());
        let taken = self.callback(|meta| {
            self.keep_lent(start, len);
            meta.lend(pages);
            self.counted(self.root_ranges.excluded.add(range.start, bytes, (), meta));
            bytes
        });
        taken.unwrap_or(0)
    }

    /// A block of which `lent` bytes at `start` are lent is in use for good. If that is all of it, nothing is read there.
    fn keep_lent(&self, start: usize, lent: usize) {
        let keep = |object: Object<'_>, _| {
            let size = self.registry.size(object.start, object.record);
            object.set_min_count(if size <= lent { -1 } else { 0 });
        };
        self.registry.block_containing(Locked, start, keep);
    }

    /// Counts what was not kept, and returns whether it was kept.
    #[inline(always)]
    pub(crate) fn counted(&self, kept: Kept) -> bool {
        if kept == Kept::NoMemory {
            self.count_unrecorded();
        }
        kept == Kept::Yes
    }

    #[cold]
    fn count_unrecorded(&self) {
        self.unrecorded.fetch_add(1, Relaxed);
        self.unrecorded_total.fetch_add(1, Relaxed);
    }

    /// What found no room in metadata, since this was last acknowledged.
    pub(crate) fn unrecorded(&self) -> u64 {
        self.unrecorded.load(Relaxed)
    }

    /// About how many bytes of metadata would have been enough for what found no room, where there are `tracked` objects: as much
    /// for each as each object takes that the detector knows, in whole pages.
    pub(crate) fn missing_bytes(&self, tracked: usize) -> usize {
        /// At the least a record in its chunk and another one, since the first one of a chunk moves when others come, for which memory
        /// is then missing; at the most a page of the page map, for one block alone.
        const FOR_EACH: RangeInclusive<usize> = 64..=METADATA_PAGE;
        /// Upper tables of the page map, and other first pages, which many objects share.
        const SHARED: usize = 6 * METADATA_PAGE;
        let own = (self.memory.bytes()).saturating_sub(self.depot.bytes() + SHARED);
        let for_each = own.max(self.memory.piece_bytes()) / tracked.max(1);
        let missing = usize::try_from(self.unrecorded()).unwrap_or(usize::MAX);
        missing
            .saturating_mul(for_each.clamp(*FOR_EACH.start(), *FOR_EACH.end()))
            .div_ceil(METADATA_PAGE)
            .saturating_mul(METADATA_PAGE)
    }

    /// What found no room, ever.
    pub(crate) fn unrecorded_total(&self) -> u64 {
        self.unrecorded_total.load(Relaxed)
    }

    /// Acknowledges what found no room.
    pub(crate) fn forget_unrecorded(&self) {
        self.unrecorded.store(0, Relaxed);
    }

    /// Blocks that a new block was found to overlap, so their free was missed.
    pub(crate) fn missed_frees(&self) -> u64 {
        self.missed_frees.load(Relaxed)
    }

    /// Notes that `count` of the blocks without a record were freed.
    pub(crate) fn uncount_unrecorded(&self, count: u64) {
        self.unrecorded.fetch_sub(count, Relaxed);
        self.unrecorded_total.fetch_sub(count, Relaxed);
    }

    /// Whether something is missing that was not acknowledged yet.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.unrecorded() > 0
    }
}
