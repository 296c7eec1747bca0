//! A log of the pages that the platform gave: they are given back together.

use core::ptr::NonNull;

use crate::metadata::PAGE_WORDS;
use crate::metadata::hidden::Hidden;

/// The addresses of pages, in a page of the log's own. The first word names the previous page of this kind.
type Addresses = [Hidden; PAGE_WORDS];

/// The pages, by their addresses, which lie in pages of the log's own.
pub(super) struct PageLog {
    /// The page of addresses that is being filled.
    last: Hidden,
    /// How many words of that page are free.
    room: usize,
}

impl PageLog {
    pub(super) const fn new() -> Self {
        Self {
            last: Hidden::NONE,
            room: 0,
        }
    }

    /// Takes a page of the platform's, and adds its address to the log.
    pub(super) fn noted(&mut self, page: impl Fn() -> Option<NonNull<u8>>) -> Option<NonNull<u8>> {
        if self.room == 0 {
            let addresses = page()?;
            // SAFETY: the first word of a page that nobody else has.
            unsafe { addresses.cast().write(self.last) };
            (self.last, self.room) = (Hidden::of(addresses), PAGE_WORDS - 1);
        }
        let page = page()?;
        let mut addresses = self.last.pointer::<Addresses>()?;
        // SAFETY: a zeroed page of the log's own, borrowed exclusively with it.
        let addresses = unsafe { addresses.as_mut() };
        addresses[PAGE_WORDS - self.room] = Hidden::of(page);
        self.room -= 1;
        Some(page)
    }

    /// Passes all pages to `give_back`, including the log's own.
    pub(super) fn hand_over(self, give_back: impl Fn(NonNull<u8>)) {
        let (mut last, mut used) = (self.last, PAGE_WORDS - self.room);
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
