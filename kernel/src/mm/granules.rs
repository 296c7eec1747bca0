//! Which granules of a range of memory are taken, and by which blocks: three bitmaps, so that a wrong free is caught.
//!
//! # Invariants
//!
//! - `first` is set where a block begins. The block includes the granules after it that are `taken` and not `first`.
//! - `live` is set where a block begins that a user has. A block that is `first` and not `live` is being freed.

use super::misuse::Misuse;

/// The bitmaps of `64 * WORDS` granules.
pub(super) struct Granules<const WORDS: usize> {
    taken: Bitmap<WORDS>,
    first: Bitmap<WORDS>,
    live: Bitmap<WORDS>,
}

struct Bitmap<const WORDS: usize>([u64; WORDS]);

impl<const WORDS: usize> Bitmap<WORDS> {
    fn has(&self, at: usize) -> bool {
        self.0[at / 64] & 1 << (at % 64) != 0
    }

    fn set(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    fn clear(&mut self, at: usize) {
        self.0[at / 64] &= !(1 << (at % 64));
    }
}

impl<const WORDS: usize> Granules<WORDS> {
    const COUNT: usize = WORDS * 64;

    /// Bitmaps in which all granules are free.
    pub(super) const fn new() -> Self {
        Self {
            taken: Bitmap([0; WORDS]),
            first: Bitmap([0; WORDS]),
            live: Bitmap([0; WORDS]),
        }
    }

    /// Hands out the lowest `count` free granules that begin at a multiple of `align`, and returns the number of the first one.
    pub(super) fn take(&mut self, count: usize, align: usize) -> Option<usize> {
        let start = self.find(count, align)?;
        self.hand_out(start, count);
        Some(start)
    }

    fn find(&self, count: usize, align: usize) -> Option<usize> {
        let mut start = 0;
        while start + count <= Self::COUNT {
            match (start..start + count).rev().find(|&at| self.taken.has(at)) {
                None => return Some(start),
                Some(taken) => start = (taken + 1).next_multiple_of(align),
            }
        }
        None
    }

    /// Makes `count` free granules from `start` on a user's block.
    pub(super) fn hand_out(&mut self, start: usize, count: usize) {
        (start..start + count).for_each(|at| self.taken.set(at));
        self.first.set(start);
        self.live.set(start);
    }

    /// The number of granules of the user's block that begins at `start`.
    pub(super) fn count_at(&self, start: usize) -> Result<usize, Misuse> {
        if start >= Self::COUNT {
            return Err(Misuse::NotABlock);
        }
        match (
            self.taken.has(start),
            self.first.has(start),
            self.live.has(start),
        ) {
            (true, true, true) => Ok(self.end(start) - start),
            (true, false, _) => Err(Misuse::NotABlock),
            _ => Err(Misuse::DoubleFree),
        }
    }

    /// Takes the block that begins at `start` from its user. Its granules stay taken.
    pub(super) fn retire(&mut self, start: usize) -> Result<(), Misuse> {
        self.count_at(start)?;
        self.live.clear(start);
        Ok(())
    }

    /// Makes the granules of a block free that was taken from its user.
    pub(super) fn put(&mut self, start: usize) {
        let end = self.end(start);
        self.first.clear(start);
        (start..end).for_each(|at| self.taken.clear(at));
    }

    /// The first granule behind the block that begins at `start`.
    fn end(&self, start: usize) -> usize {
        let ours = |&at: &usize| self.taken.has(at) && !self.first.has(at);
        start + 1 + (start + 1..Self::COUNT).take_while(ours).count()
    }
}
