//! A log of all pages that were taken: they are given back together.

use core::ptr::NonNull;

use crate::metadata::PAGE_WORDS;
use crate::metadata::hidden::Hidden;

/// The addresses of pages, in a page of the log's own. The first word names the previous page of this kind.
type Addresses = [Hidden; PAGE_WORDS];

/// The pages, by their addresses, which lie in pages of the log's own.
pub(super) struct PageLog {
    /// The page of addresses that is being filled.
    last: Hidden,
    /// How many words of that page are in use.
    used: usize,
}

impl PageLog {
    pub(super) const fn new() -> Self {
        Self {
            last: Hidden::NONE,
            used: PAGE_WORDS,
        }
    }

    /// Takes a page, and adds its address to the log.
    pub(super) fn noted(&mut self, page: impl Fn() -> Option<NonNull<u8>>) -> Option<NonNull<u8>> {
        if self.used == PAGE_WORDS {
            let addresses = page()?;
            // SAFETY: the first word of a page that nobody else has.
            unsafe { addresses.cast().write(self.last) };
            (self.last, self.used) = (Hidden::of(addresses), 1);
        }
        let page = page()?;
        let mut addresses = self.last.pointer::<Addresses>()?;
        // SAFETY: a zeroed page of the log's own, borrowed exclusively with it.
        let addresses = unsafe { addresses.as_mut() };
        addresses[self.used] = Hidden::of(page);
        self.used += 1;
        Some(page)
    }

    /// Passes all pages to `give_back`, including the log's own.
    pub(super) fn hand_over(self, give_back: impl Fn(NonNull<u8>)) {
        let (mut last, mut used) = (self.last, self.used);
        while let Some(addresses) = last.pointer::<Addresses>() {
            // SAFETY: a page of the log's own, which is copied before it is given back.
            let before = unsafe { addresses.as_ref() }[0];
            for index in 1..used {
                // SAFETY: as above.
                let page = unsafe { addresses.as_ref() }[index];
                page.pointer().into_iter().for_each(&give_back);
            }
            give_back(addresses.cast());
            (last, used) = (before, PAGE_WORDS);
        }
    }
}
