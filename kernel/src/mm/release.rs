//! How a block is freed, from its user to the free lists: all allocators do it in these three steps.
//!
//! 1. The allocator checks the free, and takes the block from its user, in one atomic step. From then on a second free
//!    is refused.
//! 2. The leak detector forgets the block. The block is in no free list yet, so it has no new user.
//! 3. The allocator puts the block back into a free list.
//!
//! If the detector were told before the allocator has checked, it would forget a block that stays in use when the free is
//! refused: what only this block points to would be reported, and the block itself never. So the order is written once, in
//! `release`, and the detector's hooks ask for a [`Retired`], which only this file can make.
//!
//! A free that is refused changes nothing in the allocator, and no object of the detector. It is [printed and
//! counted](super::misuse).

use super::misuse::{self, Audience, Misuse};
use crate::leak::hooks::TakenBack;

/// How an allocator frees its blocks.
pub(super) trait Allocator {
    /// A block that was taken from its user, and is in no free list.
    type Block;

    /// What [`Self::put`] returns.
    type Done;

    /// The allocator's name, printed when a free is refused.
    fn name(&self) -> &'static str;

    /// Who is told of the allocator's blocks.
    fn audience(&self) -> Audience;

    /// Takes the block at `address` from its user; or returns what is wrong with the free, and changes nothing.
    fn retire(&self, address: usize) -> Result<Self::Block, Misuse>;

    /// Tells the detector of the free. Called only if the detector is the audience.
    fn tell(&self, retired: &Retired<Self::Block>);

    /// Prints what else the allocator knows of a refused free. Called behind the line that says so.
    fn tell_more(&self, _address: usize) {}

    /// Puts the block back into a free list.
    fn put(&self, block: Self::Block) -> Self::Done;
}

/// A block that its allocator has taken from its user: proof that the detector may forget it.
#[derive(Debug)]
pub struct Retired<B> {
    address: usize,
    block: B,
}

impl<B> TakenBack for Retired<B> {
    #[inline(always)]
    fn address(&self) -> usize {
        self.address
    }
}

impl<B> Retired<B> {
    /// The block, as its allocator has it.
    pub(super) fn block(&self) -> &B {
        &self.block
    }
}

/// Frees the block at `address`; `None` if the free is refused, which is printed and counted. Always inlined: a frame of its
/// own would be the innermost one of call stacks.
#[inline(always)]
pub(super) fn release<A: Allocator>(allocator: &A, address: usize) -> Option<A::Done> {
    match allocator.retire(address) {
        Ok(block) => {
            let retired = Retired { address, block };
            if allocator.audience() == Audience::Detector {
                allocator.tell(&retired);
            }
            Some(allocator.put(retired.block))
        }
        Err(misuse) => {
            misuse::tell(allocator.name(), misuse, address, allocator.audience());
            allocator.tell_more(address);
            None
        }
    }
}
