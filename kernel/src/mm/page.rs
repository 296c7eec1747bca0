//! What all allocators share: the size of a page, and what happens to freed blocks.

use core::sync::atomic::{AtomicU8, Ordering};

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// What happens to the contents of a block that is freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Freed {
    /// They stay until the block is used again.
    Kept,
    /// They are cleared.
    Cleared,
    /// They are overwritten with [`POISON`], and slabs have red zones: see [`slab`](super::slab).
    Poisoned,
}

/// What freed blocks are filled with where they are poisoned. Words of it are no addresses of the kernel's half.
pub const POISON: u8 = 0x6b;

static FREED: AtomicU8 = AtomicU8::new(Freed::Kept as u8);

/// What happens to freed blocks from now on: they are kept, or cleared. Where they are poisoned, that stays so. Any context.
pub fn set_wipe(wipe: Wipe) {
    let new = match wipe {
        Wipe::Never => Freed::Kept,
        Wipe::OnFree => Freed::Cleared,
    };
    let unless_poisoned = |now| (now != Freed::Poisoned as u8).then_some(new as u8);
    // If it is refused, freed blocks are poisoned.
    let _ = FREED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, unless_poisoned);
}

/// Makes all freed blocks poisoned. Called by the boot CPU while it runs alone, before there are slabs.
pub(super) fn set_poisoned() {
    FREED.store(Freed::Poisoned as u8, Ordering::Relaxed);
}

/// What happens to freed blocks.
#[inline]
pub fn freed() -> Freed {
    match FREED.load(Ordering::Relaxed) {
        0 => Freed::Kept,
        1 => Freed::Cleared,
        _ => Freed::Poisoned,
    }
}

/// Whether freed blocks are cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wipe {
    /// They stay as they are.
    Never,
    /// They are cleared.
    OnFree,
}

impl Freed {
    /// The byte that a freed block is filled with, if it is.
    pub fn fill(self) -> Option<u8> {
        match self {
            Self::Kept => None,
            Self::Cleared => Some(0),
            Self::Poisoned => Some(POISON),
        }
    }
}
