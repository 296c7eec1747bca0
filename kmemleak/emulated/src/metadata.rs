//! The detector's metadata pages: where they come from, and when there are none.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use kmemleak::METADATA_PAGE;

use crate::memory::{Memory, WORD, write};

/// What a fresh page holds: the detector must not count on zeros.
const JUNK: usize = usize::from_ne_bytes([0xa5; WORD]);

pub(crate) struct Metadata {
    given: Mutex<BTreeMap<usize, Memory>>,
    /// Pages that may still be taken.
    budget: AtomicUsize,
    refused: AtomicUsize,
}

impl Metadata {
    pub(crate) fn new() -> Self {
        Self {
            given: Mutex::new(BTreeMap::new()),
            budget: AtomicUsize::new(usize::MAX),
            refused: AtomicUsize::new(0),
        }
    }

    pub(crate) fn set_budget(&self, pages: usize) {
        self.budget.store(pages, Ordering::Relaxed);
    }

    /// Pages that the detector holds.
    pub(crate) fn pages(&self) -> usize {
        self.given.lock().expect("nobody panics under it").len()
    }

    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    pub(crate) fn alloc(&self) -> Option<usize> {
        let take = |budget: usize| match budget {
            usize::MAX => Some(budget),
            _ => budget.checked_sub(1),
        };
        let (order, fail) = (Ordering::Relaxed, Ordering::Relaxed);
        if self.budget.fetch_update(order, fail, take).is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let page = Memory::new(METADATA_PAGE, METADATA_PAGE);
        let start = page.start();
        for offset in (0..METADATA_PAGE).step_by(WORD) {
            // SAFETY: inside the page, which nobody has seen yet.
            unsafe { write(start + offset, JUNK) };
        }
        let mut given = self.given.lock().expect("nobody panics under it");
        given.insert(start, page);
        Some(start)
    }

    pub(crate) fn free(&self, start: usize) {
        let page = self
            .given
            .lock()
            .expect("nobody panics under it")
            .remove(&start);
        assert!(page.is_some(), "{start:#x} is no page of metadata");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_counted_and_refused_past_the_budget() {
        let metadata = Metadata::new();
        metadata.set_budget(1);
        let page = metadata.alloc().expect("the budget's page");
        assert_eq!(metadata.alloc(), None);
        assert_eq!((metadata.pages(), metadata.refused()), (1, 1));
        metadata.free(page);
        assert_eq!(metadata.pages(), 0);
    }
}
