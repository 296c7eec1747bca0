//! Frees that the allocators refuse: told, counted, survived.
//!
//! Nothing else happens: the block, whoever has it, stays what it was for its allocator and for the leak detector. Who freed
//! and who allocated the block is the detector's to say.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::{leak, println};

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

/// Tells of it on the console, and lets the detector name the call stacks. Any context, with no lock of an allocator held.
pub fn tell(allocator: &str, misuse: Misuse, address: usize) {
    COUNT.fetch_add(1, Ordering::Relaxed);
    leak::refused_free(address);
    println!("{allocator}: {misuse}: {address:#018x}");
}

/// How many there were.
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}
