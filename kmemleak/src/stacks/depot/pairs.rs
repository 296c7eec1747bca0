//! The frames of a narrow entry, in pairs: what is stored of two frames lies together.
//!
//! | bytes of a pair | what |
//! | --- | --- |
//! | 0 to 3, 4 to 7 | the distance of each frame's return address from the text base |
//! | 8 to 9, 10 to 11 | the link of each frame: how many bytes the caller's frame lies above it |

use crate::atomic::{AtomicU16, AtomicU32, settled_u16, settled_u32};

/// Bytes of a pair.
pub(super) const PAIR: usize = 12;

/// The place of the pairs.
#[derive(Clone, Copy)]
pub(super) struct Pairs(*mut u8);

impl Pairs {
    /// The pairs that begin there.
    #[inline(always)]
    pub(super) fn new(first: *mut u8) -> Self {
        Self(first)
    }

    /// The pairs without the first ones.
    #[inline(always)]
    pub(super) fn after(self, pairs: usize) -> Self {
        Self(self.0.wrapping_add(pairs * PAIR))
    }

    /// A frame's distance from the text base.
    ///
    /// # Safety
    ///
    /// A narrow entry that lies in its page has this frame.
    #[inline(always)]
    pub(super) unsafe fn distance<'a>(self, frame: usize) -> &'a AtomicU32 {
        let place = self.0.wrapping_add(frame / 2 * PAIR + frame % 2 * 4);
        // SAFETY: an aligned word of the entry, used as an atomic of this size alone.
        unsafe { AtomicU32::from_ptr(place.cast()) }
    }

    /// How many bytes the caller's frame lies above this one.
    ///
    /// # Safety
    ///
    /// The caller ensures what [`distance`](Self::distance) requires.
    #[inline(always)]
    pub(super) unsafe fn link<'a>(self, frame: usize) -> &'a AtomicU16 {
        let place = self.0.wrapping_add(frame / 2 * PAIR + 8 + frame % 2 * 2);
        // SAFETY: as for a distance.
        unsafe { AtomicU16::from_ptr(place.cast()) }
    }

    /// [`distance`](Self::distance), read as a plain word.
    ///
    /// # Safety
    ///
    /// The caller ensures what [`distance`](Self::distance) requires. The entry was taken from where it was published.
    #[inline(always)]
    pub(super) unsafe fn distance_seen(self, frame: usize) -> usize {
        // SAFETY: the caller's promise.
        let distance = unsafe { self.distance(frame) };
        // SAFETY: code that took the entry from where it was published sees all that was written to its place before (also by
        // another CPU that gave the place back), and the distance is not written any more.
        unsafe { settled_u32(distance) as usize }
    }

    /// [`link`](Self::link), read as a plain word.
    ///
    /// # Safety
    ///
    /// The caller ensures what [`distance_seen`](Self::distance_seen) requires.
    #[inline(always)]
    pub(super) unsafe fn link_seen(self, frame: usize) -> usize {
        // SAFETY: the caller's promise.
        let link = unsafe { self.link(frame) };
        // SAFETY: as for a distance.
        unsafe { usize::from(settled_u16(link)) }
    }
}
