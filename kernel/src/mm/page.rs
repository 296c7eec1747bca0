//! What all allocators share: the size of a page, and whether freed blocks are cleared.

use core::sync::atomic::{AtomicBool, Ordering};

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// What happens to the contents of a block that is freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wipe {
    /// They stay until the block is used again.
    Never,
    /// They are cleared.
    OnFree,
}

static WIPE_ON_FREE: AtomicBool = AtomicBool::new(false);

/// Whether freed blocks are cleared from now on. Any context.
pub fn set_wipe(wipe: Wipe) {
    WIPE_ON_FREE.store(wipe == Wipe::OnFree, Ordering::Relaxed);
}

/// Whether freed blocks are cleared.
pub fn wipe() -> Wipe {
    if WIPE_ON_FREE.load(Ordering::Relaxed) {
        Wipe::OnFree
    } else {
        Wipe::Never
    }
}
