//! Compares a stack with what an entry predicts.

use core::sync::atomic::Ordering::Relaxed;

use crate::platform::MAX_FRAMES;
use crate::platform::arch::FRAME_POINTER_ABOVE;
use crate::stacks::depot::entry::{STATE_COMPARED, STATE_ENDS, STATE_FULL, STATE_LEN, StackEntry};
use crate::stacks::depot::groups::FRAMES;
use crate::stacks::frame_walk::{FRAME, FrameChain, WORD, frame_at, plain, read};

impl StackEntry {
    /// Whether this entry's call stack is the one whose frames begin at `frame`, in a stack whose last frame may lie at
    /// `highest`.
    ///
    /// # Safety
    ///
    /// The entry has links and was taken from where it was published. `frame` is aligned and not above `highest`, and
    /// all words from it through the frame at `highest` can be read; frames among them do not change meanwhile.
    #[inline(always)]
    pub(super) unsafe fn is_stack(self, mut frame: usize, highest: usize) -> bool {
        let state = self.state().load(Relaxed);
        // SAFETY: the caller's promise.
        if highest - frame < unsafe { self.span_seen() } {
            return false;
        }
        // The groups not yet compared; below, all indices into them are constants.
        let mut rest = self.groups();
        macro_rules! compare {
            (address $index:literal) => {
                // SAFETY: the frame is not above `highest`, since the span does not reach above it.
                let address = unsafe { plain(frame + WORD) };
                // SAFETY: the caller's promise; the entry has so many frames.
                if !unsafe { rest.is_address_seen($index, address) } {
                    return false;
                }
            };
            (link $index:literal) => {
                // SAFETY: as for the address.
                let predicted = frame + unsafe { rest.link_seen($index) };
                // SAFETY: as above.
                if unsafe { plain(frame) } != predicted + FRAME_POINTER_ABOVE {
                    return false;
                }
                frame = predicted;
            };
            ($($index:literal)*) => {$(
                compare!(address $index);
                compare!(link $index);
            )*};
        }
        if state & STATE_FULL != 0 {
            compare!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
            compare!(address 15);
            return true;
        }
        if state & 8 << STATE_COMPARED != 0 {
            compare!(0 1 2 3 4 5 6 7);
            rest = rest.after(8 / FRAMES);
        }
        if state & 4 << STATE_COMPARED != 0 {
            compare!(0 1 2 3);
            rest = rest.after(4 / FRAMES);
        }
        compare!(address 0);
        if state & 2 << STATE_COMPARED != 0 {
            compare!(link 0);
            compare!(1);
            compare!(address 2);
            if state & 1 << STATE_COMPARED != 0 {
                compare!(link 2);
                compare!(address 3);
            }
        } else if state & 1 << STATE_COMPARED != 0 {
            compare!(link 0);
            compare!(address 1);
        }
        // SAFETY: the caller's promise.
        state & STATE_ENDS != 0 || unsafe { ends_at(frame, highest) }
    }

    /// The frame where the walk that goes on from `chain` first differs from what this entry predicts, or where either ends.
    ///
    /// # Safety
    ///
    /// The caller ensures what [`is_stack`](Self::is_stack) requires, for the frame and the stack of `chain`.
    pub(super) unsafe fn differs_at(self, mut chain: FrameChain) -> usize {
        let groups = self.groups();
        let len = (self.state().load(Relaxed) & STATE_LEN) as usize;
        let mut at = chain.frame();
        let mut predicted = at;
        for frame in 0..len {
            let Some(address) = chain.return_address() else {
                break;
            };
            at = chain.frame();
            // SAFETY: the entry has so many frames.
            let is_address = unsafe { groups.is_address_seen(frame, address) };
            if at != predicted || !is_address {
                break;
            }
            // SAFETY: as above.
            predicted = predicted.wrapping_add(unsafe { groups.link_seen(frame) });
            chain.up();
        }
        at
    }
}

/// Whether the walk ends behind the frame at `frame`, where no end was kept that is compared as frames are.
///
/// # Safety
///
/// The caller ensures what [`is_stack`](StackEntry::is_stack) requires.
#[inline(always)]
unsafe fn ends_at(frame: usize, highest: usize) -> bool {
    // SAFETY: the caller's promise.
    let caller = frame_at(unsafe { read(frame) });
    if !caller.is_multiple_of(WORD) || caller < frame + FRAME || caller > highest {
        return true;
    }
    // SAFETY: aligned, between this frame and `highest`.
    unsafe { plain(caller + WORD) == 0 }
}

const _: () = assert!(MAX_FRAMES == 16, "the comparison is written out for 16");
