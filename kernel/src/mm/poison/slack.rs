//! The red zone of a large block: the bytes between its end and that of its last page.
//!
//! If there is room, who allocated the block stands in the last bytes, behind the red zone.

use core::ops::Range;
use core::ptr;

use super::{CallStack, Damage, Found, RED_ZONE, Report, changed, fill, tell_history};

/// Bytes of the red zone at least, where there is a call stack behind it.
const LEAST: usize = 16;

/// A large block, and the pages that were taken for it.
pub(in crate::mm) struct Large {
    /// The bytes that its user asked for.
    pub(in crate::mm) block: Range<usize>,
    /// Where the last page ends.
    pub(in crate::mm) end: usize,
}

impl Large {
    /// Where the call stack is that allocated the block, if there is room.
    fn call_stack(&self) -> Option<usize> {
        let place = (self.end - size_of::<CallStack>()) & !(align_of::<CallStack>() - 1);
        (self.block.end + LEAST <= place).then_some(place)
    }

    fn red_zone(&self) -> Range<usize> {
        self.block.end..self.call_stack().unwrap_or(self.end)
    }

    /// Fills the red zone, and notes who runs this.
    ///
    /// # Safety
    ///
    /// The pages were taken from the page allocator for the block, and have no user yet.
    #[unsafe(link_section = ".text.hooks")]
    #[inline(never)]
    pub(in crate::mm) unsafe fn begin(&self) {
        // SAFETY: the caller's promise.
        unsafe { fill(self.red_zone(), RED_ZONE) };
        if let Some(place) = self.call_stack() {
            let place: *mut CallStack = ptr::with_exposed_provenance_mut(place);
            // SAFETY: aligned, in the last page, behind the block.
            unsafe { place.write(CallStack::new()) };
            // SAFETY: written just now.
            unsafe { &*place }.record();
        }
    }

    /// Tells what was written behind the end.
    ///
    /// # Safety
    ///
    /// The block was [begun](Self::begin) and taken from its user; its pages are not free yet.
    #[unsafe(link_section = ".text.hooks")]
    #[inline(never)]
    pub(in crate::mm) unsafe fn end(&self) {
        // SAFETY: the caller's promise.
        let Some(changed) = (unsafe { changed(self.red_zone(), RED_ZONE) }) else {
            return;
        };
        let report = Report {
            allocator: "pages",
            damage: Damage::PastEnd,
            found: Found::Freed,
            block: self.block.clone(),
            changed,
            around: self.block.start..self.end,
        };
        // SAFETY: the caller's promise.
        unsafe { report.tell() };
        let freed = CallStack::new();
        freed.record();
        match self.call_stack() {
            Some(place) => {
                let place: *const CallStack = ptr::with_exposed_provenance(place);
                // SAFETY: written when the block was begun; its fields are atomic.
                tell_history(unsafe { &*place }, &freed);
            }
            None => tell_history(&CallStack::new(), &freed),
        }
    }
}
