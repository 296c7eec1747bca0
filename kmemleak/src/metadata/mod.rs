//! Memory for metadata: pages from a bootstrap pool and the platform, cut into pieces.
//!
//! Whoever tracks allocations cannot allocate. So metadata comes from pages: first from the bootstrap pool that
//! lies in the detector itself, so that tracking works before any allocator does, then from the platform.
//! They are cut into pieces of a few sizes ([`Class`]); a piece that is given back is kept for the next use of its
//! class. Each CPU has a small stash of pieces, so that the shared lists are rarely asked.
//!
//! # Invariants
//!
//! - A piece belongs to one class for good. Who holds the address of a piece that has been given back may therefore
//!   still read its words, if stale ones do no harm.
//! - Of a piece on a free list only the word [`LINK`] is written.
//! - Addresses of pages and pieces are kept inverted, here and wherever they are stored.
//!
//! # Locks
//!
//! One for each stash, one over the shared lists, taken in that order, with interrupts off. The platform is asked
//! for pages under both.

pub(crate) mod hidden;
pub(crate) mod kept;
pub(crate) mod keyed_list;
pub(crate) mod page_source;
pub(crate) mod page_vec;
pub(crate) mod pool;
pub(crate) mod ranges;

use core::ops::Range;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use spin::mutex::SpinMutex;

use self::page_source::PageSource;
use self::pool::Pool;
use crate::metadata::hidden::Hidden;
use crate::platform::{METADATA_PAGE, Platform};

/// Bytes of a word.
pub(crate) const WORD: usize = size_of::<u64>();

/// Words of a page.
pub(crate) const PAGE_WORDS: usize = METADATA_PAGE / WORD;

/// The word of a free piece that links it to the next one.
const LINK: usize = 1;

/// The sizes of pieces, in words: see [`Class`].
const CLASS_WORDS: [usize; CLASSES] = [4, 7, 8, 14, 28, 56, 112, 224];
const CLASSES: usize = 8;

/// A size of pieces, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class(usize);

impl Class {
    /// Notes of rare things: 64 bytes.
    pub(crate) const NOTE: Self = Self(2);

    /// A part of the text of a pattern: 224 bytes.
    pub(crate) const PATTERN_TEXT: Self = Self(4);

    /// The largest: 1792 bytes.
    pub(crate) const LARGEST: Self = Self(CLASSES - 1);

    /// `1 << log2` records, of 28 bytes each.
    pub(crate) const fn records(log2: u32) -> Self {
        Self(if log2 < 2 {
            log2 as usize
        } else {
            log2 as usize + 1
        })
    }

    pub(crate) const fn words(self) -> usize {
        CLASS_WORDS[self.0]
    }
}

/// CPUs that have stashes of their own; beyond that they are shared.
const STASHES: usize = 16;

/// Pieces of one class that a stash takes at once, and twice as many as it keeps.
const BATCH: usize = 4;

/// One CPU's free pieces.
#[repr(align(64))]
struct Stash(SpinMutex<Own>);

/// What a CPU has for itself. Its pieces come from pages of its own, so that what one CPU's memory needs lies in no
/// cache line of another's.
struct Own {
    free: Lists,
    /// The rest of the page that is being cut: its start, and its words.
    rest: Hidden,
    rest_words: usize,
}

impl Own {
    const fn new() -> Self {
        Self {
            free: Lists::new(),
            rest: Hidden::NONE,
            rest_words: 0,
        }
    }

    /// The first words of the rest.
    fn cut_rest(&mut self, class: Class) -> Option<NonNull<u64>> {
        let piece = NonNull::new(ptr::with_exposed_provenance_mut::<u64>(self.rest.get()))?;
        self.rest = Hidden::new(self.rest.get() + class.words() * WORD);
        self.rest_words -= class.words();
        Some(piece)
    }
}

/// Free pieces, by class.
struct Lists {
    first: [Hidden; CLASSES],
    len: [usize; CLASSES],
}

impl Lists {
    const fn new() -> Self {
        Self {
            first: [Hidden::NONE; CLASSES],
            len: [0; CLASSES],
        }
    }

    fn push(&mut self, class: Class, piece: NonNull<u64>) {
        let link = self.first[class.0];
        word_of(piece, LINK).store(link.bits(), Ordering::Relaxed);
        self.first[class.0] = Hidden::new(piece.expose_provenance().get());
        self.len[class.0] += 1;
    }

    fn pop(&mut self, class: Class) -> Option<NonNull<u64>> {
        let first = self.first[class.0];
        if first == Hidden::NONE {
            return None;
        }
        let piece = NonNull::new(ptr::with_exposed_provenance_mut(first.get()))?;
        let link = word_of(piece, LINK).load(Ordering::Relaxed);
        self.first[class.0] = Hidden::from_bits(link);
        self.len[class.0] -= 1;
        Some(piece)
    }
}

/// The shared lists, and the page that is being cut.
struct Shared {
    free: Lists,
    pages: Pages,
}

/// All pages, for the day when they are given back.
struct Pages {
    /// A page of addresses of pages, whose first word links to the next such page.
    first: Hidden,
    used: usize,
}

/// All metadata memory.
pub(crate) struct Memory {
    shared: SpinMutex<Shared>,
    stashes: [Stash; STASHES],
    /// Of whole pages. Only told, as the next.
    bytes: AtomicUsize,
    /// Bytes of pieces that are in use, by class.
    pieces: [AtomicUsize; CLASSES],
    /// Some requests are refused: for tests of what happens then. Set while nobody asks; Relaxed, as the next two.
    limited: AtomicBool,
    /// Which, from the first of these numbers to before the second, and how many there were.
    refused: (AtomicU64, AtomicU64),
    requests: AtomicU64,
}

/// Where pages come from, and for which CPU pieces are taken.
pub(crate) struct MetaAlloc<'a> {
    pub(crate) platform: &'a dyn Platform,
    pub(crate) pool: Pool,
    pub(crate) memory: &'a Memory,
    pub(crate) cpu: u32,
}

/// A word of metadata, of which somebody may read while another writes. What orders its accesses is told where it is used:
/// those of this file and of [`Piece`] are Relaxed, under the lock of whose the piece is.
pub(crate) fn word_of<'a>(piece: NonNull<u64>, index: usize) -> &'a AtomicU64 {
    // SAFETY: words of metadata pages live until all is given back, which waits for everybody; the callers keep
    // to the words of their piece.
    unsafe { AtomicU64::from_ptr(piece.as_ptr().wrapping_add(index)) }
}

/// A piece, as its owner sees it: words of which somebody may read while another writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece(pub(crate) NonNull<u64>);

impl Piece {
    /// The piece that lies there, if any.
    pub(crate) fn at(hidden: Hidden) -> Option<Self> {
        hidden.metadata().map(Self)
    }

    pub(crate) fn hidden(self) -> Hidden {
        Hidden::new(self.0.expose_provenance().get())
    }

    pub(crate) fn get(self, word: usize) -> u64 {
        word_of(self.0, word).load(Ordering::Relaxed)
    }

    pub(crate) fn set(self, word: usize, value: u64) {
        word_of(self.0, word).store(value, Ordering::Relaxed);
    }

    /// Where the next piece of a chain lies. In use, the word that links free pieces links those of its owner.
    pub(crate) fn link(self) -> Hidden {
        Hidden::from_bits(self.get(LINK))
    }

    /// The next piece.
    pub(crate) fn next(self) -> Option<Self> {
        Self::at(self.link())
    }

    pub(crate) fn set_next(self, next: Hidden) {
        self.set(LINK, next.bits());
    }
}

/// A chain of pieces of one class, appended to one by one. It is to be cleared before it is dropped, or its memory stays in
/// use until all is given back.
pub(crate) struct Pieces {
    class: Class,
    first: Hidden,
    last: Hidden,
}

impl Pieces {
    pub(crate) const fn new(class: Class) -> Self {
        Self {
            class,
            first: Hidden::NONE,
            last: Hidden::NONE,
        }
    }

    pub(crate) fn first(&self) -> Option<Piece> {
        Piece::at(self.first)
    }

    pub(crate) fn last(&self) -> Option<Piece> {
        Piece::at(self.last)
    }

    /// One piece more, its first word zero. `None` where there is no memory.
    pub(crate) fn append(&mut self, meta: &MetaAlloc<'_>) -> Option<Piece> {
        let piece = Piece(meta.take(self.class)?);
        piece.set(0, 0);
        piece.set_next(Hidden::NONE);
        match self.last() {
            Some(last) => last.set_next(piece.hidden()),
            None => self.first = piece.hidden(),
        }
        self.last = piece.hidden();
        Some(piece)
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = Piece> {
        core::iter::successors(self.first(), |piece| piece.next())
    }

    /// Gives its memory back.
    pub(crate) fn clear(&mut self, meta: &MetaAlloc<'_>) {
        let mut next = self.first();
        while let Some(piece) = next {
            next = piece.next();
            meta.give(self.class, piece.0);
        }
        *self = Self::new(self.class);
    }
}

impl Memory {
    pub(crate) const fn new() -> Self {
        Self {
            shared: SpinMutex::new(Shared {
                free: Lists::new(),
                pages: Pages {
                    first: Hidden::NONE,
                    used: 0,
                },
            }),
            stashes: [const { Stash(SpinMutex::new(Own::new())) }; STASHES],
            bytes: AtomicUsize::new(0),
            pieces: [const { AtomicUsize::new(0) }; CLASSES],
            limited: AtomicBool::new(false),
            refused: (AtomicU64::new(0), AtomicU64::new(0)),
            requests: AtomicU64::new(0),
        }
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
        self.requests.store(0, Ordering::Relaxed);
        self.refused.0.store(numbers.start, Ordering::Relaxed);
        self.refused.1.store(numbers.end, Ordering::Relaxed);
        self.limited.store(true, Ordering::Relaxed);
    }

    /// Refuses nothing.
    pub(crate) fn refuse_nothing(&self) {
        self.limited.store(false, Ordering::Relaxed);
    }

    /// Requests since [`Memory::refuse`].
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    #[inline]
    fn refuses(&self) -> bool {
        self.limited.load(Ordering::Relaxed) && self.refuses_this()
    }

    #[cold]
    fn refuses_this(&self) -> bool {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let (first, end) = (&self.refused.0, &self.refused.1);
        (first.load(Ordering::Relaxed)..end.load(Ordering::Relaxed)).contains(&number)
    }
}

// SAFETY: pages are zeroed, aligned, and nobody else's until all is given back.
unsafe impl PageSource for MetaAlloc<'_> {
    fn page(&self) -> Option<NonNull<u8>> {
        MetaAlloc::page(self).map(NonNull::cast)
    }
}

impl MetaAlloc<'_> {
    /// A page, zeroed. The caller keeps it until all is given back by [`MetaAlloc::empty`]: every page is remembered.
    pub(crate) fn page(&self) -> Option<NonNull<u64>> {
        if self.memory.refuses() {
            return None;
        }
        self.page_under(&mut self.memory.shared.lock())
    }

    fn page_under(&self, shared: &mut Shared) -> Option<NonNull<u64>> {
        let list = &mut shared.pages;
        if list.first == Hidden::NONE || list.used == PAGE_WORDS {
            let next = list.first;
            let page = self.raw_page()?;
            word_of(page, 0).store(next.bits(), Ordering::Relaxed);
            list.first = Hidden::new(page.expose_provenance().get());
            list.used = 1;
        }
        let page = self.raw_page()?;
        let directory = NonNull::new(ptr::with_exposed_provenance_mut::<u64>(list.first.get()))?;
        let hidden = Hidden::new(page.expose_provenance().get());
        word_of(directory, list.used).store(hidden.bits(), Ordering::Relaxed);
        list.used += 1;
        Some(page)
    }

    fn raw_page(&self) -> Option<NonNull<u64>> {
        let page = self
            .pool
            .take()
            .or_else(|| self.platform.metadata_alloc())?;
        // SAFETY: a page of ours.
        unsafe { ptr::write_bytes(page.as_ptr(), 0, METADATA_PAGE) };
        self.memory
            .bytes
            .fetch_add(METADATA_PAGE, Ordering::Relaxed);
        Some(page.cast())
    }

    /// A piece of a class. Its words hold what its last user left in them.
    pub(crate) fn take(&self, class: Class) -> Option<NonNull<u64>> {
        if self.memory.refuses() {
            return None;
        }
        let mut stash = self.stash();
        if stash.free.len[class.0] == 0 {
            let mut shared = self.memory.shared.lock();
            while stash.free.len[class.0] < BATCH
                && let Some(piece) = shared.free.pop(class)
            {
                stash.free.push(class, piece);
            }
        }
        if stash.free.len[class.0] == 0 {
            let piece = self.cut(&mut stash, class)?;
            stash.free.push(class, piece);
        }
        let piece = stash.free.pop(class)?;
        let bytes = class.words() * WORD;
        self.memory.pieces[class.0].fetch_add(bytes, Ordering::Relaxed);
        Some(piece)
    }

    /// Takes a piece back.
    pub(crate) fn give(&self, class: Class, piece: NonNull<u64>) {
        let bytes = class.words() * WORD;
        self.memory.pieces[class.0].fetch_sub(bytes, Ordering::Relaxed);
        let mut stash = self.stash();
        stash.free.push(class, piece);
        if stash.free.len[class.0] > 2 * BATCH {
            let mut shared = self.memory.shared.lock();
            for _ in 0..BATCH {
                if let Some(piece) = stash.free.pop(class) {
                    shared.free.push(class, piece);
                }
            }
        }
    }

    fn stash(&self) -> spin::mutex::SpinMutexGuard<'_, Own> {
        self.memory.stashes[self.cpu as usize % STASHES].0.lock()
    }

    /// Cuts a piece from a page. What is left of the page before is cut into smaller pieces: nothing is wasted.
    fn cut(&self, own: &mut Own, class: Class) -> Option<NonNull<u64>> {
        if own.rest_words < class.words() {
            let page = self.page_under(&mut self.memory.shared.lock())?;
            while let Some(smaller) = (0..CLASSES)
                .rev()
                .map(Class)
                .find(|class| class.words() <= own.rest_words)
            {
                let piece = own.cut_rest(smaller)?;
                own.free.push(smaller, piece);
            }
            own.rest = Hidden::new(page.expose_provenance().get());
            own.rest_words = PAGE_WORDS;
        }
        own.cut_rest(class)
    }

    /// Forgets everything and gives all pages but those of the bootstrap pool to the platform. Nobody else
    /// uses the detector. Task context.
    pub(crate) fn empty(&self) {
        let own = self.pool.range();
        let give_back = |page: Hidden| {
            if !own.contains(&page.get())
                && let Some(page) = NonNull::new(ptr::with_exposed_provenance_mut(page.get()))
            {
                // SAFETY: came from the platform, and nobody uses it any more.
                unsafe { self.platform.metadata_free(page) };
            }
        };
        let (mut first, mut used) = {
            let mut shared = self.memory.shared.lock();
            let pages = (shared.pages.first, shared.pages.used);
            *shared = Shared {
                free: Lists::new(),
                pages: Pages {
                    first: Hidden::NONE,
                    used: 0,
                },
            };
            pages
        };
        for stash in &self.memory.stashes {
            *stash.0.lock() = Own::new();
        }
        self.memory.bytes.store(0, Ordering::Relaxed);
        self.memory
            .pieces
            .iter()
            .for_each(|bytes| bytes.store(0, Ordering::Relaxed));
        while first != Hidden::NONE
            && let Some(directory) =
                NonNull::new(ptr::with_exposed_provenance_mut::<u64>(first.get()))
        {
            for index in 1..used {
                give_back(Hidden::from_bits(
                    word_of(directory, index).load(Ordering::Relaxed),
                ));
            }
            let next = Hidden::from_bits(word_of(directory, 0).load(Ordering::Relaxed));
            give_back(first);
            (first, used) = (next, PAGE_WORDS);
        }
    }
}
