//! Frees that the allocators refuse: printed and counted; the kernel goes on.
//!
//! The allocator and the error are printed on the console at once. If the leak detector is told of the allocator's blocks, it
//! later warns with the call stacks of the free and of the block's allocation (or of the last block there). It is not told of
//! refused frees of other blocks: those may be freed while locks are held, also the detector's.

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
    /// The block has another size, belongs to another cache, or was taken through the other entry (tracked or untracked).
    WrongSize,
    /// The header of the slab that the address lies in was overwritten.
    BrokenSlab,
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DoubleFree => "double free",
            Self::NotABlock => "free of an address where no block begins",
            Self::WrongSize => "free with the wrong size",
            Self::BrokenSlab => "free into a slab whose header was overwritten",
        })
    }
}

/// Who is told of an allocator's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The leak detector. The blocks are freed with no allocator lock held.
    Detector,
    /// Nobody. The blocks may be freed while locks of other allocators, or of the detector, are held.
    Nobody,
}

/// Counts and prints a refused free, and tells the detector if it is the audience: then no allocator lock is held. Any context.
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

/// How many frees were refused. Any context.
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}
