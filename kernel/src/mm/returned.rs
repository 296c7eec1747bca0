//! Blocks on their way back: no user has them any more, and no free list has them yet.
//!
//! An allocator first looks whether what it is given is a block that a user has, and takes it from that user in the same
//! step: from then on another free of it is refused. Then the leak detector hears of it. Last, the block goes into a free
//! list and can be handed out again. The order is a matter of types: the detector's hooks take a [`Returned`], which only an
//! allocator makes that has taken a block back. So a free that is refused can't make the detector forget a block.

/// A block that its allocator has taken back from its user and that is in no free list yet.
#[derive(Debug)]
#[must_use = "the detector is to be told of it before it is free"]
pub struct Returned {
    start: usize,
    len: usize,
}

impl Returned {
    /// The block of `len` bytes at `start`, which its allocator has taken from its user.
    pub(super) fn new(start: usize, len: usize) -> Self {
        Self { start, len }
    }

    /// Its address, or the handle of a per-CPU block.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Its bytes; of a per-CPU block, those of one copy.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes, which no block has.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}
