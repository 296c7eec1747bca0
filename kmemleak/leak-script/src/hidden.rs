//! Addresses that a scan doesn't see.
//!
//! In a kernel the interpreter's own variables are scanned like any other. So it keeps addresses inverted.

use core::fmt;

/// An address, inverted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hidden(usize);

impl Hidden {
    pub(crate) fn new(address: usize) -> Self {
        Self(!address)
    }

    pub(crate) fn get(self) -> usize {
        !self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.get())
    }
}
