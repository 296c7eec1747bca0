//! An array that grows page by page and keeps its pages: for verdicts and other answers.
//!
//! A row is any struct without a destructor. Growing moves no row, so the array never needs twice its size. The pages stay for
//! the next use until all metadata is given back. Rows are stored as they are: an address in a row is a [`Hidden`].
//!
//! # Invariants
//!
//! - The pages that `first` names, those that `directories` names, and those that they name, are this array's alone.
//! - Each row below `len` has been written.
//!
//! # Locks
//!
//! None: an array has one owner, and Rust's borrowing rules order the accesses.

use core::marker::PhantomData;
use core::ptr::NonNull;

use crate::metadata::PAGE_WORDS;
use crate::metadata::hidden::Hidden;
use crate::metadata::page::{NoMemory, PageSource};
use crate::platform::METADATA_PAGE;

/// Pages that are named by the array itself, so that a small array has no page that names pages.
const FIRST: usize = 32;

/// The largest number of pages that name pages.
const DIRECTORIES: usize = 96;

/// A page that names pages: zeroed, it names none.
type Directory = [Hidden; PAGE_WORDS];

/// An array of rows.
pub(crate) struct PageVec<R> {
    /// Pages of rows.
    first: [Hidden; FIRST],
    /// Each is a [`Directory`] of the pages that follow.
    directories: [Hidden; DIRECTORIES],
    len: usize,
    rows: PhantomData<R>,
}

impl<R> PageVec<R> {
    /// Rows of a page.
    const PER_PAGE: usize = {
        assert!(size_of::<R>() > 0 && size_of::<R>() <= METADATA_PAGE);
        assert!(align_of::<R>() <= METADATA_PAGE);
        assert!(!core::mem::needs_drop::<R>(), "rows are forgotten");
        METADATA_PAGE / size_of::<R>()
    };
    /// The largest number of rows: 3 million of 64 bytes.
    const MAX: usize = (FIRST + DIRECTORIES * PAGE_WORDS) * Self::PER_PAGE;

    pub(crate) const fn new() -> Self {
        Self {
            first: [Hidden::NONE; FIRST],
            directories: [Hidden::NONE; DIRECTORIES],
            len: 0,
            rows: PhantomData,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Appends a row and returns its number.
    pub(crate) fn push(&mut self, row: R, meta: &impl PageSource) -> Result<usize, NoMemory> {
        let index = self.len;
        let place = self.room(index, meta)?;
        // SAFETY: `room` gives the place of a row in a page of this array, which is borrowed exclusively.
        unsafe { place.write(row) };
        self.len = index + 1;
        Ok(index)
    }

    /// Appends rows, page by page. Where there is no memory for all, some may have been appended.
    pub(crate) fn append(&mut self, mut rows: &[R], meta: &impl PageSource) -> Result<(), NoMemory>
    where
        R: Copy,
    {
        while !rows.is_empty() {
            let index = self.len;
            let place = self.room(index, meta)?;
            let (now, later) =
                rows.split_at(rows.len().min(Self::PER_PAGE - index % Self::PER_PAGE));
            // SAFETY: `room` gives the place of a row in a page of this array, which is borrowed exclusively; the rows behind it fit
            // into the page.
            unsafe { place.copy_from_nonoverlapping(NonNull::from(now).cast(), now.len()) };
            self.len = index + now.len();
            rows = later;
        }
        Ok(())
    }

    /// Appends blank rows until there are `len`.
    pub(crate) fn extend(&mut self, len: usize, meta: &impl PageSource) -> Result<(), NoMemory>
    where
        R: Default,
    {
        while self.len < len {
            self.push(R::default(), meta)?;
        }
        Ok(())
    }

    /// The row with this number, if there is one.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&R> {
        let place = self.place(index)?;
        // SAFETY: a row below `len` has been written; it is borrowed as long as the array is.
        Some(unsafe { place.as_ref() })
    }

    /// The row with this number, to be changed.
    #[inline]
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut R> {
        let mut place = self.place(index)?;
        // SAFETY: a row below `len` has been written; it is borrowed exclusively as long as the array is.
        Some(unsafe { place.as_mut() })
    }

    /// Exchanges two rows.
    pub(crate) fn swap(&mut self, one: usize, other: usize) {
        if let (Some(one), Some(other)) = (self.place(one), self.place(other)) {
            // SAFETY: both rows have been written, and are borrowed exclusively. They may be one.
            unsafe { one.swap(other) };
        }
    }

    /// Drops all rows; the pages stay.
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// Forgets everything; the memory is given back by its owner.
    pub(crate) fn empty(&mut self) {
        *self = Self::new();
    }

    /// Where a row lies, if there is one with this number.
    #[inline]
    fn place(&self, index: usize) -> Option<NonNull<R>> {
        if index >= self.len {
            return None;
        }
        let page = index / Self::PER_PAGE;
        if let Some(first) = self.first.get(page) {
            return Some(Self::row_in(first.pointer()?, index));
        }
        let page = page - FIRST;
        let directory = self.directories[page / PAGE_WORDS].pointer::<Directory>()?;
        // SAFETY: the directory is a page of this array's alone.
        let page = unsafe { directory.as_ref() }[page % PAGE_WORDS].pointer()?;
        Some(Self::row_in(page, index))
    }

    /// The place for a row. Its page is taken if it is missing.
    fn room(&mut self, index: usize, meta: &impl PageSource) -> Result<NonNull<R>, NoMemory> {
        if index >= Self::MAX {
            return Err(NoMemory);
        }
        let page = index / Self::PER_PAGE;
        if let Some(first) = self.first.get_mut(page) {
            return Ok(Self::row_in(taken(first, meta)?, index));
        }
        let page = page - FIRST;
        let mut directory = taken::<Directory>(&mut self.directories[page / PAGE_WORDS], meta)?;
        // SAFETY: the directory is a page of this array, which is borrowed exclusively.
        let directory = unsafe { directory.as_mut() };
        let page = taken(&mut directory[page % PAGE_WORDS], meta)?;
        Ok(Self::row_in(page, index))
    }

    fn row_in(page: NonNull<R>, index: usize) -> NonNull<R> {
        // SAFETY: a page has room for `PER_PAGE` rows.
        unsafe { page.add(index % Self::PER_PAGE) }
    }
}

/// The page that a word names. If it names none, one is taken.
fn taken<T>(word: &mut Hidden, meta: &impl PageSource) -> Result<NonNull<T>, NoMemory> {
    if let Some(page) = word.pointer() {
        return Ok(page);
    }
    let page = meta.page()?.start().cast();
    *word = Hidden::of(page);
    Ok(page)
}
