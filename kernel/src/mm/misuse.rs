//! Frees that the allocators refuse: told, counted, survived.
//!
//! The console hears at once of which allocator and what is wrong. The leak detector, where it knows the allocator's blocks,
//! tells the rest in its own time: the call stack of the free, and the one that has allocated the block, or that had it last.
//! Of the others it hears nothing: they may be given back under locks, its own among them.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::leak::hooks;
use crate::println;

static COUNT: AtomicU64 = AtomicU64::new(0);

/// What is wrong with a free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misuse {
    /// The block is free already.
    DoubleFree,
    /// No block that the allocator hands out begins there.
    NotABlock,
    /// It is a block of another size, or of the other entry.
    WrongSize,
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DoubleFree => "double free",
            Self::NotABlock => "free of an address where no block begins",
            Self::WrongSize => "free with the wrong size",
        })
    }
}

/// Who hears of an allocator's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The leak detector. They are given back with no lock held.
    Detector,
    /// Nobody. They may be given back under locks of other allocators, or of the detector.
    Nobody,
}

/// Tells of it. Any context, with no lock of an allocator held where the detector is the audience.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text.hooks")]
pub(super) fn tell(allocator: &str, misuse: Misuse, address: usize, audience: Audience) {
    COUNT.fetch_add(1, Ordering::Relaxed);
    if audience == Audience::Detector {
        hooks::refused_free(address);
    }
    println!("{allocator}: {misuse}: {address:#018x}");
}

/// How many there were.
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}
