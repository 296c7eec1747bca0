//! The frames of an entry, in groups of four: what is stored of four frames lies together.
//!
//! | bytes of a group | what |
//! | --- | --- |
//! | 0 to 31 | the return address of each frame, *negated*: subtracted from zero |
//! | 32 to 39 | the link of each frame: how many bytes the caller's frame lies above it |
//!
//! The addresses are whole, so that comparing takes no text base. Negated, they lie in the other half of the address space, as all
//! addresses in metadata do, and whether a stack's word is one of them is seen by one addition, which gives zero.

use core::sync::atomic::Ordering::Relaxed;

use crate::atomic::{AtomicU16, AtomicU64, settled_u16, settled_u64};

/// Frames of a group.
pub(super) const FRAMES: usize = 4;

/// Bytes of a group.
pub(super) const GROUP: usize = FRAMES * (8 + 2);

/// The place of the groups.
#[derive(Clone, Copy)]
pub(super) struct FrameGroups(*mut u8);

impl FrameGroups {
    /// The groups that begin there, at a multiple of 8.
    #[inline(always)]
    pub(super) fn new(first: *mut u8) -> Self {
        Self(first)
    }

    /// The groups without the first ones.
    #[inline(always)]
    pub(super) fn after(self, groups: usize) -> Self {
        Self(self.0.wrapping_add(groups * GROUP))
    }

    /// The word that holds a frame's return address, negated.
    ///
    /// # Safety
    ///
    /// An entry that lies in its page has this frame.
    #[inline(always)]
    unsafe fn negated<'a>(self, frame: usize) -> &'a AtomicU64 {
        let place = self
            .0
            .wrapping_add(frame / FRAMES * GROUP + frame % FRAMES * 8);
        // SAFETY: an aligned word of the entry, used as an atomic of this size alone.
        unsafe { AtomicU64::from_ptr(place.cast()) }
    }

    /// How many bytes the caller's frame lies above this one.
    ///
    /// # Safety
    ///
    /// The caller ensures what [`negated`](Self::negated) requires.
    #[inline(always)]
    unsafe fn link<'a>(self, frame: usize) -> &'a AtomicU16 {
        let place = self
            .0
            .wrapping_add(frame / FRAMES * GROUP + 8 * FRAMES + frame % FRAMES * 2);
        // SAFETY: as for an address.
        unsafe { AtomicU16::from_ptr(place.cast()) }
    }

    /// A frame's return address.
    ///
    /// # Safety
    ///
    /// An entry that lies in its page has this frame.
    pub(super) unsafe fn address(self, frame: usize) -> usize {
        // SAFETY: the caller's promise.
        let negated = unsafe { self.negated(frame) };
        negated.load(Relaxed).wrapping_neg() as usize
    }

    /// Writes a frame.
    ///
    /// # Safety
    ///
    /// An entry that lies in its page has this frame.
    pub(super) unsafe fn write(self, frame: usize, address: usize, link: u16) {
        // SAFETY: the caller's promise.
        let negated = unsafe { self.negated(frame) };
        negated.store((address as u64).wrapping_neg(), Relaxed);
        // SAFETY: as above.
        unsafe { self.link(frame) }.store(link, Relaxed);
    }

    /// Whether a frame's return address is this one.
    ///
    /// # Safety
    ///
    /// An entry that lies in its page has this frame. The entry was taken from where it was published.
    #[inline(always)]
    pub(super) unsafe fn is_address_seen(self, frame: usize, address: usize) -> bool {
        // SAFETY: the caller's promise.
        let negated = unsafe { self.negated(frame) };
        // SAFETY: code that took the entry from where it was published sees all that was written to its place before (also by
        // another CPU that gave the place back), and the address is not written any more.
        unsafe { settled_u64(negated) }.wrapping_add(address as u64) == 0
    }

    /// A frame's link, read as a plain word.
    ///
    /// # Safety
    ///
    /// The caller ensures what [`is_address_seen`](Self::is_address_seen) requires.
    #[inline(always)]
    pub(super) unsafe fn link_seen(self, frame: usize) -> usize {
        // SAFETY: the caller's promise.
        let link = unsafe { self.link(frame) };
        // SAFETY: as for an address.
        unsafe { usize::from(settled_u16(link)) }
    }
}
