//! Pages of metadata, and words that name them.
//!
//! A page is taken as a [`NewPage`]: zeroed, with one owner. The owner decides once what the page is for. An owner that uses it
//! alone takes its [start](NewPage::start). A page that several CPUs use at once becomes a [`Page`], all of whose words are
//! atomics. Pages are not given back one by one, so a `Page` is a plain value that can be copied and kept.
//!
//! The depot and the task names take pages from a [`PageSource`], and use no pieces.
//!
//! # Invariants
//!
//! - A `NewPage` is zeroed, and has no other user. If it is dropped, the page stays unused until all metadata is given back.
//! - A word of a page of [`Numbers`] is any number. A word of a page of [`Links`] is a [`PageLink`].
//! - A `PageLink` holds 0, or the inverted address of a page of its use.
//! - No `Page` is used after all metadata was given back: [`MetaAlloc::empty`](crate::metadata::MetaAlloc::empty) demands it.
//!
//! # Locks
//!
//! None.

use core::marker::PhantomData;
use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::atomic::AtomicU64;
use crate::metadata::hidden::Hidden;
use crate::platform::METADATA_PAGE;

/// Bytes of a word.
pub(crate) const WORD: usize = size_of::<u64>();

/// Numbers of a page.
pub(crate) const PAGE_WORDS: usize = METADATA_PAGE / WORD;

/// There is no memory for what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoMemory;

/// A page that was just taken: zeroed, with one owner.
#[derive(Debug)]
pub(crate) struct NewPage(NonNull<u8>);

impl NewPage {
    /// The page that begins there.
    ///
    /// # Safety
    ///
    /// These are [`METADATA_PAGE`] bytes, aligned to that, zeroed and writable. Nobody else uses them until all metadata is
    /// given back.
    pub(crate) const unsafe fn new(start: NonNull<u8>) -> Self {
        Self(start)
    }

    /// Where the page lies, for an owner that uses it alone.
    pub(crate) fn start(self) -> NonNull<u8> {
        self.0
    }
}

/// Where pages are taken from.
pub(crate) trait PageSource {
    /// A page. Any context.
    fn page(&self) -> Result<NewPage, NoMemory>;
}

/// The use of pages whose words are numbers.
#[derive(Clone, Copy)]
pub(crate) enum Numbers {}

/// The use of pages whose words name pages of the use `U`.
#[derive(Clone, Copy)]
pub(crate) struct Links<U>(PhantomData<U>);

/// A page that several CPUs may use at once.
#[derive(Clone, Copy)]
pub(crate) struct Page<U> {
    start: NonNull<u8>,
    used_as: PhantomData<U>,
}

impl<U> Page<U> {
    /// Chooses what a page is used for.
    pub(crate) fn new(page: NewPage) -> Self {
        Self {
            start: page.start(),
            used_as: PhantomData,
        }
    }

    #[inline(always)]
    pub(crate) fn start(self) -> NonNull<u8> {
        self.start
    }
}

impl Page<Numbers> {
    /// The word with this number, modulo the words of a page.
    #[inline(always)]
    pub(crate) fn word<'a>(self, index: usize) -> &'a AtomicU64 {
        // SAFETY: the index is one of a page of atomic words, which is there until nobody uses it.
        unsafe { word_of(self.start.cast(), index % PAGE_WORDS) }
    }
}

impl<U> Page<Links<U>> {
    /// The link with this number, modulo the words of a page.
    #[inline(always)]
    pub(crate) fn link<'a>(self, index: usize) -> &'a PageLink<U> {
        // SAFETY: as in a page of words.
        let word = unsafe { word_of(self.start.cast(), index % PAGE_WORDS) };
        // SAFETY: a link is this word and nothing else.
        unsafe { &*ptr::from_ref(word).cast() }
    }
}

/// A word of metadata, as an atomic.
///
/// # Safety
///
/// The word lies in metadata. It is used as an atomic of this size alone, until nobody uses it.
#[inline(always)]
pub(crate) unsafe fn word_of<'a>(start: NonNull<u64>, index: usize) -> &'a AtomicU64 {
    // SAFETY: the caller's promise.
    unsafe { AtomicU64::from_ptr(start.as_ptr().wrapping_add(index)) }
}

/// A word that names a page of the use `U`, or no page. It publishes the page with its zeros: [`fill`](Self::fill) exchanges the
/// word with Release, [`get`](Self::get) loads it with Acquire. [`is_empty`](Self::is_empty) reads nothing through it: Relaxed.
#[repr(transparent)]
pub(crate) struct PageLink<U> {
    hidden: AtomicU64,
    names: PhantomData<fn() -> Page<U>>,
}

impl<U> PageLink<U> {
    pub(crate) const fn new() -> Self {
        Self {
            hidden: AtomicU64::new(Hidden::NONE.bits()),
            names: PhantomData,
        }
    }

    /// The page.
    #[inline(always)]
    pub(crate) fn get(&self) -> Option<Page<U>> {
        match Hidden::from_bits(self.hidden.load(Acquire)) {
            Hidden::NONE => None,
            page => Some(Page {
                // SAFETY: `fill` has stored it.
                start: unsafe { page.place() },
                used_as: PhantomData,
            }),
        }
    }

    /// Whether it names no page.
    pub(crate) fn is_empty(&self) -> bool {
        Hidden::from_bits(self.hidden.load(Relaxed)) == Hidden::NONE
    }

    /// Makes the word name this page; if it names another page already, returns the new one as an error.
    pub(crate) fn fill(&self, page: NewPage) -> Result<Page<U>, NewPage> {
        let (none, hidden) = (Hidden::NONE.bits(), Hidden::of(page.0).bits());
        match self.hidden.compare_exchange(none, hidden, Release, Relaxed) {
            Ok(_) => Ok(Page::new(page)),
            Err(_) => Err(page),
        }
    }

    /// The page. If none is named, one is taken.
    pub(crate) fn get_or_take(&self, source: &impl PageSource) -> Result<Page<U>, NoMemory> {
        match self.get() {
            Some(page) => Ok(page),
            // If another CPU was faster, its page is used.
            None => self
                .fill(source.page()?)
                .or_else(|_| self.get().ok_or(NoMemory)),
        }
    }

    /// Makes the word name no page.
    pub(crate) fn clear(&self) {
        self.hidden.store(Hidden::NONE.bits(), Relaxed);
    }
}
