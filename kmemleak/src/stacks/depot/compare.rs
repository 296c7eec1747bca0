//! Compares a stack with what an entry predicts.

use core::sync::atomic::Ordering::Relaxed;

use crate::platform::MAX_FRAMES;
use crate::platform::arch::FRAME_POINTER_ABOVE;
use crate::stacks::depot::entry::{STATE_LEN, StackEntry};
use crate::stacks::frame_walk::{FRAME, FrameChain, WORD, frame_at, holds, read};

impl StackEntry {
    /// Whether this entry's call stack is the one whose frames begin at `frame`, in a stack whose last frame may lie at
    /// `highest`.
    ///
    /// # Safety
    ///
    /// The entry has links and was taken from where it was published. `frame` is aligned and not above `highest`, and
    /// all words from it through the frame at `highest` can be read; frames among them do not change meanwhile.
    #[inline(always)]
    pub(super) unsafe fn is_stack(self, base: usize, mut frame: usize, highest: usize) -> bool {
        let state = self.state().load(Relaxed);
        if highest - frame < self.span().load(Relaxed) as usize {
            return false;
        }
        // The pairs not yet compared; below, all indices into them are constants.
        let mut rest = self.pairs();
        macro_rules! compare {
            (address $index:literal) => {
                // SAFETY: the caller's promise; the entry has so many frames.
                let predicted = base.wrapping_add(unsafe { rest.distance_seen($index) });
                // SAFETY: the frame is not above `highest`, since the span does not reach above it.
                if !unsafe { holds(frame + WORD, predicted) } {
                    return false;
                }
            };
            ($($index:literal)*) => {$(
                compare!(address $index);
                // SAFETY: as for the distance.
                let predicted = frame + unsafe { rest.link_seen($index) };
                // SAFETY: as above.
                if !unsafe { holds(frame, predicted + FRAME_POINTER_ABOVE) } {
                    return false;
                }
                frame = predicted;
            )*};
        }
        if state & MAX_FRAMES as u32 != 0 {
            compare!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
            compare!(address 15);
            return true;
        }
        let links = (state & STATE_LEN).wrapping_sub(1);
        if links & 8 != 0 {
            compare!(0 1 2 3 4 5 6 7);
            rest = rest.after(4);
        }
        if links & 4 != 0 {
            compare!(0 1 2 3);
            rest = rest.after(2);
        }
        if links & 2 != 0 {
            compare!(0 1);
            rest = rest.after(1);
        }
        if links & 1 != 0 {
            compare!(0);
            compare!(address 1);
        } else {
            compare!(address 0);
        }
        // This was the entry's last frame: the walk has to end here, too.
        // SAFETY: as above.
        let caller = frame_at(unsafe { read(frame) });
        if !caller.is_multiple_of(WORD) || caller < frame + FRAME || caller > highest {
            return true;
        }
        // SAFETY: aligned, between this frame and `highest`.
        unsafe { holds(caller + WORD, 0) }
    }

    /// The frame where the walk that goes on from `chain` first differs from what this entry predicts, or where either ends.
    ///
    /// # Safety
    ///
    /// The caller ensures what [`is_stack`](Self::is_stack) requires, for the frame and the stack of `chain`.
    pub(super) unsafe fn differs_at(self, base: usize, mut chain: FrameChain) -> usize {
        let pairs = self.pairs();
        let len = (self.state().load(Relaxed) & STATE_LEN) as usize;
        let mut at = chain.frame();
        let mut predicted = at;
        for frame in 0..len {
            let Some(address) = chain.return_address() else {
                break;
            };
            at = chain.frame();
            // SAFETY: the entry has so many frames.
            let distance = unsafe { pairs.distance_seen(frame) };
            if at != predicted || address != base.wrapping_add(distance) {
                break;
            }
            // SAFETY: as above.
            predicted = predicted.wrapping_add(unsafe { pairs.link_seen(frame) });
            chain.up();
        }
        at
    }
}

const _: () = assert!(MAX_FRAMES == 16, "the comparison is written out for 16");
