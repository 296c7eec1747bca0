//! Pages for an answer that needs much memory for a short time.
//!
//! Metadata stays until the detector is off. These pages do not: the platform gets its pages back when the answer has been
//! given, and those of lent memory can be taken again. None are taken from the bootstrap pool, which is for a kernel that has
//! nothing else yet.
//!
//! # Locks
//!
//! The one of what CPUs share, with interrupts off, for lent pages. The platform is asked with none held.

use core::cell::Cell;
use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering;

use crate::metadata::lent::WholePages;
use crate::metadata::memory::Memory;
use crate::metadata::page::{NewPage, NoMemory, PageSource};
use crate::metadata::page_log::PageLog;
use crate::platform::{METADATA_PAGE, Platform};

/// Pages that were taken for an answer.
pub(crate) struct BorrowedPages<'m> {
    platform: &'m dyn Platform,
    memory: &'m Memory,
    of_platform: Cell<PageLog>,
    of_lent: Cell<PageLog>,
}

impl<'m> BorrowedPages<'m> {
    pub(crate) fn new(platform: &'m dyn Platform, memory: &'m Memory) -> Self {
        Self {
            platform,
            memory,
            of_platform: Cell::new(PageLog::new()),
            of_lent: Cell::new(PageLog::new()),
        }
    }

    /// Takes a page, clears and counts it, and notes it in the log.
    fn noted(
        &self,
        log: &Cell<PageLog>,
        take: impl Fn() -> Option<NonNull<u8>>,
    ) -> Option<NonNull<u8>> {
        let mut pages = log.replace(PageLog::new());
        let page = pages.noted(|| {
            let page = take()?;
            // SAFETY: such a page is memory, and nobody else uses it.
            unsafe { ptr::write_bytes(page.as_ptr(), 0, METADATA_PAGE) };
            let bytes = &self.memory.bytes;
            bytes.fetch_add(METADATA_PAGE, Ordering::Relaxed);
            Some(page)
        });
        log.set(pages);
        page
    }

    /// Runs `work` with interrupts off, as the lock of what CPUs share demands.
    fn undisturbed<R>(&self, work: impl FnOnce() -> R) -> R {
        let interrupts = self.platform.irq_save();
        let result = work();
        self.platform.irq_restore(interrupts);
        result
    }

    fn take_lent(&self) -> Option<NonNull<u8>> {
        self.undisturbed(|| self.memory.common.lock().lent.take())
    }

    /// Gives all pages back. Task context, with no lock held.
    ///
    /// # Safety
    ///
    /// The pages are not used any more.
    pub(crate) unsafe fn give_back(self) {
        let uncount = || {
            let bytes = &self.memory.bytes;
            bytes.fetch_sub(METADATA_PAGE, Ordering::Relaxed)
        };
        (self.of_platform.replace(PageLog::new())).hand_over(|page| {
            uncount();
            // SAFETY: it came from the platform, and nobody uses it any more.
            unsafe { self.platform.metadata_free(page) };
        });
        (self.of_lent.replace(PageLog::new())).hand_over(|page| {
            uncount();
            // SAFETY: it was lent, and nobody uses it any more.
            let page = unsafe { WholePages::one(page) };
            self.undisturbed(|| self.memory.common.lock().lent.add(page));
        });
    }
}

impl PageSource for BorrowedPages<'_> {
    fn page(&self) -> Result<NewPage, NoMemory> {
        self.memory.refusals.check()?;
        let page = self
            .noted(&self.of_platform, || self.platform.metadata_alloc())
            .or_else(|| self.noted(&self.of_lent, || self.take_lent()))
            .ok_or(NoMemory)?;
        // SAFETY: zeroed, and taken from where it came from.
        Ok(unsafe { NewPage::new(page) })
    }
}
