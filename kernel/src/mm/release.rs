//! The way back of a block, from its user to the free lists: the same three steps for all allocators.
//!
//! 1. The allocator looks whether the free is right, and takes the block from its user by the same step. From then on a
//!    second free is refused.
//! 2. The leak detector forgets the block. It is in no free list yet, so nobody has it again.
//! 3. The allocator puts it where it is handed out from.
//!
//! A detector that hears of a free before the allocator has looked forgets a block that lives on when the free is
//! refused: nothing that only this block points to is found any more, and the block itself is never reported. So the order is
//! written once, in `release`, and the detector's hooks ask for a [`Retired`], which nobody can make but this file.
//!
//! A free that is refused changes nothing, neither with the allocator nor with the detector. It is
//! [told](super::misuse).

use super::misuse::{self, Audience, Misuse};
use crate::leak::hooks::TakenBack;

/// An allocator, as blocks come back to it.
pub(super) trait Allocator {
    /// A block that was taken from its user, and is in no free list.
    type Block;

    /// What the allocator knows when a block is back.
    type Done;

    /// What it is called where a free is refused.
    fn name(&self) -> &'static str;

    /// Who hears of its blocks.
    fn audience(&self) -> Audience;

    /// Takes the block at `address` from its user; or tells what is wrong with that, and changes nothing.
    fn retire(&self, address: usize) -> Result<Self::Block, Misuse>;

    /// Tells the detector, if that is the allocator's audience.
    fn tell(&self, retired: &Retired<Self::Block>);

    /// Puts the block where it is handed out from.
    fn put(&self, block: Self::Block) -> Self::Done;
}

/// A block that its allocator has taken from its user: what lets the detector forget it.
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

/// Gives the block at `address` back to its allocator. A free that is refused is told. Inlined into its caller: a frame of
/// its own would be the innermost one of call stacks.
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
            None
        }
    }
}
