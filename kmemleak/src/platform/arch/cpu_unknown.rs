//! A processor that the crate does not know.

pub(crate) use super::portable::find_word;

#[inline(always)]
pub(super) fn frame_pointer_if_known() -> Option<usize> {
    None
}

#[inline(always)]
pub(super) fn stack_pointer_if_known() -> Option<usize> {
    None
}

#[inline(always)]
pub(super) fn preserved_registers() -> [usize; 0] {
    []
}

/// Asks for the cache line that `address` lies in, where that is known how.
#[inline(always)]
pub(crate) fn prefetch(address: usize) {
    let _ = address;
}
