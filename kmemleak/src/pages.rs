//! Pages of metadata, numbered.
//!
//! Metadata is named by 32-bit numbers, not by addresses: half the size, and no reference. A
//! [`Directory`] turns the number of a page into the page. Pages come from the bootstrap pool inside the
//! detector first, then from the platform.
//!
//! # Invariants
//!
//! - A page, once in a directory, stays until the directory is emptied; so a number that was given out
//!   stays good until then.
//! - Pages are written to as words, under the detector's lock.

use core::cell::UnsafeCell;
use core::ptr::{self, NonNull};

use crate::hidden::Hidden;
use crate::platform::{METADATA_PAGE, Platform};

/// Words of a page.
pub(crate) const PAGE_WORDS: usize = METADATA_PAGE / size_of::<u64>();

/// Pages that one page of a directory names.
const FAN_OUT: usize = METADATA_PAGE / size_of::<usize>();

/// Directory pages at most: 2^17 pages, half a gigabyte of metadata.
const DIRECTORY_PAGES: usize = 256;

/// The bootstrap pool: memory inside the detector, for what is allocated before any allocator stands.
#[repr(C, align(4096))]
pub(crate) struct Bootstrap<const BYTES: usize> {
    memory: UnsafeCell<[u8; BYTES]>,
}

impl<const BYTES: usize> Bootstrap<BYTES> {
    pub(crate) const fn new() -> Self {
        Self {
            memory: UnsafeCell::new([0; BYTES]),
        }
    }

    /// Where the pool's memory lies, and how many whole pages it has.
    pub(crate) fn pages(&self) -> (NonNull<u8>, usize) {
        (NonNull::from(&self.memory).cast(), BYTES / METADATA_PAGE)
    }
}

/// Where pages come from: the bootstrap pool until it is used up, then the platform.
pub(crate) struct Source<'a> {
    pub(crate) platform: &'a dyn Platform,
    /// The bootstrap pool: its start and its pages.
    pub(crate) bootstrap: (NonNull<u8>, usize),
}

/// How much of the bootstrap pool is used, and how many pages the platform has given.
#[derive(Debug)]
pub(crate) struct Usage {
    bootstrap_used: usize,
    from_platform: usize,
}

impl Usage {
    pub(crate) const fn new() -> Self {
        Self {
            bootstrap_used: 0,
            from_platform: 0,
        }
    }

    /// Bytes of metadata in use.
    pub(crate) fn bytes(&self) -> usize {
        (self.bootstrap_used + self.from_platform) * METADATA_PAGE
    }

    fn take(&mut self, source: &Source<'_>) -> Option<NonNull<u8>> {
        let (start, pages) = source.bootstrap;
        let page = if self.bootstrap_used < pages {
            let offset = self.bootstrap_used * METADATA_PAGE;
            self.bootstrap_used += 1;
            // SAFETY: inside the pool.
            unsafe { start.add(offset) }
        } else {
            let page = source.platform.metadata_alloc()?;
            self.from_platform += 1;
            page
        };
        // SAFETY: a page of ours.
        unsafe { ptr::write_bytes(page.as_ptr(), 0, METADATA_PAGE) };
        Some(page)
    }

    /// Notes that everything is given back.
    pub(crate) fn reset(&mut self) {
        *self = Self::new();
    }
}

/// Pages by number.
pub(crate) struct Directory {
    tables: [Hidden; DIRECTORY_PAGES],
    pages: u32,
}

impl Directory {
    pub(crate) const fn new() -> Self {
        Self {
            tables: [Hidden::NONE; DIRECTORY_PAGES],
            pages: 0,
        }
    }

    /// How many pages there are; their numbers are the ones below.
    pub(crate) fn len(&self) -> u32 {
        self.pages
    }

    /// Adds a page, zeroed, and returns its number.
    pub(crate) fn grow(&mut self, usage: &mut Usage, source: &Source<'_>) -> Option<u32> {
        let number = self.pages as usize;
        let (table, entry) = (number / FAN_OUT, number % FAN_OUT);
        if table == DIRECTORY_PAGES {
            return None;
        }
        if self.tables[table] == Hidden::NONE {
            self.tables[table] = Hidden::new(usage.take(source)?.expose_provenance().get());
        }
        let page = usage.take(source)?;
        let place = self.entry(table, entry);
        // SAFETY: an entry of a table of ours.
        unsafe { place.write(Hidden::new(page.expose_provenance().get())) };
        self.pages += 1;
        Some(number as u32)
    }

    fn entry(&self, table: usize, entry: usize) -> *mut Hidden {
        let table: *mut Hidden = ptr::with_exposed_provenance_mut(self.tables[table].get());
        table.wrapping_add(entry)
    }

    /// The page with this number.
    pub(crate) fn page(&self, number: u32) -> *mut u64 {
        debug_assert!(number < self.pages);
        let number = number as usize;
        let place = self.entry(number / FAN_OUT, number % FAN_OUT);
        // SAFETY: an entry of a table of ours, written when the page was added.
        ptr::with_exposed_provenance_mut(unsafe { place.read() }.get())
    }

    /// Forgets all pages, handing each to `give_back` (the directory's own as well).
    pub(crate) fn empty(&mut self, give_back: &mut dyn FnMut(NonNull<u8>)) {
        for number in 0..self.pages {
            if let Some(page) = NonNull::new(self.page(number).cast()) {
                give_back(page);
            }
        }
        for table in &mut self.tables {
            if *table != Hidden::NONE
                && let Some(page) = NonNull::new(ptr::with_exposed_provenance_mut(table.get()))
            {
                give_back(page);
            }
            *table = Hidden::NONE;
        }
        self.pages = 0;
    }
}
