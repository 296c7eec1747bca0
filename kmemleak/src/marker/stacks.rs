//! Reading the stacks last: what they alone keep alive.
//!
//! In a pass with [`Stacks::Last`](super::Stacks::Last) the stacks are roots as in any other: what lies in them is marked, and no other
//! part of the pass reads their memory. But their words are left out until all is marked that the other roots reach. Then the same pass
//! goes on from their words. Since what is alive does not depend on the order in which words are read, the marks are those of any
//! pass in the end. The flags of objects that interior pointers alone hold are not: [`Tools::unfinished`](super::Tools) says so.

use super::{GivenUp, Marker, PointerPass};
use crate::objects::access::Stopped;
use crate::platform::{Platform, Root};

impl<P: Platform> Marker<'_, P, Stopped> {
    /// Shows each word of the stacks that may be an address in an object, with the root and the word's own address. For one worker,
    /// between two barriers.
    pub(crate) fn each_stack_word(
        &mut self,
        look: &mut dyn FnMut(&mut Self, Root, usize, usize),
    ) -> Result<(), GivenUp> {
        while let Some(piece) = self.take_piece() {
            if piece.is_of_stack() {
                self.show_root_piece(piece, look)?;
            }
        }
        Ok(())
    }

    /// Goes on from the words of the stacks, when all is marked that other roots reach. For all workers, behind a barrier.
    pub(crate) fn run_stacks(&mut self) -> Result<(), GivenUp> {
        self.pointers = PointerPass::Starts;
        while let Some(piece) = self.take_piece() {
            if piece.is_of_stack() {
                self.scan_root(piece)?;
            }
        }
        self.follow_all()
    }
}
