//! For unit tests: the least that a platform can be.

extern crate std;

use core::ptr::NonNull;
use std::boxed::Box;

use super::{IrqState, METADATA_PAGE, Platform, Root, RootCursor};

/// A kernel without memory of its own, without roots and interrupts.
pub(crate) struct Bare;

// SAFETY: there are no roots and no interrupts; metadata pages are boxes that are never given back.
unsafe impl Platform for Bare {
    fn now_us(&self) -> u64 {
        0
    }

    fn irq_save(&self) -> IrqState {
        IrqState(0)
    }

    fn irq_restore(&self, _: IrqState) {}

    fn next_root(&self, _: &mut RootCursor) -> Option<Root> {
        None
    }

    fn metadata_alloc(&self) -> Option<NonNull<u8>> {
        Some(leaked_page())
    }
}

#[repr(align(4096))]
struct MetadataPage(#[expect(dead_code, reason = "the detector's")] [u8; METADATA_PAGE]);

/// A page for metadata, from the host's heap. It is never given back.
pub(crate) fn leaked_page() -> NonNull<u8> {
    let page = NonNull::from(Box::leak(Box::new(MetadataPage([0; METADATA_PAGE]))));
    page.expose_provenance();
    page.cast()
}
