//! Walks call stacks by frame pointers.
//!
//! Code that is compiled with `-C force-frame-pointers=yes` keeps its stack as a chain of frames. A frame is two
//! words: the caller's frame pointer, and above it the return address. Stacks grow down, so that the chain goes up. A frame
//! pointer is the address of these words on x86_64 and AArch64; on RISC-V it lies above them ([`FRAME_POINTER_ABOVE`]).
//!
//! # Broken stacks
//!
//! A walk does not trust what it reads, since the stack may be broken already. It knows where the stack lies. So a frame counts
//! only if all of it lies in the stack, it is aligned, and it lies wholly above the frame before. The first frame for which
//! that is not true ends the walk, and so does a return address of zero, with which kernels end their stacks. As frames only go
//! up, a walk ends even if the chain is a loop.
//!
//! # Locks
//!
//! None. Every word is read once and volatile, since the stack is in use. Any context.

use core::ops::Range;

use crate::platform::StackWalk;
use crate::platform::arch::FRAME_POINTER_ABOVE;

/// Bytes of a word.
pub(crate) const WORD: usize = size_of::<usize>();

/// Bytes of a frame: the caller's frame pointer and the return address.
pub(crate) const FRAME: usize = 2 * WORD;

/// A walk in progress: it stands at a frame, or (if it has ended) at an address that may not be one.
#[derive(Clone, Debug)]
pub(crate) struct FrameChain {
    at: usize,
    /// The lowest address that the frame may have.
    lowest: usize,
    /// The highest address that the frame may have.
    highest: usize,
}

impl FrameChain {
    /// A walk that stands at `frame_pointer`; `None` if the stack has no room for a frame. Any context.
    ///
    /// # Safety
    ///
    /// All of `stack` can be read, as long as the walk is used.
    #[inline(always)]
    pub(crate) unsafe fn new(frame_pointer: usize, stack: &Range<usize>) -> Option<Self> {
        Some(Self {
            at: frame_at(frame_pointer),
            lowest: stack.start,
            highest: stack.end.checked_sub(FRAME)?,
        })
    }

    /// A walk that stands at the innermost frame that is not skipped, and that frame's return address. `None` if there is
    /// no such frame; where its return address is zero, there is none either. Any context.
    ///
    /// # Safety
    ///
    /// All of `walk.stack` can be read, as long as the returned walk is used.
    #[inline(always)]
    pub(crate) unsafe fn first_kept(walk: &StackWalk) -> Option<(Self, usize)> {
        // SAFETY: the caller's promise.
        let mut chain = unsafe { Self::new(walk.frame_pointer, &walk.stack) }?;
        loop {
            let return_address = chain.return_address_or_zero()?;
            if !walk.skip.contains(&return_address) {
                return Some((chain, return_address));
            }
            chain.up();
        }
    }

    /// The address of the frame where the walk stands.
    #[inline(always)]
    pub(crate) fn frame(&self) -> usize {
        self.at
    }

    /// The highest address that a frame of this stack may have.
    #[inline(always)]
    pub(crate) fn highest(&self) -> usize {
        self.highest
    }

    /// Whether the walk stands at a frame, maybe one whose return address is zero.
    #[inline(always)]
    pub(crate) fn stands_at_frame(&self) -> bool {
        self.at.is_multiple_of(WORD) && self.at >= self.lowest && self.at <= self.highest
    }

    /// The return address of the frame where the walk stands; `None` if the walk has ended.
    #[inline(always)]
    pub(crate) fn return_address(&self) -> Option<usize> {
        if !self.stands_at_frame() {
            return None;
        }
        // SAFETY: aligned, and inside the stack that can be read, as was just seen.
        let return_address = unsafe { read(self.at + WORD) };
        (return_address != 0).then_some(return_address)
    }

    /// The return address of the frame where the walk stands, also if it is zero, where the walk ends.
    #[inline(always)]
    fn return_address_or_zero(&self) -> Option<usize> {
        if !self.stands_at_frame() {
            return None;
        }
        // SAFETY: aligned, and inside the stack that can be read, as was just seen.
        Some(unsafe { read(self.at + WORD) })
    }

    /// Goes on to the caller's frame; stays where it is if the walk has ended.
    #[inline(always)]
    pub(crate) fn up(&mut self) {
        if self.stands_at_frame() {
            self.lowest = self.at + FRAME;
            // SAFETY: aligned, and inside the stack that can be read, as was just seen.
            self.at = frame_at(unsafe { read(self.at) });
        }
    }
}

/// Fills `frames` with the return addresses of the calls that led here, innermost first, and returns their number.
///
/// `frame_pointer` is what the frame pointer register holds in code that is compiled with `-C force-frame-pointers=yes` (x86_64,
/// AArch64, RISC-V of 64 bits). The walk ends at the first frame that does
/// not lie in `stack` wholly, is not aligned, or does not lie above the one before; and at a return address of zero. Any
/// context.
///
/// # Safety
///
/// All of `stack` can be read.
pub unsafe fn frame_pointer_walk(
    frame_pointer: usize,
    stack: Range<usize>,
    frames: &mut [usize],
) -> usize {
    // SAFETY: the caller's promise.
    let Some(mut chain) = (unsafe { FrameChain::new(frame_pointer, &stack) }) else {
        return 0;
    };
    for (count, frame) in frames.iter_mut().enumerate() {
        let Some(return_address) = chain.return_address() else {
            return count;
        };
        *frame = return_address;
        chain.up();
    }
    frames.len()
}

/// The address of the frame that a frame pointer names; no frame's address if it names none.
#[inline(always)]
pub(super) fn frame_at(frame_pointer: usize) -> usize {
    frame_pointer.wrapping_sub(FRAME_POINTER_ABOVE)
}

/// Reads a word of a stack.
///
/// # Safety
///
/// `address` is aligned and readable.
#[inline(always)]
pub(crate) unsafe fn read(address: usize) -> usize {
    // SAFETY: the caller's promise; volatile, since the stack is in use.
    unsafe { core::ptr::read_volatile(core::ptr::with_exposed_provenance(address)) }
}

/// Reads a word of a stack that holds still.
///
/// Unlike [`read`] this is a plain load, which the compiler may fold into a comparison. It does not matter how often or
/// when the word is loaded, if only that comparison's result is used.
///
/// # Safety
///
/// `address` is aligned and readable, and nobody writes to it meanwhile. (While a function runs, nobody writes to its
/// callers' return addresses and frame pointers.)
#[inline(always)]
pub(crate) unsafe fn plain(address: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::with_exposed_provenance::<usize>(address).read() }
}

#[cfg(test)]
pub(crate) mod tests {
    extern crate std;

    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// A stack in plain memory.
    pub(crate) struct FakeStack {
        words: Vec<usize>,
        start: usize,
    }

    impl FakeStack {
        pub(crate) fn new(words: usize) -> Self {
            let mut words = vec![0; words];
            let start = words.as_mut_ptr().expose_provenance();
            Self { words, start }
        }

        pub(crate) fn range(&self) -> Range<usize> {
            self.start..self.start + self.words.len() * WORD
        }

        /// The address of a word.
        pub(crate) fn at(&self, word: usize) -> usize {
            self.start + word * WORD
        }

        pub(crate) fn set(&mut self, word: usize, value: usize) {
            assert!(word < self.words.len());
            let place = core::ptr::with_exposed_provenance_mut::<usize>(self.at(word));
            // SAFETY: inside the vector, which is borrowed exclusively.
            unsafe { place.write_volatile(value) };
        }

        /// Writes a chain of frames at the places `frames` (word numbers) with these return addresses. The last
        /// frame's caller is 0.
        pub(crate) fn chain(&mut self, frames: &[usize], addresses: &[usize]) {
            for (index, (&frame, &address)) in frames.iter().zip(addresses).enumerate() {
                let caller = frames.get(index + 1).map_or(0, |&frame| self.at(frame));
                self.set(frame, caller);
                self.set(frame + 1, address);
            }
        }

        pub(crate) fn walk(&self, frame_pointer: usize) -> Vec<usize> {
            let mut frames = [0; 16];
            // SAFETY: the vector lives.
            let len = unsafe { frame_pointer_walk(frame_pointer, self.range(), &mut frames) };
            frames[..len].to_vec()
        }
    }

    #[test]
    fn a_chain_is_walked_from_the_inside_out() {
        let mut stack = FakeStack::new(64);
        stack.chain(&[2, 8, 20, 62], &[11, 22, 33, 44]);
        assert_eq!(stack.walk(stack.at(2)), [11, 22, 33, 44]);
        assert_eq!(stack.walk(stack.at(20)), [33, 44]);
    }

    #[test]
    fn what_is_no_frame_ends_the_walk() {
        let mut stack = FakeStack::new(64);
        stack.chain(&[2, 8, 20], &[11, 22, 33]);
        for broken in [
            0,
            stack.at(20) + 1,
            stack.at(20) + WORD / 2,
            stack.at(8),
            stack.at(9),
            stack.at(2),
            stack.at(0).wrapping_sub(FRAME),
            stack.at(63),
            stack.at(64),
            usize::MAX,
            usize::MAX - WORD + 1,
            usize::MAX - FRAME + 1,
        ] {
            stack.set(8, broken);
            assert_eq!(stack.walk(stack.at(2)), [11, 22], "caller {broken:#x}");
        }
        for broken in [0, 1, stack.at(63), stack.at(64), usize::MAX] {
            assert!(stack.walk(broken).is_empty());
        }
    }

    #[test]
    fn a_return_address_of_zero_ends_the_walk() {
        let mut stack = FakeStack::new(64);
        stack.chain(&[2, 8, 20, 30], &[11, 22, 0, 44]);
        assert_eq!(stack.walk(stack.at(2)), [11, 22]);
    }

    #[test]
    fn a_stack_without_room_for_a_frame_has_none() {
        let mut frames = [0; 16];
        for (start, end) in [
            (0, 0),
            (0, WORD),
            (0, FRAME - 1),
            (WORD, FRAME),
            (64, 64),
            (64, 32),
        ] {
            for at in [0, WORD, 32, 64] {
                // SAFETY: no frame fits, so that nothing is read.
                let len = unsafe { frame_pointer_walk(at, start..end, &mut frames) };
                assert_eq!(len, 0);
            }
        }
    }

    #[test]
    fn hooks_are_left_out_at_the_inner_end_only() {
        let mut stack = FakeStack::new(64);
        stack.chain(&[2, 8, 20, 30], &[500, 501, 44, 502]);
        let kept = |skip| {
            let walk = StackWalk {
                frame_pointer: stack.at(2),
                stack: stack.range(),
                skip,
            };
            // SAFETY: the vector lives.
            unsafe { FrameChain::first_kept(&walk) }
                .map(|(chain, address)| (chain.frame(), address))
        };
        assert_eq!(kept(500..600), Some((stack.at(20), 44)));
        assert_eq!(kept(500..501), Some((stack.at(8), 501)));
        assert_eq!(kept(0..0), Some((stack.at(2), 500)));
        assert_eq!(kept(0..600), None);
    }
}
