//! All pages that were taken, for the day when they are given back.

use core::ptr::NonNull;

use crate::metadata::PAGE_WORDS;
use crate::metadata::hidden::Hidden;

/// A page that names pages; its first word names the directory before.
type Directory = [Hidden; PAGE_WORDS];

/// The pages, in directories, which are pages themselves.
pub(super) struct PageLog {
    /// The directory that is being filled.
    last: Hidden,
    /// Its words that are in use.
    used: usize,
}

impl PageLog {
    pub(super) const fn new() -> Self {
        Self {
            last: Hidden::NONE,
            used: PAGE_WORDS,
        }
    }

    /// A page, which is noted.
    pub(super) fn noted(&mut self, page: impl Fn() -> Option<NonNull<u8>>) -> Option<NonNull<u8>> {
        if self.used == PAGE_WORDS {
            let directory = page()?;
            // SAFETY: the first word of a page that nobody else has.
            unsafe { directory.cast().write(self.last) };
            (self.last, self.used) = (Hidden::of(directory), 1);
        }
        let page = page()?;
        let mut directory = self.last.pointer::<Directory>()?;
        // SAFETY: a zeroed page of the log's own, borrowed exclusively with it.
        let directory = unsafe { directory.as_mut() };
        directory[self.used] = Hidden::of(page);
        self.used += 1;
        Some(page)
    }

    /// Hands all pages over, the directories as well.
    pub(super) fn hand_over(self, give_back: impl Fn(NonNull<u8>)) {
        let (mut last, mut used) = (self.last, self.used);
        while let Some(directory) = last.pointer::<Directory>() {
            // SAFETY: a page of the log's own, which is copied before it is given back.
            let before = unsafe { directory.as_ref() }[0];
            for index in 1..used {
                // SAFETY: as above.
                let page = unsafe { directory.as_ref() }[index];
                page.pointer().into_iter().for_each(&give_back);
            }
            give_back(directory.cast());
            (last, used) = (before, PAGE_WORDS);
        }
    }
}
