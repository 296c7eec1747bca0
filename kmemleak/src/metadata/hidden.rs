//! Addresses that a scan does not see.
//!
//! The detector's metadata is full of addresses. If a scan ever ran over it (because a platform names it as a root by
//! mistake), every block would seem to be referenced. So addresses are stored inverted: the inverse of an address lies in the
//! other half of the address space, where kernels keep no objects.
//!
//! Pointers are made of stored numbers here and, for the words of its tables and chunks, in [`crate::objects`].

use core::fmt;
use core::ptr::{self, NonNull};

/// An address, kept inverted.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Hidden(usize);

impl Hidden {
    /// No address: what zeroed memory holds.
    pub(crate) const NONE: Self = Self(0);

    pub(crate) const fn new(address: usize) -> Self {
        Self(!address)
    }

    pub(crate) const fn get(self) -> usize {
        !self.0
    }

    /// Stores the place of something inverted; [`pointer`](Self::pointer) returns the place.
    #[inline(always)]
    pub(crate) fn of<T>(place: NonNull<T>) -> Self {
        Self::new(place.expose_provenance().get())
    }

    /// The place that was hidden; `None` for [`NONE`](Self::NONE).
    #[inline(always)]
    pub(crate) fn pointer<T>(self) -> Option<NonNull<T>> {
        if self == Self::NONE {
            return None;
        }
        NonNull::new(ptr::with_exposed_provenance_mut(self.get()))
    }

    /// The place that was hidden, where it is known that one was.
    ///
    /// # Safety
    ///
    /// [`of`](Self::of) has made it.
    #[inline(always)]
    pub(crate) unsafe fn place<T>(self) -> NonNull<T> {
        let place = ptr::with_exposed_provenance_mut(self.get());
        // SAFETY: what `of` has hidden is not null.
        unsafe { NonNull::new_unchecked(place) }
    }

    /// The metadata that lies there.
    pub(crate) fn metadata(self) -> Option<NonNull<u64>> {
        self.pointer()
    }

    /// The number as it is stored.
    pub(crate) const fn bits(self) -> u64 {
        self.0 as u64
    }

    /// A number that was stored.
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits as usize)
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.get())
    }
}
