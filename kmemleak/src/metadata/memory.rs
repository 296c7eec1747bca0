//! All metadata memory, and how pages and pieces of it are taken.
//!
//! # Locks
//!
//! One for each stash, and one for what CPUs share, taken in that order, with interrupts off. The platform is asked for
//! pages with both held, or with the shared one alone.

use core::mem;
use core::ops::Range;
use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering;

use crate::atomic::{AtomicBool, AtomicU64, AtomicUsize, Lock, LockGuard};
use crate::metadata::class::{CLASSES, Class};
use crate::metadata::hidden::Hidden;
use crate::metadata::lent::{LentMemory, WholePages};
use crate::metadata::page::{NewPage, NoMemory, PAGE_WORDS, PageSource};
use crate::metadata::page_log::PageLog;
use crate::metadata::piece::{FreePieces, Piece};
use crate::metadata::pool::Pool;
use crate::platform::{METADATA_PAGE, Platform};

/// The number of stashes. With more CPUs, several CPUs share a stash.
const STASHES: usize = 16;

/// How many pieces of one class a stash takes or gives back at once. It keeps at most twice as many.
const BATCH: usize = 4;

/// One CPU's free pieces.
#[repr(align(64))]
struct Stash(Lock<Own>);

/// What a CPU has for itself. Its pieces come from pages of its own, so that two CPUs do not share cache lines.
struct Own {
    free: FreePieces,
    /// The rest of the page that is being cut: its start, and its length in words.
    rest: Hidden,
    rest_words: usize,
}

impl Own {
    const fn new() -> Self {
        Self {
            free: FreePieces::new(),
            rest: Hidden::NONE,
            rest_words: 0,
        }
    }

    /// A piece of the first words of the rest; `None` if there are too few.
    fn cut_rest(&mut self, class: Class) -> Option<Piece> {
        let rest_words = self.rest_words.checked_sub(class.words())?;
        let start = self.rest.pointer()?;
        self.rest = Hidden::new(self.rest.get() + class.bytes());
        self.rest_words = rest_words;
        // SAFETY: words of this CPU's page, which do not belong to the rest any more.
        Some(unsafe { Piece::from_raw(start, class) })
    }

    /// Goes on to another page. What is left of the previous page is cut into smaller pieces.
    fn cut_from(&mut self, page: NewPage) {
        while let Some(smaller) = Class::largest_within(self.rest_words)
            && let Some(piece) = self.cut_rest(smaller)
        {
            self.free.push(piece);
        }
        self.rest = Hidden::of(page.start());
        self.rest_words = PAGE_WORDS;
    }
}

/// What CPUs share.
pub(super) struct Common {
    free: FreePieces,
    /// Pages of the platform.
    log: PageLog,
    pub(super) lent: LentMemory,
}

impl Common {
    const fn new() -> Self {
        Self {
            free: FreePieces::new(),
            log: PageLog::new(),
            lent: LentMemory::new(),
        }
    }
}

/// All metadata memory.
pub(crate) struct Memory {
    pub(super) common: Lock<Common>,
    stashes: [Stash; STASHES],
    /// Bytes of pages. A statistic, as are the bytes of pieces.
    pub(super) bytes: AtomicUsize,
    /// Bytes of pieces that are in use, by class.
    pieces: [AtomicUsize; CLASSES],
    pub(super) refusals: Refusals,
    /// Where the first pages come from.
    pool: Option<Pool>,
}

/// Requests that are refused, for tests of what happens then. Relaxed: changed while nobody takes memory.
pub(super) struct Refusals {
    is_on: AtomicBool,
    /// The numbers of the requests that are refused: from `first` on, below `end`.
    first: AtomicU64,
    end: AtomicU64,
    /// How many requests there were.
    requests: AtomicU64,
}

impl Refusals {
    #[inline]
    pub(super) fn check(&self) -> Result<(), NoMemory> {
        match self.is_on.load(Ordering::Relaxed) && self.refuse_this() {
            true => Err(NoMemory),
            false => Ok(()),
        }
    }

    #[cold]
    fn refuse_this(&self) -> bool {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        (self.first.load(Ordering::Relaxed)..self.end.load(Ordering::Relaxed)).contains(&number)
    }
}

impl Memory {
    pub(crate) const fn new() -> Self {
        Self {
            common: Lock::new(Common::new()),
            stashes: [const { Stash(Lock::new(Own::new())) }; STASHES],
            bytes: AtomicUsize::new(0),
            pieces: [const { AtomicUsize::new(0) }; CLASSES],
            refusals: Refusals {
                is_on: AtomicBool::new(false),
                first: AtomicU64::new(0),
                end: AtomicU64::new(0),
                requests: AtomicU64::new(0),
            },
            pool: None,
        }
    }

    /// Takes the first pages from `pool`.
    pub(crate) const fn set_pool(&mut self, pool: Pool) {
        self.pool = Some(pool);
    }

    /// Where the pool lies; nowhere if there is none.
    pub(crate) fn pool_range(&self) -> Range<usize> {
        self.pool.map_or(0..0, Pool::range)
    }

    /// Bytes of metadata pages.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes of pieces that are in use.
    pub(crate) fn piece_bytes(&self) -> usize {
        let bytes = |pieces: &AtomicUsize| pieces.load(Ordering::Relaxed);
        self.pieces.iter().map(bytes).sum()
    }

    /// Refuses the requests with these numbers from now on, as if memory were used up.
    pub(crate) fn refuse(&self, numbers: Range<u64>) {
        self.refusals.requests.store(0, Ordering::Relaxed);
        self.refusals.first.store(numbers.start, Ordering::Relaxed);
        self.refusals.end.store(numbers.end, Ordering::Relaxed);
        self.refusals.is_on.store(true, Ordering::Relaxed);
    }

    /// Refuses nothing.
    pub(crate) fn refuse_nothing(&self) {
        self.refusals.is_on.store(false, Ordering::Relaxed);
    }

    /// Requests since [`Memory::refuse`].
    pub(crate) fn requests(&self) -> u64 {
        self.refusals.requests.load(Ordering::Relaxed)
    }
}

/// Takes pages and pieces, for one CPU.
pub(crate) struct MetaAlloc<'a> {
    pub(crate) platform: &'a dyn Platform,
    pub(crate) memory: &'a Memory,
    pub(crate) cpu: u32,
}

impl PageSource for MetaAlloc<'_> {
    fn page(&self) -> Result<NewPage, NoMemory> {
        self.memory.refusals.check()?;
        self.page_under(&mut self.memory.common.lock())
    }
}

impl MetaAlloc<'_> {
    /// A page of the pool, else of the platform, else of what was lent.
    fn page_under(&self, common: &mut Common) -> Result<NewPage, NoMemory> {
        let Common { log, lent, .. } = common;
        let zeroed = |page| self.zeroed(page);
        let of_platform = || self.platform.metadata_alloc().map(zeroed);
        let of_pool = self.memory.pool.and_then(Pool::take).map(zeroed);
        let page = of_pool
            .or_else(|| log.noted(of_platform))
            .or_else(|| lent.take().map(zeroed))
            .ok_or(NoMemory)?;
        // SAFETY: zeroed, and taken from where it came from.
        Ok(unsafe { NewPage::new(page) })
    }

    /// Clears and counts a page that was just taken from the pool, the platform, or what was lent. It has no other user.
    fn zeroed(&self, page: NonNull<u8>) -> NonNull<u8> {
        // SAFETY: such a page is memory, and nobody else uses it.
        unsafe { ptr::write_bytes(page.as_ptr(), 0, METADATA_PAGE) };
        self.memory
            .bytes
            .fetch_add(METADATA_PAGE, Ordering::Relaxed);
        page
    }

    /// Adds pages that are lent for good.
    pub(crate) fn lend(&self, pages: WholePages) {
        self.memory.common.lock().lent.add(pages);
    }

    /// A piece of a class.
    pub(crate) fn take(&self, class: Class) -> Result<Piece, NoMemory> {
        self.memory.refusals.check()?;
        let mut stash = self.stash();
        if stash.free.len(class) == 0 {
            let mut common = self.memory.common.lock();
            while stash.free.len(class) < BATCH
                && let Some(piece) = common.free.pop(class)
            {
                stash.free.push(piece);
            }
        }
        let piece = match stash.free.pop(class) {
            Some(piece) => piece,
            None => self.cut(&mut stash, class)?,
        };
        self.memory.pieces[class.number()].fetch_add(class.bytes(), Ordering::Relaxed);
        Ok(piece)
    }

    /// Takes a piece back.
    pub(crate) fn give(&self, piece: Piece) {
        let class = piece.class();
        self.memory.pieces[class.number()].fetch_sub(class.bytes(), Ordering::Relaxed);
        let mut stash = self.stash();
        stash.free.push(piece);
        if stash.free.len(class) > 2 * BATCH {
            let mut common = self.memory.common.lock();
            let batch = core::iter::from_fn(|| stash.free.pop(class)).take(BATCH);
            batch.for_each(|piece| common.free.push(piece));
        }
    }

    fn stash(&self) -> LockGuard<'_, Own> {
        self.memory.stashes[self.cpu as usize % STASHES].0.lock()
    }

    /// Cuts a piece from this CPU's page, or from a new one.
    fn cut(&self, own: &mut Own, class: Class) -> Result<Piece, NoMemory> {
        if let Some(piece) = own.cut_rest(class) {
            return Ok(piece);
        }
        let page = self.page_under(&mut self.memory.common.lock())?;
        own.cut_from(page);
        own.cut_rest(class).ok_or(NoMemory)
    }

    /// Forgets everything and gives the platform's pages back to it. Task context.
    ///
    /// # Safety
    ///
    /// Nobody uses a page or a piece any more.
    pub(crate) unsafe fn empty(&self) {
        let common = mem::replace(&mut *self.memory.common.lock(), Common::new());
        for stash in &self.memory.stashes {
            *stash.0.lock() = Own::new();
        }
        self.memory.bytes.store(0, Ordering::Relaxed);
        for bytes in &self.memory.pieces {
            bytes.store(0, Ordering::Relaxed);
        }
        common.log.hand_over(|page| {
            // SAFETY: it came from the platform, and nobody uses it any more.
            unsafe { self.platform.metadata_free(page) };
        });
    }
}
